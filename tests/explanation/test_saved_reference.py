"""A reference on disk: built from healthy scans, says whose it is, and serves a single CT at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

import anatograph
from anatograph import cli
from anatograph.embedding.api import embed
from anatograph.embedding.compatible import check_same_model
from anatograph.embedding.regions import Regions
from anatograph.errors import UserError
from anatograph.explanation.normative import calibrate, cross_measure, fit_normative
from anatograph.explanation.norms.build import Reference, reference
from anatograph.explanation.norms.saved import load_reference
from fixtures.small import Small


@pytest.fixture(scope="module")
def normal(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    out = tmp_path_factory.mktemp("reference") / "normal"
    return reference(small.study, out, model=small.model, of="drawn trunks")


def test_it_holds_the_statistics_of_the_study_and_says_whose(small: Small, normal: Reference, tmp_path: Path) -> None:
    assert normal.path.name == "normal.safetensors"
    assert str(normal.saved) == "12 drawn trunks (age 50 to 71, median 59)"
    assert normal.saved.about["atlas_hash"] == small.atlas.hash
    embed(small.study, tmp_path / "emb", model=small.model)
    regions = Regions(tmp_path / "emb.regions.zarr")
    features = np.stack([regions.unwhitened(name) for name in regions.subject_ids])
    expected = calibrate(fit_normative(features), cross_measure(features)).deviation(features[4])
    found = load_reference(normal.path).calibrated.deviation(features[4])
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert not {"p04", "subject_id"} & set(json.dumps(dict(normal.saved.about)).split('"'))


def test_one_ct_is_compared_at_once(
    small: Small, normal: Reference, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = str(small.folder / "5.nii.gz")
    line = ["deviation", scan, "--model", str(small.model), "--reference", str(normal.path), "--out", str(tmp_path)]
    assert cli.main(line) == 0
    printed = capsys.readouterr()
    assert "Reference: 12 drawn trunks (age 50 to 71, median 59)" in printed.out
    assert "the reference is 12 drawn trunks" in printed.err
    about = json.loads((tmp_path / "5_deviation.json").read_text(encoding="utf-8"))
    assert about["score"]["reference"] == "12 drawn trunks (age 50 to 71, median 59)"
    assert about["score"]["reference_subjects"] == 12
    assert {path.name for path in tmp_path.iterdir()} == {
        "5_deviation.nii.gz", "5_deviation.png", "5_deviation.regions.csv", "5_deviation.json", "deviation.run.json",
    }  # fmt: skip
    account = json.loads((tmp_path / "deviation.run.json").read_text(encoding="utf-8"))
    assert account["settings"]["scan"] == scan
    assert account["settings"]["study"] is None


def test_a_study_with_a_saved_reference(small: Small, normal: Reference, tmp_path: Path) -> None:
    embed(small.study, tmp_path / "emb", model=small.model)
    done = anatograph.deviation(small.study, tmp_path / "emb", ["p01"], tmp_path / "maps", reference=normal.path)
    assert done.found[0].reference_size == 12
    with pytest.raises(UserError, match="Name the scans of the study"):
        anatograph.deviation(small.study, tmp_path / "emb", out=tmp_path / "maps")


def test_what_cannot_be_a_reference(small: Small, normal: Reference, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"6 usable subjects with sick=sick .* are too few to say what is normal"):
        reference(small.study, tmp_path / "few", "sick=sick", model=small.model)
    shutil.copytree(small.study, tmp_path / "study")
    (tmp_path / "study" / "review.csv").write_text("subject_id,verdict\np00,exclude\np01,exclude\np02,exclude\n")
    with pytest.raises(UserError, match="9 usable subjects in the study"):
        reference(tmp_path / "study", tmp_path / "few", model=small.model)
    assert not (tmp_path / "few.safetensors").exists()
    with pytest.raises(UserError, match=r"has no reference; give --reference FILE"):
        anatograph.deviation(small.folder / "5.nii.gz", out=tmp_path / "maps", model=small.model)
    scan = {"out": tmp_path / "maps", "model": small.model}
    with pytest.raises(UserError, match="is not a file; for a single CT give one"):
        anatograph.deviation(small.folder / "5.nii.gz", reference="sick=well", **scan)
    (tmp_path / "text.safetensors").write_text("not tensors")
    with pytest.raises(UserError, match="is not a reference"):
        load_reference(tmp_path / "text.safetensors")
    arrays = load_file(normal.path)
    arrays["mean"] = arrays["mean"][:-1]
    said = {"anatograph": json.dumps(dict(normal.saved.about))}
    save_file(arrays, tmp_path / "short.safetensors", said)
    with pytest.raises(UserError, match="its arrays do not belong together"):
        load_reference(tmp_path / "short.safetensors")


def test_vectors_of_different_models_are_refused_together(small: Small, normal: Reference, tmp_path: Path) -> None:
    embed(small.study, tmp_path / "emb", model=small.model)
    table = pd.read_parquet(tmp_path / "emb.parquet")
    about = table.attrs["anatograph"]
    assert about["model"] == normal.saved.about["model"]
    table.attrs = {"anatograph": {**about, "model": "0" * 64, "release": "anatograph-ct-9"}}
    table.to_parquet(tmp_path / "emb.parquet")
    with pytest.raises(UserError, match=r"a different model \(release anatograph-ct-9, hash 000000000000\) from"):
        anatograph.deviation(small.study, tmp_path / "emb", ["p01"], tmp_path / "maps")
    assert not check_same_model({}, about, "one", "other")
