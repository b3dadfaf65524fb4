#!/usr/bin/env bash
# Train the model that ships, from nothing but phantoms:
#
#   tools/train_release_model.sh WORK [NAME]
#
# WORK keeps what was made, so that the same line continues a run that was stopped. It ends with the model folder
# WORK/run/model, with its card and a reference of healthy phantoms, and with its results on held-out phantoms in
# WORK/evaluation. With NAME, such as anatograph-ct-4, it also puts the model into this source tree's package as that
# release, which becomes the default.
#
# About two and a half hours on two cores: drawing 25 min, preprocessing 25 min, pretraining 45 min, held-out phantoms
# and checks 40 min. Needs 12 GB of disk. Seeds are fixed; on another kind of processor the weights differ in the last
# digits, and the release gets another hash.
#
# Every step at a small size, in minutes:
#
#   SUBJECTS=40 HELD_OUT=12 SPACING=4 EPOCHS=1 PATCH_STEPS=8 GRAPH_ROUNDS=2 tools/train_release_model.sh rehearsal
set -euo pipefail
work=${1:?give a folder to work in}
name=${2:-}
here=$(cd "$(dirname "$0")/.." && pwd)
workers=${WORKERS:-2}
spacing=()
if [ -n "${SPACING:-}" ]; then spacing=(--spacing "$SPACING"); fi
mkdir -p "$work"

# Subjects on scanners drawn at random (slices of 0.6 to 5 mm, noise, kernel, contrast), all diseases, and others that
# the model never sees.
anatograph phantom "$work/train" --subjects "${SUBJECTS:-160}" --seed 2001 --sites random --workers "$workers" \
    ${spacing[@]+"${spacing[@]}"}
anatograph phantom "$work/held-out" --subjects "${HELD_OUT:-60}" --seed 2002 --sites random --workers "$workers" \
    --spacing "${SPACING:-1.5}"
anatograph preprocess "$work/train/cohort.csv" "$work/train-study" --lungs given --workers "$workers"
anatograph preprocess "$work/held-out/cohort.csv" "$work/held-out-study" --workers "$workers"

anatograph pretrain "$work/train-study" "$work/run" --include-flagged --seed 2026 \
    --set "epochs=${EPOCHS:-2}" --set "patch_steps=${PATCH_STEPS:-500}" --set "graph_rounds=${GRAPH_ROUNDS:-120}" \
    --set bank_views=2 --set bank_draws=20 --set augment.scanner_probability=0.7 --set model.density_in_contrast=false
if [ ! -f "$work/run/model/reference.safetensors" ]; then
    anatograph reference "$work/train-study" "$work/run/model/reference.safetensors" --where diagnosis=healthy \
        --model "$work/run/model" --of "healthy phantoms"
fi

# Checks: the files are whole, and probes predict the disease of the held-out phantoms.
anatograph models "$work/run/model" --verify
anatograph embed "$work/held-out-study" "$work/held-out-vectors" --model "$work/run/model" --include-flagged
anatograph evaluate "$work/held-out-vectors" "$work/held-out/cohort.csv" --target emphysema_extent ground_glass_extent \
    emphysema_upper_minus_lower emphysema_right_minus_left ground_glass_upper_minus_lower ground_glass_right_minus_left \
    FEV1pp --bootstrap 1000 --out "$work/evaluation"

if [ -n "$name" ]; then
    "${PYTHON:-python}" "$here/tools/ship_release.py" "$work/run/model" "$name" --study "$work/train-study" \
        --where diagnosis=healthy --of "healthy phantoms" --results "held-out phantoms=$work/evaluation"
fi
