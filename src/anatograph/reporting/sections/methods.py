"""A methods paragraph written from the accounts that the commands left, with its references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anatograph._version import __version__
from anatograph.reporting.redaction import Discretion
from anatograph.reporting.sections.flow import Step, sentence
from anatograph.reporting.sections.references import REFERENCES
from anatograph.reporting.sections.tables import Json, read_json
from anatograph.study.quality.selection import Selection
from anatograph.study.store import Study

_STATED = ("queue_size", "temperature", "optimiser", "learning_rate", "epochs", "seed")
_PACKAGES = {"python": "Python", "torch": "PyTorch", "SimpleITK": "SimpleITK", "scikit-learn": "scikit-learn",
             "numpy": "NumPy"}  # fmt: skip
_OPTIMISERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "stochastic gradient descent"}
LUNGS = {
    "given": ("masks supplied with the scans", ""),
    "threshold": ("thresholding with morphological clean-up", ""),
    "lungmask": ("lungmask", "lungmask"),
    "totalsegmentator": ("TotalSegmentator", "totalsegmentator"),
}
"""Where lung masks come from, and the reference."""
REGISTRATIONS = {
    "deformable": ("an affine and a deformable registration of lung masks", "simpleitk"),
    "affine": ("an affine registration of lung masks", "simpleitk"),
    "ants-affine": ("an affine registration by ANTs", "ants"),
    "ants-syn": ("symmetric normalisation by ANTs", "ants"),
}
"""Ways to map the atlas, and the reference."""


@dataclass
class Methods:
    """Paragraphs with numbered citations."""

    paragraphs: list[str] = field(default_factory=list)
    """Sentences with [n]."""
    references: list[str] = field(default_factory=list)
    """In the order of their numbers."""

    def cite(self, *names: str) -> str:
        """`` [1,2]``: numbers of references, new ones in the order in which they are cited."""
        numbers = []
        for name in names:
            text = REFERENCES[name]
            if text not in self.references:
                self.references.append(text)
            numbers.append(self.references.index(text) + 1)
        return f" [{','.join(map(str, numbers))}]"


def methods(
    study: Study,
    selection: Selection,
    steps: list[Step],
    discretion: Discretion,
    run: Path | None = None,
    embeddings: Path | None = None,
    evaluation: Path | None = None,
) -> Methods:
    """What was done, from the accounts of the runs; parts without an account are left out."""
    made = Methods()
    made.paragraphs.append(_preprocessing(made, study, selection, steps, discretion))
    if run is not None:
        made.paragraphs.append(_pretraining(made, run))
    if evaluation is not None and (account := read_json(evaluation / "evaluate.run.json")):
        made.paragraphs.append(_evaluation(made, account, embeddings))
    account = read_json(study.path / "preprocess.run.json") or {}
    versions = {"anatograph": __version__} | account.get("versions", {})
    shown = ", ".join(f"{said} {versions[name]}" for name, said in _PACKAGES.items() if name in versions)
    made.paragraphs.append(f"Software: Anatograph {versions['anatograph']}{made.cite('context')}; {shown}.")
    return made


def _preprocessing(made: Methods, study: Study, selection: Selection, steps: list[Step], discretion: Discretion) -> str:
    settings = study.settings.to_dict()
    lungs = Counter(str(study.subject(name).about.get("lungs_from", "")) for name in study.subject_ids)
    masks = _listed(_cited(made, LUNGS, name) + f" (n = {n})" for name, n in lungs.most_common())
    register = _cited(made, REGISTRATIONS, str(settings["registration"]))
    atlas = study.atlas
    text = (
        f"Lungs were delineated by {masks or 'lung masks'}. An atlas of {len(atlas)} landmarks, {atlas.step:g} mm "
        f"apart, was mapped to each scan by {register} (seed {settings['seed']}), and a cubic patch of "
        f"{atlas.patch_size} mm at 1 mm resolution was cut about each mapped landmark"
        f"{made.cite('context')}. Every scan was given a level (ok, note, check, reject) by fixed rules on its quality "
        "figures. Flow of the scans"
        f"{made.cite('consort')}: {sentence(steps)}."
    )
    if selection.excluded:
        reasons = Counter(discretion.sentence(comment) for comment in selection.excluded.values() if comment)
        said = f" ({'; '.join(f'{text_}, {n}' for text_, n in reasons.most_common(5))})" if reasons else ""
        text += f" A reader excluded {len(selection.excluded)} on inspection{said}."
    if selection.named:
        text += f" {_scans(len(selection.named))} excluded by the analyst (state the reason)."
    if selection.unlisted:
        text += f" {_scans(len(selection.unlisted))} taken out of the cohort after preprocessing."
    return text


def _pretraining(made: Methods, run: Path) -> str:
    settings, account = read_json(run / "settings.json") or {}, read_json(run / "pretrain.run.json") or {}
    done = account.get("results", {})
    count = f" on {done['subjects']} subjects" if isinstance(done.get("subjects"), int) else ""
    left_out = account.get("settings", {}).get("exclude") or []
    count += f" ({len(left_out)} excluded by the analyst)" if isinstance(left_out, list) and left_out else ""
    length = f", {done['updates']} updates in all" if isinstance(done.get("updates"), int) else ""
    said = {name: settings.get(name, "?") for name in _STATED}
    said["optimiser"] = _OPTIMISERS.get(str(said["optimiser"]), said["optimiser"])
    return (
        f"The encoder and the graph network were pretrained without labels{count} by contrastive learning in two "
        f"interleaved levels{made.cite('context')}: patches of one region, conditioned on its location, and graphs of "
        f"whole lungs, with momentum encoders and queues of {said['queue_size']} keys{made.cite('moco')}, the InfoNCE "
        f"loss at temperature {said['temperature']}{made.cite('infonce')}, the optimiser {said['optimiser']} (learning "
        f"rate {said['learning_rate']}), {said['epochs']} epochs{length}, seed {said['seed']}."
    )


def _evaluation(made: Methods, account: Json, embeddings: Path | None) -> str:
    settings = account.get("settings", {})
    features = ""
    if embeddings is not None:
        about = read_json(embeddings.with_suffix(".run.json")) or {}
        known, release = about.get("results", {}), about.get("settings", {}).get("release")
        features = f" ({known['features']} features)" if isinstance(known.get("features"), int) else ""
        if isinstance(release, str) and release.replace("-", "").isalnum():
            features += f" by the released model {release}"
    targets = _listed(str(name) for name in settings.get("targets", []))
    kinds = "ridge regression for continuous and L2-penalised logistic regression for categorical targets"
    text = (
        f"Frozen embeddings{features} were evaluated by linear probes ({kinds}{made.cite('sklearn')}) for {targets} in "
        f"{settings.get('folds')}-fold cross-validation"
    )
    if (settings.get("repeats") or 1) > 1:
        text += f", repeated {settings['repeats']} times"
    text += (
        f" (seed {settings.get('seed')}); features were standardised and the penalty was chosen within training folds"
    )
    if settings.get("group"):
        text += f"; folds were grouped by {settings['group']}"
    if settings.get("leave_out"):
        text += f"; each value of {settings['leave_out']} was also predicted from all others"
    text += ". Intervals are 95 % bootstrap intervals over " + ("groups" if settings.get("group") else "subjects") + "."
    if any(":" in str(name) for name in settings.get("targets", [])):
        text += f" Times to event were analysed by a Cox model with an L2 penalty{made.cite('cox')}."
    if settings.get("permutations"):
        text += f" The level of chance was estimated from {settings['permutations']} permutations of the targets."
    if settings.get("log"):
        text += f" {_listed(map(str, settings['log']))} entered as natural logarithms."
    return text


def _scans(number: int) -> str:
    return "One scan was" if number == 1 else f"{number} scans were"


def _cited(made: Methods, known: Mapping[str, tuple[str, str]], name: str) -> str:
    """The words for a method, with its reference."""
    words, reference = known.get(name, (name, ""))
    return words + (made.cite(reference) if reference else "")


def _listed(words: Iterable[str]) -> str:
    parts = list(words)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""
