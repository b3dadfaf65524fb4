"""Everything that a browser needs to show the page, from the package itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from anatograph.errors import UserError

_HERE = resources.files("anatograph.reporting")


@cache
def static(name: str) -> str:
    """A file of ``static/``, fit to stand inside a script or style element.

    Raises:
        UserError: an installation without it.
    """
    try:
        text = _HERE.joinpath("static", *name.split("/")).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"This installation lacks the report's file {name}; install anatograph again.") from error
    return _inside_script(text)


@cache
def plotly() -> str:
    """Plotly's own script, as its Python package ships it."""
    from plotly.offline import get_plotlyjs

    return _inside_script(get_plotlyjs())


def require() -> None:
    """Check that what the report is made with is installed, before any work is done.

    Raises:
        UserError: naming what to install.
    """
    for module in ("jinja2", "plotly"):
        try:
            __import__(module)
        except ImportError as error:
            raise UserError(f"The report needs {module}: pip install 'anatograph[report]'.") from error


def render(context: Mapping[str, Any]) -> str:
    """The page; every text is escaped unless a template says otherwise."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("anatograph.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = static
    environment.globals["plotly"] = plotly
    return environment.get_template("page.html.j2").render(context)


def _inside_script(text: str) -> str:
    # Only a literal end tag could end the element early; in scripts it can stand in strings alone.
    return text.replace("</script", "<\\/script").replace("</style", "<\\/style")
