"""Input from outside runs no code and reaches nothing outside its place."""

from __future__ import annotations

import ast
import json
import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

import anatograph
from anatograph.embedding.regions import Regions
from anatograph.embedding.table import read_embeddings
from anatograph.embedding.zarr_check import check_zarr
from anatograph.errors import UserError
from anatograph.study.cohort import read_cohort
from anatograph.study.identifiers import fault_of, subject_folder
from anatograph.study.store import Study

PACKAGE = Path(anatograph.__file__).parent
UNPICKLERS = {"learning/model/published.py", "baselines/networks/published_weights.py", "imaging/lungs/networks.py"}
"""They read PyTorch checkpoints of others, with ``weights_only=True``."""
BARRED = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
ON_REQUEST = {
    "learning/releases/hub.py": {"huggingface_hub"},
    "study/sources/dicomweb.py": {"requests"},
}
"""They reach the network, but only in commands that name a server or a model of the hub."""
NETWORK = {"urllib", "requests", "http", "ftplib", "huggingface_hub", "aiohttp", "httpx"}


def _calls(tree: ast.AST) -> list[tuple[str, dict[str, object]]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {k.arg: getattr(k.value, "value", "?") for k in node.keywords if k.arg}
            found.append((ast.unparse(node.func), keywords))
    return found


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_unpickled_run_or_fetched(file: Path) -> None:
    place = file.relative_to(PACKAGE).as_posix()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        roots = {name.split(".")[0] for name in names}
        assert not (roots & NETWORK) - ON_REQUEST.get(place, set()), f"{place} can reach the network"
        if place not in UNPICKLERS:
            assert not roots & BARRED, place
    for call, keywords in _calls(tree):
        if call in ("np.load", "numpy.load"):
            assert keywords.get("allow_pickle") is False, f"{place}: {call} must say allow_pickle=False"
        if call == "torch.load":
            assert place in UNPICKLERS, f"{place} loads a pickle"
            assert keywords.get("weights_only") is True, f"{place}: torch.load must say weights_only=True"
        assert call not in ("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads"), f"{place}: {call}"
        assert not call.endswith((".read_pickle", ".to_pickle", "torch.save")), f"{place}: {call}"
        assert keywords.get("shell") is not True, f"{place} starts a shell"


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_a_zarr_store_with_a_codec_that_unpickles(tmp_path: Path) -> None:
    array = zarr.create_array(store=str(tmp_path / "r.zarr"), shape=(1, 2, 3), chunks=(1, 2, 3), dtype="float32")
    array[:] = np.ones((1, 2, 3), np.float32)
    array.attrs.update({"subject_ids": ["a"]})
    assert Regions(tmp_path / "r.zarr").of("a").shape == (2, 3)
    file = tmp_path / "r.zarr" / "zarr.json"
    whole = json.loads(file.read_text(encoding="utf-8"))
    for change in (
        {"codecs": [{"name": "numcodecs.pickle", "configuration": {"protocol": 5}}]},
        {"codecs": [{"name": "sharding_indexed", "configuration": {"codecs": [{"name": "numcodecs.pickle"}]}}]},
        {"data_type": "object"},
        {"data_type": {"name": "structured", "configuration": {}}},
        {"shape": [2**62, 2, 3]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**20, 2**20, 3]}}},
        {"storage_transformers": [{"name": "x"}]},
        {"zarr_format": 2},
    ):
        file.write_text(json.dumps(whole | change))
        with pytest.raises(ValueError, match=r"codec|holds|shape|chunks|transformers|format"):
            check_zarr(tmp_path / "r.zarr")
        with pytest.raises(UserError, match="cannot be read"):
            Regions(tmp_path / "r.zarr")


