"""card.py: a card is what the hub reads, says what the folder stores, and keeps what others wrote.

huggingface_hub's own classes judge the head, and its own selection of files what is uploaded; the
code in a card is run.

    python -m pytest tests/test_card.py
"""

import json
import re

import pytest
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import LocalTokenNotFoundError
from huggingface_hub.utils import filter_repo_objects

import card
import model_folder
from files import InputError, write_json, write_jsonl

TRIMMED = {
    "model": "intfloat/multilingual-e5-small@main",
    "before": {"pieces": 250002},
    "after": {"pieces": 50002},
    "corpus": {"texts": 1234, "tokens": 56789},
    "check": {"share_tokens_kept": 0.9876},
    "coverage": {},
}
TRAINED = {
    "model": "runs/trimmed",
    "data": ["clips/beir-nl-mmarco:train/*.parquet", "runs/mined.jsonl.gz", "/data/secret/a.jsonl"],
    "recipe": "stated",
    "lr": 1e-5,
    "weights": "abc",
    "batching": "source",
    "sources": {"mmarco": "1", "a`b\nc": "2", "unused": "3"},
}
LOG = [
    {"source": source, "rows": rows}
    for source, rows in (("mmarco", 64), ("a`b\nc", 32), ("mmarco", 7))
]


@pytest.fixture
def trained(folder):
    """A folder as training leaves it."""
    write_json(folder / "settings.json", TRAINED)
    write_jsonl(folder / "log.jsonl", LOG)
    return folder


@pytest.fixture
def base(tmp_path, monkeypatch):
    """base(content): the folder runs/trimmed, with this card."""
    monkeypatch.chdir(tmp_path)

    def write(content: str):
        folder = tmp_path / "runs" / "trimmed"
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(content, encoding="utf-8")
        return folder

    return write


def read(folder) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def test_a_card_of_a_trimmed_model(folder, base):
    write_json(folder / "trim_report.json", TRIMMED)
    card.write(folder, base("---\nlicense: mit\nlanguage: [fr]\n---\n# Base\n"))
    data = ModelCard.load(folder / "README.md").data
    assert (data.language, data.license, data.base_model_relation) == ("nl", "mit", "finetune")
    assert data.library_name == "sentence-transformers"
    assert data.base_model == "intfloat/multilingual-e5-small"
    assert data.pipeline_tag == "sentence-similarity" and "sentence-transformers" in data.tags
    text = read(folder)
    assert text.startswith("---\n") and "\n# model\n" in text
    assert "1. Started from `intfloat/multilingual-e5-small`.\n" in text
    assert "Trimmed from 250,002 to 50,002 pieces" in text and "98.8% are kept" in text


def test_licence_data_sets_and_history_come_from_the_card_of_the_base(trained, base):
    head = "license: other\nlicense_name: é\nbase_model: intfloat/multilingual-e5-small\n"
    made = "<!-- e5nl begin made -->\n## How it was made\n\n1. Trimmed.\n<!-- e5nl end made -->\n"
    card.write(trained, base(f"---\n{head}datasets: allenai/c4\n---\n{made}"))
    data = ModelCard.load(trained / "README.md").data
    assert (data.license, data.license_name) == ("other", "é")
    assert data.base_model == "intfloat/multilingual-e5-small"
    assert data.datasets == ["allenai/c4", "clips/beir-nl-mmarco"]
    content = read(trained)
    assert card.find_part(content, "made")[1].splitlines()[2:] == [
        "1. Trimmed.",
        "1. Trained on 103 rows, of `mmarco` (71), `a'b c` (32), `unused` (0). "
        "Settings: recipe `stated`, lr `1e-05`, batching `source`.",
    ]
    assert "license_name: é\n" in content, "as it is written"
    assert "secret" not in content and "runs/" not in content, "no local paths"


def test_a_card_of_a_transtokenised_model(folder, tmp_path):
    made = {"model": "bert-en", "settings": {"tokenizer": "/x/nl"}, "pairs": 10, "word_pairs": 7}
    write_json(folder / "transtokenize_report.json", made)
    card.write(folder, tmp_path)
    assert "1. Started from `bert-en`.\n1. Given another tokenizer, `nl`: " in read(folder)
    assert "base_model" not in ModelCard.load(folder / "README.md").data.to_dict()


@pytest.mark.parametrize("query, passage", [("query: ", "passage: "), ("zoek naar: ", "")])
def test_the_code_of_a_card_runs_and_has_the_prefixes_of_the_folder(
    trained, monkeypatch, query, passage
):
    import e5nl

    path = trained / "config_sentence_transformers.json"
    prompts = {"query": query, "document": passage, "passage": passage}
    write_json(path, json.loads(path.read_text()) | {"prompts": prompts})
    card.write(trained)
    ours, theirs = re.findall("```python\n(.*?)```", read(trained), re.DOTALL)
    monkeypatch.chdir(trained.parent)
    exec(ours, names := {})
    model, tokenizer = e5nl.load(trained)
    expected = e5nl.embed(model, tokenizer, ["Olifanten worden 60 tot 70 jaar oud."], "passage")
    assert (names["embeddings"] == expected).all()
    assert f"prompt={passage!r})  # or {query!r}\n" in theirs


OTHERS = "\ufeff---\r\nlicense: other # mine\r\n---\r\n# Title\r\n\r\nMine, without a line end"


