"""The page: it says what matters first, needs nothing from outside, and works in a real browser."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import chromium
import numpy as np
import pandas as pd
import pytest
from small_places import Small

from anatograph import cli
from anatograph.analysis.embed import embed
from anatograph.analysis.explain import explain
from anatograph.analysis.probe import evaluate
from anatograph.analysis.projection import project
from anatograph.analysis.report import report
from anatograph.errors import UserError


@pytest.fixture(scope="module")
def parts(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a failure, a run's figures, embeddings, an evaluation and an explanation."""
    folder = tmp_path_factory.mktemp("parts")
    shutil.copytree(small.study, folder / "study")
    failure = "subject_id,stage,reason\n<b>x</b>,read,<script>alert(1)</script> is no scan\n"
    (folder / "study" / "failures.csv").write_text(failure)
    embed(folder / "study", folder / "emb", model=small.model)
    evaluate(folder / "emb", small.cohort, ["density", "sick"], out=folder / "evaluation")
    explain(folder / "study", folder / "emb.parquet", small.cohort, "density", "p11", folder / "explanations")
    (folder / "run").mkdir()
    steps = np.arange(1, 21)
    levels = np.where(steps <= 10, "patch", "graph")
    figures = pd.DataFrame({"step": steps, "level": levels, "loss": 5 / steps, "accuracy": steps / 40})
    figures.to_csv(folder / "run" / "metrics.csv", index=False)
    return folder


def build(parts: Path, small: Small, out: Path) -> Path:
    return report(
        parts / "study",
        out,
        parts / "run",
        parts / "emb.parquet",
        parts / "evaluation",
        parts / "explanations",
        small.cohort,
    )


def test_the_page_holds_everything_and_needs_nothing(parts: Path, small: Small, tmp_path: Path) -> None:
    page = build(parts, small, tmp_path / "report.html").read_text(encoding="utf-8")
    body = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    titles = re.findall(r"<h2>(.*?)</h2>", body)
    assert titles == [
        "Overview",
        "Failures and flags",
        "Cohort",
        "Pretraining",
        "Map of subjects",
        "Evaluation",
        "Explanations",
        "Quality control",
        "Settings and versions",
    ]
    assert body.count('<figure class="card') == 12 + 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt; is no scan" in body
    assert "alert(1)</script> is" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", body)
    assert str(small.folder) not in page
    assert len(page) < 12e6
    results = pd.read_csv(parts / "evaluation" / "results.csv")
    assert all(f"{value:.3f}" in body for value in results["mean"])
    assert "Only 12 people" in body


def test_parts_may_be_left_out_and_strangers_are_refused(parts: Path, small: Small, tmp_path: Path) -> None:
    assert cli.main(["report", str(parts / "study"), "--out", str(tmp_path / "page.html")]) == 0
    assert "Pretraining" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (tmp_path / "page.run.json").is_file()
    with pytest.raises(UserError, match=r"ends in \.html"):
        report(parts / "study", tmp_path / "page.pdf")
    for part in ("run", "evaluation", "explanations"):
        with pytest.raises(UserError, match="holds no"):
            report(parts / "study", tmp_path / "other.html", **{part: tmp_path})
    assert not (tmp_path / "other.html").exists()


def test_without_plotly_the_map_is_a_picture(
    parts: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.graph_objects", None)
    page = build(parts, small, tmp_path / "static.html").read_text(encoding="utf-8")
    assert "<script" not in page.replace("&lt;script", "")
    assert 'alt="subjects by their embeddings"' in page


def test_the_plane_is_repeatable_and_keeps_what_differs() -> None:
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (20, 10))
    x[:10] += 6
    plane, method = project(x)
    assert "principal components" in method
    assert (project(x)[0] == plane).all()
    assert abs(plane[:10, 0].mean() - plane[10:, 0].mean()) > 3 * plane[:10, 0].std()


def test_in_a_browser(parts: Path, small: Small, tmp_path: Path) -> None:
    browser = chromium.find()
    if browser is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    pytest.importorskip("plotly", reason="the interactive map needs the extra 'report'")
    page = build(parts, small, tmp_path / "report.html")
    seen = chromium.visit(
        browser,
        page,
        [
            "Array.from(document.images).every(image => image.loading == 'lazy' || image.naturalWidth > 0)",
            "document.querySelectorAll('#subject-map .point').length",
            "JSON.stringify(document.getElementById('subject-map').data.map(t => t.visible))",
            """(async () => {
                const map = document.getElementById('subject-map');
                const button = map.layout.updatemenus[0].buttons.find(b => b.label == 'sick');
                await Plotly.update(map, {visible: button.args[0].visible});
                return map.data.filter(t => t.visible).map(t => t.name).join(';');
            })()""",
            "document.documentElement.scrollWidth <= window.innerWidth",
        ],
        tmp_path / "profile",
        tmp_path / "page.png",
    )
    assert seen.errors == []
    assert [url for url in seen.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert [url for url in seen.requests if url.startswith("file:")] == [page.resolve().as_uri()]
    images, dots, visible, named, fits = seen.answers
    assert images
    assert dots == 12
    assert visible.count("true") == 1
    assert named == "sick = sick;sick = well"
    assert fits
    assert (tmp_path / "page.png").stat().st_size > 20_000
