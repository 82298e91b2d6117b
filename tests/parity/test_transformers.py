"""The encoder against transformers: the same hidden states.

    pip install -r tests/parity/requirements.txt
    python -m pytest tests/parity/test_transformers.py
    PYTHONPATH=. python tests/parity/test_transformers.py    # writes golden_encoder.json

The default tests compare with what is in golden_encoder.json; this one checks that it is still
true. Model folders are in test_folders.py.
"""

import json
import tempfile
from pathlib import Path

import cases
import pytest
import torch
from transformers import AutoModel

import e5nl

GOLDEN = Path(__file__).with_name("golden_encoder.json")


def their_hidden_states(folder, texts: list[list[int]]) -> list[torch.Tensor]:
    """(tokens, D) of each text, alone."""
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        return [model(torch.tensor([ids])).last_hidden_state[0] for ids in texts]


def largest_difference(hidden, expected) -> float:
    return float((hidden - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("model_type", "scale"), cases.ENCODERS)
def test_hidden_states_of_mixed_lengths(tmp_path, tokenizer_json, model_type, scale):
    texts = cases.write_encoder(model_type, scale, tmp_path, tokenizer_json)
    model, _ = e5nl.load(tmp_path)
    with torch.no_grad():
        ours = model.hidden(torch.tensor(sum(texts, [])), cases.LENGTHS).split(cases.LENGTHS)
    for hidden, expected in zip(ours, their_hidden_states(tmp_path, texts), strict=True):
        assert largest_difference(hidden, expected) <= 2e-5


@pytest.mark.parametrize(("model_type", "scale"), cases.ENCODERS)
def test_the_golden_values_are_up_to_date(tmp_path, tokenizer_json, model_type, scale):
    texts = cases.write_encoder(model_type, scale, tmp_path, tokenizer_json)
    golden = json.loads(GOLDEN.read_text())[f"{model_type} {scale}"]
    for kept, hidden in zip(golden, their_hidden_states(tmp_path, texts), strict=True):
        # Of every text, its first and last token.
        difference = (torch.tensor(kept) - hidden[[0, -1]]).abs().max()
        assert difference <= 2e-6 * hidden.abs().max()


def write_golden() -> None:
    golden = {}
    for model_type, scale in cases.ENCODERS:
        with tempfile.TemporaryDirectory() as folder:
            texts = cases.write_encoder(model_type, scale, Path(folder), b"{}")
            states = their_hidden_states(folder, texts)
        golden[f"{model_type} {scale}"] = [
            [[float(f"{value:.7g}") for value in row] for row in hidden[[0, -1]].tolist()]
            for hidden in states
        ]
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    write_golden()
