"""e5nl.py: the encoder against a slow one written from the formulas, strict loading, embed(), InfoNCE by hand, exact gradients.

    python -m pytest tests/test_e5nl.py

Comparisons with transformers and sentence-transformers stand in tests/parity/.
"""

import doctest
import gzip
import itertools
import json
import lzma
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import tokenizers
import torch
from parity import cases
from safetensors.torch import load_file, save_file
from tokenizers import models, normalizers, pre_tokenizers, processors

import data
import e5nl
import files
import model_folder
from data import Row, Source
from files import InputError


def slow_hidden(model: e5nl.Encoder, ids: list[int]) -> torch.Tensor:
    """One text, head by head and token by token, in float64, from the formulas of BERT (arXiv 1810.04805) and attention (1706.03762)."""
    w = {name: tensor.double() for name, tensor in model.state_dict(keep_vars=True).items()}
    config, eps = model.config, model.config.layer_norm_eps

    def norm(x, name):
        standard = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
        return standard * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = torch.stack([w["words.weight"][i] + w["positions.weight"][n] + w["types.weight"][0] for n, i in enumerate(ids)])
    x = norm(x, "norm")
    for i in range(config.num_hidden_layers):
        queries, keys, values = linear(x, f"layers.{i}.qkv").split(config.hidden_size, dim=1)
        size, heads = config.hidden_size // config.num_attention_heads, []
        for head in range(config.num_attention_heads):
            q, k, v = (part[:, head * size : (head + 1) * size] for part in (queries, keys, values))
            heads.append(torch.softmax(q @ k.T / math.sqrt(size), dim=1) @ v)
        x = norm(x + linear(torch.cat(heads, 1), f"layers.{i}.out"), f"layers.{i}.attention_norm")
        up = linear(x, f"layers.{i}.up")
        x = norm(x + linear(up * 0.5 * (1 + torch.erf(up / math.sqrt(2))), f"layers.{i}.down"), f"layers.{i}.norm")
    return x


@pytest.fixture(params=[1, 4])
def rounded(request, monkeypatch):
    """Attention over texts of one length, and over texts whose lengths rounded up are equal, as on a GPU."""
    monkeypatch.setitem(e5nl.ROUND, "cpu", request.param)


@pytest.mark.parametrize("scale", [0.3, 0.02])
@pytest.mark.parametrize("model_type", ["xlm-roberta", "bert"])
def test_packed_encoder_equals_the_formulas(make_model, scale, model_type, rounded):
    model = make_model(scale, model_type=model_type, type_vocab_size=2)
    texts = [[0, 7, 9, 2], [0, 5, 5, 2], [0, 11, 2], [0, 8, 30, 4, 17, 99, 2]]
    hidden = model.hidden(torch.tensor(sum(texts, [])), [4, 4, 3, 7])
    expected = torch.cat([slow_hidden(model, ids) for ids in texts])
    assert (hidden - expected).abs().max() <= 2e-5 * expected.abs().max()
    pooled = torch.nn.functional.normalize(torch.stack([slow_hidden(model, ids).mean(0) for ids in texts]))
    torch.testing.assert_close(model(torch.tensor(sum(texts, [])), [4, 4, 3, 7]).double(), pooled, atol=2e-6, rtol=0)


@pytest.mark.parametrize("model_type, scale", cases.ENCODERS)
def test_hidden_states_are_those_of_transformers(tmp_path, tokenizer_json, model_type, scale, rounded):
    """Golden values: parity/test_transformers.py wrote them, and checks where transformers is installed that they still hold."""
    texts = cases.write_encoder(model_type, scale, tmp_path, tokenizer_json)
    golden = json.loads((Path(cases.__file__).parent / "golden_encoder.json").read_text())[f"{model_type} {scale}"]
    model, _ = e5nl.load(tmp_path)
    with torch.no_grad():
        found = model.hidden(torch.tensor(sum(texts, [])), cases.LENGTHS).split(cases.LENGTHS)
    for hidden, expected in zip(found, torch.tensor(golden), strict=True):
        assert (hidden[[0, -1]] - expected).abs().max() <= 2e-5 * expected.abs().max()


def test_cls_pooling_takes_the_first_token(make_model):
    model = make_model(pooling="cls")
    expected = slow_hidden(model, [0, 7, 9, 2])[0]
    torch.testing.assert_close(model(torch.tensor([0, 7, 9, 2]), [4])[0].double(), expected / expected.norm(), atol=2e-6, rtol=0)


def test_docstring_examples():
    results = doctest.testmod(e5nl)
    assert results.failed == 0 and results.attempted >= 1


# --- model folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "xlm-roberta", "pooling": "cls", "layer_norm_eps": 3e-4, "type_vocab_size": 3, "hidden_dropout_prob": 0.2},
        {"model_type": "bert", "pad_token_id": 0, "num_hidden_layers": 1, "attention_probs_dropout_prob": 0.3, "max_seq_length": 17},
        {"model_type": "camembert", "pad_token_id": 4, "prompts": (("query", "zoek: "), ("passage", "tekst: "), ("none", ""))},
    ],
)
def test_save_then_load_keeps_everything(tmp_path, make_model, tokenizer, changes):
    model = make_model(**changes)
    e5nl.save(model, tokenizer, tmp_path)
    again, tokenizer_again = e5nl.load(tmp_path)
    assert again.config == model.config
    assert tokenizer_again.json == tokenizer.json
    assert torch.equal(again.unused_positions, model.unused_positions) and len(model.unused_positions) == model.config.position_offset
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys() and all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())
    assert not again.training and all(parameter.requires_grad for parameter in again.parameters())


def test_the_checkpoint_has_the_names_and_shapes_of_transformers(folder):
    tensors = load_file(folder / "model.safetensors")
    assert len(tensors) == 3 + 2 + 2 * 16
    assert tensors["embeddings.position_embeddings.weight"].shape == (66, 24), "the two rows before the offset are back"
    assert tensors["encoder.layer.1.attention.self.key.bias"].shape == (24,)
    assert tensors["encoder.layer.0.intermediate.dense.weight"].shape == (40, 24)


