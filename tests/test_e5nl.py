"""e5nl.py: the encoder against a slow one written from the formulas, strict loading, embed(),
InfoNCE by hand, exact gradients, runs that are killed and resumed.

    python -m pytest tests/test_e5nl.py

Comparisons with transformers and sentence-transformers are in tests/parity/.
"""

import dataclasses
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
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import tokenizers
import torch
from parity import cases
from safetensors.torch import load_file
from tokenizers import models, normalizers, pre_tokenizers, processors
from torch.nn.functional import normalize
from torch.profiler import profile

import data
import e5nl
import files
import long_runs
from data import Row, Source
from files import InputError


def slow_hidden(model: e5nl.Encoder, ids: list[int]) -> torch.Tensor:
    """One text, head by head and token by token, in float64, from the formulas of BERT
    (arXiv 1810.04805) and attention (1706.03762)."""
    w = {name: tensor.double() for name, tensor in model.state_dict(keep_vars=True).items()}
    config, eps = model.config, model.config.layer_norm_eps

    def norm(x, name):
        deviation = (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
        return (x - x.mean(-1, keepdim=True)) / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    words, positions = w["words.weight"][ids], w["positions.weight"][: len(ids)]
    x = norm(words + positions + w["types.weight"][0], "norm")
    for i in range(config.num_hidden_layers):
        layer = f"layers.{i}"
        queries, keys, values = linear(x, f"{layer}.qkv").split(config.hidden_size, dim=1)
        size, heads = config.hidden_size // config.num_attention_heads, []
        for head in range(config.num_attention_heads):
            own = slice(head * size, (head + 1) * size)
            q, k, v = queries[:, own], keys[:, own], values[:, own]
            heads.append(torch.softmax(q @ k.T / math.sqrt(size), dim=1) @ v)
        x = norm(x + linear(torch.cat(heads, 1), f"{layer}.out"), f"{layer}.attention_norm")
        up = linear(x, f"{layer}.up")
        gelu = up * 0.5 * (1 + torch.erf(up / math.sqrt(2)))
        x = norm(x + linear(gelu, f"{layer}.down"), f"{layer}.norm")
    return x


@pytest.fixture(params=[1, 4])
def length_step(request, monkeypatch):
    """Attention over texts of one length, and over padded texts of nearly one length (a GPU's)."""
    monkeypatch.setitem(e5nl.LENGTH_STEP, "cpu", request.param)


@pytest.mark.parametrize("scale", [0.3, 0.02])
@pytest.mark.parametrize("model_type", ["xlm-roberta", "bert"])
def test_packed_encoder_equals_the_formulas(make_model, scale, model_type, length_step):
    texts = [[0, 7, 9, 2], [0, 5, 5, 2], [0, 11, 2], [0, 8, 30, 4, 17, 99, 2]]
    packed, lengths = torch.tensor(sum(texts, [])), [4, 4, 3, 7]
    model = make_model(scale, model_type=model_type, type_vocab_size=2)
    slow = [slow_hidden(model, ids) for ids in texts]
    expected = torch.cat(slow)
    assert (model.hidden(packed, lengths) - expected).abs().max() <= 2e-5 * expected.abs().max()
    for pooling, pool in (("mean", lambda x: x.mean(0)), ("cls", lambda x: x[0])):
        model.config = dataclasses.replace(model.config, pooling=pooling)
        expected = normalize(torch.stack([pool(x) for x in slow]))
        found = model(packed, lengths).double()
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("model_type, scale", cases.ENCODERS)
def test_hidden_states_are_those_of_transformers(
    tmp_path, tokenizer_json, model_type, scale, length_step
):
    """Golden values, written and checked by parity/test_transformers.py."""
    texts = cases.write_encoder(model_type, scale, tmp_path, tokenizer_json)
    golden = json.loads((Path(cases.__file__).parent / "golden_encoder.json").read_text())
    model, _ = e5nl.load(tmp_path)
    with torch.no_grad():
        found = model.hidden(torch.tensor(sum(texts, [])), cases.LENGTHS).split(cases.LENGTHS)
    expected = torch.tensor(golden[f"{model_type} {scale}"])
    for hidden, ends in zip(found, expected, strict=True):
        assert (hidden[[0, -1]] - ends).abs().max() <= 2e-5 * ends.abs().max()


def test_docstring_examples():
    results = doctest.testmod(e5nl)
    assert results.failed == 0 and results.attempted >= 1


@pytest.mark.parametrize("ratio, dtype", [(2.0, "bfloat16"), (1.9, "float32"), (0.5, "float32")])
def test_bfloat16_has_to_be_twice_as_fast(monkeypatch, ratio, dtype):
    seconds = iter([[ratio, 9.0], [1.0, 9.0]])  # of products in float32, then in bfloat16
    monkeypatch.setattr("timeit.repeat", lambda *_, **__: next(seconds))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert e5nl.fastest_dtype() == dtype


# --- texts to embeddings --------------------------------------------------------------------------

QUESTION = "Wie betaalt de kosten van een nieuwe identiteitskaart?"
TEXTS = ["", "De fiets", QUESTION, "taal", "De fiets", "Het regent. " * 40, "é"]


def test_an_embedding_ignores_batch_mates_place_and_chunks(make_model, tokenizer, length_step):
    model = make_model()
    together = e5nl.embed(model, tokenizer, TEXTS, "query")
    alone = [e5nl.embed(model, tokenizer, [text], "query")[0] for text in TEXTS]
    backwards = e5nl.embed(model, tokenizer, TEXTS[::-1], "query", chunk_tokens=20)[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together, backwards, atol=1e-6)
    assert together.dtype == np.float32 and together.shape == (7, 24)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 0.01, "different texts differ"
    assert e5nl.embed(model, tokenizer, [], "query").shape == (0, 24)


def wordpiece() -> e5nl.Tokenizer:
    """A tokenizer laid out as BERT's."""
    pieces = "[UNK] [CLS] [SEP] de fiets ##en a ##a ##fiets 0 ##0".split()
    numbers = {piece: i for i, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return e5nl.Tokenizer(backend.to_str().encode(), {})


@pytest.mark.parametrize("which", ["XLM-R", "trained here", "WordPiece", "no white space"])
def test_very_long_texts_are_cut_before_and_keep_the_same_tokens(which, tokenizer, tokenizer_json):
    """Against the tokens of the complete text, on texts with odd white space, marks, long words,
    and spaces only here and there."""
    if which == "XLM-R":
        packed = Path(__file__).parent.parent / "demo/tokenizer.json.xz"
        tokenizer = e5nl.Tokenizer(lzma.decompress(packed.read_bytes()), {})
    elif which == "WordPiece":
        tokenizer = wordpiece()
    elif which == "no white space":
        stored = json.loads(tokenizer_json) | {"pre_tokenizer": None}
        tokenizer = e5nl.Tokenizer(json.dumps(stored).encode(), {})
        assert not tokenizer.splits_at_spaces
    generator = np.random.default_rng(5)
    parts = "de fietsen| |  |\n|\u00a0|\u3000|\u0301|ﬁ|\u200b|é|, |query: |\t".split("|")
    parts += ["fiets" * 40, "0" * 90, "a " * 30]
    texts = ["".join(generator.choice(parts, n)) for n in (10, 200, 900, 3000, 3000, 3000)]
    texts += ["a" * 5000, "a" * 5000 + " de", " " * 9000 + "de fiets", "de" + " " * 9000]
    texts += ["de\n" * 3000, "aaaaaaaaaaaaaaaaaaa " * 900]
    complete = [tokenizer.backend.encode("query: " + text).ids for text in texts]
    for length in (3, 30, 200):
        tokenizer.cut = 0
        assert tokenizer(texts, "query: ", length) == [
            ids if len(ids) <= length else ids[: length - 1] + ids[-1:] for ids in complete
        ]
        assert tokenizer.cut == sum(len(ids) > length for ids in complete) > 5
        shortened = sum(len(tokenizer._start(text, length)) < len(text) for text in texts)
        assert which == "no white space" or shortened > 5


def test_the_kind_chooses_the_stored_prefix_and_long_texts_are_cut_and_counted(
    make_model, tokenizer
):
    model = make_model(prompts=(("query", "vraag: "), ("passage", "tekst: "), ("none", "")))
    for kind, prefix in model.config.prompts:
        by_kind = e5nl.embed(model, tokenizer, TEXTS, kind)
        by_hand = e5nl.embed(model, tokenizer, [prefix + text for text in TEXTS], "none")
        np.testing.assert_array_equal(by_kind, by_hand)
    with pytest.raises(InputError, match="kind 'x' is unknown; expected one of query, passage, no"):
        e5nl.embed(model, tokenizer, TEXTS, "x")
    tokenizer.texts = tokenizer.cut = 0
    cut = e5nl.embed(model, tokenizer, TEXTS, "none", max_length=10)
    all_ids = [tokenizer.backend.encode(text).ids for text in TEXTS]
    assert 1 < tokenizer.cut == sum(len(ids) > 10 for ids in all_ids) < tokenizer.texts == 7
    by_hand = model(torch.tensor(all_ids[5][:9] + all_ids[5][-1:]), [10])[0].detach()
    np.testing.assert_allclose(cut[5], by_hand, atol=1e-6)


def test_a_shorter_embedding_is_the_first_numbers_at_length_1(tmp_path, folder, capsys):
    """By `load`, by the command line, and by the folder; the width is saved with a model."""
    full = e5nl.embed(*e5nl.load(folder), TEXTS, "query")
    expected = full[:, :7] / np.linalg.norm(full[:, :7], axis=1, keepdims=True)
    model, tokenizer = e5nl.load(folder, truncate_dim=7)
    np.testing.assert_allclose(e5nl.embed(model, tokenizer, TEXTS, "query"), expected, atol=1e-6)

    files.write_jsonl(tmp_path / "texts.jsonl", ({"text": text} for text in TEXTS))
    words = "embed", "--input", tmp_path / "texts.jsonl", "--kind", "query", "--model"
    e5nl.save(model, tokenizer, tmp_path / "short")
    for given in ((folder, "--dim", 7), (tmp_path / "short",), (tmp_path / "short", "--dim", 7)):
        path = tmp_path / "e.npy"
        e5nl.main([*map(str, words), *map(str, given), "--out", str(path), "--overwrite"])
        np.testing.assert_allclose(np.load(path), expected, atol=1e-6)
    printed = capsys.readouterr().out
    assert "(passages), embeddings cut to 7, cpu" in printed and "e.npy: 7 x 7 float32" in printed
    for width in (0, 25):
        with pytest.raises(InputError, match=f"model: embeddings of width {width}; expected a who"):
            e5nl.load(folder, truncate_dim=width)


def test_texts_are_read_as_they_are_needed(make_model, tokenizer, monkeypatch):
    """A million lines take the memory of their embeddings and of two windows."""
    monkeypatch.setattr(e5nl, "WINDOW", 10)
    model, taken, read_before_encoding = make_model(), [], []

    class Texts:
        def __len__(self):
            return 45

        def __iter__(self):
            for number in range(45):
                taken.append(number)
                yield TEXTS[number % 7]

    def encode(*arguments, encode=e5nl.encode):
        read_before_encoding.append(len(taken))
        return encode(*arguments)

    monkeypatch.setattr(e5nl, "encode", encode)
    found = e5nl.embed(model, tokenizer, Texts(), "query")
    assert taken == list(range(45)) and read_before_encoding[0] <= 20
    expected = np.tile(e5nl.embed(model, tokenizer, TEXTS, "query"), (7, 1))[:45]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_windows_of_long_texts_hold_fewer(monkeypatch):
    """Windows are what a killed run has saved: minutes of work, also where texts are long."""
    monkeypatch.setattr(e5nl, "WINDOW_CHARACTERS", 10)
    texts = ["a", "bb", "c", "d" * 9, "e", "f" * 30, "g"]
    windows = [["a", "bb", "c"], ["d" * 9, "e"], ["f" * 30], ["g"]]
    assert list(e5nl.cut_windows(iter(texts), 3)) == windows
    assert list(e5nl.cut_windows([], 3)) == []


def test_a_failure_ends_the_thread_that_reads_ahead(make_model, tokenizer, monkeypatch):
    """Two windows; the second is still read when the first fails."""
    model, read = make_model(), []
    monkeypatch.setattr(e5nl, "WINDOW", 1)
    monkeypatch.setattr(e5nl, "encode", lambda *_: 1 / 0)

    def tokenise(texts, *_):
        time.sleep(0.2 * bool(read))
        read.append(texts)
        return [[0, 5, 2]]

    with pytest.raises(ZeroDivisionError) as kept:  # what keeps the frames alive
        e5nl.embed(model, tokenise, TEXTS[:3], "query")
    assert kept and read == [[text] for text in TEXTS[:2]], "no more, and not later"


def test_without_a_terminal_progress_is_lines(make_model, tokenizer, monkeypatch, capsys):
    monkeypatch.setattr(long_runs, "LINE_SECONDS", 0)
    e5nl.embed(make_model(), tokenizer, TEXTS, "query", chunk_tokens=20, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert any(re.search(r"^\d of 7 texts, .* left$", line) for line in lines), lines
    e5nl.embed(make_model(), tokenizer, TEXTS, "query")
    assert capsys.readouterr().err == ""


def test_a_long_step_shows_its_chunks(make_model, monkeypatch, capsys):
    """Each is embedded twice; short steps, as all others in these tests, show nothing."""
    monkeypatch.setattr(long_runs, "LINE_SECONDS", 0)
    ids = [[0, *range(5, 15), 2]] * 4

    def loss_of(embeddings):
        return embeddings.square().sum(), embeddings.sum()

    e5nl.backward(make_model().train(), ids, loss_of, 1, chunk_tokens=24, dtype=torch.float32)
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert re.fullmatch("4 of 4 chunks, .* left", lines[-1]), lines
    monkeypatch.undo()
    e5nl.backward(make_model().train(), ids, loss_of, 1, chunk_tokens=24, dtype=torch.float32)
    assert capsys.readouterr().err == ""


def test_chunks_hold_every_text_once_within_the_budget():
    lengths = [5, 2, 9, 9, 1, 30, 4]
    chunks = [[lengths[text] for text in chunk] for chunk in e5nl.cut_chunks(lengths, 13)]
    assert chunks == [[30], [9], [9], [5, 4, 2, 1]]


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("a.txt", "een\n\n \ntwee woorden\n", None),
        ("a.jsonl", '{"text": "een"}\n{"text": ""}\n{"text": " "}\n{"text": "twee woorden"}', None),
        ("a.json", '{"zin": "een"}\n{"zin": ""}\n{"zin": " "}\n{"zin": "twee woorden"}', "zin"),
        ("a.csv.gz", 'id,zin\n7,een\n8,""\n9," "\n7,twee woorden\n', "zin"),
        ("a.tsv", "id\ttext\n7\teen\n8\t\n9\t \n7\ttwee woorden\n", None),
        ("a.parquet", ["een", "", " ", "twee woorden"], None),
    ],
)
def test_row_n_of_the_embeddings_is_line_or_row_n_of_the_file(
    tmp_path, folder, name, content, field
):
    path, out = tmp_path / name, tmp_path / "e.npy"
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(content.encode()))
    elif isinstance(content, list):
        pyarrow.parquet.write_table(pyarrow.table({"text": content, "id": [1, 2, 3, 4]}), path)
    else:
        path.write_text(content)
    command = ["embed", "--model", folder, "--input", path, "--kind", "query", "--out", out]
    e5nl.main([*map(str, command), *(["--field", field] if field else [])])
    expected = e5nl.embed(*e5nl.load(folder), ["een", "", " ", "twee woorden"], "query")
    np.testing.assert_allclose(np.load(out), expected, atol=1e-6)


