"""The whole pipeline on a small synthetic cohort, to see the results before trying your own scans."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.execution.folders import claim_folder

SUBJECTS = 24
SPACING = 2.5
"""Voxel size of the demo's scans in mm: small files, quickly drawn and read."""
STEP = 28
"""Spacing of the demo atlas's landmarks in mm: fewer patches than usual, and still no gaps between them in a map."""
FOLDS = 3
"""Folds of the evaluation: with five, some would hold healthy subjects only."""
TARGETS = ("emphysema_extent", "ground_glass_extent", "diagnosis", "GOLD")
TRAINING = ("epochs=2", "patch_steps=75", "graph_rounds=40", "bank_views=2", "workers=0")


def demo(
    out: str | Path,
    subjects: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    say: Callable[[str], None] = print,
    training: tuple[str, ...] = TRAINING,
    step: int = STEP,
) -> Path:
    """Draw a cohort, preprocess it, pretrain briefly, embed, evaluate, explain two subjects, and write a report.

    Everything is written to ``out``; run again, it continues where it stopped.  The scores are those of a few subjects
    and a few minutes of training: they show that the pipeline works, not how good it gets.  Returns
    ``out/report.html``.

    Raises:
        UserError: ``out`` holds something else, or a demo with other choices.
    """
    from anatograph.embedding.api import embed
    from anatograph.evaluation.evaluate import evaluate
    from anatograph.explanation.explain import explain
    from anatograph.imaging.writing import write_mask
    from anatograph.learning.api import pretrain
    from anatograph.phantoms import reference_lungs
    from anatograph.phantoms.api import phantom
    from anatograph.reporting import report
    from anatograph.study.atlas import atlas
    from anatograph.study.preprocess import preprocess

    folder = Path(out)
    count = SUBJECTS if subjects is None else subjects
    if count < 10:
        raise UserError(f"The demo needs at least 10 subjects for its folds, not {count}; give --subjects 10 or more.")
    workers = workers or min(4, os.cpu_count() or 1)
    choices = {"subjects": count, "seed": seed, "training": list(training), "step": step}
    claim_folder(folder, "demo.json", choices, "a demo")
    with RunAccount("demo", choices, folder) as account:

        def stage(number: int, text: str) -> Any:
            say(f"[{number}/7] {text}")
            return account.stage(text)

        cohort = folder / "cohort" / "cohort.csv"
        with stage(1, f"drawing {count} synthetic chest CTs"):
            phantom(cohort.parent, count, seed, workers=workers, spacing=SPACING)
        with stage(2, "segmenting lungs, registering the atlas, cutting patches"):
            if not (folder / "atlas" / "atlas.json").is_file():
                write_mask(folder / "atlas-lungs.nii.gz", reference_lungs())
                atlas(folder / "atlas-lungs.nii.gz", folder / "atlas", step=step)
            done = preprocess(cohort, folder / "study", folder / "atlas", workers=workers)
            for failure in done.failures:
                account.fail(failure.subject_id, failure.stage, failure.reason)
        with stage(3, "pretraining for a few minutes"):
            run = folder / "run"
            begun = (run / "settings.json").is_file()
            overrides = [*training, f"seed={seed}"]
            pretrain(folder / "study", run, "quick", None, overrides, resume=begun)
        with stage(4, "embedding"):
            vectors = embed(folder / "study", folder / "embeddings", model=run / "model")
        with stage(5, "scoring what the embedding predicts"):
            evaluate(folder / "embeddings", cohort, TARGETS, FOLDS, out=folder / "evaluation", seed=seed,
                     task={"GOLD": "regression"})  # fmt: skip
        with stage(6, "explaining two subjects"):
            shown = _moderate_and_healthy(cohort, vectors.subject_ids)
            explain(folder / "study", folder / "embeddings", cohort, TARGETS[0], shown, folder / "explanations",
                    folds=FOLDS, seed=seed)  # fmt: skip
        with stage(7, "writing the report"):
            page = report(folder / "study", folder / "report.html", run, folder / "embeddings",
                          folder / "evaluation", folder / "explanations", cohort,
                          subjects=shown, title="Demo: synthetic subjects")  # fmt: skip
        account.output(page)
    return page


def _moderate_and_healthy(cohort: Path, subject_ids: list[str]) -> list[str]:
    """The embedded subject with the median emphysema of those that have some, and the one with least.

    Moderate emphysema has its places, which a map can show; the most severe is everywhere.
    """
    from anatograph.study.cohort import read_cohort

    table = read_cohort(cohort).table
    table = table[table["subject_id"].isin(subject_ids)].sort_values(TARGETS[0])
    ids = [str(name) for name in table["subject_id"]]
    some = max(1, int((table[TARGETS[0]] > 0.02).sum()))
    return [ids[len(ids) - 1 - some // 2], ids[0]]
