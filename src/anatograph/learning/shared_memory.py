"""One array for all processes of a machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anatograph.errors import UserError
from anatograph.learning import collectives

_count = 0


def shared_zeros(shape: tuple[int, ...]) -> Tensor:
    """A half-precision array of zeros that the processes of a machine have in common; a plain one in one process.

    Every process calls this at the same point of the run. The memory is a file that loses its name as soon as all
    have opened it, so it is released when the last of them ends, in whatever way.

    Raises:
        UserError: neither shared memory nor the temporary folder has room for it.
    """
    if collectives.local_world_size() == 1:
        return torch.zeros(shape, dtype=torch.float16)
    global _count
    _count += 1
    run = os.environ.get("TORCHELASTIC_RUN_ID", "run"), os.environ.get("MASTER_PORT", "0"), str(_count)
    size = 2 * int(np.prod(shape))
    path = _folder(size) / "-".join(("anatograph", str(os.getuid()), *run))
    if collectives.local_rank() == 0:
        path.unlink(missing_ok=True)
        with path.open("xb") as file:
            # Allocated now: writing to a file that only claims its size kills the process once the disk is full.
            os.posix_fallocate(file.fileno(), 0, size)
    collectives.barrier()
    array = np.memmap(path, dtype=np.float16, mode="r+", shape=shape)
    collectives.barrier()
    if collectives.local_rank() == 0:
        path.unlink()
    return torch.from_numpy(array)


def _folder(size: int) -> Path:
    """Memory where it has room, else the temporary folder. All processes of a machine must come to one answer."""
    memory, disk = Path("/dev/shm"), Path(tempfile.gettempdir())
    for folder in (memory, disk):
        room = folder.is_dir() and shutil.disk_usage(folder).free >= size
        if bool(collectives.gathered(torch.tensor([room])).all()):
            return folder
    raise UserError(
        f"the views for the graph level take {size / 1e9:.1f} GB and neither {memory} nor {disk} has room; set "
        "TMPDIR to a folder with more space, or lower bank_views or raise bank_draws."
    )
