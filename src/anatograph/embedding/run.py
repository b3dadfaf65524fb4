"""A run that embeds: blocks of subjects to workers, what became of them to the account, and the files at the end."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anatograph.embedding.partial import Work
from anatograph.embedding.sources import Source
from anatograph.embedding.table import beside, read_embeddings
from anatograph.embedding.worker import Block, Result, do_block, embed_subjects
from anatograph.errors import UserError
from anatograph.execution import failures as failed
from anatograph.execution.account import RunAccount
from anatograph.execution.claims import holder
from anatograph.execution.scheduling import SchedulerGoneError, WorkerLost, Workplace, run_tasks

if TYPE_CHECKING:
    from anatograph.learning.model.embedding_model import Model

_BLOCK = 8
"""Subjects that a worker is given at a time, at most."""
_LOOK = 2.0
"""Seconds between two looks at subjects that another run is at."""
_KINDS = {"regions": "h' (eq. 6), after the graph network", "patches": "h (eq. 4), before the graph network"}


class EmbedRun:
    """One run and what has become of its subjects so far."""

    def __init__(
        self,
        source: Source,
        model: Model,
        folder: Path | None,
        table: Path,
        patch_features: bool,
        batch_size: int,
        device: str,
        account: RunAccount,
    ) -> None:
        """``folder`` is the model's, for workers to load; ``table`` is ``OUT.parquet``."""
        self.source, self.model, self.folder, self.table = source, model, folder, table
        self.batch_size, self.device, self.account = batch_size, device, account
        kinds = ["regions", "patches"] if patch_features else ["regions"]
        shape = (model.landmarks, model.config.feature_size)
        request = {
            "source": str(source.path.resolve()),
            "atlas_hash": source.atlas_hash,
            "preprocessing": source.settings.as_dict(),
            "model": _digest(model),
            "batch_size": batch_size,
        }
        self.work_folder = Work.start(table, request, source.subject_ids, shape, kinds, source.stamp)
        self.since = (self.work_folder.path / "about.json").stat().st_mtime
        self.done: set[str] = set()
        self.there = 0
        """Subjects that this run found embedded already, by an earlier run or another one."""
        self.stopped = ""

    def work(
        self, place: Workplace, progress: Callable[[str, int, int], None] | None, say: Callable[[str], None]
    ) -> tuple[list[str], NDArray[np.float32]]:
        """Embed everybody; returns who is in the files, and their vectors."""
        waiting = list(self.source.subject_ids)
        try:
            while waiting and not self.stopped:
                elsewhere: list[str] = []
                with closing(self._results(waiting, place, say)) as results:
                    for result in results:
                        if result.kind == "elsewhere":
                            elsewhere.append(result.subject_id)
                        elif result.kind == "stop":
                            if self.work_folder.is_there:
                                self.stopped = result.reason
                            break
                        else:
                            self._tell(result, progress)
                waiting = self._those_let_go(elsewhere, progress, say)
        except BaseException:
            self.work_folder.drop_if_empty()
            raise
        return self._finished(progress)

    def _results(self, names: list[str], place: Workplace, say: Callable[[str], None]) -> Generator[Result]:
        if place.scheduler is None and place.workers == 1:
            yield from embed_subjects(self.source, self.model, self.work_folder, names, self.batch_size, self.since)
            return
        assert self.folder is not None
        size = max(1, min(_BLOCK, len(names) // (4 * place.workers)))
        study, table = self.source.path.resolve(), self.table.resolve()
        blocks = [
            Block(study, self.folder, table, tuple(names[k : k + size]), self.batch_size, self.device, self.since)
            for k in range(0, len(names), size)
        ]
        try:
            for block, results in run_tasks(do_block, blocks, place, say):
                if isinstance(results, WorkerLost):
                    yield from self._lost(block, results)
                else:
                    yield from results
        except SchedulerGoneError as gone:
            self.stopped = str(gone)

    def _lost(self, block: Block, lost: WorkerLost) -> Iterator[Result]:
        """Of a block whose workers died, some may be done."""
        for name in block.subject_ids:
            if self.work_folder.is_done(name, self.source.stamp(name)):
                yield Result(name, "done")
            else:
                yield Result(name, "failed", lost.reason)

    def _tell(self, result: Result, progress: Callable[[str, int, int], None] | None) -> None:
        for stage, seconds in result.timings.items():
            self.account.add_time(stage, seconds)
        if result.kind == "failed":
            if len(self.source.subject_ids) == 1:
                raise UserError(result.reason)
            self.account.fail(result.subject_id, "embed", result.reason)
        else:
            self.done.add(result.subject_id)
            self.there += result.kind == "there"
        if progress:
            progress(result.subject_id, len(self.done) + len(self.account.failures), len(self.source.subject_ids))

    def _those_let_go(
        self, names: list[str], progress: Callable[[str, int, int], None] | None, say: Callable[[str], None]
    ) -> list[str]:
        """Wait until somebody else has embedded or failed each, or let go of it (then it is returned)."""
        if names and not self.stopped:
            say(f"Another run is at {len(names)} subjects; this one waits for it, or takes them over.")
        while names and not self.stopped and self.work_folder.is_there:
            still = []
            for name in names:
                failure = failed.recorded(self.work_folder.path, name, self.since)
                if self.work_folder.is_done(name, self.source.stamp(name)):
                    self._tell(Result(name, "there"), progress)
                elif failure is not None:
                    self._tell(Result(name, "failed", failure.reason), progress)
                elif holder(self.work_folder.path / "claims", f"{name}.claim") is None:
                    told = self.done | {failure.subject_id for failure in self.account.failures}
                    return [name for name in names if name not in told]
                else:
                    still.append(name)
            names = still
            if names:
                time.sleep(_LOOK)
        return []

    def _finished(self, progress: Callable[[str, int, int], None] | None) -> tuple[list[str], NDArray[np.float32]]:
        account, asked = self.account, self.source.subject_ids
        left = len(asked) - len(self.done) - len(account.failures)
        if self.stopped:
            account.stop(f"Stopped: {self.stopped}. {left} of {len(asked)} subjects are not embedded; "
                         "the same command goes on from there.")  # fmt: skip
            account.result(subjects=0, embedded_so_far=len(self.done))
            return [], np.zeros((0, self.model.config.feature_size), np.float32)
        names = [name for name in asked if name in self.done]
        if not names and self.work_folder.is_there:
            self.work_folder.drop_if_empty()
            raise UserError(f"Nobody could be embedded; the first reason: {account.failures[0].reason}")
        about = {"landmarks": landmarks_of(self.model).tolist(), "atlas_hash": self.source.atlas_hash,
                 "frame": "LPS mm of the atlas"}  # fmt: skip
        kinds = {kind: {**about, "feature": text} for kind, text in _KINDS.items()}
        if self.model.whitening is not None:
            kinds["regions"]["whitening"] = self.model.whitening.tolist()
        self.work_folder.finish(names, kinds)
        written = read_embeddings(self.table)
        there = set(written.subject_ids)
        known = self.done | {failure.subject_id for failure in account.failures}
        for name in [name for name in asked if name not in known]:  # another run has finished meanwhile
            lacking = "" if name in there else "it failed in another run, see what that run said"
            self._tell(Result(name, "failed" if lacking else "there", lacking), progress)
        account.output(self.table)
        for kind in self.work_folder.kinds:
            account.output(beside(self.table, kind))
        account.result(
            subjects=len(written.subject_ids),
            embedded_before=self.there,
            landmarks=self.model.landmarks,
            features=written.features.shape[1],
        )
        return written.subject_ids, written.features.astype(np.float32)


def landmarks_of(model: Model) -> NDArray[np.float64]:
    """(N, 3) LPS mm of the atlas, none where the model has no atlas."""
    return np.zeros((0, 3)) if model.atlas is None else np.asarray(model.atlas.landmarks, dtype=np.float64)


def _digest(model: Model) -> str:
    """Names the weights and the architecture."""
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True, default=str).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
