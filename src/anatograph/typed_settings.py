"""Frozen dataclasses of settings from texts, files and plain values: names and types checked, with hints in errors.

A settings class may hold other settings classes (groups), one level deep. A field is addressed as ``name`` or
``group.name``; the group may be left out where the name occurs once. Supported types: bool, int, float, str and
``Literal`` of texts.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from anatograph.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")
Address = tuple[str, ...]
"""Where a field is: (name,) or (group, name)."""

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name that is spelt most like ``word``."""
    return difflib.get_close_matches(word, list(known), n=1, cutoff=0.0)[0]


def with_values(settings: S, values: Mapping[str, Any], where: str) -> S:
    """``settings`` with plain ``values`` (nested by group, or with dotted names) in place of some fields.

    ``where`` begins every error. Raises ``UserError`` for an unknown name, with the nearest one, for a value of the
    wrong type, and for whatever the settings class refuses.
    """
    return _replaced(settings, _by_address(type(settings), values, where), where, _checked)


def with_texts(settings: S, texts: Sequence[str], where: str) -> S:
    """``settings`` with ``key=value`` texts in place of some fields; errors as `with_values`."""
    found: dict[Address, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{where} {text}: give a setting as key=value, for instance epochs=5.")
        found[_locate(type(settings), key.strip(), where)] = value.strip()
    return _replaced(settings, found, where, _parsed) if found else settings


def read_settings_file(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, or of a JSON file where the name ends in ``.json``."""
    kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a settings file in TOML or JSON.")
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as {kind}: {error}.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold named settings, not {type(values).__name__}.")
    return values


def _groups(kind: type[Any]) -> dict[str, type[Any]]:
    """Fields that are settings classes themselves."""
    return {name: one for name, one in _types(kind).items() if isinstance(one, type) and dataclasses.is_dataclass(one)}


def _types(kind: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {one.name: hints[one.name] for one in dataclasses.fields(kind)}


def _addresses(kind: type[Any]) -> dict[str, list[Address]]:
    """Every key a user may give, and the fields it may mean; a name of the class itself beats one of its groups."""
    groups = _groups(kind)
    keys: dict[str, list[Address]] = {name: [(name,)] for name in _types(kind) if name not in groups}
    own = set(keys)
    for group, inner in groups.items():
        for name in _types(inner):
            keys[f"{group}.{name}"] = [(group, name)]
            if name not in own:
                keys.setdefault(name, []).append((group, name))
    return keys


def _locate(kind: type[Any], key: str, where: str) -> Address:
    keys = _addresses(kind)
    if key not in keys:
        raise UserError(f"{where}: unknown setting {key!r}; did you mean {nearest(key, keys)!r}?")
    if len(keys[key]) > 1:
        both = " or ".join(".".join(address) for address in keys[key])
        raise UserError(f"{where}: {key!r} may mean {both}; write it in full.")
    return keys[key][0]


def _by_address(kind: type[Any], values: Mapping[str, Any], where: str) -> dict[Address, Any]:
    groups, found = _groups(kind), dict[Address, Any]()
    for key, value in values.items():
        if key not in groups:
            found[_locate(kind, key, where)] = value
        elif isinstance(value, Mapping):
            found |= {_locate(kind, f"{key}.{name}", where): one for name, one in value.items()}
        else:
            raise UserError(f"{where}: {key} is a group of settings; write [{key}] or {key}.NAME=VALUE.")
    return found


def _replaced(settings: S, found: Mapping[Address, Any], where: str, read: Callable[[Any, Any, str], Any]) -> S:
    """All values are read first and put in at once, as a settings class may check one field against another."""
    types, groups = _types(type(settings)), _groups(type(settings))
    top: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for address, value in found.items():
        *group, name = address
        kind = _types(groups[group[0]])[name] if group else types[name]
        target = nested.setdefault(group[0], {}) if group else top
        target[name] = read(kind, value, f"{where}: {'.'.join(address)}")
    top |= {group: dataclasses.replace(getattr(settings, group), **inner) for group, inner in nested.items()}
    return dataclasses.replace(settings, **top)


def _parsed(kind: Any, text: str, what: str) -> Any:
    """A value of type ``kind`` from its text."""
    if kind is bool:
        if text.lower() in (*_TRUE, *_FALSE):
            return text.lower() in _TRUE
        raise UserError(f"{what} must be true or false, not {text!r}.")
    if kind in (int, float):
        try:
            return _checked(kind, kind(text), what)
        except ValueError:
            return _checked(kind, text, what)
    return _checked(kind, text, what)


def _checked(kind: Any, value: Any, what: str) -> Any:
    """``value`` if it is of type ``kind``; a whole number is a number, too."""
    if typing.get_origin(kind) is Literal:
        allowed = typing.get_args(kind)
        if str(value) in allowed:
            return str(value)
        raise UserError(
            f"{what} must be one of {', '.join(allowed)}, not {str(value)!r}; "
            f"did you mean {nearest(str(value), allowed)!r}?"
        )
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and number and isinstance(value, int):
        return value
    if kind is float and number and math.isfinite(value):
        return float(value)
    if kind is str and isinstance(value, str):
        return value
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    raise UserError(f"{what} must be {names.get(kind, 'of another type')}, not {str(value)!r}.")
