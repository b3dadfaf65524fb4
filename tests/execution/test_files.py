"""Files and output folders: whole or unchanged, and never somebody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anatograph.errors import UserError
from anatograph.execution.files import replace_folder, whole_file, write_text
from anatograph.execution.folders import claim_folder, refuse_foreign


def test_a_file_is_replaced_only_when_its_writer_succeeds(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    write_text(file, "old\n")
    with pytest.raises(RuntimeError, match="half"), whole_file(file, ".csv") as part:  # noqa: PT012
        part.write_text("ne", encoding="utf-8")
        assert part.suffix == ".csv"
        raise RuntimeError("half")
    assert file.read_text(encoding="utf-8") == "old\n"
    write_text(file, "new\n")
    assert file.read_text(encoding="utf-8") == "new\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("old", "fresh"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").touch()
    replace_folder(tmp_path / "fresh", tmp_path / "old")
    assert [str(entry.relative_to(tmp_path)) for entry in tmp_path.rglob("*")] == ["old", "old/fresh.txt"]


def test_an_output_folder_belongs_to_one_kind_of_run_with_one_set_of_settings(tmp_path: Path) -> None:
    settings = {"seed": 1, "scan": {"spacing": [1.0, 2.0], "sex": "f"}, "labels": "ab12"}
    out = tmp_path / "out"
    claim_folder(out, "mark.json", settings, "a demo")
    claim_folder(out, "mark.json", settings, "a demo")
    assert json.loads((out / "mark.json").read_text(encoding="utf-8")) == settings
    other = {**settings, "scan": {"spacing": [1.0, 3.0], "sex": "f"}, "labels": "cd34"}
    with pytest.raises(UserError) as refused:
        claim_folder(out, "mark.json", other, "a demo", {"labels": "other labels"})
    assert "(spacing [1.0, 2.0], not [1.0, 3.0]; other labels)" in str(refused.value)
    with pytest.raises(UserError, match="is not empty and does not hold a study"):
        refuse_foreign(out, "a study")
    refuse_foreign(out, "a study", lambda entry: entry.suffix == ".json")
    with pytest.raises(UserError, match="is a file"):
        refuse_foreign(out / "mark.json", "a study")
    (out / "mark.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read"):
        claim_folder(out, "mark.json", settings, "a demo")
