"""trim_vocab.py: what is kept, what is written, and that the proof proves.

    python -m pytest tests/test_trim_vocab.py

The tokenizers library, one text at a time, judges pieces and counts; safetensors judges tensors;
ranks and reports are worked by hand. The real tokenizer of XLM-R is trimmed once.
"""

import dataclasses
import doctest
import gzip
import json
import lzma
import re
import string
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

import e5nl
import model_folder
import trim_vocab
from files import InputError
from trim_vocab import main

DEMO = Path(__file__).parents[1] / "demo"
TATOEBA = DEMO / "corpus/tatoeba.jsonl.gz"
FILE, TABLE = "model.safetensors", "embeddings.word_embeddings.weight"
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def write(path, *lines: str) -> str:
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def edit(path, change) -> None:
    """Change the content of a JSON file, or the tensors of a safetensors file."""
    if path.suffix == ".json":
        content = read(path)
        change(content)
        write(path, json.dumps(content, ensure_ascii=False))
    else:
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        change(tensors)
        save_file(tensors, path, {"format": "pt"})


def backend(folder) -> Tokenizer:
    """The tokenizer as the library loads it, without our reading."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def counted(tokenizer: Tokenizer, texts, special=False) -> Counter:
    """{id: how often it occurs}, one text at a time by the library."""
    ids = (tokenizer.encode(text, add_special_tokens=special).ids for text in texts)
    return Counter(id for row in ids for id in row)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return list(trim_vocab.read_corpus([f"{TATOEBA}:1000"]))


@pytest.fixture
def run(tmp_path, lines):
    """run(folder, texts, "--vocab-size 90", check=texts): trim into `out`; the exit status."""

    def trim(folder, texts=lines[:400], options="", check=()) -> int:
        corpus, out = write(tmp_path / "nl.txt", *texts), tmp_path / "out"
        words = f"--model {folder} --corpus {corpus} --out {out} --vocab-size 90 {options}".split()
        if check:
            words += ["--check", write(tmp_path / "check.txt", *check)]
        return main([*words, "--overwrite"])

    return trim


@pytest.fixture
def trim(run, tmp_path):
    """As `run`, which has to succeed: (the trimmed folder, its report)."""

    def trim_and_read(*arguments, **options):
        assert run(*arguments, **options) == 0
        return tmp_path / "out", read(tmp_path / "out/trim_report.json")

    return trim_and_read


@pytest.fixture
def make_letters(tmp_path, make_model):
    """make_letters(vocabulary, …): a model folder with these (piece, score) and <mask>."""

    def make(vocabulary, **shape):
        ids = {piece: id for id, (piece, _) in enumerate(vocabulary)}
        tokenizer = Tokenizer(models.Unigram(vocabulary, ids["<unk>"]))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.add_special_tokens([*SPECIAL, "<mask>"])
        ends = (("</s>", ids["</s>"]), ("<s>", ids["<s>"]))
        tokenizer.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=False)
        tokenizer = e5nl.Tokenizer(tokenizer.to_str().encode(), {"pad_token": "<pad>"})
        model = make_model(vocab_size=tokenizer.vocab_size, pad_token_id=ids["<pad>"], **shape)
        e5nl.save(model, tokenizer, tmp_path / "letters")
        return tmp_path / "letters"

    return make


@pytest.fixture
def greek(make_letters):
    """A model whose tokenizer knows λ and μ, alone and in a piece."""
    vocabulary = [(special, 0.0) for special in SPECIAL]
    vocabulary += [("▁", -2.0), ("λ", -7.0), ("μ", -7.5), ("ν", -7.6), ("λμ", -8.0), ("▁aλ", -9.0)]
    letters = enumerate(string.ascii_lowercase + string.digits + ":")
    return make_letters(vocabulary + [(letter, -6.0 - 0.01 * i) for i, letter in letters])


# --- the real tokenizer ---------------------------------------------------------------------------


def score_digits(folder) -> list[tuple[str, str]]:
    """(piece, score) of the vocabulary, both as they are written in the file."""
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    row = r'\[\s*("(?:[^"\\]|\\.)*")\s*,\s*(-?[0-9][0-9.eE+-]*)\s*\]'
    return re.findall(row, text[text.index('"vocab"') :])


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The real 250,002 pieces and random weights, trimmed on real Dutch and four odd characters."""
    root = tmp_path_factory.mktemp("real")
    tokenizer = e5nl.Tokenizer(lzma.decompress((DEMO / "tokenizer.json.xz").read_bytes()), {})
    config = e5nl.Config("xlm-roberta", 250_002, 12, 1, 3, 20, 66, 1, 1e-5, pad_token_id=1)
    e5nl.save(e5nl.new_encoder(config, seed=3), tokenizer, root / "model")
    odd = write(root / "odd.txt", *["𒀀 Ик ☃ ĳ"] * 3)
    options = ["--model", f"{root}/model", "--corpus", odd, f"{TATOEBA}:9000"]
    assert main([*options, "--out", f"{root}/out"]) == 0
    return SimpleNamespace(
        folders=(root / "model", root / "out"),
        before=tokenizer.backend,
        after=backend(root / "out"),
    )


