"""The table of a release: every row, on subjects that no choice was made on, evaluated once.

    python benchmarks/release_study.py OUT --stage development   # while choices are made
    python benchmarks/release_study.py OUT --stage release       # once per release; the table goes into the README

Two phantom cohorts are drawn, one to pretrain on and one to be evaluated, from the seeds of the stage (`STAGES`; those
of a release are written into docs/results.md before they are drawn). The model and its ablation without location codes
are pretrained with three seeds each; `anatograph benchmark` then evaluates every row on the second cohort, on the same
folds, with `--leave-out site` and `--region-truth`. `--cohort` evaluates on a table of your own instead, such as a
half-real cohort (`anatograph phantom OUT --onto COHORT`), with its base subject as `--group`. `--model` evaluates a
model that is there, such as the one that ships (`--model release`), in place of pretraining: then only the second
cohort is drawn, and w/o CE, which needs a pretraining of its own, is left out. `--pretrain-study` pretrains on a study
that is there; `--arm NAME KEY=VALUE` adds a model pretrained with another setting to the ablations.

Questions: the paper's (lung function, grades), extents, and place: upper minus lower, right minus left, and lung
function at matched extent (the residual of log FEV1pp after a quadratic fit on the true extents), which only the place
of the disease can explain. Ablations are compared over the folds after averaging the pretraining seeds (corrected
resampled t-test, Holm); their spread over seeds stands beside. Everything is resumable; `--only` restricts the rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from anatograph.evaluation.comparison import corrected_t_test, holm

MATCHED = "FEV1_at_matched_extent"
EXTENTS = (
    "emphysema_extent",
    "paraseptal_extent",
    "ground_glass_extent",
    "consolidation_extent",
    "air_trapping_extent",
)
PAPER = ("FEV1pp", "FEV1_FVC", "GOLD", "CLE")
PLACE = ("emphysema_upper_minus_lower", "emphysema_right_minus_left", "ground_glass_upper_minus_lower",
         "ground_glass_right_minus_left")  # fmt: skip
ORDINAL, LOG = ("GOLD", "CLE"), ("FEV1pp", "FEV1_FVC")
ABLATIONS = ("without-ce", "without-graph", "mean-pooling")
REFERENCE = "anatograph"


@dataclass(frozen=True)
class Stage:
    """Seeds of the two cohorts."""

    pretrain: int
    evaluate: int


STAGES = {
    "development": Stage(11, 12),
    "anatograph-ct-3": Stage(202711, 202712),
    "release": Stage(202901, 202902),
}
"""Choices are made on ``development`` only. ``release`` has the seeds of the next one, which is evaluated on them once;
those of a release that was made stay under its name.
"""


def run(command: Sequence[str | Path], log: Path) -> None:
    """One command of the product; its output goes to ``log``, and on failure to the terminal."""
    words = [str(word) for word in command]
    print("anatograph", *words[:3], flush=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ anatograph {' '.join(words)}\n")
        file.flush()
        done = subprocess.run([sys.executable, "-m", "anatograph", *words], stdout=file, stderr=file, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"anatograph {words[0]} ended with status {done.returncode}; see {log}")


def draw(folder: Path, seed: int, subjects: int, args: argparse.Namespace) -> tuple[Path, Path]:
    """A phantom cohort and its study."""
    cohort, study, log = folder / "cohort", folder / "study", args.out / "log.txt"
    spacing = ["--spacing", str(args.spacing)] if args.spacing else []
    run(["phantom", cohort, "--subjects", str(subjects), "--seed", str(seed), "--sites", args.sites, "--workers",
         str(args.workers), *spacing], log)  # fmt: skip
    run(["preprocess", cohort / "cohort.csv", study, "--lungs", args.lungs, "--workers", str(args.workers)], log)
    return cohort / "cohort.csv", study


def with_matched_extent(cohort: Path) -> Path:
    """The table with `MATCHED`, written beside it; unchanged where lung function or extents are missing."""
    table = pd.read_csv(cohort, dtype={"subject_id": str})
    extents = [name for name in EXTENTS if name in table]
    if "FEV1pp" in table and extents:
        x = table[extents].to_numpy(float)
        pairs = [x[:, i] * x[:, j] for i in range(x.shape[1]) for j in range(i, x.shape[1])]
        design = np.column_stack([np.ones(len(x)), x, *pairs])
        y = np.log(table["FEV1pp"].to_numpy(float))
        known = np.isfinite(design).all(axis=1) & np.isfinite(y)
        if known.sum() < 3 * design.shape[1]:  # too few subjects for the quadratic terms
            design = design[:, : 1 + x.shape[1]]
        table[MATCHED] = np.nan
        table.loc[known, MATCHED] = y[known] - design[known] @ np.linalg.lstsq(design[known], y[known], rcond=None)[0]
    out = cohort.with_name("cohort-questions.csv")
    table.to_csv(out, index=False)
    return out


def targets_of(cohort: Path) -> list[str]:
    """The questions that a table can answer."""
    table = pd.read_csv(cohort)
    wanted = (*PAPER, "emphysema_extent", "ground_glass_extent", *PLACE, MATCHED)
    return [name for name in wanted if name in table and table[name].nunique() > 1]


def pretrain(study: Path, run_folder: Path, seed: int, more: Iterable[str], args: argparse.Namespace) -> Path:
    """A model of one pretraining seed."""
    if not (run_folder / "model" / "config.json").is_file():
        settings = [word for text in (f"seed={seed}", *args.set, *more) for word in ("--set", text)]
        resume = ["--resume"] if run_folder.exists() else ["--preset", args.pretrain_preset, *settings]
        run(["pretrain", study, run_folder, *resume], args.out / "log.txt")
    return run_folder / "model"


def _given(model: str) -> Path:
    """The folder of the model that ships, or the one named."""
    from anatograph.learning.releases.shipped import default_release

    release = default_release() if model == "release" else None
    return Path(model) if release is None else release.folder


def evaluate(folder: Path, study: Path, cohort: Path, models: tuple[Path, Path | None], rows: Sequence[str],
             args: argparse.Namespace) -> None:  # fmt: skip
    """One benchmark, with the models of one pretraining seed."""
    targets = targets_of(cohort)
    blind: list[str | Path] = ["--model-without-ce", models[1]] if models[1] else []
    group = ["--group", args.group] if args.group else []
    leave_out = ["--leave-out", args.leave_out] if args.leave_out else []
    log = [name for name in LOG if name in targets]
    ordinal = [f"{name}=ordinal" for name in ORDINAL if name in targets]
    run(["benchmark", study, cohort, "--out", folder, "--target", *targets, "--preset", args.preset, "--region-truth",
         "--folds", str(args.folds), "--repeats", str(args.repeats), "--model", models[0], *blind,
         "--methods", *rows, *group, *leave_out, *(["--log", *log] if log else []),
         *(["--task", *ordinal] if ordinal else []), *(["--embeddings", *args.embeddings] if args.embeddings else [])],
        args.out / "log.txt")  # fmt: skip


def ablations(folders: Sequence[Path], folds: int, arms: Mapping[str, Sequence[Path]]) -> pd.DataFrame:
    """Each ablation against the model: values of a fold are averaged over the pretraining seeds, then compared.

    ``arms``: the benchmarks of models pretrained with another setting, a folder for each seed.

    target, metric, method, mean, reference, difference, p, p_holm (over the ablations), seed_std (of the model's mean
    over the pretraining seeds).
    """
    tables = [pd.read_csv(folder / "folds.csv").assign(seed=k) for k, folder in enumerate(folders)]
    for name, benchmarks in arms.items():
        for k, folder in enumerate(benchmarks):
            table = pd.read_csv(folder / "folds.csv")
            tables.append(table[table["method"] == REFERENCE].assign(seed=k, method=name))
    compared = [*ABLATIONS, *arms]
    every = pd.concat(tables, ignore_index=True)
    every = every[every["metric"].isin(["r2", "accuracy"]) & every["method"].isin([REFERENCE, *compared])]
    rows = []
    for (target, metric), chosen in every.groupby(["target", "metric"]):
        values = chosen.groupby(["method", "repeat", "fold"])["value"].mean().unstack("method")
        if REFERENCE not in values:
            continue
        seeds = chosen[chosen["method"] == REFERENCE].groupby("seed")["value"].mean()
        others = [name for name in compared if name in values]
        tests = [corrected_t_test(tuple(values[REFERENCE]), tuple(values[name]), 1 / (folds - 1)) for name in others]
        for name, test, p in zip(others, tests, holm([test.p for test in tests]), strict=True):
            rows.append({
                "target": target, "metric": metric, "method": name, "mean": values[name].mean(),
                "reference": values[REFERENCE].mean(), "difference": test.difference, "p": test.p, "p_holm": float(p),
                "seed_std": seeds.std(ddof=1) if len(seeds) > 1 else np.nan, "seeds": len(seeds),
            })  # fmt: skip
    return pd.DataFrame(rows)


def page(folders: Sequence[Path], compared: pd.DataFrame, args: argparse.Namespace) -> str:
    """The release's table in Markdown: the benchmark's page of the first seed, and the ablations over all seeds."""
    lines = [
        f"# Release study, stage {args.stage}",
        "",
        f"Evaluated with `python benchmarks/release_study.py {' '.join(sys.argv[1:])}`. Cohorts, by seed or path: "
        f"{args.pretrain_study or STAGES[args.stage].pretrain} (pretraining), "
        f"{args.cohort[1] if args.cohort else STAGES[args.stage].evaluate} (evaluation); "
        + (f"model {args.model}." if args.model else f"pretraining seeds {', '.join(map(str, args.seeds))}."),
        "",
        "## Ablations over pretraining seeds",
        "",
        "| question | metric | Anatograph (± over seeds) | row | mean | difference | p (Holm) |",
        "|---|---|---|---|---|---|---|",
    ]
    for _, row in compared.iterrows():
        spread = f" ± {row['seed_std']:.3f}" if np.isfinite(row["seed_std"]) else ""
        lines.append(
            f"| {row['target']} | {row['metric']} | {row['reference']:.3f}{spread} | {row['method']} | "
            f"{row['mean']:.3f} | {row['difference']:+.3f} | {row['p_holm']:.3f} |"
        )
    lines += ["", "## All rows, first pretraining seed", ""]
    text = (folders[0] / "table.md").read_text(encoding="utf-8").split("\n", 1)[1]
    return "\n".join(lines) + text.replace("\n## ", "\n### ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stage", choices=list(STAGES), required=True)
    parser.add_argument("--subjects", type=int, nargs=2, default=(120, 120), metavar=("PRETRAIN", "EVALUATE"))
    parser.add_argument("--cohort", type=Path, nargs=2, metavar=("STUDY", "COHORT"), help="evaluate these subjects")
    parser.add_argument("--pretrain-study", type=Path, metavar="STUDY", help="pretrain on these subjects")
    parser.add_argument("--arm", nargs="+", action="append", default=[], metavar="WORD",
                        help="NAME KEY=VALUE …: an ablation by settings of pretraining")  # fmt: skip
    parser.add_argument("--group", help="column that identifies the base subject")
    parser.add_argument("--leave-out", default="site", help="column to leave out; '' for none")
    parser.add_argument("--model", help="evaluate this model folder, or 'release', the model that ships")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2), help="of pretraining")
    parser.add_argument("--pretrain-preset", default="default")
    parser.add_argument("--set", nargs="*", default=(), metavar="KEY=VALUE", help="settings of pretraining")
    parser.add_argument("--preset", default="quick", help="sizes of the other networks")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--only", nargs="+", help="rows to evaluate (default: all that need no published weights)")
    parser.add_argument("--embeddings", nargs="*", default=(), metavar="NAME=FILE", help="vectors of other tools")
    parser.add_argument("--sites", default="A,B,C")
    parser.add_argument("--lungs", default="threshold")
    parser.add_argument("--spacing", type=float)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    from anatograph.baselines.registry import METHODS

    rows = args.only or [slug for slug in METHODS if slug != "medicalnet"]  # needs published weights
    if args.pretrain_study:
        study = args.pretrain_study
    elif not args.model:
        _, study = draw(args.out / "pretrain", STAGES[args.stage].pretrain, args.subjects[0], args)
    if args.cohort:
        judged, cohort = args.cohort
    else:
        cohort, judged = draw(args.out / "evaluate", STAGES[args.stage].evaluate, args.subjects[1], args)
    cohort = with_matched_extent(cohort)
    if args.model:
        rows, args.seeds = [slug for slug in rows if slug != "without-ce"], ()
        folders = [args.out / "benchmark"]
        evaluate(folders[0], judged, cohort, (_given(args.model), None), rows, args)
    else:
        folders = []
    arms: dict[str, list[Path]] = {name: [] for name, *_ in args.arm}
    for number, seed in enumerate(args.seeds):
        whole = pretrain(study, args.out / f"run-{seed}", seed, (), args)
        blind = pretrain(study, args.out / f"run-without-ce-{seed}", seed, ("model.conditional=false",), args)
        folders.append(args.out / f"benchmark-{seed}")
        some = rows if number == 0 else [slug for slug in (REFERENCE, *ABLATIONS) if slug in rows]
        evaluate(folders[-1], judged, cohort, (whole, blind), some, args)
        for name, *settings in args.arm:
            other = pretrain(study, args.out / f"run-{name}-{seed}", seed, settings, args)
            arms[name].append(args.out / f"benchmark-{name}-{seed}")
            evaluate(arms[name][-1], judged, cohort, (other, None), [REFERENCE], args)
    compared = ablations(folders, args.folds, arms)
    compared.to_csv(args.out / "ablations.csv", index=False)
    (args.out / "release.md").write_text(page(folders, compared, args), encoding="utf-8")
    settings = {key: str(value) for key, value in vars(args).items()}
    (args.out / "release.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    print(args.out / "release.md")


if __name__ == "__main__":
    main()
