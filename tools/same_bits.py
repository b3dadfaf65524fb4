"""Prove that a change of structure changes no result: run the pipeline on phantoms and hash everything it writes.

    python tools/same_bits.py before.json                     # at the commit before
    python tools/same_bits.py after.json --against before.json

Runs phantom, preprocess, pretrain, embed, evaluate and explain with fixed seeds through the command line, and writes a
SHA-256 for the content of each array, table and weight (not of files whose bytes carry a date or a path).  With
``--against`` it prints what differs and ends with status 1.  Compare on one machine with the same packages.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
import zarr
from safetensors.numpy import load_file

SUBJECTS = 12


def main() -> int:
    """Run, hash, and compare with other hashes if given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="JSON file for the hashes")
    parser.add_argument("--against", type=Path, help="hashes of another commit")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.work or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        _run(folder)
        hashes = _hashes(folder)
    options.out.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(hashes)} hashes: {options.out}")
    if options.against is None:
        return 0
    before = json.loads(options.against.read_text(encoding="utf-8"))
    differing = sorted(name for name in before.keys() | hashes.keys() if before.get(name) != hashes.get(name))
    for name in differing:
        print(f"differs: {name}")
    print(f"{len(hashes) - len(differing)} equal, {len(differing)} differ")
    return 1 if differing else 0


def _run(folder: Path) -> None:
    """The commands, on a cohort of small scans."""
    cohort, study, run = str(folder / "cohort/cohort.csv"), str(folder / "study"), str(folder / "run")
    embeddings, model = str(folder / "embeddings"), str(folder / "run/model")
    # Checkpoints by the clock would fall elsewhere on a busy machine, so there are none.
    small = {"patch_steps": 3, "graph_rounds": 2, "epochs": 1, "bank_views": 2, "workers": 0, "checkpoint_minutes": 60}
    changed = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    targets = ["--target", "emphysema_extent", "--target", "diagnosis"]
    commands = [
        ["phantom", str(folder / "cohort"), "--subjects", str(SUBJECTS), "--seed", "5", "--spacing", "3"],
        ["preprocess", cohort, study, "--lungs", "threshold", "--registration", "affine"],
        ["pretrain", study, run, "--preset", "quick", *changed],
        ["embed", study, embeddings, "--model", model],
        ["evaluate", embeddings, cohort, *targets, "--folds", "3", "--out", str(folder / "evaluation")],
        ["explain", study, embeddings, cohort, "--target", "emphysema_extent", "--subject", "phantom-0001",
         "--out", str(folder / "maps")],
    ]  # fmt: skip
    for command in commands:
        print("anatograph", *command[:2], flush=True)
        subprocess.run([sys.executable, "-m", "anatograph", *command], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip


def _hashes(folder: Path) -> dict[str, str]:
    """Name of a result → hash of its content."""
    found: dict[str, str] = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.suffix == ".npy":
            found[name] = _digest(np.load(file))
        elif file.suffix == ".npz":
            with np.load(file) as arrays:
                found.update({f"{name}:{key}": _digest(arrays[key]) for key in arrays.files})
        elif file.suffix == ".safetensors":
            found.update({f"{name}:{key}": _digest(value) for key, value in load_file(file).items()})
        elif file.suffix == ".parquet":
            table = pd.read_parquet(file)
            found.update({f"{name}:{key}": _digest(table[key].to_numpy()) for key in table.columns})
        elif file.name.endswith((".nii.gz", ".nii")):
            found[name] = _digest(sitk.GetArrayFromImage(sitk.ReadImage(str(file))))
        elif file.suffix == ".csv":
            found[name] = _digest_table(file)
        elif file.suffix == ".zarr":
            found[name] = _digest_zarr(file)
    return found


def _digest(values: np.ndarray) -> str:
    if values.dtype == object:
        return hashlib.sha256(repr(values.tolist()).encode()).hexdigest()
    return hashlib.sha256(f"{values.dtype}{values.shape}".encode() + np.ascontiguousarray(values).tobytes()).hexdigest()


def _digest_table(file: Path) -> str:
    """Rows of a CSV without the columns that hold times."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = [{k: v for k, v in row.items() if "second" not in (k or "") and "per_s" not in (k or "")}
                for row in csv.DictReader(stream)]  # fmt: skip
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _digest_zarr(file: Path) -> str:
    group = zarr.open(file, mode="r")
    arrays = dict(group.arrays()) if isinstance(group, zarr.Group) else {"": group}
    return hashlib.sha256(
        "".join(key + _digest(np.asarray(arrays[key][:])) for key in sorted(arrays)).encode()
    ).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
