"""transtokenize.py: spreading, evidence, the folder. Run: python -m pytest tests/test_transtokenize.py

- Spreading and every class of evidence by hand, from WordPiece to WordPiece and from WordPiece to Unigram.
- With a table of words that are single pieces on both sides, a Dutch text gets the embedding of its translation, bit for bit.
- All other tensors stay (read by safetensors), dtypes too; configuration and tokenizer files name the new ids.
- Bad input gets one clear line, and no folder.
"""

import collections
import doctest
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_align import BERT, framed, sides, unigram, wordpiece, write
from tokenizers import Tokenizer, models, processors

import e5nl
import transtokenize
from files import InputError
from transtokenize import ALIGNED, EVIDENCE, IDENTITY, SUBSTRING, UNKNOWN, Vocabulary, main

# --- from words to pieces ---------------------------------------------------------------------------------------------------


def test_spreading_by_hand():
    # 12 counts of a word of two pieces and one of three: 6 over 2 x 3 cells, and 6 over 0 0 0 1 1 1 beside 0 0 1 1 2 2.
    spread = transtokenize.spread([((1, 2), (0, 3, 4), 12.0), ((2,), (3,), 5.0), ((1, 1), (0,), 2.0)], (6, 4)).toarray()
    expected = np.zeros((6, 4))
    expected[[0, 3, 4], 1] = [1 + 2, 1 + 1, 1]
    expected[[0, 3, 4], 2] = [1, 1 + 1, 1 + 2]
    expected[3, 2] += 5
    expected[0, 1] += 2
    assert spread == pytest.approx(expected)
    assert spread.sum() == pytest.approx(12 + 5 + 2)
    assert not transtokenize.spread([], (6, 4)).toarray().any()


ENGLISH = ["house", "doctor", "amsterdam", "cafe", "18", "##56", "##en", "red", "the", ",", "rare", "56", "##s"]


def weights_of(pairs, source: e5nl.Tokenizer, target: e5nl.Tokenizer, extra: int = 2):
    """({piece: ({source piece: weight}, evidence)}) after checking the shape; pairs are of words, as texts."""
    a, b = Vocabulary(source, "en"), Vocabulary(target, "nl")
    weights, evidence = transtokenize.weigh(a, b, [(a.ids(s), b.ids(t), count) for s, t, count in pairs], source.vocab_size + extra)
    assert weights.shape == (target.vocab_size, source.vocab_size + extra) and len(evidence) == target.vocab_size
    assert weights.sum(1) == pytest.approx(1)
    found = {}
    for id, kind in enumerate(evidence):
        row = weights[[id]]
        sources = {source.backend.id_to_token(int(column)): value for column, value in zip(row.indices, row.data, strict=True)}
        found[target.backend.id_to_token(id)] = sources, EVIDENCE[kind]
    return found


def test_evidence_from_wordpiece_to_wordpiece():
    """The target is cased and has its special tokens elsewhere, as BERTje beside e5-v2."""
    pieces = ["huis", "Huis", "##huis", "huisarts", "Amsterdam", "café", "1856", "##56", "##en", "x", "de", "roodst", "hu", "☃", ","]
    target = wordpiece(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *pieces], special=[])
    target = framed(target.backend, "[CLS]", "[SEP]")
    pairs = [("house", "huis", 30.0), ("red", "huis", 10.0), ("the", "de", 49.0), ("rare", "1856", 4.0)]
    found = weights_of(pairs[:3], wordpiece(ENGLISH, lowercase=True), target)
    for token in BERT:
        assert found[token] == ({token: 1.0}, "special")
    assert found["huis"] == ({"house": 0.75, "red": 0.25}, "aligned")
    assert found["de"] == ({"the": 1.0}, "aligned")
    assert found["Amsterdam"] == ({"amsterdam": 1.0}, "identity")  # the source is uncased
    assert found["café"] == ({"cafe": 1.0}, "identity")  # and has no accents
    assert found["##56"] == ({"##56": 1.0}, "identity")  # not 56, which begins a word
    assert found["1856"] == ({"18": 0.5, "##56": 0.5}, "identity")  # a number without a piece of its own
    assert found[","] == ({",": 1.0}, "identity")
    assert found["Huis"] == found["##huis"] == ({"house": 0.75, "red": 0.25}, "substring")
    assert found["hu"] == ({"house": 0.75, "red": 0.25}, "substring")  # huis and Huis begin with it, 2/4; so does no other with evidence
    assert found["x"] == found["☃"] == ({"[UNK]": 1.0}, "unknown")
    assert found["huisarts"][1] == "substring"
    assert found["roodst"] == ({"[UNK]": 1.0}, "unknown")
    assert weights_of(pairs, wordpiece(ENGLISH, lowercase=True), target)["1856"] == ({"rare": 1.0}, "aligned")  # words come before identity


