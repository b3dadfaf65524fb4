"""What lies in a folder of explanations: the subject of each map, its target, and the meaning of its colours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anatograph.errors import UserError
from anatograph.explanation.legend import MapLegend

ENDING = ".nii.gz"
"""Of the files of maps."""
_NEWEST = 1


@dataclass(frozen=True)
class MapFile:
    """One map and its legend."""

    path: Path
    """The NIfTI, 0 where there is no value."""
    subject_id: str
    """Whose scan."""
    name: str
    """Its target, short enough for a list: the target, the class, or ``deviation``."""
    meaning: str
    """One line in words."""
    high: str
    """What the upper end of the scale means."""
    low: str | None
    """What the lower end means; None for a scale with one end."""
    neutral: float
    """The value that is no evidence."""
    ends: tuple[float, float]
    """Values at the two ends of the colours."""
    strongest: tuple[dict[str, Any], ...] = field(default=())
    """Up to five regions with their place in words and their value."""
    kind: str = "probe"
    """probe, deviation or change."""
    evidence: str = ""
    """How far it may be trusted, in one line."""
    withheld: str = ""
    """Why it is grey; empty where it is not."""
    useless: bool = False
    """Whether its probe is not better than chance."""
    target: str = ""
    """The column explained; empty where that is unknown."""
    class_name: str = ""
    """Its class, for a target with classes."""

    @property
    def words(self) -> MapLegend:
        """The same as a legend, as `explain` draws with it."""
        return MapLegend(self.kind, self.name, self.meaning, self.high, self.low, self.neutral, self.ends, {})

    @property
    def diverging(self) -> bool:
        """Whether the colours run both ways from ``neutral``."""
        return self.words.diverging


def find_maps(folders: Sequence[Path], subject_ids: Sequence[str]) -> list[MapFile]:
    """Every map of these subjects, in the order of the folders and of the file names.

    Raises:
        UserError: a folder without a map, or a legend that cannot be read.
    """
    found: list[MapFile] = []
    for folder in folders:
        files = sorted(folder.glob(f"*{ENDING}")) if folder.is_dir() else []
        if not files:
            raise UserError(
                f"{folder} holds no maps (*{ENDING}); name a folder that `anatograph explain`, `anatograph deviation` "
                "or `anatograph change` wrote."
            )
        found += [one for path in files if (one := _map_file(path, subject_ids)) is not None]
    return found


def _map_file(path: Path, subject_ids: Sequence[str]) -> MapFile | None:
    stem = path.name.removesuffix(ENDING)
    legend = path.with_name(f"{stem}.json")
    if legend.is_file():
        try:
            about = json.loads(legend.read_text(encoding="utf-8"))
            version = int(about["format_version"])
            if version <= _NEWEST:
                return _from_legend(path, about, subject_ids)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{legend} cannot be read ({error}); run the command that wrote it again.") from error
        raise UserError(f"{legend} is of format {version}, this version reads up to {_NEWEST}; install a newer one.")
    # A name may hold underscores itself, so the longest subject that the file's name begins with is meant.
    owners = [name for name in subject_ids if stem.startswith(f"{name}_")]
    if not owners:
        return None
    owner = max(owners, key=len)
    target = stem[len(owner) + 1 :]
    words = f"evidence for {target}"
    return MapFile(path, owner, target, words, words, "evidence against it", 0.5, _probe_ends(path))


def _from_legend(path: Path, about: dict[str, Any], subject_ids: Sequence[str]) -> MapFile | None:
    owner = str(about["subject_id"])
    if owner not in subject_ids:
        return None
    kind = str(about["kind"])
    named = [str(about[key]) for key in ("target", "class") if about.get(key) is not None]
    low, high = (float(value) for value in about["range"])
    if not low < high:
        raise ValueError(f"the range {low:g} to {high:g} is empty")
    return MapFile(
        path=path,
        subject_id=owner,
        name=_short_name(kind, named, str(about["high"])),
        meaning=str(about["meaning"]),
        high=str(about["high"]),
        low=None if about.get("low") is None else str(about["low"]),
        neutral=float(about["neutral"]),
        ends=(low, high),
        strongest=tuple(about.get("strongest") or ())[:5],
        kind=kind,
        evidence=str(about.get("evidence") or ""),
        withheld=str(about.get("withheld") or ""),
        useless=not ((about.get("score") or {}).get("held_out") or {}).get("better_than_chance", True),
        target=str(about.get("target") or ""),
        class_name="" if about.get("class") is None else str(about["class"]),
    )


def _short_name(kind: str, named: Sequence[str], high: str) -> str:
    """For the list of maps: the target alone, its class ("GOLD of 2 or more"), or kind and target."""
    if not named or kind != "probe":
        return " ".join([kind, *named])
    # Legends of earlier versions say "speaks for".
    said = high.removeprefix("evidence for ").removeprefix("speaks for ").removesuffix(", against the other classes")
    return said if len(named) == 2 and said.startswith(named[0]) else " = ".join(named)


def _probe_ends(path: Path) -> tuple[float, float]:
    """How far from 0.5 the colours of a map without a legend run: to its 99th percentile."""
    import SimpleITK as sitk

    values = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    said = values[values > 0]
    reach = float(np.clip(np.quantile(np.abs(said - 0.5), 0.99), 0.02, 0.5)) if said.size else 0.5
    return 0.5 - reach, 0.5 + reach
