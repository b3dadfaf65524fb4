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
STEP: int | None = None
"""Spacing of the landmarks in mm; None takes the atlas of the package, which the model that ships needs."""
STAGES = 8
FOLDS = 3
"""Folds of the evaluation: with five, some would hold healthy subjects only."""
TARGETS = ("emphysema_extent", "ground_glass_extent", "diagnosis", "GOLD")
TRAINING = ("epochs=2", "patch_steps=60", "graph_rounds=30", "bank_views=2", "workers=0")
OWN, SHIPPED = "trained-here", "shipped-model"
"""Rows of the comparison."""


def demo(
    out: str | Path,
    subjects: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    say: Callable[[str], None] = print,
    training: tuple[str, ...] = TRAINING,
    step: int | None = STEP,
) -> Path:
    """Draw a cohort, preprocess it, embed it with the model that ships, and with one that is pretrained on it briefly.

    The second is evaluated and two subjects are explained; both are compared with densitometry on the same folds, and
    all of it goes into a report.  Everything is written to ``out``; run again, it continues where it stopped.  The
    scores are those of a few subjects, and of a few minutes of training: they show that the pipeline works, not how
    good it gets.  Returns ``out/report.html``.  Where the build ships no model, or ``step`` asks for another atlas
    than its own, the model that ships is passed over.

    Raises:
        UserError: ``out`` holds something else, or a demo with other choices.
    """
    from anatograph.baselines.benchmark import benchmark
    from anatograph.baselines.options import MethodOptions
    from anatograph.embedding.api import embed
    from anatograph.evaluation.evaluate import evaluate
    from anatograph.explanation.explain import explain
    from anatograph.imaging.writing import write_mask
    from anatograph.learning.api import pretrain
    from anatograph.learning.releases.shipped import default_release
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
            say(f"[{number}/{STAGES}] {text}")
            return account.stage(text)

        cohort = folder / "cohort" / "cohort.csv"
        with stage(1, f"drawing {count} synthetic chest CTs"):
            phantom(cohort.parent, count, seed, workers=workers, spacing=SPACING)
        with stage(2, "segmenting lungs, registering the atlas, cutting patches"):
            if step is not None and not (folder / "atlas" / "atlas.json").is_file():
                write_mask(folder / "atlas-lungs.nii.gz", reference_lungs())
                atlas(folder / "atlas-lungs.nii.gz", folder / "atlas", step=step)
            own_atlas = None if step is None else folder / "atlas"
            done = preprocess(cohort, folder / "study", own_atlas, workers=workers)
            for failure in done.failures:
                account.fail(failure.subject_id, failure.stage, failure.reason)
        rows = {OWN: folder / "embeddings.parquet"}
        if step is None and default_release() is not None:
            with stage(3, "embedding with the model that ships, which needs no training"):
                embed(folder / "study", folder / SHIPPED)
                rows = {SHIPPED: folder / f"{SHIPPED}.parquet", **rows}
        else:
            say(f"[3/{STAGES}] no model ships for this atlas; going on without it")
        with stage(4, "pretraining for a few minutes"):
            run = folder / "run"
            begun = (run / "settings.json").is_file()
            overrides = [*training, f"seed={seed}"]
            pretrain(folder / "study", run, "quick", None, overrides, resume=begun)
        with stage(5, "embedding with it"):
            vectors = embed(folder / "study", folder / "embeddings", model=run / "model")
        with stage(6, "scoring what the embedding predicts"):
            evaluate(folder / "embeddings", cohort, TARGETS, FOLDS, out=folder / "evaluation", seed=seed,
                     task={"GOLD": "regression"})  # fmt: skip
            benchmark(folder / "study", cohort, TARGETS, folder / "benchmark", ["densitometry"], folds=FOLDS, seed=seed,
                      task={"GOLD": "regression"}, options=MethodOptions(embeddings=rows, progress=False))  # fmt: skip
        with stage(7, "explaining two subjects"):
            shown = _moderate_and_healthy(cohort, vectors.subject_ids)
            explain(folder / "study", folder / "embeddings", cohort, TARGETS[0], shown, folder / "explanations",
                    folds=FOLDS, seed=seed)  # fmt: skip
        with stage(8, "writing the report"):
            page = report(folder / "study", folder / "report.html", run, folder / "embeddings",
                          folder / "evaluation", folder / "explanations", cohort, folder / "benchmark",
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
