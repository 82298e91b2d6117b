"""Small real objects that several test files need: a tokenizer trained here, encoders of uneven sizes with every weight random."""

import json
import os

import fake_server
import pytest
import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

import bench
import e5nl
import mteb_nl

os.environ["OMP_NUM_THREADS"] = "1"  # here and in processes that tests start: where others compute too, tiny products wait for threads
torch.set_num_threads(1)

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


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    """A Unigram tokenizer.json laid out as XLM-R's: <s> 0, <pad> 1, </s> 2, <unk> 3, <mask> last, truncation and padding left on."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=211, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(DUTCH * 3, trainer)
    tokenizer.add_special_tokens(["<mask>"])
    templates = {"single": "<s> $A </s>", "pair": "<s> $A </s> </s> $B </s>"}
    tokenizer.post_processor = processors.TemplateProcessing(**templates, special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.enable_truncation(max_length=5)
    tokenizer.enable_padding(length=9, pad_id=1, pad_token="<pad>")
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False).encode()


@pytest.fixture(scope="session")
def train_tokenizer():
    """train_tokenizer(kind, texts, size): a WordPiece (BERT's), Unigram (XLM-R's) or byte-level BPE (RoBERTa's) tokenizer of the texts."""

    def train(kind: str, texts: list[str], size: int) -> e5nl.Tokenizer:
        special, options = ["<s>", "<pad>", "</s>", "<unk>"], {"vocab_size": size, "show_progress": False}
        if kind == "WordPiece":
            return bench.wordpiece(texts, size, lowercase=False)
        if kind == "Unigram":
            backend = tokenizers.Tokenizer(models.Unigram())
            trainer = trainers.UnigramTrainer(unk_token="<unk>", special_tokens=special, **options)
            backend.pre_tokenizer = pre_tokenizers.Metaspace()
        else:
            backend, alphabet = tokenizers.Tokenizer(models.BPE()), pre_tokenizers.ByteLevel.alphabet()
            trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, **options)
            backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.train_from_iterator(texts, trainer)
        backend.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
        return e5nl.Tokenizer(backend.to_str().encode(), {})

    return train


@pytest.fixture
def tokenizer(tokenizer_json) -> e5nl.Tokenizer:
    return e5nl.Tokenizer(tokenizer_json, {"tokenizer_class": "PreTrainedTokenizerFast"})


@pytest.fixture
def make_model(tokenizer):
    """make_model(model_type="bert", …): an encoder in eval mode whose every parameter is random."""

    def make(scale: float = 0.3, seed: int = 1, **changes) -> e5nl.Encoder:
        values = {
            "model_type": "xlm-roberta", "vocab_size": tokenizer.vocab_size, "hidden_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 40, "max_position_embeddings": 66, "type_vocab_size": 1,
            "layer_norm_eps": 1e-5, "pad_token_id": 1,
        }  # fmt: skip
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
    e5nl.save(make_model(), tokenizer, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """hub(name, {file: bytes}, kind="dataset"): the folder of a repository in a hub cache of this test's own, the network off.

    The layout is huggingface_hub's: what this project downloads with a network lies there just so.
    """
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    mteb_nl.hub_copy.cache_clear()

    def add(name: str, files: dict[str, bytes], kind: str = "dataset", commit: str = "1234567890" * 4):
        repository = tmp_path / "hub" / f"{kind}s--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        for file, content in files.items():
            path = repository / "snapshots" / commit / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return repository / "snapshots" / commit

    return add


@pytest.fixture
def serve():
    """serve(answer): (base URL, server) of `fake_server.start`, shut down at the end."""
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
    """(made-up, Dutch) pairs."""
    return bench.constructed(4000)


@pytest.fixture(scope="session")
def english(corpus) -> e5nl.Tokenizer:
    return bench.wordpiece([text for text, _ in corpus], 3000, lowercase=True)


@pytest.fixture(scope="session")
def dutch(corpus, train_tokenizer) -> dict[str, e5nl.Tokenizer]:
    return {kind: train_tokenizer(kind, [text for _, text in corpus], 2000) for kind in ("WordPiece", "Unigram", "BPE")}
