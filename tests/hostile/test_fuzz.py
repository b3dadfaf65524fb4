"""Bytes of valid files changed at random: the readers answer or refuse, and nothing else comes out of them.

The readers run in a process of their own with bounded memory, so that a crash of the interpreter or a giant allocation
is a failure of the test and not the end of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from anatograph.anatomy.atlas import save_atlas
from hostile.material import chest, series, write
from hostile.outcome import small_atlas

MEMORY_MB = 4000
"""Address space above what the interpreter has mapped with all libraries loaded; the files below are of 40 KB. Each
thread of a reader maps some 70 MB without touching them."""


class Reader:
    """A process that reads one path after another and says what came of it."""

    def __init__(self) -> None:
        driver = Path(__file__).with_name("read_driver.py")
        self.process = subprocess.Popen(
            [sys.executable, str(driver), str(MEMORY_MB)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def __call__(self, kind: str, path: Path) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([kind, str(path)]) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                return line.removeprefix("ANSWER ").strip()
        return f"the process ended with {self.process.wait()}"

    def close(self) -> None:
        with self.process:  # closes the pipes
            self.process.kill()


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


Change = tuple[int, int, bytes]
"""Where (in thousandths of the part that is changed), how many bytes go, and what comes instead."""

CHANGES = st.lists(
    st.tuples(
        st.integers(0, 999),
        st.sampled_from([0, 1, 1, 2, 4, 8, 100_000]),
        st.one_of(
            st.binary(min_size=0, max_size=8), st.sampled_from([b"\xff" * 4, b"\x7f" * 4, b"\0" * 8, b"99999999"])
        ),
    ),
    min_size=1,
    max_size=4,
)


def changed(data: bytes, changes: list[Change], length: int) -> bytes:
    """``data`` with changes within its first ``length`` bytes."""
    result = bytearray(data)
    for place, gone, come in changes:
        at = place * min(length, len(result)) // 1000
        result[at : at + gone] = come
    return bytes(result)


def quick(count: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small valid files."""
    folder = tmp_path_factory.mktemp("valid")
    small = chest()[:18, ::2, ::2]
    for suffix in ("nii", "nii.gz", "nrrd", "mha"):
        write(folder / f"scan.{suffix}", small)
    floats = write(folder / "floats.nii", small.astype(np.float32))
    series(folder / "dicom", small)
    save_atlas(small_atlas(), folder / "atlas")
    table = pd.DataFrame({"subject_id": ["a", "b"], "image": ["x.nii", "y.nii"], "age": [1.5, 2.0]})
    table.to_csv(folder / "t.csv", index=False)
    table.to_parquet(folder / "t.parquet")
    return {
        **{suffix: (folder / f"scan.{suffix}").read_bytes() for suffix in ("nii", "nii.gz", "nrrd", "mha")},
        "floats.nii": floats.read_bytes(),
        "csv": (folder / "t.csv").read_bytes(),
        "parquet": (folder / "t.parquet").read_bytes(),
        "atlas.json": (folder / "atlas" / "atlas.json").read_bytes(),
        "lungs.nii.gz": (folder / "atlas" / "lungs.nii.gz").read_bytes(),
        "dicom": b"".join(sorted((folder / "dicom").iterdir())[4].read_bytes() for _ in range(1)),
        "folder": str(folder).encode(),
    }


HEADER = {"nii": 352, "floats.nii": 400, "nrrd": 420, "mha": 360, "nii.gz": 10**6, "csv": 10**6, "parquet": 10**6}


@pytest.mark.parametrize("kind", HEADER)
def test_one_file(kind: str, reader: Reader, material: dict[str, bytes], tmp_path: Path) -> None:
    @quick(120 if kind != "nii.gz" else 60)
    @given(changes=CHANGES)
    @example(changes=[(0, 100_000, b"")])
    def attempt(changes: list[Change]) -> None:
        path = tmp_path / f"t.{kind}"
        path.write_bytes(changed(material[kind], changes, HEADER[kind]))
        assert reader("cohort" if kind in ("csv", "parquet") else "scan", path) in ("ok", "refused")

    attempt()


def test_dicom(reader: Reader, material: dict[str, bytes], tmp_path: Path) -> None:
    folder = series(tmp_path / "dicom", chest()[:18, ::2, ::2])
    victim = sorted(folder.iterdir())[4]

    @quick(150)
    @given(changes=CHANGES)
    @example(changes=[(300, 1, b"")])  # a byte lost: GDCM took minutes over what came after
    def attempt(changes: list[Change]) -> None:
        victim.write_bytes(changed(material["dicom"], changes, 1400))
        assert reader("scan", folder) in ("ok", "refused")

    attempt()


@pytest.mark.parametrize("name", ["atlas.json", "lungs.nii.gz"])
def test_atlas(name: str, reader: Reader, material: dict[str, bytes], tmp_path: Path) -> None:
    for each in ("atlas.json", "lungs.nii.gz"):
        (tmp_path / each).write_bytes(material[each])

    @quick(60)
    @given(changes=CHANGES)
    def attempt(changes: list[Change]) -> None:
        (tmp_path / name).write_bytes(changed(material[name], changes, 10**6))
        assert reader("atlas", tmp_path) in ("ok", "refused")

    attempt()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**12) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += _paths(inner, (*at, key))
    return found


@pytest.mark.parametrize("kind", ["atlas", "study", "subject", "model", "regions"])
def test_json_with_other_values(kind: str, reader: Reader, small_things: dict[str, Path]) -> None:
    """Any value of a JSON file replaced by anything else, at any depth."""
    folder = small_things[kind]
    name = {"atlas": "atlas.json", "study": "study.json", "subject": "subject.json", "model": "config.json",
            "regions": "zarr.json"}[kind]  # fmt: skip
    whole = (folder / name).read_text(encoding="utf-8")
    paths = _paths(json.loads(whole))[1:]

    @quick(100)
    @given(place=st.sampled_from(paths), value=JSON)
    @example(place=paths[0], value=10**400)
    def attempt(place: tuple[Any, ...], value: Any) -> None:
        content = json.loads(whole)
        inner = content
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
        assert reader(kind, folder) in ("ok", "refused")

    try:
        attempt()
        (folder / name).write_text("[" * 100_000, encoding="utf-8")
        assert reader(kind, folder) == "refused"
    finally:
        (folder / name).write_text(whole, encoding="utf-8")
    assert reader(kind, folder) == "ok"


def test_weights(reader: Reader, small_things: dict[str, Path]) -> None:
    """safetensors whose header or numbers were changed, with the checksum made to fit."""
    import hashlib

    folder = small_things["model"]
    config, weights = (folder / name for name in ("config.json", "model.safetensors"))
    whole, numbers = config.read_text(encoding="utf-8"), weights.read_bytes()

    @quick(60)
    @given(changes=CHANGES)
    @example(changes=[(0, 8, b"\xff\xff\xff\xff\xff\xff\xff\x7f")])
    def attempt(changes: list[Change]) -> None:
        data = changed(numbers, changes, 4000)
        weights.write_bytes(data)
        content = json.loads(whole) | {"weights_sha256": hashlib.sha256(data).hexdigest()}
        config.write_text(json.dumps(content), encoding="utf-8")
        assert reader("model", folder) in ("ok", "refused")

    try:
        attempt()
    finally:
        config.write_text(whole, encoding="utf-8")
        weights.write_bytes(numbers)
