"""The model and its ablations as rows: which features they are, and which models they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_cohort import SUBJECTS

from anatograph.baselines.method import Scans
from anatograph.baselines.methods.ablations.density_histogram import DensityHistogram
from anatograph.baselines.methods.ablations.learned_only import LearnedOnly
from anatograph.baselines.methods.ablations.mean_pooling import MeanPooling
from anatograph.baselines.methods.ablations.untrained import Untrained
from anatograph.baselines.methods.ablations.without_ce import WithoutConditionalEncoding
from anatograph.baselines.methods.ablations.without_graph import WithoutGraph
from anatograph.baselines.methods.anatograph import Anatograph
from anatograph.baselines.options import MethodOptions
from anatograph.baselines.registry import make_method
from anatograph.embedding.sources import shown_of
from anatograph.errors import UserError
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.density import RAMP, THRESHOLDS
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import load_model, save_model
from anatograph.learning.model.windowing import HU_WINDOW
from anatograph.learning.training.presets import PRESETS


def a_model(scans: Scans, folder: Path, **choices: bool) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(patch_size=16, feature_size=16, **choices)  # type: ignore[arg-type]
    atlas = scans.study.atlas
    model = Model(config, atlas.location_codes)
    return save_model(model, folder, atlas, scans.study.settings.to_dict())


def test_rows_are_the_models_own_features(scans: Scans, tmp_path: Path) -> None:
    folder = a_model(scans, tmp_path / "model")
    options = MethodOptions(models={"anatograph": folder}, progress=False)
    whole, patches = (make_method(slug, options) for slug in ("anatograph", "without-graph"))
    assert isinstance(whole, Anatograph)
    assert isinstance(patches, WithoutGraph)
    rows = {"nodes": whole.embed(scans), "h": patches.embed(scans)}
    regions, before = whole.regions(scans), patches.regions(scans)
    model = load_model(folder)
    for row in (0, 13):
        subject = scans.study.subject(scans.subject_ids[row])
        expected = model.embed(subject.patches, subject.edges, subject.present)
        np.testing.assert_array_equal(rows["nodes"][row], expected.subject)
        np.testing.assert_array_equal(regions[row], expected.nodes)
        np.testing.assert_array_equal(before[row], expected.patch_features)
        mean = expected.patch_features[subject.present].mean(axis=0)
        np.testing.assert_allclose(rows["h"][row], mean, rtol=1e-4, atol=1e-6)
    assert len(list((scans.work / "embeddings").glob("*.parquet"))) >= 1
    assert not np.allclose(rows["nodes"], rows["h"])
    assert whole.note == "a model given"
    plain = make_method("mean-pooling", options)
    assert isinstance(plain, MeanPooling)
    np.testing.assert_allclose(plain.embed(scans), np.nanmean(regions, axis=1), rtol=1e-5, atol=1e-6)


def test_patches_of_a_model_are_whitened_by_parts(scans: Scans, tmp_path: Path) -> None:
    """Densities that took no part in the contrasts stay apart from what was learnt, as in the model's own regions."""
    learnt = 16 - len(THRESHOLDS)
    choices = {"density": True, "density_in_contrast": False, "whiten": 0.5}
    row = WithoutGraph(a_model(scans, tmp_path / "model", **choices), progress=False)  # type: ignore[arg-type]
    found = row.regions(scans)
    model = load_model(tmp_path / "model")
    subjects = [scans.study.subject(name) for name in scans.subject_ids]
    plain = np.stack([model.embed(s.patches, s.edges, s.present).patch_features for s in subjects])
    there = np.isfinite(plain).all(axis=2)
    for part in (slice(0, learnt), slice(learnt, None)):
        linear, *_ = np.linalg.lstsq(plain[there][:, part].astype(float), found[there][:, part], rcond=None)
        np.testing.assert_allclose(plain[there][:, part] @ linear, found[there][:, part], rtol=1e-3, atol=1e-3)
    assert row.embed(scans).shape == (len(subjects), 16)
    assert row.about["pooling"]["learnt_per_part"] == learnt


