#!/usr/bin/env bash
# torch 2.13.0 (CPU): torch.set_num_threads() called in a worker thread also becomes the number of every
# thread that has not computed yet: of those that are started later, and of the main thread, even where
# that one has called set_num_threads() itself before. A thread that has computed something, or asked
# for get_num_threads(), keeps its number. The documentation speaks of one number.
#
# Seen on 2026-11-28. Why it matters here: to compute chunks of texts side by side, each worker must use
# its share of the threads. A program that does so before its main thread has computed anything loses
# the main thread's number, and a server that starts its request threads later has the workers' number
# in all of them: a fraction of the speed, without a word. e5nl.py asks for the number first, in the
# thread that starts the workers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
for first in nothing get_num_threads; do
    "$folder/venv/bin/python" - "$first" <<'PYTHON'
import sys
import threading

import torch

torch.set_num_threads(6)
if sys.argv[1] == "get_num_threads":
    torch.get_num_threads()
seen = {}
for name, work in (
    ("worker", lambda: (torch.set_num_threads(2), seen.update(worker=torch.get_num_threads()))),
    ("later", lambda: seen.update(later=torch.get_num_threads())),
):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
seen["main"] = torch.get_num_threads()
print(f"torch {torch.__version__}, main set 6 and then called {sys.argv[1]}:", seen)
expected = {"worker": 2, "later": 2, "main": 2 if sys.argv[1] == "nothing" else 6}
assert seen == expected, f"changed; it was {expected}"
PYTHON
done
