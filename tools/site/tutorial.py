"""Run the blocks of docs/tutorial.md in order, and keep what they print and draw.

    python tools/site/tutorial.py            # run them (or take the kept outputs) and print where they are
    python tools/site/tutorial.py --write    # also put the outputs and the figures into docs/

Blocks marked ``run`` (```` ```bash run ````, ```` ```python run ````) are executed in ``build/tutorial/work``; Python
blocks share their variables.  The ``text output`` block after each shows what it printed.  Outputs of shell blocks are
kept until the package or a block up to them changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
PLACE = ROOT / "build" / "tutorial"
FENCE = re.compile(r"^```(bash|python) run\n(.*?)^```\n(?:\n```text output\n.*?^```\n)?", re.MULTILINE | re.DOTALL)
MOST_LINES = 14


@dataclass(frozen=True)
class Outcome:
    """What the tutorial printed and drew."""

    outputs: list[str]
    """What each block printed."""
    figures: list[Path]
    """Pictures that it left in its folder."""


@cache
def run() -> Outcome:
    """Execute the blocks; shell blocks whose text, predecessors and package are as last time keep their outputs."""
    blocks = FENCE.findall(PAGE.read_text(encoding="utf-8"))
    kept = PLACE / "outputs.json"
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else []
    keys = _keys(blocks)
    if [key for key, _ in before] != keys:
        begun = next((k for k, key in enumerate(keys) if k >= len(before) or before[k][0] != key), len(keys))
        outputs: list[str] = []
        for output in _execute(blocks, PLACE / "work", [printed for _, printed in before[:begun]]):
            outputs.append(output)
            kept.write_text(json.dumps(list(zip(keys, outputs, strict=False)), indent=1), encoding="utf-8")
        before = list(zip(keys, outputs, strict=True))
    return Outcome([printed for _, printed in before], sorted((PLACE / "work").glob("tutorial*.png")))


def with_outputs(markdown: str, outputs: list[str]) -> str:
    """The page with each block followed by what it printed."""
    printed = iter(outputs)

    def block(found: re.Match[str]) -> str:
        shown = next(printed)
        output = f"\n```text output\n{shown}\n```\n" if shown else ""
        return f"```{found[1]} run\n{found[2]}```\n{output}"

    return FENCE.sub(block, markdown)


def _keys(blocks: list[tuple[str, str]]) -> list[str]:
    """A hash for each block: of the package, and of everything up to the block."""
    digest = hashlib.sha256()
    for file in sorted((ROOT / "src").rglob("*.py")):
        digest.update(file.read_bytes())
    keys = []
    for kind, body in blocks:
        digest.update(f"{kind}\n{body}".encode())
        keys.append(digest.hexdigest())
    return keys


def _execute(blocks: list[tuple[str, str]], folder: Path, known: list[str]) -> Iterator[str]:
    """Output of each block; of the first ``len(known)`` only the Python ones are run, for their variables."""
    if not known:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {"__name__": "__tutorial__"}
    os.environ["MPLBACKEND"] = "Agg"
    for number, (kind, body) in enumerate(blocks, start=1):
        if kind == "bash" and number <= len(known):
            yield known[number - 1]
            continue
        print(f"tutorial: block {number} of {len(blocks)}", file=sys.stderr, flush=True)
        with contextlib.chdir(folder):
            printed = _shell(body) if kind == "bash" else _python(body, number, names)
        yield _shown(printed, folder)


def _shell(body: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", body], env={**os.environ, "PATH": path},
                          capture_output=True, encoding="utf-8", check=False)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the tutorial's block ended with status {done.returncode}:\n{body}\n{done.stderr[-3000:]}")
    return done.stdout


def _python(body: str, number: int, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(body, f"docs/tutorial.md, block {number}", "exec"), names)
    return printed.getvalue()


def _shown(text: str, folder: Path) -> str:
    lines = text.replace(f"{folder}/", "").strip().splitlines()
    return "\n".join(lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "…"])


def main() -> int:
    """Run the tutorial; with --write, write its results into docs/."""
    outcome = run()
    if "--write" in sys.argv[1:]:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(with_outputs(text, outcome.outputs), encoding="utf-8")
        for figure in outcome.figures:
            shutil.copyfile(figure, ROOT / "docs" / "images" / figure.name)
    print("\n".join(str(figure) for figure in outcome.figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
