"""The cohort table: subjects, their scans, and everything known about them."""

from anatograph.study.cohort.table import Cohort, CohortRow, inspect_cohort, is_there, read_cohort

__all__ = ["Cohort", "CohortRow", "inspect_cohort", "is_there", "read_cohort"]
