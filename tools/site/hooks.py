"""Hooks of mkdocs: the pages made from files outside docs/, and the outputs of the tutorial."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
STUB = ROOT / "src" / "anatograph" / "__init__.pyi"
sys.path.insert(0, str(Path(__file__).parent))

import tutorial  # noqa: E402

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changes.md",
}
"""File of the repository → page of the site."""
EXECUTE = os.environ.get("ANATOGRAPH_TUTORIAL") != "skip"
"""Whether the tutorial is executed; otherwise the page shows the outputs that stand in it."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, and the figures that the tutorial drew."""
    for source, page in PAGES.items():
        text = _rewritten((ROOT / source).read_text(encoding="utf-8"))
        if page == "index.md":  # alone in its tab: what it gains in width its tables need
            text = f"---\nhide: [navigation]\n---\n{text}"
        files.append(File.generated(config, page, content=text))
    for figure in tutorial.run().figures if EXECUTE else ():
        name = f"images/{figure.name}"
        if (old := files.get_file_from_path(name)) is not None:
            files.remove(old)
        files.append(File.generated(config, name, abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Outputs of this build for the tutorial, public names that the API page lacks, links to the generated pages."""
    if page.file.src_path == "tutorial.md":
        if EXECUTE:
            markdown = tutorial.with_outputs(markdown, tutorial.run().outputs)
        markdown = re.sub(r"^```(\w+) (?:run|output)$", r"```\1", markdown, flags=re.MULTILINE)
    if page.file.src_path == "api.md":
        public = re.findall(r" as (\w+)$", STUB.read_text(encoding="utf-8"), flags=re.MULTILINE)
        missing = [name for name in public if name != "__version__" and f"::: anatograph.{name}\n" not in markdown]
        markdown += "\n## More\n\n" * bool(missing) + "".join(f"::: anatograph.{name}\n" for name in missing)
    for source, target in PAGES.items():
        markdown = markdown.replace(f"(../{source}", f"({target}").replace(f"(../../{source}", f"(../{target}")
    return markdown


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Short code, such as an option, and a number with its spread stay on one line."""
    html = re.sub(r"(?<!<pre>)(?<!</span>)<code>([^<\n]{1,28})</code>", r'<code class="short">\1</code>', html)
    return re.sub(r"(\d) ± (?=\d)", "\\1\u00a0±\u00a0", html)


def _rewritten(text: str) -> str:
    """Links of a file at the top of the repository as they are from docs/."""
    for source, page in PAGES.items():
        text = text.replace(f"]({source}", f"]({page}")
    return re.sub(r"\]\(docs/", "](", text)
