"""What the commands can find in a phantom cohort with visits and events, from its table alone.

    python benchmarks/cohort_on_scans.py visits/cohort.csv

Printed for the first visits: the largest R² of FEV1pp and of its slope, and the concordance of the true hazards over
1,000 further draws of the events.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.evaluation.survival.concordance import harrell
from anatograph.phantoms.events import event_columns

NOISE = 6.0**2
"""Variance of FEV1pp that owes to chance …"""
SMALL_AIRWAYS = 4.0**2 * (1 - 2 / np.pi)
"""… and, in subjects with emphysema, to the small airways, which no scan shows."""
DRAWS = 1000


def explained(values: NDArray[np.float64], columns: pd.DataFrame) -> float:
    """R² of the least-squares regression of values (n,) on columns (n, k)."""
    design = np.column_stack([np.ones(len(columns)), columns.to_numpy(np.float64)])
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(1 - ((values - fitted) ** 2).sum() / ((values - values.mean()) ** 2).sum())


def concordances(first: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """(draws,) Harrell's C of the true hazard, and of its part that is age, with the events drawn again."""
    rng = np.random.default_rng(0)
    rows = first.to_dict("records")
    age = 0.04 * first["age"].to_numpy(np.float64)
    whole = age - 0.035 * first["FEV1pp"].to_numpy() + 1.5 * first["ground_glass_extent"].to_numpy()
    found: dict[str, list[float]] = {"hazard": [], "age": [], "events": []}
    for _ in range(DRAWS):
        drawn = pd.DataFrame([event_columns(row, rng) for row in rows])
        times, events = (drawn[name].to_numpy(np.float64) for name in ("event_years", "event"))
        found["hazard"].append(harrell(times, events, whole))
        found["age"].append(harrell(times, events, age))
        found["events"].append(float(events.sum()))
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    """Print what can be found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    table = pd.read_csv(parser.parse_args().cohort)
    first = table[table["visit"] == 1].set_index("person")
    last = table[table["visit"] == table["visit"].max()].set_index("person")
    values = first["FEV1pp"].to_numpy(np.float64)
    chance = NOISE + SMALL_AIRWAYS * float((first["emphysema_extent"] > 0).mean())
    print(f"{len(first)} patients, {int(first['event'].sum())} events")
    print(f"R² of FEV1pp: at most {1 - chance / values.var():.2f}")
    print(f"  by age and sex {explained(values, pd.get_dummies(first[['age', 'sex']], drop_first=True)):.2f}")
    print(f"  by the site {explained(values, pd.get_dummies(first['site'], drop_first=True)):.2f}")
    slope = ((last["FEV1pp"] - first["FEV1pp"]) / (last["years"] - first["years"])).to_numpy(np.float64)
    extents = first[[name for name in first if name.endswith("_extent")]]
    print(f"R² of the slope of FEV1pp by the true extents of the first visit: {explained(slope, extents):.2f}")
    for name, drawn in concordances(first).items():
        low, high = np.percentile(drawn, (2.5, 97.5))
        print(f"{name}: mean {drawn.mean():.2f}, 95 % of the draws {low:.2f} to {high:.2f}")


if __name__ == "__main__":
    main()
