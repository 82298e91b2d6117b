"""Speed against the neighbouring projects, side by side in one run. Read the ratios: seconds depend on the machine and on who shares it.

    python bench.py encode                     # texts to embeddings, against sentence-transformers and a plain transformers loop
    python bench.py train                      # a training step, against sentence-transformers' two contrastive losses
    python bench.py mine                       # hard negatives, against sentence-transformers (torch and faiss)
    python bench.py mine --rows 5000 --threads 1 --rounds 1
    python bench.py search --rows 1000000      # exact search in a million passages on disk: seconds and memory
    python bench.py transtokenize              # alignment and the steps after it: seconds and memory as text and vocabulary grow
    python bench.py meaning --parallel nld-eng.tsv.gz    # are transtokenised rows better than random ones, and than trimming?
    python bench.py synthesize                 # synthetic rows a second from a server that answers at once; cleaning of half a million rows
    python bench.py trim --peer-python PYTHON  # vocabulary trimming, against vocabtrimmer, the paper's tool
    python bench.py evaluate                   # scoring at the benchmark's sizes, against mteb; the benchmark's tokens

A peer is measured where it can be imported: run this with the Python of an environment that holds `tests/parity/requirements.txt` (and
faiss-cpu) beside this project's requirements. Without peers ours is measured alone. vocabtrimmer needs older packages, so PYTHON is that
of an environment of its own: `pip install torch==2.13.0 transformers==4.45.2 huggingface_hub==0.36.2 datasets==3.0.1 vocabtrimmer==0.0.2`.

Every figure comes from a process of its own, which imports, makes its data, and then measures: wall seconds, and the peak of its memory
above what it had before. The variants take turns, round by round; printed are medians, and the median of the ratios of a round.
"""

import argparse
import contextlib
import dataclasses
import gc
import http.server
import importlib.util
import io
import itertools
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import BertWordPieceTokenizer, processors

import align
import e5nl
import evaluate
import mine
import model_folder
import mteb_nl
import search
import synthesize
import transtokenize
import trim_vocab
from data import Row, Source, read_source
from estimate import SHAPES, benchmark, operations, sustained
from files import InputError, cli, read_json, whole_number, write_json, write_jsonl

ROOT = Path(__file__).parent
WIDTH, TOP, NEGATIVES = 384, 41, 4  # sentence-transformers looks at 10 candidates a negative and one a positive by default


def vectors(rows: int, width: int, seed: int) -> np.ndarray:
    """Random unit vectors (rows, width) float32."""
    x = np.random.default_rng(seed).standard_normal((rows, width), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def pairs(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Queries and their passages (rows, WIDTH): a pair's cosine is about 0.7."""
    p = vectors(rows, WIDTH, 0)
    q = p + vectors(rows, WIDTH, 1)
    return q / np.linalg.norm(q, axis=1, keepdims=True), p


# --- encode -------------------------------------------------------------------------------------------------------------------


def make_model(shape: str, folder) -> None:
    """A model folder with random weights of a real shape and XLM-R's own tokenizer."""
    sizes = zip(("--width", "--layers", "--heads", "--intermediate"), SHAPES[shape], strict=True)
    with contextlib.redirect_stdout(io.StringIO()):
        e5nl.main(["init", "--tokenizer", str(ROOT / "demo/tokenizer.json.xz"), "--out", str(folder), "--overwrite"]
                  + [str(word) for pair in sizes for word in pair])  # fmt: skip


def real_texts(kind: str, count: int) -> list[str]:
    """Dutch texts of the demo's training sources: `short` (titles and sentences) or `long` (questions in parliament)."""
    sources = {
        "short": [("dekamer_title_question", "query"), ("ud_sentence_following", "query")],
        "long": [("dekamer_title_question", "pos"), ("dekamer_question_answer", "query")],
    }
    texts = []
    for name, side in sources[kind]:
        rows = read_source(ROOT / "demo" / "train" / f"{name}.jsonl.gz").rows
        texts.append([row.query if side == "query" else row.pos[0] for row in rows])
    mixed = dict.fromkeys(text for pair in itertools.zip_longest(*texts) for text in pair if text)
    return list(mixed)[:count]


def encode_ours(folder, dtype: str):
    model, tokenizer = e5nl.load(folder, dtype=getattr(torch, dtype))
    return lambda texts: e5nl.embed(model, tokenizer, texts, "passage")


def encode_sentence_transformers(folder, dtype: str):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), model_kwargs={"dtype": getattr(torch, dtype)})
    return lambda texts: model.encode(["passage: " + text for text in texts], normalize_embeddings=True).astype(np.float32)


def encode_transformers(folder, dtype: str):
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    @torch.inference_mode()
    def encode(texts):
        parts = []
        for start in range(0, len(texts), 32):
            batch = ["passage: " + text for text in texts[start : start + 32]]
            batch = tokenizer(batch, padding=True, truncation=True, max_length=512, return_tensors="pt").to(model.device)
            hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
            parts.append(F.normalize((hidden * mask).sum(1).float() / mask.sum(1), dim=-1))
        return torch.cat(parts).cpu().numpy()

    return encode


ENCODE = {
    "ours": ((), encode_ours),
    "sentence-transformers": (("sentence_transformers",), encode_sentence_transformers),
    "transformers, batches of 32": (("transformers",), encode_transformers),
}


def product_limit(config: e5nl.Config, dtype: torch.dtype, device) -> float:
    """Operations a second of the linear layers' products alone, 2,048 tokens at once: the median of many passes over one layer."""
    width, inner, tokens = config.hidden_size, config.intermediate_size, 2048
    sizes = (width, 3 * width), (width, width), (width, inner), (inner, width)
    layers = [torch.nn.Linear(*one, device=device, dtype=dtype) for one in sizes]
    inputs = [torch.randn(tokens, one, device=device, dtype=dtype) for one, _ in sizes]
    seconds, end = [], time.perf_counter() + 1.5
    with torch.inference_mode():
        while time.perf_counter() < end:
            start = time.perf_counter()
            for layer, x in zip(layers, inputs, strict=True):
                layer(x)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return sum(2 * tokens * layer.weight.numel() for layer in layers) / np.median(seconds)


def bench_encode(args) -> None:
    variants = [name for name, (packages, _) in ENCODE.items() if all(map(importlib.util.find_spec, packages))]
    print(f"measured: {'; '.join(variants)}; not installed: {'; '.join(name for name in ENCODE if name not in variants) or 'none'}")
    with tempfile.TemporaryDirectory() as folder:
        for shape in args.shapes:
            make_model(shape, Path(folder, "model"))
            for texts in args.texts:
                runs, figures, embeddings = list(itertools.product(args.dtypes, variants)), {}, {}
                for _, (dtype, name) in itertools.product(range(args.rounds), runs):
                    one = measure(["_encode", name, folder, dtype, texts, str(args.count), str(args.threads)])
                    figures.setdefault((dtype, name), []).append(one)
                    embeddings[dtype, name] = np.load(Path(folder, "embeddings.npy"))
                print_encode(f"{shape}, {args.count:,} {texts} texts", figures, embeddings)


