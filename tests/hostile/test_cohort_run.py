"""A cohort of good and bad scans through the command: the run continues, and reports each as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pydicom

from anatograph.anatomy.atlas import save_atlas
from anatograph.imaging.writing import write_mask
from hostile import chests, dicoms, files, mixtures, values
from hostile.material import person, save, series
from hostile.outcome import small_atlas

SECRET = "Zyxwvu^Qponml"
NAMED = ("PatientName", "PatientID", "SeriesDescription", "StudyDescription", "InstitutionName", "AccessionNumber",
         "ReferringPhysicianName", "PatientComments", "ProtocolName")  # fmt: skip


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "anatograph", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=600, check=False)


def test_good_and_bad_together(tmp_path: Path) -> None:
    save_atlas(small_atlas(), tmp_path / "atlas")
    builders = {
        "empty": files.empty, "bomb": files.bomb, "giant": files.giant_nifti, "reach": files.reaching,
        "pipe": files.pipe, "four": values.four, "shifted": dicoms.shifted, "mr": mixtures.magnet, "head": chests.head,
    }  # fmt: skip
    rows = []
    for name, build in builders.items():
        (tmp_path / name).mkdir()
        rows.append((name, os.path.relpath(build(tmp_path / name), tmp_path), ""))
    (tmp_path / "good").mkdir()
    save(tmp_path / "good", person().volume.array)
    write_mask(tmp_path / "good" / "lungs.nii.gz", person().lungs)
    rows.append(("good", "good/scan.nii.gz", "good/lungs.nii.gz"))
    # A person's name in every field that takes one: it must not come out anywhere.
    named = dict.fromkeys(NAMED, SECRET)
    hu = person().volume.array
    spacing = person().volume.frame.spacing
    series(tmp_path / "named", hu, spacing=spacing, origin=person().volume.frame.origin, tags=named)
    series(tmp_path / "named" / "scout", hu[:1], uid="1.2.9", tags={**named, "ImageType": ["ORIGINAL", "LOCALIZER"]})
    write_mask(tmp_path / "named_lungs.nii.gz", person().lungs)
    rows.append(("named", "named", "named_lungs.nii.gz"))
    table = pd.DataFrame(rows, columns=["subject_id", "image", "lungs"])
    table.to_csv(tmp_path / "cohort.csv", index=False)

    done = run("preprocess", tmp_path / "cohort.csv", tmp_path / "study", "--atlas", tmp_path / "atlas")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    failures = pd.read_csv(tmp_path / "study" / "failures.csv")
    assert sorted(failures["subject_id"]) == sorted(builders)
    assert {folder.name for folder in (tmp_path / "study" / "subjects").iterdir()} == {"good", "named"}
    reasons = dict(zip(failures["subject_id"], failures["reason"], strict=True))
    assert "unpacks to far more" in reasons["bomb"]
    assert "more than 4 GB is not read" in reasons["giant"]
    assert "from a file elsewhere" in reasons["reach"]
    assert "no element where one should begin" in reasons["shifted"]
    assert not any("unexpected" in reason for reason in reasons.values())
    account = json.loads((tmp_path / "study" / "preprocess.run.json").read_text(encoding="utf-8"))
    assert {failure["subject_id"] for failure in account["failures"]} == set(builders)

    pages = [done.stdout, done.stderr]
    page = run("report", tmp_path / "study", "--out", tmp_path / "report.html")
    assert page.returncode == 0, page.stderr
    pages += [page.stdout, page.stderr, (tmp_path / "report.html").read_text(encoding="utf-8")]
    for file in (tmp_path / "study").rglob("*"):
        if file.is_file():
            pages.append(file.read_bytes().decode("latin-1"))
    for text in pages:
        assert "Zyxwvu" not in text
        assert "Qponml" not in text

    # What is refused for its names says the fields; and nobody else is refused for them.
    refused = run("preprocess", tmp_path / "cohort.csv", tmp_path / "strict", "--atlas", tmp_path / "atlas",
                  "--deidentified-only")  # fmt: skip
    assert refused.returncode == 1
    strict = pd.read_csv(tmp_path / "strict" / "failures.csv").set_index("subject_id")["reason"]
    assert "still identify the subject" in strict["named"]
    assert "PatientName" in strict["named"]
    assert "Zyxwvu" not in refused.stderr
    assert "good" not in strict.index

    found = run("doctor", tmp_path / "cohort.csv", "--json")
    assert found.returncode == 1, found.stdout
    findings = json.loads(found.stdout)
    flagged = {finding.get("subject_id") for finding in findings if finding["status"] != "ok"}
    assert flagged >= {"empty", "giant", "reach", "pipe", "four", "shifted", "mr"}
    assert "good" not in flagged
    assert "Zyxwvu" not in found.stdout
    assert pydicom.dcmread(next((tmp_path / "named").glob("*.dcm"))).PatientName == SECRET
