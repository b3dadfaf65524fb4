"""A saved reference in use: which one is meant, whether it fits, and a single CT to compare with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from anatograph.embedding.api import embed
from anatograph.embedding.cohorts import Preparation, study_of_one
from anatograph.embedding.compatible import check_same_model
from anatograph.embedding.regions import Regions
from anatograph.embedding.sources import atlas_of, check_id, settings_for
from anatograph.errors import UserError
from anatograph.explanation.norms.saved import SUFFIX, SavedReference, load_reference
from anatograph.learning.releases.resolve import resolve_model
from anatograph.learning.releases.shipped import REFERENCE, shipped_model
from anatograph.study.identifiers import id_from
from anatograph.study.store import Study

SHIPPED = "shipped"
"""Word for the reference of the model that ships with the package."""


@dataclass(frozen=True)
class ScanVectors:
    """A single CT, prepared and embedded in a temporary place."""

    study: Path
    """A study of it alone."""
    vectors: Path
    """Its embedding."""
    subject_id: str
    """Its name."""
    model: Path
    """The folder of the model that embedded it."""
    notes: tuple[str, ...]
    """What is out of the ordinary about the scan."""


def saved_reference(reference: str | Path | None) -> Path | None:
    """The file that ``reference`` names; None where it is "COLUMN=VALUE" or not given.

    Raises:
        UserError: "shipped" in a build that ships no model.
    """
    if reference is None:
        return None
    if str(reference) == SHIPPED:
        return _of_model(shipped_model())
    path = Path(reference)
    return path if path.is_file() or path.suffix == SUFFIX else None


def reference_of_scan(reference: str | Path | None, model: Path) -> SavedReference:
    """The reference for a single CT: the one given, or that of the model's folder.

    Raises:
        UserError: "COLUMN=VALUE", which needs a study, or a model without a reference.
    """
    file = _of_model(model) if reference is None else saved_reference(reference)
    if file is None:
        raise UserError(
            f"--reference {reference} is not a file; for a single CT give one that `anatograph reference` wrote, or "
            "leave it out to use that of the model."
        )
    return load_reference(file)


def check_reference(reference: SavedReference, regions: Regions) -> None:
    """Refuse a reference whose atlas or model is not that of the regions.

    Raises:
        UserError: naming both.
    """
    if reference.about.get("atlas_hash") != regions.attributes.get("atlas_hash"):
        raise UserError(
            f"{reference.path} and {regions.path} are on different atlases; make the reference on this atlas."
        )
    known = check_same_model(regions.attributes, reference.about, str(regions.path), f"the reference {reference.path}")
    if not known:
        raise UserError(
            f"{regions.path} does not say which model embedded it, so it cannot be compared with "
            f"{reference.path}; embed again with the model of the reference."
        )


@contextmanager
def vectors_of_scan(scan: Path, subjects: Sequence[str], model: str | Path | None) -> Iterator[ScanVectors]:
    """Prepare and embed a single CT in a temporary place, at any quality level.

    Raises:
        UserError: a study without its embeddings, several names, or a scan that cannot be used.
    """
    from anatograph.learning.model.folder import load_model

    if (scan / "study.json").is_file():
        raise UserError(f"{scan} is a study; give its embeddings too, or a single CT.")
    if not scan.exists():
        raise UserError(f"{scan} does not exist; give a study and its embeddings, or a single CT.")
    if len(subjects) > 1:
        raise UserError(f"A single CT has one name, not {len(subjects)}; give one --subject or none.")
    folder = resolve_model(model)
    network = load_model(folder)
    name = check_id(subjects[0]) if subjects else id_from(scan)
    how = Preparation(atlas_of(network), settings_for(network, None, None, False))
    with study_of_one(scan, None, name, how) as made:
        subject = Study.open(made.path).subject(name)
        vectors = made.path.with_name("vectors.parquet")
        embed(made.path, vectors, model=folder, include_flagged=True)
        yield ScanVectors(made.path, vectors, name, folder, tuple(map(str, subject.concerns)))


def _of_model(folder: Path) -> Path:
    if not (folder / REFERENCE).is_file():
        raise UserError(
            f"The model {folder} has no reference; give --reference FILE, which `anatograph reference` writes."
        )
    return folder / REFERENCE
