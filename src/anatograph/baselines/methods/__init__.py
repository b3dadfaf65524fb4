"""The rows of the paper's tables, one file each; `anatograph.baselines.registry` lists them."""
