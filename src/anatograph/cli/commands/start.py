"""The first commands of a new user: demo and doctor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anatograph.cli.command import Command, argument, option, optional_argument
from anatograph.cli.output import DONE, say


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """The whole pipeline on a small built-in phantom cohort, ending in a report."""

    out: Path = argument("OUT", "folder for everything it makes")
    subjects: int | None = option(None, "subjects in the cohort", unset="24", metavar="N", minimum=1)
    seed: int = option(0)
    workers: int | None = option(None, "processes", unset="the number of cores, at most 4", metavar="N", minimum=1)

    def execute(self) -> int:
        """Run it and name the report."""
        print(f"Report: {self.call(say=say)}")
        return DONE


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Check the installation, and a cohort's scans before a long run."""

    cohort: Path | None = optional_argument("COHORT", "a cohort table whose scans to check")
    json: bool = option(False, "print the findings as JSON", passed=False)

    def execute(self) -> int:
        """Print the findings; the worst of them is the exit status."""
        findings = self.call()
        if self.json:
            import json

            print(json.dumps([finding.to_dict() for finding in findings], indent=1))
        else:
            for finding in findings:
                print(finding)
        return max((finding.status for finding in findings), default=DONE)
