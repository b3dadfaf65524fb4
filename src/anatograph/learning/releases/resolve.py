"""From what a user calls a model to its folder: a path, a release of the package, or a model that was pulled."""

from __future__ import annotations

from pathlib import Path

from anatograph.errors import UserError
from anatograph.learning.releases.hub import HUB_NAME, pulled
from anatograph.learning.releases.shipped import NONE_SHIPPED, shipped_model, shipped_releases


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
    if path.exists():
        return path
    releases = shipped_releases()
    if name in releases:
        return releases[name].folder
    if HUB_NAME.fullmatch(name):
        folder = pulled(name)
        if folder is None:
            raise UserError(
                f"There is no folder {name}, and no model of that name was pulled; check the path, or `anatograph pull "
                f"{name}`."
            )
        return folder
    if path.name == name:
        known = f"it carries {', '.join(releases)}" if releases else NONE_SHIPPED
        raise UserError(f"There is no folder {name}, and this build ships no release of that name: {known}.")
    return path
