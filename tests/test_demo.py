"""The demo, with less training, from nothing to its page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from anatograph.cli.command import inputs
from anatograph.cli.commands.start import Demo
from anatograph.demonstration import SUBJECTS, demo
from anatograph.errors import UserError

SHORT = ("epochs=1", "patch_steps=1", "graph_rounds=1", "bank_views=2", "patch_batch=16", "workers=0")


@pytest.mark.slow
def test_the_whole_pipeline(tmp_path: Path) -> None:
    printed: list[str] = []
    page = demo(tmp_path / "demo", subjects=10, workers=1, say=printed.append, training=SHORT, step=90)
    assert page == tmp_path / "demo" / "report.html"
    assert [line[:5] for line in printed] == [f"[{k}/8]" for k in range(1, 9)]
    results = pd.read_csv(tmp_path / "demo" / "evaluation" / "results.csv")
    assert set(results["target"]) <= {"emphysema_extent", "ground_glass_extent", "diagnosis", "GOLD"}
    assert len(pd.read_parquet(tmp_path / "demo" / "embeddings.parquet")) == 10
    compared = pd.read_csv(tmp_path / "demo" / "benchmark" / "results.csv")
    assert {"trained-here", "densitometry"} <= set(compared["method"])
    assert len(list((tmp_path / "demo" / "explanations").glob("*.nii.gz"))) == 2
    before = results.copy()
    again = demo(tmp_path / "demo", subjects=10, workers=1, say=printed.append, training=SHORT, step=90)
    assert again == page
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "demo" / "evaluation" / "results.csv"), before)
    with pytest.raises(UserError, match="other settings"):
        demo(tmp_path / "demo", subjects=11, say=printed.append, training=SHORT, step=90)


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="does not hold a demo"):
        demo(tmp_path)
    with pytest.raises(UserError, match="at least 10 subjects"):
        demo(tmp_path / "new", subjects=3)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_help_names_the_default() -> None:
    assert inputs(Demo)["subjects"][0].unset == str(SUBJECTS)
