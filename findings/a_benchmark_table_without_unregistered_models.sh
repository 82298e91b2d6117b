#!/usr/bin/env bash
# mteb 2.26.24: `BenchmarkResults.get_benchmark_result()`, the leaderboard's table, leaves a model out
# without a word unless its name is in mteb's registry of models. The results are loaded, and
# `to_dataframe()` shows them; the table joins them with the metadata of registered models
# (`_attach_model_metadata`), not with the `model_meta.json` that was loaded next to the results.
#
# Seen on 2026-11-28. Why it matters here: a model that was just trained is never registered, so of
# what `evaluate.py run` writes for mteb, and of what mteb itself writes, `to_dataframe()` is the table.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q mteb==2.26.24
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import mteb

cache = mteb.ResultCache(f"{sys.argv[1]}/cache")
task = mteb.get_task("SICK-NL-STS")
result = mteb.TaskResult.from_task_results(task, {"test": {"default": {"main_score": 0.5}}}, 1.0)
for name in ("clips/e5-small-trm-nl", "local/mine"):
    meta = mteb.models.ModelMeta.create_empty({"name": name, "revision": "1"})
    cache.save_to_cache(result, meta)
read = cache.load_results(tasks=mteb.get_benchmark("MTEB(nld, v1)"))
frame, table = read.to_dataframe(), read.get_benchmark_result()
print("mteb", mteb.__version__, list(frame.columns[2:]), table["Model"].tolist())
assert len(frame.columns[2:]) == 2 and len(table) == 1, "changed: the table shows both"
PYTHON
