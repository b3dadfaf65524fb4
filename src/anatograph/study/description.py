"""``study.json``: what a study was made with, written, read and compared."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anatograph._version import __version__
from anatograph.anatomy.atlas import Atlas
from anatograph.errors import UserError
from anatograph.limits import read_json
from anatograph.study.settings import PreprocessSettings
from anatograph.study.versions import VERSIONS

FORMAT_VERSION = 1


def describe(atlas: Atlas, settings: PreprocessSettings) -> dict[str, Any]:
    """Content of ``study.json`` for a new study."""
    return {
        "format_version": FORMAT_VERSION,
        "anatograph": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "atlas_hash": atlas.hash,
        "landmarks": len(atlas),
        "patch_size": atlas.patch_size,
        "step": atlas.step,
        "settings": settings.to_dict(),
        "recipe": {step: [number] for step, number in VERSIONS.items()},
    }


def read_description(path: Path) -> dict[str, Any]:
    """Content of ``study.json`` of the study ``path``.

    Raises:
        UserError: not a study, or one of a newer format.
    """
    file = path / "study.json"
    if not file.is_file():
        raise UserError(f"{path} is not a study (it has no study.json); make one with `anatograph preprocess`.")
    try:
        about: dict[str, Any] = read_json(file)
        version = int(about["format_version"])
        if not (1 <= int(about["landmarks"]) <= 10**6 and 4 <= int(about["patch_size"]) <= 128):
            raise ValueError("impossible numbers of landmarks or voxels")
        if not all(isinstance(n, int) for numbers in about.get("recipe", {}).values() for n in numbers):
            raise ValueError("its step versions are not numbers")
        if version <= FORMAT_VERSION:
            PreprocessSettings.from_dict(about["settings"])
            return about
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise UserError(f"{file} cannot be read ({error}); restore it, or preprocess into a new folder.") from error
    raise UserError(
        f"The study {path} is of format {version}, this version reads up to {FORMAT_VERSION}; "
        "install a newer anatograph."
    )


def refuse_difference(path: Path, about: dict[str, Any], atlas: Atlas, settings: PreprocessSettings) -> None:
    """Raise ``UserError`` where the study ``path`` was made with another atlas or settings; names what differs."""
    there, here = PreprocessSettings.from_dict(about["settings"]).to_dict(), settings.to_dict()
    differing = [f"{name} is {there[name]} there and {here[name]} now" for name in here if there[name] != here[name]]
    if atlas.hash != about["atlas_hash"]:
        differing.append(
            f"the atlas has {about['landmarks']} landmarks (hash {str(about['atlas_hash'])[:12]}) there "
            f"and {len(atlas)} (hash {atlas.hash[:12]}) now; the study's own is {path / 'atlas'}"
        )
    if differing:
        raise UserError(
            f"The study {path} was made with other settings: {'; '.join(differing)}. "
            "Give the same settings, or another folder for a new study."
        )
