"""A tiny model with random weights for llama.cpp: python gguf_model.py FOLDER, in its environment.

One token per byte, 256 tokens at most, as the model of models.py that chats.
"""

import sys
from pathlib import Path

import gguf
import numpy as np

WIDTH, INNER, HEADS, LENGTH = 32, 48, 2, 256

folder = Path(sys.argv[1])
folder.mkdir()
# GPT-2's letters for bytes: those that print stand for themselves
letters = [chr(byte) for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
letters += [chr(256 + number) for number in range(256 - len(letters))]
pieces = ["<s>", "</s>", *letters, "en"]
control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL

model = gguf.GGUFWriter(folder / "model.gguf", "llama")
model.add_context_length(LENGTH)
model.add_embedding_length(WIDTH)
model.add_block_count(1)
model.add_feed_forward_length(INNER)
model.add_head_count(HEADS)
model.add_layer_norm_rms_eps(1e-5)
model.add_tokenizer_model("gpt2")
model.add_tokenizer_pre("gpt-2")
model.add_token_list(pieces)
model.add_token_types([control, control, *[normal] * (len(pieces) - 2)])
model.add_token_merges(["e n"])  # it must have one
model.add_bos_token_id(0)
model.add_eos_token_id(1)
model.add_chat_template("{% for message in messages %}{{ message['content'] }}\n{% endfor %}")

draw = np.random.default_rng(0)
block = {f"attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
block |= {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "ffn_down": (WIDTH, INNER)}
block |= {"ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH)}
shapes = {f"blk.0.{name}": shape for name, shape in block.items()} | {"output_norm": (WIDTH,)}
shapes |= {"token_embd": (len(pieces), WIDTH), "output": (len(pieces), WIDTH)}
for name, shape in shapes.items():
    values = np.ones(shape) if name.endswith("norm") else draw.normal(0, 0.3, shape)
    model.add_tensor(f"{name}.weight", values.astype(np.float32))
model.write_header_to_file()
model.write_kv_data_to_file()
model.write_tensors_to_file()
model.close()
