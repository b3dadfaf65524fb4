"""Rows that embed with an Anatograph model, supplied or pretrained on the study: the model itself and its ablations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.method import CohortMethod, Learns, Scans
from anatograph.baselines.options import MethodOptions
from anatograph.choices import PoolingRule
from anatograph.embedding.api import embed
from anatograph.embedding.regions import Regions
from anatograph.embedding.table import beside, parquet_path, read_embeddings
from anatograph.errors import UserError
from anatograph.execution.files import write_text
from anatograph.execution.progress import Progress
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.pooling import PoolingSettings
from anatograph.learning.model.whitening import MOST, whitening_by_parts


class ContextModelRow(CohortMethod):
    """An Anatograph model and the features taken from it."""

    learns: ClassVar[Learns] = "without labels"
    overrides: ClassVar[tuple[str, ...]] = ()
    """Pretraining settings in which this row differs."""
    run: ClassVar[str] = "anatograph"
    """Name in ``work`` of the run that this row pretrains or shares."""
    before_graph: ClassVar[bool] = False
    """Whether the features are those of the patches, before G."""
    learned_only: ClassVar[bool] = False
    """Whether the density histogram that ends a feature is left out."""
    pooling: ClassVar[PoolingRule | None] = None
    """How regions become a subject's vector; None: as the model says."""

    def __init__(
        self,
        model: Path | None = None,
        progress: bool = True,
        preset: str | None = None,
        settings: Sequence[str] = (),
    ) -> None:
        """``model``: a model folder such as ``RUN/model``; if None, one is pretrained on the study in ``work``.

        ``preset`` and ``settings`` (``key=value``) are those of that pretraining; without a preset it is the
        benchmark's.
        """
        super().__init__(progress)
        self.model, self.preset, self.settings = model, preset, tuple(settings)

    @classmethod
    def from_options(cls, options: MethodOptions) -> Self:
        """The row with its model folder, if one was given, or the settings of its pretraining."""
        return cls(options.model_of(cls.slug), options.progress, options.pretrain_preset, options.pretrain_settings)

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, M · F) the vectors of `embed`, or the patch features pooled in the same way.

        Raises:
            UserError: a folder that is not a model, a model of another ablation, or one that does not fit the study.
        """
        table = read_embeddings(self._embedded(scans))
        pooling = table.pooling if self.pooling is None else PoolingSettings(self.pooling)
        functions = Regions(beside(table.path, "regions")).pooling(pooling)
        if not self.before_graph and not self.learned_only and pooling == table.pooling:
            self.about = {"pooling": functions.about(table.features.shape[1] // table.parts.count, table.parts.learnt)}
            return table.only(scans.subject_ids)
        regions = self.regions(scans)
        learnt = 0 if self.learned_only else table.parts.learnt
        self.about = {"pooling": functions.about(regions.shape[2], learnt)}
        return np.stack([functions.pool(one) for one in regions])

    def regions(self, scans: Scans) -> NDArray[np.float64]:
        """(S, N, F) of landmarks, NaN where absent."""
        config = ModelConfig(**read_config(self._folder(scans))["architecture"])  # type: ignore[arg-type]
        # With the histogram in the contrasts G mixes it with what is learned, so that only patches keep them apart.
        mixed = self.learned_only and config.density and config.density_in_contrast
        before = self.before_graph or mixed
        store = Regions(beside(self._embedded(scans), "patches" if before else "regions"))
        if not before and not self.learned_only:
            return np.stack([store.of(name) for name in scans.subject_ids]).astype(np.float64)
        # The model's whitening matrix belongs to all features of its nodes. Others get one of their own, estimated on
        # all subjects of the study: the pretraining cohort, unless a model of another cohort was given.
        part = config.parts["learnt"] if self.learned_only else slice(None)
        features = np.stack([store.unwhitened(name)[:, part] for name in scans.subject_ids]).astype(np.float64)
        if config.whiten > 0:
            ids = scans.study.subject_ids
            sample = np.stack([store.unwhitened(name)[:, part] for name in ids[:: -(-len(ids) // MOST)]])
            features = features @ whitening_by_parts(sample, config)
        return features

    def check(self, folder: Path) -> None:
        """Refuse a model that belongs to another row."""
        architecture = read_config(folder)["architecture"]
        if not architecture.get("conditional", True):
            raise UserError(f"{folder} is a model without location codes; give it to the method without-ce.")
        if not architecture.get("graph", True):
            raise UserError(f"{folder} is a model without a graph; the method '{self.slug}' needs one that has it.")

    def _folder(self, scans: Scans) -> Path:
        """The model folder, pretrained first if necessary."""
        if self.model is not None:
            self.check(self.model)
            self.note = "a model given"
            self.updates = _updates(self.model)
            return self.model
        from anatograph.learning.api import train
        from anatograph.learning.training.presets import build_settings

        run = scans.work / self.run / "run"
        side = scans.study.about["patch_size"]
        fixed = (f"seed={scans.seed}", f"device={scans.device}", f"model.patch_size={side}")
        preset = self.preset or scans.preset
        settings = build_settings(preset, None, (*fixed, *self.settings, *self.overrides))
        changed = f" with {', '.join(self.settings)}" if self.settings else ""
        self.note = f"pretrained on the study, preset {preset}{changed}" if settings.epochs else "random weights"
        begun = (run / "settings.json").is_file()
        train(scans.study, run, settings, resume=begun, progress=self.progress)
        self.updates = _updates(run / "model")
        return run / "model"

    def _embedded(self, scans: Scans) -> Path:
        """The embedding table of the study, computed once for all rows that use the same model."""
        folder = self._folder(scans)
        weights = str(read_config(folder)["weights_sha256"])
        study = scans.study
        made_from = {
            "weights": weights,
            "study": str(study.path.resolve()),
            "subjects": {name: study.subject(name).about["source"].get("digest", "") for name in study.subject_ids},
        }
        name = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
        table = parquet_path(scans.work / "embeddings" / name)
        finished = table.with_suffix(".json")  # written last
        if not finished.is_file():
            self._write(folder, scans, table)
            write_text(finished, json.dumps(made_from, indent=1) + "\n")
        known = set(read_embeddings(table).subject_ids)
        missing = [subject for subject in scans.subject_ids if subject not in known]
        if missing:
            raise UserError(
                f"{len(missing)} subjects could not be embedded ({', '.join(missing[:5])}); {table.stem}.run.json says "
                "why. Preprocess them again, or remove them from the cohort table."
            )
        return table

    def _write(self, folder: Path, scans: Scans, table: Path) -> None:
        subjects = len(scans.study.subject_ids)
        with Progress(f"{self.title}: embed", subjects, "subject", self.progress) as bar:
            embed(
                scans.study.path,
                table,
                model=folder,
                patch_features=True,
                device=scans.device,
                progress=bar.reached,
            )


def read_config(folder: Path) -> dict[str, dict[str, object]]:
    """``config.json`` of a model folder.

    Raises:
        UserError: not a model folder, or a file that cannot be read.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{folder} is not a model folder (it has no config.json); give the folder RUN/model.")
    try:
        config: dict[str, dict[str, object]] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} cannot be read as JSON: {error}.") from error
    if not isinstance(config.get("architecture"), dict) or "weights_sha256" not in config:
        raise UserError(f"{file} is not the configuration of a model; copy the model folder again.")
    return config


def _updates(folder: Path) -> int | None:
    """Number of updates of a model's pretraining, patch and graph level together."""
    training = read_config(folder).get("training", {})
    updates = training.get("updates")
    return updates if isinstance(updates, int) else None