# --- several processes ----------------------------------------------------------------------------


def test_processes_that_any_launcher_started_embed_as_one(tmp_path, folder, environment):
    """Started as srun or mpirun start them: the first one alone prints and writes."""
    texts = [f"tekst {i} " + "taal " * (i % 90) for i in range(53)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"})
    command = [sys.executable, e5nl.__file__, "embed", "--model", folder, "--kind", "passage"]
    command += ["--input", tmp_path / "texts.txt", "--out"]
    started = [
        subprocess.Popen(
            [*command, tmp_path / f"{rank}.npy"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"RANK": rank},
        )
        for rank in "01"
    ]
    printed = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    model, tokenizer = e5nl.load(folder)
    expected = e5nl.embed(model, tokenizer, texts, "passage")
    np.testing.assert_allclose(np.load(tmp_path / "0.npy"), expected, atol=1e-6)
    cut = f"53 x 24 float32; {tokenizer.cut} texts longer than 64 tokens were cut"
    assert printed[0].count(cut) == 1 and tokenizer.cut, "both processes' texts are counted"
    assert not printed[1] and not (tmp_path / "1.npy").exists()


# --- loss -----------------------------------------------------------------------------------------


def test_info_nce_by_hand():
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # Row 0 has positive 0 and negative 1, row 1 has positive 2.
    p = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])

    def loss(**options) -> float:
        return e5nl.info_nce(q, p, [2, 1], 0.5, **options)[0].item()

    def row(positive, *others) -> float:
        exponents = [math.exp(score / 0.5) for score in (positive, *others)]
        return -math.log(exponents[0] / sum(exponents))

    first, second, own = row(1, 0.6, 0), row(1, 0, 0.8), row(1, 0.6)
    assert loss() == pytest.approx((first + second) / 2, rel=1e-6)
    assert e5nl.info_nce(q, p, [2, 1], 0.5)[1] == 1
    # Row 1 has its positive alone: loss 0. Then row by row, as a mixed batch needs it.
    assert loss(in_batch=torch.tensor([False, False])) == pytest.approx(own / 2, rel=1e-6)
    assert loss(in_batch=torch.tensor([False, True])) == pytest.approx((own + second) / 2, rel=1e-6)
    # The positives (0, 0) and (1, 2) stay.
    masked = torch.tensor([[True, False, True], [False, True, True]])
    assert loss(masked=masked) == pytest.approx((own + row(1, 0)) / 2, rel=1e-6)