def test_both_rows_of_a_model_share_one_pass(scans: Scans, tmp_path: Path) -> None:
    folder = a_model(scans, tmp_path / "model")
    Anatograph(folder, progress=False).embed(scans)
    files = {f: f.stat().st_mtime_ns for f in (scans.work / "embeddings").glob("*.parquet")}
    WithoutGraph(folder, progress=False).embed(scans)
    assert {f: f.stat().st_mtime_ns for f in (scans.work / "embeddings").glob("*.parquet")} == files


def test_a_model_of_another_ablation_is_refused(scans: Scans, tmp_path: Path) -> None:
    whole = a_model(scans, tmp_path / "whole")
    blind = a_model(scans, tmp_path / "blind", conditional=False)
    single = a_model(scans, tmp_path / "single", graph=False)
    with pytest.raises(UserError, match=r"with location codes.*model.conditional=false"):
        WithoutConditionalEncoding(whole, progress=False).embed(scans)
    with pytest.raises(UserError, match="without location codes"):
        Anatograph(blind, progress=False).embed(scans)
    with pytest.raises(UserError, match="without a graph"):
        Anatograph(single, progress=False).embed(scans)
    with pytest.raises(UserError, match=r"not a model folder"):
        Anatograph(tmp_path, progress=False).embed(scans)
    assert WithoutConditionalEncoding(blind, progress=False).embed(scans).shape == (SUBJECTS, 16)
    assert WithoutGraph(single, progress=False).embed(scans).shape == (SUBJECTS, 16)


def test_the_row_without_learning_is_a_histogram_of_every_patch(scans: Scans) -> None:
    row = make_method("density-shares", MethodOptions(progress=False))
    assert isinstance(row, DensityHistogram)
    regions, vectors = row.regions(scans), row.embed(scans)
    np.testing.assert_allclose(vectors[:, : len(THRESHOLDS)], np.nanmean(regions, axis=1), rtol=1e-5, atol=1e-9)
    assert vectors.shape[1] == 4 * len(THRESHOLDS)  # four harmonics, as the default model
    shares = []
    for name in scans.subject_ids:
        subject = scans.study.subject(name)
        hu = np.clip(shown_of(subject, PRESETS["default"].model).astype(np.float64), *HU_WINDOW).reshape(
            len(subject.patches), -1
        )
        shares.append(np.stack([np.clip((t - hu) / (2 * RAMP) + 0.5, 0, 1).mean(axis=1) for t in THRESHOLDS], axis=1))
        assert np.isnan(regions[len(shares) - 1][~subject.present]).all()
    # Whitening is one linear map, the same for all; so what was whitened is found again by one.
    there = np.isfinite(regions).all(axis=2)
    expected, found = np.stack(shares)[there], regions[there]
    back, *_ = np.linalg.lstsq(found, expected, rcond=None)
    np.testing.assert_allclose(found @ back, expected, atol=1e-5)


def test_without_a_model_one_is_pretrained_on_the_study_and_reused(scans: Scans) -> None:
    method = Untrained(progress=False)
    first = method.embed(scans)
    assert first.shape[0] == SUBJECTS
    assert method.note == "random weights"
    run = scans.work / "untrained" / "run"
    made = (run / "model" / "model.safetensors").stat().st_mtime_ns
    np.testing.assert_array_equal(Untrained(progress=False).embed(scans), first)
    assert (run / "model" / "model.safetensors").stat().st_mtime_ns == made


@pytest.mark.parametrize("in_contrast", [True, False])
def test_the_learned_part_is_what_the_histogram_does_not_change(
    scans: Scans, tmp_path: Path, in_contrast: bool
) -> None:
    folder = a_model(scans, tmp_path / "model", density=True, density_in_contrast=in_contrast)
    row = make_method("learned-only", MethodOptions(models={"anatograph": folder}, progress=False))
    assert isinstance(row, LearnedOnly)
    regions = row.regions(scans)
    assert regions.shape[2] == 16 - len(THRESHOLDS)
    model = load_model(folder)
    subject = scans.study.subject(scans.subject_ids[3])
    found = model.embed(subject.patches, subject.edges, subject.present)
    whole = found.patch_features if in_contrast else found.nodes
    np.testing.assert_allclose(regions[3], whole[:, : regions.shape[2]], rtol=1e-4, atol=1e-5)
    assert row.embed(scans).shape == (SUBJECTS, regions.shape[2])
