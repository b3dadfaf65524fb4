"""The clinical columns of a synthetic subject: effects of the drawn disease, plus random variation."""

from __future__ import annotations

import numpy as np

from anatograph.phantoms.profile import SubjectProfile


def clinical_variables(
    profile: SubjectProfile, extents: dict[str, float], rng: np.random.Generator
) -> dict[str, float | int | str]:
    """Columns of the cohort table from the true extents (shares of the lung volume) of one subject.

    FEV1pp in % of predicted and FEV1_FVC fall with emphysema; GOLD follows the usual cuts (ratio below 0.7, then FEV1pp
    80, 50, 30); CLE and paraseptal are the visual grades a reader would give; COVID severity counts the involved share.
    """
    emphysema, paraseptal = extents["emphysema"], extents["paraseptal"]
    glass, dense = extents["ground_glass"], extents["consolidation"]
    small_airways = abs(float(rng.normal(0.0, 1.0))) if emphysema > 0 else 0.0
    fev1 = 101.0 - 170.0 * emphysema - 40.0 * paraseptal - 4.0 * small_airways - 22.0 * (glass + 1.6 * dense)
    fev1 = float(np.clip(fev1 + rng.normal(0.0, 7.0), 14.0, 135.0))
    ratio = 0.80 - 0.0012 * (profile.age - 60) - 0.95 * emphysema - 0.025 * small_airways + 0.05 * glass
    ratio = float(np.clip(ratio + rng.normal(0.0, 0.03), 0.22, 0.92))
    gold = 0 if ratio >= 0.7 else 1 + int(np.sum(fev1 < np.array([80.0, 50.0, 30.0])))
    cuts = np.array([0.003, 0.02, 0.06, 0.13, 0.24])
    cle = int(np.sum(emphysema * float(rng.lognormal(0.0, 0.12)) > cuts))
    septal = int(np.sum(paraseptal * float(rng.lognormal(0.0, 0.12)) > np.array([0.0008, 0.008])))
    breathless = 0.2 + 5.2 * emphysema + (100.0 - fev1) / 40.0 + 3.0 * (glass + dense) + float(rng.normal(0.0, 0.6))
    mmrc = int(np.clip(np.round(breathless), 0, 4))
    odds = -2.6 + 0.028 * (100.0 - fev1) + 5.0 * emphysema + 3.0 * glass
    exacerbation = int(rng.random() < 1.0 / (1.0 + np.exp(-odds)))
    involved = (glass + 1.5 * dense) * float(rng.lognormal(0.0, 0.12))
    severity = int(np.sum(involved > np.array([0.002, 0.08, 0.2, 0.35])))
    return {
        "age": profile.age,
        "sex": profile.sex,
        "site": profile.scanner.site,
        "diagnosis": profile.disease.diagnosis,
        "FEV1pp": round(fev1, 1),
        "FEV1_FVC": round(ratio, 3),
        "GOLD": gold,
        "CLE": cle,
        "paraseptal": septal,
        "mMRC": mmrc,
        "exacerbation": exacerbation,
        "covid_severity": severity,
        "emphysema_extent": round(emphysema, 6),
        "paraseptal_extent": round(paraseptal, 6),
        "ground_glass_extent": round(glass, 6),
        "consolidation_extent": round(dense, 6),
        "bmi": round(profile.bmi, 1),
        "height_cm": round(profile.height_cm, 1),
    }
