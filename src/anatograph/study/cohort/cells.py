"""Label columns as typed by hand: missing values, numbers with signs and units, categories in several spellings.

One set of rules for every command.  Nothing is changed without a note; a cell that cannot be understood is missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PLAIN_MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none"})
"""Cells, in lower case without surrounding blanks, that mean "no value" in any table; not worth a note."""
CODED_MISSING = frozenset(
    {".", "..", "...", "…", "-", "--", "---", "–", "—", "_", "?", "??", "*", "/", "n.a.", "n.a", "n. a.", "nd", "n.d.",
     "not available", "not applicable", "not done", "not known", "not recorded", "unknown", "unk", "unkn", "missing",
     "miss", "nil", "void", "(blank)", "blank", "empty", "k.a.", "#value!", "#div/0!", "#null!", "#num!", "#ref!",
     "#name?", "inf", "-inf", "nat"}
)  # fmt: skip
"""Cells that mean "no value" as well, counted in a note."""
FEW_WORDS = 0.2
"""Up to this fraction of words, a column is one of numbers whose words are missing values."""
MANY_NUMBERS = 12
"""So is one of more different numbers than this, and of few different words, while numbers are the majority."""
CODES = (-1, -2, -3, -5, -6, -7, -8, -9, -66, -77, -88, -95, -96, -97, -98, -99, -888, -998, -999, -9998, -9999, 9, 66,
         77, 88, 95, 96, 97, 98, 99, 555, 666, 777, 888, 995, 996, 997, 998, 999, 7777, 8888, 9998, 9999)  # fmt: skip
"""Numbers by which tables often mark a missing value."""

_UNITS = "(%|‰|y|yr|yrs|year|years|yo|mo|months|l|ml|mm|cm|m|kg|g|mg|hu|mmhg|cmh2o|ml/min|l/min|py|pack-?years?|points)"
_NUMBER = re.compile(rf"([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[+-]?\d+)?)\s*{_UNITS}?", re.IGNORECASE)
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")
_LIMIT = re.compile(r"(<=|>=|<|>|≤|≥|~|≈)\s*[+-]?\d.*")
_SYNONYMS = (
    (frozenset({"f", "female", "w", "woman", "women"}), frozenset({"m", "male", "man", "men"})),
    (frozenset({"y", "yes"}), frozenset({"n", "no"})),
    (frozenset({"t", "true"}), frozenset({"f", "false"})),
    (frozenset({"pos", "positive", "+"}), frozenset({"neg", "negative", "-"})),
)
_SHOWN = 4


def clean(column: pd.Series) -> tuple[pd.Series, list[str]]:
    """A label column as numbers, categories or booleans with missing values, and what was changed, in sentences.

    Args:
        column: a column as pandas read it.

    Returns:
        The column, unchanged where it was clean, and notes that count every change.  Numeric columns are not changed;
        values that look like codes for "missing" are named.
    """
    name = str(column.name)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return column, []
    if pd.api.types.is_numeric_dtype(column):
        return column, _codes(name, column)
    cells = [None if _is_missing(value) else value for value in column]
    if any(isinstance(value, bool) or not isinstance(value, str | int | float | None) for value in cells):
        return column, []  # booleans with gaps, dates and other objects of a Parquet file
    text = ["" if value is None else " ".join(str(value).split()) for value in cells]
    notes: list[str] = []
    coded = Counter(cell for cell in text if cell.lower() in CODED_MISSING and not _is_sign(cell, text))
    if coded:
        notes.append(f"{name}: {_counted(coded, 'cell')} taken as missing")
    text = ["" if cell in coded or cell.lower() in PLAIN_MISSING else cell for cell in text]
    numbers = _numbers(name, text)
    if numbers is not None:
        values, more = numbers
        series: pd.Series[Any] = pd.Series(values, index=column.index, name=column.name)
        whole = not np.isnan(values).any() and all(re.fullmatch(r"[+-]?\d+", cell) for cell in text)
        if whole and np.abs(values).max() < 2**53:
            series = series.astype(np.int64)
        return series, [*notes, *more, *_codes(name, series)]
    none = sum(isinstance(cell, str) and cell.strip().lower() == "none" for cell in cells)
    if none and any(text):
        notes.append(f"{name}: 'none' in {_cells(none)} taken as missing; if it is a class, rename it (such as absent)")
    merged, more = _categories(name, text)
    if (
        not notes
        and not more
        and all(cell == value if cell else value is None for cell, value in zip(text, cells, strict=True))
    ):
        return column, []
    return pd.Series(merged, index=column.index, name=column.name, dtype="str"), [*notes, *more]


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _is_sign(cell: str, text: Sequence[str]) -> bool:
    """Whether ``-`` is a result, because ``+`` stands in the same column."""
    return cell == "-" and "+" in text


def _numbers(name: str, text: Sequence[str]) -> tuple[NDArray[np.float64], list[str]] | None:
    """The cells as numbers, NaN where missing; None where the column is one of words."""
    cells = [cell.replace("−", "-").lstrip("'") for cell in text]  # a minus sign as typeset; a text mark as in Excel
    held = [cell for cell in cells if cell]
    parsed = {cell: _NUMBER.fullmatch(cell) for cell in set(held)}
    limits = Counter(cell for cell in held if _LIMIT.fullmatch(cell))
    words = Counter(
        cell for cell in held if parsed[cell] is None and cell not in limits and not _GROUPED.fullmatch(cell)
    )
    count = sum(words.values()) + sum(limits.values())
    if not held or len(words) + len(limits) == len(parsed):
        return None
    scale = len(parsed) - len(words) - len(limits) > MANY_NUMBERS and count < len(held) / 2
    if count > FEW_WORDS * len(held) and not (scale and len(words) <= _SHOWN):
        return None
    notes: list[str] = []
    commas = {cell for cell in held if "," in cell}
    grouped = {cell for cell in commas if _GROUPED.fullmatch(cell)}
    points = any("." in cell for cell in held if cell not in words and cell not in limits)
    decimal = commas - grouped
    lost: Counter[str] = Counter()
    if commas and not decimal and (points or any(cell.count(",") > 1 for cell in grouped)):
        cells = [cell.replace(",", "") if cell in grouped else cell for cell in cells]
        notes.append(f"{name}: commas in {_cells(sum(c in commas for c in held))} taken as thousands separators")
    elif commas and decimal and not points:
        cells = [cell.replace(",", ".") for cell in cells]
        notes.append(f"{name}: commas in {_cells(sum(c in commas for c in held))} taken as decimal points")
    elif commas:
        lost = Counter(cell for cell in held if cell in commas)
        notes.append(
            f"{name}: {_counted(lost, 'cell')} taken as missing, because a comma there may separate decimals or "
            "thousands; write a point for decimals and nothing between thousands"
        )
    values = np.full(len(cells), np.nan)
    units: Counter[str] = Counter()
    for place, cell in enumerate(cells):
        if not cell or text[place] in lost:
            continue
        match = _NUMBER.fullmatch(cell)
        if match is None or "," in match[1]:
            continue
        values[place] = float(match[1])
        if match[2]:
            units[match[2]] += 1
    if units:
        if len({unit.lower() for unit in units}) > 1:
            return None  # numbers of several units are not comparable
        notes.append(f"{name}: the unit '{next(iter(units))}' of {_cells(sum(units.values()))} dropped")
    if limits:
        notes.append(f"{name}: {_counted(limits, 'cell')} beyond a limit of measurement taken as missing")
    if words:
        notes.append(
            f"{name}: {_counted(words, 'cell')} taken as missing, because the other {len(held) - count} hold numbers"
        )
    return values, notes


def _codes(name: str, column: pd.Series) -> list[str]:
    """Names values that look like codes for "missing": far from all others, or negative where nothing else is."""
    values = np.asarray(column.dropna(), dtype=np.float64)
    found: list[str] = []
    for code in CODES:
        same = values == code
        if not same.any() or same.sum() > 0.5 * len(values):
            continue
        rest = values[~same & ~np.isin(values, [other for other in CODES if not 0 < other < 100])]
        if len(rest) < 3:
            continue
        low, high = float(rest.min()), float(rest.max())
        quarter, three = np.percentile(rest, [25, 75])
        reach = max(3.0 * (three - quarter), 0.5 * (high - low))
        negative = code < 0 <= low
        score = len(np.unique(rest)) <= MANY_NUMBERS and bool((rest == np.rint(rest)).all())
        far = code < low - reach or code > (2 * high if score and high > 0 else high + reach)
        if negative or far:
            found.append(f"{code} in {_cells(int(same.sum()))}")
    if not found:
        return []
    return [f"{name}: holds {', '.join(found)}, used as a value; if that means 'missing', empty the cells"]


def _categories(name: str, text: Sequence[str]) -> tuple[list[str | None], list[str]]:
    """Spellings that differ by case, blanks or a usual abbreviation only become the most frequent of them."""
    counts = Counter(cell for cell in text if cell)
    groups: dict[str, list[str]] = {}
    for cell in counts:
        groups.setdefault(cell.casefold(), []).append(cell)
    for first, second in _SYNONYMS:
        if len(groups) > 2 and set(groups) <= first | second:
            groups = {
                "+".join(sorted(side)): [cell for key in groups if key in side for cell in groups[key]]
                for side in (first, second)
            }
    spelling: dict[str, str] = {}
    merged: list[str] = []
    for spellings in groups.values():
        chosen = sorted(spellings, key=lambda cell: (-counts[cell], cell))[0] if spellings else ""
        spelling |= dict.fromkeys(spellings, chosen)
        if len(spellings) > 1:
            others = ", ".join(f"'{cell}' ({counts[cell]})" for cell in sorted(spellings) if cell != chosen)
            merged.append(f"{others} counted as '{chosen}' ({counts[chosen]})")
    notes = [f"{name}: {'; '.join(merged)}"] if merged else []
    return [spelling[cell] if cell else None for cell in text], notes


def _cells(count: int) -> str:
    return f"{count} cell{'s' if count != 1 else ''}"


def _counted(found: Counter[str], what: str) -> str:
    total = sum(found.values())
    shown = ", ".join(f"'{cell}'" for cell, _ in found.most_common(_SHOWN))
    more = ", …" if len(found) > _SHOWN else ""
    return f"{total} {what}{'s' if total != 1 else ''} ({shown}{more})"