def test_equal_scores_give_the_logarithm_of_the_candidates():
    q, p, sizes = torch.ones(3, 4) / 2, torch.ones(8, 4) / 2, [2, 5, 1]
    assert e5nl.info_nce(q, p, sizes, 0.02)[0].item() == pytest.approx(math.log(8), rel=1e-6)
    own = e5nl.info_nce(q, p, sizes, 0.02, in_batch=torch.zeros(3, dtype=torch.bool))[0].item()
    assert own == pytest.approx(np.log(sizes).mean(), rel=1e-6)


def test_scores_stay_float32_under_autocast():
    draw = torch.Generator().manual_seed(5)
    q, p = (normalize(torch.randn(n, 16, generator=draw)) for n in (5, 9))
    expected = e5nl.info_nce(q, p, [2, 2, 2, 2, 1], 0.02)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(e5nl.info_nce(q, p, [2, 2, 2, 2, 1], 0.02)[0], expected)


def test_the_loss_of_several_widths_is_the_mean_of_their_losses():
    """By hand: two queries, three passages of three numbers, the widths 3 and 2."""
    embeddings = torch.tensor([
        [0.6, 0.0, 0.8], [0.0, 1.0, 0.0],
        [0.8, 0.6, 0.0], [1.0, 0.0, 0.0], [0.0, 0.8, 0.6],
    ])  # fmt: skip
    rows = [Row("q0", ("p0",), ("n0",)), Row("q1", ("p1",), ())]
    batch = e5nl.Batch([Source("a", "retrieval", rows)] * 2, rows, [["p0", "n0"], ["p1"]])

    def loss(**settings) -> tuple[float, float]:
        given = e5nl.Settings(tau=0.5, **settings)
        loss_of, _ = e5nl.batch_loss(batch, given, 3, "cpu")
        return tuple(value.item() for value in loss_of(embeddings))

    def row(positive, *others) -> float:
        exponents = [math.exp(score / 0.5) for score in (positive, *others)]
        return -math.log(exponents[0] / sum(exponents))

    # Cosines of each query with its positive, then with the others. Of two numbers the first query
    # is (1, 0) and the last passage (0, 1).
    three = (row(0.48, 0.6, 0.48) + row(0.8, 0.6, 0)) / 2
    two = (row(0.8, 1, 0) + row(1, 0.6, 0)) / 2
    assert loss() == loss(dims=[3]) == pytest.approx((three, 0.5), rel=1e-6)
    assert loss(dims=[2]) == pytest.approx((two, 0.5), rel=1e-6)
    assert loss(dims=[3, 2]) == pytest.approx(((three + two) / 2, 0.5), rel=1e-6)


def test_equal_texts_are_no_negatives():
    rows = [Row("a", ("A", "A2"), ("n",)), Row("b", ("B",), ("a",)), Row("c", ("A2",), ("B",))]
    passages = ["A", "n", "B", "a", "A2", "B"]  # positive and negative of each row
    assert e5nl.same_text_mask(rows, passages).int().tolist() == [
        [1, 0, 0, 1, 1, 0],  # its positive, its own query, its other positive
        [0, 0, 1, 0, 0, 1],
        [0, 0, 0, 0, 1, 0],
    ]


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5, 1 / 2**16])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    torch.manual_seed(7)
    x = torch.full((999, 1001), 3.0)
    y = e5nl.dropout(x, share)
    dropped = (y == 0).double().mean().item()
    # Five standard deviations, and what is rounded off.
    tolerance = 5 * (share / x.numel()) ** 0.5 + 2**-17
    assert abs(dropped - share) < tolerance
    assert y[y != 0].unique().item() == pytest.approx(3 / (1 - share), rel=1e-4)
    assert y.double().mean().item() == pytest.approx(3, rel=tolerance / (1 - share))
    assert (y == 0).any(0).all() or share < 0.1, "in every column: none is spared"
    assert e5nl.dropout(x, 0.0).equal(x)


def test_dropout_draws_from_the_generator_it_is_given():
    x = torch.ones(5, 9)
    torch.manual_seed(3)
    first = e5nl.dropout(x, 0.5, e5nl.new_generator(1))
    torch.manual_seed(4)
    assert e5nl.dropout(x, 0.5, e5nl.new_generator(1)).equal(first)
    assert not e5nl.dropout(x, 0.5, e5nl.new_generator(2)).equal(first)


def test_dropout_is_drawn_anew_each_time_and_repeats_with_its_seed():
    x = torch.ones(7, 13, dtype=torch.bfloat16)
    torch.manual_seed(3)
    first, second = e5nl.dropout(x, 0.5), e5nl.dropout(x, 0.5)
    torch.manual_seed(3)
    assert e5nl.dropout(x, 0.5).equal(first) and not first.equal(second)
    assert first.dtype == torch.bfloat16


