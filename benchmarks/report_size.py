"""Size of the report's page, and how fast a browser opens it, for cohorts of growing size.

    python benchmarks/report_size.py [--subjects 100 1000] [--study STUDY] [--keep DIR]

A few phantoms on the bundled atlas (or the subjects of ``--study``) are linked under many names; a table, vectors of
three clusters and predictions are random, and two subjects have maps.  The slices of a subject are rendered once,
however many names it has; the rendering time is reported for each.  Times are processor seconds for rendering, and wall
seconds, in the system's Chromium without a graphics card: until the page is loaded, from the moment that the map of
subjects comes into sight until it is drawn, and likewise for the viewer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anatograph.embedding.table import write_embeddings
from anatograph.explanation.painting import paint
from anatograph.imaging.volume import Volume
from anatograph.imaging.writing import write_array
from anatograph.phantoms.api import phantom
from anatograph.reporting import cards as drawings
from anatograph.reporting import report
from anatograph.study.preprocess import preprocess
from anatograph.study.store import Study

PHANTOMS = 6
SECONDS: list[float] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--study", type=Path, help="study to use instead of phantoms")
    parser.add_argument("--keep", type=Path, help="keep the pages in this folder")
    options = parser.parse_args()
    sys.modules["umap"] = None  # type: ignore[assignment]  # its time is not part of the page's
    draw_once()
    print("| subjects | page | opened in | map after | viewer after | memory of scripts | drawing a subject |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = Study.open(options.study or few(folder))
        for count in options.subjects:
            place = folder / str(count)
            parts = many(source, place, count)
            page = (options.keep or place) / f"report-{count}.html"
            report(out=page, **parts)
            load, plot, viewer, heap = opened(page)
            megabytes, each = page.stat().st_size / 1e6, np.mean(SECONDS)
            print(
                f"| {count} | {megabytes:.1f} MB | {load:.1f} s | {plot:.1f} s | {viewer:.1f} s | {heap:.0f} MB "
                f"| {each:.2f} s |",
                flush=True,
            )


def draw_once() -> None:
    """Render the slices of each subject once, and record how long that takes."""
    draw, known = drawings._slices, {}

    def remembered(subject: Any, *others: Any) -> Any:
        whose = (subject.folder / "subject.json").resolve()
        if whose not in known:
            begin = time.process_time()
            known[whose] = draw(subject, *others)
            SECONDS.append(time.process_time() - begin)
        return known[whose]

    drawings._slices = remembered


def few(folder: Path) -> Path:
    table = phantom(folder / "cohort", PHANTOMS, seed=1, spacing=2.5, progress=False)
    preprocess(table, folder / "study", progress=False)
    return folder / "study"


def many(source: Study, folder: Path, count: int) -> dict[str, Any]:
    """A study of ``count`` links to the subjects of another, and everything that a report can show of it."""
    random = np.random.default_rng(0)
    study = Study.create(folder / "study", source.atlas, source.settings)
    names = [f"subject-{k:04d}" for k in range(count)]
    for name, known in zip(names, (source.subject_ids * (count // len(source) + 1)), strict=False):
        (study.path / "subjects" / name).mkdir()
        for file in source.subject(known).folder.iterdir():
            (study.path / "subjects" / name / file.name).symlink_to(file.resolve())
    study.refresh()
    groups = random.integers(0, 3, count)
    features = random.normal(0, 1, (count, 128)) + 2 * random.normal(0, 1, (3, 128))[groups]
    write_embeddings(folder / "vectors", names, features.astype(np.float32))
    table = pd.DataFrame({"subject_id": names, "image": "none.nii.gz", "group": groups.astype(str)})
    for k in range(30):
        table[f"measure_{k}"] = random.normal(0, 1, count).round(4) + groups
    table.to_csv(folder / "cohort.csv", index=False)
    tests = folder / "evaluation"
    tests.mkdir()
    rows = [(name, "r2", 0.5, 0.1, 5, count) for name in table.columns[3:6]]
    pd.DataFrame(rows, columns=["target", "metric", "mean", "std", "folds", "n"]).to_csv(tests / "results.csv")
    drawn = [
        pd.DataFrame(
            {"target": name, "subject_id": names, "truth": table[name], "prediction": table[name] * 0.5 + groups}
        )
        for name in table.columns[3:6]
    ]
    pd.concat(drawn).to_parquet(tests / "predictions.parquet")
    maps = folder / "maps"
    for name in names[:2]:
        subject = study.subject(name)
        values = random.uniform(0.1, 0.9, len(subject.landmarks))
        lungs = subject.lungs()
        heat = paint(values, subject.landmarks, study.atlas.patch_size, lungs.lungs, lungs.frame)
        empty = np.broadcast_to(np.int16(0), subject.frame.shape)
        write_array(maps / f"{name}_measure_0.nii.gz", heat, Volume(empty, subject.frame, subject.stored_frame))
    run = folder / "run"
    run.mkdir()
    steps = np.arange(20_000)
    levels = np.where(steps % 2, "patch", "graph")
    pd.DataFrame({"step": steps, "level": levels, "loss": 8 / (1 + steps / 5000)}).to_csv(run / "metrics.csv")
    return {
        "study": study.path,
        "run": run,
        "embeddings": folder / "vectors.parquet",
        "evaluation": tests,
        "explanations": maps,
        "cohort": folder / "cohort.csv",
    }


def opened(page: Path) -> tuple[float, float, float, float]:
    """Seconds until the page is loaded, the map of subjects drawn and the viewer shown; megabytes of its scripts."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        tab.set_default_timeout(600_000)
        begin = time.perf_counter()
        tab.goto(page.resolve().as_uri())
        load = time.perf_counter() - begin
        begin = time.perf_counter()
        tab.locator("#subject-map").scroll_into_view_if_needed()
        tab.locator("#subject-map.js-plotly-plot .points").first.wait_for(state="attached")
        plot = time.perf_counter() - begin
        begin = time.perf_counter()
        tab.locator("#viewer").scroll_into_view_if_needed()
        tab.locator('#v-canvas[aria-busy="false"]').wait_for()
        viewer = time.perf_counter() - begin
        heap = float(tab.evaluate("performance.memory.usedJSHeapSize")) / 1e6
        browser.close()
    return load, plot, viewer, heap


if __name__ == "__main__":
    main()
