"""What explain, deviation, change and similar share: account, study and regions, one subject at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from anatograph.embedding.regions import Regions, open_pair
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.explanation.map_files import RegionMap, write_map
from anatograph.study.store import Study

Found = TypeVar("Found")


class ExplanationRun:
    """One call of a command that explains: its output folder, its account, and what it reads."""

    def __init__(self, folder: Path, study: str | Path | None, embeddings: str | Path, account: RunAccount) -> None:
        self.folder, self.account = folder, account
        self._given = study, embeddings

    @cached_property
    def _pair(self) -> tuple[Study, Regions]:
        study, embeddings = self._given
        if study is None:
            raise UserError("Give the study too: regions and pictures come from it.")
        return open_pair(study, embeddings)

    @property
    def study(self) -> Study:
        """The study. UserError where none is given or it does not fit the embeddings."""
        return self._pair[0]

    @property
    def regions(self) -> Regions:
        """The regions of the study's embeddings; raises as `study` does."""
        return self._pair[1]

    def note(self, sentences: Iterable[str]) -> None:
        """Add sentences to the account."""
        for sentence in sentences:
            self.account.note(sentence)

    def each(
        self,
        subject_ids: Sequence[str],
        one: Callable[[str], Found],
        progress: Callable[[str, int, int], None] | None = None,
    ) -> list[Found]:
        """What ``one`` returns for each subject; a subject that fails is recorded, and the others go on.

        Raises:
            UserError: the only subject, or all of them, failed.
        """
        found: list[Found] = []
        for number, name in enumerate(subject_ids, start=1):
            try:
                found.append(one(name))
            except UserError as error:
                if len(subject_ids) == 1:
                    raise
                self.account.fail(name, self.account.command, str(error))
                continue
            if progress:
                progress(name, number, len(subject_ids))
        if not found:
            first = self.account.failures[0].reason if self.account.failures else "no subject was named"
            raise UserError(f"None of the subjects worked; the first reason: {first}")
        return found

    def write(self, shown: RegionMap, stem: str, image: Path | None = None) -> Path:
        """Write a map on the grid of its subject's scan; see `write_map`."""
        subject = self.study.subject(shown.subject_id)
        return write_map(shown, subject, self.study.atlas, self.folder, stem, image, self.account)


@contextmanager
def explanation_run(
    command: str, out: str | Path, study: str | Path | None, embeddings: str | Path, **settings: Any
) -> Iterator[ExplanationRun]:
    """Account for a command that writes to the folder ``out``; ``settings`` are recorded as they are."""
    said = {"study": None if study is None else str(study), "embeddings": str(embeddings), **settings}
    said = {key: str(value) if isinstance(value, Path) else value for key, value in said.items()}
    with RunAccount(command, said, out) as account:
        yield ExplanationRun(Path(out), study, embeddings, account)


def listed(subjects: Sequence[str] | str) -> list[str]:
    """Subject ids as a list, each once."""
    return [subjects] if isinstance(subjects, str) else list(dict.fromkeys(subjects))
