"""Anatomy-aware embeddings of chest CT: contrastive learning on graphs of registered patches.

Three lines from a CT to a vector::

    import anatograph

    result = anatograph.embed("scan.nii.gz")
    result.subject

Every command has a function of the same name here.  What is here, and in which module it lives, is listed once, in
``__init__.pyi``, which type checkers read too; a name is imported when it is first used, so the import is quick.
"""

import lazy_loader

from anatograph._version import __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
