"""The page in a real browser: quiet, offline, and doing what its controls say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from chromium import SOFTWARE_WEBGL, Visit, coloured, driver, launched, opened, pixels

from fixtures.report_parts import SHOWN, build
from fixtures.small import Small

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with driver() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    with launched(playwright, *SOFTWARE_WEBGL) as running:
        yield running


@pytest.fixture(scope="module")
def page(parts: Path, small: Small, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(parts, small, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def visit(page: Path, browser: Browser) -> Iterator[Visit]:
    with opened(browser, page) as seen:
        yield seen


def draw_plots(visit: Visit) -> None:
    """Plots are drawn when they come into sight."""
    for plot in visit.page.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        plot.locator(".main-svg").first.wait_for()


def test_it_loads_without_errors_or_requests(visit: Visit, page: Path) -> None:
    draw_plots(visit)
    assert visit.page.locator(".js-plotly-plot").count() == 7  # loss, accuracy, map, two scores, density, benchmark
    assert visit.page.evaluate("[...document.images].every(i => i.loading === 'lazy')")
    assert (
        visit.page.evaluate(
            "Promise.all([...document.images].map(i => (i.loading = 'eager', i.decode()))).then(all => all.length)"
        )
        == len(visit.page.locator("img").all())
        > 36
    )
    slices = visit.page.locator("#cards .slice").first
    slices.scroll_into_view_if_needed()
    assert pixels(slices).std() > 20  # the slice is there, not a blank
    captions = visit.page.locator("figure.chart figcaption").all_inner_texts()
    numbers = [*range(1, 8), 10]  # the flow of scans first; 8 and 9 are pictures
    assert [text.split(".")[0] for text in captions] == [f"Figure {k}" for k in numbers]
    assert visit.page.get_by_text("Share chart").count() == 0
    assert visit.page.locator(".modebar").count() == 0  # Plotly's own buttons, one of which needs a network
    quiet(visit, page)


def test_a_figure_and_its_data_can_be_saved(visit: Visit, parts: Path, tmp_path: Path) -> None:
    draw_plots(visit)
    figure = visit.page.locator('figure[data-figure="scatter-density"]')
    with visit.page.expect_download() as saved:
        figure.get_by_role("button", name="Data (CSV)").click()
    saved.value.save_as(tmp_path / "data.csv")
    table = pd.read_csv(tmp_path / "data.csv")
    points = table[table["series"] == "subjects"]
    held = pd.read_parquet(parts / "evaluation" / "predictions.parquet").query("target == 'density'")
    np.testing.assert_allclose(points["density, true"], held["truth"], rtol=1e-4)
    assert list(points["label"]) == list(held["subject_id"])
    assert not table.isna().all().any()  # no column is empty
    with visit.page.expect_download() as saved:
        figure.get_by_role("button", name="SVG").click()
    saved.value.save_as(tmp_path / "figure.svg")
    assert "density, predicted" in (tmp_path / "figure.svg").read_text(encoding="utf-8")


def quiet(visit: Visit, page: Path) -> None:
    assert visit.errors == []
    assert [url for url in visit.requests if not url.startswith(("data:", "blob:"))] == [page.resolve().as_uri()]


def test_subjects_are_found_ordered_and_flickered(visit: Visit) -> None:
    body = visit.page
    body.get_by_label("Find").fill("p07")
    assert body.locator("#cards > li:visible h4").all_text_contents() == ["p07"]
    body.get_by_label("Find").fill("")
    body.get_by_label("Order").select_option(label="lung volume, ml")
    body.get_by_label("descending").check()
    shown = body.locator("#cards > li").evaluate_all(
        "all => all.map(li => Number(li.querySelector('.figures dd').textContent))"
    )
    assert shown == sorted(shown, reverse=True)
    assert len(shown) == 12
    body.get_by_label("Show as").select_option("rows")
    assert body.locator("#rows tbody tr:visible").count() == 12
    assert body.locator("#cards").is_hidden()
    body.get_by_label("Show as").select_option("cards")
    card = body.locator("#cards .slices").first
    before = pixels(card)
    body.get_by_role("button", name="Flicker").click()
    body.locator("#quality.flick").wait_for()
    # Pictures are taken until two differ: the lungs turn from yellow to blue, whenever that is on a busy machine.
    first = pixels(card)
    turned = (np.abs(pixels(card) - first).max(axis=2) > 40 for _ in range(100))
    assert any(part.mean() > 0.02 for part in turned)
    body.get_by_role("button", name="Flicker").click()
    # A layer that was composited anew may be rounded otherwise, by 2 of 255 at the edges of lines.
    assert np.abs(pixels(card) - before).max() <= 4


def test_the_map_recolours_and_a_lasso_chooses(visit: Visit) -> None:
    body = visit.page
    plot = body.locator("#subject-map")
    plot.scroll_into_view_if_needed()
    plot.locator(".points path").first.wait_for()
    body.get_by_label("Colour by").select_option(label="density")
    names = "document.getElementById('subject-map').data.map(t => t.name ?? '')"
    by_number = pixels(plot)
    assert body.evaluate(names) == ["density"]
    body.get_by_label("Colour by").select_option(label="sick")
    assert body.evaluate(names) == ["sick", "well"]
    assert (pixels(plot) != by_number).any(axis=2).mean() > 0.001
    assert plot.locator(".points path").count() == 12
    box = plot.bounding_box()
    assert box is not None
    left, top = box["x"] + 70, box["y"] + 70
    right, bottom = box["x"] + box["width"] - 25, box["y"] + box["height"] - 70
    body.mouse.move(left, top)
    body.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 5)):
        body.mouse.move(x, y, steps=4)
    body.mouse.up()
    body.get_by_text("subjects chosen; the quality cards").wait_for()
    chosen = int(body.locator("#selection-text").inner_text().split()[0])
    assert 6 <= chosen <= 12
    assert body.locator("#cards > li:visible").count() == chosen
    body.get_by_role("button", name="Show all again").click()
    assert body.locator("#cards > li:visible").count() == 12


def start_viewer(visit: Visit) -> None:
    visit.page.locator("#viewer").scroll_into_view_if_needed()
    visit.page.locator('#v-canvas[aria-busy="false"]').wait_for()


def test_the_viewer_shows_the_scan_and_the_map_moves(visit: Visit, page: Path, parts: Path, small: Small) -> None:
    body = visit.page
    start_viewer(visit)
    body.locator("#v-planes").select_option("axial")
    canvas = body.locator("#v-canvas")
    canvas.scroll_into_view_if_needed()
    assert coloured(pixels(canvas)).mean() > 0.002  # as it opens: clear, the weakest hidden
    opacity, weakest = body.get_by_label("Opacity of the map"), body.get_by_label("Hide the weakest")
    opacity.fill("100")
    weakest.fill("0")
    with_map = pixels(canvas)
    assert (with_map.max(axis=2) > 60).mean() > 0.1
    assert coloured(with_map).mean() > 0.01
    opacity.fill("0")
    without = pixels(canvas)
    assert coloured(without).mean() < 0.2 * coloured(with_map).mean()
    assert (without.max(axis=2) > 60).mean() > 0.1
    opacity.fill("100")
    weakest.fill("95")
    assert coloured(pixels(canvas)).mean() < 0.9 * coloured(with_map).mean()
    weakest.fill("0")

    place = body.locator("#v-place")
    at_peak = place.inner_text()
    body.locator("#v-slice").fill("3")
    assert place.inner_text() != at_peak
    assert (np.abs(pixels(canvas) - with_map).max(axis=2) > 30).mean() > 0.01
    body.locator("#v-window").select_option(label="mediastinum (-160 to 240 HU)")
    body.get_by_role("button", name="Go to the strongest place").click()
    assert place.inner_text() == at_peak

    # What it says stands in the files at that place, whatever way round they are stored.
    for name in SHOWN:
        body.locator("#v-subject").select_option(label=name)
        body.locator(f'#v-canvas[aria-label*="{name}"]').wait_for()
        signs = {"L": 1, "R": -1, "P": 1, "A": -1, "S": 1, "I": -1}
        words = place.inner_text().replace(",", "").split()
        point = [signs[side] * float(number) for side, number in zip(words[0:6:2], words[1:6:2], strict=True)]
        hu = float(body.locator("#v-hu").inner_text().split()[0])
        value = float(body.locator("#v-value").inner_text().split()[1])
        region = body.locator("#v-region").inner_text()
        assert region.startswith("left" if words[0] == "L" else "right"), (region, words)
        scan = sitk.ReadImage(str(small.folder / f"{int(name[1:])}.nii.gz"), sitk.sitkFloat32)
        heat = sitk.ReadImage(str(parts / "explanations" / f"{name}_density.nii.gz"))
        # The place is given in whole mm, so it may be any voxel within half a millimetre (they have 5), one byte deep.
        near = [np.add(point, half).tolist() for half in product((-0.5, 0.0, 0.5), repeat=3)]
        voxels = {scan.TransformPhysicalPointToIndex(one) for one in near}
        assert any(abs(scan[k] - hu) < 4 and abs(heat[k] - value) < 0.01 for k in voxels), (point, hu, value)
    quiet(visit, page)


def test_what_lies_under_the_pointer_is_named(visit: Visit) -> None:
    body = visit.page
    start_viewer(visit)
    body.locator("#v-planes").select_option("all")
    canvas, place = body.locator("#v-canvas"), body.locator("#v-place")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    before = place.inner_text()
    assert body.locator("#v-legend .ticks span").count() == 5  # the colour bar of the map, below the picture
    said = []
    for share in (0.06, 0.27):  # the right and the left of the axial slice, the first of three
        body.mouse.move(box["x"] + share * box["width"], box["y"] + 0.45 * box["height"])
        said.append(place.inner_text())
    assert [words[0] for words in said] == ["R", "L"]
    body.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.45 * box["height"])
    right = place.inner_text()
    body.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.45 * box["height"])
    ahead = [float(text.split(", ")[1][2:]) * (1 if ", P" in text else -1) for text in (place.inner_text(), right)]
    assert ahead[0] < ahead[1]  # anterior on the left of the sagittal slice
    body.mouse.move(5, 5)
    assert place.inner_text() == before
    marks = body.locator("#v-letters i")
    assert "".join(marks.all_inner_texts()) == "RLAP" + "RLSI" + "APSI"
    for mark in marks.all():
        edge = mark.bounding_box()
        assert edge is not None
        assert box["x"] <= edge["x"] <= box["x"] + box["width"] - edge["width"]
        assert box["y"] <= edge["y"] <= box["y"] + box["height"] - edge["height"]


def test_the_patients_right_is_on_the_left(visit: Visit) -> None:
    """p11's right lung is some 320 HU denser than the left."""
    body = visit.page
    start_viewer(visit)
    body.locator("#v-subject").select_option(label="p11")
    body.locator('#v-canvas[aria-label*="p11"]').wait_for()
    body.locator("#v-map").select_option(label="no map")
    body.locator('#v-canvas[aria-label="slices of the scan of p11"]').wait_for()
    assert body.locator("#v-legend").inner_text() == ""
    body.locator("#v-window").select_option(label="lung (-1350 to 150 HU)")
    body.locator("#v-planes").select_option("axial")
    shown = pixels(body.locator("#v-canvas")).mean(axis=2)
    rows = slice(int(0.45 * len(shown)), int(0.55 * len(shown)))
    inside = np.flatnonzero((shown[rows] > 40).mean(axis=0) > 0.5)
    first, last = inside[0], inside[-1]
    quarter = (last - first) // 4
    left, right = (
        shown[rows, first + quarter - 20 : first + quarter + 20],
        shown[rows, last - quarter - 20 : last - quarter + 20],
    )
    assert left.mean() > right.mean() + 25
    body.locator("#v-map").select_option(label="density")


