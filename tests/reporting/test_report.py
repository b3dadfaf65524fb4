"""The page: what matters comes first, it needs nothing from outside, and parts not given are left out."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anatograph import cli
from anatograph.errors import UserError
from anatograph.reporting import report
from anatograph.reporting.cards import cards
from anatograph.reporting.projection import project
from anatograph.reporting.redaction import Discretion
from anatograph.reporting.sections.benchmark import benchmark
from anatograph.reporting.sections.evaluation import evaluation
from anatograph.reporting.sections.training import training
from anatograph.study.store import Study
from fixtures.report_parts import build
from fixtures.small import Small

SECTIONS = [
    "Overview", "Quality", "Cohort", "Pretraining", "Map of subjects", "Evaluation", "Benchmark", "Viewer",
    "Methods", "Settings and versions",
]  # fmt: skip


def body_of(page: str) -> str:
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)


def test_the_page_holds_everything_and_needs_nothing(parts: Path, small: Small, tmp_path: Path) -> None:
    page = build(parts, small, tmp_path / "report.html").read_text(encoding="utf-8")
    body = body_of(page)
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", body) == SECTIONS
    assert body.index("Failed") < body.index("<h3>Subjects")
    assert body.count('<li class="card') == 12
    assert body.count('alt="coronal slice of') == body.count('alt="sagittal slice of') == 12
    assert "Stored patches only" not in body
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", body)
    assert str(small.folder) not in page
    assert len(page) < 5e6
    results = pd.read_csv(parts / "evaluation" / "results.csv")
    assert all(f"{value:.3f}" in body for value in results["mean"])
    assert "Only 12 subjects" in body
    assert re.search(r"<th scope=\"row\">ours</th><td data-label=\"r2\" class=\"n\"><b>0.900 ± 0.020</b>", body)


def test_texts_are_text(parts: Path, small: Small, tmp_path: Path) -> None:
    """Whatever a table or a message holds is shown as it is and never run."""
    evil = "<script>alert(1)</script>"
    table = small.table()
    table[evil] = np.where(table["sick"] == "sick", "<img src=x onerror=alert(2)>", "</script><b>")
    table.to_csv(tmp_path / "evil.csv", index=False)
    page = build(
        parts, small, tmp_path / "evil.html", cohort=tmp_path / "evil.csv", title=evil, identities=True
    ).read_text(encoding="utf-8")
    body = body_of(page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; is no scan" in body
    assert "<title>&lt;script&gt;alert(1)&lt;/script&gt; – Anatograph" in body
    assert "alert(1)</script>" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(2)&gt;: 6" in body
    data = json.loads(re.findall(r'id="data-map">(.*?)</script>', page)[0])
    assert evil in [column["name"] for column in data["columns"]]


def test_parts_may_be_left_out_and_wrong_folders_are_refused(
    parts: Path, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(parts / "study"), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Pretraining" not in page
    assert "plotly" not in page.lower()
    assert len(page) < 1e6
    assert (tmp_path / "page.run.json").is_file()
    with pytest.raises(UserError, match=r"ends in \.html"):
        report(parts / "study", tmp_path / "page.pdf")
    for part in ("run", "evaluation", "explanations", "benchmark"):
        with pytest.raises(UserError, match="holds no"):
            report(parts / "study", tmp_path / "other.html", **{part: tmp_path})
    with pytest.raises(UserError, match="no subject 'nobody'"):
        report(parts / "study", tmp_path / "other.html", subjects=["nobody"])
    assert not (tmp_path / "other.html").exists()
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "results.csv").write_text("a,b\n1,2\n")
    line = ["report", str(parts / "study"), "--evaluation", str(tmp_path / "evaluation")]
    assert cli.main([*line, "--out", str(tmp_path / "x.html")]) == 2
    assert "lacks the columns target, metric" in capsys.readouterr().err


def test_a_page_that_would_grow_too_large_says_what_it_left_out(parts: Path, small: Small, tmp_path: Path) -> None:
    out = build(parts, small, tmp_path / "small.html", most_bytes=2e6)  # about what the scripts take
    body = body_of(out.read_text(encoding="utf-8"))
    assert "P11 is not in the viewer, as the page would grow too large" in body
    assert "12 of 12 subjects have no picture, as the page would grow too large" in body
    assert out.stat().st_size < 2e6 + 200e3
    notes = json.loads((tmp_path / "small.run.json").read_text(encoding="utf-8"))["notes"]
    assert any("grow too large" in note for note in notes)


def test_pictures_grow_smaller_before_they_are_left_out(small: Small) -> None:
    study = Study.open(small.study)

    def drawn(budget: float) -> tuple[int, int, list[str]]:
        made, notices = cards(study, {}, Discretion(), budget)
        return sum(p.size for card in made for p in card.pictures), sum(bool(card.pictures) for card in made), notices

    best, shown, notices = drawn(1e6)
    assert (shown, notices) == (12, [])
    markup = 12 * 2200
    size, shown, notices = drawn(markup + 0.85 * best)
    assert (shown, notices) == (12, [])
    assert size < 0.85 * best
    size, shown, notices = drawn(markup + 0.1 * best)
    assert 0 < size <= 0.1 * best
    assert notices == [f"{12 - shown} of 12 subjects have no picture, as the page would grow too large"]


def test_curves_and_tables_say_what_lies_on_disk(parts: Path, tmp_path: Path) -> None:
    steps = np.arange(4000)
    pd.DataFrame({"step": steps, "level": "patch", "loss": 8 - steps / 1000.0}).to_csv(tmp_path / "metrics.csv")
    (figure,) = training(tmp_path).figures
    assert figure.layout["xaxis"]["title"]["text"] == "update"
    assert "means of 5 rows" in figure.caption
    (curve,) = figure.traces
    assert len(curve["x"]) == 800
    np.testing.assert_allclose(curve["y"], 8 - np.array(curve["x"]) / 1000, atol=1e-3)

    found = evaluation(parts / "evaluation", Discretion())
    predictions = pd.read_parquet(parts / "evaluation" / "predictions.parquet")
    held = predictions[predictions["target"] == "density"]
    points = found.scatter[0].traces[-1]
    np.testing.assert_allclose(points["x"], held["truth"], rtol=1e-4)
    (confusion,) = found.confusion
    counts = np.array([[int(cell.split()[0]) for cell in row[1:]] for row in confusion.rows])
    right = predictions[predictions["target"] == "sick"]
    assert counts.sum() == len(right)
    assert np.trace(counts) == (right["truth_class"] == right["predicted_class"]).sum()

    rows = [("ours", "x", "r2", 0.5, 0.1), ("rival", "x", "r2", 0.7, 0.1), ("ours", "x", "mae", 2.0, 0.2),
            ("rival", "x", "mae", 3.0, float("nan"))]  # fmt: skip
    pd.DataFrame(rows, columns=["method", "target", "metric", "mean", "std"]).to_csv(tmp_path / "results.csv")
    found_there = benchmark(tmp_path)
    (table,) = found_there.tables
    assert table.header == ("method", "r2", "mae")
    assert table.rows == (("ours", "0.500 ± 0.100", "2.000 ± 0.200"), ("rival", "0.700 ± 0.100", "3.000"))
    assert table.best == {(1, 1), (0, 2)}  # more explained, less error


def test_the_plane_is_repeatable_and_keeps_what_differs() -> None:
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (20, 10))
    x[:10] += 6
    found = project(x)
    plane = found.points
    assert "of the variance" in found.axes[0]
    assert (project(x).points == plane).all()
    assert abs(plane[:10, 0].mean() - plane[10:, 0].mean()) > 3 * plane[:10, 0].std()


def test_the_viewer_that_ships_is_the_one_that_was_published() -> None:
    folder = Path(cli.__file__).parents[1] / "reporting" / "static" / "niivue"
    wanted, name = (folder / "SHA256SUMS").read_text(encoding="utf-8").split()
    assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == wanted
    assert "BSD 2-Clause" in (folder / "LICENSE").read_text(encoding="utf-8")
