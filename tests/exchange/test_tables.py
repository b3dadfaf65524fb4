"""Embeddings as AnnData, CSV, Stata and R, read back by other readers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import anatograph
from anatograph import cli
from anatograph.embedding.regions import RegionRows, Regions
from anatograph.embedding.table import beside, read_embeddings, write_embeddings
from anatograph.errors import UserError
from anatograph.exchange.tables.stata import stata_names

IDS = ["007", "NA", "b"]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Three subjects of 2 × 2 features and four landmarks, one of which is absent in the second, and their cohort."""
    random = np.random.default_rng(0)
    regions = random.normal(0, 1, (3, 4, 2)).astype(np.float32)
    regions[1, 2] = np.nan
    features = random.normal(0, 1, (3, 4)).astype(np.float32)
    about = {"pooling": {"rule": "harmonics", "parts": ["mean over the lungs", "harmonic 1"]}, "atlas_hash": "ab12"}
    write_embeddings(tmp_path / "emb", IDS, features, about)
    rows = RegionRows.create(tmp_path / "part.zarr", 3, 4, 2)
    for number in range(3):
        rows.write(number, regions[number])
    points = [[10.0, -20.5, 30.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
    rows.finish(beside(tmp_path / "emb", "regions"), IDS, {"landmarks": points, "atlas_hash": "ab12"})
    (tmp_path / "cohort.csv").write_text(
        "subject_id,image,Age (years),smoker,site,sick\n007,a,61,yes,Köln,True\nNA,b,,no,,False\nother,c,3,no,x,True\n"
        "b,d,55,,x,True\n",
        encoding="utf-8",
    )
    return tmp_path


def test_anndata(made: Path) -> None:
    done = anatograph.export(made / "emb", made / "out", "anndata", made / "cohort.csv")
    assert done.files == (made / "out.h5ad",)
    data = anndata.read_h5ad(done.files[0])
    table, regions = read_embeddings(made / "emb"), Regions(made / "emb.regions.zarr")
    assert list(data.obs_names) == IDS
    np.testing.assert_array_equal(data.X, table.features.astype(np.float32))
    assert data.var["part"].tolist() == ["mean over the lungs"] * 2 + ["harmonic 1"] * 2
    assert data.obsm["regions"].shape == (3, 4, 2)
    for number, name in enumerate(IDS):
        np.testing.assert_array_equal(data.obsm["regions"][number], regions.of(name))
    np.testing.assert_array_equal(data.uns["landmarks"][0], [10, -20.5, 30])
    assert data.uns["anatograph"]["atlas_hash"] == "ab12"
    assert data.obs["Age (years)"].tolist()[::2] == [61, 55]
    assert np.isnan(data.obs.loc["NA", "Age (years)"])
    assert data.obs.loc["007", "site"] == "Köln"
    assert pd.isna(data.obs.loc["NA", "site"])
    assert "image" not in data.obs
    assert (made / "out.run.json").is_file()
    plain = anatograph.export(made / "emb", made / "plain.h5ad", "anndata", no_regions=True)
    assert "regions" not in anndata.read_h5ad(plain.files[0]).obsm


def test_csv_layouts_hold_the_same_numbers(made: Path) -> None:
    features = read_embeddings(made / "emb").features.astype(np.float32)
    for layout in ("wide", "long", "regions"):
        line = ["export", str(made / "emb"), str(made / layout), "--to", "csv", "--cohort", str(made / "cohort.csv")]
        assert cli.main([*line, "--layout", layout]) == 0
    types = {"subject_id": "str"}
    wide = pd.read_csv(made / "wide.csv", dtype=types, keep_default_na=False, na_values=[""])
    assert wide["subject_id"].tolist() == IDS
    assert list(wide.columns[:5]) == ["subject_id", "Age (years)", "smoker", "site", "sick"]
    np.testing.assert_array_equal(wide.filter(like="feature_").to_numpy(np.float32), features)
    long = pd.read_csv(made / "long.csv", dtype=types, keep_default_na=False, na_values=[""])
    assert len(long) == 12
    assert long["subject_id"].tolist() == [name for name in IDS for _ in range(4)]
    again = long.pivot(index="subject_id", columns="feature", values="value").loc[IDS]
    np.testing.assert_array_equal(again.to_numpy(np.float32), features)
    rows = pd.read_csv(made / "regions.csv", dtype=types, keep_default_na=False, na_values=[""])
    assert len(rows) == 3 * 4 - 1
    assert rows.loc[rows["subject_id"] == "NA", "landmark"].tolist() == [0, 1, 3]
    second = rows.loc[(rows["subject_id"] == "b") & (rows["landmark"] == 0)].iloc[0]
    assert second[["L_mm", "P_mm", "S_mm"]].tolist() == [10, -20.5, 30]
    expected = Regions(made / "emb.regions.zarr").of("b")[0]
    np.testing.assert_array_equal(second.filter(like="feature_").to_numpy(np.float32), expected)


def test_stata(made: Path) -> None:
    done = anatograph.export(made / "emb", made / "out", "stata", made / "cohort.csv")
    with pd.io.stata.StataReader(done.files[0]) as reader:
        table, labels = reader.read(), reader.variable_labels()
    assert table["subject_id"].tolist() == IDS
    assert table["Age__years_"].tolist()[::2] == [61, 55]
    assert np.isnan(table["Age__years_"][1])
    assert labels["Age__years_"] == "Age (years)"
    assert labels["feature_003"] == "harmonic 1"
    assert table["site"].tolist() == ["Köln", "", "x"]
    assert table["sick"].tolist() == [1, 0, 1]
    np.testing.assert_array_equal(
        table.filter(like="feature_").to_numpy(np.float32), read_embeddings(made / "emb").features.astype(np.float32)
    )
    assert any("Age__years_" in note for note in done.account.notes)
    names = stata_names(["if", "x" * 40, "x" * 41, "1st", "a b", "a_b", "str8"])
    assert len(set(names)) == 7
    assert max(map(len, names)) <= 32
    assert names[0] == "_if"
    regions = anatograph.export(made / "emb", made / "long", "stata", layout="regions")
    assert len(pd.read_stata(regions.files[0])) == 11


def test_r(made: Path) -> None:
    done = anatograph.export(made / "emb", made / "out", "r", made / "cohort.csv")
    assert [file.name for file in done.files] == ["out.csv", "out.landmarks.csv", "out.R"]
    script = done.files[2].read_text(encoding="utf-8")
    columns = pd.read_csv(made / "out.csv", nrows=0).columns
    for name in columns:
        assert f'"{name}" = ' in script
    assert '"subject_id" = "character"' in script
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed, so the script was checked but not run")
    program = made / "check.R"
    program.write_text(
        'source("out.R"); e <- read_embeddings()\n'
        'stopifnot(identical(e$table$subject_id, c("007", "NA", "b")), identical(dim(e$features), c(3L, 4L)))\n'
        'stopifnot(identical(e$table$sick, c(TRUE, FALSE, TRUE)), is.na(e$table[["Age (years)"]][2]))\n'
        'stopifnot(is.na(e$table$site[2]), nrow(e$landmarks) == 4, e$about$atlas_hash == "ab12")\n'
        'cat(sprintf("%.9g", e$features["NA", ]))\n'
    )
    ran = subprocess.run(["Rscript", "check.R"], cwd=made, capture_output=True, encoding="utf-8", check=False)
    assert ran.returncode == 0, ran.stderr
    np.testing.assert_array_equal(
        np.array(ran.stdout.split(), dtype=np.float32), read_embeddings(made / "emb").features[1].astype(np.float32)
    )


def test_what_cannot_be_exported_is_refused(made: Path) -> None:
    with pytest.raises(UserError, match=r"writes \.h5ad"):
        anatograph.export(made / "emb", made / "out.csv", "anndata")
    with pytest.raises(UserError, match="one layout"):
        anatograph.export(made / "emb", made / "out", "anndata", layout="long")
    shutil.rmtree(made / "emb.regions.zarr")
    with pytest.raises(UserError, match="no store of regions"):
        anatograph.export(made / "emb", made / "out", "csv", layout="regions")
    assert any("regions are not exported" in n for n in anatograph.export(made / "emb", made / "o", "r").account.notes)
    (made / "clash.csv").write_text("subject_id,image,feature_001\nb,c,1\n")
    with pytest.raises(UserError, match="named like features"):
        anatograph.export(made / "emb", made / "out", "csv", made / "clash.csv")
    (made / "strangers.csv").write_text("subject_id,image\nq,c\n")
    with pytest.raises(UserError, match="No subject of the embeddings is in the cohort"):
        anatograph.export(made / "emb", made / "out", "csv", made / "strangers.csv")