def print_encode(title: str, figures: dict, embeddings: dict) -> None:
    """One table: a line a variant. Cosines are with the first line's embeddings."""
    (_, (one, *_)), *_ = figures.items()
    rounds = len(next(iter(figures.values())))
    print(f"\n{title} (median {one['median']:.0f} tokens), {one['device']}, {rounds} round{'s' * (rounds > 1)}")
    print(f"{'':<40}{'seconds':>9}{'tokens/s':>10}{'of limit':>9}{'to ours':>9}{'peak MB':>9}{'start s':>9}{'lowest cosine':>15}")
    reference = next(iter(embeddings.values()))
    for (dtype, name), found in figures.items():
        seconds, peak, start, share = (np.median([one[key] for one in found]) for key in ("seconds", "peak", "start", "share"))
        ratio = np.median([a["seconds"] / b["seconds"] for a, b in zip(found, figures[dtype, "ours"], strict=True)])
        line = f"{f'{name}, {dtype}':<40}{seconds:>9.2f}{one['tokens'] / seconds:>10,.0f}{share:>9.0%}{ratio:>9.2f}"
        print(f"{line}{peak:>9,.0f}{start:>9.2f}{(embeddings[dtype, name] * reference).sum(1).min():>15.6f}", flush=True)


def _encode(name: str, folder: str, dtype: str, kind: str, count: str, threads: str) -> None:
    """The process of one figure. `start` is from before the variant's imports until it can be called."""
    torch.set_num_threads(int(threads))
    texts, model, start = real_texts(kind, int(count)), Path(folder, "model"), time.perf_counter()
    encode = ENCODE[name][1](model, dtype)
    start = time.perf_counter() - start
    config, device = e5nl.parse_config(model), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    limits = [product_limit(config, getattr(torch, dtype), device)]
    encode(texts[:64])  # warm up
    embeddings, figures = timed(lambda: encode(texts))
    limits.append(product_limit(config, getattr(torch, dtype), device))  # before and after: others may use the machine too
    np.save(Path(folder, "embeddings.npy"), embeddings)
    lengths = [len(one) for one in e5nl.read_tokenizer(model)(texts, "passage: ", config.max_length)]
    shape = config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size
    figures["share"] = operations(shape, [(1, length) for length in lengths]) / figures["seconds"] / np.mean(limits)
    processor = torch.cuda.get_device_name() if device.type == "cuda" else f"{threads} threads"
    print(json.dumps(figures | {"start": start, "tokens": sum(lengths), "median": np.median(lengths), "device": processor}))


# --- train --------------------------------------------------------------------------------------------------------------------


def training_rows(count: int) -> list[Row]:
    """Short queries (titles), passages of up to 500 tokens (questions in parliament), a negative from another row."""
    rows = read_source(ROOT / "demo" / "train" / "dekamer_title_question.jsonl.gz").rows
    rows = [Row(row.query, row.pos[:1], other.pos[:1]) for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]
    return random.Random(0).sample(rows, count)


def train_ours(folder, dtype: str, batch: int) -> Iterator[None]:
    model, tokenizer = e5nl.load(folder)
    sources = [Source("bench", "retrieval", training_rows(batch))]  # every step has all the rows, as the others' have
    yield from (None for _ in e5nl.train(model, tokenizer, sources, batch_size=batch, dtype=getattr(torch, dtype), steps=100, masks=False))


def train_sentence_transformers(folder, dtype: str, batch: int, cached: bool) -> Iterator[None]:
    from sentence_transformers import SentenceTransformer, losses

    model, rows = SentenceTransformer(str(folder)).train(), training_rows(batch)
    model.max_seq_length = 500
    cached_loss = losses.CachedMultipleNegativesRankingLoss
    loss_of = cached_loss(model, scale=50, mini_batch_size=32) if cached else losses.MultipleNegativesRankingLoss(model, scale=50)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, weight_decay=0.1)
    for _ in range(100):
        texts = zip(*(("query: " + row.query, "passage: " + row.pos[0], "passage: " + row.neg[0]) for row in rows), strict=True)
        features = [model.tokenize(list(column)) for column in texts]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):  # around backward too: the cached loss embeds again in it
            loss_of(features, None).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield


TRAIN = {
    "ours": ((), train_ours),
    "sentence-transformers, cached": (("sentence_transformers", "datasets"), lambda *given: train_sentence_transformers(*given, True)),
    "sentence-transformers": (("sentence_transformers", "datasets"), lambda *given: train_sentence_transformers(*given, False)),
}


def bench_train(args) -> None:
    variants = [name for name, (packages, _) in TRAIN.items() if all(map(importlib.util.find_spec, packages))]
    print(f"measured: {'; '.join(variants)}; not installed: {'; '.join(name for name in TRAIN if name not in variants) or 'none'}")
    with tempfile.TemporaryDirectory() as folder:
        make_model(args.shape, Path(folder, "250002"))
        whole_model = trim_vocab.read_model(Path(folder, "250002"))
        Path(folder, "50002").mkdir()
        kept = np.array([*range(50_001), 250_001])  # the special tokens among them
        trim_vocab.write_model(whole_model, Path(folder, "50002"), kept)
        for pieces, batch in itertools.product(args.pieces, args.batches):
            figures = {}
            for _, dtype, name in itertools.product(range(args.rounds), args.dtypes, variants):
                if batch <= args.uncached or name != "sentence-transformers":
                    found = measure(["_train", name, str(Path(folder, str(pieces))), dtype, str(batch), str(args.threads)])
                    figures.setdefault((dtype, name), []).append(found)
            one = next(iter(figures.values()))[0]
            print(f"\n{args.shape}, {pieces:,} pieces, batch {batch}, {one['device']}, {args.rounds} round{'s' * (args.rounds > 1)}")
            print(f"{'':<40}{'seconds a step':>15}{'rows/s':>9}{'to ours':>9}{'peak MB':>9}")
            for (dtype, name), found in figures.items():
                seconds, peak = (np.median([figure[key] for figure in found]) for key in ("seconds", "peak"))
                ratio = np.median([a["seconds"] / b["seconds"] for a, b in zip(found, figures[dtype, "ours"], strict=True)])
                print(f"{f'{name}, {dtype}':<40}{seconds:>15.2f}{batch / seconds:>9.1f}{ratio:>9.2f}{peak:>9,.0f}", flush=True)


