"""File names as the C++ libraries take them."""

from __future__ import annotations

from pathlib import Path

from anatograph.errors import UserError


def native_name(path: Path) -> str:
    """The path as text for ITK, which ends the whole process at a name that is not UTF-8.

    Raises:
        UserError: it is not UTF-8, as names from old archives are.
    """
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode(errors="backslashreplace").decode()
        raise UserError(
            f"{shown}: this name is not UTF-8, and the image libraries cannot open it; rename the file or folder, as "
            "with convmv."
        ) from None
    return name
