"""The system's Chromium, driven by Playwright: what a page asks for, complains about, and looks like."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# WebGL 2 drawn by the processor, as there is no graphics card where tests run.
SOFTWARE_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
PATIENCE = 240_000
"""Milliseconds a page may take on a busy machine."""


def find() -> str | None:
    """The browser, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def driver() -> Iterator[Playwright]:
    """Playwright; tests are skipped where it or the browser is missing."""
    if find() is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    sync = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra 'test')")
    with sync.sync_playwright() as playwright:
        yield playwright


@contextmanager
def launched(playwright: Playwright, *arguments: str) -> Iterator[Browser]:
    """A running browser."""
    browser = playwright.chromium.launch(
        executable_path=find(), args=["--no-sandbox", "--disable-dev-shm-usage", *arguments], timeout=PATIENCE
    )
    try:
        yield browser
    finally:
        browser.close()


@dataclass
class Visit:
    """A page that is open, and what it did since."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def opened(browser: Browser, path: Path, width: int = 1280, height: int = 800) -> Iterator[Visit]:
    """A page from disk in a window of this size; every request and every error is noted."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE)
    seen = Visit(page)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("console", lambda said: seen.errors.append(said.text) if said.type in ("error", "warning") else None)
    page.goto(path.resolve().as_uri())
    try:
        yield seen
    finally:
        page.close()


def pixels(shown: Locator) -> NDArray[np.int16]:
    """(height, width, 3) a part of the page as it is painted."""
    image = Image.open(io.BytesIO(shown.screenshot())).convert("RGB")
    return np.asarray(image, dtype=np.int16)


def coloured(picture: NDArray[np.int16]) -> NDArray[np.bool_]:
    """(height, width) which pixels have a colour of a map: neither grey nor the yellow of the cross and the letters."""
    return np.asarray((np.ptp(picture, axis=2) > 30) & (picture[..., 1] - picture[..., 2] < 25))
