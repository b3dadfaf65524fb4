"""The model that ships: it gives a phantom the vector it gave when it was released, and says what is unusual in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import anatograph
from anatograph.imaging.writing import write_volume
from anatograph.learning.releases.shipped import default_release
from anatograph.phantoms import PhantomSettings, make_subject

PINNED = Path(__file__).parent / "pinned"
RELEASE = default_release()

pytestmark = pytest.mark.skipif(RELEASE is None, reason="this source tree ships no model yet")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert RELEASE is not None
    about = json.loads((PINNED / f"{RELEASE.name}.json").read_text(encoding="utf-8"))["phantom"]
    subject = make_subject(about["seed"], about["index"], PhantomSettings(spacing_mm=about["spacing_mm"]))
    path = tmp_path_factory.mktemp("pinned") / "phantom.nii.gz"
    write_volume(path, subject.volume)
    return path


def test_a_phantom_has_the_vector_of_the_release(scan: Path) -> None:
    assert RELEASE is not None
    expected = np.array(json.loads((PINNED / f"{RELEASE.name}.json").read_text(encoding="utf-8"))["vector"])
    one = anatograph.embed(scan)
    assert one.subject.shape == expected.shape
    np.testing.assert_allclose(one.subject, expected, atol=1e-3)


@pytest.mark.slow
def test_one_scan_against_the_reference_in_the_package(scan: Path, tmp_path: Path) -> None:
    done = anatograph.deviation(scan, out=tmp_path / "maps")
    (found,) = done.found
    assert "healthy phantoms" in found.reference
    assert found.reference_size >= 30
    assert 0 <= found.share <= 1
    assert done.maps[0].is_file()
