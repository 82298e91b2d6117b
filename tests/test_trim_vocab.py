"""trim_vocab.py: what is kept, what is written, and that the proof proves. Run: python -m pytest tests/test_trim_vocab.py

- On the real XLM-R tokenizer and on one trained here: texts whose pieces are all kept give the same pieces (tokenised one by one by the
  library itself) and bit-equal embeddings; ids are contiguous in the old order; the digits of the scores stay (found by pattern matching).
- Parameter counts of the three trimmed E5 models follow from their real configurations.
- Counting equals counting one text at a time, whether or not its words can be taken alone, in every file format and from a data set of
  the hub; weights, ranking, ties and minimum frequency by hand.
- Every file that names an id names the same piece afterwards; rows are gathered and all other tensors stay (read by safetensors).
- A model damaged in any way between cutting and proving leaves no folder and exit status 1.
- Bad input gets one clear line.
"""

import collections
import gzip
import itertools
import json
import lzma
import re
import string
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

import e5nl
import model_folder
import trim_vocab
from files import InputError
from trim_vocab import main

DEMO = Path(__file__).parents[1] / "demo"
TATOEBA = DEMO / "corpus/tatoeba.jsonl.gz"


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Dutch sentences: the tokenizer is trained on the first 3,000, the others are text to trim on and to check with."""
    return list(trim_vocab.read_corpus([f"{TATOEBA}:6000"]))


@pytest.fixture(scope="module")
def tokenizer_json(lines) -> bytes:
    """As conftest's, laid out as XLM-R's, with more pieces. <mask> stands behind the vocabulary, as an added token."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([*lines[:3000], "query: passage: 0123456789"], trainer)
    tokenizer.add_special_tokens(["<mask>"])
    frame = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=frame)
    tokenizer.enable_truncation(max_length=5)
    tokenizer.enable_padding(length=9, pad_id=1, pad_token="<pad>")
    return tokenizer.to_str().encode()


@pytest.fixture
def corpus(tmp_path, lines) -> Path:
    path = tmp_path / "nl.txt"
    path.write_text("\n".join(lines[3000:3400]), encoding="utf-8")
    return path


