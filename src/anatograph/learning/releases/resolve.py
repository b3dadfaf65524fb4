"""From what a user calls a model to its folder: a path, a release of the package, or a model that was pulled."""

from __future__ import annotations

import re
from pathlib import Path

from anatograph.errors import UserError
from anatograph.learning.releases.hub import HUB_NAME, pulled
from anatograph.learning.releases.shipped import NONE_SHIPPED, shipped_model, shipped_releases

RELEASE_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*-\d+")
"""Such as ``anatograph-ct-2``: a name and a number."""


def resolve_model(model: str | Path | None) -> Path:
    """The folder of a model: a path as it is, the name of a shipped release, or OWNER/NAME of a model that was pulled.

    None stands for the release that ships as default.  A folder on disk takes precedence over a name, and nothing is
    downloaded.

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
        raise UserError(f"There is no folder {name}, and this build ships no release of that name: {known}.")
    if not path.exists() and HUB_NAME.fullmatch(name):
        return pulled(name) or path
    return path