def test_keys_alone_suffice(page: Path, browser: Browser) -> None:
    with opened(browser, page) as seen:
        body = seen.page
        body.keyboard.press("Tab")
        assert body.evaluate("document.activeElement.textContent") == "Skip to the report"
        body.keyboard.press("Enter")
        assert body.url.endswith("#main")
        controls = "input, select, button, canvas, svg[role=img], figure[role=img]"
        unnamed = f"""() => [...document.querySelectorAll("{controls}")]
            .filter(e => !e.labels?.length && !e.textContent.trim() && !e.getAttribute('aria-label')).length"""
        assert body.evaluate(unnamed) == 0
        body.locator("#subject-map").scroll_into_view_if_needed()
        body.locator("#subject-map .points path").first.wait_for()
        body.get_by_label("Colour by").focus()
        first = body.evaluate("document.getElementById('colour-by').value")
        body.keyboard.press("ArrowDown")
        assert body.evaluate("document.getElementById('colour-by').value") != first
        start_viewer(seen)
        body.locator("#v-canvas").focus()
        before = body.locator("#v-slice").input_value()
        body.keyboard.press("ArrowUp")
        assert int(body.locator("#v-slice").input_value()) == int(before) + 1
        body.keyboard.press("Tab")
        assert body.evaluate("document.activeElement.id") != "v-canvas"
        quiet(seen, page)


def test_on_paper_there_are_pictures_and_no_controls(visit: Visit) -> None:
    body = visit.page
    start_viewer(visit)
    body.emulate_media(media="print")
    try:
        assert body.locator("nav").is_hidden()
        assert body.locator("#viewer-app").is_hidden()
        assert body.locator("img.still:visible").count() == len(SHOWN)
        assert body.locator(".bar:visible").count() == 0
        assert body.pdf(format="A4").startswith(b"%PDF")
    finally:
        body.emulate_media(media="screen")


def test_without_webgl_2_there_is_a_sentence_and_pictures(page: Path, playwright: Playwright) -> None:
    with launched(playwright, "--disable-3d-apis") as bare, opened(bare, page) as seen:
        seen.page.locator("#viewer").scroll_into_view_if_needed()
        seen.page.get_by_text("offers no WebGL2").wait_for()
        stills = seen.page.locator("img.still:visible")
        assert stills.count() == len(SHOWN)
        stills.first.scroll_into_view_if_needed()
        assert coloured(pixels(stills.first)).mean() > 0.01
        assert seen.page.locator("#v-canvas").is_hidden()
        quiet(seen, page)
