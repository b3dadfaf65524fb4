"""Put a trained model into the package as a numbered release, with its card, its reference and a pinned vector.

python tools/ship_release.py RUN/model anatograph-ct-3 --study STUDY --where diagnosis=healthy \
    --results "held-out phantoms"=EVALUATION --of "healthy phantoms"

Everything but a reference of the same model and subjects, in the release or in RUN/model, is written anew, so it may be
run again, with other results for instance.
The atlas is left out where it is the package's own.

python tools/ship_release.py --pin

writes the pinned vector anew, after a change of the preprocessing and before the release is published.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

import anatograph
from anatograph.anatomy.atlas import default_atlas
from anatograph.errors import UserError
from anatograph.explanation.norms.saved import load_reference
from anatograph.imaging.writing import write_volume
from anatograph.learning.model.card import model_card
from anatograph.learning.model.folder import load_model, read_config
from anatograph.learning.model.origins import origins
from anatograph.learning.releases.shipped import FOLDER, INDEX, REFERENCE, default_release, file_sha256
from anatograph.phantoms import PhantomSettings, make_subject
from anatograph.study.store import Study

PINNED = Path(__file__).resolve().parents[1] / "tests" / "embedding" / "pinned"
RELEASE_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*-\d+")
"""Such as ``anatograph-ct-3``: a name and a number."""
PHANTOM = {"seed": 4242, "index": 0, "spacing_mm": 2.5}
"""The phantom whose vector is pinned to each release."""


def main() -> int:
    """Ship the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="folder of a finished pretraining's model")
    parser.add_argument("name", nargs="?", help="name and number, such as anatograph-ct-3")
    parser.add_argument("--pin", action="store_true", help="only write the pinned vector of the default release anew")
    parser.add_argument("--study", type=Path, help="study with the healthy scans of the reference")
    parser.add_argument("--where", help="COLUMN=VALUE of its cohort table, such as diagnosis=healthy")
    parser.add_argument("--of", default="healthy phantoms", help="who the reference subjects are")
    parser.add_argument("--results", action="append", default=[], metavar="SCANS=FILE",
                        help="headlines.csv that `evaluate` wrote, or a JSON list of results for the card")  # fmt: skip
    parser.add_argument("--command", default="tools/train_release_model.sh", help="what made the model, for the card")
    parser.add_argument("--commit", help="that the model was trained with, where it is not recorded in it")
    parser.add_argument("--license", default="apache-2.0")
    given = parser.parse_args()
    if not given.pin and None in (given.model, given.name, given.study):
        parser.error("give the model, the name and --study, or --pin")
    try:
        if not given.pin:
            ship(given)
        pin()
    except UserError as error:
        print(f"ship_release: {error}", file=sys.stderr)
        return 2
    return 0


def ship(given: argparse.Namespace) -> None:
    """Write the release, its hashes and its pinned vector."""
    if not RELEASE_NAME.fullmatch(given.name):
        raise UserError(f"'{given.name}' is not a name and a number, such as anatograph-ct-3.")
    model = load_model(given.model)
    if model.unfinished:
        raise UserError(f"{given.model}: {model.unfinished}.")
    index = json.loads((FOLDER / INDEX).read_text(encoding="utf-8"))
    index["releases"].pop(given.name, None)
    _write_index({**index, "default": None})
    folder = FOLDER / given.name
    known = next((one for place in (folder, given.model)
                  if (one := _known_reference(place / REFERENCE, model.digest, given)) is not None), None)  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copyfile(given.model / "model.safetensors", folder / "model.safetensors")
    config = {**read_config(given.model), "release": given.name, "license": given.license,
              "results": [one for text in given.results for one in results(text)]}  # fmt: skip
    found = origins(Study.open(given.study), given.model.parent)  # a model of an earlier version lacks some of it
    config["training"] = {**found, **config["training"], "command": given.command}
    if given.commit:
        config["training"]["commit"] = given.commit
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(model_card(config), encoding="utf-8")
    if config["atlas"]["hash"] != default_atlas().hash:
        shutil.copytree(given.model / "atlas", folder / "atlas")
    if known is None:
        made = anatograph.reference(given.study, folder / REFERENCE, given.where, model=folder, of=given.of)
        made.account.path.unlink()
    else:
        (folder / REFERENCE).write_bytes(known)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    hashes = {file.relative_to(folder).as_posix(): file_sha256(file) for file in files}
    index["releases"][given.name] = {"sha256": hashes}
    _write_index({**index, "default": given.name})
    size = sum(file.stat().st_size for file in files) / 1e6
    print(f"{given.name}: {folder} ({size:.1f} MB), reference of {load_reference(folder / REFERENCE)}")


def _known_reference(path: Path, digest: str, given: argparse.Namespace) -> bytes | None:
    """The reference that is there already, where it is of this model and of the same subjects."""
    if not path.is_file():
        return None
    about = load_reference(path).about
    same = (about["model"], about["where"], about["of"]) == (digest, given.where, given.of)
    return path.read_bytes() if same else None


def pin() -> None:
    """Write the vector that the default release gives the pinned phantom."""
    release = default_release()
    if release is None:
        raise UserError("The package carries no release.")
    subject = make_subject(PHANTOM["seed"], PHANTOM["index"], PhantomSettings(spacing_mm=PHANTOM["spacing_mm"]))
    with tempfile.TemporaryDirectory() as place:
        scan = Path(place) / "phantom.nii.gz"
        write_volume(scan, subject.volume)
        vector = anatograph.embed(scan).subject
    PINNED.mkdir(exist_ok=True)
    pinned = {"release": release.name, "phantom": PHANTOM, "vector": [round(float(value), 6) for value in vector]}
    (PINNED / f"{release.name}.json").write_text(json.dumps(pinned) + "\n", encoding="utf-8")


def results(text: str) -> list[dict[str, Any]]:
    """Rows of the card from ``SCANS=FILE``: a JSON list of rows, or the headlines that `evaluate` wrote."""
    scans, _, name = text.partition("=")
    file = Path(name)
    if file.suffix == ".json":
        rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        return [{"on": scans, **row} for row in rows]
    table = pd.read_csv(file / "headlines.csv" if file.is_dir() else file)
    columns = ("target", "metric", "value", "low", "high", "n")
    return [{"on": scans, **{name: row[name] for name in columns}} for row in table.to_dict("records")]


def _write_index(index: dict[str, Any]) -> None:
    (FOLDER / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
