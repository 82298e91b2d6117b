"""A transtokenised folder as transformers and sentence-transformers load it.

    pip install -r tests/parity/requirements.txt
    python -m pytest tests/parity/test_transtokenize.py

From a BERT that transformers wrote, with a pooler, to WordPiece, Unigram and byte-level BPE, and to
the vocab.txt of a BERT, which transformers' own BertTokenizer reads as well.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertModel, BertTokenizer

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
SHAPE = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 130,
}


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    return samples.constructed(3000, seed=1)


@pytest.fixture(scope="module")
def english(tmp_path_factory, pairs) -> Path:
    """A BERT as transformers writes it, every weight random, with more rows than pieces."""
    folder = tmp_path_factory.mktemp("english")
    tokenizer = samples.wordpiece([text for text, _ in pairs], 1500, lowercase=True)
    torch.manual_seed(1)
    model = BertModel(BertConfig(vocab_size=tokenizer.vocab_size + 5, **SHAPE))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(tokenizer.json)
    return folder


@pytest.fixture(scope="module", params=["WordPiece", "Unigram", "BPE", "vocab.txt"])
def dutch(request, english, pairs, train_tokenizer, tmp_path_factory) -> Path:
    """A folder with a Dutch tokenizer, and the transtokenised `model` in it."""
    folder = tmp_path_factory.mktemp("dutch")
    kind = "WordPiece" if request.param == "vocab.txt" else request.param
    tokenizer = train_tokenizer(kind, [text for _, text in pairs], 1200)
    if request.param == "vocab.txt":
        pieces, last = tokenizer.backend.get_vocab(), ("[PAD]", "[MASK]")
        pieces = sorted(pieces, key=lambda piece: (piece in last, piece))  # other ids than BERT's
        (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
        (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    else:
        (folder / "tokenizer.json").write_bytes(tokenizer.json)
    text = "".join(f"{source}\t{target}\n" for source, target in pairs)
    (folder / "text.tsv").write_text(text, encoding="utf-8")
    options = f"--tokenizer {folder} --parallel {folder}/text.tsv --out {folder}/model"
    main(["--model", str(english), *options.split()])
    return folder


@pytest.fixture
def theirs(dutch):
    return AutoTokenizer.from_pretrained(dutch / "model")


def test_auto_tokenizer_gives_the_same_ids(dutch, theirs):
    ours = e5nl.read_tokenizer(dutch / "model")
    assert theirs(TEXTS, truncation=True)["input_ids"] == ours(TEXTS, "", 130)
    assert len(theirs) == theirs.vocab_size == ours.vocab_size


def test_special_tokens_are_where_the_configuration_says(dutch, theirs):
    config = AutoConfig.from_pretrained(dutch / "model")
    assert (theirs.vocab_size, theirs.pad_token_id) == (config.vocab_size, config.pad_token_id)
    ends = e5nl.read_tokenizer(dutch / "model").backend.encode("").ids
    assert [theirs.cls_token_id, theirs.sep_token_id] == ends
    batch = theirs(["Het regent.", ""], padding=True, return_tensors="pt")
    assert batch["input_ids"][1, -1] == theirs.pad_token_id
    assert batch["attention_mask"][1, -1] == 0


@pytest.mark.parametrize("dutch", ["vocab.txt"], indirect=True)
def test_the_tokenizer_of_a_bert_reads_vocab_txt_as_we_do(dutch, theirs):
    reference = BertTokenizer(str(dutch / "vocab.txt"), do_lower_case=False)
    assert reference.pad_token_id == theirs.pad_token_id > 1000
    ours = e5nl.read_tokenizer(dutch / "model")
    assert reference(TEXTS)["input_ids"] == ours(TEXTS, "", 1000)


def test_sentence_transformers_embeds_the_same(dutch):
    model, tokenizer = e5nl.load(dutch / "model", "cpu")
    judge = SentenceTransformer(str(dutch / "model"), device="cpu")
    expected = judge.encode([f"query: {text}" for text in TEXTS], normalize_embeddings=True)
    np.testing.assert_allclose(e5nl.embed(model, tokenizer, TEXTS, "query"), expected, atol=2e-6)
