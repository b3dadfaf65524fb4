"""Imports point one way: a room imports only those before it in `ORDER`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import anatograph

PACKAGE = Path(anatograph.__file__).parent
ORDER = [
    "_version",
    "errors",
    "choices",
    "limits",
    "execution",
    "imaging",
    "phantoms",
    "anatomy",
    "study",
    "learning",
    "embedding",
    "evaluation",
    "explanation",
    "baselines",
    "reporting",
    "preparation",
    "checkup",
    "demonstration",
    "cli",
]
HEAVY = {"torch", "SimpleITK", "scipy", "pandas", "zarr", "sklearn", "matplotlib", "lightning_fabric", "pyarrow"}
OPTIONAL = {"monai", "ants", "lungmask", "totalsegmentator", "plotly", "umap", "distributed", "dask"}


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path, top_level_only: bool) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            prefix = "anatograph." if node.level else ""
            names += [prefix + node.module] + [f"{prefix}{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    folder = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if folder in ("__init__", "__main__"):
        return
    for name in _imports(path, top_level_only=False):
        parts = name.split(".")
        if parts[0] == "anatograph" and len(parts) > 1 and parts[1] in ORDER:
            assert ORDER.index(parts[1]) <= ORDER.index(folder), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_extras_are_imported_only_where_used(path: Path) -> None:
    roots = {name.split(".")[0] for name in _imports(path, top_level_only=True)}
    assert not roots & OPTIONAL
    if path.name in ("__init__.py", "errors.py") or path.parent.name == "cli":
        assert not roots & HEAVY
