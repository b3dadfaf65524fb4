"""Vectors that keep place: on disk, in their metadata, pooled again from regions, in probes and in explanations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

import anatograph
from anatograph import cli
from anatograph.embedding.regions import Regions
from anatograph.embedding.table import read_embeddings, write_embeddings
from anatograph.errors import UserError
from anatograph.evaluation.alignment import align
from anatograph.evaluation.evaluate import evaluate
from anatograph.evaluation.targets import read_target
from anatograph.explanation.explainer import Explainer
from anatograph.learning.model.pooling import ONE_PART, PoolingSettings, make_pooling
from fixtures.small import Small


@pytest.fixture(scope="module")
def placed(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of the small study with four harmonics."""
    folder = tmp_path_factory.mktemp("placed")
    anatograph.embed(small.study, folder / "emb", model=small.model, pooling="harmonics", workers=2)
    return folder / "emb.parquet"


def test_the_table_says_what_its_features_mean(small: Small, placed: Path) -> None:
    table = read_embeddings(placed)
    assert table.features.shape == (12, 4 * 32)
    about = table.about
    assert about["features"] == 128
    assert about["pooling"]["features_per_part"] == 32
    assert about["pooling"]["parts"][:2] == ["mean over the lungs", "harmonic 1: left minus right"]
    assert about["atlas_hash"] == small.atlas.hash
    assert len(about["model"]) == 64
    # Every reader of Parquet sees it.
    assert pd.read_parquet(placed).attrs["anatograph"] == about
    # The first part is the paper's vector, and all parts are what the functions make of the regions.
    regions = Regions(placed.with_name("emb.regions.zarr"))
    nodes = regions.of("p03")
    np.testing.assert_allclose(table.features[3, :32], np.nanmean(nodes, axis=0), atol=1e-5)
    functions = make_pooling(PoolingSettings("harmonics"), small.atlas.landmarks)
    np.testing.assert_allclose(table.features[3], functions.pool(nodes), atol=1e-5)


def test_old_regions_give_new_vectors_without_the_model(small: Small, placed: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    anatograph.embed(small.study, old, model=small.model, pooling="mean")
    table = pd.read_parquet(f"{old}.parquet")
    table.attrs = {}  # as earlier versions wrote it
    table.to_parquet(f"{old}.parquet", index=False)
    assert read_embeddings(old).parts == ONE_PART
    assert cli.main(["pool", str(old), str(tmp_path / "new")]) == 0
    np.testing.assert_array_equal(read_embeddings(tmp_path / "new").features, read_embeddings(placed).features)
    first, second = (zarr.open_array(str(tmp_path / f"{name}.regions.zarr"), mode="r")[:] for name in ("old", "new"))
    np.testing.assert_array_equal(first, second)
    # And back, in place; `embed` does not take what was pooled again for a finished run's.
    anatograph.pool(tmp_path / "new", tmp_path / "new", pooling="mean")
    again = read_embeddings(tmp_path / "new")
    assert again.parts == ONE_PART
    np.testing.assert_allclose(again.features, read_embeddings(old).features, atol=1e-5)
    anatograph.pool(old, old, pooling="zones")
    done = anatograph.embed(small.study, old, model=small.model, pooling="mean")
    np.testing.assert_array_equal(done.features, table.drop(columns="subject_id").to_numpy())


def test_evaluate_and_explain_work_on_it_and_the_sum_is_exact(small: Small, placed: Path, tmp_path: Path) -> None:
    """β + the mean of M_j = Σ_m a_m(j) W_m · h'_j is the probe's answer, the one in the table of predictions."""
    for target in ("density", "sick"):
        predictions = evaluate(placed, small.cohort, target).predictions.set_index("subject_id")
        data = align(placed, small.cohort)
        made = Explainer(data, read_target(data.table, target), Regions(placed.with_name("emb.regions.zarr")))
        found = made.contribution("p07")
        row = predictions.loc["p07"]
        if target == "density":
            expected = found.direction.offset + found.direction.scale * found.answer
            assert row["prediction"] == pytest.approx(expected, abs=1e-4)
        else:
            assert np.log(row["probability_well"] / row["probability_sick"]) == pytest.approx(found.answer, abs=1e-3)
    done = anatograph.explain(small.study, placed, small.cohort, "density", "p11", tmp_path)
    table = pd.read_csv(tmp_path / "p11_density.regions.csv")
    right = table["place"].str.startswith("right")
    assert table.loc[right, "relative"].mean() > table.loc[~right, "relative"].mean()  # the right lung is denser
    assert done.contributions[0].raw.shape == (len(small.atlas),)


def test_metadata_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    features = np.zeros((2, 6), dtype=np.float32)
    about = {"pooling": {"rule": "zones", "parts": ["a", "b", "c", "d"]}}
    write_embeddings(tmp_path / "emb", ["a", "b"], features, about)
    with pytest.raises(UserError, match="does not fit its 6 features"):
        read_embeddings(tmp_path / "emb")
    write_embeddings(tmp_path / "emb", ["a", "b"], features, {"format_version": 99})
    with pytest.raises(UserError, match="newer"):
        read_embeddings(tmp_path / "emb")
    write_embeddings(tmp_path / "emb", ["a", "b"], features)
    with pytest.raises(UserError, match=r"no .*regions\.zarr"):
        anatograph.pool(tmp_path / "emb", tmp_path / "out")
