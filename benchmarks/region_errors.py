"""Whose regions does a probe of a disease get wrong? A table by patient, from a finished benchmark.

    python benchmarks/region_errors.py BENCH COHORT [--disease ground_glass] [--group base]

BENCH is the folder of `anatograph benchmark … --region-truth`. R² is against the grand mean of the regions; the shares
are of the squared error and of the variance of all regions; the slope is of the prediction over the truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd


def region_errors(bench: Path, cohort: Path, disease: str, group: str, method: str) -> pd.DataFrame:
    """One row for each value of ``group``, and one for all."""
    ids = pd.read_parquet(bench / "methods" / method / "embeddings.parquet")["subject_id"].astype(str)
    groups = pd.read_csv(cohort, dtype={"subject_id": str}).set_index("subject_id").loc[ids, group].to_numpy()
    (file,) = bench.glob("work/region-truth-*/truth.npz")
    truth = np.load(file)[disease]
    stored = np.load(bench / "methods" / method / "regions.npz")
    rows = stored[f"rows {disease}"].astype(np.int64)
    table = pd.DataFrame({"patient": groups[rows // truth.shape[1]], "truth": truth.ravel()[rows]})
    table["error"] = stored[f"said {disease}"] - table["truth"]
    off = ((table["truth"] - table["truth"].mean()) ** 2).to_numpy()
    wrong = (table["error"] ** 2).to_numpy()

    def row(chosen: pd.Series) -> dict[str, float]:
        part = table[chosen]
        predicted = part["truth"] + part["error"]
        return {
            "r2": 1 - wrong[chosen].sum() / off[chosen].sum(),
            "share_of_error": wrong[chosen].sum() / wrong.sum(),
            "share_of_variance": off[chosen].sum() / off.sum(),
            "correlation": float(np.corrcoef(part["truth"], predicted)[0, 1]),
            "slope": float(np.polyfit(part["truth"], predicted, 1)[0]),
        }

    found = {str(name): row(table["patient"] == name) for name in sorted(set(table["patient"]))}
    return pd.DataFrame({**found, "all": row(table["truth"].notna())}).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--disease", default="ground_glass")
    parser.add_argument("--group", default="base")
    parser.add_argument("--method", default="anatograph")
    args = parser.parse_args()
    print(region_errors(args.bench, args.cohort, args.disease, args.group, args.method).round(2).to_string())


if __name__ == "__main__":
    main()
