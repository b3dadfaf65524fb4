"""The words that options take, each once: used by the command line, the functions and their settings."""

from __future__ import annotations

from typing import Literal

Archive = Literal[
    "folder", "dicomweb", "idc", "copdgene", "covid-composite", "covid-ct-md", "ct-rate", "lidc-idri", "mosmeddata",
    "nlst", "osic", "ricord-1a",
]  # fmt: skip
"""General sources and public data sets whose cohort table `anatograph cohort` builds."""
BenchmarkPreset = Literal["default", "quick"]
"""Sizes of the benchmark's networks: those of their papers, or small enough for two cores."""
Device = Literal["auto", "cpu", "cuda"]
"""Where networks run; ``auto`` takes a GPU where there is one."""
ExportFormat = Literal["anndata", "csv", "stata", "r"]
"""Formats of embeddings for other tools."""
GraphRule = Literal["atlas", "distance", "overlap"]
"""Neighbours in a graph: by distance in the atlas, by distance in the subject (eq. 3), or by overlap of patches."""
ImageFormat = Literal["nifti", "dicom"]
"""File format of phantoms."""
ImageExport = Literal["dicom", "slicer"]
"""Formats of masks, maps and measurements for viewers."""
LungMethod = Literal["auto", "given", "threshold", "lungmask", "totalsegmentator"]
"""Source of the lung mask; ``auto`` takes a given mask where there is one and the built-in method elsewhere."""
MapScale = Literal["relative", "eq10"]
"""Scale of a heatmap: relative to the training subjects at that landmark, or equation 10 as printed."""
PoolingRule = Literal["mean", "harmonics", "moments", "zones"]
"""A subject's vector: the mean over regions (eq. 7) alone, or with weighted means by the first harmonics of the atlas
graph, by the atlas coordinates L, P and S, or by thirds of the height of each lung."""
ProbeKind = Literal["evaluate", "smooth"]
"""Probe behind a heatmap: the one that `evaluate` scored, or the smoothest among those of similar accuracy."""
Redo = Literal["outdated", "changed"]
"""Subjects of a study to process again: made by an older version, or with an image that changed since."""
RegistrationMethod = Literal["deformable", "affine", "ants-affine", "ants-syn"]
"""Registration of the atlas to a subject."""
TableLayout = Literal["wide", "long", "regions"]
"""Rows of an exported table: subjects; subjects and features; or subjects and landmarks."""
Task = Literal["regression", "classification", "ordinal"]
"""Kind of a target: linear regression of numbers, logistic regression of classes, or proportional odds for grades."""
Question = Literal["regression", "classification", "ordinal", "slope"]
"""What `evaluate` does with a column: one of those, or the slope over several visits, predicted from the first."""
TargetKind = Literal["regression", "classification", "ordinal", "survival"]
"""The kinds of `Task`, and Cox regression of the time to an event, which is named as EVENT:TIME rather than chosen."""


_FORMER = {"calm": "smooth"}


def current(word: str) -> str:
    """The word that stands for an option's value today, for one that an earlier version used."""
    return _FORMER.get(word, word)
