#!/usr/bin/env bash
# transformers 5.23.0: a folder with a Unigram tokenizer.json, model_type "bert" in config.json and no
# tokenizer_class anywhere is not tokenised by that tokenizer.json. AutoTokenizer picks BertTokenizer
# from the model type, which keeps the file's pieces but sets up WordPiece, lower case and "##" around
# them: a text of known pieces becomes one unknown token per word, without a warning. The same file
# under "tokenizer_class": "PreTrainedTokenizerFast" gives the pieces that it says.
#
# Seen on 2026-11-28. Why it matters here: multilingual-e5-small is a BERT with XLM-R's Unigram
# tokenizer. A tool that saves its weights and tokenizer.json but forgets the class makes a folder that
# loads everywhere and embeds noise. So trimmed and trained folders always name the class.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q transformers==5.23.0 tokenizers==0.23.3
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer

folder = Path(sys.argv[1]) / "model"
folder.mkdir()
pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
pieces += [("▁de", -2.0), ("▁fiets", -2.0), ("en", -3.0), ("▁", -4.0)]
tokenizer = Tokenizer(models.Unigram(pieces, 3))
tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
tokenizer.save(str(folder / "tokenizer.json"))
(folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(pieces)}))

text = "de fietsen"
expected = tokenizer.encode(text).tokens
print("transformers", transformers.__version__)
print("tokenizer.json says   ", expected)
tokens = {}
for name in (None, "PreTrainedTokenizerFast"):
    settings = {"unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    settings |= {"tokenizer_class": name} if name else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    loaded = AutoTokenizer.from_pretrained(folder)
    tokens[name] = loaded.convert_ids_to_tokens(loaded(text)["input_ids"])
    print(f"class {name or 'not named'}: {type(loaded).__name__}", tokens[name])
assert tokens["PreTrainedTokenizerFast"] == expected
assert tokens[None] != expected, "changed: the file is believed without a class too"
PYTHON