def rewrite(folder, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_left_out_tensors_prefixes_and_half_precision_are_accepted(folder):
    before = e5nl.load(folder)[0].state_dict()

    def change(tensors):
        renamed = {f"roberta.{name}": tensor.half() for name, tensor in tensors.items()}
        tensors.clear()
        extra = ("roberta.pooler.dense.weight", "roberta.embeddings.position_ids", "lm_head.bias")
        tensors.update(renamed | {name: torch.ones(3) for name in extra})

    rewrite(folder, change)
    for name, tensor in e5nl.load(folder)[0].state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, before[name].half().float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("encoder.layer.1.attention.self.key.bias"), "tensor encoder.layer.1.attention.self.key.bias is missing"),
        (
            lambda t: t.update({"encoder.layer.2.output.dense.bias": torch.ones(24)}),
            "1 tensors have no place in 2 layers.*encoder.layer.2.output.dense.bias",
        ),
        (
            lambda t: t.update({"encoder.layer.0.output.dense.weight": torch.ones(40, 24)}),
            r"encoder.layer.0.output.dense.weight is \(40, 24\), config.json asks for \(24, 40\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(InputError, match=message):
        e5nl.load(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'; this encoder knows 'gelu' only"),
        ({"model_type": "t5"}, "model_type is 't5'; this encoder knows 'bert' or"),
        ({"hidden_size": None}, "no field 'hidden_size'"),
        ({"vocab_size": 1000}, r"tokenizer.json has \d+ pieces, config.json 1,000; the two do not belong together"),
    ],
)
def test_configurations_that_are_not_implemented_are_refused(folder, values, message):
    config = {key: value for key, value in (json.loads((folder / "config.json").read_text()) | values).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        e5nl.load(folder)


def test_a_folder_without_tokenizer_or_weights_or_configuration(folder):
    (folder / "tokenizer.json").rename(folder / "elders.json")
    with pytest.raises(InputError, match="tokenizer.json: no such file; a model folder needs it"):
        e5nl.load(folder)
    (folder / "elders.json").rename(folder / "tokenizer.json")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="pytorch_model.bin: a pickle can run any code .* convert it with: python -c"):
        e5nl.load(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match="model.safetensors: no such file"):
        e5nl.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="config.json: no such file; .* is not a model folder"):
        e5nl.load(folder)
    with pytest.raises(FileNotFoundError, match="geen_map: no such folder; expected a model folder or the name of a hub repository"):
        e5nl.load(folder / "geen_map")


def test_a_damaged_weight_file_is_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="model.safetensors: damaged or not safetensors"):
        e5nl.load(folder)


def test_shards_are_read_and_may_not_leave_the_folder(folder):
    expected = e5nl.load(folder)[0].state_dict()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = {f"model-{i}.safetensors": dict(list(tensors.items())[i::2]) for i in range(2)}
    for name, half in halves.items():
        save_file(half, folder / name)
    index = {"weight_map": {tensor: name for name, half in halves.items() for tensor in half}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in e5nl.load(folder)[0].state_dict().items())
    index["weight_map"]["x"] = "../model.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="'../model.safetensors' is not a file name inside"):
        e5nl.load(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "modules.json: module Dense is not implemented"),
        ("config.json", {"attention_probs_dropout_prob": 1.0}, "attention_probs_dropout_prob is 1.0; expected a share below 1"),
        ("config.json", {"num_attention_heads": 5}, "config.json: hidden_size 24 is not a multiple of 5 heads"),
        ("config.json", {"hidden_size": "24"}, "config.json: hidden_size is '24'; expected a whole number from 0"),
        ("config.json", {"layer_norm_eps": None}, "config.json: layer_norm_eps is None; expected a number from 0"),
        ("config_sentence_transformers.json", {"prompts": {"query": 3}}, "prompts is {'query': 3}; expected"),
    ],
)
def test_what_cannot_be_read_right_is_refused(folder, file, content, message):
    if isinstance(content, dict):
        content = json.loads((folder / file).read_text()) | content
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(InputError, match=re.escape(message)):
        e5nl.load(folder)


def test_the_longest_input_of_sentence_transformers_counts(folder):
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    model, tokenizer = e5nl.load(folder)
    long, short = e5nl.embed(model, tokenizer, ["de fiets " * 30, "de fiets " * 20], "none")
    assert abs(long - short).max() < 1e-6 and tokenizer.cut == 2 and len(model.positions.weight) == 64


def test_a_model_is_not_overwritten_unless_asked(folder, make_model, tokenizer):
    with pytest.raises(InputError, match="holds a model already; .*--overwrite"):
        e5nl.save(make_model(seed=2), tokenizer, folder)
    e5nl.save(make_model(seed=2), tokenizer, folder, overwrite=True)
    assert torch.equal(e5nl.load(folder)[0].words.weight, make_model(seed=2).words.weight)


def test_a_hub_name_is_a_folder_of_the_cache(tmp_path, monkeypatch, hub, folder, make_model):
    monkeypatch.chdir(tmp_path)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub("eigenaar/model", files, "model")
    assert torch.equal(e5nl.load("eigenaar/model@main")[0].words.weight, make_model().words.weight)
    with pytest.raises(InputError, match="niemand/bestaat-niet@main: neither here nor to be had from the hub"):
        e5nl.load("niemand/bestaat-niet@main")


# --- texts to embeddings ----------------------------------------------------------------------------------------------------

TEXTS = ["", "De fiets", "Wie betaalt de kosten van een nieuwe identiteitskaart?", "taal", "De fiets", "Het regent. " * 40, "é"]


def test_an_embedding_ignores_batch_mates_place_and_chunks(make_model, tokenizer, rounded):
    model = make_model()
    together = e5nl.embed(model, tokenizer, TEXTS, "query")
    alone = np.concatenate([e5nl.embed(model, tokenizer, [text], "query") for text in TEXTS])
    backwards = e5nl.embed(model, tokenizer, TEXTS[::-1], "query", chunk_tokens=20)[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together, backwards, atol=1e-6)
    assert together.dtype == np.float32 and together.shape == (7, 24)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 0.01, "different texts differ"


