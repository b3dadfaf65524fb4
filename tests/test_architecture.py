"""Imports point one way: a room imports only those before it in `ORDER`."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

import anatograph

PACKAGE = Path(anatograph.__file__).parent
ORDER = [
    "_version",
    "errors",
    "choices",
    "limits",
    "typed_settings",
    "execution",
    "imaging",
    "anatomy",
    "study",
    "phantoms",
    "learning",
    "embedding",
    "evaluation",
    "explanation",
    "baselines",
    "reporting",
    "exchange",
    "service",
    "checkup",
    "demonstration",
    "cli",
]
HEAVY = {"torch", "SimpleITK", "scipy", "pandas", "zarr", "sklearn", "matplotlib", "pyarrow"}
OPTIONAL = {"monai", "ants", "lungmask", "totalsegmentator", "plotly", "umap", "distributed", "dask", "huggingface_hub",
            "anndata", "highdicom", "dicomweb_client", "starlette", "uvicorn"}  # fmt: skip


LINES, MODULES = 300, 16
LONG: dict[str, str] = {}
"""Modules over `LINES` lines, each with the reason."""


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    parts = ("anatograph", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, top_level_only: bool) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return _names(tree.body if top_level_only else list(ast.walk(tree)))


def _names(nodes: Sequence[ast.AST]) -> list[str]:
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


def test_every_room_has_its_place() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in _modules()}
    assert rooms - {"__init__", "__main__"} <= set(ORDER)


def test_no_circular_imports() -> None:
    """Imports inside functions count; those for type checkers alone do not."""
    paths = {_name(path): path for path in _modules()}
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        names = {name for name in _runtime_imports(path) if name in paths}
        parents = {name for name in names if any(other.startswith(f"{name}.") for other in names)}
        graph[module] = names - parents - {module}
    circles = {frozenset(circle) for circle in _circles(graph)}
    assert not circles, f"circular imports: {[sorted(circle) for circle in circles]}"


def _runtime_imports(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.Pass()]
    return _names(list(ast.walk(tree)))


def _circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that import each other, directly or through others."""
    reached = {module: _reach(graph, module) for module in graph}
    groups = {frozenset({m for m in reached[module] if module in reached[m]}) for module in graph}
    return [set(group) for group in groups if group]


def _reach(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    front = set(graph[start])
    while front:
        found |= front
        front = {name for module in front for name in graph[module]} - found
    return found


def test_folders_and_modules_stay_small() -> None:
    folders = {folder: len(list(folder.glob("*.py"))) - 1 for folder in {path.parent for path in _modules()}}
    crowded = {str(folder.relative_to(PACKAGE)): n for folder, n in folders.items() if n > MODULES}
    assert not crowded
    lengths = {p.relative_to(PACKAGE).as_posix(): len(p.read_text(encoding="utf-8").splitlines()) for p in _modules()}
    assert {name: n for name, n in lengths.items() if n > LINES and name not in LONG} == {}