def test_substrings_by_hand():
    source = wordpiece(["house", "doctor", "##s", "tree"])
    target = wordpiece(["huis", "arts", "huisarts", "huisxarts", "##isarts", "artsen", "artsenpraktijk", "ar", "boom"])
    found = weights_of([("house", "huis", 10.0), ("doctor", "arts", 10.0), ("tree", "boom", 9.0)], source, target)
    assert found["huisarts"] == ({"house": 0.5, "doctor": 0.5}, "substring")  # 4/8 and 4/8
    assert found["huisxarts"] == ({"house": 0.5, "doctor": 0.5}, "substring")  # 4/9 and 4/9; x has no evidence
    assert found["##isarts"] == ({"doctor": 1.0}, "substring")
    assert found["artsen"] == found["artsenpraktijk"] == ({"doctor": 1.0}, "substring")
    assert found["ar"] == ({"doctor": 1.0}, "substring")  # arts begins with it; huisarts has no evidence of its own
    target = wordpiece(["huis", "huisje", "hui", "s"])
    found = weights_of([("house", "huis", 10.0), ("tree", "huisje", 9.0)], source, target)
    assert found["s"][1] == "identity"  # ##s, with the other mark
    assert found["hui"][1] == "substring" and found["hui"][0] == pytest.approx({"house": 0.75 / 1.25, "tree": 0.5 / 1.25})  # 3/4 and 3/6
    target = wordpiece(["lente", "##len", "##lende", "le", "rare"])
    found = weights_of([("tree", "lente", 10.0), ("house", "rarelende", 10.0)], source, target)
    assert found["##len"] == ({"house": 1.0}, "substring")  # ##lende begins so; lente begins a word, as ##len does not
    assert found["le"] == ({"tree": 1.0}, "substring")
    target = wordpiece(["boot", "huis", "xboot", "##huis", "huisboot", "bootje", "de", "bootde"])
    found = weights_of([("house", "huis", 10.0), ("doctor", "boothuis", 10.0), ("tree", "de", 10.0)], source, target)
    assert found["##huis"][1] == found["boot"][1] == "aligned" and found["##huis"][0] == {"doctor": 1.0}
    assert found["huisboot"] == ({"house": 0.5, "doctor": 0.5}, "substring")  # by huis, which begins a word, not by ##huis
    assert found["bootde"][0] == pytest.approx({"doctor": 4 / 6, "tree": 2 / 6})
    assert doctest.testmod(transtokenize) == (0, 1)
    assert transtokenize.inner_texts("abcab", {"abc", "bca", "ca", "ab", "cab"}) == ["abc", "bca", "cab"]


def test_evidence_from_wordpiece_to_unigram():
    source = wordpiece(ENGLISH, lowercase=True)
    target = unigram(["▁", "▁huis", "arts", ",", "▁Amsterdam", "en", "▁huisje", "▁56", "56", "☃", "▁de"])
    found = weights_of([("house", "huis", 30.0), ("doctor", "huisarts", 20.0), ("the", "de", 9.0)], source, target)
    special = {token: next(iter(row)) for token, (row, kind) in found.items() if kind == "special"}
    assert special == {"<s>": "[CLS]", "<pad>": "[PAD]", "</s>": "[SEP]", "<unk>": "[UNK]"}
    # "huisarts" is ▁huis arts: its 20 counts give each piece 10
    assert found["▁huis"] == ({"house": 0.75, "doctor": 0.25}, "aligned")
    assert found["arts"] == ({"doctor": 1.0}, "aligned")
    assert found[","] == ({",": 1.0}, "identity")  # has no mark where it follows a word, but begins one in WordPiece
    assert found["▁Amsterdam"] == ({"amsterdam": 1.0}, "identity")
    assert found["en"] == ({"##en": 1.0}, "identity")
    assert found["▁56"] == ({"56": 1.0}, "identity") and found["56"] == ({"##56": 1.0}, "identity")
    assert found["▁huisje"] == (found["▁huis"][0], "substring")
    assert found["▁"] == found["☃"] == ({"[UNK]": 1.0}, "unknown")