def backend(folder) -> tokenizers.Tokenizer:
    """The tokenizer as the library loads it, without our reading."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def score_digits(folder) -> list[tuple[str, str]]:
    """(piece, score) of the vocabulary, both as they are written in the file."""
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    return re.findall(r'\[\s*("(?:[^"\\]|\\.)*")\s*,\s*(-?[0-9][0-9.eE+-]*)\s*\]', text[text.index('"vocab"') :])


def edit(path: Path, change) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def run(folder, corpus, out, *more) -> int:
    return main(["--model", str(folder), "--corpus", str(corpus), "--out", str(out), "--vocab-size", "300", *more])


# --- the real tokenizer -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """(model folder with the real 250,002 pieces and random weights, the same trimmed on real Dutch)."""
    root = tmp_path_factory.mktemp("real")
    config = e5nl.Config("xlm-roberta", 250_002, 12, 1, 3, 20, 66, 1, 1e-5, pad_token_id=1)
    tokenizer = e5nl.Tokenizer(lzma.decompress((DEMO / "tokenizer.json.xz").read_bytes()), {"tokenizer_class": "XLMRobertaTokenizer"})
    e5nl.save(e5nl.new_encoder(config, seed=3), tokenizer, root / "model")
    (root / "nl.txt").write_text("𒀀 Ик ☃ ĳ\n" * 3 + "\n".join(trim_vocab.read_corpus([f"{TATOEBA}:9000"])), encoding="utf-8")
    assert main(["--model", str(root / "model"), "--corpus", str(root / "nl.txt"), "--out", str(root / "trimmed")]) == 0
    return root / "model", root / "trimmed"


def test_real_vocabulary_is_a_subset_in_the_old_order(real):
    before, after = (backend(folder) for folder in real)
    pieces = [after.id_to_token(id) for id in range(after.get_vocab_size())]
    old = [before.token_to_id(piece) for piece in pieces]
    assert old == sorted(old) and sorted(after.get_vocab().values()) == list(range(len(pieces)))
    assert pieces[:4] == ["<s>", "<pad>", "</s>", "<unk>"] and pieces[-1] == "<mask>"
    assert 2_000 < len(pieces) < 20_000
    settings = json.loads((real[1] / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["mask_token"] == "<mask>" and settings["sep_token"] == "</s>"
    digits = score_digits(real[0])
    assert len(digits) == 250_002 and score_digits(real[1]) == [digits[id] for id in old]


def test_real_texts_keep_their_pieces_and_embeddings(real):
    before, after = (backend(folder) for folder in real)
    texts = list(trim_vocab.read_corpus([f"{TATOEBA}:9800"]))[9000:]
    kept = [text for text in texts if all(after.token_to_id(token) is not None for token in before.encode("query: " + text).tokens)]
    assert 100 < len(kept) < len(texts)
    for text in kept:
        assert after.encode("query: " + text).tokens == before.encode("query: " + text).tokens
    embeddings = [e5nl.embed(*e5nl.load(folder, "cpu"), kept[:40], "query") for folder in real]
    assert np.array_equal(*embeddings)


def test_real_characters_stay_known(real):
    after, unknown = backend(real[1]), 3
    latin = string.ascii_letters + string.digits + string.punctuation + "éèëïöüáóúàçñßøœÉË€’“”–…°½×"
    for character in latin + "Ик☃ĳ":  # the last four stand in the corpus
        assert unknown not in after.encode(f"a{character}b").ids, character
    assert unknown in backend(real[0]).encode("𒀀").ids  # not known before: no fault of trimming
    assert unknown in after.encode("龍").ids  # neither Latin nor in the corpus
    assert after.encode("cafe\u0301 in\u00a0Delft").ids == after.encode("café in Delft").ids


def test_real_counts_equal_counting_one_text_at_a_time(real, monkeypatch):
    names = [f"{DEMO}/corpus/law.jsonl.gz:60", f"{DEMO}/corpus/ntrex.jsonl.gz"]
    tokenizer, texts = backend(real[0]), list(trim_vocab.read_corpus(names))
    aside = [text for text in texts if len(text) % 3 == 0]
    expected = collections.Counter(id for text in texts if text not in aside for id in tokenizer.encode(text).ids)
    monkeypatch.setattr(trim_vocab, "CHUNK_CHARACTERS", 3000)
    pieces, number = trim_vocab.count_pieces(tokenizer, texts, lambda text: len(text) % 3 == 0)
    assert {id: n for id, n in enumerate(pieces[0].tolist()) if n} == expected
    assert number.tolist() == [len(texts) - len(aside), len(aside)] and 0 < len(aside) < len(texts)
    assert pieces[1].sum() == sum(len(tokenizer.encode(text).ids) for text in aside)


def one_by_one(tokenizer, texts) -> dict[int, int]:
    return dict(collections.Counter(id for text in texts for id in tokenizer.encode(text, add_special_tokens=False).ids))


def test_real_words_counted_once_give_the_counts_of_the_texts(real, lines, tokenizer_json, monkeypatch):
    """By the library, one text at a time; also texts whose words are not to be taken alone."""
    odd = ["", " ", "een  twee", " een", "een ", "een\n\ntwee", "een\ttwee", "een \u0301twee", "\u0301", "een\u00a0twee \u00b4 \u00ad",
           "<s> een</s>", "a <mask> b", "een < twee", "een <s", "龍 龍龍 een", "😀 een", "x" * 300, "…—€ ‘een’",
           "cafe\u0301 café", "ŉ ĳ Ĳ ŀ ſ"]
    texts = odd + lines[:400] + ["een een twee"] * 3 + odd
    monkeypatch.setattr(trim_vocab, "LINE_WORDS", 7)
    keeps_spaces = tokenizers.Tokenizer.from_buffer(tokenizer_json)  # as other converters write XLM-R: two spaces make a piece of their own
    keeps_spaces.pre_tokenizer = pre_tokenizers.Metaspace()
    keeps_spaces.no_truncation()
    keeps_spaces.no_padding()
    for tokenizer, by_word in itertools.product((backend(real[0]), keeps_spaces), (True, False)):
        counts = trim_vocab.count_texts(tokenizer, texts, by_word)
        assert {id: n for id, n in enumerate(counts.tolist()) if n} == one_by_one(tokenizer, texts)
    plain = [text for text in lines if trim_vocab.PLAIN.fullmatch(text)]
    assert len(plain) > 0.9 * len(lines) and not any(map(trim_vocab.PLAIN.fullmatch, odd[:16]))


def test_pieces_that_reach_over_spaces_are_counted_in_whole_texts():
    pieces = [("<unk>", 0.0), ("▁", -4.0), *((letter, -4.0) for letter in "abc"), ("▁a", -3.0), ("▁b", -3.0), ("▁c", -3.0), ("▁b▁c", -3.5)]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    texts = ["龍"] * 1000 + ["a b c", "c b", "b c\nb"]  # the first ones are not counted by words anyhow, so they show nothing
    counts, _ = trim_vocab.count_pieces(tokenizer, texts, lambda text: False)
    assert {id: n for id, n in enumerate(counts[0].tolist()) if n} == one_by_one(tokenizer, texts)
    assert counts[0, tokenizer.token_to_id("▁b▁c")] == 2


# --- parameters -------------------------------------------------------------------------------------------------------------


def checkpoint(width, layers, positions, types, rows) -> dict[str, torch.Tensor]:
    """The tensors of a BERT or XLM-R checkpoint by their shapes alone."""
    matrices = {"embeddings.word_embeddings": (rows, width), "embeddings.position_embeddings": (positions, width),
                "embeddings.token_type_embeddings": (types, width)}  # fmt: skip
    linear = {"pooler.dense": (width, width)}
    norms = ["embeddings.LayerNorm"]
    for i in range(layers):
        at = f"encoder.layer.{i}"
        linear |= {f"{at}.attention.self.{part}": (width, width) for part in ("query", "key", "value")}
        linear |= {f"{at}.attention.output.dense": (width, width), f"{at}.intermediate.dense": (4 * width, width)}
        linear |= {f"{at}.output.dense": (width, 4 * width)}
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    shapes = {f"{name}.weight": shape for name, shape in (matrices | linear).items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    shapes |= {f"{name}.{kind}": (width,) for name in norms for kind in ("weight", "bias")}
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return tensors | {"embeddings.position_ids": torch.empty(1, positions, dtype=torch.int64, device="meta")}


@pytest.mark.parametrize(
    "config, before, after",
    [  # width, layers, positions, types, rows: config.json of intfloat/multilingual-e5-*
        ((384, 12, 512, 2, 250_037), 117_653_760, 40_840_320),
        ((768, 12, 514, 1, 250_002), 278_043_648, 124_443_648),
        ((1024, 24, 514, 1, 250_002), 559_890_432, 355_090_432),
    ],
)
def test_parameters_of_the_papers_models(config, before, after):
    tensors = checkpoint(*config)
    assert trim_vocab.parameters(tensors) == before
    table = "embeddings.word_embeddings.weight"
    trimmed = tensors | {table: tensors[table][:50_002]}
    assert trim_vocab.parameters(trimmed) == after


# --- counting and ranking ---------------------------------------------------------------------------------------------------


def test_formats_give_the_same_texts(tmp_path):
    import pyarrow
    import pyarrow.parquet

    texts = ["een fiets", "Één “huis”", "drie"]
    (tmp_path / "a.txt").write_text("\n".join(texts), encoding="utf-8")
    rows = "".join(json.dumps({"inhoud": text}) + "\n" for text in texts)
    (tmp_path / "a.jsonl").write_text(rows, encoding="utf-8")
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(rows)
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2, 3], "inhoud": texts}), tmp_path / "a.parquet")
    (tmp_path / "source.jsonl").write_text(json.dumps({"query": texts[0], "pos": [texts[1]], "neg": [texts[2]]}), encoding="utf-8")
    for name in ("a.txt", "a.jsonl", "a.jsonl.gz", "a.parquet", "source.jsonl"):
        assert list(trim_vocab.read_corpus([f"{tmp_path}/{name}"], "inhoud")) == texts, name
    assert list(trim_vocab.read_corpus([f"{tmp_path}/a.txt:2", f"{tmp_path}/a.parquet:1"], "inhoud")) == [*texts[:2], texts[0]]
    (tmp_path / "b.txt:2").write_text("x\ny\nz")
    assert list(trim_vocab.read_corpus([f"{tmp_path}/b.txt:2"])) == ["x", "y", "z"]  # a file of that name is a file


@pytest.mark.parametrize(
    "name, expected",
    [
        ("nl.txt:12", ("nl.txt", 12)),
        ("C:nl.txt", ("C:nl.txt", None)),
        ("owner/name:12", ("owner/name", 12)),
        ("owner/name@refs/pr/1:nl/*.gz:7", ("owner/name@refs/pr/1:nl/*.gz", 7)),
    ],
)
def test_names(name, expected):
    assert trim_vocab.parse_name(name) == expected


def test_a_corpus_of_the_hub_by_its_name(folder, tmp_path, hub, lines):
    """The paper's, in the layout that it has there. The network is off."""
    rows = [gzip.compress("".join(json.dumps({"text": f"{line}\n{line}"}) + "\n" for line in some).encode())
            for some in (lines[3000:3300], lines[3300:3400], ["the english"] * 9)]  # fmt: skip
    files = ("nl-validation.tfrecord-00000-of-00002", "nl-validation.tfrecord-00001-of-00002", "en-validation.tfrecord-00000-of-00001")
    hub("allenai/c4", {f"multilingual/c4-{file}.json.gz": row for file, row in zip(files, rows, strict=True)})
    assert list(trim_vocab.read_corpus([trim_vocab.PAPER_CORPUS])) == [f"{line}\n{line}" for line in lines[3000:3400]]
    assert run(folder, f"{trim_vocab.PAPER_CORPUS}:310", tmp_path / "out") == 0  # the first of all files together
    report = json.loads((tmp_path / "out/trim_report.json").read_text())
    assert report["corpus"]["texts"] + report["check"]["texts"] == 310 and report["check"]["texts"] > 9
    refused("owner/none: neither here nor to be had", folder, "owner/none", tmp_path / "more")