def test_attention_step_by_step_is_attention(make_model, length_step):
    """A share of dropout that rounds to none takes the way of training, to inference's result."""
    model = make_model(0.2, attention_probs_dropout_prob=1e-6, hidden_dropout_prob=0.0).double()
    ids = torch.arange(5, 28)
    with torch.no_grad():
        expected = model.eval().hidden(ids, [9, 9, 5])
        found = model.train().hidden(ids, [9, 9, 5])
        model.layers[0].attention_dropout = 0.5
        dropped = model.hidden(ids, [9, 9, 5])
    assert (found - expected).abs().max() < 1e-12 and (dropped - expected).abs().max() > 1e-3


def loss_of(embeddings):
    q, p = embeddings.split([4, 4])
    return e5nl.info_nce(q, p, [1] * 4, 0.1)


def take_gradient(model) -> torch.Tensor:
    gradients = [parameter.grad.to_dense().flatten() for parameter in model.parameters()]
    model.zero_grad()
    return torch.cat(gradients).double()


def assert_close(found, expected, tolerance):
    assert 0 < (found - expected).abs().max() + 1e-30 <= tolerance * expected.abs().max()


@pytest.mark.parametrize(
    "weights, autocast, tolerance",
    [
        (torch.float64, torch.float32, 1e-9),
        (torch.float32, torch.float32, 1e-5),
        (torch.float32, torch.bfloat16, 1e-5),
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_chunks_change_memory_but_not_the_gradient(
    make_model, tokenizer, weights, autocast, tolerance, share, length_step
):
    """Against the same chunks embedded once with the graph kept: dropout is replayed.

    Autocast converts weights for each of them there.
    """
    model = make_model(0.2, hidden_dropout_prob=share, attention_probs_dropout_prob=share)
    model = model.to(weights).train()
    ids = tokenizer(TEXTS + ["nog een tekst"], "query: ", 30)
    for _ in range(2):  # the second gradient replaces the first
        loss, _ = e5nl.backward(model, ids, loss_of, seed=7, chunk_tokens=25, dtype=autocast)
    cached = take_gradient(model)

    chunks = e5nl.cut_chunks([len(text) for text in ids], 25)
    assert len(chunks) > 2
    embedded = []
    for number, chunk in enumerate(chunks):
        with torch.autocast("cpu", autocast, enabled=autocast == torch.bfloat16):
            embedded.append(e5nl.encode(model, ids, chunk, e5nl.new_generator(7 + number)))
    kept = loss_of(torch.cat(embedded)[torch.tensor(sum(chunks, [])).argsort()])[0]
    kept.backward()
    assert loss == pytest.approx(kept.item(), rel=1e-6)
    assert_close(cached, take_gradient(model), tolerance)


@pytest.fixture
def threads():
    """threads(count): torch computes with so many, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_neither_threads_nor_kept_graphs_change_a_bit_of_the_gradient(
    make_model, tokenizer, threads, monkeypatch
):
    model = make_model(0.2).train()
    ids = tokenizer(TEXTS + ["nog een tekst"], "query: ", 30)
    calls, encode = [], e5nl.encode
    monkeypatch.setattr(e5nl, "encode", lambda *args: calls.append(args[2]) or encode(*args))
    chunks = e5nl.cut_chunks([len(text) for text in ids], 25)
    sizes = [sum(len(ids[text]) for text in chunk) for chunk in chunks]
    gradients = []
    for count, kept in ((1, 0), (3, 0), (1, sum(sizes[:2])), (2, 10**6)):
        threads(count)
        calls.clear()
        e5nl.backward(model, ids, loss_of, 7, 25, torch.float32, kept)
        gradients.append(take_gradient(model))
        twice = {0: len(chunks), 10**6: 0}.get(kept, len(chunks) - 2)
        assert len(calls) == len(chunks) + twice, "a chunk with its graph is embedded once"
    assert all(gradient.equal(gradients[0]) for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_graph_takes_is_what_freeing_it_gives_back(make_model, dtype):
    """Against the memory that torch's profiler sees allocated by the end of the pass."""
    model = make_model(0.2).train()
    length = model.config.max_length
    with profile(profile_memory=True) as recorded:
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16, cache_enabled=False):
            graph = e5nl.encode(e5nl.converted(model, dtype), [[0] * length], [0])
    allocated = sum(event.self_cpu_memory_usage for event in recorded.key_averages())
    del graph
    assert e5nl.graph_bytes(model, length, dtype) * length == pytest.approx(allocated, rel=0.1)


def test_more_memory_keeps_more_graphs_and_too_little_is_refused(make_model, monkeypatch, threads):
    model, free = make_model().train(), 10**6
    monkeypatch.setattr(e5nl, "memory_in_use", lambda _: 10**9 - free)
    monkeypatch.setattr(e5nl, "graph_bytes", lambda *_: 100.0)
    weights = sum(4 * parameter.numel() for parameter in model.parameters())
    layers = sum(4 * parameter.numel() for parameter in model.layers.parameters())
    threads(2)
    for memory, moments in ((2, False), (3, True)):
        settings = e5nl.Settings(memory=memory, chunk_tokens=500)
        left = 2e9 * memory / 3 - 10**9 + free - weights * (1 if moments else 3) - 4 * layers
        assert e5nl.kept_tokens(model, settings, moments) == int(left / 100)
    with pytest.raises(InputError, match=r"--memory 0.9 .* 2 chunks of 500 tokens at once"):
        e5nl.kept_tokens(model, e5nl.Settings(memory=0.9, chunk_tokens=500))
    monkeypatch.setattr(e5nl, "memory_in_use", lambda _: 10**10)
    assert e5nl.kept_tokens(model, e5nl.Settings()) == 0, "what nobody asked for is not refused"


def test_chunks_side_by_side_come_in_order_and_not_all_at_once(threads):
    threads(4)
    begun, released = [], threading.Event()

    def work(item: int) -> tuple[int, int]:
        begun.append(item)
        if item == 0:
            released.wait(20)
        return item, torch.get_num_threads()

    results = e5nl.side_by_side(work, iter(range(50)), 2)
    timer = threading.Timer(0.5, released.set)
    timer.start()
    first = next(results)
    # The others wait for the first: two are computed and one more is asked for at a time.
    assert first == (0, 2) and max(begun) <= 3
    assert [first, *results] == [(item, 2) for item in range(50)]
    with pytest.raises(ZeroDivisionError):
        list(e5nl.side_by_side(lambda item: 1 / item, [1, 0, 1], 2))


def test_without_dropout_the_gradient_is_that_of_the_complete_batch(
    make_model, tokenizer, length_step
):
    """Against autograd through the slow encoder; with bfloat16 products it points the same way."""
    model = make_model(0.2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = model.double().train()
    ids = tokenizer(TEXTS + ["nog een tekst"], "query: ", 30)
    slow = torch.stack([slow_hidden(model, text).mean(0) for text in ids])
    loss_of(normalize(slow))[0].backward()
    expected = take_gradient(model)
    for chunk_tokens in (25, 10**6):
        e5nl.backward(model, ids, loss_of, 7, chunk_tokens, torch.float32)
        assert_close(take_gradient(model), expected, 1e-9)
    e5nl.backward(model.float(), ids, loss_of, 7, 25, torch.bfloat16)
    assert torch.cosine_similarity(take_gradient(model), expected, dim=0) > 0.99


# --- averages -------------------------------------------------------------------------------------


def test_an_average_lies_between_two_models(tmp_path, make_model, tokenizer, capsys):
    models = [make_model(seed=seed) for seed in (1, 2)]
    folders = [tmp_path / name for name in ("first", "second")]
    for model, folder in zip(models, folders, strict=True):
        e5nl.save(model, tokenizer, folder)
    words = ["average", *map(str, folders), "--share", "0.25", "--out", str(tmp_path / "out")]
    e5nl.main(words)
    parts = [model.state_dict() for model in (*models, e5nl.load(tmp_path / "out", "cpu")[0])]
    for name, between in parts[2].items():
        expected = 0.75 * parts[0][name].double() + 0.25 * parts[1][name].double()
        torch.testing.assert_close(between.double(), expected, rtol=1e-6, atol=1e-7)
    assert f"0.75 of {folders[0]}, 0.25 of {folders[1]}" in capsys.readouterr().out


def test_an_average_states_what_the_trained_model_does(tmp_path, make_model, tokenizer):
    """Training may change prefixes and width (see `adapt`)."""
    prompts = ("query", "Instruct: a\nQuery: "), ("passage", ""), ("none", "")
    e5nl.save(make_model(), tokenizer, tmp_path / "first")
    trained = make_model(seed=2, prompts=prompts, truncate_dim=12)
    e5nl.save(trained, tokenizer, tmp_path / "second")
    e5nl.average(tmp_path / "first", tmp_path / "second", 0.5, tmp_path / "out")
    assert e5nl.load(tmp_path / "out")[0].config == trained.config


def test_an_average_of_a_hub_model_has_its_licence(tmp_path, folder, hub):
    files_ = {str(x.relative_to(folder)): x.read_bytes() for x in folder.rglob("*.*")}
    hub("owner/name", files_ | {"README.md": b"---\nlicense: mit\n---\n"}, kind="model")
    e5nl.average(folder, "owner/name", 0.5, tmp_path / "out")
    content = (tmp_path / "out/README.md").read_text()
    assert "license: mit\n" in content and "base_model: owner/name\n" in content
    assert "1. Started from `owner/name`.\n1. Averaged: 0.5 of these weights" in content


def test_an_average_whose_card_cannot_be_written_leaves_no_folder(tmp_path, folder):
    (folder / "README.md").write_text("---\ndatasets: 5\n---\n")
    with pytest.raises(InputError, match="README.md: datasets is 5"):
        e5nl.average(folder, folder, 0.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_that_differ_in_more_than_weights_have_no_average(tmp_path, make_model, tokenizer):
    e5nl.save(make_model(), tokenizer, tmp_path / "first")
    e5nl.save(make_model(pooling="cls"), tokenizer, tmp_path / "second")
    with pytest.raises(InputError, match="first and .*second have different configurations"):
        e5nl.average(tmp_path / "first", tmp_path / "second", 0.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- training -------------------------------------------------------------------------------------


def test_learning_rates():
    constant = [e5nl.learning_rate(step, 10, 2.0, 4) for step in range(10)]
    assert constant == [0.5, 1.0, 1.5] + [2.0] * 7
    decay = [e5nl.learning_rate(step, 10, 2.0, 4, "decay") for step in range(10)]
    warm_up = [2 * math.log(n) / math.log(4) for n in (1, 2, 3, 4)]
    assert decay == pytest.approx(warm_up + [2 * n / 6 for n in (6, 5, 4, 3, 2, 1)])


def test_decay_spares_biases_and_layer_norm(make_model):
    matrices, others = e5nl.new_optimizer(make_model(), 0.1).param_groups
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in matrices["params"]} == {2} and {p.ndim for p in others["params"]} == {1}
    with pytest.raises(AssertionError, match="bfloat16 would round updates away"):
        e5nl.new_optimizer(make_model().bfloat16(), 0.1)


def sources() -> list[Source]:
    words = "fiets muur taal boek trein vraag kosten plein zomer regen huisarts advies".split()
    rows = [
        Row(f"waar is de {a} met {b}", (f"{b} bij {a}",), (f"{b} is weg",))
        for a, b in itertools.permutations(words, 2)
    ]
    return [
        Source("waar", "retrieval", rows[:90]),
        Source("zelfde", "symmetric_sts", rows[90:], batch_factor=0.5),
    ]


def reports(model, tokenizer, sources, **settings) -> list[dict]:
    return list(e5nl.train(model, tokenizer, sources, **{"batch_size": 12} | settings))


def test_training_learns_and_is_repeatable(make_model, tokenizer):
    def run(**changes):
        model = e5nl.new_encoder(make_model().config, seed=3)
        settings = {"lr": 3e-3, "steps": 30, "warmup": 0.1} | changes
        lines = reports(model, tokenizer, sources(), **settings)
        return torch.cat([p.detach().flatten() for p in model.parameters()]), lines

    weights, lines = run()
    losses = [line["loss"] for line in lines]
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])
    assert {(line["source"], line["rows"]) for line in lines} == {("waar", 12), ("zelfde", 6)}
    assert torch.equal(weights, run()[0]) and not torch.equal(weights, run(seed=43)[0])


def test_the_encoder_gets_each_rows_prefixes(make_model, tokenizer):
    """A mixed batch: the texts of all its rows, queries first, as they are written here."""
    rows = [Row("v0", ("p0",), ("n0",), "Zoek."), Row("v1", ("p1",), ()), Row("v2", ("p2",), ())]
    types = "retrieval", "symmetric_sts", "classification"
    sources = [Source(type, type, [row]) for type, row in zip(types, rows, strict=True)]
    batch = e5nl.Batch(sources, rows, [["p0", "n0"], ["p1"], ["p2"]])
    own, sts, classes = (
        f"Instruct: {task}\nQuery: "
        for task in ("Zoek.", "Retrieve semantically similar text.", "Classify user passages.")
    )
    e5 = "a: v0", "a: v1", "a: v2", "b: p0", "b: n0", "a: p1", "b: p2"
    instruct = f"{own}v0", f"{sts}v1", f"{classes}v2", "p0", "n0", f"{sts}p1", "p2"
    model = make_model(prompts=(("query", "a: "), ("passage", "b: "), ("none", "")))
    for prefix, texts in (("e5", e5), ("instruct", instruct)):
        ids, places = e5nl.tokenise_share(model, tokenizer, batch, e5nl.Settings(prefix=prefix))
        expected = tokenizer(list(texts), "", 64)
        assert [ids[places.index(place)] for place in range(7)] == expected


def test_every_width_is_trained(make_model, tokenizer):
    """Of the widths 24 and 3 the loss at 3 falls more than where only 24 is trained."""

    def loss_at_3(**settings) -> float:
        model = e5nl.new_encoder(make_model().config, seed=3)
        reports(model, tokenizer, sources(), lr=3e-3, steps=30, warmup=0.1, **settings)
        lines = reports(model, tokenizer, sources(), lr=0.0, steps=9, dims=[3], tau=0.1)
        return np.mean([line["loss"] for line in lines])

    assert loss_at_3(dims=[24, 3], tau=0.1) < 0.8 * loss_at_3(tau=0.1)


def test_one_epoch_goes_once_over_the_data(make_model, tokenizer):
    lines = reports(make_model(0.05), tokenizer, sources(), epochs=2)
    assert len(lines) == lines[0]["steps"] == 2 * (90 // 12 + 42 // 6)


def test_mixed_batches_learn_from_all_sources_at_once(make_model, tokenizer):
    waar, zelfde = sources()
    given = [waar, zelfde._replace(in_batch_negatives=False)]
    lines = reports(make_model(0.05), tokenizer, given, batching="mixed")
    assert len(lines) == lines[0]["steps"] == 132 // 12
    assert {(line["source"], line["rows"]) for line in lines} == {("mixed", 12)}


def test_training_stops_before_the_weights_change_when_the_loss_is_not_finite(
    make_model, tokenizer
):
    model = make_model()
    with torch.no_grad():
        model.norm.bias[0] = torch.nan
    before = model.words.weight.clone()
    with pytest.raises(InputError, match=r"step 1, source .*, rows \[.*: loss nan, gradient norm"):
        reports(model, tokenizer, sources())
    assert torch.equal(model.words.weight, before)


def test_too_little_data_for_one_batch(make_model, tokenizer):
    with pytest.raises(InputError, match="no source fills one batch of 100 rows .* --batch-size"):
        reports(make_model(), tokenizer, sources(), batch_size=100)


OFF = {"in_batch_negatives": False}
ALL_BARE = "42 of 42 rows of zelfde (in_batch_negatives: false)"


@pytest.mark.parametrize(
    ("settings", "of_zelfde", "refused"),
    [
        ({}, {}, None),
        ({"batch_size": 2}, {}, None),  # of `zelfde` one row a batch, with a negative of its own
        ({}, OFF, None),
        ({"negatives": 0}, {}, None),
        ({"negatives": 0}, OFF | {"negatives": 1}, None),
        ({"negatives": 0, "in_batch": "always"}, OFF, None),
        ({"batch_size": 2, "batching": "mixed"}, {"bare": 5}, None),
        ({"negatives": 0}, OFF, ALL_BARE),
        ({}, OFF | {"negatives": 0}, ALL_BARE),
        ({"batching": "mixed"}, OFF | {"negatives": 0}, ALL_BARE),
        ({}, OFF | {"bare": 5}, "5 of 42 rows of zelfde (in_batch_negatives: false)"),
        (
            {"batch_size": 2, "in_batch": "always"},
            {"bare": 5},
            "5 of 42 rows of zelfde (batches of 1 row)",
        ),
        (
            {"batch_size": 1, "negatives": 0},
            {},
            "90 of 90 rows of waar (batches of 1 row), 42 of 42 rows of zelfde (batches of 1 row)",
        ),
    ],
)
def test_rows_that_are_compared_with_nothing_are_refused(
    make_model, tokenizer, settings, of_zelfde, refused
):
    """Their loss would be 0 to the end. `bare`: so many rows have no negatives."""
    waar, zelfde = sources()
    bare = of_zelfde.get("bare", 0)
    rows = [row._replace(neg=()) for row in zelfde.rows[:bare]] + zelfde.rows[bare:]
    changes = {key: value for key, value in of_zelfde.items() if key != "bare"}
    given = [waar, zelfde._replace(rows=rows, **changes)]
    if refused is None:
        lines = reports(make_model(0.05), tokenizer, given, **settings, steps=3)
        assert all(line["loss"] > 0 for line in lines)
        return
    with pytest.raises(InputError, match=re.escape(f"no negatives for {refused}: their loss")):
        reports(make_model(), tokenizer, given, **settings)


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, ("constant", "as-given", False, True)),
        ({"recipe": "released"}, ("decay", "always", True, False)),
        (
            {"recipe": "released", "masks": True, "schedule": "constant"},
            ("constant", "always", True, True),
        ),
    ],
)
def test_recipes_set_what_is_not_given(given, expected):
    found = e5nl.Settings(**given)
    assert (found.schedule, found.in_batch, found.decay_all, found.masks) == expected


