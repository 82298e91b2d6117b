#!/usr/bin/env bash
# sentence-transformers 6.2.0: a model that stores the prompts {"query": "query: ", "passage":
# "passage: "} gets no prefix from encode_document. The method looks for "document" first, and the
# library itself puts an empty "document" into every model's prompts, so "passage", which its
# documentation names as the next choice, is never reached; saved again, the empty text is in the file.
#
# Seen on 2026-11-28. Why it matters here: E5's passages need "passage: ". Folders written here store
# the prefix under both names; and an empty "document" next to a "passage" with text is read as what
# the library added, not as the owner's wish.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q sentence-transformers==6.2.0 transformers==5.23.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

import numpy as np
import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

folder = Path(sys.argv[1]) / "model"
pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", "passage", ":", "de", "fiets"]
backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
torch.manual_seed(0)
config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
BertModel(config).save_pretrained(folder)
tokenizer.save_pretrained(folder)
prompts = {"query": "query: ", "passage": "passage: "}
parts = [modules.Transformer(str(folder)), modules.Pooling(8)]
model = SentenceTransformer(modules=parts, prompts=prompts, device="cpu")
bare, passage = model.encode(["de fiets"], prompt=""), model.encode(["de fiets"], prompt_name="passage")
document = model.encode_document(["de fiets"])
print("sentence-transformers", sentence_transformers.__version__, "prompts", model.prompts)
print("encode_document equals no prefix:", np.allclose(document, bare))
print("encode_document equals 'passage: ':", np.allclose(document, passage))
model.save(str(folder / "saved"))
stored = json.loads((folder / "saved/config_sentence_transformers.json").read_text())["prompts"]
print("saved again:", stored)
assert np.allclose(document, bare) and not np.allclose(document, passage), "changed: the prefix is added"
assert stored["document"] == ""
PYTHON
