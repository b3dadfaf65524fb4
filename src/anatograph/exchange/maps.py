"""Maps that `explain`, `deviation` and `change` wrote, found again by subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.volume import Frame
from anatograph.limits import check_scan_size, read_json

_NEEDED = ("subject_id", "kind", "meaning", "range", "map", "colours")


@dataclass(frozen=True, eq=False)
class FoundMap:
    """A map on disk."""

    path: Path
    """The NIfTI file."""
    about: dict[str, Any]
    """The JSON file beside it."""

    @property
    def stem(self) -> str:
        """Name without ending."""
        return self.path.name.removesuffix(".nii.gz")

    @property
    def withheld(self) -> str:
        """Why the map is grey; empty where it has values."""
        return str(self.about.get("withheld") or "")

    def read(self, frame: Frame) -> NDArray[np.float32]:
        """The values (z, y, x) on ``frame``, the grid of the scan's own file.

        Raises:
            UserError: the file cannot be read, or lies on another grid.
        """
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(self.path))
        try:
            reader.ReadImageInformation()
            if reader.GetDimension() != 3:
                raise UserError(f"{self.path} is not a volume; run the command that wrote the map again.")
            check_scan_size(tuple(reader.GetSize()), 4, str(self.path))
            image = reader.Execute()
        except RuntimeError as error:
            raise UserError(f"{self.path} cannot be read; run the command that wrote the map again.") from error
        if not Frame.of_image(image).same_grid(frame, 0.05):
            raise UserError(f"{self.path} is not on the grid of the scan; explain this study's subject again.")
        return np.asarray(sitk.GetArrayFromImage(image), dtype=np.float32)


def find_maps(folder: Path) -> dict[str, list[FoundMap]]:
    """Subject → its maps in ``folder``, by name.

    Raises:
        UserError: no such folder, or no map in it.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; give the one that `anatograph explain` wrote.")
    found: dict[str, list[FoundMap]] = {}
    for file in sorted(folder.glob("*.json")):
        try:
            about = read_json(file)
        except (OSError, ValueError):
            continue
        if not isinstance(about, dict) or not all(name in about for name in _NEEDED):
            continue
        path = folder / Path(str(about["map"])).name
        if path.is_file():
            found.setdefault(str(about["subject_id"]), []).append(FoundMap(path, about))
    if not found:
        raise UserError(f"{folder} holds no map; give the folder that explain, deviation or change wrote.")
    return found


def without_withheld(maps: Sequence[FoundMap]) -> tuple[list[FoundMap], list[str]]:
    """The maps that have values, and a sentence for each of the others."""
    notes = [f"{one.path.name} has no values ({one.withheld}), so it is not exported" for one in maps if one.withheld]
    return [one for one in maps if not one.withheld], notes