def test_what_a_recipe_sets_is_used(make_model, tokenizer):
    """Each of the four changes the losses of two steps, or the weights after them. The negatives
    are other rows' positives."""
    rows = [Row(f"vraag {i}", (f"taal {i}",), (f"taal {i - 1}",)) for i in range(30)]
    given = [Source("waar", "retrieval", rows, in_batch_negatives=False)]

    def two_steps(**settings):
        model = e5nl.new_encoder(make_model().config, seed=3)
        settings |= {"batch_size": 30, "lr": 0.1, "warmup": 1.0, "steps": 2, "seed": 4}
        losses = [line["loss"] for line in reports(model, tokenizer, given, **settings)]
        return losses, model.norm.bias.tolist()

    stated, always = two_steps(), two_steps(in_batch="always")
    assert stated not in (always, two_steps(schedule="decay"), two_steps(decay_all=True))
    assert two_steps(in_batch="always", masks=False) != always


# --- runs: command line, checkpoints, several processes -------------------------------------------


@pytest.fixture
def training(tmp_path, tokenizer_json):
    """training(out, *arguments): the words of a small run with dropout."""
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json)
    paths = [tmp_path / f"{source.name}.jsonl" for source in sources()]
    for path, source in zip(paths, sources(), strict=True):
        rows = ({"query": r.query, "pos": r.pos, "neg": r.neg} for r in source.rows)
        files.write_jsonl(path, (row | {"type": source.type} for row in rows))
    new_base(tmp_path)

    def words(out, *arguments) -> list[str]:
        given = ["train", "--model", tmp_path / "base", "--data", *paths, "--out", tmp_path / out]
        given += "--batch-size 12 --steps 40 --lr 0.01 --chunk-tokens 100".split()
        return [str(word) for word in (*given, "--save-every", 1, "--every", 1, *arguments)]

    return words


