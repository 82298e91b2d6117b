"""The encoder and the model folders against transformers and sentence-transformers: the same numbers, in both directions.

pip install -r tests/parity/requirements.txt && python -m pytest tests/parity/test_transformers.py
PYTHONPATH=. python tests/parity/test_transformers.py      # writes golden_encoder.json, for the default tests
"""

import json
import tempfile
from pathlib import Path

import cases
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as models
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

import e5nl

GOLDEN = Path(__file__).with_name("golden_encoder.json")
TEXTS = [
    "",
    "De fiets",
    "Wie betaalt de kosten van een nieuwe identiteitskaart?",
    "é taal",
    "De fiets",
    "Het regent de hele dag. " * 40,
]


def their_hidden_states(folder, texts: list[list[int]]) -> list[torch.Tensor]:
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        return [model(torch.tensor([ids])).last_hidden_state[0] for ids in texts]


@pytest.mark.parametrize("model_type, scale", cases.ENCODERS)
def test_hidden_states_of_mixed_lengths(tmp_path, tokenizer_json, model_type, scale):
    texts = cases.write_encoder(model_type, scale, tmp_path, tokenizer_json)
    model, _ = e5nl.load(tmp_path)
    theirs, golden = (
        their_hidden_states(tmp_path, texts),
        json.loads(GOLDEN.read_text())[f"{model_type} {scale}"],
    )
    with torch.no_grad():
        ours = model.hidden(torch.tensor(sum(texts, [])), cases.LENGTHS).split(cases.LENGTHS)
    for hidden, expected, kept in zip(ours, theirs, golden, strict=True):
        assert (hidden - expected).abs().max() <= 2e-5 * expected.abs().max()
        assert (
            torch.tensor(kept) - expected[[0, -1]]
        ).abs().max() <= 2e-6 * expected.abs().max(), "golden_encoder.json is out of date"


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_our_folder_in_their_hands(tmp_path, make_model, tokenizer, pooling):
    model = make_model(
        pooling=pooling, prompts=(("query", "vraag: "), ("passage", "tekst: "), ("none", ""))
    )
    tokenizer.config |= {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
    }
    e5nl.save(model, tokenizer, tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    assert theirs.max_seq_length == model.config.max_length
    for kind, name in (
        ("query", "query"),
        ("passage", "passage"),
        ("passage", "document"),
        ("none", None),
    ):
        expected = theirs.encode(TEXTS, prompt_name=name)
        np.testing.assert_allclose(e5nl.embed(model, tokenizer, TEXTS, kind), expected, atol=2e-6)
    ids = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, truncation=True, max_length=64)[
        "input_ids"
    ]
    assert ids == tokenizer(TEXTS, "", 64)
    assert torch.equal(
        AutoModel.from_pretrained(tmp_path).embeddings.word_embeddings.weight, model.words.weight
    )


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_their_folder_in_our_hands(tmp_path, tokenizer_json, pooling):
    folder = tmp_path
    cases.write_encoder("xlm-roberta", 0.3, folder, tokenizer_json)
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), **special
    ).save_pretrained(folder)
    transformer = models.Transformer(str(folder), max_seq_length=512)
    modules = [transformer, models.Pooling(48, pooling_mode=pooling), models.Normalize()]
    theirs = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "vraag: "})
    theirs.save(str(tmp_path / "saved"))
    model, tokenizer = e5nl.load(tmp_path / "saved")
    assert model.config.pooling == pooling and dict(model.config.prompts)["query"] == "vraag: "
    np.testing.assert_allclose(
        e5nl.embed(model, tokenizer, TEXTS, "query"),
        theirs.encode(TEXTS, prompt_name="query"),
        atol=2e-6,
    )


def write_golden() -> None:
    """The hidden states of every text's first and last token."""
    golden, tokenizer_json = {}, b"{}"  # no text is tokenised
    for model_type, scale in cases.ENCODERS:
        with tempfile.TemporaryDirectory() as folder:
            texts = cases.write_encoder(model_type, scale, Path(folder), tokenizer_json)
            states = [hidden[[0, -1]].tolist() for hidden in their_hidden_states(folder, texts)]
            golden[f"{model_type} {scale}"] = [
                [[float(f"{value:.7g}") for value in row] for row in rows] for rows in states
            ]
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    write_golden()
