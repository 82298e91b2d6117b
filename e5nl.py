"""E5-NL's encoder, its loss and its training, by hand (arXiv 2509.12340: models and training; E5: arXiv 2212.03533).

In: a model folder as transformers and sentence-transformers write it (`config.json`, `model.safetensors` or its shards,
`tokenizer.json`, pooling and prompts), or the name of one on the Hugging Face hub. Out: the same kind of folder.

The encoder is BERT: `bert`, `roberta`, `camembert` and `xlm-roberta` differ in a position offset, token types and LayerNorm's
epsilon, which all come from `config.json`. Texts are never padded. The tokens of many texts stand one after the other in one long
row: everything that works token by token (embeddings, linear layers, LayerNorm) sees one (T, D) matrix, and attention sees each text
alone, texts of one length together. So there is no pad token and no work spent on padding. (On a GPU, where many small calls are slow,
texts of nearly one length share an attention call, padded for it.)

    python e5nl.py init --tokenizer demo/tokenizer.json.xz --out runs/base
    python e5nl.py train --model runs/base --data demo/train/*.jsonl.gz --out runs/toy --batch-size 128 --lr 2e-3 --steps 50
    python e5nl.py embed --model runs/toy --input texts.txt --kind passage --out embeddings.npy
    python e5nl.py train --model clips/e5-base-trm --data manifest.json --out runs/e5-base-trm-nl      # the paper's settings

Left out on purpose: decoders, LoRA, distillation, Matryoshka, gradient checkpointing (gradient caching does its work).
Departures from the paper's released code are named where they stand: master weights in float32, masks for equal texts.

Letters for dimensions, here and in every module:
    N texts   T tokens of all texts together   L tokens of one text   D width   H heads   B rows of a batch   P passages of a batch
"""

import argparse
import contextlib
import itertools
import json
import lzma
import math
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from checkpoints import load_checkpoint, newest_checkpoint, save_checkpoint, signals_noted
from data import (
    KINDS,
    PREFIXES,
    batch_sizes,
    count_batches,
    describe,
    draw_batch,
    lacking_negatives,
    plan_epoch,
    read_sources,
)
from files import (
    InputError,
    cli,
    new_file,
    read_json,
    read_jsonl,
    read_lines,
    read_texts,
    real_number,
    refuse_existing,
    refuse_plot,
    whole_number,
    write_array,
    write_json,
)
from model_folder import (
    SPARE_ROWS,
    XLMR_TOKENS,
    Config,
    Tokenizer,
    find,
    parse_config,
    read_state,
    read_tokenizer,
    refuse_model,
    retire_model,
    weights_hash,
    write_folder,
)

# --- the encoder ------------------------------------------------------------------------------------------------------------


# Attention takes together neighbouring texts whose lengths, rounded up to a multiple of this, are equal. 1: texts of one length, nothing
# is padded. On a GPU a call for every length would cost more than the padding of some of them.
ROUND = {"cpu": 1, "cuda": 32}


class Run(NamedTuple):
    """Texts that share one attention call. Where their lengths differ each is padded to the longest, for attention alone."""

    texts: int
    length: int  # places of each text
    tokens: int  # of all of them
    rows: Tensor | None = None  # (texts · length,) the token that stands in each place, counted within the run
    places: Tensor | None = None  # (tokens,) the place where each token stands
    mask: Tensor | None = None  # (texts, 1, 1, length) bool: places that hold a token


def cut_runs(lengths: list[int], device: torch.device) -> list[Run]:
    """The runs of packed texts: neighbours of about one length (see ROUND).

    >>> [run[:3] for run in cut_runs([3, 3, 2, 7], torch.device("cpu"))]
    [(2, 3, 6), (1, 2, 2), (1, 7, 7)]
    """
    runs = []
    for _, group in itertools.groupby(lengths, lambda length: -(-length // ROUND[device.type])):
        group = list(group)
        run = Run(len(group), max(group), sum(group))
        if min(group) < run.length:
            real = torch.arange(run.length) < torch.tensor(group)[:, None]  # (texts, length)
            rows = real.flatten().cumsum(0) - 1  # in padding: the token before it, which the mask hides
            places = real.flatten().nonzero().squeeze(1)
            run = run._replace(rows=rows.to(device), places=places.to(device), mask=real[:, None, None].to(device))
        runs.append(run)
    return runs


def dropout(x: Tensor, share: float) -> Tensor:
    """Dropout: each number of x is 0 with probability `share`, the others are divided by 1 - share.

    On a CPU torch spends 4 to 7 ns on each draw, more than the products around it. Here a 64-bit draw makes four decisions, so
    there `share` is a multiple of 1 / 65,536.
    """
    if x.device.type != "cpu" or not share:
        return F.dropout(x, share)
    dropped = round(share * 2**16)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[: x.numel()].view(x.shape)
    return x * (draws >= dropped - 2**15).to(x.dtype).mul_(1 / (1 - dropped / 2**16))


class Layer(nn.Module):
    """One transformer layer, post-LayerNorm: x = norm(x + attention(x)); x = norm(x + feed_forward(x))."""

    def __init__(self, config: Config):
        super().__init__()
        width, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.dropout, self.attention_dropout = config.hidden_dropout_prob, config.attention_probs_dropout_prob
        self.qkv = nn.Linear(width, 3 * width)  # query, key and value in one product
        self.out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, eps)

    def attention(self, x: Tensor, runs: list[Run]) -> Tensor:
        """softmax(q k' / sqrt(D / H)) v within each text; x (T, D)."""
        share, mixed = self.attention_dropout * self.training, []
        for part, run in zip(self.qkv(x).split([run.tokens for run in runs]), runs, strict=True):
            if run.mask is not None:
                part = part.index_select(0, run.rows)
            q, k, v = part.view(run.texts, run.length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (texts, H, L, D / H)
            if share and x.device.type == "cpu":  # where torch has no fast kernel with dropout: step by step
                scores = q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)  # (texts, H, L, L)
                scores = scores if run.mask is None else scores.masked_fill(~run.mask, -torch.inf)
                one = dropout(scores.softmax(-1), share) @ v
            else:
                one = F.scaled_dot_product_attention(q, k, v, run.mask, share)
            one = one.transpose(1, 2).reshape(len(part), -1)
            mixed.append(one if run.mask is None else one.index_select(0, run.places))
        return self.out(torch.cat(mixed))

    def forward(self, x: Tensor, runs: list[Run]) -> Tensor:
        share = self.dropout * self.training
        x = self.attention_norm(x + dropout(self.attention(x, runs), share))
        return self.norm(x + dropout(self.down(F.gelu(self.up(x))), share))


def table(rows: int, width: int) -> nn.Embedding:
    """An embedding table that is still to be filled. nn.Embedding's own start would import sympy in `load`: a second each time."""
    return nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)


