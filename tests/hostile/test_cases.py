"""Every awkward input ends as its page says: usable, with a note on what is odd, or one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostile.case import CASES, Case
from hostile.outcome import GROUPS, cases_of, outcome
from hostile.page import PAGE, page


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.build.__module__.split('.')[-1]}-{case.build.__name__}"
)
def test_awkward_input(case: Case, tmp_path: Path) -> None:
    seen = outcome(case, tmp_path)
    assert case.fits(seen), seen


def test_enough_of_them() -> None:
    assert sum(len(cases_of(group)) for group in GROUPS) == len(CASES) >= 90


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "regenerate it: cd tests && python -m hostile.page"
