"""A synthetic thorax with known truth: cohorts to develop, test and demonstrate on, and the reference lungs."""

from anatograph.imaging.phantom.cohort import write_cohort
from anatograph.imaging.phantom.reference import reference_lungs
from anatograph.imaging.phantom.settings import SCANNERS, PhantomSettings, Scanner
from anatograph.imaging.phantom.subject import PhantomSubject, make_subject

__all__ = [
    "SCANNERS",
    "PhantomSettings",
    "PhantomSubject",
    "Scanner",
    "make_subject",
    "reference_lungs",
    "write_cohort",
]
