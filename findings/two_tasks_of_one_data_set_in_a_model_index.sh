#!/usr/bin/env bash
# huggingface_hub 2.4.0: `ModelCardData` writes the results of two tasks of one type on one data set
# as one entry of the model-index, under the name of the first. `eval_results_to_model_index` groups
# by task type, data set, configuration, split and revision, and the data set's name, in which mteb
# keeps the task's, is not among them. Read again, both results have the first name.
#
# Seen on 2026-11-28. Why it matters here: VABBClusteringS2S and VABBClusteringP2P are such tasks, and
# so are two of news articles. `card.py` writes the entries itself, one for each task; the library
# reads these as they are.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q huggingface_hub==2.4.0
"$folder/venv/bin/python" - <<'PYTHON'
import huggingface_hub
from huggingface_hub import EvalResult, ModelCard, ModelCardData

results = [
    EvalResult("Clustering", "clips/vabb", name, "v_measure", value)
    for name, value in (("VABBClusteringS2S", 0.25), ("VABBClusteringP2P", 0.5))
]
data = ModelCardData(model_name="m", eval_results=results)
read = ModelCard(f"---\n{data.to_yaml()}\n---\n").data.eval_results
found = [(result.dataset_name, result.metric_value) for result in read]
print("huggingface_hub", huggingface_hub.__version__, found)
assert [name for name, _ in found] == ["VABBClusteringS2S"] * 2, "changed: each has its own name"
PYTHON
