"""The encoder and the model folders against transformers and sentence-transformers: the same numbers, in both directions.

    pip install -r tests/parity/requirements.txt && python -m pytest tests/parity/test_transformers.py
"""

import itertools

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as models
from transformers import AutoModel, AutoTokenizer, BertConfig, CamembertConfig, PreTrainedTokenizerFast, RobertaConfig, XLMRobertaConfig

import e5nl

TEXTS = ["", "De fiets", "Wie betaalt de kosten van een nieuwe identiteitskaart?", "é taal", "De fiets", "Het regent de hele dag. " * 40]


def reference(config_class, scale, **changes):
    """A transformers model whose every parameter is random: default weights hide swapped LayerNorms and dropped biases."""
    pad = 0 if config_class is BertConfig else 1
    shape = {"vocab_size": 212, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 88}
    shape |= {"type_vocab_size": 2, "max_position_embeddings": 514, "pad_token_id": pad, "layer_norm_eps": 3e-5}
    config = config_class(**shape, **changes)
    model = AutoModel.from_config(config).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, scale, generator=generator)
    return model


@pytest.fixture
def folder_of(tmp_path, tokenizer_json):
    def write(model):
        model.save_pretrained(tmp_path)
        (tmp_path / "tokenizer.json").write_bytes(tokenizer_json)
        size = e5nl.read_tokenizer(tmp_path).vocab_size
        assert size <= 212 <= size + e5nl.SPARE_ROWS
        return tmp_path

    return write


@pytest.mark.parametrize("scale", [0.3, 0.02])
@pytest.mark.parametrize("config_class", [BertConfig, RobertaConfig, CamembertConfig, XLMRobertaConfig])
def test_hidden_states_of_mixed_lengths(folder_of, config_class, scale):
    model = reference(config_class, scale)
    ours, _ = e5nl.load(folder_of(model))
    generator = torch.Generator().manual_seed(3)
    lengths = [512, 100, 100, 37, 8, 8, 8, 2, 1]
    texts = [torch.randint(4, 212, (length,), generator=generator) for length in lengths]
    with torch.no_grad():
        packed = ours.hidden(torch.cat(texts), [(length, len(list(run))) for length, run in itertools.groupby(lengths)]).split(lengths)
        for text, hidden in zip(texts, packed, strict=True):
            expected = model(text[None]).last_hidden_state[0]
            assert (hidden - expected).abs().max() <= 2e-5 * expected.abs().max()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_our_folder_in_their_hands(tmp_path, make_model, tokenizer, pooling):
    model = make_model(pooling=pooling, prompts=(("query", "vraag: "), ("passage", "tekst: "), ("none", "")))
    tokenizer.config |= {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    e5nl.save(model, tokenizer, tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    assert theirs.max_seq_length == model.config.max_length
    for kind, name in (("query", "query"), ("passage", "passage"), ("passage", "document"), ("none", None)):
        expected = theirs.encode(TEXTS, prompt_name=name)
        np.testing.assert_allclose(e5nl.embed(model, tokenizer, TEXTS, kind), expected, atol=2e-6)
    ids = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, truncation=True, max_length=64)["input_ids"]
    assert ids == tokenizer(TEXTS, "", 64)
    assert torch.equal(AutoModel.from_pretrained(tmp_path).embeddings.word_embeddings.weight, model.words.weight)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_their_folder_in_our_hands(tmp_path, folder_of, tokenizer_json, pooling):
    folder = folder_of(reference(XLMRobertaConfig, 0.3))
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **special).save_pretrained(folder)
    transformer = models.Transformer(str(folder), max_seq_length=512)
    modules = [transformer, models.Pooling(48, pooling_mode=pooling), models.Normalize()]
    theirs = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "vraag: "})
    theirs.save(str(tmp_path / "saved"))
    model, tokenizer = e5nl.load(tmp_path / "saved")
    assert model.config.pooling == pooling and dict(model.config.prompts)["query"] == "vraag: "
    np.testing.assert_allclose(e5nl.embed(model, tokenizer, TEXTS, "query"), theirs.encode(TEXTS, prompt_name="query"), atol=2e-6)
