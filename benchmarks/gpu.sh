#!/usr/bin/env bash
# Checks and measures the kernels on the GPU of this machine: one command, no network, from a plain
# copy of the tree. Needs a GPU and a Python with torch, triton and numpy; launches of compiled
# kernels also cuda-bindings, tests pytest and hypothesis. Nothing of ours need be installed, but for
# the sections engine and tensorrt, which run a plan: from a wheel of ours (--wheels) or as it is
# installed. Ends within --budget seconds (420) and leaves only what it writes to --output: three
# files at most.
#
#   benchmarks/gpu.sh                              # gpu-results/gpu-DATE.json and gpu-DATE.md
#   benchmarks/gpu.sh --output docs/gpu --quick    # a few shapes
#   PYTHON=python3.12 benchmarks/gpu.sh --only device attention
#   benchmarks/gpu.sh --part 1 --budget 290        # in two parts of under five minutes each
#   benchmarks/gpu.sh --part 2 --budget 290 --plan fp16.plan --wheels wheels
#   benchmarks/gpu.sh --help
#
# Exit code 0: done. 1: a test, the sanitizer, the loader or a comparison with the reference failed.
# 2: bad arguments. 3: there is no GPU.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$(command -v "${PYTHON:-python3}")
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
work=$(mktemp -d "${TMPDIR:-/tmp}/xdecoder-rt-gpu.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# As the wheel lies, but for the compiled extension, which the kernels do not need.
mkdir -p "$work/tree/tests"
cp -R "$root/xdecoder_rt" "$root/benchmarks/gpu" "$work/tree"
cp -R "$root/kernels" "$root/export" "$root/calibration" "$work/tree/xdecoder_rt"
# 23 MiB that no section reads; a copy of the tree may lack them.
rm -f "$work/tree/xdecoder_rt/export/starter/"*.safetensors
cp -R "$root/tests/kernels" "$root/tests/support" "$work/tree/tests"

# Nothing is left behind, and nothing older takes part.
export PYTHONDONTWRITEBYTECODE=1 TRITON_CACHE_DIR="$work/triton" TORCHINDUCTOR_CACHE_DIR="$work/inductor"
export PYTHONPATH="$work/tree${PYTHONPATH:+:$PYTHONPATH}"
called_from=$PWD
# A module of the folder where one happens to be must not stand in for ours.
cd "$work"
"$python" -m gpu --work "$work" --called-from "$called_from" "$@"