def test_a_zarr_store_of_the_old_format_with_pickled_objects(tmp_path: Path) -> None:
    folder = tmp_path / "r.zarr"
    folder.mkdir()
    about = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "order": "C", "fill_value": None,
             "compressor": None, "filters": [{"id": "pickle", "protocol": 5}]}  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(about))
    (folder / "0").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with pytest.raises(UserError):
        Regions(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("reader", [read_cohort, read_embeddings])
def test_parquet_with_an_extension_type_that_unpickles(tmp_path: Path, reader: object) -> None:
    payload = pickle.dumps(Trap(tmp_path / "ran"))
    field = pa.field("image", pa.string(), metadata={
        b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": payload,
    })  # fmt: skip
    table = pa.table(
        [pa.array(["a"]), pa.array(["x.nii"])], schema=pa.schema([pa.field("subject_id", pa.string()), field])
    )
    pq.write_table(table, tmp_path / "t.parquet")
    with suppress(UserError):
        reader(tmp_path / "t.parquet")  # type: ignore[operator]
    assert not (tmp_path / "ran").exists()


def test_parquet_that_says_it_holds_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"subject_id": ["a"] * 1000, "image": ["x"] * 1000}).to_parquet(tmp_path / "t.parquet")
    monkeypatch.setattr("anatograph.study.cohort.parquet._MOST_CELLS", 1000)
    with pytest.raises(UserError, match="too much for a table"):
        read_cohort(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", "", "a/b", "/etc", "a\\b", "a\0b", "x" * 65, "é", "a b", "\x1b[2J"]
)
def test_identifiers_that_would_be_other_paths(tmp_path: Path, name: str) -> None:
    assert fault_of(name)
    with pytest.raises(UserError) as error:
        subject_folder(tmp_path, name)
    assert str(error.value).isprintable()


def test_a_study_gives_no_subject_outside_it(tmp_path: Path) -> None:
    about = {"format_version": 1, "settings": {}, "landmarks": 3, "patch_size": 8, "atlas_hash": "x"}
    (tmp_path / "study" / "subjects").mkdir(parents=True)
    (tmp_path / "study" / "study.json").write_text(json.dumps(about))
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "subject.json").write_text("{}")
    study = Study.open(tmp_path / "study")
    for use in (study.subject, study.remove_subject, lambda name: study.read_patches([name], [0])):
        with pytest.raises(UserError, match="subject_id"):
            use("../../else")
    assert (tmp_path / "else" / "subject.json").is_file()


def test_a_subject_that_is_a_link_elsewhere_is_not_emptied(tmp_path: Path) -> None:
    about = {"format_version": 1, "settings": {}, "landmarks": 3, "patch_size": 8, "atlas_hash": "x"}
    (tmp_path / "study" / "subjects").mkdir(parents=True)
    (tmp_path / "study" / "study.json").write_text(json.dumps(about))
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years")
    (tmp_path / "study" / "subjects" / "p1").symlink_to(tmp_path / "precious")
    Study.open(tmp_path / "study").remove_subject("p1")
    assert (tmp_path / "precious" / "thesis.txt").read_text(encoding="utf-8") == "years"


def test_a_subject_whose_transform_lies_elsewhere(tmp_path: Path) -> None:
    from anatograph.study.subject import StoredSubject

    frame = {"shape": [1, 1, 1], "spacing": [1, 1, 1], "origin": [0, 0, 0], "direction": np.eye(3).tolist()}
    for name in ("../../transform.tfm", "/tmp/transform.tfm", "transform.tfm/../x.tfm", "x.json", ["transform.tfm"]):
        about = {
            "format_version": 1,
            "transform": name,
            "quality": {},
            "flags": [],
            "frame": frame,
            "stored_frame": frame,
        }
        (tmp_path / "subject.json").write_text(json.dumps(about))
        with pytest.raises(UserError, match=r"subject\.json cannot be read"):
            StoredSubject(tmp_path, lambda: np.ones(1, dtype=bool)).map()


def test_an_array_that_claims_more_than_its_file_holds(tmp_path: Path) -> None:
    from anatograph.study.subject import StoredSubject

    with (tmp_path / "landmarks.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 3)})
        file.write(bytes(48))
    with pytest.raises(UserError, match=r"landmarks\.npy cannot be read"):
        _ = StoredSubject(tmp_path, lambda: np.ones(1, dtype=bool)).landmarks
    with (tmp_path / "edges.npy").open("wb") as file:
        np.save(file, np.array([Trap(tmp_path / "ran")], dtype=object), allow_pickle=True)
    with pytest.raises(UserError):
        _ = StoredSubject(tmp_path, lambda: np.ones(1, dtype=bool)).edges
    assert not (tmp_path / "ran").exists()
