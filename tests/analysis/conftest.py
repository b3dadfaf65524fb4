"""A small cohort whose right lungs are the denser the sicker, its study, and a network that was never trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from report_parts import make_parts
from small_places import Small

from anatograph.anatomy.atlas import build_atlas
from anatograph.imaging.volume import Frame, Mask
from anatograph.learning.batchnorm import recalibrate_batchnorm
from anatograph.learning.embedding_model import Model
from anatograph.learning.model_config import ModelConfig
from anatograph.learning.model_folder import save_model
from anatograph.study.preprocess import preprocess
from anatograph.study.store import Study

PEOPLE = 12
SHAPE, SPACING = (44, 50, 70), 5.0


def trunk(seed: int, amount: float) -> tuple[sitk.Image, sitk.Image]:
    """A scan with two ellipsoid lungs, the right one (label 1, at small x) denser by ``amount``, and its mask."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in SHAPE), indexing="ij")
    array = np.where(((x - 35) / 32) ** 2 + ((y - 25) / 22) ** 2 < 1, 40.0, -1000.0)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    size = 1 + 0.05 * rng.uniform(-1, 1, 3)
    for label, middle in ((1, 20.0), (2, 50.0)):
        inside = ((x - middle) / (10 * size[0])) ** 2 + ((y - 25) / (15 * size[1])) ** 2
        labels[inside + ((z - 22) / (18 * size[2])) ** 2 < 1] = label
    array[labels > 0] = -870
    array[labels == 1] += 350 * amount
    array += rng.normal(0, 15, SHAPE)
    images = []
    for values in (np.clip(np.rint(array), -1024, None).astype(np.int16), labels):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((SPACING,) * 3)
        image.SetOrigin((-170.0 + seed, -120.0, -90.0))
        images.append(image)
    return images[0], images[1]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("small")
    amounts = np.linspace(0, 1, PEOPLE)
    rows = []
    for k, amount in enumerate(amounts):
        scan, mask = trunk(k, amount)
        if k % 3 == 1:  # as other software stores it
            scan, mask = (sitk.DICOMOrient(image, "RAS") for image in (scan, mask))
        sitk.WriteImage(scan, str(folder / f"{k}.nii.gz"))
        sitk.WriteImage(mask, str(folder / f"{k}_lungs.nii.gz"))
        rows.append(
            {
                "subject_id": f"p{k:02d}",
                "image": f"{k}.nii.gz",
                "lungs": f"{k}_lungs.nii.gz",
                "density": round(float(amount), 4),
                "sick": "sick" if amount > 0.5 else "well",
                "age": 50 + (k * 7) % 23,
            }
        )
    pd.DataFrame(rows).to_csv(folder / "cohort.csv", index=False)
    labels = sitk.GetArrayFromImage(trunk(100, 0.0)[1])
    atlas = build_atlas(Mask(labels, Frame(SHAPE, (SPACING,) * 3, (0.0, 0.0, 0.0))), patch_size=16, step=30)
    account = preprocess(folder / "cohort.csv", folder / "study", atlas, "given", progress=False)
    assert not account.failures
    torch.manual_seed(0)
    model = Model(ModelConfig(patch_size=16, feature_size=32), atlas.location_codes)
    study = Study.open(folder / "study")
    # Without this, a fresh network's features hardly differ from person to person.
    mixed = torch.from_numpy(np.concatenate([study.subject(name).patches[::4] for name in study.subject_ids]))
    recalibrate_batchnorm(model.encoder, [mixed], model.encode)
    settings = study.settings.as_dict()
    save_model(model, folder / "model", atlas, preprocessing=settings)
    return Small(folder, folder / "cohort.csv", folder / "study", folder / "model", atlas)


@pytest.fixture(scope="session")
def parts(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that a report can show; tests leave it as it is."""
    return make_parts(small, tmp_path_factory.mktemp("parts"))
