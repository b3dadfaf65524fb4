"""Parametric response mapping of phantoms against their truth.

Run:
    python benchmarks/response.py OUT --subjects 4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import anatograph


def main() -> None:
    """Draw pairs of breaths, map them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--spacing", type=float, default=2.5)
    chosen = parser.parse_args()
    cohort = anatograph.phantom(
        chosen.out / "cohort",
        chosen.subjects,
        seed=3,
        spacing=chosen.spacing,
        sites="A",
        diseases="copd",
        expiration=True,
    )
    anatograph.preprocess(cohort, chosen.out / "study", lungs="given")
    found = anatograph.densitometry(
        chosen.out / "study", chosen.out / "densitometry.parquet", cohort=cohort, pair_by="person", breath="breath"
    ).pairs
    assert found is not None
    true = pd.read_csv(cohort).set_index("subject_id").loc[found["subject_id"]]
    print(f"{len(found)} pairs, in % of the lung")
    print("class        mean true  mean found  mean |error|  largest  correlation")
    for name in ("normal", "fsad", "emphysema"):
        known, measured = 100 * true[f"prm_{name}"].to_numpy(), 100 * found[f"whole_prm_{name}"].to_numpy()
        error = np.abs(measured - known)
        print(
            f"{name:12s} {known.mean():9.1f} {measured.mean():11.1f} {error.mean():13.1f} {error.max():8.1f}"
            f" {np.corrcoef(known, measured)[0, 1]:12.2f}"
        )


if __name__ == "__main__":
    main()
