"""What a model is shown of a study's patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from tests.learning.small_study import SmallStudy, SmallSubject

from anatograph.anatomy.lung_tissue import OUTSIDE_HU, lung_tissue
from anatograph.embedding.sources import with_lung
from anatograph.learning.data.cohort import read_cohort
from anatograph.learning.data.shown import source_of
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.embedding_model import Model

SHOWN = ModelConfig(feature_size=16, patch_size=16, lungs_only=True, inflation=0.5)
WHOLE = replace(SHOWN, lungs_only=False, inflation=0.0)


class HalfLungs(SmallStudy):
    """The lower half of every patch is outside the lungs."""

    def read_inside(self, subject_ids: Sequence[str], landmarks: ArrayLike) -> NDArray[np.bool_]:
        inside = super().read_inside(subject_ids, landmarks)
        inside[:, :8] = False
        return inside


def test_training_reads_lung_tissue_alone() -> None:
    study = HalfLungs(4)
    assert source_of(study, WHOLE) is study
    cohort = read_cohort(study, source=source_of(study, SHOWN))
    subjects, landmarks = np.array([2, 0, 2]), np.array([1, 3, 5])
    found = cohort.read(subjects, landmarks)
    assert (found[:, :8] == OUTSIDE_HU).all()
    whole = read_cohort(study).read(subjects, landmarks)
    np.testing.assert_array_equal(found[:, 8:], lung_tissue(whole, None, -860.0, 0.5)[:, 8:])


def test_each_patch_is_shown_by_the_density_of_its_own_lung() -> None:
    class TwoLungs(HalfLungs):
        def subject(self, name: str) -> SmallSubject:
            found = super().subject(name)
            densities = np.where(np.arange(8) < 4, -900.0 - 5 * int(name[1:]), -780.0)
            return replace(found, parenchyma_hu=densities)

    study = TwoLungs(3)
    subjects, landmarks = np.array([2, 0, 2, 1]), np.array([1, 6, 5, 3])
    found = read_cohort(study, source=source_of(study, SHOWN)).read(subjects, landmarks)
    for row, density in enumerate((-910.0, -780.0, -780.0, -905.0)):
        whole = study.patches[subjects[row], landmarks[row]][None]
        np.testing.assert_array_equal(found[row, 8:], lung_tissue(whole, None, density, 0.5)[0, 8:])
    one = Model(SHOWN, study.atlas.location_codes)
    patches, inside = study.patches[2], study.read_inside(["s002"] * 8, range(8))
    shown = one.shown(patches, inside, study.subject("s002").parenchyma_hu)
    np.testing.assert_array_equal(shown[[1, 5]], found[[0, 2]])
    with pytest.raises(ValueError, match="parenchyma_hu has shape"):
        one.shown(patches, inside, np.full(3, -860.0))


def test_a_breath_changes_less_of_what_is_seen() -> None:
    study = HalfLungs(2)
    patches, inside = study.patches[0], study.read_inside(["s000"] * 8, range(8))
    shallow = np.rint((patches + 1000.0) * 1.3 - 1000).astype(np.int16)
    model = Model(SHOWN, study.atlas.location_codes)
    deep = model.shown(patches, inside, -860.0)[inside].astype(float)
    other = model.shown(shallow, inside, -860.0 + 42.0)[inside].astype(float)
    before = np.abs(shallow[inside] - patches[inside]).mean()
    assert np.abs(other - deep).mean() < 0.6 * before  # half of the logarithm is left


def test_whole_patches_are_not_embedded_unnoticed() -> None:
    study = HalfLungs(1)
    torch.manual_seed(0)
    model = Model(SHOWN, study.atlas.location_codes).eval()
    inside = study.read_inside(["s000"] * 8, range(8))
    with pytest.raises(ValueError, match="lung tissue alone"):
        model.embed(study.patches[0], study.edges)
    with pytest.raises(ValueError, match="shape"):
        model.embed(study.patches[0], study.edges, None, inside[:, :4], -860.0)
    shown = model.shown(study.patches[0], inside, -860.0)
    found = model.embed(study.patches[0], study.edges, None, inside, -860.0)
    model.config = WHOLE
    np.testing.assert_array_equal(found.subject, model.embed(shown, study.edges).subject)
    np.testing.assert_array_equal(model.shown(study.patches[0], None, None), study.patches[0])


def test_a_landmark_without_lung_is_absent() -> None:
    """As where a mask lacks a lung: half of the landmarks would be soft tissue, which no training scan shows."""
    inside = np.zeros((4, 8, 8, 8), dtype=bool)
    inside[0], inside[1, 0], inside[2, 0, 0, :5] = True, True, True
    present = np.array([True, True, True, True])
    assert with_lung(present, inside, SHOWN).tolist() == [True, True, False, False]
    assert with_lung(np.array([False, True, True, True]), inside, SHOWN).tolist() == [False, True, False, False]
    assert with_lung(present, inside, WHOLE).all()


def test_settings_that_older_models_lack_leave_their_digest() -> None:
    codes = SmallStudy(1).atlas.location_codes
    torch.manual_seed(0)
    whole = Model(WHOLE, codes)
    torch.manual_seed(0)
    shown = Model(SHOWN, codes)
    assert whole.digest != shown.digest