def test_real_pieces_are_a_subset_in_the_old_order_with_the_old_scores(real):
    pieces = [real.after.id_to_token(id) for id in range(real.after.get_vocab_size())]
    old = [real.before.token_to_id(piece) for piece in pieces]
    assert old == sorted(old) and 2_000 < len(pieces) < 20_000
    assert pieces[:4] == SPECIAL and pieces[-1] == "<mask>"
    before, after = map(score_digits, real.folders)
    assert len(before) == 250_002 and after == [before[id] for id in old]


def test_real_texts_keep_their_pieces(real):
    texts = list(trim_vocab.read_corpus([f"{TATOEBA}:9800"]))[9000:]
    tokens = {text: real.before.encode(f"query: {text}").tokens for text in texts}
    kept = [text for text in texts if all(map(real.after.get_vocab().__contains__, tokens[text]))]
    assert 100 < len(kept) < len(texts)
    assert all(real.after.encode(f"query: {text}").tokens == tokens[text] for text in kept)


def test_real_characters_stay_known(real):
    latin = string.ascii_letters + string.digits + string.punctuation
    for character in latin + "éèëïöüáóúàçñßøœÉË€’“”–…°½×" + "Ик☃ĳ":  # the last are in the corpus
        assert 3 not in real.after.encode(f"a{character}b").ids, character
    assert 3 in real.before.encode("𒀀").ids, "not known before: no fault of trimming"
    assert 3 in real.after.encode("龍").ids, "neither Latin nor in the corpus"
    composed = real.after.encode("café in Delft").ids
    assert real.after.encode("cafe\u0301 in\u00a0Delft").ids == composed


# --- counting -------------------------------------------------------------------------------------


ODD = [  # texts whose words are not to be taken alone
    "", " ", "een  twee", " een", "een ", "een\n\ntwee", "een\ttwee", "een \u0301twee", "\u0301",
    "een\u00a0twee \u00b4 \u00ad", "<s> een</s>", "a <mask> b", "een < twee", "een <s",
    "龍 龍龍 een", "😀 een",
]  # fmt: skip
UNUSUAL = ["x" * 300, "…—€ ‘een’", "cafe\u0301 café", "ŉ ĳ Ĳ ŀ ſ"]


@pytest.mark.parametrize("name", ["real", "two spaces make a piece"])
def test_counts_are_those_of_one_text_at_a_time(real, folder, lines, monkeypatch, name):
    """Of all words once, of complete texts, and of both sides of a text that is cut in chunks."""
    monkeypatch.setattr(trim_vocab, "LINE_WORDS", 7)
    monkeypatch.setattr(trim_vocab, "CHUNK_CHARACTERS", 3000)
    tokenizer = real.before if name == "real" else backend(folder)
    texts = ODD + UNUSUAL + lines[:400] + ["een een twee"] * 3 + ODD
    for by_word in (True, False):
        counts = trim_vocab.count_texts(tokenizer, texts, by_word)
        assert Counter(dict(enumerate(counts))) == counted(tokenizer, texts)
    pieces, number = trim_vocab.count_pieces(tokenizer, texts, lambda text: len(text) % 3 == 0)
    for aside, counts in enumerate(pieces):
        side = [text for text in texts if (len(text) % 3 == 0) == aside]
        assert number[aside] == len(side)
        assert Counter(dict(enumerate(counts))) == counted(tokenizer, side, special=True)