def test_special_tokens_by_their_role():
    tokenizer = framed(wordpiece(["[BOS]", "[EOS]", "[FILL]", "a"]).backend, "[BOS]", "[EOS]")
    tokenizer.config["pad_token"] = {"content": "[FILL]"}
    roles = {role: tokenizer.backend.id_to_token(id) for role, id in Vocabulary(tokenizer, "nl").roles.items()}
    assert roles == {"cls": "[BOS]", "sep": "[EOS]", "pad": "[FILL]", "unk": "[UNK]", "mask": "[MASK]"}


def test_halves_of_characters_are_no_texts(dutch):
    vocabulary = Vocabulary(dutch["BPE"], "nl")
    piece = dutch["BPE"].backend.encode("龍", add_special_tokens=False).ids[0]
    assert vocabulary.texts[piece] == "" and vocabulary.word(dutch["BPE"].backend.encode("龍", add_special_tokens=False).ids) == "龍"


# --- the folder -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def make_english(tmp_path, make_model):
    """make_english(tokenizer, …): a BERT folder on disk, every weight random, with the tensors that an encoder does not use."""

    def make(tokenizer, spare=3, dtype=torch.float32, prefix="", **changes) -> Path:
        shape = {"model_type": "bert", "vocab_size": tokenizer.vocab_size + spare, "type_vocab_size": 2, "pad_token_id": 0}
        model, folder = make_model(**(shape | changes)), tmp_path / "english"
        e5nl.save(model, tokenizer, folder, overwrite=True)
        tensors = load_file(folder / "model.safetensors") | {"pooler.dense.weight": torch.randn(24, 24)}
        tensors = {prefix + name: tensor.to(dtype) for name, tensor in tensors.items()}
        tensors |= {prefix + "embeddings.position_ids": torch.arange(66)[None]}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


def run(model, tokenizer: e5nl.Tokenizer, out: Path, *more) -> dict:
    """Run the command; the report."""
    path = out.parent / "target.json"
    path.write_bytes(tokenizer.json)
    main(["--model", str(model), "--tokenizer", str(path), "--out", str(out), *map(str, more)])
    return json.loads((out / "transtokenize_report.json").read_text())


WORDS = [("the", "de"), ("red", "rode"), ("house", "huis"), ("is", "is"), ("here", "hier"), (".", "."), ("query", "query"), (":", ":")]


def test_a_text_gets_the_embedding_of_its_translation(make_english, tmp_path):
    source = wordpiece([en for en, _ in WORDS], lowercase=True)
    target = wordpiece(["[UNK]", "[CLS]", "[SEP]", "[PAD]", *sorted(nl for _, nl in WORDS)], special=[])
    target = framed(target.backend, "[CLS]", "[SEP]")
    table = write(tmp_path / "table.tsv", "".join(f"{en}\t{nl}\t{count}\n" for count, (en, nl) in enumerate(WORDS, 37)))
    english = make_english(source)
    run(english, target, tmp_path / "dutch", "--table", table)
    dutch = e5nl.embed(*e5nl.load(tmp_path / "dutch", "cpu"), ["de rode huis is hier.", "", "is de huis rode", "huis"], "query")
    expected = e5nl.embed(*e5nl.load(english, "cpu"), ["The red house is here.", "", "IS the house red", "house"], "query")
    assert np.array_equal(dutch, expected)