def test_what_others_wrote_in_a_card_is_kept(trained):
    (trained / "README.md").write_bytes(OTHERS.encode())
    for _ in range(2):
        card.write(trained)
        content = (trained / "README.md").read_bytes().decode()
        assert "license: other # mine\r\n" in content
        assert "---\n# Title\r\n\r\nMine, without a line end\n\n<!-- e5nl begin use" in content
        assert content.count("e5nl begin use") == content.count("e5nl begin model") == 1
    added = content.replace("<!-- e5nl begin made", "Between.\n<!-- e5nl begin made") + "After.\n"
    added = added.replace("license: other", "language: [nl, fy]\nlicense: other")
    (trained / "README.md").write_bytes(added.encode())
    card.write(trained)
    content = (trained / "README.md").read_bytes().decode()
    assert "\nBetween.\n<!-- e5nl begin made" in content and content.endswith("After.\n")
    assert ModelCard(content).data.language == ["nl", "fy"], "once, as the others said"


@pytest.mark.parametrize("before", ["", "\n", " \r\n\n", "\ufeff\n"])
def test_a_head_may_come_after_white_space(trained, base, before):
    """As the hub reads it: the licence is neither lost nor followed by a second head."""
    of_base = base(f"{before}---\nlicense: cc-by-nc-4.0\n---\n# Base\n")
    card.write(trained, of_base)
    card.write(of_base, config=model_folder.parse_config(trained))
    for folder in (trained, of_base):
        assert ModelCard.load(folder / "README.md").data.license == "cc-by-nc-4.0"
    assert read(of_base).split("---\n")[2].startswith("# Base\n")


def test_markers_in_a_block_of_code_are_text():
    text = "```\n<!-- e5nl begin x -->\nkept\n<!-- e5nl end x -->\n```\n"
    once = card.replace_part(text, "x", "```\n1\n```")
    assert once == f"{text}\n<!-- e5nl begin x -->\n```\n1\n```\n<!-- e5nl end x -->\n"
    assert card.replace_part(once, "x", "") == f"{text}\n"


def test_half_a_pair_of_markers_is_text():
    text = "a\n<!-- e5nl begin x -->\nkept\n"
    once = card.replace_part(text, "x", "1")
    assert once == text + "\n<!-- e5nl begin x -->\n1\n<!-- e5nl end x -->\n"
    assert card.replace_part(once, "x", "2") == once.replace("\n1\n", "\n2\n")
    assert card.replace_part(once, "x", "") == text + "\n"


def test_scores_get_into_a_card_and_go_with_the_model_that_has_them(trained):
    card.write(trained)
    before, entries = read(trained), []
    for name, value in (("S2S", 0.25), ("P2P", 0.5)):
        data = {"name": name, "type": "clips/vabb", "split": "test"}
        metrics = [{"type": "v_measure", "value": value}]
        entries.append({"task": {"type": "Clustering"}, "dataset": data, "metrics": metrics})
    for _ in range(2):
        card.add_scores(trained, "owner/name", entries, "| a table |")
        results = ModelCard.load(trained / "README.md").data.eval_results
        assert [(x.dataset_name, x.metric_value) for x in results] == [("S2S", 0.25), ("P2P", 0.5)]
        assert read(trained).count("| a table |") == 1
        assert "load('owner/name')" in read(trained)
    card.write(trained)
    assert read(trained).strip() == before.strip(), "another model has no scores"


MISTAKES = [  # README.md, message
    ("---\na: [\n---\n", r"README.md: cannot be read \(ParserError"),
    ("---\n- a\n---\n", "README.md: its head is not `field: value` lines"),
    ("---\ndatasets: 5\n---\n", "README.md: datasets is 5; expected a list of names"),
    ("---\ndatasets: [{a: b}]\n---\n", "README.md: datasets is .{'a': 'b'}.; expected a list"),
    ("---\nmodel-index: [1]\n---\n", "README.md: has a model-index of its own; remove it first"),
]


@pytest.mark.parametrize("content, message", MISTAKES)
def test_heads_that_cannot_be_added_to(trained, content, message):
    (trained / "README.md").write_text(content)
    with pytest.raises(InputError, match=message):
        card.add_scores(trained, "name", [], "table")
    assert read(trained) == content


def test_the_model_alone_is_uploaded(trained, monkeypatch):
    """huggingface_hub selects the files; a stub takes the place of its requests."""
    card.write(trained)
    for name in ("checkpoints/step-3.safetensors", "checkpoints/config.json", "model.txt", ".env"):
        (trained / name).parent.mkdir(exist_ok=True)
        (trained / name).write_text("x")
    calls = []
    monkeypatch.setattr(HfApi, "create_repo", lambda *args, **_: "https://hub/owner/name")
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **options: calls.append(options))
    assert card.push(trained, "owner/name") == "https://hub/owner/name"
    (options,) = calls
    assert (options["repo_id"], options["folder_path"]) == ("owner/name", trained)
    files = [str(x.relative_to(trained)) for x in trained.rglob("*") if x.is_file()]
    chosen = filter_repo_objects(files, allow_patterns=options["allow_patterns"])
    expected = "1_Pooling/config.json README.md config.json config_sentence_transformers.json "
    expected += "model.safetensors modules.json sentence_bert_config.json tokenizer.json "
    assert sorted(chosen) == (expected + "tokenizer_config.json").split()


def test_an_upload_that_is_refused_is_one_line(trained, monkeypatch):
    def refuse(*_, **__):
        raise LocalTokenNotFoundError("no token\nmore")

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(InputError, match=r"^--push owner/name: not uploaded \(no token\)$"):
        card.push(trained, "owner/name")
