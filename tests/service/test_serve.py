"""A real server in a process of its own, on the loopback device."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import anatograph
from anatograph.errors import UserError
from anatograph.service.upload import scan_of
from anatograph.service.worker import Worker
from fixtures.chest import SeriesWriter
from fixtures.small import Small


@dataclass
class Running:
    """A server."""

    process: subprocess.Popen[str]
    port: int
    folder: Path
    """Where it keeps uploads."""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text.startswith(b"{") else {}

    def uploads(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def server(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("serve")
    words = ["serve", "--model", str(small.model), "--port", "0", "--max-megabytes", "3", "--max-seconds", "900"]
    process = subprocess.Popen(
        [sys.executable, "-m", "anatograph", *words],
        stderr=subprocess.PIPE, encoding="utf-8", env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)/embed", line)
    assert found, line + process.stderr.read()
    yield Running(process, int(found[1]), folder)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert not list(folder.iterdir())


def test_a_scan_gets_the_vector_that_embed_gives_it(server: Running, small: Small, tmp_path: Path) -> None:
    scan = small.folder / "0.nii.gz"
    status, answer = server.ask("POST", "/embed", scan.read_bytes())
    assert status == 200, answer
    expected = anatograph.embed(scan, model=small.model)
    np.testing.assert_allclose(answer["vector"], expected.vector, atol=1e-5 * np.abs(expected.vector).max())
    assert answer["level"] in ("ok", "note", "check", "reject")
    assert answer["quality"]["lungs_volume_ml"] > 0
    assert answer["model"]["atlas_hash"] == small.atlas.hash
    assert base64.b64decode(answer["picture"]).startswith(b"\x89PNG")
    assert server.uploads() == []
    # The same scan as a zip of DICOM files whose names lead out of the folder.
    image = sitk.ReadImage(str(scan))
    slices = SeriesWriter(sitk.GetArrayFromImage(image), image.GetSpacing(), image.GetOrigin()).write(tmp_path / "d")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle:
        for file in slices.iterdir():
            bundle.writestr(f"../../{file.name}", file.read_bytes())
    status, again = server.ask("POST", "/embed", packed.getvalue())
    assert status == 200, again
    np.testing.assert_allclose(again["vector"], answer["vector"], atol=1e-3 * np.abs(answer["vector"]).max())
    assert server.uploads() == []


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "no body"),
        (b"nothing that is a scan" * 100, 422, "not of a supported type"),
        (b"\x1f\x8b" + b"x" * 1000, 422, "damaged"),
        (b"PK\x03\x04" + b"x" * 1000, 422, "cannot be unpacked"),
        (b"x" * 3_000_001, 413, "larger than 3 MB"),
    ],
)
def test_bad_uploads_are_refused(server: Running, body: bytes, status: int, words: str) -> None:
    found, answer = server.ask("POST", "/embed", body)
    assert (found, words in answer["error"]) == (status, True), answer
    assert str(server.folder) not in answer["error"]
    assert server.uploads() == []


def test_an_upload_without_a_length_is_limited_too(server: Running) -> None:
    status, answer = server.ask("POST", "/embed", iter([b"x" * 500_000] * 8))
    assert (status, "larger than 3 MB" in answer["error"]) == (413, True)


def test_web_pages_and_other_host_names_are_refused(server: Running) -> None:
    assert server.ask("POST", "/embed", b"x", Origin="https://example.org")[0] == 403
    assert server.ask("GET", "/health", Host="example.org")[0] == 400
    assert server.ask("GET", "/embed")[0] == 405


def test_health_and_a_killed_worker(server: Running, small: Small) -> None:
    status, before = server.ask("GET", "/health")
    assert (status, before["status"], before["workers"], before["requests"]) == (200, "ok", 1, 0)
    children = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True, check=False)
    for child in children.stdout.split():
        os.kill(int(child), signal.SIGKILL)
    time.sleep(1.0)
    status, answer = server.ask("POST", "/embed", (small.folder / "0.nii.gz").read_bytes())
    assert status == 200, answer  # by a new one
    assert server.ask("GET", "/health")[1]["answered"]["200"] == before["answered"].get("200", 0) + 1


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANATOGRAPH_MAX_SCAN_GB", "0.001")
    with zipfile.ZipFile(tmp_path / "upload", "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("a", b"\0" * 2_000_000)
    with pytest.raises(UserError, match=r"more than 0\.001 GB"):
        scan_of(tmp_path / "upload", tmp_path)


def test_a_scan_that_takes_too_long_ends_its_process(small: Small, tmp_path: Path) -> None:
    worker = Worker(small.model)
    try:
        outcome = worker.embed(small.folder / "0.nii.gz", tmp_path, 0.01)
        assert (outcome.kind, outcome.value) == ("late", "the scan took longer than 0.01 s")
        assert worker.process_id is None
    finally:
        worker.stop()


def test_what_cannot_be_served_is_refused(server: Running, small: Small, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be listened on"):
        anatograph.serve(small.model, port=server.port)
    with pytest.raises(UserError, match="model"):
        anatograph.serve(tmp_path / "none", port=0)