@pytest.mark.parametrize("kind", ["WordPiece", "Unigram", "BPE"])
def test_from_parallel_text_to_a_folder(make_english, tmp_path, corpus, english, dutch, kind, capsys):
    path = write(tmp_path / "a.tsv.gz", "".join(f"{a}\t{b}\n" for a, b in corpus) + "\talleen\n")
    model = make_english(english)
    report = run(model, dutch[kind], tmp_path / "out", "--parallel", path)
    before, after = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "out"))
    table = "embeddings.word_embeddings.weight"
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before if name != table)

    # The averages, cell by cell from what the functions give.
    both = sides([*corpus, ("", "alleen")], english, dutch[kind])
    weights, evidence = transtokenize.weigh(both[0].vocabulary, both[1].vocabulary, transtokenize.align(*both), len(before[table]))
    expected = np.zeros(after[table].shape)
    for row, column, weight in zip(*weights.nonzero(), weights.data, strict=True):
        expected[row] += weight * before[table][column].numpy()
    assert after[table].numpy() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert np.bincount(evidence, minlength=5).tolist() == [report["evidence"][name]["pieces"] for name in EVIDENCE]
    assert (evidence == ALIGNED).sum() > 150 and (evidence == IDENTITY).any() and (evidence == SUBSTRING).sum() > 150

    counts = collections.Counter(
        id for _, text in [*corpus, ("", "alleen")] for id in dutch[kind].backend.encode(text, add_special_tokens=False).ids
    )
    for number, name in enumerate(EVIDENCE):
        ids = np.flatnonzero(evidence == number)
        one = report["evidence"][name]
        assert one["tokens"] == sum(counts[id] for id in ids)
        assert one["norm"] == pytest.approx(after[table][ids].norm(dim=1).mean().item()) if len(ids) else one["norm"] is None
    assert report["norm_after"] == pytest.approx(after[table].norm(dim=1).mean().item())
    assert report["norm_before"] == pytest.approx(before[table][: english.vocab_size].norm(dim=1).mean().item())
    assert (report["pairs"], report["empty_pairs"]) == (len(corpus), 1)
    assert len(report["examples"]) == 30 and [one["evidence"] for one in report["examples"][::10]] == ["aligned", "identity", "substring"]
    first = report["examples"][0]
    assert first["count"] == max(counts[id] for id in np.flatnonzero(evidence == ALIGNED))
    printed = capsys.readouterr().out
    assert f"4,000 pairs of sentences; {report['word_pairs']:,} pairs of words; 1 pairs with an empty side were left out" in printed
    assert first["piece"] in printed and f"{first['sources'][0][0]} {first['sources'][0][1]:.2f}" in printed
    unknown = [dict(report["unknown"])[token] for token in dict(report["unknown"])]
    assert len(unknown) == (evidence == UNKNOWN).sum() and unknown == sorted(unknown, reverse=True)

    config, settings = (json.loads((tmp_path / "out" / name).read_text()) for name in ("config.json", "tokenizer_config.json"))
    role = Vocabulary(dutch[kind], "nl").roles
    assert config["vocab_size"] == dutch[kind].vocab_size and config["pad_token_id"] == role["pad"]
    assert settings["pad_token"] == dutch[kind].backend.id_to_token(role["pad"]) and settings["model_max_length"] == 66
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == dutch[kind].json
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


