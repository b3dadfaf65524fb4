"""The number of threads of a process, so that parallel workers do not oversubscribe the cores."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""Variables that numerical libraries read when they are loaded."""


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started inside have numerical libraries limited to one thread by their environment."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@cache
def use_one_thread() -> None:
    """Limit this process to one thread, also in libraries that are already loaded (on a cluster's worker, say)."""
    import SimpleITK as sitk
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    threadpool_limits(1)
    torch = sys.modules.get("torch")  # if it is loaded later, it reads the environment
    if torch is not None:
        torch.set_num_threads(1)
