"""E5-NL's encoder, its loss and its training, written out in PyTorch.

Sources: arXiv 2509.12340 (models and training) and E5, arXiv 2212.03533.

In: a model folder as transformers and sentence-transformers write it (`config.json`,
`model.safetensors` or its shards, `tokenizer.json`, pooling and prompts), or the name of one on the
Hugging Face hub. Out: the same kind of folder.

The encoder is BERT: `bert`, `roberta`, `camembert` and `xlm-roberta` differ in a position offset,
token types and LayerNorm's epsilon, which all come from `config.json`. Texts are packed, not
padded: the tokens of many texts follow one another in one long row. Everything that works token by
token (embeddings, linear layers, LayerNorm) sees one (T, D) matrix; attention sees each text alone,
texts of one length together. (On a GPU, where many small calls are slow, texts of nearly one length
share an attention call, padded for that call.)

    python e5nl.py init --tokenizer demo/tokenizer.json.xz --out runs/base
    python e5nl.py train --model runs/base --data demo/train/*.jsonl.gz --out runs/toy \\
        --batch-size 128 --lr 2e-3 --steps 50
    python e5nl.py average runs/base runs/toy --out runs/halfway
    python e5nl.py embed --model runs/toy --input texts.txt --kind passage --out embeddings.npy
    python e5nl.py train --model clips/e5-base-trm --data manifest.json --out runs/e5-base-trm-nl

The last command has the paper's settings: they are the defaults. Beyond the paper: training with
instructions (`--prefix instruct`), embeddings that may be cut (`--dims`, `embed --dim`), and the
average of two models' weights (`average`).

Left out on purpose: decoders, LoRA, distillation, gradient checkpointing (gradient caching does its
work). Departures from the paper's released code: float32 weights (`new_optimizer`), masks for equal
texts (`same_text_mask`).

Letters for dimensions, here and in every module:
    N texts   T tokens of all texts together   L tokens of one text   D width   H heads
    B rows of a batch   P passages of a batch
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import itertools
import json
import lzma
import math
import os
import shutil
import signal
import sys
import time
import timeit
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import card
from data import (
    INSTRUCT,
    INSTRUCTIONS,
    POLICIES,
    PREFIXES,
    Row,
    Source,
    describe,
    draw_batch,
    lacking_negatives,
    plan_epoch,
    prefixes,
    read_sources,
)
from files import (
    InputError,
    ShowDefaults,
    cli,
    digest_of,
    new_file,
    read_json,
    read_lines,
    read_texts,
    real_number,
    refuse_existing,
    refuse_other_suffix,
    remove_leftovers,
    whole_number,
    write_array,
    write_json,
)
from long_runs import (
    LINE_SECONDS,
    add_up,
    agree,
    counted,
    keep_newest,
    load_checkpoint,
    memory_in_use,
    only_writer,
    processes,
    progress_bar,
    rank_and_world,
    save_checkpoint,
    signals_noted,
    wait,
)
from model_folder import (
    Config,
    Tokenizer,
    check_pieces,
    check_positions,
    describe_prefixes,
    find,
    other_policy,
    parse_config,
    read_state,
    read_tokenizer,
    refuse_model,
    retire_model,
    weights_hash,
    write_folder,
)

# --- the encoder ----------------------------------------------------------------------------------

# Neighbouring texts share an attention call when their lengths, rounded up to a multiple of this,
# are equal. 1: texts of one length, and nothing is padded. On a GPU a call for every length would
# cost more than some padding.
LENGTH_STEP = {"cpu": 1, "cuda": 32}


class Block(NamedTuple):
    """Texts that share one attention call, padded to the longest of them for that call alone.

    The tensors are there only where lengths differ.
    """

    texts: int
    length: int  # places of each text
    tokens: int  # of all its texts
    fill: Tensor | None = None  # (texts · length,) the token, counted in the block, for each place
    places: Tensor | None = None  # (tokens,) the place of each token
    mask: Tensor | None = None  # (texts, 1, 1, length) bool: places that hold a token


def cut_blocks(lengths: list[int], device: torch.device) -> list[Block]:
    """The blocks of packed texts: neighbours of about one length (see LENGTH_STEP).

    >>> [block[:3] for block in cut_blocks([3, 3, 2, 7], torch.device("cpu"))]
    [(2, 3, 6), (1, 2, 2), (1, 7, 7)]
    """
    step = LENGTH_STEP[device.type]
    blocks = []
    for _, neighbours in itertools.groupby(lengths, lambda length: -(-length // step)):
        neighbours = list(neighbours)
        block = Block(len(neighbours), max(neighbours), sum(neighbours))
        if min(neighbours) < block.length:
            real = torch.arange(block.length) < torch.tensor(neighbours)[:, None]  # (texts, length)
            block = block._replace(
                # A padded place repeats the token before it, which the mask hides.
                fill=(real.flatten().cumsum(0) - 1).to(device),
                places=real.flatten().nonzero().squeeze(1).to(device),
                mask=real[:, None, None].to(device),
            )
        blocks.append(block)
    return blocks


def new_generator(seed: int) -> np.random.Generator:
    """What dropout draws from: the fastest of numpy's generators."""
    return np.random.Generator(np.random.SFC64(seed))


def dropout(x: Tensor, share: float, generator: np.random.Generator | None = None) -> Tensor:
    """Dropout: each number of x is 0 with probability `share`, the others are divided by 1 - share.

    On a CPU torch spends 7 ns or more on a number, longer than the products around it take. Here a
    64-bit draw makes four decisions, so there `share` is a multiple of 1 / 65,536. The draws are
    the generator's (default: one that torch's seed decides); on a GPU always torch's own.
    """
    if x.device.type != "cpu":
        return F.dropout(x, share)
    dropped = round(share * 2**16)
    if not dropped:
        return x
    if generator is None:
        generator = new_generator(torch.randint(2**62, ()).item())
    size = -(-x.numel() // 4)
    draws = generator.integers(2**64, size=size, dtype=np.uint64).view(np.uint16)[: x.numel()]
    # As whole numbers: torch is slow at making others of booleans.
    kept = torch.from_numpy(draws >= dropped).view(torch.uint8).view(x.shape)
    return x * kept.to(x.dtype).mul_(1 / (1 - dropped / 2**16))


class Layer(nn.Module):
    """One transformer layer, post-LayerNorm.

    x = norm(x + attention(x)); x = norm(x + feed_forward(x))
    """

    def __init__(self, config: Config):
        super().__init__()
        width, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.dropout = config.hidden_dropout_prob
        self.attention_dropout = config.attention_probs_dropout_prob
        self.qkv = nn.Linear(width, 3 * width)  # query, key and value in one product
        self.out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, eps)

    def attention(self, x: Tensor, blocks: list[Block], generator=None) -> Tensor:
        """softmax(q k' / sqrt(D / H)) v within each text; x (T, D)."""
        share = self.attention_dropout * self.training
        outputs = []
        block_qkv = self.qkv(x).split([block.tokens for block in blocks])
        for block, qkv in zip(blocks, block_qkv, strict=True):
            if block.mask is not None:
                qkv = qkv.index_select(0, block.fill)
            # q, k, v: each (texts, H, L, D / H)
            shape = block.texts, block.length, 3, self.heads, -1
            qkv = qkv.view(shape).permute(2, 0, 3, 1, 4)
            if share and x.device.type == "cpu":
                # torch has no fast kernel with dropout for the CPU: step by step.
                q, k, v = qkv.contiguous()  # one copy; the products would make one each
                scores = q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)  # (texts, H, L, L)
                if block.mask is not None:
                    scores = scores.masked_fill(~block.mask, -torch.inf)
                mixed = dropout(scores.softmax(-1), share, generator) @ v
            else:
                mixed = F.scaled_dot_product_attention(*qkv, block.mask, share)
            mixed = mixed.transpose(1, 2).flatten(0, 1).flatten(1)  # (texts · L, D)
            if block.mask is not None:
                mixed = mixed.index_select(0, block.places)
            outputs.append(mixed)
        return self.out(torch.cat(outputs))

    def forward(self, x: Tensor, blocks: list[Block], generator=None) -> Tensor:
        share = self.dropout * self.training
        attended = self.attention(x, blocks, generator)
        x = self.attention_norm(x + dropout(attended, share, generator))
        return self.norm(x + dropout(self.down(F.gelu(self.up(x))), share, generator))