def test_chunks_lose_nothing(monkeypatch, greek):
    monkeypatch.setattr(trim_vocab, "CHUNK_CHARACTERS", 200)
    texts = ["", "a" * 500, "b", "", "c" * 60, "d" * 60, "e"]
    chunks = list(trim_vocab.chunk_texts(iter(texts)))
    assert sum(chunks, []) == texts and [len(chunk) for chunk in chunks] == [1, 3, 1, 2]
    tokenizer = backend(greek)
    for number in (0, 1, 7):
        done = list(trim_vocab.tokenise(texts[:number], tokenizer, tokenizer))
        assert [text for chunk, _ in done for text in chunk] == texts[:number]
        for chunk, both in done:
            assert [[one.ids for one in some] for some in both] == 2 * [[tokenizer.encode(text).ids for text in chunk]]


def test_a_tenth_is_held_out(lines):
    held = [trim_vocab.held_out(text) for text in lines + lines]
    assert 0.08 < np.mean(held) < 0.12 and held[:6000] == held[6000:]


def test_ranking_by_hand():
    counts = np.array([9, 3, 7, 3, 1, 0, 3, 2])
    rank = lambda first, least: trim_vocab.rank_pieces(counts, first, least).tolist()  # noqa: E731
    assert rank(set(), 2) == [0, 2, 1, 3, 6, 7]  # ties in the order of ids
    assert rank(set(), 3) == [0, 2, 1, 3, 6]
    assert rank({5, 6, 4}, 3) == [6, 4, 5, 0, 2, 1, 3]  # the favoured whatever their counts, by count
    assert trim_vocab.with_special(np.array([6, 2]), {0, 6}).tolist() == [0, 2, 6]