def wordpiece() -> e5nl.Tokenizer:
    """A tokenizer laid out as BERT's."""
    pieces = ["[UNK]", "[CLS]", "[SEP]", "de", "fiets", "##en", "a", "##a", "##fiets", "0", "##0"]
    backend = tokenizers.Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return e5nl.Tokenizer(backend.to_str().encode(), {})


@pytest.mark.parametrize("which", ["XLM-R", "trained here", "WordPiece", "no white space"])
def test_very_long_texts_are_cut_before_and_keep_the_same_tokens(which, tokenizer, tokenizer_json):
    """Against the whole text's tokens, on texts with odd white space, marks, long words, and spaces only here and there."""
    if which == "XLM-R":
        tokenizer = e5nl.Tokenizer(lzma.decompress((Path(__file__).parent.parent / "demo/tokenizer.json.xz").read_bytes()), {})
    elif which == "WordPiece":
        tokenizer = wordpiece()
    elif which == "no white space":
        stored = json.loads(tokenizer_json) | {"pre_tokenizer": None}
        tokenizer = e5nl.Tokenizer(json.dumps(stored).encode(), {})
        assert not tokenizer.splits_at_spaces
    generator, whole = np.random.default_rng(5), tokenizer.backend.encode
    parts = ["de fietsen", " ", "  ", "\n", "\u00a0", "\u3000", "\u0301", "ﬁ", "\u200b", "fiets" * 40, "é", ", ", "0" * 90, "query: ",
             "\t", "a " * 30]  # fmt: skip
    texts = ["".join(parts[i] for i in generator.choice(len(parts), n)) for n in (10, 200, 900, 3000, 3000, 3000)]
    texts += ["a" * 5000, "a" * 5000 + " de", " " * 9000 + "de fiets", "de" + " " * 9000, "de\n" * 3000, "aaaaaaaaaaaaaaaaaaa " * 900]
    for length in (3, 30, 200):
        ids = [whole("query: " + text).ids for text in texts]
        expected = [one if len(one) <= length else one[: length - 1] + one[-1:] for one in ids]
        tokenizer.cut = 0
        assert tokenizer(texts, "query: ", length) == expected
        assert tokenizer.cut == sum(len(one) > length for one in ids) > 5
        assert which == "no white space" or sum(len(tokenizer._start(text, length)) < len(text) for text in texts) > 5


def test_the_kind_chooses_the_stored_prefix_and_long_texts_are_cut_and_counted(make_model, tokenizer):
    model = make_model(prompts=(("query", "vraag: "), ("passage", "tekst: "), ("none", "")))
    for kind, prefix in model.config.prompts:
        texts = [prefix + text for text in TEXTS]
        np.testing.assert_array_equal(e5nl.embed(model, tokenizer, TEXTS, kind), e5nl.embed(model, tokenizer, texts, "none"))
    tokenizer.texts = tokenizer.cut = 0
    cut = e5nl.embed(model, tokenizer, TEXTS, "none", max_length=10)
    lengths = [len(tokenizer.backend.encode(text).ids) for text in TEXTS]
    assert (tokenizer.texts, tokenizer.cut) == (7, sum(length > 10 for length in lengths)) and 1 < tokenizer.cut < 7
    ids = tokenizer.backend.encode(TEXTS[5]).ids
    by_hand = model(torch.tensor(ids[:9] + ids[-1:]), [10])[0].detach().numpy()
    np.testing.assert_allclose(cut[5], by_hand, atol=1e-6)


def test_embed_refuses_what_is_no_text_and_no_kind(make_model, tokenizer):
    with pytest.raises(InputError, match="text 1 is int, not a string"):
        e5nl.embed(make_model(), tokenizer, ["a", 3], "query")
    with pytest.raises(InputError, match="kind 'document' is unknown; expected one of query, passage, none"):
        e5nl.embed(make_model(), tokenizer, ["a"], "document")
    assert e5nl.embed(make_model(), tokenizer, [], "query").shape == (0, 24)


def test_texts_are_read_as_they_are_needed(make_model, tokenizer, monkeypatch):
    """A million lines take the memory of their embeddings and of one window: what `embed` is given is gone through once, ahead by one."""
    monkeypatch.setattr(e5nl, "WINDOW", 10)
    model, taken, ahead = make_model(), [], []

    class Texts:
        def __len__(self):
            return 45

        def __iter__(self):
            for number in range(45):
                taken.append(number)
                yield TEXTS[number % 7]

    encode = e5nl.encode
    monkeypatch.setattr(e5nl, "encode", lambda *arguments: ahead.append(len(taken)) or encode(*arguments))
    found = e5nl.embed(model, tokenizer, Texts(), "query")
    assert taken == list(range(45)) and ahead[0] <= 20, "the encoder started when two windows at most were read"
    np.testing.assert_allclose(found, np.tile(e5nl.embed(model, tokenizer, TEXTS, "query"), (7, 1))[:45], atol=1e-6)


@pytest.mark.parametrize("at_once", [1, 100, 10**9])
def test_loading_in_bfloat16_is_loading_and_converting(folder, monkeypatch, at_once):
    monkeypatch.setattr(model_folder, "AT_ONCE", at_once)
    model, _ = e5nl.load(folder, dtype=torch.bfloat16)
    for (name, found), expected in zip(model.state_dict().items(), e5nl.load(folder)[0].state_dict().values(), strict=True):
        assert found.dtype == torch.bfloat16 and torch.equal(found, expected.bfloat16()), name


