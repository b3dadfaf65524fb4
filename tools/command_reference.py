"""Write the part of docs/commands.md that lists all commands and options, from the classes that define them.

python tools/command_reference.py            # write it
python tools/command_reference.py --check    # status 1 where the page is out of date
"""

from __future__ import annotations

import dataclasses
import sys
import textwrap
from pathlib import Path
from typing import Any, get_type_hints

from anatograph.cli.command import Command, Input, inputs
from anatograph.cli.commands import COMMANDS
from anatograph.cli.parsing import default_of, flag_of, shape_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
BEGIN, END = "<!-- begin: written by tools/command_reference.py -->", "<!-- end -->"


def main() -> int:
    """Write the page, or check it."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        print(f"{PAGE} must hold the lines '{BEGIN}' and '{END}'.", file=sys.stderr)
        return 2
    current = f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"
    if "--check" in sys.argv[1:]:
        if current != text:
            print(f"{PAGE} is out of date; run: python tools/command_reference.py", file=sys.stderr)
        return int(current != text)
    PAGE.write_text(current, encoding="utf-8")
    print(PAGE)
    return 0


def reference() -> str:
    """Markdown: a table of all commands, then one section each."""
    rows = [f"| [`{command.name()}`](#{command.name()}) | {_cell(command.summary())} |" for command in COMMANDS]
    return "\n".join(["| command | does |", "|---|---|", *rows, "", *(_section(command) for command in COMMANDS)])


def _filled(text: str) -> str:
    """Paragraphs in lines of 100 columns, as all prose of the docs."""
    return "\n\n".join(
        textwrap.fill(p, 100, break_long_words=False, break_on_hyphens=False) for p in text.split("\n\n")
    )


def _section(command: type[Command]) -> str:
    hints = get_type_hints(command)
    given = inputs(command)
    places = [how.metavar or name for name, (how, field) in given.items() if how.flag == "" and _needed(field)]
    places += [f"[{how.metavar or name}]" for name, (how, field) in given.items()
               if how.flag == "" and not _needed(field)]  # fmt: skip
    needed = [_usage(name, how, hints[name]) for name, (how, field) in given.items()
              if how.flag != "" and _needed(field)]  # fmt: skip
    line = command.usage or " ".join(["anatograph", command.name(), *places, *needed])
    lines = [f"### {command.name()}", "", f"{command.summary()}.", ""]
    if command.details():
        lines += [_filled(command.details()), ""]
    lines += ["```text", line, "```", "", "| argument or option | default | |", "|---|---|---|"]
    lines += [_row(name, how, field, hints[name]) for name, (how, field) in given.items()]
    about = [f"Python: `anatograph.{command.function_name()}`"] if command.function_name() else []
    about += [f"[More]({command.page})"] if command.page else []
    return "\n".join([*lines, "", *([" · ".join(about), ""] if about else [])])


def _row(name: str, how: Input, field: dataclasses.Field[Any], hint: Any) -> str:
    shape = shape_of(hint, how.minimum)
    words = how.help
    if shape.choices and not all(str(choice) in words for choice in shape.choices):
        words = f"{words}: " if words else ""
        words += ", ".join(f"`{choice}`" for choice in shape.choices)
    if how.group.startswith("for "):
        words += f" ({how.group.partition(' (')[0]})"
    default = "required" if _needed(field) else default_of(how, field)
    if default == str(field.default):
        default = f"`{default}`"
    return f"| `{_usage(name, how, hint)}` | {_cell(default)} | {_cell(words)} |"


def _usage(name: str, how: Input, hint: Any) -> str:
    shape, flag = shape_of(hint, how.minimum), flag_of(name, how)
    if shape.switch:
        return flag
    value = how.metavar or ("VALUE" if shape.choices else name.upper())
    more = " …" if shape.several and not how.each else ""
    return f"{flag} {value}{more}".strip()


def _needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