def empty_table(rows: int, width: int) -> nn.Embedding:
    """An embedding table that is still to be filled.

    nn.Embedding's own start would import sympy in `load`: a second each time.
    """
    return nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)


class Encoder(nn.Module):
    """BERT / RoBERTa / XLM-R over packed texts.

    `new_encoder` fills it with random weights, `load` with a checkpoint's.
    """

    def __init__(self, config: Config):
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.words = empty_table(config.vocab_size, width)
        # Row 0 is the first token's, whatever the checkpoint's offset.
        self.positions = empty_table(config.positions, width)
        self.types = empty_table(config.type_vocab_size, width)  # only type 0 is used
        self.norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        # The rows before the offset are not used, but belong to the checkpoint: kept for saving.
        unused = torch.zeros(config.position_offset, width)
        self.register_buffer("unused_positions", unused, persistent=False)

    def hidden(self, ids: Tensor, lengths: list[int], generator=None) -> Tensor:
        """Last hidden states (T, D) of N texts packed into ids (T,) int64; lengths: tokens of each.

        Only neighbours of about one length share an attention call: sort first. generator: what
        dropout draws from (see `dropout`).
        """
        starts = np.cumsum(lengths) - lengths
        positions = torch.from_numpy(np.arange(len(ids)) - np.repeat(starts, lengths))
        # The table's gradient is sparse: a chunk of texts has few of its rows, and zeros for all
        # others would be written chunk by chunk.
        words = F.embedding(ids, self.words.weight, sparse=self.training)
        x = words + self.positions(positions.to(ids.device)) + self.types.weight[0]
        share = self.config.hidden_dropout_prob * self.training
        x = dropout(self.norm(x), share, generator)
        blocks = cut_blocks(lengths, ids.device)
        for layer in self.layers:
            x = layer(x, blocks, generator)
        return x

    def forward(self, ids: Tensor, lengths: list[int], generator=None) -> Tensor:
        """Embeddings (N, D), L2-normalised, of N texts packed as for `hidden`.

        float32, or float64 when the weights are. A text's embedding does not depend on the others.
        """
        x = self.hidden(ids, lengths, generator)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        lengths = torch.tensor(lengths, device=x.device)
        if self.config.pooling == "mean":
            # unsafe: the lengths are ours, and need no check.
            pooled = torch.segment_reduce(x, "mean", lengths=lengths, axis=0, unsafe=True)
        else:
            pooled = x.index_select(0, lengths.cumsum(0) - lengths)
        return F.normalize(pooled, dim=-1)


def new_encoder(config: Config, seed: int) -> Encoder:
    """Random weights as BERT starts with: standard deviation 0.02, biases 0, LayerNorm 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    model = Encoder(config)
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            nn.init.constant_(parameter, float("norm" in name and name.endswith("weight")))
        else:
            nn.init.normal_(parameter, std=0.02, generator=generator)
    return model


def fastest_dtype() -> str:
    """bfloat16 on GPUs, and on processors that multiply it at least twice as fast as float32.

    For less, its rounding is not worth it, and noise could decide.
    """
    if torch.cuda.is_available():
        return "bfloat16"
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(512, 512, dtype=dtype)
        seconds[dtype] = min(timeit.repeat(lambda: matrix @ matrix, number=1, repeat=5))
    return "bfloat16" if 2 * seconds[torch.bfloat16] <= seconds[torch.float32] else "float32"


# --- model folders --------------------------------------------------------------------------------


def load(
    name,
    device=None,
    dtype: torch.dtype = torch.float32,
    tokenizer: Tokenizer | None = None,
    truncate_dim: int | None = None,
) -> tuple[Encoder, Tokenizer]:
    """A model folder or hub repository as (encoder in eval mode, tokenizer), on the GPU if any.

    tokenizer: the folder's own, where it is read already (one of 250,002 pieces takes half a second
    and 250 MB). truncate_dim: the width of embeddings (default: as the folder says). Stops, by the
    tensor's name, when a tensor is missing, unknown or of another shape than the configuration
    says.
    """
    folder = find(name)
    config = parse_config(folder).shortened(truncate_dim, str(folder))
    tokenizer = tokenizer or read_tokenizer(folder)
    check_pieces(folder, config, tokenizer)

    # An encoder that allocates no memory, filled with the checkpoint's tensors.
    with torch.device("meta"):
        model = Encoder(config)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    state = read_state(folder, config, shapes, dtype)
    positions = state["positions.weight"]
    check_positions(folder, config, tokenizer, positions)
    unused, state["positions.weight"] = positions.tensor_split([config.position_offset])
    model.load_state_dict(state, assign=True)
    model.unused_positions = unused.clone()
    model.requires_grad_()
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), tokenizer


def save(model: Encoder, tokenizer: Tokenizer, folder, overwrite: bool = False) -> None:
    """Write a model folder that transformers, sentence-transformers and `load` read, in float32."""
    state = model.state_dict()
    state["positions.weight"] = torch.cat([model.unused_positions, state["positions.weight"]])
    write_folder(folder, model.config, tokenizer, state, overwrite)


def average(first, second, share: float, out, overwrite: bool = False) -> None:
    """Write the folder `out` with the weights (1 - share) · first + share · second.

    A model between the one that training started from and the trained one keeps more of what the
    first knew, and most of what training taught (WiSE-FT, arXiv 2109.01903). The folders may differ
    in weights, and in what `adapt` states, of which the second's is kept.
    """
    refuse_model(Path(out), overwrite)
    card.check(find(second), out)
    (model, tokenizer), (other, other_tokenizer) = load(first, "cpu"), load(second, "cpu")
    stated = {name: getattr(other.config, name) for name in ("prompts", "truncate_dim")}
    model.config = dataclasses.replace(model.config, **stated)
    if model.config != other.config or tokenizer.json != other_tokenizer.json:
        what = "tokenizers" if model.config == other.config else "configurations"
        raise InputError(f"{first} and {second} have different {what}; average a model and the one "
                         "that its training started from")  # fmt: skip
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        ours.data.lerp_(theirs.data, share)
    before = card.code(Path(first).name)
    step = f"Averaged: {share:g} of these weights, {1 - share:g} of those of {before}."
    Path(out).mkdir(parents=True, exist_ok=True)
    card.write(out, second, step=step, config=model.config)
    save(model, tokenizer, out, overwrite)


# --- texts to embeddings --------------------------------------------------------------------------


def cut_chunks(lengths: list[int], chunk_tokens: int) -> list[list[int]]:
    """Text numbers, longest first, in chunks of at most `chunk_tokens` tokens.

    A longer text makes a chunk of its own. Chunks are about equal: those computed side by side
    should take the same time.

    >>> cut_chunks([3, 9, 4, 3], chunk_tokens=7)
    [[1], [2, 0], [3]]
    >>> [len(chunk) for chunk in cut_chunks([1] * 12, chunk_tokens=9)]
    [7, 5]
    """
    if lengths:
        # As many chunks as there must be; one text more than its share still fits each.
        total = sum(lengths)
        chunk_tokens = min(chunk_tokens, total // -(-total // chunk_tokens) + max(lengths))
    chunks, room = [], 0
    for text in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        # The next chunk begins where the text no longer fits.
        if not chunks or lengths[text] > room:
            chunks.append([])
            room = chunk_tokens
        chunks[-1].append(text)
        room -= lengths[text]
    return chunks


def encode(model: Encoder, ids: list[list[int]], chunk: list[int], generator=None) -> Tensor:
    """Embeddings of the texts of one chunk, in the chunk's order."""
    packed = [i for text in chunk for i in ids[text]]
    packed = torch.tensor(packed, device=model.words.weight.device)
    return model(packed, [len(ids[text]) for text in chunk], generator)


