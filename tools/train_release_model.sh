#!/usr/bin/env bash
# Train the model that ships, from nothing but phantoms, and put it into the package as release NAME:
#   tools/train_release_model.sh WORK [NAME]
# WORK keeps what was made, so run again it continues where it stopped. About two and a half hours on two cores: drawing
# 25 min, preprocessing 25 min, pretraining 45 min, held-out phantoms and checks 40 min. Needs 12 GB of disk. Seeds are
# fixed; on another kind of processor the weights differ in the last digits, and the release gets another hash.
set -euo pipefail
work=${1:?give a folder to work in}
name=${2:-anatograph-ct-2}
here=$(cd "$(dirname "$0")/.." && pwd)
workers=${WORKERS:-2}
mkdir -p "$work"

# 160 subjects on scanners drawn at random (slices of 0.6 to 5 mm, noise, kernel, contrast), all diseases, and 60 that
# the model never sees.
anatograph phantom "$work/train" --subjects 160 --seed 2001 --sites random --workers "$workers"
anatograph phantom "$work/held-out" --subjects 60 --seed 2002 --sites random --spacing 1.5 --workers "$workers"
anatograph preprocess "$work/train/cohort.csv" "$work/train-study" --lungs given --workers "$workers"
anatograph preprocess "$work/held-out/cohort.csv" "$work/held-out-study" --workers "$workers"

resume=()
if [ -f "$work/run/settings.json" ]; then resume=(--resume); fi
anatograph pretrain "$work/train-study" "$work/run" --include-flagged --seed 2026 "${resume[@]}" \
    --set epochs=2 --set patch_steps=500 --set graph_rounds=120 --set bank_views=2 --set bank_draws=20 \
    --set augment.scanner_probability=0.7 --set model.density_in_contrast=false

# Checks: the files are whole, and probes predict the disease of the held-out phantoms.
anatograph models "$work/run/model" --verify
anatograph embed "$work/held-out-study" "$work/held-out" --model "$work/run/model" --include-flagged
anatograph evaluate "$work/held-out" "$work/held-out/cohort.csv" --target emphysema_extent ground_glass_extent \
    emphysema_upper_minus_lower emphysema_right_minus_left ground_glass_upper_minus_lower ground_glass_right_minus_left \
    FEV1pp --bootstrap 1000 --out "$work/evaluation"

python "$here/tools/ship_release.py" "$work/run/model" "$name" --study "$work/train-study" --where diagnosis=healthy \
    --of "healthy phantoms" --results "held-out phantoms=$work/evaluation"
