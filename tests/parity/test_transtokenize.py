"""A transtokenised folder as transformers and sentence-transformers load it. Run: python -m pytest tests/parity/test_transtokenize.py

From a BERT that transformers wrote, with a pooler, to WordPiece, Unigram and byte-level BPE. Properties: AutoTokenizer gives the ids of our
own reading, and BertTokenizer those that the same vocab.txt gives it; special tokens are where the configuration says; SentenceTransformer
embeds as we do; AutoModel has every weight of the encoder but the embedding table.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizer

import e5nl
from tools import samples
from transtokenize import main

TEXTS = [
    "",
    "Wie betaalt de kosten van een nieuwe identiteitskaart?",
    "Één café (1856) in 's-Gravenhage…",
    "龍 ☃",
    "De fiets. " * 60,
]


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    return samples.constructed(3000, seed=1)


@pytest.fixture(scope="module")
def english(tmp_path_factory, pairs) -> Path:
    """A BERT with random weights as transformers and sentence-transformers write it; more rows than pieces."""
    folder, tokenizer = (
        tmp_path_factory.mktemp("english"),
        samples.wordpiece([text for text, _ in pairs], 1500, lowercase=True),
    )
    (folder / "bert").mkdir()
    (folder / "bert/tokenizer.json").write_bytes(tokenizer.json)
    torch.manual_seed(1)
    shape = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 130,
    }
    model = BertModel(BertConfig(vocab_size=tokenizer.vocab_size + 5, **shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    model.save_pretrained(folder / "bert")
    return folder / "bert"


@pytest.fixture(scope="module", params=["WordPiece", "Unigram", "BPE", "vocab.txt"])
def dutch(request, english, pairs, train_tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dutch")
    tokenizer = train_tokenizer(
        request.param if request.param != "vocab.txt" else "WordPiece",
        [text for _, text in pairs],
        1200,
    )
    if request.param == "vocab.txt":
        pieces = sorted(
            tokenizer.backend.get_vocab(), key=lambda piece: (piece in ("[PAD]", "[MASK]"), piece)
        )  # other ids than BERT's
        (folder / "vocab.txt").write_text(
            "".join(piece + "\n" for piece in pieces), encoding="utf-8"
        )
        (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    else:
        (folder / "tokenizer.json").write_bytes(tokenizer.json)
    (folder / "text.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
    main(
        [
            "--model",
            str(english),
            "--tokenizer",
            str(folder),
            "--parallel",
            str(folder / "text.tsv"),
            "--out",
            str(folder / "model"),
        ]
    )
    return folder


def test_auto_tokenizer_gives_the_same_ids(dutch):
    ours, theirs = (
        e5nl.read_tokenizer(dutch / "model"),
        AutoTokenizer.from_pretrained(dutch / "model"),
    )
    assert theirs(TEXTS, truncation=True)["input_ids"] == ours(TEXTS, "", 130)
    assert (
        len(theirs)
        == theirs.vocab_size
        == ours.vocab_size
        == AutoConfig.from_pretrained(dutch / "model").vocab_size
    )
    assert theirs.pad_token_id == AutoConfig.from_pretrained(dutch / "model").pad_token_id
    assert [theirs.cls_token_id, theirs.sep_token_id] == ours.backend.encode("").ids
    batch = theirs(["Het regent.", ""], padding=True, return_tensors="pt")
    assert batch["input_ids"][1, -1] == theirs.pad_token_id and batch["attention_mask"][1, -1] == 0
    if (dutch / "vocab.txt").exists():
        reference = BertTokenizer(str(dutch / "vocab.txt"), do_lower_case=False)
        assert reference.pad_token_id == theirs.pad_token_id > 1000
        assert [reference(text)["input_ids"] for text in TEXTS] == ours(TEXTS, "", 1000)


def test_sentence_transformers_embeds_the_same(dutch):
    model, tokenizer = e5nl.load(dutch / "model", "cpu")
    theirs = SentenceTransformer(str(dutch / "model"), device="cpu")
    expected = theirs.encode(["query: " + text for text in TEXTS], normalize_embeddings=True)
    np.testing.assert_allclose(e5nl.embed(model, tokenizer, TEXTS, "query"), expected, atol=2e-6)


def test_every_other_weight_stays(english, dutch):
    before, after = (
        AutoModel.from_pretrained(folder).state_dict() for folder in (english, dutch / "model")
    )
    table = "embeddings.word_embeddings.weight"
    assert before.keys() == after.keys() and all(
        torch.equal(before[name], after[name]) for name in before if name != table
    )
    assert after[table].shape == (e5nl.read_tokenizer(dutch / "model").vocab_size, 24)
    assert after[table].isfinite().all() and not (after[table] == 0).all(1).any()
