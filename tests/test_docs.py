"""The documentation is executable: Python blocks run, command lines parse, links and named files exist."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest

import anatograph
from anatograph import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")),
    *sorted((ROOT / "docs").glob("**/*.md")),
]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *kinds: str) -> list[str]:
    return [body for kind, _, body in FENCE.findall(page.read_text(encoding="utf-8")) if kind in kinds]


def is_tutorial(page: Path) -> bool:
    """Whether the blocks of a page are run in one folder, one after the other, when the site is built."""
    return any(mark == " run" for _, mark, _ in FENCE.findall(page.read_text(encoding="utf-8")))


def command_lines(page: Path) -> list[list[str]]:
    """Every `anatograph …` of the page's shell blocks, without prompts, comments and what follows on the line."""
    found = []
    for block in blocks(page, "bash", "sh", "console", "shell"):
        for line in block.replace("\\\n", " ").splitlines():
            plain = line.strip().removeprefix("$ ")
            for part in re.split(r"\s(?:&&|\|\||\||;|>)\s", plain):
                # Environment variables and the folder of the program may stand before its name.
                if named := re.match(r"(?:\w+=\S*\s+)*(?:\S*/)?anatograph\s+(.*)", part):
                    found.append(shlex.split(named[1], comments=True))
    return found


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python") and not is_tutorial(page)], ids=lambda p: p.name
)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__docs__"}
    for number, body in enumerate(blocks(page, "python"), start=1):
        exec(compile(body, f"{page.name}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", [page for page in PAGES if command_lines(page)], ids=lambda p: p.name)
def test_command_lines_parse(page: Path) -> None:
    for words in command_lines(page):
        try:
            cli.parser().parse_args(words)
        except SystemExit as end:
            if end.code:
                pytest.fail(f"{page.name}: anatograph {shlex.join(words)}")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?://|mailto:|#", t)]
    missing = [t for t in targets if not (page.parent / t.split("#")[0]).exists()]
    assert not missing
    pages = {t: page.parent / t.split("#")[0] for t in targets if ".md#" in t}
    assert not [t for t, other in pages.items() if t.split("#")[1] not in anchors(other)], "no such heading"


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as the site makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", re.sub(r"\]\([^)]*\)", "", title)).strip().lower() for title in titles]
    return {re.sub(r"[-\s]+", "-", title) for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_prose_wraps_at_100_columns(page: Path) -> None:
    """Tables, code, headings, HTML, and lines that are one image or link may be longer."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    long = [line for line in text.splitlines() if len(line) > 100]
    assert not [line for line in long if not re.match(r" *([|#<]|!?\[[^\]]*\](\([^)]*\)|:.*)$)", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_tables_stand_by_themselves_and_have_as_many_cells_in_each_row(page: Path) -> None:
    """A row within a paragraph, or one that a paste has cut, is not shown as a table."""
    before, width = "", 0
    for number, line in enumerate(FENCE.sub("", page.read_text(encoding="utf-8")).splitlines(), start=1):
        cells = len(re.split(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line)))
        if line.startswith("|"):
            assert line.endswith("|"), f"{page.name}, line {number} without fences: a row is not closed: {line}"
            assert before.startswith("|") or not before, f"{page.name}: a row follows text: {line}"
            width = cells if not before.startswith("|") else width
            assert cells == width, f"{page.name}: {cells - 2} cells in a table of {width - 2}: {line}"
        else:
            assert cells < 4, f"{page.name}: cells of a table within text: {line}"
        before = line


def test_files_named_in_the_architecture_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/.]+\.(?:py|pyi|toml|yml))`|`([\w/]+/)`", text)
    places = [ROOT, ROOT / "src", *(p for p in (ROOT / "src").rglob("*") if p.is_dir())]
    missing = [name for pair in named if (name := pair[0] or pair[1]) and not any((p / name).exists() for p in places)]
    assert not missing


def test_the_api_page_has_every_public_name_and_the_python_page_every_function() -> None:
    api, python = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("api.md", "python-api.md"))
    listed = set(re.findall(r"^::: anatograph\.(\w+)$", api, re.MULTILINE))
    assert listed == set(anatograph.__all__) - {"__version__"}
    functions = {name for name in anatograph.__all__ if inspect.isfunction(getattr(anatograph, name))}
    assert {name for name in functions if f"`{name}" not in python} == set()
