"""Harmonisation inside the training folds, and what it did to the figures and to the sites themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.errors import UserError, no_column
from anatograph.evaluation.adjustment.covariates import Covariates, read_covariates
from anatograph.evaluation.cross_validation import cross_validate, cross_validated_kernel
from anatograph.evaluation.folds import Split
from anatograph.evaluation.harmonisation.combat import LEAST, fit_combat
from anatograph.evaluation.headline import Headline, headline
from anatograph.evaluation.probes.cox import martingale_residuals
from anatograph.evaluation.targets import Target, read_target
from anatograph.learning.model.pooling import Parts

Array = NDArray[np.float64]
_STRONG_V, _STRONG_ETA, _SURE = 0.3, 0.1, 0.01


@dataclass(frozen=True, eq=False)
class Harmonisation:
    """Removes the effects of a column's values, fitted on the training rows alone; a `Preparation`."""

    column: str
    """The column, such as ``site``."""
    sites: NDArray[np.str_]
    """(S,) its value for each row of the table."""
    kept: Covariates | None
    """Covariates whose effects are not the sites'."""
    notes: tuple[str, ...]
    """What was decided, in plain sentences."""

    def __call__(self, features: Array, rows: NDArray[np.int64], train: NDArray[np.int64]) -> Array:
        """Features (n, F) of the table's ``rows`` (n,), harmonised as fitted on ``train`` of them."""
        kept = None if self.kept is None else self.kept.design(rows[train])[rows[train]]
        return fit_combat(features[train], self.sites[rows[train]], kept).apply(features, self.sites[rows])

    def unseen(self, rows: NDArray[np.int64], train: NDArray[np.int64]) -> list[str]:
        """Sites that ``train`` has too few subjects of, so that scans of theirs are left as they are."""
        names, counts = np.unique(self.sites[rows[train]], return_counts=True)
        enough = set(names[counts >= LEAST].tolist())
        return sorted(set(self.sites[rows].tolist()) - enough)


def read_harmonisation(table: pd.DataFrame, column: str, keep: Sequence[str] = ()) -> Harmonisation:
    """Read the sites and the kept covariates of a cohort table.

    Raises:
        UserError: a missing column, a subject without a site, a single site, or kept columns that are the sites.
    """
    if column not in table.columns:
        raise no_column(column, table.columns, "--harmonise")
    empty = table.loc[table[column].isna(), "subject_id"].astype(str).tolist()
    if empty:
        raise UserError(
            f"--harmonise: '{column}' is empty for {len(empty)} subjects ({', '.join(empty[:5])}); fill it in, or "
            "remove them."
        )
    sites = np.asarray(table[column].astype("str"), dtype=str)
    names, counts = np.unique(sites, return_counts=True)
    if not 2 <= len(names) <= len(sites) // LEAST:
        raise UserError(
            f"--harmonise: '{column}' has {len(names)} different values among {len(sites)} subjects; it needs at least "
            f"two, with {LEAST} subjects each on average."
        )
    if column in keep:
        raise UserError(f"--keep: '{column}' is what is harmonised; leave it out of --keep.")
    kept = read_covariates(table, keep, "--keep") if keep else None
    notes = [f"--harmonise {column}: " + ", ".join(f"{n} ({c})" for n, c in zip(names, counts, strict=True))]
    found = Harmonisation(column, sites, kept, (*notes, *(kept.notes if kept else ())))
    every = np.arange(len(table))
    found(np.zeros((len(table), 1)), every, every)  # kept columns that cannot be separated are refused before any work
    return found


