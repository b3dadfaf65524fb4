"""Everything that a report can show, made of the small cohort."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from small_places import Small

from anatograph.analysis.embed import embed
from anatograph.analysis.explain import explain
from anatograph.analysis.probe import evaluate
from anatograph.analysis.report import report

SHOWN = ("p11", "p01")
"""Who has maps: the sickest and one of the wellest, whose scan is stored as RAS."""


def make_parts(small: Small, folder: Path) -> Path:
    """A study with a failure, a run's figures, embeddings, an evaluation, explanations and a benchmark."""
    shutil.copytree(small.study, folder / "study")
    failure = "subject_id,stage,reason\nx1,read,<script>alert(1)</script> is no scan\n"
    (folder / "study" / "failures.csv").write_text(failure)
    embed(folder / "study", folder / "emb", model=small.model)
    evaluate(folder / "emb", small.cohort, ["density", "sick"], out=folder / "evaluation")
    explain(folder / "study", folder / "emb.parquet", small.cohort, "density", SHOWN, folder / "explanations")
    (folder / "run").mkdir()
    steps = np.arange(1, 21)
    levels = np.where(steps <= 10, "patch", "graph")
    figures = pd.DataFrame({"step": steps, "level": levels, "loss": 5 / steps, "accuracy": steps / 40})
    figures.to_csv(folder / "run" / "metrics.csv", index=False)
    (folder / "benchmark").mkdir()
    rows = [("ours", 0.9, 0.02), ("densitometry", 0.8, 0.03)]
    table = pd.DataFrame([(m, "density", "r2", mean, std) for m, mean, std in rows],
                         columns=["method", "target", "metric", "mean", "std"])  # fmt: skip
    table.to_csv(folder / "benchmark" / "results.csv", index=False)
    return folder


def build(parts: Path, small: Small, out: Path, **more: Any) -> Path:
    """The page with all of it."""
    given: dict[str, Any] = {
        "run": parts / "run",
        "embeddings": parts / "emb.parquet",
        "evaluation": parts / "evaluation",
        "explanations": parts / "explanations",
        "benchmark": parts / "benchmark",
        "cohort": small.cohort,
    }
    return report(parts / "study", out, **{**given, **more})