def test_two_processes_embed_as_one(tmp_path, folder):
    (tmp_path / "texts.txt").write_text("\n".join(f"tekst {i} " + "taal " * (i % 90) for i in range(53)))
    command = [e5nl.__file__, "embed", "--model", folder, "--input", tmp_path / "texts.txt", "--kind", "passage", "--out"]
    one = subprocess.run([sys.executable, *command, tmp_path / "one.npy"], capture_output=True, text=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    two = subprocess.run([*torchrun, *command, tmp_path / "two.safetensors"], capture_output=True, text=True)
    assert one.returncode == 0 == two.returncode, one.stderr + two.stderr
    stored = load_file(tmp_path / "two.safetensors")["embeddings"]
    np.testing.assert_allclose(stored, np.load(tmp_path / "one.npy"), atol=1e-6)
    cut = re.search("[0-9]+ texts longer than 64 tokens were cut", one.stdout)[0]
    assert cut[0] != "0" and two.stdout.count(cut) == 1, "both processes' texts are counted, and said once"


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("texts.txt", "een\n\n \ntwee woorden\n", []),
        ("texts.jsonl", '{"text": "een"}\n{"text": ""}\n{"text": " "}\n{"text": "twee woorden"}\n', []),
        ("texts.json", '{"zin": "een"}\n{"zin": ""}\n{"zin": " "}\n{"zin": "twee woorden"}\n', ["--field", "zin"]),
        ("texts.csv.gz", 'id,zin\n7,een\n8,""\n9," "\n7,twee woorden\n', ["--field", "zin"]),
        ("texts.tsv", "id\ttext\n7\teen\n8\t\n9\t \n7\ttwee woorden\n", []),
        ("texts.parquet", ["een", "", " ", "twee woorden"], []),
    ],
)
def test_row_n_of_the_embeddings_is_line_or_row_n_of_the_file(tmp_path, folder, name, content, options):
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(content.encode()))
    elif isinstance(content, list):
        pyarrow.parquet.write_table(pyarrow.table({"text": content, "id": [1, 2, 3, 4]}), path)
    else:
        path.write_text(content)
    e5nl.main(["embed", "--model", str(folder), "--input", str(path), "--kind", "query", "--out", str(tmp_path / "e.npy"), *options])
    expected = e5nl.embed(*e5nl.load(folder), ["een", "", " ", "twee woorden"], "query")
    np.testing.assert_allclose(np.load(tmp_path / "e.npy"), expected, atol=1e-6)


