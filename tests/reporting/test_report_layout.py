"""The page at three widths and in both themes, its cards and the reader's verdicts, and how fast it opens."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium import PATIENCE, Visit, driver, launched, opened

from anatograph.reporting import report
from anatograph.study.quality.selection import read_reviews
from fixtures.small import Small

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FAINT = """() => {
  const numbers = colour => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const ground = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest("svg, .slices, .js-plotly-plot, script, noscript, td[style]")) continue;
    if (!element.checkVisibility()) continue;
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
    if (element.disabled) continue;
    const [a, b] = [light(numbers(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5)
      faint.push(`${element.tagName} ${element.className}: ${element.textContent.slice(0, 40)}`);
  }
  return faint;
}"""
"""Texts whose contrast with what is behind them is below 4.5."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with driver() as playwright, launched(playwright) as running:
        yield running


@pytest.fixture(scope="module")
def study(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the study with a verdict."""
    folder = tmp_path_factory.mktemp("layout") / "study"
    shutil.copytree(parts / "study", folder)
    (folder / "review.csv").write_text("subject_id,verdict,comment\np03,exclude,moved\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def page(study: Path, parts: Path, small: Small) -> Path:
    given = {"run": parts / "run", "embeddings": parts / "emb.parquet", "evaluation": parts / "evaluation"}
    return report(study, study.parent / "page.html", cohort=small.cohort, **given)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 800, 390])
def test_it_fits_and_can_be_read(width: int, theme: str, page: Path, browser: Browser) -> None:
    with opened(browser, page, width) as visit:
        visit.page.emulate_media(color_scheme=theme)
        dark = sum(map(int, visit.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)")[:3]))
        assert (dark < 200) == (theme == "dark")
        visit.page.get_by_label("Show as").select_option("rows")
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert visit.page.evaluate(FAINT) == []
        cells = visit.page.locator("#rows tbody tr").first.locator("td:visible")
        tops = {round((cells.nth(k).bounding_box() or {"y": 0})["y"]) for k in range(3)}
        assert len(tops) == (3 if width < 640 else 1)  # on a narrow screen a row becomes a list
        visit.page.get_by_label("Show as").select_option("cards")
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert visit.page.evaluate(FAINT) == []
        assert visit.page.evaluate("[...document.images].every(image => image.alt)")
        visit.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        nav = visit.page.locator("nav").bounding_box()
        assert nav is not None
        assert nav["y"] == 0
        assert visit.errors == []


def test_sections_fold_by_key_and_links_unfold_them(page: Path, browser: Browser) -> None:
    with opened(browser, page) as visit:
        summary = visit.page.locator("#cohort > details > summary")
        summary.focus()
        assert "solid 3px" in summary.evaluate(
            "e => `${getComputedStyle(e).outlineStyle} ${getComputedStyle(e).outlineWidth}`"
        )
        visit.page.keyboard.press("Enter")
        assert visit.page.locator("#cohort table").is_hidden()
        visit.page.locator("nav").get_by_text("Cohort").click()
        assert visit.page.locator("#cohort table").is_visible()
        visit.page.locator('nav a[aria-current="true"]').wait_for()


def cards(visit: Visit) -> list[str]:
    return visit.page.locator("#cards > li:visible h4").all_text_contents()


def test_cards_come_worst_first_and_enlarge(page: Path, browser: Browser) -> None:
    with opened(browser, page) as visit:
        levels = visit.page.locator("#cards > li").evaluate_all("all => all.map(card => card.dataset.level)")
        order = ["reject", "check", "note", "ok"]
        assert [order.index(level) for level in levels] == sorted(order.index(level) for level in levels)
        first, second = cards(visit)[:2]
        visit.page.get_by_label(f"Enlarge the slices of {first}").focus()
        visit.page.keyboard.press("Enter")
        large = visit.page.locator("#large[open]")
        assert large.locator("h3").inner_text() == first
        widths = large.locator(".slice").evaluate_all("all => all.map(one => one.clientWidth)")
        small = visit.page.locator("#cards .slice").first.evaluate("one => one.clientWidth")
        assert len(widths) == 3
        assert widths[0] > 1.5 * small
        visit.page.keyboard.press("ArrowRight")
        assert large.locator("h3").inner_text() == second
        visit.page.keyboard.press("Escape")
        # The dialog reports that it has closed in a task of its own, and only then the card gets the focus.
        focused = "name => document.activeElement.getAttribute('aria-label')?.endsWith(name)"
        visit.page.wait_for_function(focused, arg=second)
        assert visit.errors == []


def test_verdicts_are_exported_as_the_study_reads_them(page: Path, study: Path, browser: Browser) -> None:
    with opened(browser, page) as visit:
        body = visit.page
        assert "excluded" in body.locator('.card[data-id="p03"] .verdict').inner_text()
        body.get_by_role("button", name="Keep p01", exact=True).click()
        body.get_by_label("Enlarge the slices of p02").focus()
        body.keyboard.press("x")
        body.keyboard.press("c")
        body.keyboard.type('=moved, "a lot"')
        body.keyboard.press("Tab")
        assert "1 kept, 2 excluded; not exported yet" in body.locator("#review-status").inner_text()
        body.locator("#only").select_option("exclude")
        assert sorted(cards(visit)) == ["p02", "p03"]
        with body.expect_download() as saved:
            body.get_by_role("button", name="Export review.csv").click()
        saved.value.save_as(study / "exported.csv")
    (study.parent / "check").mkdir()
    shutil.copy(study / "exported.csv", study.parent / "check" / "review.csv")
    reviews = read_reviews(study.parent / "check")
    assert {name: one.verdict for name, one in reviews.items()} == {"p01": "keep", "p02": "exclude", "p03": "exclude"}
    assert reviews["p03"].comment == "moved"
    with (study / "exported.csv").open(encoding="utf-8") as file:
        assert next(row for row in csv.DictReader(file) if row["subject_id"] == "p02")["comment"] == ' =moved, "a lot"'


def test_a_hundred_subjects_open(parts: Path, small: Small, browser: Browser, tmp_path: Path) -> None:
    """The small cohort under a hundred names, with everything that a report can show; the log has the seconds."""
    many = tmp_path / "study"
    shutil.copytree(parts / "study", many)
    names = sorted(folder.name for folder in (many / "subjects").iterdir())
    for k in range(100 - len(names)):
        (many / "subjects" / f"q{k:02d}").symlink_to(many / "subjects" / names[k % len(names)])
    file = report(many, tmp_path / "page.html", parts / "run", parts / "emb", parts / "evaluation",
                  parts / "explanations", small.cohort)  # fmt: skip
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.set_default_timeout(PATIENCE)
    tab.goto(file.resolve().as_uri())
    assert tab.locator("#cards > li").count() == 100
    seconds = tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
    painted = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
    print(
        f"report of 100 subjects: {file.stat().st_size / 1e6:.1f} MB, first paint {painted:.2f} s, "
        f"loaded {seconds:.2f} s"
    )
    tab.close()
    assert seconds > 0
    assert file.stat().st_size < 10e6  # whatever the machine does, what it reads stays small
