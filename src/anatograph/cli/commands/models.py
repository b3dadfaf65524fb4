"""The commands for models by name: models, pull and push."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anatograph.cli.command import Command, argument, option, optional_argument
from anatograph.cli.output import DONE, SOME_FAILED

if TYPE_CHECKING:
    from anatograph.learning.releases.api import ModelInfo


@dataclass(frozen=True, kw_only=True)
class Models(Command):
    """List the models that ship or were pulled; describe or verify one.

    With NAME it says what the model is and which input it expects, with --verify whether its files are those that were
    released."""

    page = "model.md"
    model: str | None = optional_argument("NAME", "a release, OWNER/NAME of a pulled model, or a model folder")
    verify: bool = option(False, "read every file and compare its hash")

    def execute(self) -> int:
        """Print the list or the description; 1 where a file is not what it should be."""
        found = self.call()
        if not found:
            print("This build ships no model, and none was pulled; `anatograph pull OWNER/NAME` pulls one.")
        for one in found:
            print(f"{one.name}{' (default)' if one.default else ''}: {_summary(one)}")
            if self.model is not None:
                print("\n".join(_details(one)))
            for fault in one.faults or ():
                print(f"  wrong: {fault}")
            if one.faults == ():
                print("  verified: every file is as it was written")
        return SOME_FAILED if any(one.faults for one in found) else DONE


@dataclass(frozen=True, kw_only=True)
class Pull(Command):
    """Fetch a model from the Hugging Face hub; --model NAME then uses it.

    Only data are fetched, no code, and the hash of the weights is checked. Set HF_ENDPOINT for a mirror and HF_HOME for
    another cache."""

    page = "model.md"
    model: str = argument("NAME", "OWNER/NAME on the hub")
    revision: str | None = option(None, "branch, tag or commit", unset="main", metavar="REVISION")
    offline: bool = option(False, "only look into the cache")

    def execute(self) -> int:
        """Pull and name the folder."""
        found = self.call()
        print(f"Model: {found.folder} ({_summary(found)}); use it with --model {found.name}")
        return DONE


@dataclass(frozen=True, kw_only=True)
class Push(Command):
    """Upload a model folder to the Hugging Face hub, with its card, atlas and reference."""

    page = "model.md"
    model: Path = argument("MODEL", "model folder, such as RUN/model")
    repository: str = argument("NAME", "OWNER/NAME on the hub; made where it does not exist")
    private: bool = option(False, "make it private")
    message: str | None = option(None, "of the commit", metavar="TEXT")

    def execute(self) -> int:
        """Push and name the commit."""
        print(f"Uploaded: {self.call()}")
        return DONE


def _summary(one: ModelInfo) -> str:
    if not one.config:
        return f"{one.origin}, cannot be used"
    architecture, atlas = one.config["architecture"], one.config["atlas"]
    return (f"{architecture['feature_size']} features of each of {atlas['landmarks']} landmarks, "
            f"{one.megabytes:.1f} MB, {one.origin}")  # fmt: skip


def _details(one: ModelInfo) -> list[str]:
    expected, training = one.config["input"], one.config.get("training", {})
    low, high = expected["hu_window"]
    lungs = ", lungs only" if "outside_lungs_hu" in expected else ""
    breath = ", at a common inflation" if "inflation" in expected else ""
    return [
        f"  folder     {one.folder}",
        f"  release    {one.config.get('release') or 'none: a model of your own'}",
        f"  input      CT in HU, {expected['spacing_mm'][0]:g} mm, window {low:g} to {high:g} HU{lungs}{breath}; "
        "scans are converted",
        f"  trained    on {training.get('subjects', 'an unknown number of')} subjects, "
        f"{training.get('epochs', 'unknown')} epochs, by anatograph {one.config['anatograph_version']}",
        f"  reference  {'yes: `anatograph deviation SCAN --out DIR`' if one.has_reference else 'none'}",
        f"  SHA-256    {one.config['weights_sha256']}",
        f"  card       {one.folder / 'README.md'}",
    ]