# --- several processes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch):
    """environment({name: value}): these variables of a launcher, and no others."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", *e5nl.STARTED_TOGETHER):
        monkeypatch.delenv(name, raising=False)
    return lambda values: [monkeypatch.setenv(*item) for item in values.items()]


def test_processes_that_any_launcher_started_join(tmp_path, folder, environment):
    """Started as srun or mpirun start them, without torchrun: they embed half each, and the first one alone prints and writes."""
    (tmp_path / "texts.txt").write_text("".join(f"tekst {i}\n" for i in range(7)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"})
    command = [sys.executable, e5nl.__file__, "embed", "--model", folder, "--input", tmp_path / "texts.txt", "--kind", "query"]
    started = [
        subprocess.Popen([*command, "--out", tmp_path / f"{rank}.npy"], stdout=subprocess.PIPE, text=True, env=os.environ | {"RANK": rank})
        for rank in ("0", "1")
    ]
    printed = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert "7 x 24 float32" in printed[0] and printed[1] == "" and not (tmp_path / "1.npy").exists()
    expected = e5nl.embed(*e5nl.load(folder), [f"tekst {i}" for i in range(7)], "query")
    np.testing.assert_allclose(np.load(tmp_path / "0.npy"), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),  # nobody to meet, so no address
        ({"SLURM_STEP_NUM_TASKS": "1"}, (0, 1)),
        ({"RANK": "1"}, "RANK is '1', WORLD_SIZE is ''; expected both, RANK from 0 to WORLD_SIZE - 1, or neither"),
        ({"WORLD_SIZE": "2"}, "RANK is '', WORLD_SIZE is '2'; expected both"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is '2', WORLD_SIZE is '2'"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK is '-1'"),
        ({"RANK": "0", "WORLD_SIZE": "twee"}, "WORLD_SIZE is 'twee'"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "29500"}, "WORLD_SIZE is 2, but MASTER_ADDR is not set"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "::1"}, "WORLD_SIZE is 2, but MASTER_PORT is not set"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE is 2: that many processes were started, but RANK and WORLD_SIZE are not set"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "SLURM_STEP_NUM_TASKS is 4: that many processes were started"),
    ],
)
def test_what_a_launcher_says(environment, values, expected):
    environment(values)
    if isinstance(expected, tuple):
        with e5nl.processes() as rank_and_world:
            assert rank_and_world == expected
        return
    with pytest.raises(InputError, match=re.escape(expected)):
        with e5nl.processes():
            pass


def test_chunks_hold_every_text_once_within_the_budget():
    lengths = [5, 2, 9, 9, 1, 30, 4]
    chunks = e5nl.cut_chunks(lengths, 13)
    assert sorted(text for chunk in chunks for text in chunk) == list(range(7))
    assert [sum(lengths[text] for text in chunk) for chunk in chunks] == [30, 9, 9, 12]
    packed = [lengths[text] for chunk in chunks for text in chunk]
    assert packed == sorted(packed, reverse=True)


# --- loss -------------------------------------------------------------------------------------------------------------------


def test_info_nce_by_hand():
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    p = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])  # row 0: positive 0, negative 1; row 1: positive 2
    tau = 0.5
    scores = [[2.0, 1.2, 0.0], [0.0, 1.6, 2.0]]
    rows = [-math.log(math.exp(s[i]) / sum(map(math.exp, s))) for s, i in zip(scores, (0, 2), strict=True)]
    loss, accuracy = e5nl.info_nce(q, p, [2, 1], tau)
    assert loss.item() == pytest.approx(sum(rows) / 2, rel=1e-6) and accuracy == 1
    own = -math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(1.2)))  # row 1 has its positive alone: loss 0
    assert e5nl.info_nce(q, p, [2, 1], tau, in_batch=torch.tensor([False, False]))[0].item() == pytest.approx(own / 2, rel=1e-6)
    half = e5nl.info_nce(q, p, [2, 1], tau, in_batch=torch.tensor([False, True]))[0].item()
    assert half == pytest.approx((own + rows[1]) / 2, rel=1e-6), "row by row, as a mixed batch needs it"
    masked = torch.tensor([[True, False, True], [False, True, True]])  # the positives (0, 0) and (1, 2) stay
    by_mask = (-math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(1.2))) - math.log(math.exp(2.0) / (math.exp(2.0) + 1))) / 2
    assert e5nl.info_nce(q, p, [2, 1], tau, masked=masked)[0].item() == pytest.approx(by_mask, rel=1e-6)


def test_equal_scores_give_the_logarithm_of_the_candidates():
    q, p = torch.ones(3, 4) / 2, torch.ones(8, 4) / 2
    assert e5nl.info_nce(q, p, [2, 5, 1], 0.02)[0].item() == pytest.approx(math.log(8), rel=1e-6)
    own = (math.log(2) + math.log(5) + math.log(1)) / 3
    assert e5nl.info_nce(q, p, [2, 5, 1], 0.02, in_batch=torch.zeros(3, dtype=torch.bool))[0].item() == pytest.approx(own, rel=1e-6)


def test_scores_stay_float32_under_autocast():
    q, p = (torch.nn.functional.normalize(torch.randn(n, 16, generator=torch.Generator().manual_seed(n)), dim=1) for n in (5, 9))
    expected = e5nl.info_nce(q, p, [2, 2, 2, 2, 1], 0.02)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(e5nl.info_nce(q, p, [2, 2, 2, 2, 1], 0.02)[0], expected)


def test_equal_texts_are_no_negatives():
    rows = [Row("a", ("A", "A2"), ("n",)), Row("b", ("B",), ("a",)), Row("c", ("A2",), ("B",))]
    passages = ["A", "n", "B", "a", "A2", "B"]  # positive and negative of each row
    expected = [
        [1, 0, 0, 1, 1, 0],  # its positive, its own query, its other positive
        [0, 0, 1, 0, 0, 1],
        [0, 0, 0, 0, 1, 0],
    ]
    assert e5nl.same_text_mask(rows, passages).int().tolist() == expected


# --- training ---------------------------------------------------------------------------------------------------------------


def test_learning_rates():
    constant = [e5nl.learning_rate(step, 10, 2.0, 4) for step in range(10)]
    assert constant == [0.5, 1.0, 1.5] + [2.0] * 7
    decay = [e5nl.learning_rate(step, 10, 2.0, 4, "decay") for step in range(10)]
    assert decay == pytest.approx([2 * math.log(n) / math.log(4) for n in (1, 2, 3, 4)] + [2 * n / 6 for n in (6, 5, 4, 3, 2, 1)])


def loss_of(embeddings):
    q, p = embeddings.split([4, 4])
    return e5nl.info_nce(q, p, [1] * 4, 0.1)


def gradients(model) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad.to_dense().clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    return found


def assert_close(a, b, tolerance):
    largest = max(tensor.abs().max() for tensor in b.values())
    assert largest > 0 and max((a[name] - b[name]).abs().max() for name in b) <= tolerance * largest


@pytest.mark.parametrize("share", [0.1, 0.5, 1 / 2**16])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    x = torch.full((999, 1001), 3.0)
    y = e5nl.dropout(x, share)
    dropped = (y == 0).double().mean().item()
    assert abs(dropped - share) < 5 * (share / x.numel()) ** 0.5 + 2**-17  # five standard deviations, and what is rounded off
    kept = y[y != 0]
    assert kept.unique().item() == pytest.approx(3 / (1 - share), rel=1e-4) and y.double().mean().item() == pytest.approx(3, rel=2e-3)
    assert (y == 0).any(0).all() or share < 0.1  # in every column: none is spared
    assert e5nl.dropout(x, 0.0).equal(x)


def test_dropout_is_drawn_anew_each_time_and_repeats_with_its_seed():
    x = torch.ones(7, 13, dtype=torch.bfloat16)
    torch.manual_seed(3)
    first, second = e5nl.dropout(x, 0.5), e5nl.dropout(x, 0.5)
    torch.manual_seed(3)
    assert e5nl.dropout(x, 0.5).equal(first) and not first.equal(second) and first.dtype == torch.bfloat16


def test_attention_step_by_step_is_attention(make_model, rounded):
    """A share of dropout that rounds to none takes the way that training takes: the result is inference's, padded runs or not."""
    model = make_model(0.2, attention_probs_dropout_prob=1e-6, hidden_dropout_prob=0.0).double()
    ids = torch.arange(5, 28)
    with torch.no_grad():
        expected, found = model.eval().hidden(ids, [9, 9, 5]), model.train().hidden(ids, [9, 9, 5])
    assert (found - expected).abs().max() < 1e-12
    model.layers[0].attention_dropout = 0.5
    with torch.no_grad():
        assert (model.hidden(ids, [9, 9, 5]) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("weights, autocast, tolerance", [(torch.float64, torch.float32, 1e-9), (torch.float32, torch.float32, 1e-5),
                                                          (torch.float32, torch.bfloat16, 1e-5)])  # fmt: skip
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_chunks_change_memory_but_not_the_gradient(make_model, tokenizer, weights, autocast, tolerance, dropout, rounded):
    """Cached gradients against the same chunks embedded once with the graph kept: dropout is replayed, also under autocast."""
    model = make_model(0.2, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout).to(weights).train()
    ids = tokenizer(TEXTS + ["nog een tekst"], "query: ", 30)
    chunks = e5nl.cut_chunks([len(one) for one in ids], 25)
    assert len(chunks) > 2
    loss, _ = e5nl.backward(model, ids, loss_of, seed=7, chunk_tokens=25, dtype=autocast)
    cached = gradients(model)
    parts = []
    for number, chunk in enumerate(chunks):
        torch.manual_seed(7 + number)
        with torch.autocast("cpu", autocast, enabled=autocast == torch.bfloat16):
            parts.append(e5nl.encode(model, ids, chunk))
    kept = loss_of(torch.cat(parts)[torch.tensor(sum(chunks, [])).argsort()])[0]
    kept.backward()
    assert loss == pytest.approx(kept.item(), rel=1e-6)
    assert_close(cached, gradients(model), tolerance)


def test_without_dropout_the_gradient_is_that_of_the_whole_batch(make_model, tokenizer, rounded):
    """Against autograd through the slow encoder, text by text; with bfloat16 products it points the same way."""
    model = make_model(0.2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).double().train()
    ids = tokenizer(TEXTS + ["nog een tekst"], "query: ", 30)
    slow = torch.stack([slow_hidden(model, one).mean(0) for one in ids])
    loss_of(torch.nn.functional.normalize(slow))[0].backward()
    expected = gradients(model)
    for chunk_tokens in (25, 10**6):
        e5nl.backward(model, ids, loss_of, seed=7, chunk_tokens=chunk_tokens, dtype=torch.float32)
        assert_close(gradients(model), expected, 1e-9)
    e5nl.backward(model.float(), ids, loss_of, seed=7, chunk_tokens=25, dtype=torch.bfloat16)
    found, wanted = (torch.cat([grad.flatten().double() for grad in grads.values()]) for grads in (gradients(model), expected))
    assert torch.cosine_similarity(found, wanted, dim=0) > 0.99


def sources() -> list[Source]:
    words = "fiets muur taal boek trein vraag kosten plein zomer regen huisarts advies".split()
    rows = [Row(f"waar is de {a} met {b}", (f"{b} bij {a}",), (f"{b} is weg",)) for a in words for b in words if a != b]
    return [Source("waar", "retrieval", rows[:90]), Source("zelfde", "symmetric_sts", rows[90:], batch_factor=0.5)]


def test_training_learns_and_is_repeatable(make_model, tokenizer):
    def run(**settings):
        model = e5nl.new_encoder(make_model().config, seed=3)
        lines = list(e5nl.train(model, tokenizer, sources(), **({"batch_size": 12, "lr": 3e-3, "steps": 30, "warmup": 0.1} | settings)))
        return model.state_dict(), lines

    weights, lines = run()
    assert np.mean([line["loss"] for line in lines[-6:]]) < 0.5 * np.mean([line["loss"] for line in lines[:6]])
    assert {(line["source"], line["rows"]) for line in lines} == {("waar", 12), ("zelfde", 6)}
    again, lines_again = run()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    other, _ = run(seed=43)
    assert not torch.equal(weights["words.weight"], other["words.weight"])


def test_one_epoch_goes_once_over_the_data(make_model, tokenizer):
    lines = list(e5nl.train(make_model(0.05), tokenizer, sources(), batch_size=12, epochs=2))
    assert len(lines) == lines[0]["steps"] == 2 * (90 // 12 + 42 // 6)


def test_training_stops_before_the_weights_change_when_the_loss_is_not_finite(make_model, tokenizer):
    model = make_model()
    with torch.no_grad():
        model.norm.bias[0] = torch.nan
    before = model.words.weight.clone()
    with pytest.raises(InputError, match=r"step 1, source (waar|zelfde), rows \[.*: loss nan, gradient norm"):
        next(e5nl.train(model, tokenizer, sources(), batch_size=12))
    assert torch.equal(model.words.weight, before)


def test_decay_spares_biases_and_layer_norm(make_model):
    matrices, others = e5nl.new_optimizer(make_model(), 0.1).param_groups
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in matrices["params"]} == {2} and {p.ndim for p in others["params"]} == {1}
    with pytest.raises(AssertionError, match="bfloat16 weights"):
        e5nl.new_optimizer(make_model().bfloat16(), 0.1)


def test_a_ruined_model_is_not_saved(tmp_path, folder, monkeypatch):
    """The check before a step cannot see what the last step does."""
    source = tmp_path / "bron.jsonl"
    source.write_text("".join(json.dumps({"query": f"vraag {i}", "pos": [f"antwoord {i}"]}) + "\n" for i in range(4)))

    def ruin(model, *_, **__):
        model.norm.bias.data[3] = torch.nan
        yield {"step": 1, "steps": 1, "source": "bron", "rows": 4, "tokens": 9, "loss": 0.1, "lr": 0.1, "masked": 0.0}

    ruin.__kwdefaults__ = e5nl.train.__kwdefaults__
    monkeypatch.setattr(e5nl, "train", ruin)
    with pytest.raises(InputError, match="the last step made norm.bias infinite or NaN, so no model was written; lower --lr"):
        e5nl.main(["train", "--model", str(folder), "--data", str(source), "--out", str(tmp_path / "out"), "--batch-size", "4"])
    assert not (tmp_path / "out/config.json").exists() and not (tmp_path / "out/model.safetensors").exists()


def test_too_little_data_for_one_batch(make_model, tokenizer):
    with pytest.raises(InputError, match="no source fills one batch: 90 rows at most, batches of 50 and more; lower --batch-size"):
        next(e5nl.train(make_model(), tokenizer, sources(), batch_size=100))


@pytest.mark.parametrize(
    ("settings", "of_source", "refused"),
    [
        ({}, {}, ""),
        ({"batch_size": 2}, {}, ""),  # of `zelfde` one row a batch, which has a negative of its own
        ({}, {"in_batch_negatives": False}, ""),
        ({"negatives": 0}, {}, ""),
        ({"negatives": 0}, {"in_batch_negatives": False, "negatives": 1}, ""),
        ({"negatives": 0, "in_batch": "always"}, {"in_batch_negatives": False}, ""),
        ({"negatives": 0}, {"in_batch_negatives": False}, "42 of 42 rows of zelfde (in_batch_negatives: false)"),
        ({}, {"in_batch_negatives": False, "negatives": 0}, "42 of 42 rows of zelfde (in_batch_negatives: false)"),
        ({"batching": "mixed"}, {"in_batch_negatives": False, "negatives": 0}, "42 of 42 rows of zelfde (in_batch_negatives: false)"),
        ({}, {"in_batch_negatives": False, "rows": 5}, "5 of 42 rows of zelfde (in_batch_negatives: false)"),
        ({"batch_size": 2, "in_batch": "always"}, {"rows": 5}, "5 of 42 rows of zelfde (batches of 1 row)"),
        ({"batch_size": 2, "batching": "mixed"}, {"rows": 5}, ""),
        ({"batch_size": 1, "negatives": 0}, {}, "90 of 90 rows of waar (batches of 1 row), 42 of 42 rows of zelfde (batches of 1 row)"),
    ],
)
def test_rows_that_are_compared_with_nothing_are_refused(make_model, tokenizer, settings, of_source, refused):
    """Their loss would be 0 to the end. `rows`: so many of the source have no negatives."""
    waar, zelfde = sources()
    bare = of_source.get("rows", 0)
    rows = [row._replace(neg=()) for row in zelfde.rows[:bare]] + zelfde.rows[bare:]
    given = [waar, zelfde._replace(**of_source | {"rows": rows})]
    steps = e5nl.train(make_model(0.05), tokenizer, given, **{"batch_size": 12, "epochs": 1} | settings)
    if not refused:
        assert all(line["loss"] > 0 for line in itertools.islice(steps, 3))
        return
    with pytest.raises(InputError, match=re.escape(f"no negatives for {refused}: their loss would be 0; mine negatives")):
        next(steps)


def test_a_run_that_would_teach_nothing_leaves_no_folder(tmp_path, training, capsys):
    (tmp_path / "los.jsonl").write_text('{"query": "a", "pos": ["b"]}\n' * 12)
    files.write_json(tmp_path / "m.json", {"sources": [{"file": "los.jsonl", "in_batch_negatives": False}]})
    for changes in ([], ["--recipe", "stated"], ["--batching", "mixed"]):
        with pytest.raises(InputError, match=r"no negatives for 12 of 12 rows of los \(in_batch_negatives: false\)"):
            e5nl.main(training("uit", "--data", tmp_path / "m.json", *changes))
        assert not (tmp_path / "uit").exists()
    data.main(["check", str(tmp_path / "m.json")])
    assert "training stops here: no negatives for 12 of 12 rows of los (in_batch_negatives: false)" in capsys.readouterr().out
    e5nl.main(training("uit", "--data", tmp_path / "m.json", "--recipe", "released", "--steps", 1))


def test_a_source_that_fills_no_batch_is_said(tmp_path, training, capsys):
    said = "zelfde: none of its 42 rows will be seen, since a batch takes 43; lower --batch-size, give it a smaller batch_factor"
    data.main(["check", str(tmp_path / "waar.jsonl"), str(tmp_path / "zelfde.jsonl"), "--batch-size", "86"])
    assert said in capsys.readouterr().out
    for options, count in ((["--batch-size", 86], 1), (["--batch-size", 85], 0), (["--batch-size", 86, "--batching", "mixed"], 0)):
        e5nl.main(training("uit", *options, "--steps", 1, "--overwrite"))
        assert capsys.readouterr().out.count(said) == count


def test_mixed_batches_learn_from_all_sources_at_once(make_model, tokenizer):
    some = sources()
    some[1] = some[1]._replace(in_batch_negatives=False)
    lines = list(e5nl.train(make_model(0.05), tokenizer, some, batch_size=12, batching="mixed"))
    assert len(lines) == lines[0]["steps"] == 132 // 12 and {(line["source"], line["rows"]) for line in lines} == {("mixed", 12)}


# --- checkpoints and several processes ----------------------------------------------------------------------------------------


@pytest.fixture
def training(tmp_path, tokenizer_json):
    """training(out, *arguments): the command of a small run with dropout, to be started as a process."""
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json)
    for source in sources():
        lines = ({"query": row.query, "pos": row.pos, "neg": row.neg, "type": source.type} for row in source.rows)
        files.write_jsonl(tmp_path / f"{source.name}.jsonl", lines)
    new_base(tmp_path)

    def command(out, *arguments) -> list[str]:
        given = ("--model", tmp_path / "base", "--data", tmp_path / "waar.jsonl", tmp_path / "zelfde.jsonl", "--out", tmp_path / out)
        fixed = ("--batch-size", 12, "--steps", 40, "--lr", 0.01, "--chunk-tokens", 100, "--save-every", 1, "--every", 1)
        return [str(word) for word in ("train", *given, *fixed, *arguments)]

    return command


