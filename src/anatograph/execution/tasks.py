"""Types that schedulers, pools and runs share: a task, its result, and what replaces a result that never came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class WorkerLost:
    """In place of a result: the worker process died on every attempt at the task."""

    reason: str
    """What is known about its death."""


class SchedulerGoneError(Exception):
    """The scheduler disappeared and did not come back; tasks that were not yielded are not done."""


@dataclass(frozen=True)
class SubjectResult:
    """How the work on one subject ended."""

    subject_id: str
    kind: Literal["done", "there", "elsewhere", "failed", "memory", "stop"]
    """Done here; done before; claimed by another run; failed; short of memory beside other workers; the whole run
    must stop."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Wall-clock seconds by stage."""
    flags: tuple[str, ...] = ()
    """What needs a reader's attention."""
    stage: str = ""
    """The stage at which it failed."""
    reason: str = ""
    """Why it failed, or why the run must stop."""
