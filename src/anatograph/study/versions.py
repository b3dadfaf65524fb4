"""The version of each step that made a subject, so that versions are never mixed unnoticed.

A step's number goes up when a change of the code gives the same scan other landmarks, patches, edges or mask than
before, beyond rounding.  A subject or study written before numbers were kept counts as version 1 of everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSIONS: dict[str, int] = {
    "read": 1,
    "align": 1,
    "lungs:given": 1,
    "lungs:threshold": 3,
    "lungs:lungmask": 1,
    "lungs:totalsegmentator": 1,
    "register:deformable": 1,
    "register:affine": 1,
    "register:ants-affine": 1,
    "register:ants-syn": 1,
    "patches": 1,
    "graph": 1,
}
"""Of this version of the package: the step, with the method where there are several, and its number."""

StepVersions = dict[str, int]


def versions_of(lungs: str, registration: str, oblique: bool) -> StepVersions:
    """The steps that a subject goes through and their numbers now; ``align`` only where the scan is oblique."""
    steps = ["read", *(["align"] if oblique else []), f"lungs:{lungs}", f"register:{registration}", "patches", "graph"]
    return {step: VERSIONS.get(step, 1) for step in steps}


def outdated(versions: Mapping[str, Any], now: Mapping[str, int] | None = None) -> list[str]:
    """The steps that now have another number, in words; empty where none has."""
    now = VERSIONS if now is None else now
    return [
        f"{step} (version {number}, now {now[step]})"
        for step, number in versions.items()
        if step in now and int(number) != now[step]
    ]
