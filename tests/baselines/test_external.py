"""Vectors of other tools on the same folds: matched by subject, refused where they do not fit."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_study import MeanHU, SyntheticStudy

from anatograph import cli
from anatograph.baselines.benchmark import benchmark
from anatograph.baselines.external import ExternalEmbeddings, read_region_table
from anatograph.baselines.method import Scans
from anatograph.baselines.options import MethodOptions
from anatograph.embedding.regions import RegionRows
from anatograph.embedding.table import write_embeddings
from anatograph.errors import UserError
from anatograph.study.store import Study


@pytest.fixture(scope="module")
def vectors(synthetic: SyntheticStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What another tool might write: the mean HU of each patch, in any order, with columns of its own names."""
    study, folder = Study.open(synthetic.study), tmp_path_factory.mktemp("vectors")
    table = pd.read_csv(synthetic.cohort)
    scans = Scans(study, table, folder)
    regions = MeanHU().regions(scans)
    features = pd.DataFrame(regions[:, :, 0], columns=[f"pred_{k}" for k in range(regions.shape[1])])
    features.insert(0, "subject_id", table["subject_id"])
    features.sample(frac=1, random_state=0).to_csv(folder / "vectors.csv", index=False)
    rows = [
        {"subject_id": name, "landmark": k, "mean": value}
        for name, row in zip(table["subject_id"], regions[:, :, 0], strict=True)
        for k, value in enumerate(row)
        if (name, k) != ("s03", 2)
    ]
    pd.DataFrame(rows).to_parquet(folder / "regions.parquet", index=False)
    return folder


def test_vectors_of_another_tool_are_a_row_like_any_other(
    synthetic: SyntheticStudy, vectors: Path, tmp_path: Path
) -> None:
    options = MethodOptions(
        embeddings={"other-tool": vectors / "vectors.csv"},
        region_embeddings={"other-tool": vectors / "regions.parquet"},
    )
    found = benchmark(synthetic.study, synthetic.cohort, ["FEV1pp", "sick"], tmp_path / "b", [MeanHU()], folds=4,
                      options=options, region_truth=True)  # fmt: skip
    results = found.results.set_index(["method", "target", "metric"])["mean"]
    for target, metric in (("FEV1pp", "r2"), ("sick", "accuracy")):
        assert results["other-tool", target, metric] == pytest.approx(results["mean-hu", target, metric], abs=1e-6)
    assert "| other-tool (vectors from vectors.csv) | ✗ |" in found.table
    regions = pd.read_csv(tmp_path / "b" / "regions.csv").set_index(["method", "metric"])
    assert regions.loc[("other-tool", "r2_pooled"), "mean"] > 0.5
    changed = pd.read_csv(vectors / "vectors.csv")
    changed["pred_0"] += 1
    changed.to_csv(tmp_path / "changed.csv", index=False)
    options = MethodOptions(embeddings={"other-tool": tmp_path / "changed.csv"})
    with pytest.raises(UserError, match="made with embeddings"):  # another file under the same name
        benchmark(synthetic.study, synthetic.cohort, ["FEV1pp", "sick"], tmp_path / "b", [], folds=4, options=options)


def test_a_file_that_lacks_subjects_is_refused_before_anything_runs(
    synthetic: SyntheticStudy, vectors: Path, tmp_path: Path
) -> None:
    pd.read_csv(vectors / "vectors.csv").iloc[:30].to_csv(tmp_path / "few.csv", index=False)
    for options, words in (
        (MethodOptions(embeddings={"few": tmp_path / "few.csv"}), "no row for 10 of 40 subjects"),
        (MethodOptions(embeddings={"none": tmp_path / "none.parquet"}), "no file .*none.parquet, given for none"),
        (MethodOptions(embeddings={"moco": vectors / "vectors.csv"}), "a row of its own"),
        (MethodOptions(embeddings={"a b": vectors / "vectors.csv"}), "cannot be the name of a row"),
        (MethodOptions(embeddings={"folder": Path()}), "There is no file ., given for folder"),
        (MethodOptions(embeddings={"r": vectors / "vectors.csv"}, region_embeddings={"r": vectors / "regions.parquet"}),
         "give --region-truth too"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            benchmark(synthetic.study, synthetic.cohort, "sick", tmp_path / "b", [], options=options)
    assert not (tmp_path / "b").exists()
    with pytest.raises(UserError, match="has region features but no vectors"):
        MethodOptions(region_embeddings={"x": vectors / "regions.parquet"})


def test_region_tables_are_arranged_by_subject_and_landmark(vectors: Path, tmp_path: Path) -> None:
    found = read_region_table(vectors / "regions.parquet", ["s03", "s01"], 400)
    table = pd.read_parquet(vectors / "regions.parquet").set_index(["subject_id", "landmark"])["mean"]
    assert np.isnan(found[0, 2, 0])
    assert found[1, 2, 0] == table["s01", 2]
    whole = pd.read_parquet(vectors / "regions.parquet")
    for change, words in (
        (whole.drop(columns="landmark"), "no column landmark"),
        (whole.assign(landmark=whole["landmark"] + 400), "from 0 to 399"),
        (pd.concat([whole, whole.head(1)]), "more than one row"),
        (whole.assign(mean="dark"), "numeric feature columns"),
        (whole.head(0), "holds no region feature"),
        (whole.assign(mean=np.inf), "infinite features"),
        (whole[whole["subject_id"] != "s01"], r"no region of 1 of 1 subjects \(s01\)"),
    ):
        change.to_parquet(tmp_path / "changed.parquet", index=False)
        with pytest.raises(UserError, match=words):
            read_region_table(tmp_path / "changed.parquet", ["s01"], 400)


def test_vectors_indexed_by_subject_are_read(vectors: Path, tmp_path: Path) -> None:
    table = pd.read_csv(vectors / "vectors.csv")
    table.set_index("subject_id").to_parquet(tmp_path / "indexed.parquet")
    ExternalEmbeddings("mine", tmp_path / "indexed.parquet").check(["s01", "s39"])


def test_a_name_given_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["benchmark", "study", "cohort.csv", "--out", "b", "--target", "x", "--embeddings"]
    assert cli.main([*line, "mine=a.csv", "mine=b.csv"]) == 2
    assert "--embeddings names mine more than once" in capsys.readouterr().err
    assert cli.main([*line, "mine="]) == 2
    assert "must be NAME=FILE, such as ct-fm=vectors.parquet" in capsys.readouterr().err


def test_a_store_of_regions_of_another_model_is_refused(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "vectors", ["a"], np.ones((1, 2)), {"model": "f00d"})
    for model, refused in (("f00d", False), ("cafe", True)):
        rows = RegionRows.create(tmp_path / f"{model}.part", 1, 3, 2)
        rows.write(0, np.ones((3, 2), dtype=np.float32))
        store = tmp_path / f"{model}.regions.zarr"
        rows.finish(store, ["a"], {"model": model})
        external = ExternalEmbeddings("mine", tmp_path / "vectors.parquet", store)
        with pytest.raises(UserError, match="embedded by a different model") if refused else nullcontext():
            external.check(["a"])


def test_the_store_beside_an_embedding_is_found_by_itself(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "vectors", ["a"], np.ones((1, 2)))
    assert ExternalEmbeddings("mine", tmp_path / "vectors.parquet").region_file is None
    (tmp_path / "vectors.regions.zarr").mkdir()
    assert ExternalEmbeddings("mine", tmp_path / "vectors.parquet").region_file == tmp_path / "vectors.regions.zarr"
