"""Test-retest error on real scans: each drawn into and scanned twice on one day, in another breath and with new noise.

    python benchmarks/repeat_scans.py COHORT OUT --per-scan 2

COHORT is a table of real scans. Prints the error of the regions and of the vector, the smallest detectable change, and
how far the mean change of the deviation follows the lung volume before and after its correction.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import anatograph


def main() -> None:
    """Draw, embed, compare every pair, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--per-scan", type=int, default=2)
    parser.add_argument("--spacing", type=float, default=2.5)
    chosen = parser.parse_args()
    out: Path = chosen.out
    table = anatograph.phantom(
        out / "half-real", onto=chosen.cohort, per_scan=chosen.per_scan, visits=2, interval=0.0,
        spacing=chosen.spacing, seed=5,
    )  # fmt: skip
    study, vectors = out / "half-study", out / "half-vectors"
    anatograph.preprocess(table, study, lungs="given")
    anatograph.embed(study, vectors, include_flagged=True)
    rows = pd.read_csv(table)
    embedded = set(pd.read_parquet(out / "half-vectors.parquet")["subject_id"])
    rows = rows[rows["subject_id"].isin(embedded)]
    found, errors = [], []
    for person, pair in rows.groupby("person"):
        if len(pair) < 2:
            continue
        before, after = pair.sort_values("visit")["subject_id"]
        one = anatograph.change(
            study, out / "half-vectors.parquet", before, after, out / "change" / str(person), cohort=table,
            group="base", repeat_scans="person",
        )  # fmt: skip
        score = one.account.results
        assert one.repeats is not None
        errors.append(one.repeats)
        found.append({"log_ratio": np.log(score["volume_after_ml"] / score["volume_before_ml"]),
                      "change": score["mean_change"], "corrected": score["mean_change_corrected"]})  # fmt: skip
    moved, first = pd.DataFrame(found), errors[0]
    print(f"{first.pairs} pairs of {rows['base'].nunique()} patients")
    print(f"volumes differ by {100 * np.expm1(np.sqrt((moved['log_ratio'] ** 2).mean())):.1f} % (root mean square)")
    low, middle, high = np.nanpercentile(first.detectable, (5, 50, 95))
    print(f"error of a region's deviation: {np.nanmedian(first.error):.2f}")
    print(f"smallest detectable change: {middle:.2f} (90 % of the regions {low:.2f} to {high:.2f})")
    print(f"shift of a region: {np.nanmedian(first.shift):.2f} of the distance of two patients")
    print(f"vector: distance {first.vector_distance:.3f} of that of two patients, ICC {first.vector_icc:.3f}")
    print(f"regions beyond the limits among repeat scans: {100 * first.share_beyond:.0f} %")
    for name in ("change", "corrected"):
        r = np.corrcoef(moved["log_ratio"], moved[name])[0, 1]
        print(f"mean change of the deviation, {name}: {moved[name].abs().mean():.3f}; correlation with volume {r:.2f}")


if __name__ == "__main__":
    main()