class Encoder(nn.Module):
    """BERT / RoBERTa / XLM-R over packed texts. `new_encoder` fills it with random weights, `load` with a checkpoint's."""

    def __init__(self, config: Config):
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.words = table(config.vocab_size, width)
        self.positions = table(config.positions, width)  # row 0 is the first token's, whatever the checkpoint's offset
        self.types = table(config.type_vocab_size, width)  # only type 0 is used
        self.norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        # The rows before the offset are not ours to use, but belong to the checkpoint: kept, to be saved again.
        self.register_buffer("unused_positions", torch.zeros(config.position_offset, width), persistent=False)

    def hidden(self, ids: Tensor, lengths: list[int]) -> Tensor:
        """Last hidden states (T, D) of N texts packed into ids (T,) int64; lengths: tokens of each.

        Only texts of about one length that stand together share an attention call: sort first.
        """
        starts = np.cumsum(lengths) - lengths
        positions = torch.from_numpy(np.arange(len(ids)) - np.repeat(starts, lengths)).to(ids.device)
        # The gradient of the table is sparse: a chunk has few of its rows, and zeros for all others would be written chunk by chunk.
        words = F.embedding(ids, self.words.weight, sparse=self.training)
        x = words + self.positions(positions) + self.types.weight[0]
        x = dropout(self.norm(x), self.config.hidden_dropout_prob * self.training)
        runs = cut_runs(lengths, ids.device)
        for layer in self.layers:
            x = layer(x, runs)
        return x

    def forward(self, ids: Tensor, lengths: list[int]) -> Tensor:
        """Embeddings (N, D), L2-normalised, of N texts packed as for `hidden`; float32, or float64 when the weights are.

        A text's embedding is its own alone: it does not depend on the others.
        """
        x = self.hidden(ids, lengths)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        lengths = torch.tensor(lengths, device=x.device)
        if self.config.pooling == "mean":
            pooled = torch.segment_reduce(x, "mean", lengths=lengths, axis=0, unsafe=True)  # unsafe: lengths are ours, not to be checked
        else:
            pooled = x.index_select(0, lengths.cumsum(0) - lengths)
        return F.normalize(pooled, dim=-1)


