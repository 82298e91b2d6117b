#!/usr/bin/env bash
# cyllama 0.2.18 (llama.cpp for Python): Embedder(path, pooling="mean"), its default, returns the
# embedding of a text's first token, and "cls" and "last" return the same. It asks llama.cpp for the
# embeddings of all tokens and is handed the first alone; the mean is taken over what is there,
# without a word. The mean over get_embeddings_ith(i) of the same context is right.
#
# Seen on 2026-11-28. Why it matters here: E5's embedding is the mean over tokens. A trained model that
# is right in llama.cpp (cosine 1.0000 with e5nl.embed) gets 0.79 to 0.93 through this class, which
# looks like a fault of the tokenizer or of the conversion. tools/elsewhere takes the mean itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q cyllama==0.2.18 gguf==0.19.0 numpy
"$folder/venv/bin/python" - "$folder/model.gguf" <<'PYTHON'
import sys
from importlib.metadata import version

import gguf
import numpy as np
from cyllama.llama import llama_cpp
from cyllama.rag import Embedder

# A BERT of one layer with random weights and a vocabulary of two words.
path, width, inner = sys.argv[1], 32, 64
pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2581de", "\u2581fiets"]
writer = gguf.GGUFWriter(path, "bert")
writer.add_block_count(1)
writer.add_context_length(16)
writer.add_embedding_length(width)
writer.add_feed_forward_length(inner)
writer.add_head_count(2)
writer.add_layer_norm_eps(1e-12)
writer.add_causal_attention(False)
writer.add_pooling_type(gguf.PoolingType.MEAN)
writer.add_tokenizer_model("bert")
writer.add_tokenizer_pre("default")
writer.add_token_type_count(1)
writer.add_token_list(pieces)
writer.add_token_types([3, 2, 3, 3, 1, 1])
for role, number in dict(pad=0, unk=1, mask=1, bos=2, sep=3, eos=3).items():
    getattr(writer, f"add_{role}_token_id")(number)
shapes = {"token_embd": (6, width), "position_embd": (16, width), "token_types": (1, width)}
layer = {"attn_q": (width, width), "attn_k": (width, width), "attn_v": (width, width)}
layer |= {"attn_output": (width, width), "ffn_up": (inner, width), "ffn_down": (width, inner)}
layer |= {"attn_output_norm": (width,), "layer_output_norm": (width,)}
shapes |= {f"blk.0.{name}": shape for name, shape in layer.items()} | {"token_embd_norm": (width,)}
draw = np.random.default_rng(0).standard_normal
for name, shape in shapes.items():
    writer.add_tensor(f"{name}.weight", 0.1 * draw(shape, np.float32))
    if "norm" in name or name.startswith("blk"):
        writer.add_tensor(f"{name}.bias", np.zeros(shape[:1], np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

# Each token's embedding, from the library below the class.
llama_cpp.disable_logging()
text = "de fiets de"
model, settings = llama_cpp.LlamaModel(path, llama_cpp.LlamaModelParams()), llama_cpp.LlamaContextParams()
settings.n_ctx, settings.embeddings, settings.pooling_type = 16, True, 0
context, ids = llama_cpp.LlamaContext(model, settings), model.get_vocab().tokenize(text, True, True)
batch = llama_cpp.LlamaBatch(n_tokens=len(ids), embd=0, n_seq_max=1)
for place, number in enumerate(ids):
    batch.add(number, place, [0], True)
context.decode(batch)
tokens = np.array([context.get_embeddings_ith(i) for i in range(len(ids))])


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


mean = np.array(Embedder(path, n_ctx=16, n_gpu_layers=0, pooling="mean").embed(text))
print("cyllama", version("cyllama"), "tokens", ids)
print("cosine of its mean with the mean over tokens", cosine(mean, tokens.mean(0)))
print("cosine of its mean with the first token", cosine(mean, tokens[0]))
assert len(ids) == 5
assert cosine(mean, tokens[0]) > 0.9999, "changed: it is no longer the first token"
assert cosine(mean, tokens.mean(0)) < 0.99, "changed: the mean is right"
PYTHON
