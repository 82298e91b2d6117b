#!/usr/bin/env bash
# torch 2.13.0: where one tensor is the example of two inputs, torch.export makes a graph that computes
# both from the second and never reads the first: first - second is 0 for every input. Both are still
# inputs of the graph, nothing is said, and torch.onnx.export passes it on.
#
# Seen on 2026-11-28. Why it matters here: an encoder takes input_ids, attention_mask and
# token_type_ids, and the shortest example for an export is one tensor of ones for two of them. The
# ONNX file then takes a text's ids for its mask, or the mask for the ids: cosines of 0.65 to 0.80 with
# the right embeddings, which could pass for a matter of precision. tools/elsewhere makes three tensors.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch


class Difference(torch.nn.Module):
    def forward(self, first, second):
        return first - second


five, two, ones = (torch.full((2, 3), number) for number in (5.0, 2.0, 1.0))
results = {}
for name, example in {"one tensor": (ones, ones), "two tensors": (ones, ones.clone())}.items():
    program = torch.export.export(Difference(), example)
    results[name] = program.module()(five, two)[0, 0].item()
    inputs = program.graph_signature.user_inputs
    print(f"torch {torch.__version__}, {name} as the example: {inputs}, 5 - 2 = {results[name]}")
assert results["two tensors"] == 3
assert results["one tensor"] == 0, "changed: the two inputs are kept apart"
PYTHON
