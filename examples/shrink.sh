#!/usr/bin/env bash
# From a teacher to a small INT8 plan, without labels for what the small one learns from.
# Usage: shrink.sh FOLDER [TEACHER]
#
# TEACHER is a checkpoint: a published X-Decoder's file, or one of `xdecoder-rt train`. Without it the starter is
# fine-tuned on 60 labelled scenes, which stands in for one. Needs xdecoder_rt with the extras train, export and scenes,
# and the package openclipart-svg; no network. STEPS is the length of each training (default: 64), SIZE and PLAN_SIZE are the
# sizes of training images and of plans. Every step that is done is skipped when run again.
#
# The three sets of scenes are drawn with different seeds: no scene is in two of them. The small model sees the pictures of
# `unlabelled` alone; its control learns from what the starter itself finds in them.
set -euo pipefail
folder=$(realpath -m "${1:?usage: shrink.sh FOLDER [TEACHER]}")
teacher=${2:+$(realpath -m "$2")}
teacher=${teacher:-$folder/runs/teacher/model.safetensors}
steps=${STEPS:-64} size=${SIZE:-192} plan_size=${PLAN_SIZE:-192x256}
# Of these no training of the starter had a drawing.
names=(house "stick figure" "magnifying glass" cat bear lemon strawberry "baseball cap" sailboat squirrel "fire truck" rainbow)
mkdir -p "$folder/runs"
cd "$folder"

scenes() { # NAME SEED COUNT
  [[ -d $1 ]] || python -m xdecoder_rt.scenes clipart "$1" --split novel --seed "$2" --count "$3" --size 320x256 --names "${names[@]}"
}
learn() { # DATA NAME [OPTION...]
  local data=$1 name=$2
  shift 2
  [[ -f runs/$name/model.safetensors ]] || xdecoder-rt train "$data" --init starter -o "runs/$name" --resume --tasks segment \
    --steps "$steps" --size "$size" --batch-size 4 --freeze-backbone --freeze-text --lr 5e-4 --ema-decay 0.98 --warmup-steps 10 \
    --vocabulary-size 33 --points 320 --matching-points 512 --precision fp32 --threads 1 "$@"
}
plan() { # NAME CHECKPOINT
  [[ -f $1.plan ]] || xdecoder-rt build --checkpoint "$2" --size "$plan_size" --tasks segment -o "$1.plan"
  [[ -f $1.json ]] || xdecoder-rt eval "$1.plan" held_out --tasks segment --json "$1.json"
}

scenes held_out 1 40
scenes labelled 2 60
scenes unlabelled 3 150
[[ -f words.txt ]] || python - >words.txt <<'PYTHON'
import json

folder = json.load(open("held_out/annotations.json"))
for word in folder["vocabulary"]:
    print(word + (" [stuff]" if word in folder["stuff"] else ""))
PYTHON

plan starter starter
[[ -n ${2:-} ]] || learn labelled teacher
plan teacher "$teacher"
learn unlabelled/images student --teacher teacher.plan --words-file words.txt
plan student runs/student/model.safetensors
learn unlabelled/images control --teacher starter.plan --words-file words.txt
plan control runs/control/model.safetensors
# --force: on processors without VNNI a build refuses INT8 where it is not faster than fp32.
[[ -f student-int8.plan ]] || xdecoder-rt build --plan student.plan --precision int8 --force \
  --calibration runs/student/labels/0/folder --calibration-images 40 -o student-int8.plan
[[ -f student-int8.json ]] || xdecoder-rt eval student-int8.plan held_out --tasks segment --json student-int8.json

python - starter teacher student control student-int8 <<'PYTHON'
import json
import sys
from pathlib import Path

print(f"{'plan':14}{'PQ':>7}{'mIoU':>7}{'MB':>7}")
for name in sys.argv[1:]:
    scores = json.loads(Path(f"{name}.json").read_text())
    megabytes = Path(f"{name}.plan").stat().st_size / 1e6
    print(f"{name:14}{scores['panoptic']['pq']:7.1f}{scores['semantic']['miou']:7.1f}{megabytes:7.1f}")
PYTHON
