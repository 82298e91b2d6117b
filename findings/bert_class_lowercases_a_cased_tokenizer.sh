#!/usr/bin/env bash
# transformers 5.23.0 and 4.57.6: "tokenizer_class": "BertTokenizer" in tokenizer_config.json, without
# do_lower_case, makes a cased tokenizer.json lower-case its input. The class sets the normaliser anew
# from its own defaults (lower case: yes); what tokenizer.json says is not looked at. Programs that
# read tokenizer.json alone keep the case, so one folder gives two embeddings, and neither complains.
#
# Seen on 2026-11-28. Why it matters here: Dutch BERTs are cased. A folder whose two files disagree is
# refused by name here, instead of choosing one of the two meanings in silence.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 4.57.6 5.23.0; do
    python3 -m venv --clear "$folder/venv"
    "$folder/venv/bin/pip" install -q "transformers==$version"
    "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

folder = Path(sys.argv[1]) / "model"
folder.mkdir(exist_ok=True)
pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Gent", "gent"]
tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
tokenizer.save(str(folder / "tokenizer.json"))
(folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(pieces)}))
tokens = {}
for settings in ({}, {"do_lower_case": False}):
    content = {"tokenizer_class": "BertTokenizer", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    loaded = AutoTokenizer.from_pretrained(folder)
    tokens[bool(settings)] = loaded.convert_ids_to_tokens(loaded("Gent")["input_ids"])
    print("transformers", transformers.__version__, settings, tokens[bool(settings)])
print("tokenizer.json says", tokenizer.encode("Gent").tokens)
assert tokens[True] == tokenizer.encode("Gent").tokens == ["[CLS]", "Gent", "[SEP]"]
assert tokens[False] == ["[CLS]", "gent", "[SEP]"], "changed: the case is kept now"
PYTHON
done