def new_base(folder, *arguments, name="base") -> None:
    sizes = ("--width", 16, "--layers", 1, "--heads", 2)
    e5nl.main([*map(str, ("init", "--tokenizer", folder / "tokenizer.json", "--out", folder / name, *sizes, *arguments))])


def start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, e5nl.__file__, *command], stdout=subprocess.PIPE, text=True)


def log_of(folder) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "seconds"} for _, line in files.read_jsonl(folder / "log.jsonl")]


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path, training, capsys):
    """SIGKILL at any moment, with a checkpoint written at every step: often in the middle of one."""
    for number, delay in enumerate((0.004, 0.011)):
        process = start(training("parts", *["--resume"] * number))
        for line in process.stdout:
            if line.startswith(f"step {9 * number + 8}/"):
                time.sleep(delay)
                process.kill()
        assert process.wait() == -signal.SIGKILL
    e5nl.main(training("parts", "--resume"))
    assert 15 <= int(re.search("going on after step ([0-9]+)\n", capsys.readouterr().out)[1]) < 40
    e5nl.main(training("whole"))
    assert (tmp_path / "parts/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")
    assert [path.name for path in sorted((tmp_path / "whole/checkpoints").iterdir())] == ["step-00000038", "step-00000039"]


def test_a_run_that_is_told_to_stop_writes_a_checkpoint_and_goes_on(tmp_path, training):
    process = start(training("uit", "--save-every", 1000))
    for line in process.stdout:
        if line.startswith("step 5/"):
            process.terminate()
            break
    printed = process.stdout.read()
    assert process.wait() == 143 and re.search("stopped after step [0-9]+ of 40; the same command with --resume goes on", printed)
    assert not (tmp_path / "uit/config.json").exists()
    new_base(tmp_path, "--seed", 1, name="other")
    for change, message in {
        (): "holds a run that has not ended; add --resume to go on with it",
        ("--resume", "--tau", "0.3"): "cannot go on: tau was 0.02, now 0.3",
        ("--resume", "--model", tmp_path / "other"): "cannot go on: weights was",
        ("--resume", "--data", tmp_path / "waar.jsonl"): "cannot go on: the data of zelfde was other",
    }.items():
        with pytest.raises(InputError, match=message):
            e5nl.main(training("uit", *change))
    with pytest.raises(SystemExit, match="2"):  # to go on and to begin anew
        e5nl.main(training("uit", "--resume", "--overwrite"))
    e5nl.main(training("uit", "--resume", "--save-every", 7))
    assert [line["step"] for line in log_of(tmp_path / "uit")] == list(range(1, 41))


