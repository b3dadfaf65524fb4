"""What a command is: a frozen dataclass whose fields are its arguments and options.

To add a command, write a class like the following into a file of ``cli/commands/`` and add it to ``COMMANDS`` in
``cli/commands/__init__.py``::

    @dataclass(frozen=True, kw_only=True)
    class Count(Command):
        \"\"\"Count the subjects of a study.\"\"\"

        page = "study.md"
        study: Path = argument("STUDY", "folder of the study")
        level: Level = option("ok", "worst quality level to count")
        columns: tuple[str, ...] = option((), "columns to count by", flag="--column", metavar="NAME")

        def execute(self) -> int:
            found = self.call()
            print(f"Subjects: {found.subjects}")
            return finish(found.account)

``self.call()`` calls the public function of the same name, here ``anatograph.count(study=…, level=…, columns=…)``,
which is listed in ``anatograph/__init__.pyi``.  A test holds the fields to the function's parameters and defaults.  The
type of a field decides how its text is parsed: ``bool`` is a switch, ``tuple[…, ...]`` takes several values, a
``Literal`` (see `anatograph.choices`) lists what is allowed.  At last ``python tools/command_reference.py`` brings
``docs/commands.md`` up to date.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")
_KEY = "anatograph"


@dataclass(frozen=True)
class Input:
    """How a field of a command is given on the command line."""

    help: str
    flag: str | None = None
    """Such as ``--lung-weights``; None derives it from the field's name, an empty one makes a positional argument."""
    metavar: str | None = None
    group: str = ""
    """Heading in the help under which the option stands; empty for the general one."""
    minimum: int | None = None
    """Smallest integer that is accepted."""
    each: bool = False
    """For several values: one value each time the flag is given, in place of several after one flag."""
    unset: str = ""
    """What applies when the option is not given, where its default does not say so."""
    passed: bool = True
    """Whether the field is a parameter of the public function of the same name."""


def argument(metavar: str, help: str, **more: Any) -> Any:
    """A field for a required positional argument; see `Input` for ``more``."""
    return dataclasses.field(metadata={_KEY: Input(help, "", metavar, **more)})


def optional_argument(metavar: str, help: str, **more: Any) -> Any:
    """A field for a positional argument that may be left out, and is then None; see `Input` for ``more``."""
    return dataclasses.field(default=None, metadata={_KEY: Input(help, "", metavar, **more)})


def option(default: T, help: str = "", **more: Any) -> T:
    """A field for an option with a default, which is added to ``help``; see `Input` for ``more``."""
    field: T = dataclasses.field(default=default, metadata={_KEY: Input(help, **more)})
    return field


def required(help: str, **more: Any) -> Any:
    """A field for an option that must be given; see `Input` for ``more``."""
    return dataclasses.field(metadata={_KEY: Input(help, **more)})


def inputs(command: type[Command]) -> dict[str, tuple[Input, dataclasses.Field[Any]]]:
    """Name of a field → how it is given, and the field; a class's own fields before those it inherits."""
    fields = {field.name: field for field in dataclasses.fields(command)}
    own = [name for owner in command.__mro__ for name in inspect.get_annotations(owner) if name in fields]
    return {name: (fields[name].metadata[_KEY], fields[name]) for name in dict.fromkeys(own)}


@dataclass(frozen=True, kw_only=True)
class Command:
    """Base of all commands: the first line of the docstring is the help, the rest its description."""

    function: ClassVar[str | None] = ""
    """Public function that `call` calls: empty for that of the command's name, None where there is none."""
    page: ClassVar[str] = ""
    """File of ``docs/`` that explains the command."""
    usage: ClassVar[str | None] = None
    """Usage line, where the one that argparse makes is misleading."""

    def execute(self) -> int:
        """Do it, print where the results are, and return the exit status."""
        raise NotImplementedError

    @classmethod
    def name(cls) -> str:
        """As typed: ``ImportReference`` is ``import-reference``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def function_name(cls) -> str | None:
        """Name of the public function behind the command, None where there is none."""
        return cls.name().replace("-", "_") if cls.function == "" else cls.function

    @classmethod
    def summary(cls) -> str:
        """First line of the docstring, as one sentence without the full stop."""
        return (cls.__doc__ or "").strip().splitlines()[0].rstrip(".")

    @classmethod
    def details(cls) -> str:
        """The docstring after its first line."""
        return "\n".join(line.strip() for line in (cls.__doc__ or "").strip().splitlines()[1:]).strip()

    def call(self, **more: Any) -> Any:
        """Call the public function with the fields that are its parameters, and with ``more`` over them."""
        import anatograph

        given = {name: getattr(self, name) for name, (how, _) in inputs(type(self)).items() if how.passed}
        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        return getattr(anatograph, str(self.function_name()))(**{**lists, **more})
