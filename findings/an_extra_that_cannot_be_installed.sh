#!/usr/bin/env bash
# sentence-transformers 6.2.0 cannot be installed with its own extra `onnx`: 6.2.0 requires
# transformers >= 5, and every version of optimum-onnx, which the extra requires, transformers < 4.58.
# pip says ResolutionImpossible. The last version that takes the extra is 5.7.0.
#
# Seen on 2026-11-28 (optimum-onnx 0.1.0). Why it matters here: whoever wants a model folder of this
# project on sentence-transformers' ONNX backend needs 5.7.0 and transformers 4.57, or exports the
# encoder with torch.onnx; and so does the benchmark that compares with that backend.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
resolve() {
    "$folder/venv/bin/pip" install --dry-run --quiet --report "$folder/$1.json" \
        torch==2.13.0 "sentence-transformers[onnx]==$1" 2>"$folder/$1.err"
}
if resolve 6.2.0; then
    echo "changed: 6.2.0 can be installed with its extra" >&2
    exit 1
fi
grep -q ResolutionImpossible "$folder/6.2.0.err"
resolve 5.7.0
python3 - "$folder/5.7.0.json" <<'PYTHON'
import json
import sys

chosen = {p["metadata"]["name"]: p["metadata"]["version"] for p in json.load(open(sys.argv[1]))["install"]}
print("6.2.0: ResolutionImpossible; 5.7.0 with transformers", chosen["transformers"])
assert chosen["transformers"].startswith("4."), "changed: 5.7.0 takes transformers 5"
PYTHON
