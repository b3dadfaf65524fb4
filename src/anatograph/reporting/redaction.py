"""What a page may show: no name, DICOM identifier, path or date, unless identities are allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import pandas as pd

from anatograph.study.quality.levels import LEVELS

WITHHELD = "[withheld]"
MOST_CLASSES = 20
"""A text column with more different values than this is free text to the page, unless its name says otherwise."""

_STRUCTURE = ("subject_id", "image", "lungs")
_NAMED = re.compile(
    r"(^|[^a-z])(name|names|surname|forename|initials?|mrn|pid|nhs|ssn|dob|birth\w*|born|dates?|datetime|timestamp|"
    r"accession\w*|uid|uids|guid|uuid|address|street|zip|postcode|phone|e?mail|path|paths|file|files|filename|"
    r"folder|dir|directory|url|uri|physician|radiologist|doctor|operator|(patient|study|series|person|hospital|"
    r"medical|record|case|scan)[^a-z]*(id|no|nr|number|key))($|[^a-z])"
)
_HARMLESS = re.compile(
    r"(^|[^a-z])(sites?|cent(re|er)s?|scanners?|manufacturer|vendor|model|kernel|protocol|device|cohort|dataset|group|"
    r"arm|sex|gender|diagnos[ie]s|disease|stage|grade|smok\w+|contrast|fold|split|visit|breath\w*)($|[^a-z])"
)
"""Columns that describe a group of patients: shown whatever number of values they have, their names and numbers too."""
_OF_A_GROUP = re.compile(r"(^|[^a-z])(names?|id|no|nr|number|key)($|[^a-z])")
_DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])"  # 2020-01-31
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{6}(?:\.\d+)?)?"  # 20200131, 20200131093000
    r"|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:19|20)?\d\d)(?!\d)"  # 31.01.2020, 1/31/20
    r"|(?i:\b\d{1,2}[ -]?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[ -]?(?:19|20)?\d\d\b)"
)
_UID = re.compile(r"(?<![\d.])\d+(?:\.\d+){3,}(?![\d.])")
_PATHLIKE = re.compile(r"[\\/]|\.(?:dcm|nii|gz|nrrd|mha|mhd|csv|tsv|parquet)\b", re.IGNORECASE)
_PERSON = re.compile(r"\^")

_TOKEN = re.compile(r"\S+")
_EDGES = "()[]{}<>\"'`,;:.!?…"
_WORD = re.compile(r"[a-z]+(?:['’-][a-z]+)*")
_NUMBER = re.compile(r"[+-]?(?:\d{1,5}|\d{1,3}(?:,\d{3}){1,2})(?:\.\d{1,6})?(?:e[+-]?\d{1,2})?%?")
_UNIT = re.compile(r"(?:mm³?|ml|cm|HU|°|µm|s|MB|GB)")
_SYMBOL = re.compile(r"[-–×=<>≤≥±/%+]+")
_KNOWN = frozenset(
    re.findall(
        r"\S+",
        "A AUC CT CTs CPU DICOM Dice GB GPU HU I ITK LPS MB MetaImage NIfTI NRRD PET MR RAS LAS R² SimpleITK The This "
        "It There These Give ANTs OSError ValueError RuntimeError MemoryError No Not Only All "
        "review.csv quality.csv failures.csv study.json",
    )
)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|“[^”]*”")
_SENTENCE_ENDS = ".;:!?"
_PATIENTS = re.compile(r"(\bpatients?\b[^()]{0,20}\()[^)]*(\))")


@dataclass(frozen=True)
class Discretion:
    """Decides for columns, subjects and sentences; with ``identities`` everything passes."""

    identities: bool = False
    """Whether names, identifiers, paths and dates are allowed."""
    secrets: tuple[str, ...] = ()
    """Texts that are known to name a file or folder of a patient."""
    subject_ids: tuple[str, ...] = ()
    """All subjects on the page, in order."""
    words: frozenset[str] = field(default=frozenset())
    """Words that sentences may hold although they look like names: columns and classes that are shown."""

    @cached_property
    def _pseudonyms(self) -> dict[str, str]:
        if self.identities:
            return {}
        identifying = [name for name in self.subject_ids if identifies(name)]
        width = len(str(len(self.subject_ids)))
        place = {name: number for number, name in enumerate(self.subject_ids, start=1)}
        return {name: f"subject-{place[name]:0{width}d}" for name in identifying}

    @cached_property
    def _renamed(self) -> re.Pattern[str]:
        """Any name that a pseudonym stands for, the longest first."""
        names = sorted(self._pseudonyms, key=len, reverse=True)
        return re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, names))})(?![\w-])")

    @cached_property
    def _shown(self) -> frozenset[str]:
        """What sentences may hold because the page shows it anyway."""
        return self.words | frozenset(name for name in self.subject_ids if name not in self._pseudonyms)

    @property
    def renamed(self) -> int:
        """How many subjects are shown under another name, because theirs holds a date or an identifier."""
        return len(self._pseudonyms)

    def subject(self, subject_id: str) -> str:
        """The name a subject has on the page."""
        if self.identities:
            return subject_id
        known = self._pseudonyms.get(subject_id)
        return known or (WITHHELD if identifies(subject_id) else subject_id)

    def columns(self, table: pd.DataFrame) -> tuple[list[str], dict[str, str]]:
        """The columns that may be shown, and why each other one is withheld; paths to images are neither."""
        shown, withheld = [], {}
        for name in map(str, table.columns):
            if name in _STRUCTURE or name.endswith("_mask"):
                continue
            reason = "" if self.identities else _reason(name, table[name])
            if reason:
                withheld[name] = reason
            else:
                shown.append(name)
        return shown, withheld

    def reason(self, text: str) -> str:
        """A quality finding, ``LEVEL: sentence``, without what identifies a patient."""
        level, colon, rest = text.partition(": ")
        if colon and level in LEVELS:
            return f"{level}: {self.sentence(rest)}"
        return self.sentence(text)

    def sentence(self, text: str) -> str:
        """A message without the paths, identifiers, names and dates that it may quote.

        Plain words, short numbers, terms of the field and what the page shows elsewhere pass, such as the subjects'
        names; a capitalised word passes at the beginning of a sentence if the software itself uses it.  Anything else
        gives way to ``[withheld]``.
        """
        if self.identities:
            return text
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, WITHHELD)
        if self._pseudonyms:
            text = self._renamed.sub(lambda found: self._pseudonyms[found[0]], text)
        text = _PATIENTS.sub(rf"\1{WITHHELD}\2", text)
        text = _QUOTED.sub(lambda found: found[0] if found[0][1:-1] in self._shown else WITHHELD, text)
        first, colon, rest = text.partition(": ")
        if colon and " " not in first and first not in self._shown:
            text = f"{WITHHELD}: {rest}"  # what stands before the colon is the file
        text = _TOKEN.sub(self._token, text)
        return re.sub(rf"(?:{re.escape(WITHHELD)}[\s,]*)+(?={re.escape(WITHHELD)})", "", text)

    def _token(self, found: re.Match[str]) -> str:
        token = found[0]
        if WITHHELD in token:
            return token if token.replace(WITHHELD, "").strip(_EDGES) == "" else WITHHELD
        core = token.strip(_EDGES)
        if not core or core in self._shown or core in _KNOWN:
            return token
        before = found.string[: found.start()].rstrip()
        if (not before or before[-1] in _SENTENCE_ENDS) and core.istitle() and core.lower() in _vocabulary():
            return token
        parts = [part for part in re.split(r"[-–=×/]", core) if part] if not _DATE.search(core) else [core]
        if parts and all(part in self._shown or part in _KNOWN or _plain(part) for part in parts):
            return token
        return token.replace(core, WITHHELD)


def _plain(part: str) -> bool:
    return any(kind.fullmatch(part) for kind in (_WORD, _NUMBER, _UNIT, _SYMBOL))


def identifies(text: str) -> bool:
    """Whether a short text holds a date, a DICOM identifier, a path or a name as DICOM writes it."""
    return any(kind.search(text) for kind in (_DATE, _UID, _PATHLIKE, _PERSON))


def _reason(name: str, values: pd.Series) -> str:
    """Why a column is withheld; empty where it may be shown."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    of_a_group = bool(_HARMLESS.search(spaced)) and "patient" not in spaced
    if _NAMED.search(_OF_A_GROUP.sub(" ", spaced) if of_a_group else spaced):
        return "by its name"
    held = values.dropna()
    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
        return "dates"
    if pd.api.types.is_bool_dtype(held):
        return ""
    if pd.api.types.is_numeric_dtype(held):
        whole = held[held == held.round()]
        if len(held) and len(whole) == len(held) and all(_DATE.fullmatch(str(int(v))) for v in whole):
            return "dates"
        return "identifiers" if len(whole) == len(held) and (whole.abs() >= 1e6).any() else ""
    texts = [str(value) for value in held.unique()]
    for kind, what in ((_DATE, "dates"), (_PATHLIKE, "paths"), (_UID, "identifiers"), (_PERSON, "names")):
        if any(kind.search(text) for text in texts):
            return what
    if of_a_group:
        return ""
    return "free text" if len(texts) > MOST_CLASSES or len(texts) == len(held) > 2 else ""


@cache
def _vocabulary() -> frozenset[str]:
    """The words that the software itself uses in lower case, from its own source."""
    files = Path(__file__).resolve().parents[1].rglob("*.py")
    return frozenset(word for file in files for word in re.findall(r"[a-z]{2,}", file.read_text(encoding="utf-8")))


def known_secrets(paths: Iterable[str | Path], subject_ids: Iterable[str] = ()) -> tuple[str, ...]:
    """Paths, and the parts of them that look like a name: what a message may not quote."""
    harmless = set(subject_ids)
    found: set[str] = set()
    for path in paths:
        text = str(path)
        if text in ("", "."):
            continue
        found.add(text)
        for part in Path(text).parts:
            plain = part.isalpha() and part.islower()
            if len(part) >= 4 and not plain and part not in harmless:
                found.add(part)
    return tuple(sorted(found))
