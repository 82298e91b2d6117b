#!/usr/bin/env bash
# transformers 5.23.0, `transformers serve`: a chat request with "temperature": 1.0 and a "seed" is
# answered by greedy decoding, so the same for every seed, where the model's generation_config.json
# does not have "do_sample": true. The temperature is taken over, the switch that makes it count is
# not; only a temperature of 0 is turned into "do_sample": false. Status 200, no word about it.
#
# Seen on 2026-11-28. Why it matters here: synthesize.py gives every row and every further try a seed of
# its own. A model of that kind writes one row over and over, and an unfit answer is as unfit the next
# time. Other servers sample whenever the temperature is above 0.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2> /dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q "transformers[serving]==5.23.0"
cat > "$folder/model.py" <<'PYTHON'
import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

pieces = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
backend = Tokenizer(models.BPE({piece: id for id, piece in enumerate(pieces)}, []))
backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
torch.manual_seed(0)
shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(pieces), bos_token_id=0, eos_token_id=1, **shape))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")
tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
for name, sampled in (("plain", False), ("sampled", True)):
    model.generation_config.do_sample = sampled
    model.save_pretrained(f"{sys.argv[1]}/{name}")
    tokenizer.save_pretrained(f"{sys.argv[1]}/{name}")
PYTHON
"$folder/venv/bin/python" "$folder/model.py" "$folder"
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
HF_HUB_OFFLINE=1 "$folder/venv/bin/transformers" serve --host 127.0.0.1 --port "$port" --device cpu > "$folder/log" 2>&1 &
server=$!
"$folder/venv/bin/python" - "$folder" "http://127.0.0.1:$port" <<'PYTHON'
import json
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import version

folder, url = sys.argv[1:]
for _ in range(240):
    try:
        urllib.request.urlopen(f"{url}/health", timeout=5)
        break
    except urllib.error.HTTPError:
        break
    except OSError:
        time.sleep(1)
answers = {}
for name in ("plain", "sampled"):
    for seed in (1, 2, 3):
        body = {"model": f"{folder}/{name}", "messages": [{"role": "user", "content": "fiets"}]}
        body |= {"temperature": 1.0, "seed": seed, "max_tokens": 16}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
        answer = json.load(urllib.request.urlopen(request, timeout=240))
        answers.setdefault(name, []).append(answer["choices"][0]["message"]["content"])
print("transformers", version("transformers"))
for name, texts in answers.items():
    print(f"{name}: {len(set(texts))} different answers to 3 seeds at temperature 1.0")
assert len(set(answers["sampled"])) == 3
assert len(set(answers["plain"])) == 1, "changed: a temperature above 0 is sampled"
PYTHON