def new_base(folder, *arguments, name="base") -> None:
    words = ["init", "--tokenizer", folder / "tokenizer.json", "--out", folder / name, *arguments]
    e5nl.main([*map(str, words), *"--width 16 --layers 1 --heads 2".split()])


def start(words: list[str]) -> subprocess.Popen:
    command = [sys.executable, e5nl.__file__, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def log_of(folder) -> list[dict]:
    lines = [line for _, line in files.read_jsonl(folder / "log.jsonl")]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_the_command_line(tmp_path, training):
    """What is printed and written; a second run does not overwrite; mistakes are one line."""
    process = start(training("uit", "--steps", 5, "--every", 2))
    printed = process.communicate()[0]
    assert process.returncode == 0
    assert re.findall("^step ([0-9])/5, (?:waar|zelfde): loss", printed, re.M) == ["2", "4", "5"]
    assert [line["step"] for line in log_of(tmp_path / "uit")] == [1, 2, 3, 4, 5]
    settings = files.read_json(tmp_path / "uit/settings.json")
    assert settings.items() >= {"batch_size": 12, "in_batch": "as-given", "steps": 5}.items()
    assert settings["data"] == [str(tmp_path / "waar.jsonl"), str(tmp_path / "zelfde.jsonl")]
    for words, message in (
        (training("uit"), "holds a model already"),
        (training("fout", "--model", tmp_path / "weg"), "weg: no such folder"),
        (training("fout", "--batch-size", 200), "no source fills one batch of 200 rows"),
        (training("base", "--overwrite"), "base is the model that is trained; choose another"),
    ):
        command = [sys.executable, e5nl.__file__, *words]
        refused = subprocess.run(command, capture_output=True, text=True)
        assert refused.returncode == 2 and message in refused.stderr
        assert refused.stderr.startswith("error:") and refused.stderr.count("\n") == 1
    assert not (tmp_path / "fout").exists()


def test_the_folder_states_how_it_was_trained(tmp_path, training, capsys):
    """Prompts and width, as sentence-transformers reads them; the next training says so."""
    words = "--steps", 2, "--prefix", "instruct", "--dims", "4,12,8"
    e5nl.main(training("uit", *words))
    stored = files.read_json(tmp_path / "uit/config_sentence_transformers.json")
    query = "Instruct: Retrieve text based on user query.\nQuery: "
    assert stored["prompts"] == {"query": query, "passage": "", "document": ""}
    assert stored["truncate_dim"] == 12
    note = "note: --prefix e5, but the folder was trained with instructions"
    assert note not in capsys.readouterr().out

    more = "--model", tmp_path / "uit", "--steps", 1
    e5nl.main(training("e5", *more))
    assert note in capsys.readouterr().out
    again = files.read_json(tmp_path / "e5/config_sentence_transformers.json")
    assert again == stored, "prompts and width of the folder are used, and stay"
    e5nl.main(training("instruct", *more, "--prefix", "instruct", "--dims", 16))
    assert "note: --prefix" not in capsys.readouterr().out
    again = files.read_json(tmp_path / "instruct/config_sentence_transformers.json")
    assert again["prompts"] == stored["prompts"] and "truncate_dim" not in again

    # What was given decides the run.
    (tmp_path / "uit/config.json").unlink()
    with pytest.raises(InputError, match=r"cannot resume: dims was \[4, 12, 8\], is now \[8\]"):
        e5nl.main(training("uit", *words[:4], "--dims", 8, "--resume"))


@pytest.mark.parametrize(
    "words, message",
    [
        ("--dims 16,17", "--dims: embeddings of width 17; expected a whole number from 1 to 16"),
        ("--prefix instruct --data half.jsonl", "half.jsonl:2: no instruction, unlike the rows"),
        ("--dims 16,x", "argument --dims: invalid widths value: '16,x'"),
        ("--dims 16,0", "argument --dims: 0: expected a whole number from 1"),
        ("--memory 0.1", "--memory 0.1 (GB) is too little for"),
        ("--dims 16,8,16", "argument --dims: 16,8,16: a width occurs twice"),
    ],
)
def test_settings_that_do_not_fit_leave_no_folder(
    tmp_path, monkeypatch, training, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    rows = [{"query": "a", "pos": ["b"], "instruction": "Zoek."}, {"query": "c", "pos": ["d"]}]
    files.write_jsonl("half.jsonl", rows)
    with pytest.raises((InputError, SystemExit)) as error:
        e5nl.main(training("uit", *words.split()))
    assert message in f"{error.value}{capsys.readouterr().err}" and not Path("uit").exists()


def test_a_card_that_cannot_be_read_stops_the_run_before_it_begins(tmp_path, training):
    """It would stop it at its end."""
    for folder in ("base", "uit"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "README.md").write_text("---\na: [\n---\n")
        with pytest.raises(InputError, match=f"{folder}/README.md: cannot be read"):
            e5nl.main(training("uit", "--steps", 1))
        assert not (tmp_path / "uit" / "settings.json").exists()
        (tmp_path / folder / "README.md").unlink()


def test_a_run_that_would_teach_nothing_leaves_no_folder(tmp_path, training, capsys):
    (tmp_path / "los.jsonl").write_text('{"query": "a", "pos": ["b"]}\n' * 12)
    manifest = tmp_path / "m.json"
    files.write_json(manifest, {"sources": [{"file": "los.jsonl", "in_batch_negatives": False}]})
    refused = "no negatives for 12 of 12 rows of los (in_batch_negatives: false)"
    with pytest.raises(InputError, match=re.escape(refused)):
        e5nl.main(training("uit", "--data", manifest))
    assert not (tmp_path / "uit").exists()
    data.main(["check", str(manifest)])
    assert f"training stops here: {refused}" in capsys.readouterr().out
    e5nl.main(training("uit", "--data", manifest, "--recipe", "released", "--steps", 1))


def test_a_source_that_fills_no_batch_is_named(tmp_path, training, capsys):
    line = "zelfde: none of its 42 rows will be seen, since a batch takes 43; lower --batch-size, "
    paths = [str(tmp_path / name) for name in ("waar.jsonl", "zelfde.jsonl")]
    data.main(["check", *paths, "--batch-size", "86"])
    assert line in capsys.readouterr().out
    for words, count in (("86", 1), ("85", 0), ("86 --batching mixed", 0)):
        words = f"--batch-size {words} --steps 1 --overwrite".split()
        e5nl.main(training("uit", *words))
        assert capsys.readouterr().out.count(line) == count
    assert "Trained on 86 rows, of `waar`, `zelfde`." in (tmp_path / "uit/README.md").read_text()


def test_a_ruined_model_is_not_saved(tmp_path, training, monkeypatch):
    """The check before a step cannot see what the last step does."""

    def ruin(model, *_, **__):
        model.norm.bias.data[3] = torch.nan
        report = dict.fromkeys(("step", "steps", "rows", "tokens", "loss", "lr", "masked"), 1)
        yield report | {"source": "waar"}

    monkeypatch.setattr(e5nl, "train", ruin)
    with pytest.raises(InputError, match="the last step made norm.bias infinite or NaN, so no mod"):
        e5nl.main(training("uit"))
    assert not {"config.json", "model.safetensors"} & set(os.listdir(tmp_path / "uit"))


def test_a_run_that_was_killed_resumes_to_the_same_bytes(tmp_path, training, capsys):
    """SIGKILL at any moment, with a checkpoint at every step: often in the middle of one."""
    for number, delay in enumerate((0.004, 0.011)):
        process = start(training("parts", *["--resume"] * number))
        for line in process.stdout:
            if line.startswith(f"step {9 * number + 8}/"):
                time.sleep(delay)
                process.kill()
        assert process.wait() == -signal.SIGKILL
    e5nl.main(training("parts", "--resume", "--memory", 40))  # on a larger machine
    resumed = re.search("resuming after step ([0-9]+)\n", capsys.readouterr().out)
    assert 15 <= int(resumed[1]) < 40
    e5nl.main(training("whole"))
    parts, whole = ((tmp_path / name / "model.safetensors") for name in ("parts", "whole"))
    assert parts.read_bytes() == whole.read_bytes() and log_of(parts.parent) == log_of(whole.parent)
    for model in (parts, whole):
        kept = [f"step-000000{step}.safetensors" for step in (38, 39)]
        assert sorted(os.listdir(model.parent / "checkpoints")) == kept


def test_a_run_that_is_told_to_stop_writes_a_checkpoint_and_resumes(tmp_path, training, capsys):
    process = start(training("uit", "--save-every", 1000))
    for line in process.stdout:
        if line.startswith("step 5/"):
            process.terminate()
            break
    printed = process.stdout.read()
    assert process.wait() == 143
    announced = r"^stopping after this step \(about 0 s\); again to stop now and lose [5-9] steps$"
    assert re.search(announced, printed, re.M)
    assert re.search("stopped after step [0-9]+ of 40; add --resume to continue", printed)
    assert not (tmp_path / "uit/config.json").exists()
    new_base(tmp_path, "--seed", 1, name="other")
    for change, message in {
        (): "holds a run that has not ended; add --resume to continue it",
        ("--resume", "--tau", "0.3"): "cannot resume: tau was 0.02, is now 0.3",
        ("--resume", "--model", tmp_path / "other"): "cannot resume: weights was",
        ("--resume", "--data", tmp_path / "waar.jsonl"): "resume: the data of zelfde has changed",
    }.items():
        with pytest.raises(InputError, match=message):
            e5nl.main(training("uit", *change))
    with pytest.raises(SystemExit, match="2"):
        e5nl.main(training("uit", "--resume", "--overwrite"))
    # The number of processes may change: then dropout draws other numbers.
    settings = files.read_json(tmp_path / "uit/settings.json")
    files.write_json(tmp_path / "uit/settings.json", settings | {"processes": 2})
    capsys.readouterr()
    e5nl.main(training("uit", "--resume", "--save-every", 7))
    assert "2 processes before, 1 now: dropout draws other numbers" in capsys.readouterr().out
    assert [line["step"] for line in log_of(tmp_path / "uit")] == list(range(1, 41))

    # A run that has ended is complete, and stays as it is.
    before = (tmp_path / "uit/model.safetensors").stat()
    (tmp_path / "uit/.config.json.0123abcd.tmp").mkdir()  # killed while it removed this
    e5nl.main(training("uit", "--resume"))
    assert not list(tmp_path.glob("uit/.*"))
    assert f"{tmp_path / 'uit'}: complete since " in capsys.readouterr().out
    assert (tmp_path / "uit/model.safetensors").stat() == before
    with pytest.raises(InputError, match="base: holds a model already"):
        e5nl.main(training("base", "--resume", "--model", tmp_path / "other"))


def test_the_card_tells_the_history_of_a_model(tmp_path, training):
    e5nl.main(training("one", "--steps", 2))
    e5nl.main(training("two", "--steps", 1, "--model", tmp_path / "one"))
    words = ["average", *(str(tmp_path / name) for name in ("one", "two"))]
    e5nl.main([*words, "--share", "0.25", "--out", str(tmp_path / "average")])
    steps = re.findall("^1\\. (.*)", (tmp_path / "average/README.md").read_text(), re.M)
    rows = [sum(line["rows"] for line in log_of(tmp_path / name)) for name in ("one", "two")]
    assert steps[0] == "Started from `base`." and rows[0] > rows[1]
    assert [step.split(",")[0] for step in steps[1:3]] == [f"Trained on {n} rows" for n in rows]
    assert steps[3:] == ["Averaged: 0.25 of these weights, 0.75 of those of `one`."]


def test_a_run_too_short_for_a_checkpoint_is_complete_too(tmp_path, training, capsys):
    e5nl.main(training("uit", "--steps", 2, "--save-every", 1000))
    e5nl.main(training("uit", "--steps", 2, "--resume"))
    assert "uit: complete since " in capsys.readouterr().out
    with pytest.raises(InputError, match="cannot resume: steps was 2, is now 3"):
        e5nl.main(training("uit", "--steps", 3, "--resume"))


def test_checkpoints_are_written_by_time_too(tmp_path, training, monkeypatch):
    e5nl.main(training("uit", "--steps", 4, "--save-every", 1000))
    assert not list(tmp_path.glob("uit/checkpoints/*"))
    monkeypatch.setattr(e5nl, "SAVE_SECONDS", 0)
    monkeypatch.setattr(e5nl, "SAVE_SHARE", 1e9)
    e5nl.main(training("uit", "--steps", 4, "--save-every", 1000, "--overwrite"))
    assert len(list(tmp_path.glob("uit/checkpoints/*"))) == 2


def test_two_runs_do_not_write_into_one_folder(tmp_path, training):
    with long_runs.only_writer(tmp_path / "uit"):
        with pytest.raises(InputError, match="uit: another run is writing here; wait for it"):
            e5nl.main(training("uit"))
    assert os.listdir(tmp_path / "uit") == []
    e5nl.main(training("uit", "--steps", 1))


@pytest.mark.parametrize("words, noted", [("--steps 9", True), ("--steps 10", False),
                                          ("--steps 12 --warmup 0.1", True)])  # fmt: skip
def test_a_run_of_few_steps_is_noted(training, capsys, words, noted):
    e5nl.main(training("uit", *words.split()))
    assert ("change little at --lr 0.01; lower --batch-size" in capsys.readouterr().out) == noted


def start_nodes(*words: list[str]) -> list[subprocess.Popen]:
    """A process for each list of words, as each of that many nodes would start one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(len(words))}
    nodes = []
    for rank, command in enumerate(words):
        environment = os.environ | meet | {"RANK": str(rank)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, e5nl.__file__, *command]
        nodes.append(subprocess.Popen(command, env=environment, **pipes))
    return nodes


def test_processes_that_differ_stop_before_the_first_step(tmp_path, training):
    """Two nodes without a shared disk: a row of the data differs; one has a checkpoint."""
    e5nl.main(training("one", "--steps", 3))
    (tmp_path / "one/config.json").unlink()
    (tmp_path / "b").mkdir()
    lines = (tmp_path / "waar.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b/waar.jsonl").write_text("".join(lines[:-1]))
    cases = (
        (["a", "--data", tmp_path / "waar.jsonl"], ["a", "--data", tmp_path / "b/waar.jsonl"],
         "source waar is "),
        (["one", "--steps", 3, "--resume"], ["two", "--steps", 3, "--resume"],
         "the step to resume after is 0, not 2"),
    )  # fmt: skip
    for first, second, difference in cases:
        nodes = start_nodes(training(*first), training(*second))
        errors = [node.communicate(timeout=100)[1] for node in nodes]
        assert [node.returncode for node in nodes] == [2, 2]
        lines = [line for text in errors for line in text.splitlines() if "error" in line]
        assert len(lines) == 1 and f"process 1 differs from process 0: {difference}" in lines[0]
        assert not (tmp_path / "a/log.jsonl").exists()


@pytest.mark.parametrize("dies", [0, 1])
def test_a_process_whose_peer_dies_says_so_in_one_line(tmp_path, training, dies):
    nodes = start_nodes(*[training("uit", "--steps", 10**6, "--save-every", 10**6)] * 2)
    for line in nodes[0].stdout:
        if line.startswith("step 3/"):
            break
    nodes[dies].kill()
    error = nodes[1 - dies].communicate(timeout=100)[1]
    assert nodes[1 - dies].returncode == 2, error
    assert error.count("\n") == 1
    assert f"process {1 - dies}: lost the connection to another" in error and "--resume" in error
    nodes[dies].communicate()


def test_processes_end_when_their_launcher_is_gone(tmp_path, training):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc_per_node", "2", e5nl.__file__]
    words = training("uit", "--steps", 10**6, "--save-every", 10**6)
    log = (tmp_path / "printed").open("w+")
    launcher = subprocess.Popen([*command, *words], stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while "step 3/" not in (tmp_path / "printed").read_text():
        assert time.monotonic() < deadline and launcher.poll() is None
        time.sleep(0.1)
    launcher.kill()
    while "stopped after step" not in (tmp_path / "printed").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(list(tmp_path.glob("uit/checkpoints/*"))) == 1


def test_a_mistake_is_reported_once(tmp_path, training):
    """All processes find it; torchrun adds lines of its own about the first."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc_per_node", "3", e5nl.__file__]
    words = training("uit", "--data", tmp_path / "weg.jsonl")
    printed = subprocess.run([*command, *words], capture_output=True, text=True)
    assert printed.returncode and printed.stderr.count("error: ") == 1, printed.stderr
    assert "weg.jsonl: no such file" in printed.stderr
    # A process that is alone with a mistake reports it.
    alone = os.environ | {"LOCAL_RANK": "1"}
    command = "import files; files.time.sleep = print; files.cli(lambda: open('weg'))"
    command = [sys.executable, "-c", command]
    printed = subprocess.run(command, capture_output=True, text=True, env=alone)
    assert printed.returncode == 2 and printed.stderr == "error: weg: No such file or directory\n"


def test_two_processes_give_the_gradient_of_one(tmp_path, training):
    """AdamW's first moment after one step is a tenth of the gradient. 11 rows, so that the
    processes have unequal shares."""
    new_base(tmp_path, "--dropout", 0, name="no-dropout")
    changes = ["--model", tmp_path / "no-dropout", "--steps", 2, "--batch-size", 11]
    changes += ["--clip", 1e9, "--negatives", 2]
    e5nl.main(training("one", *changes))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc_per_node", "2", e5nl.__file__, *training("two", *changes)]
    two = subprocess.run(command, capture_output=True, text=True)
    assert two.returncode == 0 and two.stdout.count("step 1/2") == 1, two.stderr
    gradients = []
    for out in ("one", "two"):
        stored = load_file(tmp_path / out / "checkpoints/step-00000001.safetensors")
        names = sorted(name for name in stored if name.endswith(" exp_avg"))
        gradients.append(torch.cat([stored[name].flatten() for name in names]))
    one, two = gradients
    assert (one - two).norm() <= 1e-6 * one.norm() and one.norm() > 0
    for a, b in zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True):
        assert a["tokens"] == b["tokens"] and a["loss"] == pytest.approx(b["loss"], rel=1e-5)
