"""The model of the paper and what is left of it without each kind of context, as rows of the benchmark."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.method import CohortMethod, Learns, Scans
from anatograph.embedding.api import embed
from anatograph.embedding.regions import Regions
from anatograph.embedding.table import beside, parquet_path, read_embeddings
from anatograph.errors import UserError
from anatograph.execution.files import write_text
from anatograph.learning.model.whitening import MOST, whitening


class _Ours(CohortMethod):
    """An Anatograph model, given or pretrained on the study, and the features taken from it."""

    learns: ClassVar[Learns] = "without labels"
    overrides: ClassVar[tuple[str, ...]] = ()
    """Settings of the pretraining in which this row differs."""
    run: ClassVar[str] = "anatograph"
    """Name in ``work`` of the run that this row pretrains or shares."""
    before_graph: ClassVar[bool] = False
    """Whether the features are those of the patches, before G."""

    def __init__(self, model: Path | None = None, progress: bool = True) -> None:
        """``model``: a model folder, as ``RUN/model``; without, one is pretrained on the study in ``work``."""
        self.model, self.progress = model, progress

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, F) the mean of the regions' features.

        Raises:
            UserError: a model that is none, is another ablation's, or does not fit the study.
        """
        if self.before_graph:
            return np.asarray(np.nanmean(self.regions(scans), axis=1))
        return read_embeddings(self._embedded(scans)).only(scans.subject_ids)

    def regions(self, scans: Scans) -> NDArray[np.float64]:
        """(S, N, F) of landmarks, NaN where absent."""
        store = Regions(beside(self._embedded(scans), "patches" if self.before_graph else "regions"))
        found = np.stack([store.of(name) for name in scans.subject_ids]).astype(np.float64)
        share = _config(self._folder(scans))["architecture"].get("whiten", 0.0)
        if self.before_graph and isinstance(share, (int, float)) and share > 0:
            # The model's own is for its nodes; without a graph these are the patches' features, of the people at hand.
            found = found @ whitening(found[:: -(-len(found) // MOST)], share)
        return found

    def check(self, folder: Path) -> None:
        """Refuse a model that another row is for."""
        architecture = _config(folder)["architecture"]
        if not architecture.get("conditional", True):
            raise UserError(f"{folder} is a model without location codes; give it to the method without-ce.")
        if not architecture.get("graph", True):
            raise UserError(f"{folder} is a model without a graph; the method '{self.slug}' needs one that has it.")

    def _folder(self, scans: Scans) -> Path:
        """The model, pretrained first if need be."""
        if self.model is not None:
            self.check(self.model)
            self.note = "a model given"
            return self.model
        from anatograph.learning.training.settings import build_settings
        from anatograph.learning.training.trainer import pretrain

        run = scans.work / self.run / "run"
        side = scans.study.about["patch_size"]
        fixed = (f"seed={scans.seed}", f"device={scans.device}", f"model.patch_size={side}")
        settings = build_settings(scans.preset, None, (*fixed, *self.overrides))
        self.note = f"pretrained on the study, preset {scans.preset}" if settings.epochs else "random weights"
        begun = (run / "settings.json").is_file()
        pretrain(scans.study, run, settings, resume=begun, progress=self.progress)
        return run / "model"

    def _embedded(self, scans: Scans) -> Path:
        """The table of embeddings of the study, made once for all rows that use the same model."""
        folder = self._folder(scans)
        weights = str(_config(folder)["weights_sha256"])
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
        missing = [person for person in scans.subject_ids if person not in known]
        if missing:
            raise UserError(
                f"{len(missing)} people could not be embedded ({', '.join(missing[:5])}); {table.stem}.run.json says "
                "why. Preprocess them again, or leave them out of the cohort table."
            )
        return table

    def _write(self, folder: Path, scans: Scans, table: Path) -> None:
        from tqdm import tqdm

        people = len(scans.study.subject_ids)
        with tqdm(total=people, desc=f"{self.title}: embed", unit="subject", disable=not self.progress) as bar:

            def told(name: str, done: int, total: int) -> None:
                bar.update()

            embed(
                scans.study.path,
                table,
                model=folder,
                patch_features=True,
                device=scans.device,
                progress=told,
            )


class Anatograph(_Ours):
    """The whole model: the mean of the nodes after G."""

    slug = "anatograph"
    title = "Anatograph"


class WithoutConditionalEncoding(_Ours):
    """'w/o CE': an encoder that does not know where a patch comes from, pretrained as such."""

    slug = "without-ce"
    title = "w/o CE"
    run = "without-ce"
    overrides = ("model.conditional=false",)

    def check(self, folder: Path) -> None:
        """Refuse a model that knows location codes."""
        if _config(folder)["architecture"].get("conditional", True):
            raise UserError(
                f"{folder} is a model with location codes; 'w/o CE' needs one pretrained with "
                "--set model.conditional=false."
            )


class WithoutGraph(_Ours):
    """'w/o Graph': the mean of the patch features of the whole model, no message passed between them.

    The graph's loss never reaches E (Algorithm 1 updates G alone with it), so E without G is the very E of the whole
    model; pretraining it again would only add chance.
    """

    slug = "without-graph"
    title = "w/o Graph"
    before_graph = True

    def check(self, folder: Path) -> None:
        """Refuse a model without location codes; with or without a graph is all the same."""
        if not _config(folder)["architecture"].get("conditional", True):
            raise UserError(f"{folder} is a model without location codes; 'w/o Graph' keeps them.")


class Untrained(_Ours):
    """The whole model at its first weights: what pretraining has to beat."""

    slug = "untrained"
    title = "Untrained"
    learns: ClassVar[Learns] = "nothing"
    run = "untrained"
    overrides = ("epochs=0",)


def _config(folder: Path) -> dict[str, dict[str, object]]:
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{folder} is no model folder (it has no config.json); give the folder RUN/model.")
    try:
        config: dict[str, dict[str, object]] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} cannot be read as JSON: {error}.") from error
    if not isinstance(config.get("architecture"), dict) or "weights_sha256" not in config:
        raise UserError(f"{file} is not the configuration of a model; copy the model folder anew.")
    return config
