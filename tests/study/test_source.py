"""Changes of a scan's file or folder are noticed, and nothing else is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from anatograph.study.source import fingerprint, has_changed, same_contents


def dicom(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        dicom(tmp_path / "scan" / "a" / f"{number}.dcm", bytes([number]) * 50)
    return tmp_path / "scan"


@pytest.mark.parametrize("name", ["Thumbs.db", ".DS_Store", "desktop.ini", "._0.dcm", "notes.txt", "a/Thumbs.db"])
def test_files_that_are_no_slices_change_nothing(folder: Path, name: str) -> None:
    known = fingerprint(folder)
    (folder / name).write_bytes(b"x" * 10)
    assert not has_changed(folder, known)


def test_a_slice_that_changes_is_noticed_through_a_link(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "here").symlink_to(folder)
    known = fingerprint(linked)
    assert known["files"] == 3
    dicom(folder / "a" / "1.dcm", b"\x09" * 50)
    assert has_changed(linked, known)


def test_a_slice_that_is_added_or_removed_is_noticed(folder: Path) -> None:
    known = fingerprint(folder)
    added = dicom(folder / "9.dcm", b"9")
    assert has_changed(folder, known)
    added.unlink()
    assert not has_changed(folder, known)
    (folder / "a" / "2.dcm").unlink()
    assert has_changed(folder, known)


def test_fingerprints_of_older_versions_hold(folder: Path) -> None:
    (folder / "readme.txt").write_text("hello", encoding="utf-8")
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):  # every file, links not followed
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    assert not has_changed(folder, {"files": 0, "bytes": 0, "modified_ns": 0, "digest": digest.hexdigest()})


def test_names_that_are_not_utf8_have_a_fingerprint(folder: Path) -> None:
    (folder / "a" / "0.dcm").rename(os.fsdecode(os.fsencode(folder / "a") + b"/Schnitt_\xfc.dcm"))
    known = fingerprint(folder)
    assert known["files"] == 3
    assert not has_changed(folder, known)


def test_one_scan_under_other_names_has_the_same_contents(folder: Path, tmp_path: Path) -> None:
    for number in range(3):
        dicom(tmp_path / "copy" / f"slice{9 - number}", bytes([number]) * 50)
    assert same_contents(folder) == same_contents(tmp_path / "copy")
    dicom(tmp_path / "copy" / "slice9", b"other" * 10)
    assert same_contents(folder) != same_contents(tmp_path / "copy")
