"""Argparse parsers from the classes of commands, and commands from what was parsed."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from anatograph.choices import current
from anatograph.cli.command import Command, Input, inputs
from anatograph.cli.output import STATUS


def add_command(commands: Any, command: type[Command]) -> None:
    """Add the parser of a command; its help ends with the exit statuses."""
    summary = command.summary()
    made = commands.add_parser(
        command.name(), help=summary[0].lower() + summary[1:], usage=command.usage,
        description="\n\n".join(filter(None, (f"{summary}.", command.details()))), epilog=STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.set_defaults(command_class=command)
    made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show a traceback with an error")
    hints = get_type_hints(command)
    groups: dict[str, Any] = {"": made}
    for name, (how, field) in inputs(command).items():
        if how.group not in groups:
            groups[how.group] = made.add_argument_group(how.group)
        _add(groups[how.group], name, how, field, hints[name])


def command_of(args: argparse.Namespace) -> Command:
    """The command that a parsed line asks for, with its fields set."""
    command: type[Command] = args.command_class
    values = {name: getattr(args, name) for name in inputs(command)}
    return command(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def flag_of(name: str, how: Input) -> str:
    """The flag of an option, empty for a positional argument."""
    return f"--{name.replace('_', '-')}" if how.flag is None else how.flag


def default_of(how: Input, field: dataclasses.Field[Any]) -> str:
    """The default as text, empty where there is none to show."""
    default = field.default
    hidden = default is dataclasses.MISSING or default is None or default is False or default == ()
    return how.unset or ("" if hidden else str(default))


def help_of(how: Input, field: dataclasses.Field[Any]) -> str:
    """The help with the default."""
    default = default_of(how, field)
    if not default:
        return how.help
    return f"{how.help} (default: {default})" if how.help else f"default: {default}"


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a field's type says about its values."""

    parse: Callable[[str], Any]
    choices: tuple[Any, ...] | None
    several: bool
    switch: bool


def shape_of(hint: Any, minimum: int | None = None) -> Shape:
    """Read a field's type: ``Path``, ``tuple[str, ...]``, a ``Literal``, any of them or None."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    several = get_origin(hint) is tuple
    if several:
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        return Shape(current, get_args(hint), several, switch=False)
    return Shape(_at_least(minimum) if minimum is not None else hint, None, several, switch=hint is bool)


def _add(group: Any, name: str, how: Input, field: dataclasses.Field[Any], hint: Any) -> None:
    shape, flag, default = shape_of(hint, how.minimum), flag_of(name, how), field.default
    needed = default is dataclasses.MISSING
    more: dict[str, Any] = {"help": help_of(how, field).replace("%", "%%") or None}
    if shape.switch:
        group.add_argument(flag, dest=name, action="store_true", **more)
        return
    more |= {"type": shape.parse, "choices": shape.choices, "metavar": how.metavar}
    if not flag:
        more |= {"nargs": "+"} if shape.several else {} if needed else {"nargs": "?"}
        group.add_argument(name, **more)
        return
    if shape.several:
        more |= {"action": "append"} if how.each else {"nargs": "+", "action": "extend"}
    if needed:
        more["required"] = True
    else:
        more["default"] = list(default) if isinstance(default, tuple) else default
    group.add_argument(flag, dest=name, **more)


def _at_least(minimum: int) -> Callable[[str], int]:
    """A parser of integers from ``minimum`` on; argparse names it in its messages."""

    def integer(text: str) -> int:
        number = int(text)
        if number < minimum:
            raise argparse.ArgumentTypeError(f"{text} is not {minimum} or more")
        return number

    return integer
