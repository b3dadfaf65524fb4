"""Writes docs/awkward-scans.md from the table of cases: ``cd tests && python -m hostile.page``."""

from __future__ import annotations

from pathlib import Path

from hostile.outcome import GROUPS, cases_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "awkward-scans.md"

_HEAD = """# Awkward scans

What a user sees of scans and tables that are damaged, mislabelled, unusual, or crafted to do harm.
Each row is a test (`tests/hostile/`); this page is written from the same table by
`cd tests && python -m hostile.page`, and a test compares the two. `SCAN` and `TABLE` stand for the
path, `…` for what varies from scan to scan.

A scan that cannot be used never ends the run of a cohort: it gets a line in `STUDY/failures.csv`,
the others are processed, and `anatograph preprocess` ends with status 1. A scan that is usable but
odd is *flagged* in its `subject.json`, in `preprocess.run.json` and in the report; at
[level `reject`](study.md#quality) it is left out of evaluations. `anatograph doctor cohort.csv`
finds in advance what headers reveal. A faulty table is refused whole (status 2), with all its
faulty rows.
"""

_LIMITS = """
## Limits

Sizes are checked against the header before anything is allocated.

| what | limit | to change it |
|---|---|---|
| voxels of a scan or mask, as stored or as int16 | 4 GB | environment variable `ANATOGRAPH_MAX_SCAN_GB` |
| what a `.nii.gz` unpacks to | what its header says, and 64 MiB | |
| pixels of one DICOM image | 2²⁶ | |
| files below a DICOM folder, links followed | 50,000 | |
| header of a volume file | 4 MiB | |
| a JSON file (atlas, study, model) | 64 MiB | |
| a cohort or embedding table | 2 GiB | |

A DICOM file's structure is checked before GDCM opens it, as GDCM takes minutes over a header that
lost a byte. Detached headers (`.nhdr`, `.mhd`) may take their voxels only from one file beside
them. Links to files and folders outside are followed, since archives are built of them (git-annex,
DataLad), each folder once; pipes and devices are passed over.

## Identities in headers

Messages, accounts, failures and reports hold nothing of a DICOM header that identifies a subject:
series are named by number and kernel, never by their description. Paths from the cohort table do
appear in messages and `subject.json`.

`anatograph preprocess --deidentified-only` refuses scans and masks whose headers still identify the
subject, and names the fields, never their contents. Of DICOM these are 85 attributes of the Basic
Application Level Confidentiality Profile (PS3.15 2024b, Table E.1-1;
`src/anatograph/imaging/identifying.csv`): names, patient numbers, birth date, address, telephone,
institution, physicians and comments, in every file of the folder; and burned-in annotations. The
profile's UIDs, other dates and devices are not among them, as options of the same standard retain
them. A code (`LUNG1-001`) passes; a name (`DOE^JANE`) never does, and a number such as hospitals
issue (six digits and more) only where PatientIdentityRemoved says YES. Of NIfTI: `descrip`,
`db_name`, `aux_file`, `intent_name` and the extensions; of NRRD and MetaImage: comments and keys
that the format does not know. There a text counts where it reads like a name or a date of birth.
DICOM sequences, private elements, file names and the pixels are not checked.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for group in GROUPS:
        rows = [f"| {one.name} | {_cell(one.sees)} |" for one in cases_of(group)]
        parts.append("\n".join([f"\n## {group}\n", "| input | what the user sees |", "|---|---|", *rows, ""]))
    return "".join([*parts, _LIMITS])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n  ", " / ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
