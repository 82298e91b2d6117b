"""Small real objects that several test files need: a tokenizer made here, encoders of uneven
sizes with every weight random, a hub cache, a server.

Every fixture imports what it needs, so that a test file imports only what it tests.
"""

import collections
import json
import math
import os
import sys
import unicodedata

import pytest

# Read when torch is imported, here and in processes that tests start: on a machine that other
# people use too, tiny products would wait for threads.
os.environ["OMP_NUM_THREADS"] = "1"

DUTCH = [
    "De fiets staat tegen de muur van het oude stadhuis in Utrecht.",
    "Wie betaalt de kosten van een nieuwe identiteitskaart?",
    "Een jongen met een rode trui speelt voetbal op het plein.",
    "De minister beantwoordt de vraag over het treinverkeer tussen Brussel en Gent.",
    "Zij leest een boek over de geschiedenis van de Nederlandse taal.",
    "Hoeveel dagen vakantie krijgen leerlingen in de zomer?",
    "Het regent al de hele dag en de straten staan blank.",
    "Vraag uw huisarts om advies wanneer de klachten langer duren.",
    "query: passage: 0123456789 ,.?!",
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]  # XLM-R's, and their ids are 0 to 3


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    """A Unigram tokenizer.json laid out as XLM-R's: SPECIAL first, <mask> last; truncation and
    padding are switched on, as in published files.

    Not trained: UnigramTrainer makes other pieces each time.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    # The characters of the texts, and the strings that save most of them.
    strings = collections.Counter(
        word[start:end]
        for text in DUTCH
        for word in (f"▁{word}" for word in unicodedata.normalize("NFKC", text).split())
        for start in range(len(word))
        for end in range(start + 1, min(start + 8, len(word)) + 1)
    )
    saved = {string: (len(string) - 1) * times for string, times in strings.items()}
    ranked = sorted(strings, key=lambda string: (saved[string] > 0, -saved[string], string))
    pieces = [(string, math.log(strings[string] / strings.total())) for string in ranked]
    special = [(piece, 0.0) for piece in SPECIAL]

    tokenizer = Tokenizer(models.Unigram([*special, *pieces[: 128 - len(special)]], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.enable_truncation(max_length=5)
    tokenizer.enable_padding(length=9, pad_id=1, pad_token="<pad>")
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False).encode()


@pytest.fixture(scope="session")
def train_tokenizer():
    """train_tokenizer(kind, texts, size): a WordPiece (BERT's), Unigram (XLM-R's) or byte-level
    BPE (RoBERTa's) tokenizer of the texts."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors, trainers

    from model_folder import Tokenizer
    from tools import samples

    def train(kind: str, texts: list[str], size: int) -> Tokenizer:
        if kind == "WordPiece":
            return samples.wordpiece(texts, size, lowercase=False)

        options = {"vocab_size": size, "special_tokens": SPECIAL, "show_progress": False}
        if kind == "Unigram":
            backend = tokenizers.Tokenizer(models.Unigram())
            backend.pre_tokenizer = pre_tokenizers.Metaspace()
            trainer = trainers.UnigramTrainer(unk_token="<unk>", **options)
        else:
            backend = tokenizers.Tokenizer(models.BPE())
            backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **options)

        backend.train_from_iterator(texts, trainer)
        backend.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
        return Tokenizer(backend.to_str().encode(), {})

    return train


@pytest.fixture
def tokenizer(tokenizer_json):
    from model_folder import Tokenizer

    return Tokenizer(tokenizer_json, {"tokenizer_class": "PreTrainedTokenizerFast"})


@pytest.fixture
def make_model(tokenizer):
    """make_model(model_type="bert", …): an encoder in eval mode whose every parameter is random."""
    import torch

    import e5nl

    def make(scale: float = 0.3, seed: int = 1, **changes) -> e5nl.Encoder:
        values = {
            "model_type": "xlm-roberta",
            "vocab_size": tokenizer.vocab_size,
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 40,
            "max_position_embeddings": 66,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
            "pad_token_id": 1,
        }
        model = e5nl.Encoder(e5nl.Config(**(values | changes)))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in [*model.parameters(), model.unused_positions]:
                parameter.normal_(0, scale, generator=generator)
        return model.eval()

    return make


@pytest.fixture
def folder(tmp_path, make_model, tokenizer):
    """A small model folder on disk."""
    import e5nl

    e5nl.save(make_model(), tokenizer, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """hub(name, {file: bytes}, kind="dataset"): the folder of a repository in a hub cache of this
    test's own, in huggingface_hub's layout, with the network off."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if mteb_nl := sys.modules.get("mteb_nl"):
        mteb_nl.hub_copy.cache_clear()

    def add(name: str, files: dict[str, bytes], kind="dataset", commit="1234567890" * 4):
        repository = tmp_path / "hub" / f"{kind}s--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        snapshot = repository / "snapshots" / commit
        for file, content in files.items():
            path = snapshot / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return snapshot

    return add


@pytest.fixture
def serve():
    """serve(answer): (base URL, server) of `fake_server.start`, shut down after the test."""
    import fake_server

    servers = []

    def start(answer=None):
        url, server = fake_server.start(answer)
        servers.append(server)
        return url, server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def corpus() -> list[tuple[str, str]]:
    """(made-up, Dutch) pairs of sentences."""
    from tools import samples

    return samples.constructed(4000)


@pytest.fixture(scope="session")
def english(corpus):
    from tools import samples

    return samples.wordpiece([text for text, _ in corpus], 3000, lowercase=True)


@pytest.fixture(scope="session")
def dutch(corpus, train_tokenizer):
    texts = [text for _, text in corpus]
    return {kind: train_tokenizer(kind, texts, 2000) for kind in ("WordPiece", "Unigram", "BPE")}


@pytest.fixture
def in_process(monkeypatch):
    """The commands that demo.call runs are run in this process, whose modules are imported."""
    import contextlib
    import importlib

    import demo

    def call(command, env, stdout):
        _, _, module, *words = command
        with contextlib.redirect_stdout(stdout or sys.stdout):
            return importlib.import_module(module).main(words)

    monkeypatch.setattr(demo.subprocess, "call", call)


@pytest.fixture
def environment(monkeypatch):
    """environment({name: value}): these variables of a launcher, and no others."""
    import long_runs

    torch = "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"
    for name in (*torch, *long_runs.LAUNCHERS):
        monkeypatch.delenv(name, raising=False)
    return lambda values: [monkeypatch.setenv(*item) for item in values.items()]