def test_pieces_that_reach_over_spaces_are_counted_in_complete_texts():
    pieces = [("<unk>", 0.0), *((piece, -4.0) for piece in "▁abc")]
    pieces += [("▁a", -3.0), ("▁b", -3.0), ("▁c", -3.0), ("▁b▁c", -3.5)]
    tokenizer = Tokenizer(models.Unigram(pieces, 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    texts = ["龍"] * 1000 + ["a b c", "c b", "b c\nb"]  # the first are not plain and show nothing
    counts = trim_vocab.count_pieces(tokenizer, texts, lambda text: False)[0][0]
    assert Counter(dict(enumerate(counts))) == counted(tokenizer, texts)
    assert counts[tokenizer.token_to_id("▁b▁c")] == 2


@pytest.mark.parametrize(("number", "chunks"), [(0, []), (1, [1]), (7, [2, 3, 2])])
def test_chunks_lose_nothing(monkeypatch, greek, number, chunks):
    monkeypatch.setattr(trim_vocab, "CHUNK_CHARACTERS", 200)
    tokenizer, texts = backend(greek), ["", "a" * 500, "b", "", "c" * 60, "d" * 60, "e"][:number]
    tokenised = list(trim_vocab.tokenise(iter(texts), tokenizer))
    assert [len(chunk) for chunk, _ in tokenised] == chunks
    assert sum((chunk for chunk, _ in tokenised), []) == texts
    ids = sum((ids for _, (ids,) in tokenised), [])
    assert ids == [tokenizer.encode(text).ids for text in texts]


# --- the text -------------------------------------------------------------------------------------

def test_texts_are_lines_fields_of_tables_and_all_texts_of_training_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = ["een fiets", "Één “huis”", "drie"]
    write(tmp_path / "a.txt", *texts)
    write(tmp_path / "a.jsonl", *(json.dumps({"inhoud": text}) for text in texts))
    write(tmp_path / "b.jsonl", '{"query": "een fiets", "pos": ["Één “huis”"], "neg": ["drie"]}')
    for name in ("a.txt", "a.jsonl", "b.jsonl"):
        assert list(trim_vocab.read_corpus([name], "inhoud")) == texts, name
    first = trim_vocab.read_corpus(["a.txt:2", "a.jsonl:1"], "inhoud")
    assert list(first) == [*texts[:2], texts[0]]
    write(tmp_path / "b.txt:2", "x")  # a file of that name is a file
    assert list(trim_vocab.read_corpus(["b.txt:2"])) == ["x"]
    assert doctest.testmod(trim_vocab).failed == 0


def test_the_papers_corpus_on_the_hub(folder, trim, run, hub, lines):
    """In its own layout. The network is off."""
    files = {"nl-validation.0": lines[:300], "nl-validation.1": lines[300:400], "en-test": "x"}
    for name, texts in files.items():
        rows = "".join(json.dumps({"text": f"{text}\n{text}"}) + "\n" for text in texts)
        hub("allenai/c4", {f"multilingual/c4-{name}.json.gz": gzip.compress(rows.encode())})
    corpus = list(trim_vocab.read_corpus([trim_vocab.PAPER_CORPUS]))
    assert corpus == [f"{text}\n{text}" for text in lines[:400]]
    # The first texts of all files together.
    _, report = trim(folder, options=f"--corpus {trim_vocab.PAPER_CORPUS}:310")
    assert report["corpus"]["texts"] + report["check"]["texts"] == 310
    with pytest.raises(InputError, match="owner/none: neither here nor available"):
        run(folder, options="--corpus owner/none")


def test_a_tenth_of_all_texts_is_held_out_and_not_counted(folder, trim, lines):
    held = [trim_vocab.held_out(text) for text in lines + lines]
    assert 0.08 < np.mean(held) < 0.12 and held[:1000] == held[1000:]
    count = sum(held[:400])
    _, report = trim(folder)
    assert (report["corpus"]["texts"], report["check"]["texts"]) == (400 - count, count)
    _, report = trim(folder, check=lines[:7])
    assert (report["corpus"]["texts"], report["check"]["texts"]) == (400, 7)


# --- ranking --------------------------------------------------------------------------------------


def test_prefixes_frequent_pieces_and_special_tokens_are_kept(folder, trim, lines):
    options = "--vocab-size 70 --min-frequency 3 --no-keep-characters"
    out, _ = trim(folder, options=options, check=lines[:400])
    before = backend(folder)
    counts = counted(before, lines[:400], special=True)
    prefixes = set(before.encode("query: passage: ", add_special_tokens=False).ids)
    ranked = sorted(id for id in before.get_vocab().values() if counts[id] >= 3 or id in prefixes)
    ranked.sort(key=lambda id: (id not in prefixes, -counts[id]))
    kept = map(before.id_to_token, ranked[:70])  # special tokens that occur are among them
    assert set(backend(out).get_vocab()) == {*kept, *SPECIAL, "<mask>"}


def test_characters_of_rare_pieces_and_of_held_out_text_are_kept(greek, trim):
    """λ occurs in the corpus only inside ▁aλ, which is too rare to stay; μ is held out."""
    held = {False: [], True: []}
    for i in range(999):
        held[trim_vocab.held_out(f"fiets {i}")].append(f"fiets {i}")
        held[trim_vocab.held_out(f"μ {i}")].append(f"μ {i}")
    counted = [text for text in held[False] if "μ" not in text][:60]
    assert not trim_vocab.held_out("aλ")
    shown = [text for text in held[True] if "μ" in text][:1]
    out, _ = trim(greek, ["aλ", *counted, *shown], "--vocab-size 45")
    assert backend(out).get_vocab().keys() & {"λ", "μ", "ν", "▁aλ", "λμ"} == {"λ", "μ"}


# --- what is written ------------------------------------------------------------------------------


@pytest.fixture
def moved(folder, trim):
    """(piece, folder, trimmed folder): every place that can hold an id has that of <mask> or of a
    piece that trimming moves."""
    vocabulary = read(folder / "tokenizer.json")["model"]["vocab"]
    mask, last = len(vocabulary), len(vocabulary) - 1
    piece = vocabulary[last][0]

    def change(spec):
        spec["added_tokens"].insert(-1, spec["added_tokens"][0] | {"id": last, "content": piece})
        spec["padding"] |= {"pad_id": last, "pad_token": piece}
        ends = [("<s>", 0), (piece, last)]
        template = processors.TemplateProcessing(f"<s> $A {piece}", "$A $B", special_tokens=ends)
        sequence = Tokenizer(models.Unigram())
        sequence.post_processor = processors.Sequence([template])
        spec["post_processor"] = json.loads(sequence.to_str())["post_processor"]

    edit(folder / "tokenizer.json", change)
    ids = {"mask_token_id": mask, "sep_token_id": 7, "decoder_start_token_id": last}
    edit(folder / "config.json", lambda config: config.update(ids))
    decoder = {str(last): {"content": piece}}
    settings = {"added_tokens_decoder": decoder, "sep_token": {"content": piece}}
    write(folder / "tokenizer_config.json", json.dumps(settings))
    write(folder / "special_tokens_map.json", '{"unk_token": "<s>", "sep_token": "<unk>"}')
    write(folder / "added_tokens.json", json.dumps({"<mask>": mask}))
    write(folder / "sentencepiece.bpe.model", "old")
    return piece, folder, trim(folder)[0]


def test_every_file_names_the_same_pieces_by_their_new_ids(moved):
    piece, folder, out = moved
    before, after, spec = backend(folder), backend(out), read(out / "tokenizer.json")
    ids, new = after.get_vocab(), after.token_to_id(piece)
    assert new != before.token_to_id(piece) and ids["<mask>"] == len(ids) - 1
    added = {token["content"]: token["id"] for token in spec["added_tokens"]}
    assert added == {token: ids[token] for token in (*SPECIAL, piece, "<mask>")}
    assert spec["padding"]["pad_id"] == new and spec["truncation"]["max_length"] == 5
    assert spec["model"]["vocab"][spec["model"]["unk_id"]][0] == "<unk>"
    for tokenizer in (before, after):
        middle = tokenizer.encode("de fiets", add_special_tokens=False).tokens
        assert tokenizer.encode("de fiets").tokens == ["<s>", *middle, piece]

    # 7 for sep_token_id was wrong: the tokenizer says which piece it is
    config, settings = read(out / "config.json"), read(out / "tokenizer_config.json")
    expected = {"mask_token_id": ids["<mask>"], "decoder_start_token_id": new, "sep_token_id": new}
    assert config.items() >= (expected | {"vocab_size": len(ids)}).items()
    names = [settings[f"{role}_token"] for role in ("cls", "sep", "mask", "unk")]
    assert names == ["<s>", piece, "<mask>", "<s>"]  # the last from special_tokens_map.json


def test_the_card_says_what_was_trimmed_and_keeps_what_others_wrote(folder, trim):
    out, report = trim(folder)
    card = out / "README.md"
    before, after = (f"{report[x]['pieces']:,}" for x in ("before", "after"))
    assert f"1. Trimmed from {before} to {after} pieces" in card.read_text()
    card.write_text(card.read_text() + "Mine.\n")
    trim(folder)
    assert card.read_text().count("Mine.\n") == card.read_text().count("Trimmed from") == 1


def test_nothing_that_would_keep_the_old_ids_is_written(moved):
    _, folder, out = moved
    same = {"modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"}
    other = {"config.json", "tokenizer.json", "tokenizer_config.json", FILE, "trim_report.json"}
    other |= {"README.md"}
    assert {path.name for path in out.iterdir()} == same | other | {"1_Pooling"}
    assert "added_tokens_decoder" not in read(out / "tokenizer_config.json")
    for name in (*same, "1_Pooling/config.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()


def test_the_digits_of_scores_stay(folder, trim):
    digits = ["-3.50", "-41e-1", "-5.1000000000000005", "-6.0E0", "-7", "-3.4635426998138428"]
    turns = iter(digits * 100)
    path = folder / "tokenizer.json"
    write(path, re.sub(r"-\d+\.\d+(?=\])", lambda _: next(turns), path.read_text(encoding="utf-8")))
    out, _ = trim(folder)
    before, after = dict(score_digits(folder)), score_digits(out)
    assert {score for _, score in after} >= set(digits)
    assert all(before[piece] == score for piece, score in after)


@pytest.fixture
def headed(folder, monkeypatch):
    """(folder, its tensors): two files, a language model's head, spare rows, halves, integers."""
    monkeypatch.setattr(model_folder, "BLOCK", 1000)
    tensors = {f"roberta.{name}": tensor for name, tensor in load_file(folder / FILE).items()}
    table, shards = tensors[f"roberta.{TABLE}"], {}
    rows = len(table) + 35
    tensors |= {
        f"roberta.{TABLE}": torch.cat([table, torch.randn(35, 24)]).half(),
        "roberta.embeddings.position_ids": torch.arange(66)[None],
        "lm_head.bias": torch.randn(rows),
        "lm_head.dense.weight": torch.randn(24, 24),
        "lm_head.decoder.weight": torch.randn(rows, 24, dtype=torch.bfloat16),
    }
    edit(folder / "config.json", lambda config: config.update(vocab_size=rows))
    (folder / FILE).unlink()
    for i, file in enumerate(["model-1.safetensors", "model-2.safetensors"]):
        names = list(tensors)[i::2]
        save_file({name: tensors[name] for name in names}, folder / file)
        shards |= dict.fromkeys(names, file)
    write(folder / f"{FILE}.index.json", json.dumps({"weight_map": shards}))
    return folder, tensors


def test_rows_are_gathered_and_other_tensors_stay(headed, trim):
    (folder, old), by_piece = headed, (f"roberta.{TABLE}", "lm_head.bias", "lm_head.decoder.weight")
    out, report = trim(folder)
    before, after = backend(folder), backend(out)
    ids = range(after.get_vocab_size())
    kept = [before.token_to_id(after.id_to_token(id)) for id in ids]
    new = load_file(out / FILE)
    assert new.keys() == old.keys() and [path.name for path in out.glob("*.safet*")] == [FILE]
    for name, tensor in old.items():
        expected = tensor[kept] if name in by_piece else tensor
        assert new[name].dtype == tensor.dtype and torch.equal(new[name], expected), name
    sizes = [sum(t.numel() for t in tensors.values()) - 66 for tensors in (old, new)]
    assert [report[side]["parameters"] for side in ("before", "after")] == sizes


def test_the_tokenizer_is_right_about_padding_in_bert(tmp_path, make_model, tokenizer, trim):
    """As in multilingual-e5-small: pad 0 in config.json, <pad> is 1."""
    model = make_model(model_type="bert", pad_token_id=0, type_vocab_size=2)
    e5nl.save(model, tokenizer, tmp_path / "bert")
    out, _ = trim(tmp_path / "bert")
    assert read(out / "config.json")["pad_token_id"] == 1


MIDDLE = [(piece, -3.0 - i / 50) for i, piece in enumerate("▁" + string.ascii_letters + ".,:")]
MIDDLE[40:40] = [("<s>", 0), ("</s>", 0), ("<unk>", 0), ("<pad>", 0)]
FEW = "--vocab-size 30 --no-keep-characters"


def test_special_tokens_may_move_in_bert(make_letters, trim, lines):
    folder = make_letters(MIDDLE, model_type="bert")
    out, _ = trim(folder, options=FEW)
    before, after = backend(folder), backend(out)
    ids = after.get_vocab()
    assert ids["<s>"] < 40 and read(out / "config.json")["pad_token_id"] == ids["<pad>"]
    for text in lines[:50]:
        tokens = [piece if piece in ids else "<unk>" for piece in before.encode(text).tokens]
        once = re.sub(r"(<unk> )+", "<unk> ", " ".join(tokens))  # neighbours are one
        assert " ".join(map(after.id_to_token, after.encode(text).ids)) == once


def test_the_pad_token_may_not_move_where_positions_are_counted_from_it(make_letters, run):
    expected = r"pad_token_id 43 would become \d+, and xlm-roberta counts positions from it"
    with pytest.raises(InputError, match=expected):
        run(make_letters(MIDDLE), options=FEW)


def test_the_same_run_gives_the_same_bytes(folder, trim):
    first, second = (
        {path: path.read_bytes() for path in trim(folder)[0].rglob("*") if path.is_file()}
        for _ in range(2)
    )
    assert first == second


# --- the report -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "before", "after"),
    [  # rows, width, layers, heads, inner width, positions, types: of intfloat/multilingual-e5-*
        (("bert", 250_037, 384, 12, 12, 1536, 512, 2), 117_653_760, 40_840_320),
        (("xlm-roberta", 250_002, 768, 12, 12, 3072, 514, 1), 278_043_648, 124_443_648),
    ],
)
def test_parameters_of_the_papers_models(shape, before, after):
    config = e5nl.Config(*shape, layer_norm_eps=1e-5, pad_token_id=1)
    width = config.hidden_size
    with torch.device("meta"):  # takes no memory
        tensors = e5nl.Encoder(config).state_dict()
        tensors["pooler"] = torch.empty(width, width + 1)  # weight and bias
        tensors["unused positions"] = torch.empty(config.position_offset, width)
        tensors["position_ids"] = torch.arange(512)
    assert trim_vocab.parameters(tensors) == before
    tensors["words.weight"] = tensors["words.weight"][:50_002]
    assert trim_vocab.parameters(tensors) == after


def test_report_by_hand(greek, trim, capsys):
    """Kept: the prefixes' pieces ▁ q u e r y : p a s g. Those of the texts that are checked: ▁ab,
    ▁zz ▁ab, ▁λ, ▁pas; zz becomes one <unk>."""
    options = "--vocab-size 11 --no-keep-characters --min-frequency 1"
    _, report = trim(greek, ["aa ab"] * 3, options, check=["ab", "zz ab", "λ", "pas"])
    assert report["before"]["pieces"] == 10 + 26 + 10 + 1 + 1
    assert report["after"]["pieces"] == 11 + 5
    assert report["corpus"] == {"texts": 3, "tokens": 18}
    assert report["candidates"] == 11 + 3  # b, <s>, </s>
    numbers = {"texts": 4, "kept": 1, "words": 5, "tokens": 15, "tokens_after": 14, "embedded": 1}
    unknown = {"b": 2, "z": 2, "λ": 1}
    assert report["check"] == numbers | {"share_tokens_kept": 10 / 15, "unknown": unknown}
    per_word = [report[side]["pieces_per_word"] for side in ("before", "after")]
    assert per_word == [15 / 5, 14 / 5] and report["coverage"] == {"14": 12 / 15}
    assert report["dropped"] == [["b", 2], ["z", 2], ["λ", 1]]
    printed = " ".join(capsys.readouterr().out.split())
    assert "pieces 48 16 " in printed and "pieces per word 3.000 2.800 " in printed
    assert "all kept 25.00% all give the same pieces; 1 embedded with both" in printed
    assert "unknown 5 b z λ " in printed


def test_few_tokens_kept_are_reported(folder, trim, lines, capsys):
    numbers, warning = ["3."] * 20 + ["7."], r"warning: few tokens are kept .* another language"
    for check, expected in ((numbers, None), ([*lines[:400], "3."], True)):
        trim(folder, numbers, check=check)
        assert bool(re.search(warning, capsys.readouterr().out)) == bool(expected)


# --- the property that the proof rests on ---------------------------------------------------------

STRIPPED = [normalizers.NFKC(), normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), "▁")]
SPLIT = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
LAYOUTS = {  # of normaliser and pre-tokenizer, as they occur in XLM-R's family
    "XLM-R": (normalizers.NFKC(), pre_tokenizers.Sequence(SPLIT)),
    "transformers 5": (normalizers.NFKC(), pre_tokenizers.Metaspace(split=True)),
    "sentencepiece converter": (
        normalizers.Sequence(STRIPPED),
        pre_tokenizers.Metaspace(split=False),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_segmentation_stays_when_other_pieces_go(layout, tokenizer_json, lines):
    """Many random vocabularies: texts whose pieces are all kept are cut as before."""
    before = Tokenizer.from_buffer(tokenizer_json)
    before.normalizer, before.pre_tokenizer = LAYOUTS[layout]
    before.no_truncation()
    before.no_padding()
    spec = trim_vocab.parse_tokenizer(before.to_str().encode())
    texts = [*lines[:600], "", "  twee  spaties ", "Één ﬁets\tof①twee"]
    encodings = {text: before.encode(text) for text in texts}
    generator, compared = np.random.default_rng(1), 0
    for _ in range(20):
        kept = np.flatnonzero(generator.random(before.get_vocab_size()) < 0.95)
        kept = trim_vocab.with_special(kept, {*range(4), before.token_to_id("<mask>")})
        trimmed, _ = trim_vocab.trim_files(spec, {}, {}, kept)
        after = Tokenizer.from_buffer(trim_vocab.dump_tokenizer(trimmed))
        for text, encoding in encodings.items():
            if set(encoding.ids) <= set(kept.tolist()):
                compared += 1
                assert after.encode(text).tokens == encoding.tokens
    assert compared > 1000


# --- the proof ------------------------------------------------------------------------------------

JSON, BIAS = "tokenizer.json", "encoder.layer.1.output.LayerNorm.bias"
PIECES = "all pieces of a text are kept, but"
EMBEDDINGS = r"the embeddings of \d+ texts with the same pieces differ"


def swap_rows(tensors):
    tensors[TABLE][20:22] = tensors[TABLE][20:22].flip(0)


def swap_pieces(spec):
    spec["model"]["vocab"].insert(30, spec["model"]["vocab"].pop(31))


def change_a_score(spec):
    spec["model"]["vocab"][30][1] = -1.5


def leave_a_stale_template(spec):
    spec["post_processor"]["special_tokens"]["</s>"]["ids"] = [9]


DAMAGE = [  # file, its change, what the proof says
    (FILE, swap_rows, f"tensor {TABLE} changed"),
    (FILE, lambda tensors: tensors[BIAS][3].mul_(1.0001), f"tensor {BIAS} changed"),
    (FILE, lambda tensors: tensors.update(extra=torch.zeros(24)), "tensor extra is in one check"),
    (JSON, change_a_score, "pieces or scores in tokenizer.json changed"),
    (JSON, swap_pieces, "are not the kept pieces in their order"),
    (JSON, leave_a_stale_template, PIECES),
    ("config.json", lambda config: config.update(layer_norm_eps=1e-3), EMBEDDINGS),
]


@pytest.mark.parametrize(("file", "change", "message"), DAMAGE)
def test_damage_after_cutting_fails_the_proof_and_leaves_the_old_folder(
    folder, run, tmp_path, monkeypatch, capsys, file, change, message
):
    write_model = trim_vocab.write_model

    def write_and_damage(model, out, kept):
        write_model(model, out, kept)
        edit(out / file, change)

    (tmp_path / "out").mkdir()
    write(tmp_path / "out/config.json", "stays")
    monkeypatch.setattr(trim_vocab, "write_model", write_and_damage)
    assert run(folder) == 1
    expected = rf"the proof failed, nothing was written to .*out:\n(.*\n)*.*{message}"
    assert re.search(expected, capsys.readouterr().err)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]
    assert not list(tmp_path.glob(".out*"))


def test_newly_unknown_characters_are_counted_one_by_one(greek, run, trim, tmp_path, capsys):
    texts = [f"fiets b {i}" for i in range(50)]
    check = ["aλ λμλ bμ☃☃μ", "fiets", "☃"]  # ☃ was never known
    assert run(greek, texts, "--vocab-size 40", check=check) == 1
    assert "'λ' 3, 'μ' 3;" in capsys.readouterr().err and not (tmp_path / "out").exists()
    _, report = trim(greek, texts, "--vocab-size 40 --no-keep-characters", check=check)
    assert report["check"]["unknown"] == {"λ": 3, "μ": 3}
    assert "▁aλ" in [piece for piece, _ in report["dropped"]]
    assert (report["check"]["kept"], report["check"]["texts"]) == (2, 3)


def test_a_risen_score_of_unk_fails_the_proof(greek):
    """<unk> scores 10 below the lowest piece: with ▁aλ at -30, without it at -17.5, above the
    dropped λ."""
    scores = {"▁aλ": -20.0, "λ": -18.0}

    def change(spec):
        rows = spec["model"]["vocab"]
        rows[:] = [[piece, scores.get(piece, score)] for piece, score in rows]

    edit(greek / "tokenizer.json", change)
    before = trim_vocab.read_model(greek)
    kept = np.array([id for id, piece in enumerate(before.pieces) if "λ" not in piece])
    pieces = [before.pieces[id] for id in kept]
    spec, _ = trim_vocab.trim_files(before.spec, {"model_type": "bert"}, {}, kept)
    config = dataclasses.replace(before.config, vocab_size=len(kept))
    after = before._replace(pieces=pieces, config=config, spec=spec)
    expected = "<unk> would score higher than the dropped character 'λ'; advice"
    assert trim_vocab.check_vocabulary(before, after, kept, "advice") == [expected]


@pytest.mark.parametrize(
    ("texts", "options", "advice"),
    [
        (None, "--vocab-size 30", r"raise --vocab-size, at most to \d+"),
        # All pieces that qualify are kept, and asking for more would change nothing
        (["een fiets"] * 3, "--vocab-size 120", "give more text, or --min-frequency 1"),
        (["een fiets"] * 3, "--vocab-size 120 --min-frequency 1", "give more text"),
    ],
)
def test_nothing_to_compare_is_no_proof(folder, run, capsys, lines, texts, options, advice):
    check = ["Zij leest geschiedenis"]
    options += " --no-keep-characters"
    assert run(folder, texts or lines[:400], options, check=check) == 1
    assert re.search(f"nothing was compared; {advice}$", capsys.readouterr().err)


# --- mistakes -------------------------------------------------------------------------------------


@pytest.fixture
def at(tmp_path, monkeypatch, folder, lines):
    """The current folder, with a model and texts, good and bad."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "nl.txt", *lines[:400])
    write(tmp_path / "empty.txt", "", " ")
    write(tmp_path / "few.txt", "een fiets")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    write(tmp_path / "nl.jsonl", '{"text": "een"}', '{"tekst": "twee"}')
    return tmp_path


def refused(at, options: str, message: str) -> None:
    before = sorted(at.rglob("*"))
    words = f"--model model --corpus nl.txt --out out --vocab-size 90 {options}"
    with pytest.raises((InputError, FileNotFoundError), match=message) as error:
        main(words.split())
    assert "\n" not in str(error.value) and sorted(at.rglob("*")) == before


MISTAKES = {  # options: message
    "--vocab-size 50000": "--vocab-size 50,000: the tokenizer has 129 pieces; expected no more",
    "--vocab-size 20": r"no room for the \d+ pieces that must stay; .* --no-keep-characters$",
    "--vocab-size 5 --no-keep-characters": r"that must stay; ask for more than \d+$",
    "--corpus empty.txt": "empty.txt: no texts; expected one per line, or a table with a field",
    "--check empty.txt": "empty.txt: no texts",
    "--corpus nl.txt:0": "nl.txt:0: no texts",
    "--corpus few.txt": "few.txt: 1 texts are too few to hold out a tenth; .* with --check",
    "--corpus none.jsonl": "none.jsonl: no such file",
    "--corpus nl.jsonl": "nl.jsonl:2: no column 'text'",
    "--out model --overwrite": "--out model holds model, which is read; choose another folder",
    "--out . --overwrite": "--out . holds model, which is read",
    "--model nowhere": "nowhere: no such folder",
    "--model bare": "bare/config.json: no such file",
}


@pytest.mark.parametrize("options", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(at, options):
    refused(at, options, MISTAKES[options])


def test_what_is_missing_or_exists_is_reported(at):
    (at / "out").mkdir()
    refused(at, "", "out: exists already; .* --overwrite")
    expected = "--corpus is missing: .* paper's is --corpus 'allenai/c4:.*nl-validation.*json.gz'"
    with pytest.raises(InputError, match=expected):
        main(["--model", "model", "--out", "out"])


def test_what_would_fail_at_the_end_fails_before_the_work(at, monkeypatch):
    monkeypatch.setattr(trim_vocab, "count_pieces", None)
    refused(at, "--check nl.txt none.txt", "none.txt: no such file")
    write(at / "model/README.md", "---", "datasets: 5", "---")
    refused(at, "", "model/README.md: datasets is 5; expected a list of names")


FAULTS = [  # file of the model folder, its change, message
    (JSON, lambda spec: spec["added_tokens"][-1].update(id=77),
     r"tokenizer.json: \d+ pieces with ids from 0, but a file here names another id 77;"),
    ("config.json", lambda config: config.update(decoder_start_token_id=250_001),
     "names another id 250,001; another tool left stale ids"),
    ("config.json", lambda config: config.update(vocab_size=250),
     r"word_embeddings.weight is \(129, 24\), config.json asks for \(250, 24\)"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "change", "message"), FAULTS)
def test_a_folder_that_contradicts_itself_is_refused(at, file, change, message):
    edit(at / "model" / file, change)
    refused(at, "", message)


@pytest.mark.parametrize("named", [True, False])  # old files do not name the type
@pytest.mark.parametrize("kind", ["BPE", "WordPiece"])
def test_other_tokenizers_are_refused_by_name(at, kind, named):
    model = {"type": kind} if named else {}
    model |= {"vocab": {"[UNK]": 0, "a": 1, "b": 2, "ab": 3}}
    model |= {"merges": [["a", "b"]]} if kind == "BPE" else {}
    write(at / "model/tokenizer.json", json.dumps({"model": model}))
    refused(at, "", rf"a {kind} tokenizer; only Unigram .* transtokenize.py")