def new_encoder(config: Config, seed: int) -> Encoder:
    """Random weights as BERT starts with: normal of standard deviation 0.02, biases 0, LayerNorm 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    model = Encoder(config)
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            nn.init.constant_(parameter, float("norm" in name and name.endswith("weight")))
        else:
            nn.init.normal_(parameter, std=0.02, generator=generator)
    return model


# --- model folders ----------------------------------------------------------------------------------------------------------


def load(name, device=None, dtype: torch.dtype = torch.float32, tokenizer: Tokenizer | None = None) -> tuple[Encoder, Tokenizer]:
    """A model folder or hub repository as (encoder in eval mode, tokenizer), on the GPU when there is one.

    tokenizer: the folder's own, where it is read already (one of 250,002 pieces takes half a second and 250 MB).
    Stops, by the tensor's name, when a tensor is missing, unknown or of another shape than the configuration says.
    """
    folder = find(name)
    tokenizer, config = tokenizer or read_tokenizer(folder), parse_config(folder)
    spare = config.vocab_size - tokenizer.vocab_size
    if not 0 <= spare <= SPARE_ROWS:
        pieces = f"tokenizer.json has {tokenizer.vocab_size:,} pieces, config.json {config.vocab_size:,}"
        raise InputError(f"{folder}: {pieces}; the two do not belong together")
    with torch.device("meta"):
        model = Encoder(config)
    state = read_state(folder, config, {name: value.shape for name, value in model.state_dict().items()}, dtype)
    unused, state["positions.weight"] = state["positions.weight"].split([config.position_offset, config.positions])
    model.load_state_dict(state, assign=True)
    model.unused_positions = unused.clone()
    model.requires_grad_()
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), tokenizer


def save(model: Encoder, tokenizer: Tokenizer, folder, overwrite: bool = False) -> None:
    """Write a model folder that transformers, sentence-transformers and `load` read, in float32."""
    state = model.state_dict()
    state["positions.weight"] = torch.cat([model.unused_positions, state["positions.weight"]])
    write_folder(folder, model.config, tokenizer, state, overwrite)


# --- several processes ------------------------------------------------------------------------------------------------------


# What mpirun (Open MPI; MPICH and Intel MPI) and srun call the number of processes that they started.
STARTED_TOGETHER = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


def launched() -> tuple[int, int]:
    """(RANK, WORLD_SIZE) as a launcher set them in the environment, (0, 1) without a launcher.

    Stops where several processes were started that would not find each other: each would train alone, all in one folder.
    """
    rank, world = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    if not rank and not world:
        for name in STARTED_TOGETHER:
            if os.environ.get(name, "1") != "1":
                raise InputError(
                    f"{name} is {os.environ[name]}: that many processes were started, but RANK and WORLD_SIZE are not set; "
                    "start them with torchrun, or set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT for each"
                )
        return 0, 1

    numbers = rank.isdecimal() and world.isdecimal()
    if not numbers or not int(rank) < int(world):
        raise InputError(f"RANK is {rank!r}, WORLD_SIZE is {world!r}; expected both, RANK from 0 to WORLD_SIZE - 1, or neither")
    if int(world) > 1:
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            if not os.environ.get(name):
                raise InputError(f"WORLD_SIZE is {world}, but {name} is not set; every process needs that of the first one")
    return int(rank), int(world)


@contextlib.contextmanager
def processes() -> Iterator[tuple[int, int]]:
    """(rank, how many processes): joins those that torchrun or another launcher started, (0, 1) without one.

    They meet as torch's `env://` says (see `launched`), over nccl on GPUs and gloo elsewhere.
    Within the block only the first process prints.
    """
    rank, world = launched()
    if world == 1:
        yield 0, 1
        return
    if torch.cuda.is_available():
        # Without LOCAL_RANK: ranks are counted node by node, or each process sees a GPU of its own.
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere if rank else sys.stdout):
            yield rank, world
    finally:
        torch.distributed.destroy_process_group()


def rank_and_world() -> tuple[int, int]:
    """(rank, how many processes)."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def wait() -> None:
    """Until all processes are here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def add_up(tensor: Tensor) -> Tensor:
    """`tensor`, in place, as its sum over all processes."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(tensor)
    return tensor


def shared_number() -> int:
    """A random number that all processes of this run have, and hardly another run."""
    number = torch.tensor(0 if rank_and_world()[0] else secrets.randbits(62))
    return int(add_up(number.to("cuda" if torch.cuda.is_available() else "cpu")))


# --- texts to embeddings ----------------------------------------------------------------------------------------------------


def cut_chunks(lengths: list[int], chunk_tokens: int) -> list[list[int]]:
    """Text numbers, longest first, in chunks of at most `chunk_tokens` tokens (a longer text makes a chunk of its own).

    >>> cut_chunks([3, 9, 4, 3], chunk_tokens=7)
    [[1], [2, 0], [3]]
    """
    chunks, room = [], 0
    for text in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not chunks or lengths[text] > room:
            chunks.append([])
            room = chunk_tokens
        chunks[-1].append(text)
        room -= lengths[text]
    return chunks


def encode(model: Encoder, ids: list[list[int]], chunk: list[int]) -> Tensor:
    """Embeddings of the texts of one chunk, in the chunk's order."""
    packed = torch.tensor([i for text in chunk for i in ids[text]], device=model.words.weight.device)
    return model(packed, [len(ids[text]) for text in chunk])


WINDOW = 8192  # texts tokenised at once: bounds memory, and is enough to sort by length
CHUNK_TOKENS = {"cpu": 2048, "cuda": 65536}  # a CPU's caches like it small, a GPU needs work


def embed(model: Encoder, tokenizer: Tokenizer, texts: Collection[str], kind: str, *, max_length: int | None = None,
          chunk_tokens: int | None = None, progress: bool = False, together: bool = False) -> np.ndarray:
    """Embeddings (N, D) float32, L2-normalised, in the order of `texts`: a list, or what has a length and is gone through once.

    kind: 'query', 'passage' or 'none' chooses the prefix that the model folder stores. Empty texts are embedded like others;
    longer ones than `max_length` tokens (default: the model's limit) are cut and counted in `tokenizer.cut`.
    together: each of torchrun's processes, which all call this with the same texts, embeds its share, and all get the whole.
    """
    share = rank_and_world() if together else (0, 1)
    embeddings = np.zeros((len(texts), model.config.hidden_size), np.float32)
    options = {"max_length": max_length, "chunk_tokens": chunk_tokens, "progress": progress}
    for start, part in embed_windows(model, tokenizer, texts, kind, share, **options):
        embeddings[start : start + len(part)] = part
    if share[1] > 1:
        counts = np.array([tokenizer.texts, tokenizer.cut])
        for part in (*torch.from_numpy(embeddings).split(WINDOW), torch.from_numpy(counts)):  # a row is zero in all processes but one
            whole = add_up(part.to(model.words.weight.device, copy=True))  # a copy: gloo's threads may outlive numpy's memory
            part.copy_(whole)
        tokenizer.texts, tokenizer.cut = counts.tolist()
    return embeddings


