"""The commands that embed a study or a single scan, and pool its regions again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anatograph.choices import Device, LungMethod, PoolingRule, RegistrationMethod
from anatograph.cli.command import Command, argument, option
from anatograph.cli.commands.options import Parallel, Selecting
from anatograph.cli.output import finish
from anatograph.errors import counted

if TYPE_CHECKING:
    from anatograph.embedding.result import Embedded

_SCANS = "for scans without a study (default: as the scans that the model was trained on)"


@dataclass(frozen=True, kw_only=True)
class Embed(Selecting, Parallel):
    """Embed one CT, a study, a cohort table or a folder of scans.

    Without --model the model that ships with the package is used. Of a cohort or a folder the study OUT.study is made
    first."""

    page = "model.md"
    source: Path = argument(
        "STUDY_OR_COHORT_OR_IMAGE", "a study, a cohort table, a folder of scans, a volume file or a DICOM folder"
    )
    out: Path = argument("OUT", "writes OUT.parquet and OUT.regions.zarr")
    model: Path | None = option(
        None, "model folder, such as RUN/model, or a release", unset="the model that ships", metavar="MODEL"
    )
    pooling: PoolingRule | None = option(None, "how regions become a subject's vector", unset="as the model says")
    harmonics: int | None = option(
        None, "parts of the vector, the mean included, where the pooling is harmonics", unset="as the model says",
        metavar="M", minimum=1,
    )  # fmt: skip
    patch_features: bool = option(False, "also write OUT.patches.zarr, the features before the graph network")
    batch_size: int = option(64, "patches per batch", metavar="N", minimum=1)
    device: Device = option("auto")
    no_study: bool = option(False, "of a cohort or folder, keep the vectors only and not the study")
    lungs: LungMethod | None = option(None, "source of the lung mask", group=_SCANS)
    lung_mask: Path | None = option(None, "of a single CT, the lung mask itself", metavar="MASK", group=_SCANS)
    lung_weights: Path | None = option(None, "weights of a lung network", metavar="FILE", group=_SCANS)
    registration: RegistrationMethod | None = option(None, "registration of the atlas to the scan", group=_SCANS)
    subject_id: str | None = option(
        None, "of a single CT, name in the table", unset="the file's name", metavar="ID", group=_SCANS
    )

    def execute(self) -> int:
        """Embed and name the table."""
        from anatograph.execution.progress import Progress

        with Progress("embed", 0, "subject") as bar:
            done = self.call(progress=bar.reached, say=bar.say)
        if done.table is not None:
            print(f"Embeddings: {done.table} ({_size(done)})")
        return finish(done.account)


@dataclass(frozen=True, kw_only=True)
class Pool(Command):
    """Pool the regions of embeddings again, without running a model."""

    page = "pooling.md"
    embeddings: Path = argument("EMBEDDINGS", "table that `embed` wrote, of any version")
    out: Path = argument("OUT", "writes OUT.parquet and OUT.regions.zarr; may be the same table")
    pooling: PoolingRule = option("harmonics", "how regions become a subject's vector")
    harmonics: int = option(4, "parts of the vector, the mean included, where the pooling is harmonics", minimum=1)

    def execute(self) -> int:
        """Pool and name the table."""
        done = self.call()
        print(f"Embeddings: {done.table} ({_size(done)})")
        return finish(done.account)


def _size(done: Embedded) -> str:
    return f"{counted(len(done.subject_ids), 'subject')}, {counted(done.features.shape[1], 'feature')}"
