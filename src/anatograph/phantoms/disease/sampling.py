"""Sampling the diseases of a subject."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from anatograph.phantoms.disease.description import EMPHYSEMA, GROUND_GLASS, Bias, Disease
from anatograph.phantoms.settings import PhantomSettings

# Upper and lower are equally frequent, so that the axis of emphysema does not follow from its extent.
_EMPHYSEMA_ODDS = (0.26, 0.26, 0.17, 0.11, 0.2)
_GROUND_GLASS_ODDS = (0.34, 0.15, 0.16, 0.18, 0.17)


def sample_disease(rng: np.random.Generator, settings: PhantomSettings) -> Disease:
    """Sample the diseases of one subject: a quarter healthy, then COPD, COVID-19 or both, or what the settings name.

    The same random numbers are drawn whatever they name, so that nothing else about the subject depends on it.
    Extents and distributions are independent of each other, so that neither predicts the other.
    """
    which = rng.random()
    emphysema, paraseptal, glass, dense, trapping, lobe = (float(v) for v in rng.random(6))
    has_paraseptal, has_dense = rng.random() < 0.45, rng.random() < 0.5
    has_trapping, has_dark_lobe = rng.random() < 0.35, rng.random() < 0.25
    distribution, bias = _emphysema_bias(rng)
    glass_distribution, glass_bias = _ground_glass_bias(rng)
    if which >= settings.diseased_share:
        return Disease()
    kind = which / settings.diseased_share
    wanted = settings.diseases
    copd, covid = (kind < 0.58, kind >= 0.42) if wanted is None else ("copd" in wanted, "covid" in wanted)
    disease = Disease("COPD+COVID-19" if copd and covid else "COPD" if copd else "COVID-19")
    if copd:
        septal = distribution == "paraseptal"
        extent = 0.005 + 0.38 * emphysema**1.7
        cysts = 0.02 + 0.06 * paraseptal if septal else 0.001 + 0.02 * paraseptal**1.5 if has_paraseptal else 0.0
        disease = replace(
            disease,
            emphysema=min(0.12 * extent, 0.02) if septal else extent,
            paraseptal=cysts,
            emphysema_distribution=distribution,
            emphysema_bias=bias,
            air_trapping=0.04 + 0.3 * trapping if has_trapping else 0.0,
            dark_lobe=int(5 * lobe) if has_dark_lobe else None,
            dark_lobe_hu=22.0 + 26.0 * (5 * lobe % 1.0) if has_dark_lobe else 0.0,
        )
    if covid:
        ground_glass = 0.02 + 0.43 * glass**1.6
        disease = replace(
            disease,
            ground_glass=ground_glass,
            consolidation=0.3 * ground_glass * dense if has_dense else 0.0,
            ground_glass_distribution=glass_distribution,
            ground_glass_bias=glass_bias,
        )
    return disease


def _emphysema_bias(rng: np.random.Generator) -> tuple[str, Bias]:
    distribution = str(rng.choice(EMPHYSEMA[1:], p=_EMPHYSEMA_ODDS))
    strength, slope, side, lean = rng.random(), rng.uniform(-1.0, 1.0), float(rng.choice((-1.0, 1.0))), rng.normal()
    upper = {"upper": 2.6 + 2.6 * strength, "lower": -2.6 - 2.6 * strength, "diffuse": 0.6 * slope}
    left = side * (1.1 + 1.0 * strength) if distribution == "one-sided" else 0.22 * lean
    return distribution, Bias(upper=upper.get(distribution, 2.0 * slope), left=left)


def _ground_glass_bias(rng: np.random.Generator) -> tuple[str, Bias]:
    distribution = str(rng.choice(GROUND_GLASS[1:], p=_GROUND_GLASS_ODDS))
    strength, slope, side, lean = rng.random(), rng.uniform(-1.0, 1.0), float(rng.choice((-1.0, 1.0))), rng.normal()
    some = 0.7 + 0.6 * strength
    left = 0.2 * lean
    bias = {
        "peripheral-lower": Bias(upper=-2.2 * some, left=left, peripheral=1.5 * some, dependent=0.5),
        "central": Bias(upper=0.8 * slope, left=left, peripheral=-1.2 * some, central=3.2 * some),
        "diffuse": Bias(upper=0.8 * slope, left=left),
        "one-sided": Bias(upper=1.2 * slope, left=side * 2.0 * some, peripheral=0.5),
        "dependent": Bias(upper=0.9 * slope, left=left, peripheral=0.4, dependent=3.2 * some),
    }[distribution]
    return distribution, bias
