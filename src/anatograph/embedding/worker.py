"""Some subjects through the model, in whichever process: read ahead, embedded in batches across them, written."""

from __future__ import annotations

import errno
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from anatograph.embedding.partial import Work
from anatograph.embedding.sources import Source, StudySource
from anatograph.embedding.stream import Item, check_item, embed_stream
from anatograph.errors import UserError
from anatograph.execution import failures as failed
from anatograph.execution.account import Failure
from anatograph.execution.claims import Claim, claim
from anatograph.learning.model.embedding import Embedding
from anatograph.study.store import Study
from anatograph.study.worker import FULL

if TYPE_CHECKING:
    from anatograph.learning.model.embedding_model import Model

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Block:
    """Subjects of a study, as they travel to a worker."""

    study: Path
    model: Path
    table: Path
    """``OUT.parquet``, beside which the work goes on."""
    subject_ids: tuple[str, ...]
    batch_size: int
    device: str
    since: float
    """When the run began: a later failure is not tried again."""


@dataclass(frozen=True)
class Result:
    """What became of a subject."""

    subject_id: str
    kind: Literal["done", "there", "elsewhere", "failed", "stop"]
    """Embedded here; already; claimed by somebody else; failed; no use in going on."""
    reason: str = ""
    timings: dict[str, float] = field(default_factory=dict)


def do_block(block: Block) -> list[Result]:
    """`embed_subjects` in a worker, which keeps model and study from one block to the next."""
    try:
        model = _model(block.model, (block.model / "config.json").stat().st_mtime_ns, block.device)
        source = _source(block.study, (block.study / "study.json").stat().st_mtime_ns, model)
        work = Work(block.table)
        names = iter(block.subject_ids)
        return list(embed_subjects(source, model, work, names, block.batch_size, block.since))
    except (UserError, OSError) as error:
        return [Result(name, "stop", str(error)) for name in block.subject_ids]


@lru_cache(maxsize=1)
def _model(folder: Path, modified_ns: int, device: str) -> Model:
    from anatograph.learning.model.folder import load_model

    return load_model(folder).to(device)


@lru_cache(maxsize=1)
def _source(study: Path, modified_ns: int, model: Model) -> StudySource:
    return StudySource(Study.open(study), model)


def embed_subjects(
    source: Source, model: Model, work: Work, subject_ids: Iterable[str], batch_size: int, since: float
) -> Iterator[Result]:
    """Embed those that are not done and that nobody else is at; yields what becomes of each, not always in order.

    While one is computed the next is read.
    """
    told: deque[Result] = deque()
    held: dict[str, Claim] = {}
    reading: dict[str, float] = {}
    stamps: dict[str, int] = {}

    def items() -> Iterator[Item[str]]:
        for name in subject_ids:
            begin = time.perf_counter()
            item = _taken(source, model, work, name, since, held, stamps, told)
            reading[name] = time.perf_counter() - begin
            if item is not None:
                yield item

    begin = time.perf_counter()
    reader = ahead(items())
    try:
        for name, found in embed_stream(model, reader, batch_size):
            networks, begin = time.perf_counter() - begin, time.perf_counter()
            result = _kept(work, name, stamps[name], found)
            now = time.perf_counter()
            result.timings.update(read=reading[name], networks=networks, write=now - begin)
            held.pop(name).release()
            begin = now
            told.append(result)
            while told:
                yield told.popleft()
        while told:
            yield told.popleft()
    finally:
        reader.close()  # so that it claims nothing more
        for kept in held.values():
            kept.release()


def _taken(
    source: Source,
    model: Model,
    work: Work,
    name: str,
    since: float,
    held: dict[str, Claim],
    stamps: dict[str, int],
    told: deque[Result],
) -> Item[str] | None:
    """The subject, claimed and read; or None, and why is told."""
    stamps[name] = source.stamp(name)
    try:
        mine = None if work.is_done(name, stamps[name]) else claim(work.path / "claims", f"{name}.claim")
        if mine is None:
            told.append(Result(name, "there" if work.is_done(name, stamps[name]) else "elsewhere"))
            return None
        held[name] = mine
        earlier = failed.recorded(work.path, name, since)
        if work.is_done(name, stamps[name]) or earlier is not None:  # between looking and claiming
            told.append(Result(name, "failed", earlier.reason) if earlier else Result(name, "there"))
        else:
            try:
                item = source.load(name)
                check_item(model, item)
                return item
            except (UserError, ValueError, OSError) as error:
                told.append(_failed(work, name, str(error)))
        held.pop(name).release()
    except OSError as error:
        told.append(Result(name, "stop", f"{work.path}: {error.strerror or error}"))
    return None


def _kept(work: Work, name: str, stamp: int, found: Embedding) -> Result:
    """Write what was found."""
    if not np.isfinite(found.subject).all():
        return _failed(work, name, "the features are no finite numbers")
    try:
        work.write(name, stamp, found)
        failed.forget(work.path, name)
        return Result(name, "done")
    except OSError as error:
        if error.errno in FULL:
            return Result(name, "stop", f"the disk of {work.path.parent} is full; make room")
        if error.errno == errno.ENOENT and not work.is_there:
            return Result(name, "there")  # another run has finished meanwhile
        return Result(name, "stop", f"{work.path}: {error.strerror or error}")


def _failed(work: Work, name: str, reason: str) -> Result:
    failed.record(work.path, Failure(name, "embed", " ".join(reason.split())))
    return Result(name, "failed", reason)


def ahead(things: Iterator[Thing], depth: int = 1) -> Generator[Thing]:
    """The same things, made in a thread while the one before is used; an error there is raised here."""
    waiting: queue.Queue[tuple[Thing | None, BaseException | None]] = queue.Queue(depth)
    over = threading.Event()

    def put(entry: tuple[Thing | None, BaseException | None]) -> None:
        while not over.is_set():
            with suppress(queue.Full):
                waiting.put(entry, timeout=0.5)
                return

    def make() -> None:
        try:
            for thing in things:
                put((thing, None))
                if over.is_set():
                    return
            put((None, StopIteration()))
        except BaseException as error:  # raised where the things are used
            put((None, error))

    thread = threading.Thread(target=make, name="reading ahead", daemon=True)
    thread.start()
    try:
        while True:
            thing, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield thing  # type: ignore[misc]
    finally:
        over.set()
        thread.join(timeout=10)
