"""Subjects through the model, in any process: read ahead, embedded in batches that span subjects, written."""

from __future__ import annotations

import errno
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anatograph.embedding.partial import PartialEmbeddings
from anatograph.embedding.sources import Source, StudySource
from anatograph.embedding.stream import Item, check_item, embed_stream
from anatograph.errors import UserError
from anatograph.execution import failures
from anatograph.execution.account import Failure
from anatograph.execution.claims import Claim, claim
from anatograph.execution.tasks import SubjectResult
from anatograph.learning.model.embedding import Embedding
from anatograph.learning.model.pooling import PoolingSettings
from anatograph.study.store import Study
from anatograph.study.worker import FULL

if TYPE_CHECKING:
    from anatograph.learning.model.embedding_model import Model

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Block:
    """Subjects of a study, as sent to a worker."""

    study: Path
    model: Path
    table: Path
    """``OUT.parquet``, beside which the unfinished embeddings lie."""
    subject_ids: tuple[str, ...]
    batch_size: int
    device: str
    since: float
    """When the run began: a later failure is not retried."""
    pooling: PoolingSettings = field(default_factory=PoolingSettings)
    """How regions become a subject's vector."""


def embed_block(block: Block) -> list[SubjectResult]:
    """`embed_subjects` in a worker, which keeps model and study from one block to the next."""
    try:
        model = _model(block.model, (block.model / "config.json").stat().st_mtime_ns, block.device, block.pooling)
        source = _source(block.study, (block.study / "study.json").stat().st_mtime_ns, model)
        work = PartialEmbeddings(block.table)
        names = iter(block.subject_ids)
        return list(embed_subjects(source, model, work, names, block.batch_size, block.since))
    except (UserError, OSError) as error:
        return [SubjectResult(name, "stop", reason=str(error)) for name in block.subject_ids]


@lru_cache(maxsize=1)
def _model(folder: Path, modified_ns: int, device: str, pooling: PoolingSettings) -> Model:
    from anatograph.learning.model.folder import load_model

    model = load_model(folder).to(device)
    model.pooling_settings = pooling
    return model


@lru_cache(maxsize=1)
def _source(study: Path, modified_ns: int, model: Model) -> StudySource:
    return StudySource(Study.open(study), model)


def embed_subjects(
    source: Source, model: Model, work: PartialEmbeddings, subject_ids: Iterable[str], batch_size: int, since: float
) -> Iterator[SubjectResult]:
    """Embed the subjects that are neither done nor claimed by another run; yields a result for each, in any order.

    The next subject is read while one is computed.
    """
    results: deque[SubjectResult] = deque()
    held: dict[str, Claim] = {}
    reading: dict[str, float] = {}
    stamps: dict[str, int] = {}

    def items() -> Iterator[Item[str]]:
        for name in subject_ids:
            begin = time.perf_counter()
            item = _claimed(source, model, work, name, since, held, stamps, results)
            reading[name] = time.perf_counter() - begin
            if item is not None:
                yield item

    begin = time.perf_counter()
    reader = ahead(items())
    try:
        for name, found in embed_stream(model, reader, batch_size):
            networks, begin = time.perf_counter() - begin, time.perf_counter()
            result = _stored(work, name, stamps[name], found)
            now = time.perf_counter()
            result = replace(result, timings={"read": reading[name], "networks": networks, "write": now - begin})
            held.pop(name).release()
            begin = now
            results.append(result)
            while results:
                yield results.popleft()
        while results:
            yield results.popleft()
    finally:
        reader.close()  # so that it claims nothing more
        for kept in held.values():
            kept.release()


def _claimed(
    source: Source,
    model: Model,
    work: PartialEmbeddings,
    name: str,
    since: float,
    held: dict[str, Claim],
    stamps: dict[str, int],
    results: deque[SubjectResult],
) -> Item[str] | None:
    """The subject, claimed and read; or None, and why is results."""
    stamps[name] = source.stamp(name)
    try:
        mine = None if work.is_done(name, stamps[name]) else claim(work.claims, f"{name}.claim")
        if mine is None:
            results.append(SubjectResult(name, "there" if work.is_done(name, stamps[name]) else "elsewhere"))
            return None
        held[name] = mine
        earlier = failures.recorded(work.path, name, since)
        if work.is_done(name, stamps[name]) or earlier is not None:  # between looking and claiming
            results.append(
                SubjectResult(name, "failed", stage=earlier.stage, reason=earlier.reason)
                if earlier
                else SubjectResult(name, "there")
            )
        else:
            try:
                item = source.load(name)
                check_item(model, item)
                return item
            except (UserError, ValueError, OSError) as error:
                results.append(_failed(work, name, str(error)))
        held.pop(name).release()
    except OSError as error:
        results.append(SubjectResult(name, "stop", reason=f"{work.path}: {error.strerror or error}"))
    return None


def _stored(work: PartialEmbeddings, name: str, stamp: int, found: Embedding) -> SubjectResult:
    """Store a subject's embedding."""
    if not np.isfinite(found.subject).all():
        return _failed(work, name, "the features are not finite numbers")
    try:
        work.write(name, stamp, found)
        failures.forget(work.path, name)
        return SubjectResult(name, "done")
    except OSError as error:
        if error.errno in FULL:
            return SubjectResult(name, "stop", reason=f"the disk of {work.path.parent} is full; make room")
        if error.errno == errno.ENOENT and work.finished:
            return SubjectResult(name, "there")  # another run has finished meanwhile
        return SubjectResult(name, "stop", reason=f"{work.path}: {error.strerror or error}")


def _failed(work: PartialEmbeddings, name: str, reason: str) -> SubjectResult:
    failures.record(work.path, Failure(name, "embed", " ".join(reason.split())))
    return SubjectResult(name, "failed", stage="embed", reason=reason)


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
