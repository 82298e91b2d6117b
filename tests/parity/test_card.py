"""The code in a card, run by sentence-transformers, gives the embeddings of e5nl.embed."""

import re

import numpy as np
import pytest

import card
import e5nl

TEXT = "Olifanten worden 60 tot 70 jaar oud."


@pytest.mark.parametrize("prompts", [("query: ", "passage: "), ("zoek: ", "")])
def test_the_code_for_sentence_transformers(tmp_path, monkeypatch, make_model, tokenizer, prompts):
    kinds = tuple(zip(("query", "passage", "none"), (*prompts, ""), strict=True))
    e5nl.save(make_model(prompts=kinds), tokenizer, tmp_path / "model")
    card.write(tmp_path / "model")
    content = (tmp_path / "model" / "README.md").read_text()
    code = re.findall("```python\n(.*?)```", content, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    exec(code, names := {})
    expected = e5nl.embed(*e5nl.load(tmp_path / "model"), [TEXT], "passage")
    assert np.allclose(names["embeddings"], expected, atol=1e-5)
