"""Parametric response mapping: plain numpy under identical maps, a phantom's two breaths, and faulty pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from anatograph.anatomy.atlas import build_atlas
from anatograph.errors import UserError
from anatograph.evaluation.densitometry.api import densitometry
from anatograph.evaluation.densitometry.pairs import BreathPair, breath_pairs
from anatograph.evaluation.densitometry.response import CLASSES, classify
from anatograph.imaging.reading import read_mask
from anatograph.imaging.volume import Frame, Mask
from anatograph.phantoms.api import phantom
from anatograph.study.preprocess import preprocess
from fixtures.chest import two_lungs

SHAPE, SPACING = (30, 40, 48), (6.0, 6.0, 7.0)


def test_the_classes_are_divided_by_both_thresholds() -> None:
    inspiration = np.array([-870, -950, -951, -951, -870, -490, -996], dtype=np.int16)
    expiration = np.array([-750, -857, -857, -856, -490, -900, -990], dtype=np.int16)
    assert classify(inspiration, expiration).tolist() == [0, 1, 2, 3, -1, -1, 2]


def test_scans_with_one_mask_agree_with_plain_numpy(tmp_path: Path) -> None:
    body, labels = two_lungs(SHAPE, (22, 18), (13, 34), (9, 13, 12), np.ones(3))
    random = np.random.default_rng(0)
    hu = {}
    for name, mean in (("deep", -900.0), ("shallow", -800.0)):
        array = np.where(body, 40.0, -1000.0)
        array[labels > 0] = mean + random.normal(0, 90, int((labels > 0).sum()))
        hu[name] = np.clip(np.rint(array), -1024, None).astype(np.int16)
    for name, values in (*hu.items(), ("lungs", labels)):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing(SPACING)
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    rows = [{"subject_id": n, "image": f"{n}.nii.gz", "lungs": "lungs.nii.gz", "patient": 1, "breath": w}
            for n, w in (("deep", "Inspiration"), ("shallow", "expiration"))]  # fmt: skip
    cohort = tmp_path / "cohort.csv"
    pd.DataFrame(rows).to_csv(cohort, index=False)
    atlas = build_atlas(Mask(labels, Frame(SHAPE, SPACING, (0.0, 0.0, 0.0))), patch_size=32, step=40)
    preprocess(cohort, tmp_path / "study", atlas, "given", progress=False)
    found = densitometry(
        tmp_path / "study", tmp_path / "out.parquet", cohort=cohort, pair_by="patient", breath="breath"
    )
    row = pd.read_parquet(tmp_path / "out.prm.parquet").iloc[0]
    assert row["subject_id"] == "deep"
    assert row["prm_inside"] == 1.0
    thin = (hu["deep"] < -500) & (hu["shallow"] < -500) & (labels > 0)
    low, traps = hu["deep"] < -950, hu["shallow"] < -856
    truth = {
        "normal": ~low & ~traps,
        "fsad": ~low & traps,
        "emphysema": low & traps,
        "emptying_emphysema": low & ~traps,
    }
    for zone, where in (("whole", thin), ("right", thin & (labels == 1)), ("left", thin & (labels == 2))):
        for name, marked in truth.items():
            assert row[f"{zone}_prm_{name}"] == pytest.approx(marked[where].mean())
        assert row[f"{zone}_prm_volume_ml"] == pytest.approx(where.sum() * np.prod(SPACING) / 1000)
    near = pd.read_parquet(tmp_path / "out.prm.landmarks.parquet")
    np.testing.assert_allclose(near[[f"prm_{name}" for name in CLASSES]].sum(axis=1), 1.0)
    assert set(near["landmark"]) == set(found.landmarks.query("subject_id == 'shallow'")["landmark"])
    assert found.pairs is not None
    assert len(found.table) == 2  # what is measured of single scans stays as it is


def test_the_response_of_a_phantom_is_found_through_the_atlas(tmp_path: Path) -> None:
    cohort = phantom(tmp_path / "ph", 1, 4, spacing=4.0, sites="A", diseases="copd", expiration=True, progress=False)
    known = pd.read_csv(cohort)
    assert list(known["breath"]) == ["inspiration", "expiration"]
    assert 0.4 < known["lung_volume_l"][1] / known["lung_volume_l"][0] < 0.75
    assert known[["prm_normal", "prm_fsad", "prm_emphysema"]].iloc[0].sum() == pytest.approx(1, abs=0.02)
    lungs = read_mask(tmp_path / "ph" / known["lungs"][0])
    preprocess(cohort, tmp_path / "study", build_atlas(lungs, patch_size=32, step=60), "given", progress=False)
    found = densitometry(tmp_path / "study", tmp_path / "out.parquet", cohort=cohort, pair_by="person").pairs
    assert found is not None
    row = found.iloc[0]
    assert row["subject_id"] == known["subject_id"][0]
    assert row["prm_inside"] > 0.95
    for name in ("normal", "fsad", "emphysema"):
        assert row[f"whole_prm_{name}"] == pytest.approx(known[f"prm_{name}"][0], abs=0.05)


def table(tmp_path: Path, **columns: list[object]) -> Path:
    names = [f"s{k}" for k in range(len(next(iter(columns.values()))))]
    pd.DataFrame({"subject_id": names, "image": "a.nii.gz", **columns}).to_csv(tmp_path / "c.csv", index=False)
    return tmp_path / "c.csv"


def test_the_larger_lungs_are_the_inspiration_where_no_column_says_it(tmp_path: Path) -> None:
    volumes = {"s0": 3000.0, "s1": 5000.0, "s2": 4000.0, "s3": 3990.0, "s4": 1.0}
    pairs, notes = breath_pairs(table(tmp_path, who=["a", "a", "b", "b", "c"]), "who", None, volumes)
    assert pairs == [BreathPair("a", "s1", "s0"), BreathPair("b", "s2", "s3")]
    assert "1 scan without a second breath" in notes[0]
    assert "hardly larger" in notes[1]


@pytest.mark.parametrize(
    ("columns", "breath", "said"),
    [
        ({"who": ["a", "b"]}, None, "no two scans"),
        ({"who": ["a", "a", "a"]}, None, "3 scans"),
        ({"who": ["a", "a"], "at": ["insp", "tlc"]}, "at", "'insp' or 'exp'"),
        ({"who": ["a", "a"], "at": ["insp", "INSP"]}, "at", "same breath"),
        ({"who": ["a", "a"]}, "at", "no column 'at'"),
    ],
)
def test_faulty_pairs_are_refused(
    tmp_path: Path, columns: dict[str, list[object]], breath: str | None, said: str
) -> None:
    volumes = dict.fromkeys(("s0", "s1", "s2"), 1.0)
    with pytest.raises(UserError, match=said):
        breath_pairs(table(tmp_path, **columns), "who", breath, volumes)
