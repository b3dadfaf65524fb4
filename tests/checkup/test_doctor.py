"""What `doctor` finds in an installation and in a cohort, by headers alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from anatograph.checkup.cohort import look_at_cohort
from anatograph.checkup.findings import BROKEN, GOOD, POOR, Finding
from anatograph.checkup.installation import doctor
from anatograph.errors import UserError


def _scan(path: Path, shape: tuple[int, int, int] = (20, 24, 24), spacing: float = 3.0) -> Path:
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(-1000, 400, shape).astype(np.int16))
    image.SetSpacing((2.0, 2.0, spacing))
    sitk.WriteImage(image, str(path))
    return path


def _by_subject(findings: list[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.subject_id, []).append(finding)
    return found


def test_every_fault_of_a_cohort_at_once(tmp_path: Path) -> None:
    _scan(tmp_path / "good.nii.gz")
    _scan(tmp_path / "coarse.nrrd", spacing=12.0)
    _scan(tmp_path / "thin.mha", (10, 24, 24))
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.nii")
    rows = [
        *("subject_id,image,lungs", "good,good.nii.gz,", "coarse,coarse.nrrd,", "thin,thin.mha,"),
        *("empty,empty.nii.gz,", "folder,folder,", "pipe,pipe.nii,", "gone,gone.nii,"),
        *("twin,good.nii.gz,empty.nii.gz", "../x,good.nii.gz,"),
    ]
    (tmp_path / "cohort.csv").write_text("\n".join(rows) + "\n")
    findings = list(look_at_cohort(tmp_path / "cohort.csv"))
    found = _by_subject(findings)
    assert {name: one[0].status for name, one in found.items() if name} == dict.fromkeys(
        ["coarse", "thin", "empty", "folder", "pipe", "twin"], POOR
    )
    assert "12 mm apart" in found["coarse"][0].what
    assert "only 10 slices" in found["thin"][0].what
    texts = [str(finding) for finding in findings]
    assert any("good, twin have the same scan" in text for text in texts)
    assert any("row 7 (gone)" in text and "does not exist" in text for text in texts)
    assert any(finding.status == BROKEN and "row 9" in finding.what for finding in findings)
    assert any("2 of 8 scans are sound" in text for text in texts)
    assert all(finding.fix for finding in findings if finding.status != GOOD)


def test_a_table_none_of_whose_scans_is_there(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_text("subject_id,image\na,x.nii\n")
    assert max(finding.status for finding in look_at_cohort(tmp_path / "cohort.csv")) == BROKEN
    with pytest.raises(UserError, match="does not exist"):
        list(look_at_cohort(tmp_path / "other.csv"))


def test_the_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANATOGRAPH_LUNGMASK_WEIGHTS", str(tmp_path / "gone.pth"))
    findings = doctor()
    assert not [finding for finding in findings if finding.status == BROKEN]
    (weights,) = [finding for finding in findings if "gone.pth" in finding.what]
    assert weights.status == POOR
    assert weights.to_dict() == {"status": "look", "what": weights.what, "fix": weights.fix}
    what = " ".join(finding.what for finding in findings)
    for word in ("Python", "torch", "thread", "GPU", "disk", "memory", "atlas", "lungmask"):
        assert word in what
