"""transtokenize.py: which rows each new row is made of, and the folder that comes out.

    python -m pytest tests/test_transtokenize.py

Weights and evidence are worked by hand, for WordPiece and Unigram. Between words that are single
pieces on both sides, a text gets the embedding of its translation, bit for bit.
"""

import contextlib
import doctest
import io
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_align import BERT, framed, read_sides, wordpiece, write
from test_trim_vocab import counted, edit, read
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import e5nl
import transtokenize
from files import InputError
from transtokenize import ALIGNED, EVIDENCE, SUBSTRING, UNKNOWN, Vocabulary, main

OTHER_ORDER = "[UNK] [CLS] [SEP] [PAD] [MASK]"  # as BERTje's, compared with e5-v2's


def unigram(pieces: str) -> e5nl.Tokenizer:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    backend = Tokenizer(models.Unigram([(piece, -1.0) for piece in special + pieces.split()], 3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.add_special_tokens(special)
    return framed(backend, "<s>", "</s>")


# --- from words to pieces -------------------------------------------------------------------------


def test_spreading_by_hand():
    """12 counts of a word of two pieces and one of three: 6 over all 2 x 3 cells, and 6 over the
    cells in order, 0 0 0 1 1 1 next to 0 0 1 1 2 2."""
    pairs = [((1, 2), (0, 3, 4), 12.0), ((2,), (3,), 5.0), ((1, 1), (0,), 2.0)]
    expected = np.zeros((6, 4))
    expected[[0, 3, 4], 1] = [1 + 2, 1 + 1, 1]
    expected[[0, 3, 4], 2] = [1, 1 + 1, 1 + 2]
    expected[3, 2] += 5
    expected[0, 1] += 2
    assert transtokenize.spread(pairs, (6, 4)).toarray() == pytest.approx(expected)
    assert not transtokenize.spread([], (6, 4)).toarray().any()


def word_pairs(source: Vocabulary, target: Vocabulary, words: str) -> list:
    """"house huis 30, …" as pairs of words; 10 where there is no count."""
    split = [f"{pair} 10".split() for pair in words.split(", ")]
    return [(source.ids(en), target.ids(nl), float(count)) for en, nl, count, *_ in split]


def sources_of(target: e5nl.Tokenizer, source: e5nl.Tokenizer, words: str) -> dict[str, str]:
    """{target piece: "evidence: source piece, its weight, …"}."""
    english, dutch = Vocabulary(source, "en"), Vocabulary(target, "nl")
    shape = target.vocab_size, source.vocab_size + 2
    pairs = word_pairs(english, dutch, words)
    weights, evidence = transtokenize.weigh(english, dutch, pairs, shape[1])
    assert weights.shape == shape and weights.sum(1) == pytest.approx(1)
    described = {}
    for id, kind in enumerate(evidence):
        row = weights[[id]]
        cells = zip(-row.data, map(source.backend.id_to_token, row.indices.tolist()), strict=True)
        parts = [f"{piece} {-weight:.4g}" for weight, piece in sorted(cells)]
        described[target.backend.id_to_token(id)] = f"{EVIDENCE[kind]}: {', '.join(parts)}"
    return described


PIECES = "house doctor amsterdam cafe 18 ##56 ##en red the , rare 56 ##s"
ENGLISH = wordpiece(PIECES, lowercase=True)
HOUSE = "house 0.75, red 0.25"
FROM_WORDPIECE_TO_WORDPIECE = {
    "huis": f"aligned: {HOUSE}",
    "de": "aligned: the 1",
    "Amsterdam": "identity: amsterdam 1",  # the source is uncased
    "café": "identity: cafe 1",  # and has no accents
    "##56": "identity: ##56 1",  # not 56, which begins a word
    "1856": "identity: ##56 0.5, 18 0.5",  # a number without a piece of its own
    ",": "identity: , 1",
    "Huis": f"substring: {HOUSE}",
    "##huis": f"substring: {HOUSE}",
    "hu": f"substring: {HOUSE}",  # huis begins with it; Huis has no evidence of its own
    "huisarts": f"substring: {HOUSE}",
    "##en": "identity: ##en 1",
    "x": "unknown: [UNK] 1",
    "roodst": "unknown: [UNK] 1",
    "☃": "unknown: [UNK] 1",
} | {token: f"special: {token} 1" for token in BERT.split()}
WORDS = "house huis 30, red huis 10, the de 49"


def test_evidence_from_wordpiece_to_a_cased_wordpiece():
    pieces = " ".join(piece for piece in FROM_WORDPIECE_TO_WORDPIECE if "[" not in piece)
    target = wordpiece(pieces, OTHER_ORDER)
    assert sources_of(target, ENGLISH, WORDS) == FROM_WORDPIECE_TO_WORDPIECE
    aligned = sources_of(target, ENGLISH, f"{WORDS}, rare 1856 4")
    assert aligned["1856"] == "aligned: rare 1", "words come before identity"


FROM_WORDPIECE_TO_UNIGRAM = {
    "<s>": "special: [CLS] 1",
    "<pad>": "special: [PAD] 1",
    "</s>": "special: [SEP] 1",
    "<unk>": "special: [UNK] 1",
    "▁": "unknown: [UNK] 1",
    "▁huis": "aligned: house 0.75, doctor 0.25",  # huisarts: 20 counts, 10 for each of its pieces
    "arts": "aligned: doctor 1",
    ",": "identity: , 1",  # without a mark where it follows a word, but begins one in WordPiece
    "▁Amsterdam": "identity: amsterdam 1",
    "en": "identity: ##en 1",
    "▁huisje": "substring: house 0.75, doctor 0.25",
    "▁56": "identity: 56 1",
    "56": "identity: ##56 1",
    "☃": "unknown: [UNK] 1",
    "▁de": "aligned: the 1",
}


def test_evidence_from_wordpiece_to_unigram():
    target = unigram(" ".join(list(FROM_WORDPIECE_TO_UNIGRAM)[4:]))
    words = "house huis 30, doctor huisarts 20, the de 9"
    assert sources_of(target, ENGLISH, words) == FROM_WORDPIECE_TO_UNIGRAM


SUBSTRINGS = [  # target pieces and words; what becomes of some of the pieces
    ("huis arts huisarts huisxarts ##isarts artsen artsenpraktijk ar boom",
     "house huis 10, doctor arts 10, tree boom 9",
     {"huisarts": "doctor 0.5, house 0.5",  # 4/8 and 4/8
      "huisxarts": "doctor 0.5, house 0.5",  # 4/9 and 4/9; x has no evidence
      "##isarts": "doctor 1",
      "artsen": "doctor 1",
      "artsenpraktijk": "doctor 1",
      "ar": "doctor 1"}),  # arts begins with it; huisarts has no evidence of its own
    ("huis huisje hui", "house huis 10, tree huisje 9",
     {"hui": "house 0.6, tree 0.4"}),  # 3/4 and 3/6
    ("lente ##len ##lende le rare", "tree lente 10, house rarelende 10",
     {"##len": "house 1",  # ##lende begins so; lente begins a word, as ##len does not
      "le": "tree 1"}),
    ("boot xboot ##huis huis huisboot bootje de bootde",
     "house huis 10, doctor boothuis 10, tree de 10",
     {"huisboot": "doctor 0.5, house 0.5",  # by huis, which begins a word, not by ##huis
      "bootde": "doctor 0.6667, tree 0.3333"}),
]  # fmt: skip


@pytest.mark.parametrize(("pieces", "words", "expected"), SUBSTRINGS)
def test_substrings_by_hand(pieces, words, expected):
    sources = sources_of(wordpiece(pieces), wordpiece("house doctor ##s tree"), words)
    assert {piece: sources[piece] for piece in expected} == {
        piece: f"substring: {parts}" for piece, parts in expected.items()
    }


def test_the_longest_known_parts_of_a_text():
    assert doctest.testmod(transtokenize) == (0, 1)
    known = {"abc", "bca", "ca", "ab", "cab"}
    assert transtokenize.inner_texts("abcab", known) == ["abc", "bca", "cab"]


def test_special_tokens_are_known_by_their_role():
    tokenizer = framed(wordpiece("[BOS] [EOS] [FILL] a").backend, "[BOS]", "[EOS]")
    tokenizer.config["pad_token"] = {"content": "[FILL]"}
    roles = Vocabulary(tokenizer, "nl").roles
    assert {role: tokenizer.backend.id_to_token(id) for role, id in roles.items()} == {
        "cls": "[BOS]", "sep": "[EOS]", "pad": "[FILL]", "unk": "[UNK]", "mask": "[MASK]",
    }  # fmt: skip


def test_halves_of_characters_are_no_texts(dutch):
    vocabulary = Vocabulary(dutch["BPE"], "nl")
    ids = vocabulary.ids("龍")
    assert len(ids) > 1 and vocabulary.texts[ids[0]] == "" and vocabulary.word(ids) == "龍"


# --- the folder -----------------------------------------------------------------------------------

FILE, TABLE = "model.safetensors", "embeddings.word_embeddings.weight"


@pytest.fixture
def make_english(tmp_path, make_model):
    """make_english(tokenizer, …): a BERT folder with spare rows, every weight random."""

    def make(tokenizer, **changes):
        shape = {"model_type": "bert", "type_vocab_size": 2, "pad_token_id": 0}
        shape |= {"vocab_size": tokenizer.vocab_size + 3} | changes
        e5nl.save(make_model(**shape), tokenizer, tmp_path / "english")
        return tmp_path / "english"

    return make


def run(model, tokenizer: e5nl.Tokenizer, words="", *more) -> dict:
    """Run the command from a folder to `out` next to it; the report.

    words: which translate each other, in the place of an alignment.
    """
    target, out = model.parent / "target.json", model.parent / "out"
    target.write_bytes(tokenizer.json)
    with pytest.MonkeyPatch.context() as patch:
        if words:
            more += "--parallel", write(model.parent / "text.tsv", "een\tone")

            def align(source, target, *_, **options):
                return word_pairs(source.vocabulary, target.vocabulary, words)

            patch.setattr(transtokenize, "align", align)
        main(["--model", str(model), "--out", str(out), "--tokenizer", str(target), *more])
    return read(out / "transtokenize_report.json")


def test_a_text_gets_the_embedding_of_its_translation(make_english):
    model = make_english(wordpiece("the red house is here . query :", lowercase=True))
    target = wordpiece(": . de hier huis is query rode", OTHER_ORDER)
    words = "the de 37, red rode 38, house huis 39, is is 40, here hier 41, . . 42"
    run(model, target, f"{words}, query query 43, : : 44")
    english = ["The red house is here.", "", "IS the house red", "house"]
    dutch = ["de rode huis is hier.", "", "is de huis rode", "huis"]
    before = e5nl.embed(*e5nl.load(model, "cpu"), english, "query")
    after = e5nl.embed(*e5nl.load(model.parent / "out", "cpu"), dutch, "query")
    assert np.array_equal(before, after)


@pytest.fixture(scope="module", params=["WordPiece", "Unigram", "BPE"])
def parallel(request, corpus, english, dutch, tmp_path_factory):
    """A run on parallel text of a constructed language, and what the functions make of the text."""
    folder, tokenizer = tmp_path_factory.mktemp("parallel"), dutch[request.param]
    document = " ".join(text for pair in corpus[:400] for text in pair)  # over 1,024 words
    pairs = [*corpus[:1500], ("", "alleen"), (document, document), (document, document)]
    path = write(folder / "a.tsv.gz", "".join(f"{source}\t{target}\n" for source, target in pairs))
    shape = e5nl.Config("bert", english.vocab_size + 3, 24, 1, 4, 40, 66, 2, 1e-12, 0)
    e5nl.save(e5nl.new_encoder(shape, seed=1), english, folder / "english")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        report = run(folder / "english", tokenizer, "", "--parallel", path, "--min-count", "4")
    source, target = read_sides(pairs, english, tokenizer)
    words = transtokenize.align(source, target, 4)
    vocabularies = source.vocabulary, target.vocabulary
    weights, evidence = transtokenize.weigh(*vocabularies, words, english.vocab_size + 3)
    return SimpleNamespace(
        out=folder / "out",
        tokenizer=tokenizer,
        report=report,
        printed=printed.getvalue(),
        word_pairs=len(words),
        weights=weights.toarray(),
        evidence=evidence,
        counts=counted(tokenizer.backend, [text for _, text in pairs]),
        before=load_file(folder / "english" / FILE),
        after=load_file(folder / "out" / FILE),
    )


def test_rows_are_averages_and_the_report_counts_them_by_evidence(parallel):
    report, evidence, printed = parallel.report, parallel.evidence, parallel.printed
    tables = parallel.before[TABLE], parallel.after[TABLE]
    before, after = (table.double().numpy() for table in tables)
    assert after == pytest.approx(parallel.weights @ before, rel=1e-5, abs=1e-6)
    old, new = (np.linalg.norm(table, axis=1) for table in (before, after))
    assert min((evidence == kind).sum() for kind in (ALIGNED, SUBSTRING)) > 150
    for kind, name in enumerate(EVIDENCE):
        ids = np.flatnonzero(evidence == kind)
        norm = pytest.approx(new[ids].mean()) if len(ids) else None
        tokens = sum(parallel.counts[id] for id in ids)
        expected = {"pieces": len(ids), "tokens": tokens, "norm": norm}
        assert report["evidence"][name] == expected, name
    assert report["norm_before"] == pytest.approx(old[:-3].mean())
    assert report["norm_after"] == pytest.approx(new.mean())
    words = f"{parallel.word_pairs:,} pairs of words; 1 pairs with an empty side skipped"
    words += "; 2 pairs of over 1,048,576 words x words skipped"
    assert f"1,500 pairs of sentences; {words}" in printed

    # The folder's tokenizer and card.
    assert (parallel.out / "tokenizer.json").read_bytes() == parallel.tokenizer.json
    card = (parallel.out / "README.md").read_text()
    assert f"by {parallel.word_pairs:,} pairs of words in" in card

    # The most frequent pieces.
    kinds = [example["evidence"] for example in report["examples"]]
    assert kinds == ["aligned"] * 10 + ["identity"] * 10 + ["substring"] * 10
    first, unknown = report["examples"][0], [count for _, count in report["unknown"]]
    assert first["count"] == max(parallel.counts[id] for id in np.flatnonzero(evidence == ALIGNED))
    assert len(unknown) == (evidence == UNKNOWN).sum() and unknown == sorted(unknown, reverse=True)
    piece, weight = first["sources"][0]
    assert first["piece"] in printed and f"{piece} {weight:.2f}" in printed


def test_every_tensor_with_one_row_per_piece_is_averaged_in_its_own_dtype(make_english):
    heads = {
        "cls.predictions.bias": torch.randn(10),
        "cls.predictions.decoder.weight": torch.randn(10, 24).half(),
        "cls.predictions.transform.dense.weight": torch.randn(24, 24),
    }
    model = make_english(wordpiece("a b c query :"), vocab_size=10)
    tensors = load_file(model / FILE) | {"pooler.dense.weight": torch.randn(24, 24)}
    before = {f"bert.{name}": tensor.bfloat16() for name, tensor in tensors.items()} | heads
    before["bert.embeddings.position_ids"] = torch.arange(66)[None]
    save_file(before, model / FILE, {"format": "pt"})
    target = wordpiece("x y a query :", "[SEP] [PAD] [UNK] [MASK] [CLS]")
    run(model, target, "b x 30, c x 10, c y 12")
    after = load_file(model.parent / "out" / FILE)
    weights = torch.zeros(10, 10, dtype=torch.float64)
    weights[torch.arange(10), [3, 0, 1, 4, 2, 6, 7, 5, 8, 9]] = 1
    weights[5, [6, 7]] = torch.tensor([0.75, 0.25], dtype=torch.float64)
    by_piece = f"bert.{TABLE}", "cls.predictions.bias", "cls.predictions.decoder.weight"
    assert before.keys() == after.keys()
    for name, old in before.items():
        expected = (weights @ old.double()).to(old.dtype) if name in by_piece else old
        assert after[name].dtype == old.dtype and torch.equal(after[name], expected), name


def test_settings_of_the_encoder_are_kept_and_its_ids_follow_the_tokenizer(make_english):
    prompts = (("query", "vraag: "), ("passage", "tekst: "), ("none", ""))
    source = wordpiece("a query :", lowercase=True)
    model = make_english(source, pooling="cls", max_seq_length=33, prompts=prompts)
    ids = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": None, "x_token_id": 7}
    edit(model / "config.json", lambda config: config.update(ids))
    # sentence-transformers obeys it; the new tokenizer keeps case.
    lower = {"do_lower_case": True}
    edit(model / "sentence_bert_config.json", lambda config: config.update(lower))
    write(model / "vocab.txt", "a\n")
    out = model.parent / "out"
    target = wordpiece("x a query :", "[SEP] [PAD] [UNK] [MASK] [CLS]")
    run(model, target, "a x")

    config = e5nl.load(out, "cpu")[0].config
    assert (config.pooling, config.max_length, config.prompts) == ("cls", 33, prompts)
    lengths = read(out / "sentence_bert_config.json")
    assert lengths == {"max_seq_length": 33, "do_lower_case": False}
    values, settings = read(out / "config.json"), read(out / "tokenizer_config.json")
    ids = [values[f"{name}_token_id"] for name in "bos sep eos x pad".split()]
    assert ids == [4, 0, None, 7, 1] and values["vocab_size"] == target.vocab_size
    assert (settings["pad_token"], settings["model_max_length"]) == ("[PAD]", 33)
    assert not (out / "vocab.txt").exists(), "a file of the old vocabulary"


@pytest.mark.parametrize("name", ["bertje", "bertje/vocab.txt"])
@pytest.mark.parametrize(
    ("lower", "tokens"),
    [(True, "[CLS] huis ##je e [SEP]"), (False, "[CLS] Huis ##je é [SEP]")],
)
def test_the_vocabulary_of_a_bert_as_text(make_english, tmp_path, name, lower, tokens):
    (tmp_path / "bertje").mkdir()
    pieces = f"{OTHER_ORDER} huis Huis ##je é e".replace(" ", "\n")
    write(tmp_path / "bertje/vocab.txt", pieces + "\n")
    settings = {"do_lower_case": lower, "pad_token": "[PAD]"}
    write(tmp_path / "bertje/tokenizer_config.json", json.dumps(settings))
    model = make_english(wordpiece("house query :"))
    run(model, wordpiece("x"), "house huis", "--tokenizer", f"{tmp_path}/{name}")
    tokenizer = e5nl.read_tokenizer(tmp_path / "out")
    assert tokenizer.backend.encode("Huisje é").tokens == tokens.split()
    assert read(tmp_path / "out/config.json")["pad_token_id"] == 3


def test_a_roberta_type_encoder_keeps_its_positions(folder):
    run(folder, unigram("▁x ▁y ▁query :"), "De x, fiets y")
    model, tokenizer = e5nl.load(folder.parent / "out", "cpu")
    assert model.config.position_offset == 2
    assert model.config.vocab_size == tokenizer.vocab_size == 8


# --- mistakes -------------------------------------------------------------------------------------


@pytest.fixture
def at(tmp_path, monkeypatch, make_english, folder):
    """The current folder, with models, tokenizers and tables, good and bad."""
    monkeypatch.chdir(tmp_path)
    make_english(wordpiece("a b"))
    shutil.copytree("english", "gpt2")
    edit(tmp_path / "gpt2/config.json", lambda config: config.update(model_type="gpt2"))
    bare = wordpiece("x").backend
    bare.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    pieces = {"a</w>": 0, "<s>": 1, "</s>": 2, "<pad>": 3, "<unk>": 4}
    ends = framed(Tokenizer(models.BPE(pieces, [], end_of_word_suffix="</w>")), "<s>", "</s>")
    files = {
        "good.json": wordpiece("x y").json.decode(),
        "no_pad.json": wordpiece("x", "[UNK] [CLS] [SEP]").json.decode(),
        "bare.json": bare.to_str(),
        "ends.json": ends.json.decode(),
        "vocab.txt": "[UNK]\n[SEP]\n",
        "no_unk.txt": "[PAD]\n[CLS]\n[SEP]\n",
        "text.tsv": "a\tx\n",
    }
    for name, content in files.items():
        write(tmp_path / name, content)
    return tmp_path


MISTAKES = {  # options: message
    "--tokenizer no_pad.json": "no_pad.json: no piece [PAD] or <pad>; an encoder needs one",
    "--tokenizer bare.json": "bare.json: an empty text becomes []; expected a start",
    "--tokenizer ends.json": "ends.json: marks the ends of words by </w>; expected the marks",
    "--tokenizer nothing.json": "nothing.json: no such file; expected a tokenizer.json, the v",
    "--tokenizer vocab.txt": "vocab.txt: cannot be read (TypeError: cls_token not found in the voc",
    "--tokenizer no_unk.txt": "no_unk.txt: no piece [UNK] or <unk>; an encoder needs one",
    "--model model": "good.json: xlm-roberta counts positions from its pad id 1, the new",
    "--model gpt2": "gpt2/config.json: model_type is 'gpt2'; this encoder knows",
    "--out english --overwrite": "--out english holds english, which is read; choose another",
    "--out . --overwrite": "--out . holds english, which is read",
    "--min-count 10": "no pair of words occurs 10 times; give more text, or a lower",
}


@pytest.mark.parametrize("options", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(at, options):
    before = sorted(at.rglob("*"))
    words = "--model english --tokenizer good.json --parallel text.tsv --out out"
    message = re.escape(MISTAKES[options])
    with pytest.raises((InputError, FileNotFoundError), match=message) as error:
        main([*words.split(), *options.split()])
    assert "\n" not in str(error.value) and sorted(at.rglob("*")) == before


def test_a_card_that_cannot_be_read_is_refused_before_the_work(at, monkeypatch):
    monkeypatch.setattr(transtokenize, "transtokenize", None)
    write(at / "english/README.md", "---\ndatasets: 5\n---\n")
    words = "--model english --tokenizer good.json --parallel text.tsv --out out"
    with pytest.raises(InputError, match="english/README.md: datasets is 5"):
        main(words.split())