def _train(name: str, folder: str, dtype: str, batch: str, threads: str) -> None:
    """The process of one figure: the second step of a run, in which the optimizer's state exists."""
    torch.set_num_threads(int(threads))
    steps = TRAIN[name][1](folder, dtype, int(batch))
    next(steps)
    _, figures = timed(lambda: next(steps))
    print(json.dumps(figures | {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{threads} threads"}))


# --- mine: each variant gives the negatives' numbers (rows, NEGATIVES), -1 where there are too few -----------------------------


def mine_ours(q: np.ndarray, p: np.ndarray, precision: str) -> np.ndarray:
    rows = [Row(f"q{i}", (f"p{i}",), ()) for i in range(len(q))]
    texts = mine.collect(Source("bench", "retrieval", rows))
    found = mine.judge(texts, q, p, search.top_k(q, p, TOP, precision=precision), "min")
    columns, _ = mine.choose(found.scores, found.known, found.positives, "topk-percpos", margin=0.95, negatives=NEGATIVES)
    return np.where(columns >= 0, np.take_along_axis(found.candidates, columns, 1), -1)


def mine_sentence_transformers(q: np.ndarray, p: np.ndarray, faiss: bool) -> np.ndarray:
    import datasets
    from sentence_transformers.util import mine_hard_negatives

    class Model:
        device = "cpu"

        def encode(self, texts, **_):
            return (q if texts[0][0] == "q" else p)[[int(text[1:]) for text in texts]]

        encode_query = encode_document = encode

        def get_embedding_dimension(self):
            return q.shape[1]

        def similarity(self, a, b):
            return torch.as_tensor(a) @ torch.as_tensor(b).T

        def similarity_pairwise(self, a, b):
            return (torch.as_tensor(a) * torch.as_tensor(b)).sum(-1)

    rows = datasets.Dataset.from_dict({"query": [f"q{i}" for i in range(len(q))], "passage": [f"p{i}" for i in range(len(p))]})
    options = {"relative_margin": 0.05, "num_negatives": NEGATIVES, "output_format": "n-tuple", "batch_size": 16384}
    found = mine_hard_negatives(rows, Model(), use_faiss=faiss, verbose=False, **options)
    negatives = np.full((len(q), NEGATIVES), -1)
    numbers = [int(query[1:]) for query in found["query"]]
    for column in range(NEGATIVES):
        negatives[numbers, column] = [int(text[1:]) for text in found[f"negative_{column + 1}"]]
    return negatives


def products_alone(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The float32 matrix product that an exact search cannot do without, in the same chunks."""
    q, p = torch.from_numpy(q), torch.from_numpy(p)
    buffer = torch.empty(512 * 2048)
    for a in p.split(2048):
        for b in q.split(512):
            torch.mm(b, a.T, out=buffer[: len(b) * len(a)].view(len(b), len(a)))
    return np.empty((0, NEGATIVES), int)


MINE = {
    "ours, float32": ((), lambda q, p: mine_ours(q, p, "float32")),
    "ours, bfloat16 candidates": ((), lambda q, p: mine_ours(q, p, "bfloat16")),
    "sentence-transformers": (("sentence_transformers", "datasets"), lambda q, p: mine_sentence_transformers(q, p, False)),
    "sentence-transformers, faiss": (("sentence_transformers", "datasets", "faiss"), lambda q, p: mine_sentence_transformers(q, p, True)),
    "matrix product alone": ((), products_alone),
}


def bench_mine(args) -> None:
    variants = [name for name, (packages, _) in MINE.items() if all(map(importlib.util.find_spec, packages))]
    missing = [name for name in MINE if name not in variants]
    print(f"measured: {'; '.join(variants)}{'; not installed: ' + '; '.join(missing) if missing else ''}")
    for threads in args.threads:
        for rows in args.rows:
            figures, negatives = {name: [] for name in variants}, {}
            with tempfile.TemporaryDirectory() as folder:
                for _ in range(args.rounds):
                    for name in variants:
                        out = Path(folder) / "negatives.npy"
                        figures[name].append(measure(["_mine", name, str(rows), str(threads), str(out)]))
                        negatives[name] = np.load(out)
            print(f"\n{rows:,} x {rows:,}, {WIDTH} wide, {threads} thread{'s' * (threads > 1)}, {args.rounds} rounds")
            print(f"{'':<30}{'seconds':>9}{'extra MB':>10}{'to ours':>9}{'rows that differ':>18}")
            for name in variants:
                seconds, memory = (np.median([one[what] for one in figures[name]]) for what in ("seconds", "megabytes"))
                ratio = np.median([a["seconds"] / b["seconds"] for a, b in zip(figures[name], figures["ours, float32"], strict=True)])
                differ = (negatives[name] != negatives["ours, float32"]).any(1).sum() if len(negatives[name]) else "-"
                print(f"{name:<30}{seconds:>9.2f}{memory:>10.0f}{ratio:>9.2f}{differ:>18}", flush=True)


def _mine(name: str, rows: str, threads: str, out: str) -> None:
    """The process of one figure."""
    torch.set_num_threads(int(threads))
    (packages, variant), (q, p) = MINE[name], pairs(int(rows))
    for package in packages:
        importlib.import_module(package)
    if "faiss" in packages:
        importlib.import_module("faiss").omp_set_num_threads(int(threads))
    variant(q[:300], p[:300])  # warm up
    np.save(out, report(lambda: variant(q, p)))


# --- search: memory is a chunk, whatever the corpus ---------------------------------------------------------------------------


def bench_search(args) -> None:
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(["_search", str(rows), str(args.queries), str(args.width), folder])
        size = rows * args.width * 2 / 1e9
        line = f"{args.queries:,} queries in {rows:,} passages, {args.width} wide, bfloat16 on disk ({size:.2f} GB), the best 100"
        print(f"{line}: {figures['seconds']:.1f} s, the whole process at most {figures['peak']:,.0f} MB")


def _search(rows: str, queries: str, width: str, folder: str) -> None:
    path = Path(folder) / "corpus.npy"
    stored = np.lib.format.open_memmap(path, "w+", np.uint16, (int(rows), int(width)))
    for start in range(0, len(stored), 1 << 16):
        part = vectors(min(1 << 16, len(stored) - start), int(width), start)
        stored[start : start + len(part)] = torch.from_numpy(part).bfloat16().view(torch.uint16).numpy()
    del stored
    corpus, q = np.load(path, mmap_mode="r"), vectors(int(queries), int(width), 1)
    report(lambda: search.top_k(q, corpus, 100))


# --- transtokenize: growth with the text and with the vocabulary ----------------------------------------------------------------


def constructed(number: int, seed: int = 0) -> list[tuple[str, str]]:
    """(made-up, Dutch) pairs: sentences of `demo/`, and their words in a cipher, some of them dropped and some moved up to three places.

    The translation of a word is `enciphered(word)`, so what an aligner should find is known.
    """
    files = sorted((Path(__file__).parent / "demo").glob("[ct]*/*.jsonl.gz"))  # corpus and train
    sentences = list(dict.fromkeys(part for text in trim_vocab.read_corpus(files) for part in re.split(r"(?<=[.?!]) +", text)))
    if number > len(sentences):
        raise InputError(f"{number:,} pairs: the bundled text has {len(sentences):,} sentences; give fewer, or your own text by --parallel")
    generator, pairs = random.Random(seed), []
    for sentence in generator.sample(sentences, number):
        words = [word for word in re.findall(r"\w+|[^\w\s]", sentence) if generator.random() > 0.05]
        order = sorted(range(len(words)), key=lambda i: i + generator.uniform(0, 3))
        pairs.append((" ".join(enciphered(words[i]) for i in order), sentence))
    return pairs


def enciphered(word: str) -> str:
    """The word in lower case, every letter another one: vowels become vowels."""
    return word.lower().translate(str.maketrans("aeioubcdfghjklmnpqrstvwxyz", "eiouacdfghjklmnpqrstvwxyzb"))


def bench_transtokenize(args) -> None:
    peer = importlib.util.find_spec("thot") is not None
    print("fast_align's model in C++: " + ("sil-thot" if peer else "not installed (pip install sil-thot)"))
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.tsv"
        read = align.read_pairs(args.parallel, args.fields) if args.parallel else constructed(max(args.pairs))
        pairs = list(itertools.islice(read, max(args.pairs)))
        if len(pairs) < max(args.pairs):
            raise InputError(f"{', '.join(args.parallel)}: {len(pairs):,} pairs; give more, or fewer by --pairs")
        text.write_text("".join(f"{a}\t{b}\n" for a, b in random.Random(0).sample(pairs, len(pairs))), encoding="utf-8")
        base = bert_shape(Path(folder) / "base", [a for a, _ in pairs])
        steps = "".join(f"{step:>7}" for step in ("read", "align", "weigh", "write"))
        print(f"{'pairs':>7}{'cells':>12}{'pieces':>8}{steps}  CPU s{'peak MB':>11}   fast_align's model")
        for number, size in itertools.product(args.pairs, args.pieces):
            target = Path(folder) / f"{size}.json"
            if not target.exists():
                target.write_bytes(wordpiece([b for _, b in pairs], size, lowercase=False).json)
            figures = measure(["_transtokenize", str(base), str(target), str(text), str(number), str(peer and size == args.pieces[0])])
            steps = "".join(f"{figures[step]:>7.2f}" for step in ("read", "align", "weigh", "write"))
            thot = f"{figures['thot']:.2f} s, one direction, 7 rounds" if "thot" in figures else ""
            print(f"{number:>7,}{figures['cells']:>12,}{size:>8,}{steps}{figures['peak']:>18,.0f}   {thot}", flush=True)


def bert_shape(folder: Path, texts: list[str]) -> Path:
    """A folder with the shape of e5-base-v2, random weights, and pieces of `texts`."""
    tokenizer = wordpiece(texts, 30_522, lowercase=True)
    config = e5nl.Config("bert", tokenizer.vocab_size, 768, 12, 12, 3072, 512, 2, 1e-12, pad_token_id=0)
    e5nl.save(e5nl.new_encoder(config, seed=1), tokenizer, folder)
    return folder


def wordpiece(texts: list[str], size: int, lowercase: bool) -> e5nl.Tokenizer:
    """A BERT tokenizer trained on texts."""
    backend = BertWordPieceTokenizer(lowercase=lowercase)
    backend.train_from_iterator(texts, vocab_size=size, show_progress=False)
    backend.post_processor = processors.BertProcessing(*((token, backend.token_to_id(token)) for token in ("[SEP]", "[CLS]")))
    return e5nl.Tokenizer(backend.to_str().encode(), {})


def _transtokenize(model: str, tokenizer: str, text: str, number: str, peer: str) -> None:
    """The process of one line: CPU seconds, in which the published times of fast_align are too. They hardly depend on other processes."""
    torch.set_num_threads(1)
    seconds, last = {}, time.process_time()

    def lap(step: str) -> None:
        nonlocal last
        now = time.process_time()
        seconds[step], last = now - last, now

    source = align.Vocabulary(e5nl.read_tokenizer(model), model)
    new, where = transtokenize.read_target(tokenizer)
    target = align.Vocabulary(new, where)
    sides = align.Text(source), align.Text(target)
    align.read_sides(*sides, itertools.islice(align.read_pairs([text]), int(number)))
    lap("read")
    pairs = align.align(*sides)
    lap("align")
    weights, _ = transtokenize.weigh(source, target, pairs, e5nl.parse_config(model).vocab_size)
    lap("weigh")
    with tempfile.TemporaryDirectory() as out:
        transtokenize.write_model(Path(model), Path(out), new, target, weights)
    lap("write")
    figures = seconds | {"peak": _peak(), "cells": int(np.dot(*(np.asarray(side.lengths) for side in sides)))}
    if peer == "True":
        figures["thot"] = fast_align(*sides)
    print(json.dumps(figures))


def fast_align(source, target) -> float:
    """CPU seconds of sil-thot for the same text, in the one direction and with the rounds that the published tool asks of fast_align."""
    from thot.alignment import FastAlignModel

    names = [[side.vocabulary.word(word) for word in side.numbers] for side in (source, target)]
    cut = [np.split(np.asarray(side.words), np.cumsum(side.lengths)[:-1]) for side in (source, target)]
    sentences = [[[name[number] or "_" for number in words.tolist()] for words in one] for name, one in zip(names, cut, strict=True)]
    start, model = time.process_time(), FastAlignModel()
    for a, b in zip(*sentences, strict=True):
        if a and b:
            model.add_sentence_pair(a, b, 1)
    model.start_training()
    for _ in range(7):
        model.train()
    model.end_training()
    return time.process_time() - start


# --- meaning: is a transtokenised encoder better than one with other rows, and than a trimmed one? -------------------------------

TOY = "--width 256 --layers 1 --heads 4 --intermediate 256 --dropout 0 --overwrite"  # the demo's
LEARN = "--batch-size 256 --tau 0.1 --lr 3e-3 --schedule decay --warmup 0.1 --weight-decay 1 --query-length 32 --passage-length 48"


def bench_meaning(args) -> None:
    """Small encoders, trained on the paraphrases in parallel text: sentences with the same translation. Scores x 100 on Dutch.

    One learns English and is transtokenised, one learns both languages in as many steps and is trimmed; then both are trained on Dutch.
    Scored on the demo's tasks, and on finding a Dutch sentence's paraphrase among those of a tenth of the text, kept from all training.
    """
    demo = Path(__file__).parent / "demo"
    pairs = list(align.read_pairs(args.parallel, args.fields))
    held = {pair: None for pair in pairs if trim_vocab.held_out(pair[0])}  # a tenth of the English sentences
    seen = {text for _, text in held}
    asked = [group[:2] for group in paraphrases(held, 1)]
    pairs = [pair for pair in pairs if pair not in held and pair[1] not in seen]
    tasks = mteb_nl.select_tasks(mteb_nl.read_tasks(demo / "tasks.json"), ["SICK-NL-STS", "CaptionRetrieval", "FAQRetrieval"])
    corpus = sorted(demo.glob("[ct]*/*.jsonl.gz"))
    english = wordpiece([text for text, _ in pairs], 8_000, lowercase=True)
    dutch = wordpiece([*(text for _, text in pairs), *trim_vocab.read_corpus(corpus)], 16_000, lowercase=False)
    config = e5nl.Config("bert", english.vocab_size, 256, 1, 4, 256, 512, 2, 1e-12, 0, 0.0, 0.0)
    scores: dict[str, list] = {}

    def score(name: str, model: e5nl.Encoder, tokenizer: e5nl.Tokenizer) -> None:
        encode = lambda texts, kind: e5nl.embed(model, tokenizer, texts, kind)  # noqa: E731
        found = [split["main_score"] for task in tasks for split, _ in evaluate.evaluate_task(task, encode).values()]
        firsts, others = (encode([texts[i] for texts in asked], "query") for i in (0, 1))
        found.append(((firsts @ others.T).argmax(1) == np.arange(len(asked))).mean())
        scores.setdefault(name, []).append([100 * one for one in found])
        print(f"{name:<32}" + "".join(f"{one:>18.2f}" for one in scores[name][-1]), flush=True)

    def call(module, *words) -> None:
        with contextlib.redirect_stdout(None):
            assert not module.main([part for word in words for part in (word.split() if isinstance(word, str) else [str(word)])])

    print(f"{'':<32}" + "".join(f"{name:>18}" for name in (*(task.name for task in tasks), "Paraphrases")))
    with tempfile.TemporaryDirectory() as name:
        at = Path(name)
        for side, language in enumerate(("en", "nl")):
            (at / f"{language}.txt").write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
            groups = paraphrases(pairs, side)
            rows = ({"query": a, "pos": [b for b in group if b != a], "type": "symmetric_sts"} for group in groups for a in group)
            write_jsonl(at / f"{language}.jsonl", rows)
        (at / "nl.json").write_bytes(dutch.json)
        text = ["--parallel", at / "en.txt", at / "nl.txt"]
        call(e5nl, "init --tokenizer", demo / "tokenizer.json.xz", f"{TOY} --out", at / "multilingual")
        call(trim_vocab, "--model", at / "multilingual", "--corpus", at / "en.txt", *corpus, "--out", at / "fewer")  # only for speed
        fewer, fewer_tokenizer = e5nl.load(at / "fewer")
        for seed in range(args.seeds):
            learn = f"{LEARN} --seed {seed} --overwrite --steps"
            e5nl.save(e5nl.new_encoder(config, seed), english, at / "english", overwrite=True)
            call(e5nl, "train --model", at / "english", "--data", at / "en.jsonl", "--out", at / "english", f"{learn} {args.steps}")
            call(transtokenize, "--model", at / "english", "--tokenizer", at / "nl.json", *text, "--overwrite --out", at / "transtokenised")
            e5nl.save(e5nl.new_encoder(fewer.config, seed), fewer_tokenizer, at / "multilingual", overwrite=True)
            data = ["--data", at / "en.jsonl", at / "nl.jsonl"]
            call(e5nl, "train --model", at / "multilingual", *data, "--out", at / "multilingual", f"{learn} {args.steps}")
            call(trim_vocab, "--model", at / "multilingual", "--corpus", *corpus, "--vocab-size 16000 --overwrite --out", at / "trimmed")

            score("English encoder as it is", *e5nl.load(at / "english"))
            for what, rows in other_rows(e5nl.load(at / "english"), e5nl.load(at / "transtokenised"), seed).items():
                model, tokenizer = e5nl.load(at / "transtokenised")
                model.words.weight.data = rows
                e5nl.save(model, tokenizer, at / what, overwrite=True)
            for name in ("random", "identity", "transtokenised", "trimmed"):
                score(name, *e5nl.load(at / name))
            for name in ("random", "identity", "transtokenised", "trimmed"):
                data = ["--data", *sorted(demo.glob("train/*.jsonl.gz"))]
                call(e5nl, "train --model", at / name, *data, "--out", at / "after", f"{learn} {args.dutch_steps}")
                score(f"{name}, trained on Dutch", *e5nl.load(at / "after"))
    print(f"\nmean of {args.seeds} seeds (standard deviation)")
    for name, found in scores.items():
        print(f"{name:<32}" + "".join(f"{mean:>11.2f} ({one:.2f})" for mean, one in zip(np.mean(found, 0), np.std(found, 0), strict=True)))


def paraphrases(pairs: Iterable[tuple[str, str]], side: int) -> list[list[str]]:
    """Groups of two and more sentences of one side that have the same translation."""
    groups: dict[str, dict] = {}
    for pair in pairs:
        groups.setdefault(pair[1 - side], {})[pair[side]] = None
    return [list(group) for group in groups.values() if len(group) > 1]


def other_rows(english, dutch, seed: int) -> dict[str, torch.Tensor]:
    """Embedding tables (V, D) to compare with: rows drawn from the encoder's; the same, but equal pieces keep their rows."""
    source, target = (align.Vocabulary(tokenizer, "") for _, tokenizer in (english, dutch))
    old = english[0].words.weight.detach()
    weights, evidence = transtokenize.weigh(source, target, [], len(old))
    drawn = old[torch.randint(len(old), (len(evidence),), generator=torch.Generator().manual_seed(seed))]
    known, evidence = torch.from_numpy(weights @ old.numpy()).float(), torch.from_numpy(evidence)[:, None]
    kinds = {"random": transtokenize.SPECIAL, "identity": transtokenize.IDENTITY}
    return {name: torch.where(evidence <= last, known, drawn) for name, last in kinds.items()}
# --- synthesize: how fast rows can be had at most, and cleaned -----------------------------------------------------------------

WORDS = "de kat zit al de hele dag op het dak en wil er niet af omdat het daar zo warm en stil is zegt zij".split()


def bench_synthesize(args) -> None:
    server = subprocess.Popen([sys.executable, __file__, "_llm"], stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        for concurrency in args.concurrency if args.rows else ():
            with tempfile.TemporaryDirectory() as folder:
                figures = measure(["_synthesize", url, str(args.rows), str(concurrency), folder])
            rate = args.rows / figures["seconds"]
            print(f"{args.rows:,} rows, {concurrency} requests at a time: {figures['seconds']:.1f} s, {rate:,.0f} rows/s", flush=True)
    finally:
        server.kill()
        server.wait()
    for rows in args.clean:
        figures = measure(["_clean", str(rows)])
        size = f"{rows:,} rows of {8 + 2 * LONG} words, a tenth of them near duplicates"
        print(f"{size}: cleaned in {figures['seconds']:.0f} s, the whole process at most {figures['peak']:,.0f} MB")


def _llm() -> None:
    """A server that answers at once, in a process of its own, and prints its address."""
    backwards = WORDS[::-1]
    triplet = {"query": " ".join(WORDS), "positive": " ".join(backwards[:20]), "negative": " ".join(backwards[1:21])}  # fits every type
    answers = {}
    for name, value in (("row", triplet), ("tasks", {"tasks": ["Given a question, retrieve a passage"]})):
        choice = {"message": {"role": "assistant", "content": json.dumps(value)}, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 200, "completion_tokens": 90}}).encode()
        answers[name] = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

        def do_POST(self):
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            self.wfile.write(answers["tasks" if b'\\"tasks\\"' in asked else "row"])

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads, request_queue_size = True, 128

    with Server(("127.0.0.1", 0), Handler) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/v1", flush=True)
        server.serve_forever()


def _synthesize(url: str, rows: str, concurrency: str, folder: str) -> None:
    options = ["--llm", "bench", "--rows", rows, "--concurrency", concurrency, "--out", str(Path(folder) / "rows.jsonl")]
    topics = ROOT / "demo" / "topics.txt"
    if report(lambda: synthesize.main(["generate", "--base-url", url, "--topics", str(topics), *options])):
        raise InputError("rows are missing")


LONG = 120  # words of a passage


def _clean(rows: str) -> None:
    generator, common = np.random.default_rng(0), synthesize.DUTCH["function_words"].split()
    vocabulary = np.array(common + [f"woord{i}" for i in range(100_000)], dtype=object)

    def triplets():
        for n in range(int(rows)):
            if n % 10 or not n:
                places = generator.integers(len(common), len(vocabulary), 8 + 2 * LONG)
                words = np.where(generator.random(len(places)) < 0.4, vocabulary[places % len(common)], vocabulary[places])
            else:  # the row before with another first word
                words[0] = f"anders{n}"
            query, pos, neg = (" ".join(part) for part in np.split(words, [8, 8 + LONG]))
            yield {"row": n, "task_type": "sl", "topic": str(n % 100), "query": query, "pos": pos, "neg": neg}

    judged = report(lambda: synthesize.judge(triplets(), synthesize.DUTCH, np.empty(0, np.uint64), 0.8, 0))
    assert 0.09 < (judged["reason"] == synthesize.NEAR).mean() < 0.11
# --- trim: the whole command, and how near counting comes to the library's own speed -----------------------------------------------

# It refuses E5's architecture and takes a masked language model's, so the copy of the model for it claims to be one.
VOCABTRIMMER = """
import sys
from vocabtrimmer import VocabTrimmer
model, text, out = sys.argv[1:]
files = {"cache_file_vocab": out + "-vocab.json", "cache_file_frequency": out + "-frequency.json"}
VocabTrimmer(model).trim_vocab("nl", out, dataset=text, dataset_split="train", **files)
"""


def write_dutch(path: Path, megabytes: int) -> None:
    """Text of the demo's corpus and training sources in random order, a line a text, again and again until it is long enough."""
    names = sorted(map(str, (ROOT / "demo").glob("corpus/*.gz"))) + sorted(map(str, (ROOT / "demo").glob("train/*.gz")))
    lines, size = [" ".join(text.split()) + "\n" for text in trim_vocab.read_corpus(names)], 0
    random.Random(1).shuffle(lines)
    path.parent.mkdir()
    with open(path, "wb") as file:
        for line in itertools.cycle(lines):
            if size >= megabytes * 1e6:
                break
            size += file.write(line.encode())


def pieces_of(folder: Path) -> set[str]:
    return {piece for piece, _ in read_json(folder / "tokenizer.json")["model"]["vocab"]}


def bench_trim(args) -> None:
    if args.peer_python and not shutil.which(args.peer_python):
        raise InputError(f"--peer-python {args.peer_python}: no such program; expected the Python of an environment with vocabtrimmer")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, peer = folder / "model", folder / "peer"
        make_model("base", model)
        shutil.copytree(model, peer, copy_function=os.link)
        write_json(peer / "config.json", read_json(model / "config.json") | {"architectures": ["XLMRobertaForMaskedLM"]})
        for size in args.megabytes:
            text = folder / str(size) / "nl.txt"
            write_dutch(text, size)
            out, theirs = folder / f"ours-{size}", folder / f"theirs-{size}"
            # As vocabtrimmer chooses: nothing held out, characters not favoured.
            options = ["--no-keep-characters", "--check", f"{ROOT}/demo/eval/captions/corpus.jsonl.gz", "--overwrite"]
            ours = [sys.executable, f"{ROOT}/trim_vocab.py", "--model", str(model), "--corpus", str(text), "--out", str(out), *options]
            variants = {"trim_vocab.py": ["_command", "{}", *ours]}
            if args.peer_python:
                environment = json.dumps({"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / f"cache-{size}")})
                command = [args.peer_python, "-c", VOCABTRIMMER, str(peer), str(text.parent), str(theirs)]
                variants["vocabtrimmer"] = ["_command", environment, *command]
            variants |= {kind: ["_count", kind, str(model), str(text)] for kind in ("counting alone", "encode_batch_fast alone")}
            figures = {name: [] for name in variants}
            for _, (name, arguments) in itertools.product(range(args.rounds), variants.items()):
                figures[name].append(measure(arguments))
            print_trim(f"{size} MB of Dutch, XLM-R base, 250,002 pieces, {os.cpu_count()} cores", figures)
            if args.peer_python:
                kept = pieces_of(out), pieces_of(theirs)
                both, alone = len(kept[0] & kept[1]), " ".join(sorted(kept[0] ^ kept[1]))
                print(f"pieces kept by both: {both:,}; by one alone: {alone or 'none'}")


def print_trim(title: str, figures: dict[str, list[dict]]) -> None:
    rounds = len(figures["trim_vocab.py"])
    print(f"\n{title}, {rounds} round{'s' * (rounds > 1)}\n{'':<28}{'seconds':>9}{'CPU s':>9}{'peak MB':>9}{'to ours':>9}")
    for name, found in figures.items():
        seconds, cpu, peak = (np.median([one[key] for one in found]) for key in ("seconds", "cpu", "peak"))
        ours = figures["counting alone" if "alone" in name else "trim_vocab.py"]
        ratio = np.median([a["seconds"] / b["seconds"] for a, b in zip(found, ours, strict=True)])
        print(f"{name:<28}{seconds:>9.2f}{cpu:>9.2f}{peak:>9,.0f}{ratio:>9.2f}", flush=True)


def _command(environment: str, *command: str) -> None:
    """The figures of a whole command, imports and all."""
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=os.environ | json.loads(environment), stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            errors.seek(0)
            raise InputError(f"{command[0]}: {(errors.read().strip() or 'killed').splitlines()[-1]}")
    peak = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(json.dumps({"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "peak": peak}))


def _count(kind: str, model: str, text: str) -> None:
    backend, cpu = model_folder.read_tokenizer(model).backend, time.process_time()
    if kind == "counting alone":
        _, figures = timed(lambda: trim_vocab.count_pieces(backend, [text], "text", lambda _: False))
    else:
        texts = list(trim_vocab.read_corpus([text]))
        cpu = time.process_time()
        _, figures = timed(lambda: [None for chunk in trim_vocab.cut_chunks(texts) if not backend.encode_batch_fast(chunk)])
    print(json.dumps(figures | {"cpu": time.process_time() - cpu}))


# --- evaluate: the same embeddings scored by evaluate.py and by mteb ------------------------------------------------------------

SCORED = {  # type: (a task of the benchmark, texts of its parts at the benchmark's sizes (retrieval: fewer), labels)
    "Classification": ("OpenTenderClassification", {"train": 20_777, "test": 5_000}, 30),
    "MultilabelClassification": ("VABBMultiLabelClassification", {"train": 6_471, "test": 3_235}, 19),
    "PairClassification": ("SICKNLPairClassification", {"test": 2_115}, 2),
    "Clustering": ("OpenTenderClusteringP2P", {"test": 4_485}, 30),
    "Reranking": ("WikipediaRerankingMultilingual", {"queries": 1_500, "corpus": 13_500}, 0),
    "Retrieval": ("VABBRetrieval", {"queries": 1_000, "corpus": 50_000}, 0),
    "STS": ("SICK-NL-STS", {"test": 4_902}, 0),
}


def scored_data(type: str) -> tuple[dict[str, list[dict]], dict[str, np.ndarray]]:
    """{table: rows} of a task, and {letter: embeddings}: the text `c12` has row 12 of the embeddings `c`. What belongs together is near."""
    _, sizes, labels = SCORED[type]
    generator = np.random.default_rng(3)

    def near(to: np.ndarray, seed: int) -> np.ndarray:
        return F.normalize(torch.from_numpy(to + 8 * vectors(len(to), WIDTH, seed))).numpy()

    if "corpus" in sizes:
        p = vectors(sizes["corpus"], WIDTH, 0)
        answers = generator.choice(len(p), sizes["queries"], replace=False)
        tables = {"corpus": [{"_id": str(i), "text": f"c{i}"} for i in range(len(p))],
                  "queries": [{"_id": f"q{i}", "text": f"q{i}"} for i in range(len(answers))],
                  "qrels": [{"query-id": f"q{i}", "corpus-id": str(answer), "score": 1} for i, answer in enumerate(answers)]}  # fmt: skip
        if type == "Reranking":
            others = [[str(answer), *map(str, generator.integers(0, len(p), 8))] for answer in answers]
            tables["top_ranked"] = [{"query-id": f"q{i}", "corpus-ids": list(dict.fromkeys(ids))} for i, ids in enumerate(others)]
        return tables, {"c": p, "q": near(p[answers], 1)}
    n = sum(sizes.values())
    if type in ("PairClassification", "STS"):
        a, label = vectors(n, WIDTH, 0), generator.integers(0, 2, n)
        b = np.where(label[:, None] == 1, near(a, 1), vectors(n, WIDTH, 2))
        what = ("score", lambda i: float(generator.integers(2, 10) / 2)) if type == "STS" else ("labels", lambda i: int(label[i]))
        return {"test": [{"sentence1": f"a{i}", "sentence2": f"b{i}", what[0]: what[1](i)} for i in range(n)]}, {"a": a, "b": b}
    label = generator.integers(0, labels, n)
    several = [sorted({int(label[i]), *map(int, generator.integers(0, labels, i % 2))}) for i in range(n)]
    label_of = (lambda i: several[i]) if type == "MultilabelClassification" else lambda i: int(label[i])
    text, name = ("sentences", "labels") if type == "Clustering" else ("text", "label")
    rows, tables = [{text: f"t{i}", name: label_of(i)} for i in range(n)], {}
    for split, count in sizes.items():
        tables[split], rows = rows[:count], rows[count:]
    return tables, {"t": near(vectors(labels, WIDTH, 0)[label], 1)}


def look_up(embeddings: dict[str, np.ndarray], texts: list[str]) -> np.ndarray:
    return embeddings[texts[0][0]][[int(text[1:]) for text in texts]]


def score_ours(type: str, tables: dict, embeddings: dict, folder: Path):
    """A function that scores the task, its data in memory already, as mteb's is."""
    task = next(task for task in mteb_nl.TASKS if task.name == SCORED[type][0])
    files = {}
    for name, rows in tables.items():
        write_jsonl(folder / f"{name}.jsonl", rows)
        if "corpus" in tables:
            files.setdefault("test", {})[name] = [folder / f"{name}.jsonl"]
        else:
            files[name] = {"rows": [folder / f"{name}.jsonl"]}
    task = dataclasses.replace(task, repository="", files=files, columns={})
    for reader in ("read_ranking",) if "corpus" in tables else ("read_columns",):
        held = {split: getattr(mteb_nl, reader)(task, split) for split in mteb_nl.splits_read(task)}
        setattr(evaluate, reader, lambda task, split, held=held: held[split])
    return lambda: evaluate.evaluate_task(task, lambda texts, kind: look_up(embeddings, texts))["test"][0]["main_score"]


def score_mteb(type: str, tables: dict, embeddings: dict, folder: Path):
    """The same with mteb's own task, its data set in memory already."""
    import datasets
    import mteb
    from sentence_transformers.util import cos_sim, pairwise_cos_sim

    class Model:
        mteb_model_meta = mteb.models.ModelMeta.create_empty({"name": "bench/numbers", "revision": "1"})
        similarity, similarity_pairwise = staticmethod(cos_sim), staticmethod(pairwise_cos_sim)

        def encode(self, inputs, **_):
            return look_up(embeddings, [text for batch in inputs for text in batch["text"]])

    (task,) = mteb.get_tasks(tasks=[SCORED[type][0]], languages=["nld"], exclusive_language_filter=True)
    (subset,) = task.hf_subsets
    if "corpus" in tables:
        qrels = {row["query-id"]: {row["corpus-id"]: row["score"]} for row in tables["qrels"]}
        corpus, queries = (datasets.Dataset.from_list(tables[name]).rename_column("_id", "id") for name in ("corpus", "queries"))
        ranked = {row["query-id"]: row["corpus-ids"] for row in tables.get("top_ranked", [])} or None
        task.dataset = {subset: {"test": {"corpus": corpus, "queries": queries, "relevant_docs": qrels, "top_ranked": ranked}}}
    else:
        content = datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in tables.items()})
        task.dataset = {subset: content} if task.metadata.is_multilingual else content
    task.data_loaded = True
    return lambda: task.evaluate(Model(), "test", encode_kwargs={"show_progress_bar": False})[subset]["main_score"]


def _evaluate(who: str, type: str, threads: str) -> None:
    """The process of one figure."""
    torch.set_num_threads(int(threads))
    with tempfile.TemporaryDirectory() as folder:
        score = (score_ours if who == "ours" else score_mteb)(type, *scored_data(type), Path(folder))
        with contextlib.redirect_stdout(sys.stderr):
            found, figures = timed(score)
    print(json.dumps(figures | {"score": float(found)}))


def bench_evaluate(args) -> None:
    who = ["ours"] + ["mteb"] * all(map(importlib.util.find_spec, ("mteb", "datasets")))
    print(f"scoring of given embeddings, {WIDTH} wide, {args.threads} threads, {args.rounds} rounds: {' and '.join(who)}")
    print(f"{'':<26}{'seconds: ours':>14}{'mteb':>8}{'mteb/ours':>11}{'extra MB: ours':>16}{'mteb':>7}{'scores differ by':>18}")
    for type in args.types:
        figures = [{one: measure(["_evaluate", one, type, str(args.threads)]) for one in who} for _ in range(args.rounds)]
        middle = {one: {what: np.median([f[one][what] for f in figures]) for what in ("seconds", "megabytes", "score")} for one in who}
        line = f"{type:<26}{middle['ours']['seconds']:>14.2f}"
        if "mteb" in who:
            ratio = np.median([f["mteb"]["seconds"] / f["ours"]["seconds"] for f in figures])
            ours, mtebs = (middle[one] for one in who)
            line += f"{mtebs['seconds']:>8.2f}{ratio:>11.2f}{ours['megabytes']:>16.0f}{mtebs['megabytes']:>7.0f}"
            line += f"{abs(mtebs['score'] - ours['score']):>18.1e}"
        print(line, flush=True)
    print("\n" + whole_benchmark())


def whole_benchmark() -> str:
    """How many tokens the 40 tasks are at most, and what that means in minutes of embedding on one GPU."""
    texts = benchmark()
    tokens = sum(count * length for count, length in texts)
    lines = [f"the 40 tasks: {sum(n for n, _ in texts):,} texts, at most {tokens / 1e6:,.0f} million tokens at 4.3 characters a token"]
    for name, shape in SHAPES.items():
        work, rates = operations(shape, texts), sustained("H200").items()
        minutes = "; ".join(f"{dtype} {work / rate / 6e13:.1f} minutes at {rate:.0f} x 10^12 a second" for dtype, rate in rates)
        lines.append(f"  {name:<6}{work / 1e15:8,.0f} x 10^15 operations: {minutes}")
    return "\n".join(lines)


# --- measuring ----------------------------------------------------------------------------------------------------------------


def measure(arguments: list[str]) -> dict:
    """Run this file for one figure; what `report` printed there."""
    result = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if result.returncode:
        raise InputError(f"{' '.join(arguments[:2])} failed: {result.stderr.strip().splitlines()[-1]}")
    return json.loads(result.stdout.splitlines()[-1])


def timed(function) -> tuple[object, dict]:
    """What `function` returns, and the wall seconds and the megabytes of memory it took at most."""
    gc.collect()
    gc.freeze()  # the garbage collector need not go through what the imports made while we measure
    before, start = _peak(), time.perf_counter()
    value = function()
    return value, {"seconds": time.perf_counter() - start, "megabytes": _peak() - before, "peak": _peak()}


def report(function):
    """Call `function`, print its figures for `measure`, return what it returned."""
    value, figures = timed(function)
    print(json.dumps(figures))
    return value


def _peak() -> float:
    """Megabytes that this process took at most. On Linux getrusage would start with those of the process that started this one."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1e3


def main(argv=None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0].startswith("_"):  # the process of one figure: a function of that name
        globals()[argv[0]](*argv[1:])
        return
    parser = argparse.ArgumentParser(description="Speed against the neighbouring projects, side by side.")
    commands = parser.add_subparsers(dest="command", required=True)
    defaults = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}
    command = commands.add_parser("encode", help="texts to embeddings, random weights in real shapes", **defaults)
    command.add_argument("--shapes", choices=list(SHAPES), nargs="+", default=["small", "base"])
    command.add_argument("--texts", choices=["short", "long"], nargs="+", default=["short", "long"])
    command.add_argument("--count", type=whole_number(64, 2048), default=2048, help="texts of each set")
    command.add_argument("--dtypes", choices=["float32", "bfloat16"], nargs="+", default=["float32", "bfloat16"])
    command.add_argument("--threads", type=whole_number(1), default=2)
    command.add_argument("--rounds", type=whole_number(1), default=3)
    command.set_defaults(run=bench_encode)
    command = commands.add_parser("train", help="a training step: seconds and memory", **defaults)
    command.add_argument("--shape", choices=list(SHAPES), default="small")
    command.add_argument("--pieces", type=int, choices=[50_002, 250_002], nargs="+", default=[50_002, 250_002])
    command.add_argument("--batches", type=whole_number(2, 1024), nargs="+", default=[32, 256])
    command.add_argument("--uncached", type=whole_number(2), default=32, help="largest batch of the loss that keeps all activations")
    command.add_argument("--dtypes", choices=["float32", "bfloat16"], nargs="+", default=["float32", "bfloat16"])
    command.add_argument("--threads", type=whole_number(1), default=2)
    command.add_argument("--rounds", type=whole_number(1), default=1)
    command.set_defaults(run=bench_train)
    command = commands.add_parser("mine", help="hard negatives, from given embeddings", **defaults)
    command.add_argument("--rows", type=whole_number(1000), nargs="+", default=[5000, 10000, 20000, 40000])
    command.add_argument("--threads", type=whole_number(1), nargs="+", default=[1, 2])
    command.add_argument("--rounds", type=whole_number(1), default=3)
    command.set_defaults(run=bench_mine)
    command = commands.add_parser("search", help="exact search in passages on disk", **defaults)
    command.add_argument("--rows", type=whole_number(1), nargs="+", default=[1_000_000], help="passages")
    command.add_argument("--queries", type=whole_number(1), default=1000)
    command.add_argument("--width", type=whole_number(1), default=64)
    command.set_defaults(run=bench_search)
    command = commands.add_parser("transtokenize", help="alignment and what follows it", **defaults)
    command.add_argument("--pairs", type=whole_number(1000), nargs="+", default=[34_000, 75_000])
    command.add_argument("--pieces", type=whole_number(1000), nargs="+", default=[8_000, 16_000, 30_000])
    command.add_argument("--parallel", nargs="+", help="parallel text; without it the demo's Dutch and a cipher of it")
    command.add_argument("--fields", nargs=2, default=["en", "nl"], help="fields of tables")
    command.set_defaults(run=bench_transtokenize)
    command = commands.add_parser("meaning", help="scores of transtokenised, random and trimmed rows", **defaults)
    command.add_argument("--parallel", nargs="+", required=True, help="English and Dutch parallel text with paraphrases, as Tatoeba's")
    command.add_argument("--fields", nargs=2, default=["en", "nl"], help="fields of tables")
    command.add_argument("--seeds", type=whole_number(1), default=3)
    command.add_argument("--steps", type=whole_number(1), default=150, help="before the change of vocabulary")
    command.add_argument("--dutch-steps", type=whole_number(1), default=60, help="after it")
    command.set_defaults(run=bench_meaning)
    command = commands.add_parser("synthesize", help="rows from a server that answers at once; cleaning", **defaults)
    command.add_argument("--rows", type=whole_number(0), default=20_000, help="to ask for")
    command.add_argument("--concurrency", type=whole_number(1, 1000), nargs="+", default=[32], help="requests at a time")
    command.add_argument("--clean", type=whole_number(1), nargs="*", default=[500_000], help="rows to clean")
    command.set_defaults(run=bench_synthesize)
    command = commands.add_parser("trim", help="vocabulary trimming", **defaults)
    command.add_argument("--peer-python", metavar="PYTHON", help="of an environment with vocabtrimmer (see the top of this file)")
    command.add_argument("--megabytes", type=whole_number(1), nargs="+", default=[5, 20], help="of text")
    command.add_argument("--rounds", type=whole_number(1), default=1)
    command.set_defaults(run=bench_trim)
    command = commands.add_parser("evaluate", help="scores of given embeddings, a task of each type", **defaults)
    command.add_argument("--types", choices=list(SCORED), nargs="+", default=list(SCORED))
    command.add_argument("--threads", type=whole_number(1), default=2)
    command.add_argument("--rounds", type=whole_number(1), default=3)
    command.set_defaults(run=bench_evaluate)
    args = parser.parse_args(argv)
    args.run(args)


if __name__ == "__main__":
    cli(main)