def test_vocabulary_size_frequency_and_special_tokens(folder, corpus, tmp_path, lines):
    options = ["--vocab-size", "90", "--min-frequency", "3", "--no-keep-characters", "--check", str(corpus)]
    assert run(folder, corpus, tmp_path / "out", *options) == 0
    before, after = backend(folder), backend(tmp_path / "out")
    counts = collections.Counter(id for text in lines[3000:3400] for id in before.encode(text).ids)
    prefixes = set(before.encode("query: passage: ", add_special_tokens=False).ids)
    ranked = sorted((id for id in counts if counts[id] >= 3 and id not in prefixes), key=lambda id: (-counts[id], id))
    ranked = [*sorted(prefixes, key=lambda id: (-counts[id], id)), *ranked][:90]
    special = [before.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    assert sorted(after.get_vocab()) == sorted(before.id_to_token(id) for id in {*ranked, *special})


def test_characters_of_held_out_text_are_kept(folder, tmp_path, tokenizer):
    single = [piece for piece in tokenizer.backend.get_vocab() if len(piece) == 1]
    held = next(text for text in (f"{' '.join(single)} {i}" for i in range(1000)) if trim_vocab.held_out(text))
    (tmp_path / "nl.txt").write_text("\n".join([*(f"fiets {i}" for i in range(99)), held]), encoding="utf-8")
    assert run(folder, tmp_path / "nl.txt", tmp_path / "out") == 0
    assert set(single) <= set(backend(tmp_path / "out").get_vocab())


@pytest.fixture
def greek(tmp_path, make_model):
    """A model whose tokenizer knows λ and μ, alone and in a piece."""
    vocabulary = [(special, 0.0) for special in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary += [("▁", -2.0), ("λ", -7.0), ("μ", -7.5), ("λμ", -8.0), ("▁aλ", -9.0)]
    vocabulary += [(character, -6.0 - 0.01 * i) for i, character in enumerate(string.ascii_lowercase + string.digits + ":")]
    backend = tokenizers.Tokenizer(models.Unigram(vocabulary, unk_id=3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer = e5nl.Tokenizer(backend.to_str().encode(), {})
    e5nl.save(make_model(vocab_size=tokenizer.vocab_size), tokenizer, tmp_path / "greek")
    return tmp_path / "greek"


def test_unknown_characters_are_counted_one_by_one(greek, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("\n".join(f"fiets b {i}" for i in range(50)))
    (tmp_path / "check.txt").write_text("aλ λμλ bμ☃☃μ\nfiets\n☃", encoding="utf-8")  # ☃ was never known
    arguments = [greek, tmp_path / "a.txt", tmp_path / "out", "--vocab-size", "40", "--check", str(tmp_path / "check.txt")]
    assert run(*arguments) == 1
    assert "'λ' 3, 'μ' 3;" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert run(*arguments, "--no-keep-characters") == 0
    report = json.loads((tmp_path / "out/trim_report.json").read_text())
    assert report["check"]["unknown"] == {"λ": 3, "μ": 3} and "▁aλ" in [piece for piece, _ in report["dropped"]]
    assert (report["check"]["kept"], report["check"]["texts"]) == (2, 3)


def test_a_character_of_a_seen_piece_is_kept_alone(greek, tmp_path):
    """λ occurs in the corpus only inside ▁aλ, which is too rare to stay."""
    texts = [text for text in (f"fiets {i}" for i in range(60)) if not trim_vocab.held_out(text)]
    (tmp_path / "a.txt").write_text("\n".join(["aλ", *texts]), encoding="utf-8")
    (tmp_path / "check.txt").write_text("aλ\nfiets", encoding="utf-8")
    assert run(greek, tmp_path / "a.txt", tmp_path / "out", "--vocab-size", "45", "--check", str(tmp_path / "check.txt")) == 0
    pieces = backend(tmp_path / "out").get_vocab()
    assert "λ" in pieces and "▁aλ" not in pieces and "μ" not in pieces


# --- what is written --------------------------------------------------------------------------------------------------------


def test_every_file_names_the_same_piece(folder, corpus, tmp_path):
    """All places that can hold an id are filled, with ids that trimming moves."""
    spec = json.loads((folder / "tokenizer.json").read_text())
    old = {piece: id for id, (piece, _) in enumerate(spec["model"]["vocab"])}
    mask, moved = len(old), len(old) - 1  # <mask> stands behind the vocabulary; the last piece is made a special token too
    name = spec["model"]["vocab"][moved][0]

    def change(spec):
        spec["added_tokens"].append(spec["added_tokens"][0] | {"id": moved, "content": name})
        spec["added_tokens"].sort(key=lambda token: token["id"])
        spec["padding"] |= {"pad_id": moved, "pad_token": name}
        template = processors.TemplateProcessing(single=["<s>", "$A", name], pair=["$A", "$B"], special_tokens=[("<s>", 0), (name, moved)])
        tokenizer = tokenizers.Tokenizer(models.Unigram())
        tokenizer.post_processor = processors.Sequence([template])
        spec["post_processor"] = json.loads(tokenizer.to_str())["post_processor"]

    edit(folder / "tokenizer.json", change)
    decoder = {str(mask): {"content": "<mask>"}, str(moved): {"content": name}}
    edit(folder / "tokenizer_config.json", lambda config: config.update(added_tokens_decoder=decoder, sep_token={"content": name}))
    edit(folder / "config.json", lambda config: config.update(mask_token_id=mask, sep_token_id=7, decoder_start_token_id=moved))
    (folder / "added_tokens.json").write_text(json.dumps({"<mask>": mask}))
    edit(folder / "tokenizer_config.json", lambda config: config.pop("unk_token"))
    (folder / "special_tokens_map.json").write_text(json.dumps({"unk_token": "<s>", "sep_token": "<unk>"}))
    (folder / "sentencepiece.bpe.model").write_bytes(b"old")
    assert run(folder, corpus, tmp_path / "out", "--vocab-size", "120") == 0

    out = tmp_path / "out"
    before, after, spec = backend(folder), backend(out), json.loads((out / "tokenizer.json").read_text())
    new_mask, new_moved = after.token_to_id("<mask>"), after.token_to_id(name)
    assert (new_moved, new_mask) != (moved, mask) and new_mask == after.get_vocab_size() - 1
    added = {token["content"]: token["id"] for token in spec["added_tokens"]}
    assert added == {token: after.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>", name, "<mask>")}
    assert spec["padding"]["pad_id"] == new_moved and spec["padding"]["strategy"] == {"Fixed": 9} and spec["truncation"]["max_length"] == 5
    assert spec["model"]["vocab"][spec["model"]["unk_id"]][0] == "<unk>"
    for tokenizer in (before, after):
        assert tokenizer.encode("de fiets").tokens == ["<s>", *tokenizer.encode("de fiets", add_special_tokens=False).tokens, name]
    config, settings = (json.loads((out / file).read_text()) for file in ("config.json", "tokenizer_config.json"))
    assert config["mask_token_id"] == new_mask and config["decoder_start_token_id"] == new_moved
    assert config["sep_token_id"] == new_moved  # 7 was wrong: the tokenizer calls another piece sep
    table = load_file(out / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert config["vocab_size"] == after.get_vocab_size() == len(table)
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast" and "added_tokens_decoder" not in settings
    # The end is what is put behind a text; names that tokenizer_config.json lacks are those of special_tokens_map.json.
    assert settings["cls_token"] == "<s>" and settings["unk_token"] == "<s>" and settings["sep_token"] == name
    written = {"tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors", "modules.json", "1_Pooling",
               "config_sentence_transformers.json", "sentence_bert_config.json", "trim_report.json"}  # fmt: skip
    assert {path.name for path in out.iterdir()} == written  # nothing that would repeat ids, or keep the old ones
    for file in ("1_Pooling/config.json", "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        assert (out / file).read_bytes() == (folder / file).read_bytes()


def test_the_digits_of_scores_stay(folder, corpus, tmp_path):
    digits = iter(["-3.50", "-41e-1", "-5.1000000000000005", "-6.0E0", "-7", "-3.4635426998138428", "-9.00"] * 100)
    path = folder / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    start = text.index('"vocab"')
    text = text[:start] + re.sub(r",\s*-[0-9.]+\s*\]", lambda match: f", {next(digits)}]", text[start:])
    path.write_text(text, encoding="utf-8")
    assert run(folder, corpus, tmp_path / "out", "--vocab-size", "120") == 0
    before, after = dict(score_digits(folder)), score_digits(tmp_path / "out")
    assert {score for _, score in after} >= {"-3.50", "-41e-1", "-5.1000000000000005", "-6.0E0", "-7", "-3.4635426998138428"}
    assert all(before[piece] == score for piece, score in after)


@pytest.mark.parametrize("shards", [False, True])
def test_rows_are_gathered_and_other_tensors_stay(folder, corpus, tmp_path, shards, monkeypatch):
    """With a masked language model's head, spare rows, half precision and integers, in one file or two."""
    monkeypatch.setattr(model_folder, "BLOCK", 1000)
    size = backend(folder).get_vocab_size()
    old = {f"roberta.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    table = "roberta.embeddings.word_embeddings.weight"
    old[table] = torch.cat([old[table], torch.randn(35, 24)]).half()
    old |= {"lm_head.bias": torch.randn(size + 35), "lm_head.dense.weight": torch.randn(24, 24)}
    old["lm_head.decoder.weight"] = torch.randn(size + 35, 24, dtype=torch.bfloat16)
    old["roberta.embeddings.position_ids"] = torch.arange(66)[None]
    edit(folder / "config.json", lambda config: config.update(vocab_size=size + 35))
    if shards:
        (folder / "model.safetensors").unlink()
        names = sorted(old)
        parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
        for file, part in parts.items():
            save_file({name: old[name] for name in part}, folder / file)
        weight_map = {name: file for file, part in parts.items() for name in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    else:
        save_file(old, folder / "model.safetensors", {"format": "pt"})
    assert run(folder, corpus, tmp_path / "out", "--vocab-size", "120") == 0

    after, tokenizer = backend(tmp_path / "out"), backend(folder)
    kept = [tokenizer.token_to_id(after.id_to_token(id)) for id in range(after.get_vocab_size())]
    new = load_file(tmp_path / "out/model.safetensors")
    assert new.keys() == old.keys() and sorted(path.name for path in (tmp_path / "out").glob("*.safetensors*")) == ["model.safetensors"]
    for name, tensor in old.items():
        expected = tensor[kept] if name in (table, "lm_head.bias", "lm_head.decoder.weight") else tensor
        assert new[name].dtype == tensor.dtype and torch.equal(new[name], expected), name
    stored = (tmp_path / "out/model.safetensors").read_bytes()
    length = int.from_bytes(stored[:8], "little")
    header = json.loads(stored[8 : 8 + length])
    assert all((8 + length + header[name]["data_offsets"][0]) % new[name].element_size() == 0 for name in new)  # aligned
    report = json.loads((tmp_path / "out/trim_report.json").read_text())
    assert report["spare_rows"] == 35 and report["before"]["parameters"] == sum(t.numel() for t in old.values()) - 66
    assert report["after"]["parameters"] == sum(t.numel() for t in new.values()) - 66


def test_the_tokenizer_is_right_about_padding_in_bert(tmp_path, make_model, tokenizer, corpus):
    """As in multilingual-e5-small: pad 0 in config.json, <pad> is 1."""
    tokenizer.config["pad_token"] = "<pad>"
    e5nl.save(make_model(model_type="bert", pad_token_id=0, type_vocab_size=2), tokenizer, tmp_path / "bert")
    assert run(tmp_path / "bert", corpus, tmp_path / "out") == 0
    assert json.loads((tmp_path / "out/config.json").read_text())["pad_token_id"] == 1


def test_special_tokens_that_move(tmp_path, make_model, corpus, lines):
    """<s>, </s>, <unk> and <pad> stand in the middle; BERT does not mind where <pad> goes."""
    vocabulary = [(piece, -3.0 - i / 50) for i, piece in enumerate("▁" + string.ascii_letters + string.digits + ".,:")]
    vocabulary[40:40] = [("<s>", 0), ("</s>", 0), ("<unk>", 0), ("<pad>", 0)]
    tokenizer = tokenizers.Tokenizer(models.Unigram(vocabulary, 42))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>", "<pad>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 41), ("<s>", 40))
    tokenizer = e5nl.Tokenizer(tokenizer.to_str().encode(), {"pad_token": "<pad>"})
    e5nl.save(make_model(model_type="bert", vocab_size=tokenizer.vocab_size, pad_token_id=43), tokenizer, tmp_path / "model")
    assert run(tmp_path / "model", corpus, tmp_path / "out", "--vocab-size", "30", "--no-keep-characters") == 0
    before, after = backend(tmp_path / "model"), backend(tmp_path / "out")
    assert after.token_to_id("<s>") < 40
    assert json.loads((tmp_path / "out/config.json").read_text())["pad_token_id"] == after.token_to_id("<pad>")
    for text in lines[:50]:
        expected = [piece if after.token_to_id(piece) is not None else "<unk>" for piece in before.encode(text).tokens]
        once = [piece for i, piece in enumerate(expected) if i == 0 or piece != "<unk>" or expected[i - 1] != "<unk>"]  # neighbours are one
        assert [after.id_to_token(id) for id in after.encode(text).ids] == once


def test_a_tokenizer_alone(folder, corpus, tmp_path):
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    assert run(tmp_path / "alone", corpus, tmp_path / "out") == 0 == run(folder, corpus, tmp_path / "whole")
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (tmp_path / "whole/tokenizer.json").read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["tokenizer.json", "tokenizer_config.json", "trim_report.json"]


def test_report_by_hand(greek, tmp_path, capsys):
    """Kept: the prefixes' pieces ▁ q u e r y : p a s g. The check texts' pieces: ▁ab, ▁zz ▁ab, ▁λ, ▁pas; zz becomes one <unk>."""
    (tmp_path / "a.txt").write_text("aa ab\n" * 3)
    (tmp_path / "check.txt").write_text("ab\nzz ab\nλ\npas", encoding="utf-8")
    options = ["--vocab-size", "11", "--no-keep-characters", "--min-frequency", "1", "--check", str(tmp_path / "check.txt")]
    assert run(greek, tmp_path / "a.txt", tmp_path / "out", *options) == 0
    report = json.loads((tmp_path / "out/trim_report.json").read_text())
    assert report["before"]["pieces"] == 9 + 26 + 10 + 1 + 1 and report["after"]["pieces"] == 11 + 5
    assert report["corpus"] == {"texts": 3, "tokens": 18} and report["candidates"] == 11 + 3  # b, <s>, </s>
    numbers = {"texts": 4, "kept": 1, "words": 5, "tokens": 15, "tokens_after": 14, "embedded": 1}
    assert report["check"] == numbers | {"share_tokens_kept": 10 / 15, "unknown": {"b": 2, "z": 2, "λ": 1}}
    assert report["before"]["pieces_per_word"] == 15 / 5 and report["after"]["pieces_per_word"] == 14 / 5
    assert report["coverage"] == {"14": 12 / 15} and report["dropped"] == [["b", 2], ["z", 2], ["λ", 1]]
    printed = capsys.readouterr().out
    numbers = [r"pieces +47 +16\n", r"per word +3\.000 +2\.800\n", r"all kept +25\.00% +all give the same pieces; 1 embedded with both"]
    for line in [*numbers, r"unknown +5   b z λ\n"]:
        assert re.search(line, printed), line


def test_a_text_is_counted_or_checked(folder, corpus, tmp_path, lines):
    assert run(folder, corpus, tmp_path / "out") == 0
    report, held = json.loads((tmp_path / "out/trim_report.json").read_text()), sum(map(trim_vocab.held_out, lines[3000:3400]))
    assert (report["corpus"]["texts"], report["check"]["texts"]) == (400 - held, held)
    assert run(folder, corpus, tmp_path / "out", "--check", f"{corpus}:7", "--overwrite") == 0
    report = json.loads((tmp_path / "out/trim_report.json").read_text())
    assert (report["corpus"]["texts"], report["check"]["texts"]) == (400, 7)


def test_same_run_same_bytes(folder, corpus, tmp_path):
    for name in ("one", "two"):
        assert run(folder, corpus, tmp_path / name) == 0
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path


def test_few_tokens_kept_is_said(folder, corpus, tmp_path, capsys):
    (tmp_path / "en.txt").write_text("3.\n" * 20 + "7.\n")
    assert run(folder, tmp_path / "en.txt", tmp_path / "out", "--check", str(tmp_path / "en.txt")) == 0
    assert "warning" not in capsys.readouterr().out
    with open(tmp_path / "check.txt", "w") as file:
        file.write(corpus.read_text() + "\n3.")
    assert run(folder, tmp_path / "en.txt", tmp_path / "out", "--check", str(tmp_path / "check.txt"), "--overwrite") == 0
    assert re.search(r"warning: few tokens are kept .* another language", capsys.readouterr().out)


# --- the property that the proof rests on -----------------------------------------------------------------------------------

LAYOUTS = {  # of normaliser and pre-tokenizer, as they occur in XLM-R's family
    "XLM-R": (normalizers.NFKC(), pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])),
    "transformers 5": (normalizers.NFKC(), pre_tokenizers.Metaspace(prepend_scheme="always", split=True)),
    "sentencepiece converter": (
        normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(), normalizers.Replace(tokenizers.Regex(" {2,}"), "▁")]),
        pre_tokenizers.Metaspace(prepend_scheme="always", split=False),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_segmentation_stays_when_other_pieces_go(layout, tokenizer_json, lines, tmp_path):
    """Many random vocabularies: texts whose pieces are all kept are cut as before."""
    spec = trim_vocab.parse_tokenizer(tokenizer_json)
    styled = tokenizers.Tokenizer(models.Unigram())
    styled.normalizer, styled.pre_tokenizer = LAYOUTS[layout]
    spec |= {part: json.loads(styled.to_str())[part] for part in ("normalizer", "pre_tokenizer")} | {"padding": None, "truncation": None}
    before = tokenizers.Tokenizer.from_str(trim_vocab.dump_tokenizer(spec).decode())
    encodings = [(text, before.encode(text)) for text in [*lines[3000:3600], "", "  twee  spaties ", "Één ﬁets\tof①twee"]]
    generator, compared = np.random.default_rng(1), 0
    for _ in range(20):
        kept = np.flatnonzero(generator.random(before.get_vocab_size()) < 0.9)
        kept = trim_vocab.with_special(kept, {0, 1, 2, 3, before.token_to_id("<mask>")})
        trimmed = trim_vocab.trim_files({"tokenizer.json": spec}, {}, kept)["tokenizer.json"]
        after = tokenizers.Tokenizer.from_str(trim_vocab.dump_tokenizer(trimmed).decode())
        pieces = {before.id_to_token(id) for id in kept}
        for text, encoding in encodings:
            if {before.id_to_token(id) for id in encoding.ids} <= pieces:
                compared += 1
                assert after.encode(text).tokens == encoding.tokens
    assert compared > 1000


# --- the proof --------------------------------------------------------------------------------------------------------------


def swap_rows(out, tensors):
    tensors["embeddings.word_embeddings.weight"][[20, 21]] = tensors["embeddings.word_embeddings.weight"][[21, 20]]


def nudge(out, tensors):
    tensors["encoder.layer.1.output.LayerNorm.bias"][3] *= 1.0001


def lose_a_tensor(out, tensors):
    tensors["pooler.dense.bias"] = torch.zeros(24)


def change_a_score(out, tensors):
    edit(out / "tokenizer.json", lambda spec: spec["model"]["vocab"][30].__setitem__(1, -1.5))


def swap_pieces(out, tensors):
    def change(spec):
        vocabulary = spec["model"]["vocab"]
        vocabulary[30], vocabulary[31] = vocabulary[31], vocabulary[30]

    edit(out / "tokenizer.json", change)


def stale_template(out, tensors):
    edit(out / "tokenizer.json", lambda spec: spec["post_processor"]["special_tokens"]["</s>"].update(ids=[9]))


def other_normaliser(out, tensors):
    edit(out / "tokenizer.json", lambda spec: spec.update(normalizer={"type": "Lowercase"}))


def other_epsilon(out, tensors):
    edit(out / "config.json", lambda config: config.update(layer_norm_eps=1e-3))


def other_pooling(out, tensors):
    edit(out / "1_Pooling/config.json", lambda config: config.update(pooling_mode_mean_tokens=False, pooling_mode_cls_token=True))


@pytest.mark.parametrize(
    "damage, found",
    [
        (swap_rows, "tensor embeddings.word_embeddings.weight changed"),
        (nudge, "tensor encoder.layer.1.output.LayerNorm.bias changed"),
        (lose_a_tensor, "tensor pooler.dense.bias is in one checkpoint only"),
        (change_a_score, "pieces or scores in tokenizer.json changed"),
        (swap_pieces, "are not the kept pieces in their order"),
        (stale_template, "all pieces of a text are kept, but"),
        (other_normaliser, "all pieces of a text are kept, but"),
        (other_epsilon, r"the embeddings of \d+ texts with the same pieces differ"),
        (other_pooling, r"the embeddings of \d+ texts with the same pieces differ"),
    ],
)
def test_damage_is_found(folder, corpus, tmp_path, monkeypatch, capsys, damage, found):
    write_model = trim_vocab.write_model

    def write_and_damage(model, out, kept):
        write_model(model, out, kept)
        tensors = {name: tensor.clone() for name, tensor in load_file(out / "model.safetensors").items()}
        damage(out, tensors)
        save_file(tensors, out / "model.safetensors", {"format": "pt"})

    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_text("stays")
    monkeypatch.setattr(trim_vocab, "write_model", write_and_damage)
    assert run(folder, corpus, tmp_path / "out", "--overwrite") == 1
    assert re.search(f"the proof failed, nothing was written to .*out:\n(.*\n)*.*{found}", capsys.readouterr().err)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json"]  # what was there stays, nothing half-written
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]
    monkeypatch.undo()
    assert run(folder, corpus, tmp_path / "out", "--overwrite") == 0


def test_a_risen_unknown_score_is_found(tmp_path, greek):
    """<unk> scores 10 below the lowest piece: with ▁aλ at -30, without it at -17.5, above the dropped λ."""

    def change(spec):
        for row in spec["model"]["vocab"]:
            row[1] = {"▁aλ": -20.0, "λ": -18.0}.get(row[0], row[1])

    edit(greek / "tokenizer.json", change)
    (tmp_path / "a.txt").write_text("\n".join(f"fiets {i}" for i in range(50)))
    before = trim_vocab.read_model(greek)
    kept = np.array([id for id, piece in enumerate(before.pieces) if "λ" not in piece])
    after = before._replace(pieces=[before.pieces[id] for id in kept], rows=len(kept), files=trim_vocab.trim_files(before.files, {}, kept))
    assert trim_vocab.check_vocabulary(before, after, kept) == ["<unk> would score higher than the dropped character 'λ'; keep more pieces"]


def test_nothing_to_compare_is_no_proof(folder, corpus, tmp_path, capsys):
    (tmp_path / "check.txt").write_text("Zij leest geschiedenis\n")
    assert run(folder, corpus, tmp_path / "out", "--vocab-size", "30", "--no-keep-characters", "--check", str(tmp_path / "check.txt")) == 1
    assert "nothing was compared" in capsys.readouterr().err


# --- bad input --------------------------------------------------------------------------------------------------------------


def refused(match, *arguments):
    with pytest.raises((InputError, FileNotFoundError), match=match):
        run(*arguments)


def test_bad_input(folder, corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    refused(r"--vocab-size 50,000: the tokenizer has \d+ pieces", folder, corpus, out, "--vocab-size", "50000")
    refused(r"no room for the \d+ pieces .* or add --no-keep-characters", folder, corpus, out, "--vocab-size", "20")
    no_advice = r"no room for the \d+ pieces that must stay; ask for more than \d+$"
    refused(no_advice, folder, corpus, out, "--vocab-size", "5", "--no-keep-characters")
    (tmp_path / "empty.txt").write_text("\n \n")
    refused(r"empty.txt: no texts", folder, tmp_path / "empty.txt", out)
    refused(r"empty.txt: no texts", folder, corpus, out, "--check", str(tmp_path / "empty.txt"))
    refused(r"nl.txt:0: no texts", folder, f"{corpus}:0", out)
    (tmp_path / "few.txt").write_text("een fiets")
    refused(r"few.txt: 1 texts are too few", folder, tmp_path / "few.txt", out)
    refused(r"nl.jsonl: no such file", folder, tmp_path / "nl.jsonl", out)
    (tmp_path / "nl.jsonl").write_text('{"text": "een"}\n{"tekst": "twee"}\n')
    refused(r"nl.jsonl:2: no column 'text'", folder, tmp_path / "nl.jsonl", out)
    refused(r"--out .* holds .*, which is read; choose another", folder, corpus, folder, "--overwrite")
    refused(r"--out .* holds .*, which is read; choose another", folder, corpus, corpus.parent, "--overwrite")
    refused(r"no such folder", tmp_path / "nowhere", corpus, out)
    with pytest.raises(InputError, match=r"--corpus is missing: .* The paper's is --corpus 'allenai/c4:.*nl-validation.*json.gz'"):
        main(["--model", str(folder), "--out", str(out)])
    refused(r"curve.md: expected a name that ends in .png, .svg or .pdf", folder, corpus, out, "--plot", "curve.md")
    refused(r"nl.txt: exists already", folder, corpus, out, "--plot", str(corpus))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(r"curve.png: needs matplotlib", folder, corpus, out, "--plot", "curve.png")
    with monkeypatch.context() as patch:  # what would fail at the end fails before the work
        patch.setattr(trim_vocab, "count_pieces", None)
        refused(r"none.txt: no such file", folder, corpus, out, "--check", str(corpus), str(tmp_path / "none.txt"))
        refused(r"the tokenizer has", folder, corpus, out, "--vocab-size", "50000")
    assert not out.exists()
    out.mkdir()
    refused(r"out: exists already; .* --overwrite", folder, corpus, out)


@pytest.mark.parametrize("kind", ["BPE", "WordPiece"])
@pytest.mark.parametrize("named", [True, False])  # old files do not name the type
def test_other_tokenizers_are_refused_by_name(folder, corpus, tmp_path, kind, named):
    model = models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]) if kind == "BPE" else models.WordPiece({"[UNK]": 0, "a": 1})
    spec = json.loads(tokenizers.Tokenizer(model).to_str())
    assert spec["model"]["type"] == kind
    if not named:
        del spec["model"]["type"]
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    refused(rf"a {kind} tokenizer; only Unigram .* transtokenize.py", folder, corpus, tmp_path / "out")


def test_stale_ids_are_refused(folder, corpus, tmp_path):
    edit(folder / "tokenizer.json", lambda spec: spec["added_tokens"][-1].update(id=77))
    refused(r"tokenizer.json: \d+ pieces with ids from 0, but a file here names another id 77;", folder, corpus, tmp_path / "out")


def test_stale_ids_in_other_files_are_refused(folder, corpus, tmp_path):
    edit(folder / "config.json", lambda config: config.update(decoder_start_token_id=250_001))
    refused(r"names another id 250,001; another tool left stale ids", folder, corpus, tmp_path / "out")


def test_tokenizer_and_embedding_must_agree(folder, corpus, tmp_path):
    edit(folder / "config.json", lambda config: config.update(vocab_size=250))
    refused(r"word_embeddings.weight has \d+ rows, config.json vocab_size 250; they do not belong", folder, corpus, tmp_path / "out")


def test_moved_positions_are_refused(tmp_path, make_model, corpus):
    """XLM-R counts positions from the pad id: it cannot move."""
    vocabulary = [(piece, -3.0 - i / 50) for i, piece in enumerate("▁" + string.ascii_letters + string.digits)]
    vocabulary[9:9] = [("<s>", 0), ("</s>", 0), ("<unk>", 0), ("<pad>", 0)]
    tokenizer = tokenizers.Tokenizer(models.Unigram(vocabulary, 11))
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 10), ("<s>", 9))
    tokenizer = e5nl.Tokenizer(tokenizer.to_str().encode(), {"pad_token": "<pad>"})
    e5nl.save(make_model(vocab_size=tokenizer.vocab_size, pad_token_id=12), tokenizer, tmp_path / "model")
    refused(r"pad_token_id 12 would become \d+, and xlm-roberta counts positions", tmp_path / "model", corpus, tmp_path / "out",
            "--vocab-size", "60", "--no-keep-characters", "--min-frequency", "60")  # fmt: skip


def test_pickled_weights_are_refused(folder, corpus, tmp_path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(r"pytorch_model.bin: a pickle", folder, corpus, tmp_path / "out")
