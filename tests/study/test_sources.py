"""Cohort tables from a folder tree, from a DICOMweb server on the loopback device, and from IDC manifests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import numpy as np
import pydicom
import pytest

from anatograph import cli
from anatograph.errors import UserError
from anatograph.study.archives.build import build_cohort
from anatograph.study.cohort import read_cohort
from anatograph.study.sources import dicomweb
from anatograph.study.sources.rows import unique_identifiers
from fixtures.chest import SeriesWriter

ARRAY = np.full((17, 8, 8), -900, dtype=np.int16)


def series(folder: Path, patient: str, uid: str, slices: int = 17, **tags: Any) -> Path:
    about = {"PatientID": patient, "PatientSex": "F", "PatientAge": "061Y", "ConvolutionKernel": "STANDARD",
             "StudyInstanceUID": f"{uid}.9", **tags}  # fmt: skip
    return SeriesWriter(ARRAY[:slices], tags=about, uid=uid).write(folder)


def test_a_folder_tree(tmp_path: Path) -> None:
    root = tmp_path / "data"
    series(root / "anna" / "CT" / "thin", "A1", "1.2.840.1")
    series(root / "bea" / "study" / "thin", "B1", "1.2.840.2")
    series(root / "bea" / "study" / "scout", "B1", "1.2.840.3", slices=2)
    series(root / "bea" / "study" / "seg", "B1", "1.2.840.4", Modality="SEG")
    (root / "carl").mkdir()
    for name in ("carl.nii.gz", "carl_lungs.nii.gz", "other_seg.nii.gz", "notes.txt"):
        (root / "carl" / name).touch()
    made = build_cohort("folder", root, tmp_path / "cohort.csv")
    cohort = read_cohort(made.path)
    assert cohort.missing_files() == []
    table = cohort.table.set_index("subject_id")
    assert list(table.index) == ["anna", "bea", "carl"]
    assert table.loc["bea", "image"] == "data/bea/study/thin"
    assert table.loc["carl", "lungs"] == "data/carl/carl_lungs.nii.gz"
    assert table.loc["anna", ["patient", "sex", "age", "kernel"]].tolist() == ["A1", "F", 61, "STANDARD"]
    assert "recipe" not in table
    notes = " ".join(made.notes)
    assert "3 scans found, 1 lung mask beside them" in made.notes
    assert "1 file named as masks passed over" in made.notes
    for words in ("1 folder with fewer than 16 CT images", "1 folder of DICOM that is not CT"):
        assert words in notes
    # A second scan of a patient makes names of whole paths, and the note says how to group.
    series(root / "bea" / "study" / "sharp", "B1", "1.2.840.5")
    two = build_cohort("folder", root, tmp_path / "two.csv")
    assert read_cohort(two.path).subject_ids == ["anna_CT_thin", "bea_study_sharp", "bea_study_thin", "carl_carl"]
    assert "--group patient" in " ".join(two.notes)
    assert build_cohort("folder", root, tmp_path / "thin.csv", pattern="*/thin").subjects == 2
    with pytest.raises(UserError, match="no scan that matches"):
        build_cohort("folder", root, tmp_path / "none.csv", pattern="nothing")


def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    series(tmp_path / "archive" / "ct", "P1", "1.2.840.5.1")
    series(tmp_path / "tree" / "own", "P2", "1.2.840.5.2")
    for name, goal in (("a", tmp_path / "archive"), ("b", tmp_path / "archive"), ("again", tmp_path / "tree" / "own"),
                       ("loop", tmp_path / "tree")):  # fmt: skip
        (tmp_path / "tree" / name).symlink_to(goal)
    build_cohort("folder", tmp_path / "tree", tmp_path / "c.csv")
    assert read_cohort(tmp_path / "c.csv").subject_ids == ["a", "own"]


def test_identifiers_are_valid_and_unique() -> None:
    assert unique_identifiers(["a b", "a_b", "a/b", "a_b_2"]) == ["a_b", "a_b_3", "a_b_4", "a_b_2"]
    assert len(set(unique_identifiers(["x" * 70] * 12))) == 12
    assert max(map(len, unique_identifiers(["x" * 70] * 12))) <= 64


class Server(BaseHTTPRequestHandler):
    """QIDO-RS and WADO-RS of the series in ``files``."""

    files: dict[str, list[Path]]
    asked: list[str]
    cut: str = ""
    """Series of which an image is withheld."""
    ignores_offset: bool = False

    def do_GET(self) -> None:
        where = urlparse(self.path)
        self.asked.append(where.path)
        if where.path == "/dicom/series":
            offset = 0 if self.ignores_offset else int(parse_qs(where.query).get("offset", ["0"])[0])
            self.send("application/dicom+json", json.dumps(list(map(self.about, self.files))[offset:]).encode())
            return
        uid = where.path.rsplit("/", 1)[1]
        files = self.files[uid][1:] if uid == self.cut else self.files[uid]
        parts = b"".join(b"--x\r\nContent-Type: application/dicom\r\n\r\n" + f.read_bytes() + b"\r\n" for f in files)
        self.send('multipart/related; type="application/dicom"; boundary=x', parts + b"--x--\r\n")

    def about(self, uid: str) -> dict[str, Any]:
        data = pydicom.dcmread(self.files[uid][0], stop_before_pixels=True)
        keys = ("PatientID", "PatientSex", "StudyInstanceUID", "SeriesInstanceUID", "Modality")
        found = {data[key].tag.json_key: {"vr": data[key].VR, "Value": [str(data[key].value)]} for key in keys}
        return {**found, "00201209": {"vr": "IS", "Value": [len(self.files[uid])]}}

    def send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, type[Server]]]:
    files = {}
    for patient, uid, slices in (
        ("P7", "1.2.840.1", 17),
        ("P7", "1.2.840.2", 17),
        ("P8", "1.2.840.3", 17),
        ("P9", "1.2.840.4", 3),
    ):
        files[uid] = sorted(series(tmp_path / "server" / uid, patient, uid, slices).iterdir())
    handler = type("Mine", (Server,), {"files": files, "asked": []})
    listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listener.server_port}/dicom", handler
    listener.shutdown()
    thread.join()
    listener.server_close()


def test_a_dicomweb_server(
    server: tuple[str, type[Server]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, handler = server
    handler.cut = "1.2.840.3"
    line = ["cohort", "dicomweb", url, str(tmp_path / "c.csv"), "--downloads", str(tmp_path / "scans")]
    assert cli.main(line) == 0
    assert "16 of 17 images arrived" in capsys.readouterr().err
    cohort = read_cohort(tmp_path / "c.csv")
    assert cohort.missing_files() == []
    assert cohort.subject_ids == ["P7", "P7_2"]
    assert cohort.table["patient"].tolist() == ["P7", "P7"]
    assert cohort.table["age"].tolist() == [61, 61]
    assert [len(list(row.image.iterdir())) for row in cohort.rows] == [17, 17]
    assert pydicom.dcmread(next(cohort.rows[0].image.iterdir())).PixelData
    # What is there is not fetched again; what failed is.
    handler.cut, before = "", len(handler.asked)
    assert build_cohort("dicomweb", url, tmp_path / "again.csv", downloads=tmp_path / "scans").subjects == 3
    assert len([path for path in handler.asked[before:] if "1.2.840" in path]) == 1
    with pytest.raises(UserError, match="cannot be searched"):
        build_cohort("dicomweb", "http://127.0.0.1:9/x", tmp_path / "none.csv", downloads=tmp_path / "scans")
    with pytest.raises(UserError, match="needs --downloads"):
        build_cohort("dicomweb", url, tmp_path / "none.csv")


def test_a_server_that_ignores_the_offset_is_searched_once_through(
    server: tuple[str, type[Server]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = server
    handler.ignores_offset = True
    monkeypatch.setattr(dicomweb, "_PAGE", 2)
    assert build_cohort("dicomweb", url, tmp_path / "c.csv", downloads=tmp_path / "scans").subjects == 3
    assert handler.asked.count("/dicom/series") == 2


def test_idc_manifests(tmp_path: Path) -> None:
    downloads = tmp_path / "idc"
    series(downloads / "nlst" / "100002" / "1.2.840.1.9" / "CT_1.2.840.1.5", "100002", "1.2.840.1.5")
    series(downloads / "nlst" / "100004" / "1.2.840.2.9" / "CT_1.2.840.2.5", "100004", "1.2.840.2.5")
    series(downloads / "nlst" / "100004" / "1.2.840.2.9" / "CT_1.2.840.2.6", "100004", "1.2.840.2.6", slices=1)
    table = tmp_path / "manifest.csv"
    table.write_text(
        "collection_id,PatientID,PatientSex,PatientAge,Modality,SeriesInstanceUID,series_aws_url\n"
        "nlst,100002,M,064Y,CT,1.2.840.1.5,s3://x/1/*\nnlst,100004,F,,CT,1.2.840.2.5,s3://x/2/*\n"
        "nlst,100004,F,,CT,1.2.840.2.6,s3://x/3/*\nnlst,100009,F,,CT,1.2.840.3.5,s3://x/4/*\n"
        "nlst,100009,F,,SEG,1.2.840.3.6,s3://x/5/*\n"
    )
    made = build_cohort("idc", table, tmp_path / "c.csv", downloads=downloads)
    cohort = read_cohort(made.path)
    assert cohort.missing_files() == []
    assert cohort.subject_ids == ["100002", "100004"]
    assert cohort.table["sex"].tolist() == ["M", "F"]  # the manifest comes before the header
    assert cohort.table["age"].tolist() == [64, 61]
    assert cohort.table["collection"].tolist() == ["nlst", "nlst"]
    assert "1 series of the manifest are not in" in " ".join(made.notes)
    commands = tmp_path / "manifest.s5cmd"
    commands.write_text("# from the portal\ncp s3://idc-open-data/0a1b/* .\n")
    plain = build_cohort("idc", commands, tmp_path / "d.csv", downloads=downloads)
    assert read_cohort(plain.path).table["patient"].tolist() == [100002, 100004]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"idc download manifest\.csv"):
        build_cohort("idc", table, tmp_path / "e.csv", downloads=tmp_path / "empty")
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no columns PatientID"):
        build_cohort("idc", tmp_path / "wrong.csv", tmp_path / "e.csv", downloads=downloads)