def shorten(embeddings: Tensor, width: int) -> Tensor:
    """The first `width` numbers of each embedding, L2-normalised again."""
    if width == embeddings.shape[1]:
        return embeddings
    return F.normalize(embeddings[:, :width], dim=-1)


# Texts tokenised, and saved, at once: bounds memory, and is enough to sort by length. Long texts
# count by their characters: a million tokens or so, minutes of work on a CPU.
WINDOW = 8192
WINDOW_CHARACTERS = 4_000_000
CHUNK_TOKENS = {"cpu": 1024, "cuda": 65536}  # a CPU's caches like it small, a GPU needs work
MOST_WORKERS = 8  # chunks at once: each has memory of its own


def workers(device: torch.device) -> int:
    """How many chunks are computed side by side."""
    return min(torch.get_num_threads(), MOST_WORKERS) if device.type == "cpu" else 1


def side_by_side(function: Callable, items: Iterable, count: int) -> Iterator:
    """function(item) of each item, in order, `count` at a time, each on its share of the threads.

    Threads that share one product wait for each other at its end, which takes longer than the
    product where another process has one of the cores. Chunks wait for nobody. What a chunk gives
    does not depend on how many are computed at once.
    """
    if count == 1:
        yield from map(function, items)
        return
    pool, pending = _pool(count, torch.get_num_threads() // count), collections.deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > count:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


@functools.cache
def _pool(count: int, threads: int) -> ThreadPoolExecutor:
    """Workers that stay: the memory that new threads freed would be lost to those after them."""
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(threads,))


def embed(
    model: Encoder,
    tokenizer: Tokenizer,
    texts: Collection[str],
    kind: str,
    *,
    together: bool = False,
    **options,
) -> np.ndarray:
    """Embeddings (N, D) float32, L2-normalised, in the order of `texts`; D as the folder says.

    texts: a list, or anything that has a length and can be iterated over. Empty texts are embedded
    like others.
    kind: 'query', 'passage' or 'none' chooses the prefix that the model folder stores.
    together: all processes call this with the same texts; each embeds a share, and all get all.
    options: max_length, chunk_tokens and progress, see `embed_windows`.
    """
    # This process's windows.
    share = rank_and_world() if together else (0, 1)
    embeddings = np.zeros((len(texts), model.config.width), np.float32)
    for start, window in embed_windows(model, tokenizer, texts, kind, share, **options):
        embeddings[start : start + len(window)] = window
    if share[1] > 1:
        # Each row is zero in all processes but one, so the sum over them is the complete array.
        counts = np.array([tokenizer.texts, tokenizer.cut])
        for part in (*torch.from_numpy(embeddings).split(WINDOW), torch.from_numpy(counts)):
            # A copy is sent: gloo's threads may outlive numpy's memory.
            part.copy_(add_up(part.to(model.words.weight.device, copy=True)))
        tokenizer.texts, tokenizer.cut = counts.tolist()
    return embeddings


