"""A synthetic thorax with known truth: cohorts to develop, test and demonstrate on, and the reference lungs."""

from anatograph.phantoms.cohort import write_cohort
from anatograph.phantoms.reference import reference_lungs
from anatograph.phantoms.settings import SCANNERS, PhantomSettings, Scanner
from anatograph.phantoms.subject import PhantomSubject, make_subject

__all__ = [
    "SCANNERS",
    "PhantomSettings",
    "PhantomSubject",
    "Scanner",
    "make_subject",
    "reference_lungs",
    "write_cohort",
]