def test_every_tensor_with_a_row_a_piece_and_every_dtype(make_english, tmp_path):
    source = wordpiece(["a", "b", "c", "query", ":"])
    target = wordpiece(["[SEP]", "[PAD]", "[UNK]", "[MASK]", "[CLS]", "x", "y", "a", "query", ":"], special=[])
    target = framed(target.backend, "[CLS]", "[SEP]")
    model = make_english(source, spare=0, dtype=torch.bfloat16, prefix="bert.")
    tensors = load_file(model / "model.safetensors")
    heads = {"cls.predictions.bias": torch.randn(10), "cls.predictions.decoder.weight": torch.randn(10, 24).half(),
             "cls.predictions.transform.dense.weight": torch.randn(24, 24)}  # fmt: skip
    save_file(tensors | heads, model / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": None, "x_token_id": 7}))
    table = write(tmp_path / "table.tsv", "b\tx\t30\nc\tx\t10\nc\ty\t12\n")
    run(model, target, tmp_path / "out", "--table", table)
    rows = {id: {from_: 1.0} for id, from_ in enumerate([3, 0, 1, 4, 2, None, 7, 5, 8, 9])} | {5: {6: 0.75, 7: 0.25}}
    after = load_file(tmp_path / "out/model.safetensors")
    for name, old in (tensors | heads).items():
        new = after.pop(name)
        assert new.dtype == old.dtype
        if name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias", "cls.predictions.decoder.weight"):
            for id in range(10):
                expected = sum(weight * old[from_].double() for from_, weight in rows[id].items())
                assert torch.equal(new[id], expected.to(old.dtype)), (name, id)
        else:
            assert torch.equal(new, old), name
    assert not after
    changed = json.loads((tmp_path / "out/config.json").read_text())
    assert [changed[f"{name}_token_id"] for name in ("bos", "sep", "eos", "x", "pad")] == [4, 0, None, 7, 1]


def test_settings_of_the_encoder_are_kept(make_english, tmp_path):
    source, target = wordpiece(["a", "query", ":"], lowercase=True), wordpiece(["x", "a", "query", ":"])
    model = make_english(source, pooling="cls", max_seq_length=33, prompts=(("query", "vraag: "), ("passage", "tekst: "), ("none", "")))
    (model / "onnx").mkdir()
    (model / "vocab.txt").write_text("a\n")
    lengths = json.loads((model / "sentence_bert_config.json").read_text())
    (model / "sentence_bert_config.json").write_text(json.dumps(lengths | {"do_lower_case": True}))  # sentence-transformers obeys it
    run(model, target, tmp_path / "out", "--table", write(tmp_path / "t.tsv", "a\tx"))
    config = e5nl.load(tmp_path / "out", "cpu")[0].config
    assert (config.pooling, config.max_length, dict(config.prompts)["query"]) == ("cls", 33, "vraag: ")
    assert json.loads((tmp_path / "out/sentence_bert_config.json").read_text()) == {"max_seq_length": 33, "do_lower_case": False}
    assert not (tmp_path / "out/vocab.txt").exists() and not (tmp_path / "out/onnx").exists()


@pytest.mark.parametrize("lower", [True, False])
def test_vocabulary_of_a_bert_as_text(make_english, tmp_path, lower):
    pieces = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "huis", "Huis", "##je", "é", "e"]
    (tmp_path / "bertje").mkdir()
    write(tmp_path / "bertje/vocab.txt", "".join(piece + "\n" for piece in pieces))
    write(tmp_path / "bertje/tokenizer_config.json", json.dumps({"do_lower_case": lower, "pad_token": "[PAD]"}))
    model, table = make_english(wordpiece(["house", "query", ":"])), write(tmp_path / "t.tsv", "house\thuis")
    for name in ("bertje", "bertje/vocab.txt"):
        main(["--model", str(model), "--tokenizer", str(tmp_path / name), "--table", table, "--out", str(tmp_path / "out"), "--overwrite"])
    tokenizer = e5nl.read_tokenizer(tmp_path / "out")
    tokens = tokenizer.backend.encode("Huisje é").tokens
    assert tokens == (["[CLS]", "huis", "##je", "e", "[SEP]"] if lower else ["[CLS]", "Huis", "##je", "é", "[SEP]"])
    assert json.loads((tmp_path / "out/config.json").read_text())["pad_token_id"] == 3


# --- bad input --------------------------------------------------------------------------------------------------------------


def refused(match: str, tmp_path: Path, model, tokenizer: e5nl.Tokenizer, *more) -> None:
    with pytest.raises((InputError, FileNotFoundError), match=match) as caught:
        run(model, tokenizer, tmp_path / "out", *more)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_bad_parallel_text(make_english, tmp_path):
    model, target = make_english(wordpiece(["a", "b"])), wordpiece(["x", "y"])
    bad = lambda match, *names, fields=(): refused(match, tmp_path, model, target, "--parallel", *names, *fields)  # noqa: E731
    three, two = write(tmp_path / "en.txt", "a\n\nb\n"), write(tmp_path / "nl.txt", "x\ny\n")
    bad(r"nl.txt: ends after line 2, .*en.txt does not; expected lines that translate", three, two)
    bad(r"nl.txt: ends after line 2, .*en.txt does not", two, three)
    bad(r"en.txt: one language only", three)
    bad(r"nowhere.txt: no such file", three, tmp_path / "nowhere.txt")
    bad(r"a.tsv:2: expected source<TAB>target, found 'b'", write(tmp_path / "a.tsv", "a\tx\nb\n"))
    row = write(tmp_path / "a.jsonl", '{"en": "a", "nl": "x"}\n{"en": "b"}\n')
    bad(r"a.jsonl:2: no column 'nl'; the row has en", row)
    bad(r"a.jsonl:1: field 'nl.x': expected a text", row, fields=("--fields", "en", "nl.x"))
    empty = [write(tmp_path / name, "\n\n") for name in ("empty.en", "empty.nl")]
    bad(r"no pair with words on both sides", *empty)
    bad(r"no pair of words occurs 10 times; give more text, or a lower --min-count", write(tmp_path / "b.tsv", "a\tx\n"))
    refused(r"--parallel is missing", tmp_path, model, target)


