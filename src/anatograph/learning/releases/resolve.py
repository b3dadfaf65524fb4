"""From what a user calls a model to its folder: a path, or a release of the package."""

from __future__ import annotations

import re
from pathlib import Path

from anatograph.errors import UserError
from anatograph.learning.releases.shipped import NONE_SHIPPED, shipped_model, shipped_releases

RELEASE_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*-\d+")
"""Such as ``anatograph-ct-1``: a name and a number."""


def resolve_model(model: str | Path | None) -> Path:
    """The folder of a model: a path as it is, or the folder of a shipped release that is given by its name.

    None stands for the release that ships as default.  A folder on disk takes precedence over a name.

    Raises:
        UserError: nothing of that name.
    """
    if model is None:
        return shipped_model()
    path, name = Path(model), str(model)
    releases = {} if path.exists() else shipped_releases()
    if name in releases:
        return releases[name].folder
    if not path.exists() and RELEASE_NAME.fullmatch(name):
        known = f"it carries {', '.join(releases)}" if releases else NONE_SHIPPED
        raise UserError(f"There is no folder {name}, and this build carries no release of that name: {known}.")
    return path
