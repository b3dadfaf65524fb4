"""Anatomy-aware embeddings of chest CT: contrastive learning on graphs of registered patches.

Three lines from a CT to a vector::

    import anatograph

    result = anatograph.embed("scan.nii.gz", model="run/model")
    result.vector

Every command has a function of the same name here.  Nothing heavy is imported until it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from anatograph.anatomy.atlas import Atlas, default_atlas, load_atlas
    from anatograph.baselines.benchmark import benchmark
    from anatograph.checkup.installation import doctor
    from anatograph.demonstration import demo
    from anatograph.embedding.api import embed
    from anatograph.errors import UserError
    from anatograph.evaluation.evaluate import evaluate
    from anatograph.explanation.change import change
    from anatograph.explanation.deviation import deviation
    from anatograph.explanation.explain import explain
    from anatograph.explanation.similar import similar
    from anatograph.imaging.reading import read_mask, read_volume
    from anatograph.imaging.volume import Mask, Volume
    from anatograph.learning.model.folder import load_model
    from anatograph.preparation import atlas, import_reference, phantom, pretrain
    from anatograph.reporting import report
    from anatograph.study.archives.build import build_cohort
    from anatograph.study.preprocess import preprocess
    from anatograph.study.store import Study

__all__ = [
    "Atlas",
    "Mask",
    "Study",
    "UserError",
    "Volume",
    "__version__",
    "atlas",
    "benchmark",
    "build_cohort",
    "change",
    "default_atlas",
    "demo",
    "deviation",
    "doctor",
    "embed",
    "evaluate",
    "explain",
    "import_reference",
    "load_atlas",
    "load_model",
    "phantom",
    "preprocess",
    "pretrain",
    "read_mask",
    "read_volume",
    "report",
    "similar",
]

_HOME = {
    "Atlas": "anatomy.atlas",
    "Mask": "imaging.volume",
    "Study": "study.store",
    "UserError": "errors",
    "Volume": "imaging.volume",
    "atlas": "preparation",
    "benchmark": "baselines.benchmark",
    "build_cohort": "study.archives.build",
    "change": "explanation.change",
    "default_atlas": "anatomy.atlas",
    "demo": "demonstration",
    "deviation": "explanation.deviation",
    "doctor": "checkup.installation",
    "embed": "embedding.api",
    "evaluate": "evaluation.evaluate",
    "explain": "explanation.explain",
    "import_reference": "preparation",
    "load_atlas": "anatomy.atlas",
    "load_model": "learning.model.folder",
    "phantom": "preparation",
    "preprocess": "study.preprocess",
    "pretrain": "preparation",
    "read_mask": "imaging.reading",
    "read_volume": "imaging.reading",
    "report": "reporting",
    "similar": "explanation.similar",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module 'anatograph' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(f"anatograph.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