def cut_windows(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Texts in groups of `size`, or fewer when they are long (see WINDOW_CHARACTERS)."""
    window, characters = [], 0
    for text in texts:
        window.append(text)
        characters += len(text)
        if len(window) == size or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def ahead(items: Iterator) -> Iterator:
    """The items; the next is made in a thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        item = pool.submit(next, items, None)
        while (made := item.result()) is not None:
            item = pool.submit(next, items, None)
            yield made


def embed_windows(
    model: Encoder,
    tokenizer: Tokenizer,
    texts: Collection[str],
    kind: str,
    share: tuple[int, int] = (0, 1),
    *,
    max_length: int | None = None,
    chunk_tokens: int | None = None,
    progress: bool = False,
) -> Iterator[tuple[int, np.ndarray]]:
    """`embed` window by window: (number of the window's first text, its embeddings).

    share: (rank, world): only each world-th window, from window `rank` on.
    max_length: in tokens (default: the model's limit); longer texts are cut, and counted in
    `tokenizer.cut`. chunk_tokens: how many go through the encoder at once (see CHUNK_TOKENS).
    """
    (rank, world), prompts, device = share, dict(model.config.prompts), model.words.weight.device
    if kind not in prompts:
        raise InputError(f"kind {kind!r} is unknown; expected one of {', '.join(prompts)}")
    max_length = min(max_length or model.config.max_length, model.config.max_length)
    chunk_tokens = chunk_tokens or CHUNK_TOKENS[device.type]
    size = max(1, min(WINDOW, -(-len(texts) // world)))

    def tokenised() -> Iterator[tuple[int, list[list[int]]]]:
        """(number of its first text, ids) of each window that is this process's."""
        start = 0
        for number, window in enumerate(cut_windows(texts, size)):
            if number % world == rank:
                yield start, tokenizer(window, prompts[kind], max_length)
            start += len(window)

    @torch.inference_mode()
    def embed_chunk(ids: list[list[int]], chunk: list[int]) -> np.ndarray:
        return shorten(encode(model, ids, chunk), model.config.width).cpu().numpy()

    if model.training:  # `eval` goes through all modules, which a query would notice
        model.eval()
    # The next window is read and tokenised while one is encoded. A single text, as in search, is
    # spared the threads: the caller's computes it, with all that torch has.
    alone = len(texts) == 1
    windows = tokenised() if alone else ahead(tokenised())
    bar = progress_bar(len(texts), "text", disable=not progress or rank > 0)
    with contextlib.closing(windows), bar:
        for start, ids in windows:
            chunks = cut_chunks([len(text) for text in ids], chunk_tokens)
            embeddings = np.empty((len(ids), model.config.width), np.float32)
            at_once = 1 if alone else workers(device)
            encoded = side_by_side(partial(embed_chunk, ids), chunks, at_once)
            for chunk, part in zip(chunks, encoded, strict=True):
                embeddings[chunk] = part
                bar.update(len(chunk) * world)
            yield start, embeddings


# --- loss -----------------------------------------------------------------------------------------


def info_nce(
    q: Tensor,
    p: Tensor,
    sizes: list[int],
    tau: float,
    in_batch: Tensor | None = None,
    masked: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """InfoNCE from queries to passages (the paper's loss; E5, equation 1): mean over rows i of

        -log( exp(q_i · p_i+ / tau) / sum_j exp(q_i · p_j / tau) )

    q (B, D) and p (P, D): normalised. sizes: passages of each row, B of them, sum P; a row's
    positive is its first passage, the others are its hard negatives. The sum runs over the passages
    of all rows; where in_batch (B,) bool is false, over the row's own.
    masked (B, P) bool: passages that are no negatives of the row; its positive stays all the same.

    Returns (loss, share of rows whose positive scores highest). Scores and softmax are float32
    (or q's float64) also under autocast.
    """
    with torch.autocast(q.device.type, enabled=False):
        exact = torch.promote_types(q.dtype, torch.float32)
        scores = q.to(exact) @ p.to(exact).T / tau  # (B, P)

        # The column of each row's positive.
        sizes = torch.tensor(sizes, device=q.device)
        positive = sizes.cumsum(0) - sizes  # (B,)

        # What is left out of the sum.
        out = torch.zeros_like(scores, dtype=torch.bool) if masked is None else masked.clone()
        row = torch.arange(len(q), device=q.device)
        if in_batch is not None:
            others = row.repeat_interleave(sizes) != row[:, None]  # (B, P)
            out |= others & ~in_batch[:, None]
        out[row, positive] = False

        scores = scores.masked_fill(out, -torch.inf)
        accuracy = (scores.argmax(1) == positive).float().mean()
        return F.cross_entropy(scores, positive), accuracy


def same_text_mask(rows: list[Row], passages: list[str]) -> Tensor:
    """(B, P) bool: passage j's text is row i's query or one of its positives: no negative of row i.

    Texts, not embeddings, are compared: dropout makes equal texts unequal. The paper's code has no
    such mask.
    """
    # Equal texts have equal numbers.
    numbers = {}
    columns = np.array([numbers.setdefault(text, len(numbers)) for text in passages])
    mask = np.zeros((len(rows), len(passages)), bool)
    for i, row in enumerate(rows):
        for text in {row.query, *row.pos} & numbers.keys():
            mask[i] |= columns == numbers[text]
    return torch.from_numpy(mask)


# --- settings of training -------------------------------------------------------------------------

# Where the paper's command line and what its released code does with it differ, both can be had.
RECIPES = {
    "stated": {"schedule": "constant", "in_batch": "as-given", "decay_all": False, "masks": True},
    "released": {"schedule": "decay", "in_batch": "always", "decay_all": True, "masks": False},
}


def setting(default, about: str, **options):
    """A field of Settings: its default, its help, and other options of argparse's add_argument."""
    return dataclasses.field(default=default, metadata={"help": about, **options})


def switch(about: str):
    return setting(None, about, action=argparse.BooleanOptionalAction)


def widths(text: str) -> list[int]:
    """An argparse type: `384,192,96`."""
    values = [whole_number(1)(part) for part in text.split(",")]
    if len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"{text}: a width occurs twice, and would count twice")
    return values


@dataclasses.dataclass
class Settings:
    """What decides a training run, besides model and data.

    The defaults are the paper's command line. None: as the recipe says.
    """

    recipe: str = setting(
        "stated",
        "what the paper states, or what its released code does: "
        "sets --schedule, --in-batch, --decay-all and --masks",
        choices=list(RECIPES),
    )
    batch_size: int = setting(
        1024, "rows of all processes; symmetric sources get half", type=whole_number(2)
    )
    batching: str = setting(
        "source", "a batch is of one source, or of all", choices=["source", "mixed"]
    )
    tau: float = setting(0.02, "temperature", type=real_number(1e-4))
    negatives: int = setting(1, "hard negatives per row", type=whole_number(0, 1000))
    prefix: str = setting("e5", "the folder's prompts, or instructions", choices=POLICIES)
    dims: list[int] | None = setting(None, "average the loss over widths: 384,192,96", type=widths)
    in_batch: str | None = setting(
        None,
        "other rows' passages as negatives: as manifests say (stated), or in every source "
        "(released)",
        choices=["as-given", "always"],
    )
    masks: bool | None = switch("equal texts are no negatives (stated: yes)")
    query_length: int = setting(450, "tokens", type=whole_number(3))
    passage_length: int = setting(500, "tokens", type=whole_number(3))
    lr: float = setting(1e-5, "peak learning rate", type=real_number(0, 1))
    schedule: str | None = setting(
        None, "see learning_rate() (stated: constant)", choices=["constant", "decay"]
    )
    warmup: float = setting(0.25, "share of the steps", type=real_number(0, 1))
    weight_decay: float = setting(0.1, "of AdamW", type=real_number(0))
    decay_all: bool | None = switch("also of biases and LayerNorm (stated: no)")
    clip: float = setting(1.0, "largest gradient norm", type=real_number(1e-6))
    epochs: int = setting(1, "times over the data", type=whole_number(1))
    steps: int | None = setting(None, "instead of --epochs", type=whole_number(1))
    seed: int = setting(42, "of batches, negatives and dropout", type=whole_number(0))
    dtype: str = setting(
        "float32", "of the products; weights stay float32", choices=["float32", "bfloat16"]
    )
    chunk_tokens: int = setting(
        1024,
        "tokens of a chunk, see backward(): sets the least memory; otherwise only dropout's draws "
        "depend on it",
        type=whole_number(1),
    )
    memory: float | None = setting(
        None,
        "GB that a process may take, about, see kept_tokens(): more makes it faster; nothing else "
        "depends on it (default: 4, on a GPU 80 %% of what is free)",
        type=real_number(0.1),
    )

    def __post_init__(self):
        for name, value in RECIPES[self.recipe].items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        self.dtype = str(self.dtype).removeprefix("torch.")  # torch.float32 is accepted too


# --- training -------------------------------------------------------------------------------------


def learning_rate(
    step: int, steps: int, peak: float, warmup: int, schedule: str = "constant"
) -> float:
    """The rate of `step` (from 0) of `steps`, the first `warmup` of which are the warm-up.

    constant: linear warm-up, then `peak`. What the paper's command line asks for.
    decay: DeepSpeed's WarmupDecayLR: peak · ln(step + 1) / ln(warmup), then linear to 0. What the
    paper's command line really ran, since its DeepSpeed configuration has a scheduler of its own,
    which wins.
    """
    if schedule == "constant":
        return peak * min(1.0, (step + 1) / max(1, warmup))
    warmup = max(2, warmup)
    if step < warmup:
        return peak * (math.log(step + 1) / math.log(warmup))
    return peak * max(0.0, (steps - step) / max(1, steps - warmup))


def new_optimizer(
    model: Encoder, weight_decay: float, decay_all: bool = False
) -> torch.optim.AdamW:
    """AdamW with decay on matrices only, or on biases and LayerNorm too."""
    parameters = list(model.parameters())
    assert all(p.dtype != torch.bfloat16 for p in parameters), "bfloat16 would round updates away"
    # Biases and LayerNorm have one dimension.
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": weight_decay * decay_all},
    ]
    return torch.optim.AdamW(groups, fused=True)


def mixed_precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Products in `dtype`, the rest in float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def converted(model: Encoder, dtype: torch.dtype) -> Encoder:
    """The same encoder with the weights of its products in `dtype`, to be used under autocast.

    Autocast would convert them again for every chunk. What is not converted is shared.
    """
    if dtype == torch.float32:
        return model
    with torch.device("meta"):
        other = Encoder(model.config)
    other.load_state_dict(model.state_dict(), assign=True)
    for module in other.layers.modules():
        # LayerNorm computes in float32.
        if isinstance(module, nn.Linear):
            module.to(dtype)
    return other.train(model.training)


def graph_bytes(model: Encoder, length: int, dtype: torch.dtype) -> float:
    """Bytes per token of what a text of `length` tokens keeps for its gradient."""
    sizes = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    encoder = converted(model, dtype)
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with hooks, mixed_precision(model.words.weight.device, dtype):
        # As long as the graph lives, no two tensors have the same place.
        graph = encode(encoder, [[0] * length], [0])
    weights = {parameter.data_ptr() for parameter in encoder.parameters()}
    del graph
    return sum(size for place, size in sizes.items() if place not in weights) / length


def kept_tokens(model: Encoder, settings: Settings, moments: bool = False) -> int:
    """How many tokens of a batch may keep their graphs in the memory that is allowed.

    What is in use now, the gradient, AdamW's two moments, and what chunks in flight give back take
    their part; a third is left for what allocators lose (measured on a CPU). Texts of the greatest
    length take most per token, since attention's part grows with length. moments: they are in use
    already. Stops when not even the chunks that are computed at once have room.
    """
    device, dtype = model.words.weight.device, getattr(torch, settings.dtype)
    # What is allowed.
    allowed = 1e9 * (settings.memory or 4)
    if device.type == "cuda" and not settings.memory:
        allowed = 0.8 * torch.cuda.mem_get_info(device)[0]  # of what is free

    # What everything else takes, and the graph of a token.
    at_once = workers(device)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    layers = sum(parameter.nbytes for parameter in model.layers.parameters())
    others = memory_in_use(device) + (1 if moments else 3) * weights + (at_once + 2) * layers
    length = min(max(settings.query_length, settings.passage_length), model.config.max_length)
    a_token = graph_bytes(model, length, dtype)
    least = others + at_once * settings.chunk_tokens * a_token
    if settings.memory and least > allowed:
        raise InputError(
            f"--memory {settings.memory:g} (GB) is too little for {at_once} chunks of "
            f"{settings.chunk_tokens} tokens at once: they need {least / 1e9:.1f}; allow that, or "
            "lower --chunk-tokens"
        )
    return max(0, int((allowed * 2 / 3 - others) / a_token))


def backward(
    model: Encoder,
    ids: list[list[int]],
    loss_of: Callable[[Tensor], tuple[Tensor, Tensor]],
    seed: int,
    chunk_tokens: int,
    dtype: torch.dtype,
    kept: int = 0,
    places: list[int] | None = None,
    total: int | None = None,
) -> tuple[float, float]:
    """Give the parameters the gradient of `loss_of(embeddings of all texts)`, and no other.

    Returns what `loss_of` returns, (loss, accuracy), as numbers.
    ids: this process's texts. places: their numbers among all `total` texts of all processes
    (default: there are no others).

    Gradient caching (arXiv 2101.06983): the loss needs all embeddings at once, the encoder does
    not. Chunks are embedded without a graph, and again with one when their gradient is known. The
    first `kept` tokens keep their graphs, which saves embedding them again. So memory is that of
    the graphs which are kept, or of the chunks that are computed side by side.

    Several processes: each has the embeddings of all and so the complete batch's loss, and sends
    back the gradient of its own texts; the sum over the processes is the gradient of the batch,
    with nothing to scale.
    """
    words, parameters = model.words.weight, list(model.parameters())
    encoder = converted(model, dtype)
    weights = list(encoder.parameters())
    rank, world = rank_and_world()
    chunks = cut_chunks([len(text) for text in ids], chunk_tokens)
    places = range(len(ids)) if places is None else places
    order = [places[text] for chunk in chunks for text in chunk]
    order = torch.tensor(order, dtype=torch.int64, device=words.device)
    ends = np.cumsum([sum(len(ids[text]) for text in chunk) for chunk in chunks])
    kept_chunks = int((ends <= kept).sum())

    def embed_chunk(number: int, graph: bool) -> Tensor:
        # A seed for each chunk, so that dropout is the same both times. A GPU's draws come from
        # torch's own generator.
        own_seed = seed + number * world + rank
        generator = new_generator(own_seed)
        if words.device.type != "cpu":
            torch.manual_seed(own_seed)
        with torch.set_grad_enabled(graph), mixed_precision(words.device, dtype):
            return encode(encoder, ids, chunks[number], generator)

    def gradients_of(number: int) -> tuple[Tensor, ...]:
        graph, embedded[number] = embedded[number], None  # freed with its gradient
        if number >= kept_chunks:
            graph = embed_chunk(number, graph=True)
        return torch.autograd.grad(graph, weights, gradient_parts[number], allow_unused=True)

    # 1. Embed chunk by chunk, the first with a graph and the others without.
    numbers, at_once = range(len(chunks)), workers(words.device)
    bar = progress_bar(2 * len(chunks), "chunk", LINE_SECONDS, disable=rank > 0)
    embedded = side_by_side(lambda n: embed_chunk(n, graph=n < kept_chunks), numbers, at_once)
    embedded = list(counted(embedded, bar))

    # 2. Loss of the complete batch, and its gradient on the embeddings.
    exact = torch.promote_types(words.dtype, torch.float32)
    size = (total or len(ids), model.config.hidden_size)
    embeddings = torch.zeros(size, dtype=exact, device=words.device)
    if chunks:
        embeddings[order] = torch.cat(embedded).detach()
    embeddings = add_up(embeddings).requires_grad_()
    loss, accuracy = loss_of(embeddings)
    loss.backward()

    # 3. Embed every chunk again, with a graph, and send its rows of the gradient back through it.
    gradient_parts = embeddings.grad[order].split([len(chunk) for chunk in chunks])
    model.zero_grad()
    for gradients in counted(side_by_side(gradients_of, numbers, at_once), bar):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is None:
                parameter.grad = gradient.to(parameter.dtype)
            else:
                parameter.grad += gradient
        words.grad = words.grad.coalesce()
    if words.grad is not None:
        words.grad = words.grad.to_dense()
    bar.close()

    # 4. The sum over all processes.
    if world > 1:
        for parameter in model.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            add_up(parameter.grad)
    return loss.item(), accuracy.item()


def batches_of_epoch(sources: list[Source], settings: Settings, epoch: int) -> list:
    """The batches of one epoch, see `data.plan_epoch`.

    Stops when there is none, or when some rows would be compared with nothing.
    """
    size, batching = settings.batch_size, settings.batching
    plan = plan_epoch(sources, size, batching, settings.seed, epoch)
    if not plan:
        raise InputError(
            f"no source fills one batch of {size} rows (symmetric ones: of half as many); "
            "lower --batch-size"
        )
    lacking = lacking_negatives(sources, size, batching, settings.negatives, settings.in_batch)
    if lacking:
        raise InputError(lacking)
    return plan


class Batch(NamedTuple):
    """The rows of a step, with the passages that were drawn for each: its positive comes first."""

    sources: list[Source]  # of each row
    rows: list[Row]
    groups: list[list[str]]

    @property
    def passages(self) -> list[str]:
        return [text for group in self.groups for text in group]


def adapt(model: Encoder, settings: Settings) -> None:
    """State in the model's configuration what its training decides: prompts and width.

    A query's prompt is that of retrieval; other tasks have other instructions.
    """
    # The widest comes last: wider embeddings are not trained.
    config = model.config
    for width in sorted(settings.dims or ()):
        config = model.config.shortened(width, "--dims")
    model.config = config
    if settings.prefix == "instruct":
        query = INSTRUCT.format(INSTRUCTIONS["retrieval"])
        prompts = ("query", query), ("passage", ""), ("none", "")
        model.config = dataclasses.replace(model.config, prompts=prompts)


def batch_loss(batch: Batch, settings: Settings, width: int, device) -> tuple[Callable, float]:
    """(loss_of, masked): InfoNCE as a function of the embeddings of all queries, then all passages,
    and the share of the negatives that equal texts take out of it.

    width: of the embeddings, where the settings name no widths.
    """
    # Equal texts are no negatives.
    passages = batch.passages
    masked, share = None, 0.0
    if settings.masks:
        masked = same_text_mask(batch.rows, passages)
        negatives = len(batch.rows) * (len(passages) - 1)
        share = (masked.sum().item() - len(batch.rows)) / max(1, negatives)  # without positives
        masked = masked.to(device)

    # Where a source says so, other rows' passages are none either.
    always = settings.in_batch == "always"
    in_batch = [always or source.in_batch_negatives for source in batch.sources]
    in_batch = torch.tensor(in_batch, device=device)

    def loss_at(embeddings: Tensor) -> tuple[Tensor, Tensor]:
        q, p = embeddings.split([len(batch.rows), len(passages)])
        sizes = [len(group) for group in batch.groups]
        return info_nce(q, p, sizes, settings.tau, in_batch, masked)

    def loss_of(embeddings: Tensor) -> tuple[Tensor, Tensor]:
        # The mean over widths (Matryoshka, arXiv 2205.13147).
        at_widths = [loss_at(shorten(embeddings, w)) for w in settings.dims or [width]]
        return tuple(torch.stack(values).mean() for values in zip(*at_widths, strict=True))

    return loss_of, share


def tokenise_share(
    model: Encoder, tokenizer: Tokenizer, batch: Batch, settings: Settings
) -> tuple[list[list[int]], list[int]]:
    """(token ids, places) of this process's texts of a batch: those of each world-th row.

    A place is a text's number when all queries of the batch come first, then all passages.
    """
    rank, world = rank_and_world()
    own = range(rank, len(batch.rows), world)
    first = np.cumsum([len(batch.rows), *map(len, batch.groups)])  # place of each first passage

    # With the prefixes of the source's type, or the row's instruction.
    prompts, limit = dict(model.config.prompts), model.config.max_length
    queries, passages, places = [], [], list(own)
    for row in own:
        before = prefixes(batch.sources[row], batch.rows[row], settings.prefix, prompts)
        queries.append(before[0] + batch.rows[row].query)
        passages += [before[1] + text for text in batch.groups[row]]
        places += range(first[row], first[row + 1])

    ids = tokenizer(queries, "", min(settings.query_length, limit))
    ids += tokenizer(passages, "", min(settings.passage_length, limit))
    return ids, places


def train(
    model: Encoder,
    tokenizer: Tokenizer,
    sources: list[Source],
    *,
    optimizer: torch.optim.AdamW | None = None,
    done: int = 0,
    kept: int | None = None,
    **settings,
) -> Iterator[dict]:
    """Train `model` in place; yield a report on every step (loss, accuracy, rate, speed and so on).

    settings: fields of `Settings`. optimizer, done: resume after `done` steps, with the optimizer
    that took them. kept: tokens of a step that keep their graphs (default: see `kept_tokens`).

    The batch of a step, its positives and negatives are functions of (seed, step) alone; its
    dropout also of `chunk_tokens` and the number of processes. Several processes plan the same
    batch of `batch_size` rows and take a share of it each.
    """
    settings = Settings(**settings)
    plan = batches_of_epoch(sources, settings, epoch=0)
    steps = settings.steps or settings.epochs * len(plan)
    optimizer = optimizer or new_optimizer(model, settings.weight_decay, settings.decay_all)
    device = model.words.weight.device
    adapt(model, settings)
    model.train()
    if kept is None:
        kept = kept_tokens(model, settings, moments=bool(optimizer.state))
    for step in range(done, steps):
        started = time.perf_counter()

        # Which rows: the same plan in every process.
        epoch, position = divmod(step, len(plan))
        if position == 0 or step == done:
            plan = batches_of_epoch(sources, settings, epoch)
        source_numbers, row_numbers = plan[position]

        # Texts: of each row its query, one of its positives and some of its negatives.
        generator = np.random.default_rng((settings.seed, step))
        batch = Batch(
            *draw_batch(sources, source_numbers, row_numbers, settings.negatives, generator)
        )
        source = batch.sources[0].name if settings.batching == "source" else "mixed"

        # What is no negative: equal texts, and other rows' passages where a source says so.
        loss_of, masked = batch_loss(batch, settings, model.config.width, device)

        # This process's share of the texts, as tokens.
        ids, places = tokenise_share(model, tokenizer, batch, settings)
        tokens = add_up(torch.tensor(sum(map(len, ids)), device=device)).item()

        # Rate, gradient, step.
        warmup = int(settings.warmup * steps)
        rate = learning_rate(step, steps, settings.lr, warmup, settings.schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, accuracy = backward(
            model,
            ids,
            loss_of,
            seed=int(generator.integers(2**62)),
            chunk_tokens=settings.chunk_tokens,
            dtype=getattr(torch, settings.dtype),
            kept=kept,
            places=places,
            total=len(batch.rows) + len(batch.passages),
        )
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise InputError(
                f"step {step + 1}, source {source}, rows {row_numbers[:8].tolist()}…: loss {loss}, "
                f"gradient norm {norm}; the weights are as before; lower --lr or look at these rows"
            )
        optimizer.step()

        # What is reported.
        yield {
            "step": step + 1,
            "steps": steps,
            "source": source,
            "rows": len(batch.rows),
            "tokens": tokens,
            "loss": loss,
            "accuracy": accuracy,
            "lr": rate,
            "gradient_norm": norm,
            "masked": masked,
            "seconds": time.perf_counter() - started,
        }
    model.eval()


# --- command line ---------------------------------------------------------------------------------


def summary(model: Encoder, tokenizer: Tokenizer) -> str:
    """One line about a model, for the start of a run."""
    config = model.config
    pieces, spare = tokenizer.vocab_size, config.vocab_size - tokenizer.vocab_size
    parameters = sum(p.numel() for p in model.parameters()) + model.unused_positions.numel()
    return ", ".join([
        config.model_type,
        f"{config.num_hidden_layers} layers",
        f"width {config.hidden_size}",
        f"{pieces:,} pieces" + (f" (+ {spare} spare rows)" if spare else ""),
        f"{parameters:,} parameters",
        f"{config.pooling} pooling",
        describe_prefixes(config),
        str(model.words.weight.device),
    ])  # fmt: skip


def _init(args) -> None:
    path = Path(args.tokenizer)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        stored = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    except lzma.LZMAError as error:
        raise InputError(f"{path}: damaged xz data ({error}); copy or download it again") from None
    tokenizer = Tokenizer(stored, {}, path)
    pad = tokenizer.backend.token_to_id("<pad>")
    if pad is None:
        raise InputError(f"{path}: no piece <pad>; expected an XLM-R tokenizer")
    if args.width % args.heads:
        raise InputError(f"--width {args.width} is not a multiple of --heads {args.heads}")
    config = Config(
        model_type="xlm-roberta",
        vocab_size=tokenizer.vocab_size,
        hidden_size=args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        intermediate_size=args.intermediate or 4 * args.width,
        max_position_embeddings=512 + pad + 1,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=pad,
        hidden_dropout_prob=args.dropout,
        attention_probs_dropout_prob=args.dropout,
    )
    model = new_encoder(config, args.seed)
    save(model, tokenizer, args.out, args.overwrite)
    print(f"{args.out}: {summary(model, tokenizer)}, random weights")


def _train(args) -> None:
    settings = Settings(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Settings)})
    out = Path(args.out)
    remove_leftovers(out)
    # A short run writes no checkpoints.
    signs = ["checkpoints", "settings.json"] if args.resume else ["checkpoints"]
    begun = not args.overwrite and any((out / name).exists() for name in signs)
    if not (begun and args.resume):
        refuse_model(out, args.overwrite)
    if begun and not args.resume:
        raise InputError(
            f"{out}: holds a run that has not ended; add --resume to continue it, "
            "or --overwrite to start again"
        )
    sources = read_sources(args.data, settings.seed, settings.prefix)

    with processes() as (rank, world):
        # What is trained, on which data, with which settings.
        folder = find(args.model)
        if Path(folder).resolve() == out.resolve():
            raise InputError(f"--out {out} is the model that is trained; choose another folder")
        card.check(folder, out)
        model, tokenizer = load(folder)
        print(summary(model, tokenizer))
        if settings.prefix == "e5" and (note := other_policy(model.config, "e5")):
            print(note)
        adapt(model, settings)
        print(describe(sources, settings.batch_size, settings.batching))
        # Here a mistake leaves no folder.
        plan = batches_of_epoch(sources, settings, epoch=0)
        model.train()
        kept = kept_tokens(model, settings)
        decisive = dataclasses.asdict(settings) | {"processes": world}
        print(f"settings: {', '.join(f'{key} {value}' for key, value in decisive.items())}")
        print(f"of each step, {kept:,} tokens keep their graphs\n")
        _warn_of_few_steps(settings, len(plan))

        # A run resumes only with what it was started with, but for memory.
        del decisive["memory"]
        decisive["weights"] = weights_hash(folder)
        decisive["sources"] = {source.name: source.digest() for source in sources}
        with only_writer(out) if rank == 0 else contextlib.nullcontext():
            if begun:
                _refuse_other_run(out, decisive)
            if _is_complete(out, begun, model.words.weight.device):
                return
            if rank == 0 and not begun:
                retire_model(out)
                shutil.rmtree(out / "checkpoints", ignore_errors=True)
                given = {"model": args.model, "data": args.data}
                write_json(out / "settings.json", given | decisive)
            wait()
            stopped = _run(args, settings, model, tokenizer, sources, decisive, kept)
    if stopped:
        sys.exit(128 + stopped)


def _is_complete(out: Path, begun: bool, device) -> bool:
    """Whether the run in `out` has ended. The first process may be the only one that can see it."""
    config = out / "config.json"
    complete = begun and config.exists()
    if complete:
        print(f"{out}: complete since {time.ctime(config.stat().st_mtime)}")
    return bool(add_up(torch.tensor(int(complete), device=device)).item())


def _warn_of_few_steps(settings: Settings, batches: int) -> None:
    """A run of so few steps ends near where it began, and looks like success."""
    steps = settings.steps or settings.epochs * batches
    warmup = int(settings.warmup * steps)
    if steps < 10 or warmup < 2:
        print(
            f"note: {steps} steps, {warmup} of them warm-up, change little at --lr {settings.lr:g};"
            " lower --batch-size, or set --epochs, --warmup and --lr\n"
        )


def _refuse_other_run(out: Path, now: dict) -> None:
    """Stop when the run in `out` was started with other settings, weights or data than these."""
    before = read_json(out / "settings.json")
    for key, value in now.items():
        if key == "sources" and before[key] != value:
            names = {name for name, _ in before[key].items() ^ value.items()}
            raise InputError(
                f"{out}: cannot resume: the data of {', '.join(sorted(names))} has changed; "
                "give the same data again, or --overwrite to start again"
            )
        if key == "processes" and before[key] != value:
            print(f"{before[key]} processes before, {value} now: dropout draws other numbers")
        elif before.get(key) != value:
            raise InputError(
                f"{out}: cannot resume: {key} was {before.get(key)}, is now {value}; "
                "give the same again, or --overwrite to start again"
            )


def _run(args, settings: Settings, model, tokenizer, sources, decisive: dict, kept: int) -> int:
    """Take the remaining steps and write the model.

    Returns the number of the signal that stopped it, or 0.
    """
    out, (rank, _) = Path(args.out), rank_and_world()
    optimizer = new_optimizer(model, settings.weight_decay, settings.decay_all)
    done = load_checkpoint(out / "checkpoints", model, optimizer)
    facts = decisive | {f"source {name}": value for name, value in decisive["sources"].items()}
    agree(facts | {"sources": list(decisive["sources"]), "the step to resume after": done},
          model.words.weight.device)  # fmt: skip
    if rank == 0:
        keep_newest(out / "checkpoints", args.keep)
    if args.resume:
        print(f"resuming after step {done}" if done else "no checkpoint: starting at step 1")
    stopped = _take_steps(args, settings, model, tokenizer, sources, optimizer, done, kept)

    # The check before a step cannot see what the last one does.
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise InputError(
                f"{out}: the last step made {name} infinite or NaN, so no model was written; "
                "lower --lr"
            )
    if rank == 0 and not stopped:
        # The model comes last: a folder that has one is complete.
        card.write(out, find(args.model), config=model.config)
        save(model, tokenizer, out, overwrite=True)
    wait()
    return stopped


SAVE_SECONDS = 600  # at most so much work is lost
SAVE_SHARE = 0.01  # of the time, for saving


def _take_steps(args, settings, model, tokenizer, sources, optimizer, done: int, kept: int) -> int:
    """Take the steps after `done`, with a log line each and now and then a checkpoint.

    Returns the number of the signal that stopped it, or 0.
    """
    out, device, (rank, world) = Path(args.out), model.words.weight.device, rank_and_world()
    checkpoints, log_path = out / "checkpoints", out / "log.jsonl"
    if rank == 0:
        # The steps after the checkpoint are taken again, so their lines go.
        taken = itertools.islice(read_lines(log_path), done) if done else ()
        lines = [f"{line}\n" for _, line in taken]
        with new_file(log_path) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")

    rows = tokens = 0
    step = saved_step = done
    began = saved = time.perf_counter()
    saving, report, launcher = 0.0, {"seconds": 0.0}, os.getppid()

    def stopping() -> str:
        about = f" (about {report['seconds']:.0f} s)" if report["seconds"] else ""
        lost = step + 1 - saved_step
        return f"stopping after this step{about}; again to stop now and lose {lost} steps"

    options = {"optimizer": optimizer, "done": done, "kept": kept} | dataclasses.asdict(settings)
    with open(os.devnull if rank else log_path, "a") as log, signals_noted(stopping) as signals:
        for report in train(model, tokenizer, sources, **options):
            print(json.dumps(report), file=log, flush=True)

            # Now and then a line about the run so far.
            step, steps = report["step"], report["steps"]
            rows, tokens = rows + report["rows"], tokens + report["tokens"]
            now = time.perf_counter()
            seconds = now - began
            if step % args.every == 0 or step == steps:
                print(
                    f"step {step}/{steps}, {report['source']}: loss {report['loss']:.3f}, "
                    f"lr {report['lr']:.1e}, {rows / seconds:,.0f} rows/s, "
                    f"{tokens / seconds:,.0f} tokens/s, masked {report['masked']:.2%}, "
                    f"{seconds / (step - done) * (steps - step):.0f} s left",
                    flush=True,
                )

            # All processes stop where one was told to, or where their launcher is gone.
            orphaned = signal.SIGTERM * (world > 1 and os.getppid() != launcher)
            stopped = max([orphaned, *signals])
            stopped = add_up(torch.tensor(stopped, device=device)).item()

            # A checkpoint now and then, by steps and by time, and when stopped.
            due = now - saved > max(SAVE_SECONDS, saving / SAVE_SHARE)
            if step < steps and rank == 0 and (stopped or due or step % args.save_every == 0):
                save_checkpoint(checkpoints, model, optimizer, step, args.keep)
                saved_step, saved = step, time.perf_counter()
                saving = saved - now
            if step < steps and stopped:
                print(f"stopped after step {step} of {steps}; add --resume to continue")
                return max([orphaned, *signals]) or signal.SIGTERM
    print(
        f"{out}: {steps} steps, {rows:,} rows, {tokens:,} tokens in {seconds:.0f} s; "
        f"{tokenizer.cut:,} of {tokenizer.texts:,} texts were cut"
    )
    return 0


class _Texts:
    """The texts of a file (see `files.read_texts`), read from the disk each time.

    Text n is line n of a text file, blank or not.
    """

    def __init__(self, path, field: str):
        self.path, self.field = path, field
        self.count = sum(1 for _ in self)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        return read_texts(self.path, self.field, blank=True)


def _average(args) -> None:
    average(*args.models, args.share, args.out, args.overwrite)
    first, second = args.models
    print(f"{args.out}: {1 - args.share:g} of {first}, {args.share:g} of {second}")


def _embed(args) -> None:
    out = Path(args.out)
    refuse_other_suffix(out, ".npy")
    refuse_existing(out, args.overwrite)
    texts = _Texts(args.input, args.field)
    if not len(texts):
        raise InputError(f"{args.input}: no texts; expected one per line or row")
    with processes() as (rank, world):
        dtype = getattr(torch, args.dtype)
        model, tokenizer = load(args.model, dtype=dtype, truncate_dim=args.dim)
        print(summary(model, tokenizer))
        given = model, tokenizer, texts, args.kind
        shape = len(texts), model.config.width
        if world == 1:
            # Window by window: a million embeddings need not be in memory.
            windows = (window for _, window in embed_windows(*given, progress=True))
        else:
            windows = [embed(*given, progress=True, together=True)]
        if rank == 0:
            write_array(out, shape, windows, digest_of(texts))
        wait()
        print(
            f"{out}: {shape[0]:,} x {shape[1]} float32; "
            f"{tokenizer.cut:,} texts longer than {model.config.max_length} tokens were cut"
        )


def _init_options(command) -> None:
    command.add_argument("--tokenizer", required=True, help="an XLM-R tokenizer.json, or .json.xz")
    command.add_argument("--out", required=True)
    command.add_argument("--width", type=whole_number(1), default=256)
    command.add_argument("--layers", type=whole_number(1), default=2)
    command.add_argument("--heads", type=whole_number(1), default=4)
    command.add_argument(
        "--intermediate",
        type=whole_number(1),
        help="width of the feed-forward part (default: 4 x width)",
    )
    command.add_argument("--dropout", type=real_number(0, 0.9), default=0.1)
    command.add_argument("--seed", type=whole_number(0), default=42)
    command.add_argument("--overwrite", action="store_true")


def _train_options(command) -> None:
    command.add_argument("--model", required=True, help="model folder or hub name")
    command.add_argument(
        "--data",
        required=True,
        nargs="+",
        help="training sources (.jsonl, .jsonl.gz) or manifests (.json)",
    )
    command.add_argument(
        "--out",
        required=True,
        help="the trained model's folder, with settings.json, log.jsonl and checkpoints",
    )
    either = command.add_mutually_exclusive_group()
    either.add_argument("--overwrite", action="store_true")
    either.add_argument("--resume", action="store_true", help="from the newest checkpoint")
    command.add_argument(
        "--save-every", type=whole_number(1), default=200, help="steps between checkpoints"
    )
    command.add_argument("--keep", type=whole_number(1), default=2, help="checkpoints to keep")
    command.add_argument(
        "--every", type=whole_number(1), default=20, help="steps between printed lines"
    )
    settings = command.add_argument_group("settings: the paper's released command line")
    for field in dataclasses.fields(Settings):
        name = f"--{field.name.replace('_', '-')}"
        settings.add_argument(name, default=field.default, **field.metadata)


def _average_options(command) -> None:
    help = "model folders that differ in weights only"
    command.add_argument("models", nargs=2, metavar="MODEL", help=help)
    command.add_argument("--share", type=real_number(0, 1), default=0.5, help="of the second")
    command.add_argument("--out", required=True)
    command.add_argument("--overwrite", action="store_true")


def _embed_options(command) -> None:
    command.add_argument("--model", required=True, help="model folder or hub name")
    command.add_argument(
        "--input",
        required=True,
        help="one text per line, or a table (.jsonl, .json, .csv, .tsv, .parquet); .gz or not",
    )
    command.add_argument("--field", default="text", help="of the table")
    command.add_argument("--kind", required=True, choices=list(PREFIXES), help="sets the prefix")
    help = "width of the embeddings: their first numbers, normalised again"
    command.add_argument("--dim", type=whole_number(1), help=help)
    command.add_argument("--out", required=True, help="a .npy file")
    command.add_argument("--overwrite", action="store_true", help="replace --out")
    command.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="The E5-NL encoder: make, train, embed.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, options, about in (
        ("init", _init, _init_options, "a small XLM-R-type encoder with random weights"),
        ("train", _train, _train_options, "InfoNCE over training sources"),
        ("average", _average, _average_options, "weights between those of two models"),
        ("embed", _embed, _embed_options, "texts to embeddings"),
    ):
        command = commands.add_parser(name, help=about, formatter_class=ShowDefaults)
        options(command)
        command.set_defaults(run=run)
        if torch.cuda.is_available() and name in ("train", "embed"):
            command.set_defaults(dtype="bfloat16", chunk_tokens=8192)
    args = parser.parse_args(argv)
    args.run(args)


if __name__ == "__main__":
    cli(main)
