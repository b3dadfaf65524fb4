"""Clinical variables of a synthetic subject: effects of the drawn disease and of its place, plus random variation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

FEV1_BY_THIRD = {"upper": 110.0, "middle": 170.0, "lower": 230.0}
"""Percent of predicted FEV1 lost if all the lungs were emphysema of that third (docs/phantom.md has the sources)."""
RATIO_BY_THIRD = {"upper": 0.62, "middle": 0.95, "lower": 1.28}
"""The same for FEV1/FVC."""
PAO2_BY_THIRD = {"upper": 10.5, "middle": 7.7, "lower": 4.9}
"""The same for arterial oxygen in kPa: here the upper thirds count more."""


def clinical_variables(
    age: float, emphysema: Mapping[str, float], extents: Mapping[str, float], rng: np.random.Generator
) -> dict[str, float | int]:
    """Lung function and grades of one subject from the true extents.

    age: years; emphysema: its voxels in each third as shares of both lungs (`LungZones.of_lungs`); extents: shares of
    the lungs by name of mask. FEV1pp in % of predicted, FEV1_FVC and PaO2_kPa fall with emphysema, more or less by
    the third in which it lies; GOLD follows the usual cuts (ratio below 0.7, then FEV1pp 80, 50, 30); CLE and
    paraseptal are the visual grades a reader would give; COVID severity counts the involved share.
    """
    total, paraseptal, trapping = sum(emphysema.values()), extents["paraseptal"], extents["air_trapping"]
    glass, dense = extents["ground_glass"], extents["consolidation"]

    def lost(by_third: Mapping[str, float]) -> float:
        return sum(by_third[third] * emphysema[third] for third in by_third)

    small_airways = abs(float(rng.normal(0.0, 1.0))) if total > 0 else 0.0
    fev1 = 101.0 - lost(FEV1_BY_THIRD) - 40.0 * paraseptal - 4.0 * small_airways - 22.0 * (glass + 1.6 * dense)
    fev1 = float(np.clip(fev1 - 30.0 * trapping + rng.normal(0.0, 6.0), 14.0, 135.0))
    ratio = 0.80 - 0.0012 * (age - 60) - lost(RATIO_BY_THIRD) - 0.025 * small_airways + 0.05 * glass
    ratio = float(np.clip(ratio - 0.1 * trapping + rng.normal(0.0, 0.03), 0.22, 0.92))
    pao2 = 11.9 - 0.02 * (age - 60) - lost(PAO2_BY_THIRD) - 8.0 * (glass + 1.6 * dense) + float(rng.normal(0.0, 0.4))
    gold = 0 if ratio >= 0.7 else 1 + int(np.sum(fev1 < np.array([80.0, 50.0, 30.0])))
    cuts = np.array([0.003, 0.02, 0.06, 0.13, 0.24])
    cle = int(np.sum(total * float(rng.lognormal(0.0, 0.12)) > cuts))
    septal = int(np.sum(paraseptal * float(rng.lognormal(0.0, 0.12)) > np.array([0.0008, 0.008])))
    breathless = 0.2 + 5.2 * total + (100.0 - fev1) / 40.0 + 3.0 * (glass + dense) + float(rng.normal(0.0, 0.6))
    mmrc = int(np.clip(np.round(breathless), 0, 4))
    odds = -2.6 + 0.028 * (100.0 - fev1) + 5.0 * total + 3.0 * glass
    exacerbation = int(rng.random() < 1.0 / (1.0 + np.exp(-odds)))
    involved = (glass + 1.5 * dense) * float(rng.lognormal(0.0, 0.12))
    severity = int(np.sum(involved > np.array([0.002, 0.08, 0.2, 0.35])))
    return {
        "FEV1pp": round(fev1, 1),
        "FEV1_FVC": round(ratio, 3),
        "PaO2_kPa": round(float(np.clip(pao2, 4.0, 15.0)), 2),
        "GOLD": gold,
        "CLE": cle,
        "paraseptal": septal,
        "mMRC": mmrc,
        "exacerbation": exacerbation,
        "covid_severity": severity,
    }