def test_two_processes_give_the_gradient_of_one(tmp_path, training):
    """AdamW's first moment after one step is a tenth of the gradient. 11 rows, so that the processes have unequal shares."""
    new_base(tmp_path, "--dropout", 0, name="no-dropout")
    changes = ["--model", tmp_path / "no-dropout", "--clip", 1e9, "--steps", 2, "--batch-size", 11, "--negatives", 2]
    e5nl.main(training("one", *changes))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", e5nl.__file__]
    two = subprocess.run([*torchrun, *training("two", *changes)], capture_output=True, text=True)
    assert two.returncode == 0 and two.stdout.count("step 1/2") == 1, two.stderr
    one, two = (load_file(tmp_path / out / "checkpoints/step-00000001/optimizer.safetensors") for out in ("one", "two"))
    one, two = (torch.cat([tensor.flatten() for name, tensor in sorted(all.items()) if name.endswith("exp_avg")]) for all in (one, two))
    assert (one - two).norm() <= 1e-6 * one.norm() and one.norm() > 0
    for a, b in zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True):
        assert a["tokens"] == b["tokens"] and a["loss"] == pytest.approx(b["loss"], rel=1e-5)


@pytest.mark.parametrize("given, expected", [
    ([], {"schedule": "constant", "in_batch": "as-given", "decay_all": False, "masks": True}),
    (["--recipe", "released"], {"schedule": "decay", "in_batch": "always", "decay_all": True, "masks": False}),
    (["--recipe", "released", "--masks", "--schedule", "constant"], {"schedule": "constant", "in_batch": "always", "masks": True}),
])  # fmt: skip
def test_recipes_set_what_is_not_given(tmp_path, training, monkeypatch, given, expected):
    seen = {}

    def train(*_, **options):
        seen.update(options)
        return iter(())

    train.__kwdefaults__ = e5nl.train.__kwdefaults__
    monkeypatch.setattr(e5nl, "train", train)
    with pytest.raises(UnboundLocalError):  # no step was taken, so there is no last one to tell of
        e5nl.main(training("uit", *given))
    assert seen.items() >= expected.items() and files.read_json(tmp_path / "uit/settings.json").items() >= expected.items()


