"""A synthetic thorax with known truth: cohorts to develop, test and demonstrate on, and the reference lungs."""

from anatograph.imaging.phantom.reference import reference_lungs

__all__ = ["reference_lungs"]
