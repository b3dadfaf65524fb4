"""Fixtures for the whole suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from anatograph.execution import scheduling

pytest_plugins = ["fixtures.chest", "fixtures.ellipsoids", "fixtures.trunks"]

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real scans and conformance files that lies beside the project on some machines."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the folder with real scans is not beside the project on this machine")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def in_this_process() -> Iterator[None]:
    """A single worker runs in the test's own process: quicker, and tests may replace parts of it."""
    scheduling.ISOLATE = False
    yield
    scheduling.ISOLATE = True