def test_what_a_recipe_sets_is_used(make_model, tokenizer):
    """Each of the four changes the losses of two steps, or the weights after them. The negatives are other rows' positives."""
    rows = [Row(f"vraag {i}", (f"taal {i}",), (f"taal {i - 1}",)) for i in range(30)]
    some = [Source("waar", "retrieval", rows, in_batch_negatives=False)]

    def two_steps(**settings):
        model = e5nl.new_encoder(make_model().config, seed=3)
        options = {"batch_size": 30, "lr": 0.1, "warmup": 1.0, "steps": 2, "seed": 4}
        lines = list(e5nl.train(model, tokenizer, some, **options, **settings))
        return [line["loss"] for line in lines], model.norm.bias.tolist()

    base, others = two_steps(), two_steps(in_batch="always")
    assert others != base and two_steps(schedule="decay") != base and two_steps(decay_all=True) != base
    assert two_steps(in_batch="always", masks=False) != others


# --- command line -----------------------------------------------------------------------------------------------------------


def run(*arguments):
    return subprocess.run([sys.executable, "e5nl.py", *map(str, arguments)], capture_output=True, text=True)


def test_init_train_embed_from_the_command_line(tmp_path, tokenizer_json):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json)
    files.write_jsonl(tmp_path / "bron.jsonl", ({"query": r.query, "pos": r.pos, "neg": r.neg} for r in sources()[0].rows))
    (tmp_path / "texts.txt").write_text("een\ntwee woorden\n")
    init = run("init", "--tokenizer", tmp_path / "tokenizer.json", "--out", tmp_path / "base", "--width", 16, "--layers", 1, "--heads", 2)
    assert "1 layers, width 16, " in init.stdout and init.returncode == 0
    arguments = ("train", "--model", tmp_path / "base", "--data", tmp_path / "bron.jsonl", "--out", tmp_path / "uit")
    train = run(*arguments, "--batch-size", 16, "--every", 2)
    assert train.returncode == 0 and "step 2/5, bron: loss" in train.stdout, train.stderr
    log = [line for _, line in files.read_jsonl(tmp_path / "uit" / "log.jsonl")]
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5] and files.read_json(tmp_path / "uit" / "settings.json")["batch_size"] == 16
    embed = run("embed", "--model", tmp_path / "uit", "--input", tmp_path / "texts.txt", "--kind", "passage", "--out", tmp_path / "e.npy")
    assert embed.returncode == 0 and np.load(tmp_path / "e.npy").shape == (2, 16)
    again = run(*arguments)
    assert again.returncode == 2 and "holds a model already" in again.stderr and again.stderr.count("\n") == 1
    missing = run("embed", "--model", tmp_path / "weg", "--input", tmp_path / "texts.txt", "--kind", "passage", "--out", tmp_path / "f.npy")
    assert missing.returncode == 2 and missing.stderr.startswith("error:") and not (tmp_path / "f.npy").exists()
