"""Whether the mapped atlas knows where a lobe without air was, so that it could close the lung mask.

    OMP_NUM_THREADS=1 python benchmarks/atlas_closing.py [--phantoms 3]

Soft tissue takes the place of one lobe of a phantom, as in ``quality_levels.py``, and ``threshold`` finds the rest of
the lungs.  The atlas is mapped onto that mask, and what it holds beyond the mask is what closing would add: printed are
the fraction of the lobe that it covers (recall), and the fraction of what would be added that is lobe (precision).
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
from quality_levels import lobe

from anatograph.anatomy.atlas import default_atlas
from anatograph.anatomy.registration import register
from anatograph.imaging.lungs import segment_lungs
from anatograph.imaging.volume import Mask
from anatograph.phantoms import PhantomSettings, make_subject

LOBES = {"right lower": lobe(Mask.RIGHT, lower=True), "left upper": lobe(Mask.LEFT, lower=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=3)
    options = parser.parse_args()
    atlas = default_atlas()
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for index in range(options.phantoms):
        subject = make_subject(21, index, PhantomSettings(spacing_mm=3.0))
        for name, plant in LOBES.items():
            volume, _ = plant(subject.volume, subject.lungs)
            mask = segment_lungs(volume, "threshold").mask
            consolidated = subject.lungs.lungs & (volume.array > -300) & (subject.volume.array < -300)
            outside = np.argwhere(~mask.lungs)
            for method in ("affine", "deformable"):
                mapped = register(atlas, mask, method).map
                inside = atlas.lungs.contains(mapped.to_atlas(mask.frame.to_lps(outside[:, ::-1])))
                added = np.zeros(mask.array.shape, dtype=bool)
                added[tuple(outside[inside].T)] = True
                hit = float((added & consolidated).sum())
                found[name, method].append((hit / consolidated.sum(), hit / max(1, int(added.sum()))))
                recall, precision = found[name, method][-1]
                print(f"{index}  {name:12s} {method:11s} recall {recall:.2f}  precision {precision:.2f}", flush=True)
    print("\n| lobe | map | recall | precision |\n|---|---|---|---|")
    for (name, method), rows in found.items():
        recall, precision = np.mean(rows, axis=0)
        print(f"| {name} | `{method}` | {recall:.2f} | {precision:.2f} |")


if __name__ == "__main__":
    main()
