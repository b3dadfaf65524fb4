"""Everything that a browser needs to show the page, from the package itself."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from functools import cache
from importlib import resources
from itertools import count
from typing import Any

from anatograph.errors import UserError
from anatograph.study.quality.gallery import review_script

_HERE = resources.files("anatograph.reporting")
_STYLES = ("base", "layout", "cards", "figures", "viewer", "print")


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


def styles() -> str:
    """All style sheets, print last."""
    return "\n".join(static(f"css/{name}.css") for name in _STYLES)


@cache
def plotly() -> str:
    """Plotly's own script as its Python package ships it, packed for the page."""
    from plotly.offline import get_plotlyjs

    return _packed(get_plotlyjs())


@cache
def niivue() -> str:
    """NiiVue's published build after its licences, packed for the page."""
    licences = static("niivue/LICENSE") + "\n" + static("niivue/THIRD_PARTY_LICENSES.txt")
    return _packed(f"/*\n{licences}\n*/\n{static('niivue/niivue.umd.js')}")


def viewer_bytes(viewer: bool) -> int:
    """Bytes of the viewer's scripts in the page."""
    return len(niivue()) + len(static("js/viewer.js")) if viewer else 0


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
    numbers = count(1)
    environment.globals |= {
        "static": static,
        "styles": styles,
        "plotly": plotly,
        "niivue": niivue,
        "reviews": lambda: _inside_script(review_script()),
        "number": lambda: next(numbers),
    }
    return environment.get_template("page.html.j2").render(context)


def _packed(script: str) -> str:
    """Base64 of gzip: a third of the size, and nothing to parse until a script unpacks it."""
    return base64.b64encode(gzip.compress(script.encode("utf-8"), 9, mtime=0)).decode("ascii")


def _inside_script(text: str) -> str:
    # Only a literal end tag could end the element early; in scripts it can stand in strings alone.
    return text.replace("</script", "<\\/script").replace("</style", "<\\/style")