def association(target: Target, sites: NDArray[np.str_]) -> tuple[str, float, float]:
    """How strongly a target is associated with the sites (n,): name of the measure, value, p.

    Cramér's V (bias-corrected, Bergsma 2013) with the χ² test for classes and steps; η² with the F test for numbers,
    and for survival of the martingale residuals.
    """
    from scipy import stats

    if target.classes:
        counts = pd.crosstab(target.values, sites).to_numpy()
        n, (rows, columns) = counts.sum(), counts.shape
        if min(rows, columns) < 2:
            return "Cramér's V", 0.0, 1.0
        chi2, p = stats.chi2_contingency(counts, correction=False)[:2]
        phi2 = max(0.0, chi2 / n - (rows - 1) * (columns - 1) / (n - 1))
        small = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
        return "Cramér's V", float(np.sqrt(phi2 / small)) if small > 0 else 0.0, float(p)
    values = target.values if target.times is None else martingale_residuals(target.times, target.values)
    parts = [values[sites == name] for name in np.unique(sites)]
    between = sum(len(part) * (part.mean() - values.mean()) ** 2 for part in parts)
    whole = float(((values - values.mean()) ** 2).sum())
    if len(parts) < 2 or whole <= 0:
        return "η²", 0.0, 1.0
    return "η²", float(between / whole), float(stats.f_oneway(*parts).pvalue)


def confounding_note(target: Target, harmonisation: Harmonisation) -> list[str]:
    """A warning where target and site are associated, empty where they are not."""
    sites = harmonisation.sites[target.rows]
    name, value, p = association(target, sites)
    notes = []
    if p < _SURE and value > (_STRONG_ETA if name == "η²" else _STRONG_V):
        notes.append(
            f"{target.name} and {harmonisation.column} are associated ({name} {value:.2f}, p {p:.2g}): harmonisation "
            f"may remove {target.name} with the {harmonisation.column}, and a probe without it may predict the "
            f"{harmonisation.column}; trust neither figure alone, and look at --leave-out {harmonisation.column}"
        )
    if target.classes:
        held = {str(site): np.unique(target.values[sites == site]) for site in np.unique(sites)}
        alone = [site for site, values in held.items() if len(values) == 1]
        if alone:
            notes.append(
                f"{harmonisation.column} {', '.join(alone[:6])}: a single class of {target.name}, so no "
                "method can separate the two there"
            )
    return notes


def unseen_note(target: Target, splits: Sequence[Split], harmonisation: Harmonisation, where: str = "") -> list[str]:
    """Which sites some training fold has too few subjects of; empty where there is none."""
    names = sorted({name for train, _ in splits for name in harmonisation.unseen(target.rows, train)})
    if not names:
        return []
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return [
        f"{target.name}: {harmonisation.column} {shown} not seen{where} (fewer than {LEAST} training subjects in at "
        "least one fold); its scans are left as they are there"
    ]


def comparison_row(target: Target, before: Headline, after: Headline, harmonisation: Harmonisation) -> pd.DataFrame:
    """One row of ``harmonisation.csv``: the headline without and with it, on the same folds."""
    name, value, p = association(target, harmonisation.sites[target.rows])
    return pd.DataFrame(
        [{"target": target.name, **_both(before, after), "association": name, "strength": value, "association_p": p}]
    )


def site_rows(
    features: Array,
    table: pd.DataFrame,
    groups: NDArray[np.int64] | None,
    harmonisation: Harmonisation,
    seed: int,
    parts: Parts,
) -> pd.DataFrame:
    """How well the site itself is predicted before and after: linearly, and by a Gaussian kernel.

    ``features`` (S, F) of all rows of the table.
    """
    target = read_target(table, harmonisation.column, "classification")
    rows = []
    folds = int(min(5, np.bincount(target.values.astype(np.int64)).max()))
    for kind in ("linear", "kernel"):
        heads = []
        for prepare in (None, harmonisation):
            if kind == "linear":
                done = cross_validate(features, target, groups, folds, seed, parts, prepare)
            else:
                done = cross_validated_kernel(features, target, groups, folds, seed, prepare)
            heads.append(headline(target, done, groups, seed))
        rows.append({"target": f"{harmonisation.column} ({kind})", **_both(heads[0], heads[1])})
    return pd.DataFrame(rows)


def _both(before: Headline, after: Headline) -> dict[str, object]:
    return {
        "metric": before.metric,
        "before": before.value,
        "before_low": before.low,
        "before_high": before.high,
        "after": after.value,
        "after_low": after.low,
        "after_high": after.high,
        "n": before.n,
        "chance": before.chance,
    }