@torch.inference_mode()
def embed_windows(model: Encoder, tokenizer: Tokenizer, texts: Collection[str], kind: str, share: tuple[int, int] = (0, 1), *,
                  max_length: int | None = None, chunk_tokens: int | None = None, progress=False) -> Iterator[tuple[int, np.ndarray]]:
    """`embed` window by window, for what must not be lost or held whole: (number of the window's first text, its embeddings).

    share: (rank, world): only each world-th window, from window `rank` on.
    """
    (rank, world), prompts, device = share, dict(model.config.prompts), model.words.weight.device
    if kind not in prompts:
        raise InputError(f"kind {kind!r} is unknown; expected one of {', '.join(prompts)}")
    max_length = min(max_length or model.config.max_length, model.config.max_length)
    window = max(1, min(WINDOW, -(-len(texts) // world)))

    def tokenised() -> Iterator[tuple[int, list[list[int]]]]:
        """(number of its first text, ids) of each window that is this process's."""
        iterator = iter(texts)
        for number, start in enumerate(range(0, len(texts), window)):
            part = list(itertools.islice(iterator, window))
            if number % world == rank:
                for place, text in enumerate(part, start):
                    if not isinstance(text, str):
                        raise InputError(f"text {place} is {type(text).__name__}, not a string")
                yield start, tokenizer(part, prompts[kind], max_length)

    model.eval()
    silent = None if progress and not rank else True  # None: silent where there is no terminal
    with ThreadPoolExecutor(1) as pool, tqdm(total=len(texts), unit="text", unit_scale=True, disable=silent) as bar:
        windows, tokens, began = tokenised(), 0, time.perf_counter()
        ahead = pool.submit(next, windows, None)
        while found := ahead.result():
            start, ids = found
            ahead = pool.submit(next, windows, None)  # reading and tokenising go on beside the encoder
            embeddings = np.empty((len(ids), model.config.hidden_size), np.float32)
            for chunk in cut_chunks([len(one) for one in ids], chunk_tokens or CHUNK_TOKENS[device.type]):
                embeddings[chunk] = encode(model, ids, chunk).cpu().numpy()
                tokens += sum(len(ids[text]) for text in chunk)
                bar.set_postfix_str(f"{world * tokens / (time.perf_counter() - began):,.0f} tokens/s", refresh=False)
                bar.update(len(chunk) * world)
            yield start, embeddings


# --- loss -------------------------------------------------------------------------------------------------------------------


def info_nce(q: Tensor, p: Tensor, sizes: list[int], tau: float, in_batch=None, masked: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """InfoNCE from queries to passages (the paper's loss; E5, equation 1): mean over rows i of

        -log( exp(q_i · p_i+ / tau) / sum_j exp(q_i · p_j / tau) )

    q (B, D) and p (P, D): normalised. sizes: passages of each row, B of them, sum P; a row's positive is its first passage, the
    others are its hard negatives. The sum runs over the passages of all rows; where in_batch (B,) bool is false, over the row's own.
    masked (B, P) bool: passages that are no negatives of the row; a row's positive stays whatever it says.
    Returns (loss, share of rows whose positive scores highest). Scores and softmax are float32 (or q's float64) also under autocast.
    """
    with torch.autocast(q.device.type, enabled=False):
        exact = torch.promote_types(q.dtype, torch.float32)
        scores = q.to(exact) @ p.to(exact).T / tau  # (B, P)
        sizes = torch.tensor(sizes, device=q.device)
        positive = sizes.cumsum(0) - sizes  # (B,) column of each row's positive
        out = torch.zeros_like(scores, dtype=torch.bool) if masked is None else masked.clone()
        if in_batch is not None:
            row = torch.arange(len(q), device=q.device)
            out |= (row.repeat_interleave(sizes) != row[:, None]) & ~in_batch[:, None]
        out[torch.arange(len(q)), positive] = False
        scores = scores.masked_fill(out, -torch.inf)
        return F.cross_entropy(scores, positive), (scores.argmax(1) == positive).float().mean()


def same_text_mask(rows, passages: list[str]) -> Tensor:
    """(B, P) bool: passage j's text is row i's query or one of its positives, so it is no negative of row i.

    Texts, not embeddings, are compared: dropout makes equal texts unequal. The paper's code has no such mask.
    """
    ids = {}
    columns = np.array([ids.setdefault(text, len(ids)) for text in passages])
    mask = np.zeros((len(rows), len(passages)), bool)
    for i, row in enumerate(rows):
        for text in {row.query, *row.pos} & ids.keys():
            mask[i] |= columns == ids[text]
    return torch.from_numpy(mask)


# --- training ---------------------------------------------------------------------------------------------------------------


def learning_rate(step: int, steps: int, peak: float, warmup: int, schedule: str = "constant") -> float:
    """The rate of `step` (from 0) of `steps`.

    constant: linear warm-up, then `peak`. What the paper's command line asks for.
    decay: DeepSpeed's WarmupDecayLR, peak · ln(step + 1) / ln(warmup), then linear to 0. What the paper's command line really ran,
    since its DeepSpeed configuration has a scheduler of its own, which wins.
    """
    if schedule == "constant":
        return peak * min(1.0, (step + 1) / max(1, warmup))
    warmup = max(2, warmup)
    return peak * (math.log(step + 1) / math.log(warmup) if step < warmup else max(0.0, (steps - step) / max(1, steps - warmup)))


def new_optimizer(model: Encoder, weight_decay: float, decay_all: bool = False) -> torch.optim.AdamW:
    """AdamW with decay on matrices only, or on biases and LayerNorm too."""
    parameters = list(model.parameters())
    assert all(p.dtype != torch.bfloat16 for p in parameters), "bfloat16 weights would round small updates away"
    matrices, others = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": weight_decay * decay_all}]
    return torch.optim.AdamW(groups, fused=True)


def backward(model: Encoder, ids: list[list[int]], loss_of, seed: int, chunk_tokens: int, dtype: torch.dtype,
             places=None, total: int | None = None) -> tuple[float, float]:
    """Add the gradient of `loss_of(embeddings of all texts)` to the parameters; return its (loss, accuracy).

    ids: this process's texts; places: their numbers among all `total` texts of all processes (default: there are no others).

    Gradient caching (arXiv 2101.06983): the loss needs all embeddings at once, the encoder does not. (1) embed chunk by chunk
    without a graph; (2) loss and gradient on the embeddings; (3) embed every chunk again, with a graph, and send its rows of the
    gradient back through it. Dropout draws from a seed of each chunk, so that both passes see the same network.
    Memory is that of one chunk. A batch that fits one chunk is embedded once.

    Several processes: each has the embeddings of all and so the whole batch's loss, and sends back the gradient of its own texts;
    the sum over the processes is the gradient of the batch, with nothing to scale.
    """
    device, words = model.words.weight.device, model.words.weight
    rank, world = rank_and_world()
    chunks = cut_chunks([len(one) for one in ids], chunk_tokens)
    order = [text for chunk in chunks for text in chunk]
    places = torch.tensor(order if places is None else [places[text] for text in order], dtype=torch.int64, device=device)

    def embed_chunk(number: int) -> Tensor:
        torch.manual_seed(seed + number * world + rank)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return encode(model, ids, chunks[number])

    with torch.set_grad_enabled(len(chunks) == 1):
        embedded = [embed_chunk(number) for number in range(len(chunks))]
    whole = torch.zeros(total or len(ids), model.config.hidden_size, dtype=torch.promote_types(words.dtype, torch.float32), device=device)
    if chunks:
        whole[places] = torch.cat(embedded).detach()
    whole = add_up(whole).requires_grad_()
    loss, accuracy = loss_of(whole)
    loss.backward()
    for number, gradient in enumerate(whole.grad[places].split([len(chunk) for chunk in chunks])):
        (embedded[0] if len(chunks) == 1 else embed_chunk(number)).backward(gradient)
        words.grad = words.grad.coalesce()
    if words.grad is not None:
        words.grad = words.grad.to_dense()
    for parameter in model.parameters() if world > 1 else ():
        parameter.grad = add_up(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    return loss.item(), accuracy.item()


def batches_an_epoch(sources, batch_size: int, batching: str = "source") -> int:
    """How many batches one epoch over the sources has: at least one, or it is an error."""
    counts, sizes = [len(source.rows) for source in sources], batch_sizes(sources, batch_size)
    batches = sum(count_batches(counts, sizes)) if batching == "source" else sum(counts) // batch_size
    if not batches:
        raise InputError(f"no source fills one batch: {max(counts)} rows at most, batches of {min(sizes)} and more; lower --batch-size")
    return batches


def train(model: Encoder, tokenizer: Tokenizer, sources, *,
          batch_size=1024, batching="source", tau=0.02, negatives=1, query_length=450, passage_length=500, masks=True, in_batch="as-given",
          lr=1e-5, schedule="constant", warmup=0.25, weight_decay=0.1, decay_all=False, clip=1.0, epochs=1, steps=None, seed=42,
          dtype=torch.float32, chunk_tokens=2048, optimizer=None, done=0):
    """Train `model` in place; yield a dict about every step (step, steps, source, loss, accuracy, lr, gradient norm, speed).

    The batch of a step, its positives and negatives are functions of (seed, step) alone; its dropout also of `chunk_tokens` and the
    number of processes. Under torchrun every process plans the same batch of `batch_size` rows and takes each world-th row.
    steps: stop after so many (default: `epochs` times over the data). warmup: share of the steps. Lengths in tokens.
    optimizer, done: go on after `done` steps, with the optimizer that took them.
    """
    an_epoch = batches_an_epoch(sources, batch_size, batching)
    if lacking := lacking_negatives(sources, batch_size, batching, negatives, in_batch):
        raise InputError(lacking)
    steps = epochs * an_epoch if steps is None else steps
    prompts, device, (rank, world) = dict(model.config.prompts), model.words.weight.device, rank_and_world()
    optimizer = optimizer or new_optimizer(model, weight_decay, decay_all)
    limits = [min(length, model.config.max_length) for length in (query_length, passage_length)]
    plan = None
    model.train()
    for step in range(done, steps):
        started = time.perf_counter()
        epoch, position = divmod(step, an_epoch)
        if position == 0 or plan is None:
            plan = plan_epoch(sources, batch_size, batching, seed, epoch)
        (numbers, chosen), generator = plan[position], np.random.default_rng((seed, step))
        of_row, rows, groups = draw_batch(sources, numbers, chosen, negatives, generator)
        passages = [text for group in groups for text in group]
        masked = same_text_mask(rows, passages).to(device) if masks else None
        all_rows = in_batch == "always" or all(source.in_batch_negatives for source in of_row)
        with_others = None if all_rows else torch.tensor([source.in_batch_negatives for source in of_row], device=device)

        first = np.cumsum([0, *map(len, groups)])[:-1]  # of each row, among the passages
        own = range(rank, len(rows), world)
        of_passages = [(row, len(rows) + first[row] + i, text) for row in own for i, text in enumerate(groups[row])]
        ids = tokenizer([prompts[KINDS[of_row[row].type][0]] + rows[row].query for row in own], "", limits[0])
        ids += tokenizer([prompts[KINDS[of_row[row].type][1]] + text for row, _, text in of_passages], "", limits[1])
        places = [*own, *(place for _, place, _ in of_passages)]

        def loss_of(embeddings: Tensor) -> tuple[Tensor, Tensor]:
            q, p = embeddings.split([len(rows), len(passages)])
            return info_nce(q, p, [len(group) for group in groups], tau, with_others, masked)

        rate = learning_rate(step, steps, lr, int(warmup * steps), schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        dropout_seed = int(generator.integers(2**62))
        loss, accuracy = backward(model, ids, loss_of, dropout_seed, chunk_tokens, dtype, places, len(rows) + len(passages))
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip).item()
        source = sources[numbers[0]].name if batching == "source" else "mixed"
        if not math.isfinite(loss) or not math.isfinite(norm):
            where = f"step {step + 1}, source {source}, rows {chosen[:8].tolist()}…"
            raise InputError(f"{where}: loss {loss}, gradient norm {norm}; the weights are as before; lower --lr or look at these rows")
        optimizer.step()
        tokens = int(add_up(torch.tensor(sum(map(len, ids)), device=device)))
        negative = max(1, len(rows) * (len(passages) - 1))
        share = 0.0 if masked is None else (masked.sum().item() - len(rows)) / negative  # without the rows' own targets
        yield {
            "step": step + 1, "steps": steps, "source": source, "rows": len(rows), "tokens": tokens, "loss": loss, "accuracy": accuracy,
            "lr": rate, "gradient_norm": norm, "masked": share, "seconds": time.perf_counter() - started,
        }
    model.eval()


# --- command line -----------------------------------------------------------------------------------------------------------


def summary(model: Encoder, tokenizer: Tokenizer) -> str:
    """One line about a model, for the start of a run."""
    config = model.config
    spare = config.vocab_size - tokenizer.vocab_size
    parameters = sum(p.numel() for p in model.parameters()) + model.unused_positions.numel()
    return (
        f"{config.model_type}, {config.num_hidden_layers} layers, width {config.hidden_size}, {tokenizer.vocab_size:,} pieces"
        f"{f' (+ {spare} spare rows)' if spare else ''}, {parameters:,} parameters, {config.pooling} pooling, {model.words.weight.device}"
    )


def _init(args) -> None:
    path = Path(args.tokenizer)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        stored = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    except lzma.LZMAError as error:
        raise InputError(f"{path}: damaged xz data ({error}); copy or download it again") from None
    tokenizer = Tokenizer(stored, {"tokenizer_class": "PreTrainedTokenizerFast"} | XLMR_TOKENS, path)
    pad = tokenizer.backend.token_to_id("<pad>")
    if pad is None:
        raise InputError(f"{path}: no piece <pad>; expected an XLM-R tokenizer")
    if args.width % args.heads:
        raise InputError(f"--width {args.width} is not a multiple of --heads {args.heads}")
    config = Config(
        model_type="xlm-roberta", vocab_size=tokenizer.vocab_size, hidden_size=args.width, num_hidden_layers=args.layers,
        num_attention_heads=args.heads, intermediate_size=args.intermediate or 4 * args.width, max_position_embeddings=512 + pad + 1,
        type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=pad, hidden_dropout_prob=args.dropout,
        attention_probs_dropout_prob=args.dropout,
    )  # fmt: skip
    model = new_encoder(config, args.seed)
    save(model, tokenizer, args.out, args.overwrite)
    print(f"{args.out}: {summary(model, tokenizer)}, random weights")


# Where the paper's command line and what its released code does with it differ, both can be had. Single options go before.
RECIPES = {
    "stated": {"schedule": "constant", "in_batch": "as-given", "decay_all": False, "masks": True},
    "released": {"schedule": "decay", "in_batch": "always", "decay_all": True, "masks": False},
}
FREE = ("model", "data", "out", "overwrite", "resume", "every", "save_every", "keep", "plot")  # may differ when a run goes on


def _train(args) -> None:
    out, settings = Path(args.out), {key: value for key, value in vars(args).items() if key not in ("run", "command")}
    refuse_plot(args.plot, args.overwrite or args.resume)
    refuse_model(out, args.overwrite)
    started = (out / "checkpoints").exists() and not args.overwrite
    if started and not args.resume:
        raise InputError(f"{out}: holds a run that has not ended; add --resume to go on with it, or --overwrite to begin again")
    for name, value in RECIPES[args.recipe].items():
        if settings[name] is None:
            settings[name] = value
    sources = read_sources(args.data, args.seed)
    with processes() as (rank, world):
        folder = find(args.model)
        model, tokenizer = load(folder)
        print(summary(model, tokenizer))
        print(describe(sources, args.batch_size, args.batching))
        settings |= {"processes": world, "weights": weights_hash(folder), "sources": {s.name: s.digest() for s in sources}}
        if started:
            _refuse_other(read_json(out / "settings.json"), settings, out)
        # Both are checked again by train(), but here an error leaves no folder.
        batches_an_epoch(sources, args.batch_size, args.batching)
        if lacking := lacking_negatives(sources, args.batch_size, args.batching, args.negatives, settings["in_batch"]):
            raise InputError(lacking)
        if rank == 0 and not started:
            retire_model(out)
            shutil.rmtree(out / "checkpoints", ignore_errors=True)
            write_json(out / "settings.json", settings)
        wait()
        shown = (f"{key} {value}" for key, value in settings.items() if key not in FREE + ("weights", "sources"))
        print(f"settings: {', '.join(shown)}\n")
        stopped = _run(args, settings, model, tokenizer, sources, rank)
        if bad := [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]:
            raise InputError(f"{out}: the last step made {bad[0]} infinite or NaN, so no model was written; lower --lr")
        if rank == 0 and not stopped:
            save(model, tokenizer, out, args.overwrite)
            if args.plot:
                plot(args.plot, [line for _, line in read_jsonl(out / "log.jsonl")])
        wait()
    if stopped:
        sys.exit(128 + stopped)


def _refuse_other(before: dict, now: dict, out: Path) -> None:
    """A run goes on with its own settings and data only; JSON makes lists of tuples and the like, so it is what is compared."""
    now = json.loads(json.dumps(now))
    for key in sorted((before | now).keys() - set(FREE)):
        was, found = before.get(key), now.get(key)
        if was != found:
            if key == "sources":
                names = sorted(name for name in was | found if was.get(name) != found.get(name))
                key, was, found = f"the data of {', '.join(names)}", "other", "this"
            raise InputError(f"{out}: cannot go on: {key} was {was}, now {found}; give that again, or --overwrite to begin anew")


def _run(args, settings: dict, model: Encoder, tokenizer: Tokenizer, sources, rank: int) -> int:
    """Take the steps that are left, with a log line each and checkpoints; the number of the signal that stopped it, or 0."""
    out, device = Path(args.out), model.words.weight.device
    optimizer = new_optimizer(model, args.weight_decay, settings["decay_all"])
    options = {key: settings[key] for key in train.__kwdefaults__ if key in settings} | {"dtype": getattr(torch, args.dtype)}
    if rank:
        wait()  # for the first process, which removes what is half written
    checkpoint, skipped = newest_checkpoint(out / "checkpoints")
    if not rank:
        wait()
    done = load_checkpoint(checkpoint, model, optimizer) if checkpoint else 0
    print(*skipped, sep="\n", end="\n" * bool(skipped))
    if args.resume:
        print(f"going on after step {done}" if done else "no checkpoint: beginning at the first step")
    log, stopped = out / "log.jsonl", 0
    if rank == 0:  # the steps after the checkpoint are taken again
        lines = [line for _, line in read_lines(log)][:done] if done else []
        with new_file(log) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    wait()
    bar = tqdm(unit="step", initial=done, disable=rank > 0 or None)
    with bar, open(os.devnull if rank else log, "a", encoding="utf-8") as file, signals_noted() as signals:
        began, rows, tokens = time.perf_counter(), 0, 0
        for line in train(model, tokenizer, sources, **options, optimizer=optimizer, done=done):
            file.write(json.dumps(line) + "\n")
            file.flush()
            step, rows, tokens, bar.total = line["step"], rows + line["rows"], tokens + line["tokens"], line["steps"]
            seconds = time.perf_counter() - began
            speed = f"{rows / seconds:,.0f} rows/s, {tokens / seconds:,.0f} tokens/s"
            state = f"loss {line['loss']:.3f}, lr {line['lr']:.1e}, {speed}, masked {line['masked']:.2%}"
            bar.set_postfix_str(state, refresh=False)
            bar.update()
            if bar.disable and (step % args.every == 0 or step == line["steps"]):
                left = f"{seconds / (step - done) * (line['steps'] - step):.0f} s left"
                print(f"step {step}/{line['steps']}, {line['source']}: {state}, {left}", flush=True)
            stopped = int(add_up(torch.tensor(max(signals, default=0), device=device)))  # all stop where one was told to
            if (stopped or step % args.save_every == 0) and step < line["steps"] and rank == 0:
                save_checkpoint(out / "checkpoints", model, optimizer, step, args.keep)
            if stopped and step < line["steps"]:
                print(f"stopped after step {step} of {line['steps']}; the same command with --resume goes on")
                return max(signals, default=signal.SIGTERM)
    cut = f"{tokenizer.cut:,} of {tokenizer.texts:,} texts were cut"
    print(f"{out}: {line['steps']} steps, {rows:,} rows, {tokens:,} tokens in {seconds:.0f} s; {cut}")
    return 0


def plot(path, lines: list[dict]) -> None:
    """Loss and in-batch accuracy over the steps, a line a source."""
    import matplotlib.figure  # optional: only --plot needs it

    figure = matplotlib.figure.Figure((9, 4), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for source in sorted({line["source"] for line in lines}):
            points = [(line["step"], line[what]) for line in lines if line["source"] == source]
            axes.plot(*zip(*points, strict=True), label=source, linewidth=0.8)
        axes.set(xlabel="step", ylabel=what)
    axes.legend(fontsize="small")
    with new_file(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:])


class _Texts:
    """The texts of a file (see `files.read_texts`), counted once and read from the disk each time they are gone through.

    Text n is line n of a text file, blank or not.
    """

    def __init__(self, path, field: str):
        self.path, self.field = path, field
        self.count = sum(1 for _ in self)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        return read_texts(self.path, self.field, blank=True)


def _embed(args) -> None:
    out = Path(args.out)
    if out.suffix not in (".npy", ".safetensors"):
        raise InputError(f"--out {out}: expected a name that ends in .npy or .safetensors")
    refuse_existing(out, args.overwrite)
    texts = _Texts(args.input, args.field)
    if not len(texts):
        raise InputError(f"{args.input}: no texts; expected one per line or row")
    with processes() as (rank, _):
        model, tokenizer = load(args.model, dtype=getattr(torch, args.dtype))
        print(summary(model, tokenizer))
        embeddings = embed(model, tokenizer, texts, args.kind, progress=True, together=True)
        if rank == 0 and out.suffix == ".npy":
            write_array(out, embeddings)
        elif rank == 0:
            with new_file(out) as temporary:
                save_file({"embeddings": torch.from_numpy(embeddings)}, temporary)
        wait()
        cut = f"{tokenizer.cut:,} texts longer than {model.config.max_length} tokens were cut"
        print(f"{out}: {embeddings.shape[0]:,} x {embeddings.shape[1]} float32; {cut}")


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="The E5-NL encoder: make, train, embed.")
    commands = parser.add_subparsers(dest="command", required=True)
    default = "bfloat16" if torch.cuda.is_available() else "float32"

    command = commands.add_parser("init", help="a small XLM-R-type encoder with random weights")
    command.add_argument("--tokenizer", required=True, help="an XLM-R tokenizer.json, or .json.xz")
    command.add_argument("--out", required=True)
    command.add_argument("--width", type=whole_number(1), default=256)
    command.add_argument("--layers", type=whole_number(1), default=2)
    command.add_argument("--heads", type=whole_number(1), default=4)
    command.add_argument("--intermediate", type=whole_number(1), help="width of the feed-forward part (default: 4 x width)")
    command.add_argument("--dropout", type=real_number(0, 0.9), default=0.1)
    command.add_argument("--seed", type=whole_number(0), default=42)
    command.add_argument("--overwrite", action="store_true")
    command.set_defaults(run=_init)

    command = commands.add_parser("train", help="InfoNCE over training sources; the defaults are the paper's (its released command line)",
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("--model", required=True, help="model folder or hub name")
    command.add_argument("--data", required=True, nargs="+", help="training sources (.jsonl, .jsonl.gz) or manifests (.json)")
    command.add_argument("--out", required=True, help="the trained model's folder, with settings.json, log.jsonl and checkpoints")
    either = command.add_mutually_exclusive_group()
    either.add_argument("--overwrite", action="store_true")
    either.add_argument("--resume", action="store_true", help="go on after the newest whole checkpoint")
    group = command.add_argument_group("method")
    group.add_argument("--recipe", choices=list(RECIPES), default="stated", help="what the paper states, or what its released code does: "
                       "sets --schedule, --in-batch, --decay-all and --masks")  # fmt: skip
    group.add_argument("--batch-size", type=whole_number(2), default=1024, help="rows of all processes; symmetric sources get half")
    group.add_argument("--batching", choices=["source", "mixed"], default="source", help="a batch is of one source, or of all")
    group.add_argument("--tau", type=real_number(1e-4), default=0.02, help="temperature")
    group.add_argument("--negatives", type=whole_number(0, 1000), default=1, help="hard negatives a row")
    group.add_argument("--in-batch", choices=["as-given", "always"], help="other rows' passages as negatives: as manifests say (stated), "
                       "or in every source (released)")  # fmt: skip
    group.add_argument("--query-length", type=whole_number(3), default=450, help="tokens")
    group.add_argument("--passage-length", type=whole_number(3), default=500, help="tokens")
    group.add_argument("--masks", action=argparse.BooleanOptionalAction, help="equal texts are no negatives (stated: yes)")
    group = command.add_argument_group("optimisation")
    group.add_argument("--lr", type=real_number(0, 1), default=1e-5)
    group.add_argument("--schedule", choices=["constant", "decay"], help="see learning_rate() (stated: constant)")
    group.add_argument("--warmup", type=real_number(0, 1), default=0.25, help="share of the steps")
    group.add_argument("--weight-decay", type=real_number(0), default=0.1)
    group.add_argument("--decay-all", action=argparse.BooleanOptionalAction, help="also of biases and LayerNorm (stated: no)")
    group.add_argument("--clip", type=real_number(1e-6), default=1.0, help="largest gradient norm")
    group.add_argument("--epochs", type=whole_number(1), default=1)
    group.add_argument("--steps", type=whole_number(1), default=None, help="instead of --epochs")
    group.add_argument("--seed", type=whole_number(0), default=42)
    group = command.add_argument_group("machine")
    group.add_argument("--dtype", choices=["float32", "bfloat16"], default=default, help="of the products; weights stay float32")
    group.add_argument("--chunk-tokens", type=whole_number(1), default=8192 if torch.cuda.is_available() else 2048,
                       help="tokens through the encoder at once: sets memory; beside it only dropout's draws depend on it")  # fmt: skip
    group.add_argument("--save-every", type=whole_number(1), default=200, help="steps between checkpoints")
    group.add_argument("--keep", type=whole_number(1), default=2, help="checkpoints that stay")
    group.add_argument("--every", type=whole_number(1), default=20, help="steps between printed lines where there is no terminal for a bar")
    group.add_argument("--plot", help="a picture of loss and accuracy by source; needs matplotlib")
    command.set_defaults(run=_train)

    command = commands.add_parser("embed", help="texts to embeddings", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("--model", required=True, help="model folder or hub name")
    command.add_argument("--input", required=True, help="one text per line, or a table (.jsonl, .json, .csv, .tsv, .parquet); .gz or not")
    command.add_argument("--field", default="text", help="of the table")
    command.add_argument("--kind", required=True, choices=list(PREFIXES), help="chooses the prefix")
    command.add_argument("--out", required=True, help=".npy, or .safetensors with one tensor, embeddings")
    command.add_argument("--overwrite", action="store_true", help="replace --out")
    command.add_argument("--dtype", choices=["float32", "bfloat16"], default=default)
    command.set_defaults(run=_embed)

    args = parser.parse_args(argv)
    args.run(args)


if __name__ == "__main__":
    cli(main)