def test_bad_tables(make_english, tmp_path):
    model, target = make_english(wordpiece(["a", "b"])), wordpiece(["x", "y"])
    text = write(tmp_path / "a.tsv", "a b\tx\na\tx y\n")

    def bad(match, what, content):
        refused(match, tmp_path, model, target, "--parallel", text, "--min-count", 1, f"--{what}", write(tmp_path / "links", content))

    bad(r"links:2: expected source word<TAB>target word<TAB>count, found 'b'", "table", "a\tx\nb\n")
    bad(r"links:1: expected source word<TAB>target word<TAB>count", "table", "a\tx\tmany\n")
    bad(r"no pair of words occurs 1 times", "table", "a\tx\t0.5\n")


def test_bad_models_and_tokenizers(make_english, tmp_path, folder, tokenizer):
    source, target = wordpiece(["a", "b"]), wordpiece(["x", "y"])
    model, table = make_english(source), ("--table", write(tmp_path / "t.tsv", "a\tx"))
    refused(r"target.json: no piece \[PAD\] or <pad>; an encoder needs one", tmp_path, model,
            framed(wordpiece(["[UNK]", "[CLS]", "[SEP]", "x"], special=[]).backend, "[CLS]", "[SEP]"), *table)  # fmt: skip
    bare = target.backend
    bare.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    (tmp_path / "bare.json").write_text(bare.to_str())
    with pytest.raises(InputError, match=r"bare.json: an empty text becomes \[\]; expected a start and an end token"):
        main(["--model", str(model), "--tokenizer", str(tmp_path / "bare.json"), *table, "--out", str(tmp_path / "out")])
    with pytest.raises(FileNotFoundError, match="nothing.json: no such file; expected a tokenizer.json, the vocab.txt"):
        main(["--model", str(model), "--tokenizer", str(tmp_path / "nothing.json"), *table, "--out", str(tmp_path / "out")])
    (tmp_path / "vocab.txt").write_text("[CLS]\n[SEP]\n")
    with pytest.raises(InputError, match=r"vocab.txt: no piece \[UNK\]"):
        main(["--model", str(model), "--tokenizer", str(tmp_path / "vocab.txt"), *table, "--out", str(tmp_path / "out")])
    ends = Tokenizer(models.BPE({"a</w>": 0, "<s>": 1, "</s>": 2, "<pad>": 3, "<unk>": 4}, [], end_of_word_suffix="</w>"))
    refused(r"marks the ends of words by </w>", tmp_path, model, framed(ends, "<s>", "</s>"), *table)
    refused(r"xlm-roberta counts positions from its pad id 1, the new tokenizer's is 0", tmp_path, folder, wordpiece(["x", "y"]), *table)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    refused(r"model_type is 'gpt2'; this encoder knows", tmp_path, model, target, *table)
    (model / "config.json").write_text(json.dumps(config))
    for read in (model, tmp_path):
        with pytest.raises(InputError, match=r"--out .* holds .*, which is read"):
            main(["--model", str(model), "--tokenizer", str(model), *table, "--out", str(read), "--overwrite"])


def test_a_roberta_type_encoder_keeps_its_positions(folder, tmp_path):
    target = unigram(["▁x", "▁y", "▁query", ":"])
    run(folder, target, tmp_path / "out", "--table", write(tmp_path / "t.tsv", "De\tx\nfiets\ty"))
    model, tokenizer = e5nl.load(tmp_path / "out", "cpu")
    assert model.config.position_offset == 2 and model.config.vocab_size == tokenizer.vocab_size == 8
