"""A run that embeds: blocks of subjects to workers, results to the account, and the files at the end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anatograph.embedding.partial import PartialEmbeddings
from anatograph.embedding.sources import Source
from anatograph.embedding.table import beside, read_embeddings
from anatograph.embedding.worker import Block, embed_block, embed_subjects
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.execution.runner import SharedRun
from anatograph.execution.scheduling import Workplace, run_tasks
from anatograph.execution.tasks import SubjectResult, WorkerLost

if TYPE_CHECKING:
    from anatograph.learning.model.embedding_model import Model

_BLOCK = 8
"""Subjects that a worker is given at a time, at most."""
_KINDS = {"regions": "h' (eq. 6), after the graph network", "patches": "h (eq. 4), before the graph network"}


class _EmbeddingWork:
    """The unfinished embeddings as several runs share them."""

    def __init__(self, partial: PartialEmbeddings, source: Source) -> None:
        self.home: Path = partial.path
        self.claims: Path = partial.claims
        self._partial, self._source = partial, source

    @property
    def finished(self) -> bool:
        return self._partial.finished

    def is_done(self, subject_id: str) -> bool:
        return self._partial.is_done(subject_id, self._source.stamp(subject_id))


class EmbedRun:
    """One run that embeds the subjects of a source."""

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
            "preprocessing": source.settings.to_dict(),
            "model": model.digest,
            "pooling": asdict(model.pooling_settings),
            "batch_size": batch_size,
        }
        self.partial = PartialEmbeddings.start(table, request, source.subject_ids, shape, kinds, source.stamp)
        self.since = (self.partial.path / "about.json").stat().st_mtime
        self.done: set[str] = set()
        self.already_done = 0
        """Subjects that this run found embedded, by an earlier run or another one."""

    def work(
        self, place: Workplace, progress: Callable[[str, int, int], None] | None, say: Callable[[str], None]
    ) -> tuple[list[str], NDArray[np.float32]]:
        """Embed all subjects; returns the subjects in the files, and their vectors."""

        def settled(result: SubjectResult) -> None:
            if result.kind == "failed":
                if len(self.source.subject_ids) == 1:
                    raise UserError(result.reason)
                self.account.fail(result.subject_id, "embed", result.reason)
            else:
                self.done.add(result.subject_id)
                self.already_done += result.kind == "there"
            if progress:
                done = len(self.done) + len(self.account.failures)
                progress(result.subject_id, done, len(self.source.subject_ids))

        work = _EmbeddingWork(self.partial, self.source)
        shared = SharedRun(work, self.source.subject_ids, self.since, self.account, say, settled)
        try:
            shared.run(lambda names: self._results(names, place, shared))
        except BaseException:
            self.partial.drop_if_empty()
            raise
        return self._finished(shared)

    def _results(self, names: list[str], place: Workplace, shared: SharedRun) -> Generator[SubjectResult]:
        if place.scheduler is None and place.workers == 1:
            yield from embed_subjects(self.source, self.model, self.partial, names, self.batch_size, self.since)
            return
        assert self.folder is not None
        size = max(1, min(_BLOCK, len(names) // (4 * place.workers)))
        study, table = self.source.path.resolve(), self.table.resolve()
        parts = [tuple(names[k : k + size]) for k in range(0, len(names), size)]
        pooling = self.model.pooling_settings
        blocks = [
            Block(study, self.folder, table, part, self.batch_size, self.device, self.since, pooling) for part in parts
        ]
        with closing(run_tasks(embed_block, blocks, place, shared.say)) as done:
            for block, results in done:
                if isinstance(results, WorkerLost):
                    yield from shared.lost(block.subject_ids, results)
                else:
                    yield from results

    def _finished(self, shared: SharedRun) -> tuple[list[str], NDArray[np.float32]]:
        account, asked = self.account, self.source.subject_ids
        if shared.stopped:
            account.stop(f"Stopped: {shared.stopped}. {len(shared.open_ids)} of {len(asked)} subjects are not "
                         "embedded; the same command continues from there.")  # fmt: skip
            account.result(subjects=0, embedded_so_far=len(self.done))
            return [], np.zeros((0, self.model.config.feature_size), np.float32)
        names = [name for name in asked if name in self.done]
        if not names and not self.partial.finished:
            self.partial.drop_if_empty()
            raise UserError(f"No subject could be embedded; the first reason: {account.failures[0].reason}")
        made = {"atlas_hash": self.source.atlas_hash, "model": self.model.digest}
        if self.model.release:
            made["release"] = self.model.release
        about = {"landmarks": landmarks_of(self.model).tolist(), "frame": "LPS mm of the atlas", **made}
        kinds = {kind: {**about, "feature": text} for kind, text in _KINDS.items()}
        if self.model.whitening is not None:
            kinds["regions"]["whitening"] = self.model.whitening.tolist()
        features = {
            "pooling": self.model.pooling.about(self.model.config.feature_size, self.model.config.learnt_apart),
            **made,
        }
        self.partial.finish(names, kinds, features)
        written = read_embeddings(self.table)
        there = set(written.subject_ids)
        for name in shared.open_ids:  # another run has completed everything meanwhile
            if name in there:
                shared.settle(SubjectResult(name, "there"))
            else:
                reason = "it failed in another run, whose account says why"
                shared.settle(SubjectResult(name, "failed", stage="embed", reason=reason))
        account.output(self.table)
        for kind in self.partial.kinds:
            account.output(beside(self.table, kind))
        account.result(
            subjects=len(written.subject_ids),
            embedded_before=self.already_done,
            landmarks=self.model.landmarks,
            features=written.features.shape[1],
        )
        return written.subject_ids, written.features.astype(np.float32)


def landmarks_of(model: Model) -> NDArray[np.float64]:
    """(N, 3) LPS mm of the atlas, empty where the model has no atlas."""
    return np.zeros((0, 3)) if model.atlas is None else np.asarray(model.atlas.landmarks, dtype=np.float64)
