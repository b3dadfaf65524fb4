"""What surrounds the code: containers, citation, hosted checks and the site agree with the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import anatograph

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILE, APPTAINER = (ROOT / "Dockerfile").read_text("utf-8"), (ROOT / "apptainer.def").read_text("utf-8")
TO_BUILD = os.environ.get("ANATOGRAPH_TEST_CONTAINER")


def instructions() -> list[tuple[str, str]]:
    """Instruction and its text for each logical line of the Dockerfile."""
    lines = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(line.split(maxsplit=1)[0], " ".join(line.split()[1:])) for line in lines if line.strip()]


def pip_line(text: str) -> str:
    """The installation in a container's recipe, without the variable for the index of torch."""
    (line,) = re.findall(r"pip install (.*?'\.\[[^\]]*\]')", text.replace("\\\n", " "), flags=re.DOTALL)
    return re.sub(r'"[^"]*TORCH_INDEX[^"]*"', "TORCH_INDEX", " ".join(line.split()))


def test_the_container_is_rootless_and_pinned() -> None:
    lines = instructions()
    last_stage = lines[max(k for k, (word, _) in enumerate(lines) if word == "FROM") :]
    users = [text for word, text in last_stage if word == "USER"]
    assert users
    assert users[-1] not in ("0", "root")
    for image in (text.split()[0] for word, text in lines if word == "FROM"):
        assert re.search(r":\d", image), f"{image} has no version"
    assert not [word for word, _ in lines if word == "ADD"]
    fetching = [text for word, text in last_stage if re.search(r"pip install|apt-get|curl|wget", text)]
    assert not fetching, "the last stage takes everything from the first"
    assert "--constraint constraints.txt" in pip_line(DOCKERFILE)
    entry = yaml.safe_load(dict(last_stage)["ENTRYPOINT"])
    assert entry[0] in PROJECT["scripts"]


def test_both_recipes_install_the_same_from_files_that_exist() -> None:
    assert pip_line(DOCKERFILE) == pip_line(APPTAINER)
    extras = re.search(r"\.\[([^\]]*)\]", pip_line(DOCKERFILE))
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    copied = [text.split()[:-1] for word, text in instructions() if word == "COPY" and "--from" not in text]
    sources = {source for sources in copied for source in sources}
    assert all((ROOT / source).exists() for source in sources)
    assert sources == set(re.findall(r"^    (\S+) /src/", APPTAINER, flags=re.MULTILINE))
    (base,) = set(re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE))
    assert f"From: {base}" in APPTAINER
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {f"!{source}" for source in sources} <= set(ignored)


@pytest.mark.slow
@pytest.mark.skipif(not TO_BUILD, reason="set ANATOGRAPH_TEST_CONTAINER=1 to build the container's environment")
def test_the_container_s_steps_in_a_clean_environment(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    run: dict[str, Any] = {"cwd": tmp_path, "check": True, "env": {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}}
    subprocess.run([sys.executable, "-m", "venv", "env"], **run)
    words = re.sub(r"--extra-index-url TORCH_INDEX ", "", pip_line(DOCKERFILE)).replace("'", "").split()
    subprocess.run([str(tmp_path / "env/bin/pip"), "install", "--quiet", *words], **run)
    done = subprocess.run([str(tmp_path / "env/bin/anatograph"), "doctor"], capture_output=True, text=True,
                          **{**run, "check": False})  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert "BROKEN" not in done.stdout


def test_citation() -> None:
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(about)
    assert about["version"] == anatograph.__version__
    assert about["license"] == PROJECT["license"]
    assert "2012.06457" in about["preferred-citation"]["url"]


def test_hosted_checks_call_targets_of_make() -> None:
    flow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    assert set(flow["jobs"]["make"]["strategy"]["matrix"]["target"]) <= targets
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        assert {"name", "description", "body"} <= set(yaml.safe_load(form.read_text("utf-8")))


def test_every_page_has_a_place_on_the_site() -> None:
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert not {page for page in pages if not re.search(rf"[:-] {re.escape(page)}\n", config)}


def test_the_reference_has_public_names_only() -> None:
    named = set(re.findall(r"^::: anatograph\.(\w+)$", (ROOT / "docs/api.md").read_text("utf-8"), flags=re.MULTILINE))
    assert named <= set(anatograph.__all__), "the site adds names that the page lacks, but these are not public"


def test_doctor_asks_for_dependencies_only() -> None:
    from anatograph.checkup.installation import _NEEDED

    assert set(_NEEDED) <= {re.split(r"[<>=]", line)[0] for line in PROJECT["dependencies"]}


def test_the_wheel_stays_small(tmp_path: Path) -> None:
    """With the model and its reference, below 15 MB: package registries and laptops are to be spared."""
    package = Path(anatograph.__file__).parent
    with zipfile.ZipFile(tmp_path / "wheel.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in package.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, file.relative_to(package.parent))
    assert (tmp_path / "wheel.zip").stat().st_size < 15e6
