"""A study of forty subjects with synthetic patches: one prepared subject, its patches darkened where diseased."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.anatomy.atlas import build_atlas
from anatograph.baselines.method import CohortMethod, FoldMethod, Learns, Scans, SupervisedMethod
from anatograph.errors import UserError
from anatograph.evaluation.targets import Target
from anatograph.imaging.volume import Frame, Mask, Volume
from anatograph.study.prepare import prepare_subject
from anatograph.study.settings import PreprocessSettings
from anatograph.study.store import Study

SUBJECTS = 40
TARGETS = ["FEV1pp", "grade", "sick", "some"]
SHAPE, SPACING = (24, 30, 44), 6.0


@dataclass(frozen=True)
class SyntheticStudy:
    """Where it lies."""

    cohort: Path
    study: Path


def make_synthetic_study(folder: Path) -> SyntheticStudy:
    """``ill`` 0 to 1 is the share of the right lung's patches that are darker by 200 HU, from below upwards."""
    frame = Frame(SHAPE, (SPACING,) * 3, (-130.0, -90.0, -70.0))
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[4:20, 6:24, 5:19], labels[4:20, 6:24, 25:39] = 1, 2
    hu = np.where(labels > 0, -850, 40).astype(np.int16)
    atlas = build_atlas(Mask(labels, frame), patch_size=16, step=30)
    one = prepare_subject(Volume(hu, frame), Mask(labels, frame), atlas, PreprocessSettings(), subject_id="one")
    study = Study.create(folder / "study", atlas, PreprocessSettings())
    random = np.random.default_rng(0)
    ill = random.permutation(np.linspace(0, 1, SUBJECTS))
    rows = []
    for k in range(SUBJECTS):
        name = f"s{k:02d}"
        right = one.landmarks[:, 0] < 0
        order = np.argsort(one.landmarks[:, 2])
        sick = [j for j in order if right[j]][: round(float(ill[k]) * int(right.sum()))]
        patches = one.patches + random.normal(0, 20, one.patches.shape).astype(np.int16)
        patches[sick] -= 200
        mask = np.zeros(SHAPE, dtype=np.uint8)
        for j in sick:
            x, y, z = np.rint((one.landmarks[j] - frame.origin) / SPACING).astype(int)
            mask[max(z - 1, 0) : z + 2, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = 1
        image = sitk.GetImageFromArray(mask)
        image.SetSpacing((SPACING,) * 3)
        image.SetOrigin(frame.origin)
        sitk.WriteImage(image, str(folder / f"{name}_holes.nii.gz"))
        study.write_subject(replace(one, subject_id=name, patches=patches, source={"digest": f"scan {k}"}))
        rows.append({
            "subject_id": name, "image": f"{name}.nii.gz", "ill": round(float(ill[k]), 4),
            "FEV1pp": round(float(100 * np.exp(-ill[k] + random.normal(0, 0.1))), 2),
            "grade": int(min(3, 4 * ill[k])), "sick": "sick" if ill[k] > 0.5 else "well",
            "some": None if k % 4 == 0 else int(ill[k] > 0.4), "rare": "odd" if k < 3 else "usual",
            "person": f"person {k // 2}", "age": 50 + k % 20, "sex": "FM"[k % 2], "site": "AB"[k % 3 == 0],
            "holes_mask": f"{name}_holes.nii.gz",
        })  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "cohort.csv", index=False)
    return SyntheticStudy(folder / "cohort.csv", folder / "study")


class MeanHU(CohortMethod):
    """The mean HU of each patch; counts its calls."""

    slug = "mean-hu"
    title = "Mean HU"
    learns: ClassVar[Learns] = "nothing"

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        self.calls += 1
        return self.regions(scans)[:, :, 0]

    def regions(self, scans: Scans) -> NDArray[np.float64]:
        found = [scans.study.subject(name).patches.reshape(-1, 16**3).mean(axis=1) for name in scans.subject_ids]
        return np.stack(found)[:, :, None].astype(np.float64)


class Centred(FoldMethod):
    """Mean HU minus that of the training subjects; records what it was fitted on."""

    slug = "centred"
    title = "Centred"
    learns: ClassVar[Learns] = "without labels, in each fold"

    def __init__(self) -> None:
        self.fitted_on: list[tuple[int, ...]] = []

    def embed_fold(self, scans: Scans, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        self.fitted_on.append(tuple(train))
        features = MeanHU().embed(scans)
        found = np.full_like(features, np.nan)
        both = np.concatenate([train, test])
        found[both] = features[both] - features[train].mean(axis=0)
        return found


class Nearest(SupervisedMethod):
    """Predicts the value of the most similar training subject."""

    slug = "nearest"
    title = "Nearest"
    learns: ClassVar[Learns] = "labels, in each fold"

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []

    def predict(
        self, scans: Scans, target: Target, train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        self.calls.append((target.name, tuple(train), tuple(test)))
        assert set(train) <= set(target.rows)
        assert set(test) <= set(target.rows)
        features = MeanHU().embed(scans)
        apart = np.abs(features[test][:, None] - features[train][None]).sum(axis=2)
        values = target.values[np.searchsorted(target.rows, train)][apart.argmin(axis=1)]
        return np.eye(len(target.classes))[values.astype(int)] * 0.8 + 0.05 if target.classes else values


class Unavailable(CohortMethod):
    """Its weights are missing."""

    slug = "no-weights"
    title = "No weights"
    learns: ClassVar[Learns] = "nothing"

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        raise UserError("No weights needs its weights; give --weights no-weights=FILE.")


class Faulty(CohortMethod):
    """Has a bug."""

    slug = "faulty"
    title = "Faulty"
    learns: ClassVar[Learns] = "nothing"

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        raise ZeroDivisionError("division by zero")
