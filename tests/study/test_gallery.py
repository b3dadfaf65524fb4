"""The page to review scans, in a browser: keys, verdicts, and the file that it exports."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from anatograph.study.quality.gallery import qc
from anatograph.study.quality.selection import read_reviews
from anatograph.study.store import Study
from fixtures.small import Small
from reporting.chromium import driver, launched, opened


def test_a_reader_reviews_by_keyboard_and_exports_what_the_study_obeys(small: Small, tmp_path: Path) -> None:
    shutil.copytree(small.study, tmp_path / "study")
    study = Study.open(tmp_path / "study")
    page_file = qc(study.path, tmp_path / "qc.html")
    with driver() as playwright, launched(playwright) as browser, opened(browser, page_file) as visit:
        page = visit.page
        cards = page.locator(".scan")
        assert cards.count() == len(study)
        names = [cards.nth(k).get_attribute("data-id") or "" for k in range(3)]
        page.keyboard.press("x")  # the first has the focus; the next gets it
        page.keyboard.press("k")
        page.once("dialog", lambda asked: asked.accept('=moved, "a lot"'))
        page.keyboard.press("c")
        assert "exclude" in (cards.nth(0).get_attribute("class") or "")
        assert "1 kept, 1 excluded; not exported yet" in page.locator("#status").inner_text()
        page.keyboard.press("Enter")
        shown = page.locator("#large[open] img")
        page.wait_for_function("image => image.naturalWidth > 500", arg=shown.element_handle())
        page.keyboard.press("Escape")
        page.locator("#filter").select_option("open")
        assert cards.count() == len(study) - 2
        with page.expect_download() as download:
            page.locator("#export").click()
        download.value.save_as(study.path / "review.csv")
        assert not visit.errors
        assert all(url.startswith(("file:", "data:", "blob:")) for url in visit.requests)
    reviews = read_reviews(study.path)
    verdicts = {name: one.verdict for name, one in reviews.items()}
    assert verdicts == {names[0]: "exclude", names[1]: "keep", names[2]: None}  # the third has a comment alone
    with (study.path / "review.csv").open(encoding="utf-8") as file:
        comments = {row["subject_id"]: row["comment"] for row in csv.DictReader(file)}
    assert comments[names[2]] == ' =moved, "a lot"'  # a spreadsheet takes it for text
