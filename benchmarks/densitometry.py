"""Six density measures of each subject of a study, as an embedding that `anatograph evaluate` reads.

python benchmarks/densitometry.py STUDY OUT.parquet
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from phantom_study import plain_features

from anatograph.study.store import Study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    study = Study.open(args.study)
    _, figures = plain_features(study)
    table = pd.DataFrame(figures, columns=[f"feature_{k:03d}" for k in range(figures.shape[1])])
    table.insert(0, "subject_id", study.subject_ids)
    table.to_parquet(args.out)


if __name__ == "__main__":
    main()
