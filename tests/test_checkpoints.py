"""checkpoints.py: what is not whole is skipped, a full disk costs nothing that was there. Whole runs that are killed, told to stop, and go
on to the same bytes are in test_e5nl.py.

    python -m pytest tests/test_checkpoints.py
"""

import errno
import re
import shutil

import pytest
import torch

import checkpoints
import e5nl
from checkpoints import newest_checkpoint, save_checkpoint


def test_checkpoints_that_are_not_whole_are_skipped_and_said(tmp_path, make_model):
    model = make_model()
    optimizer = e5nl.new_optimizer(model, 0.1)
    for step in (1, 2, 3):
        model(torch.tensor([0, 5, 2]), [3])[0, 0].backward()
        optimizer.step()
        save_checkpoint(tmp_path, model, optimizer, step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    (tmp_path / ".step-00000004.77.tmp").mkdir()
    (tmp_path / "step-00000005").mkdir()
    shutil.copytree(tmp_path / "step-00000003", tmp_path / "step-00000006")
    (tmp_path / "step-00000003/optimizer.safetensors").write_bytes(b"half")
    found, skipped = newest_checkpoint(tmp_path)
    assert found.name == "step-00000002" and not (tmp_path / ".step-00000004.77.tmp").exists()
    said = [r"00004\..*half written", r"00006: not whole \(state.json is of another step\)", "00005: not whole", "00003: not whole"]
    assert len(skipped) == 4 and all(re.search(wanted, line) for wanted, line in zip(said, skipped, strict=True))
    assert newest_checkpoint(tmp_path / "nergens") == (None, [])
    save_checkpoint(tmp_path, model, optimizer, 3, keep=2)  # the run that goes on comes by there again; what was not whole makes room
    assert newest_checkpoint(tmp_path) == (tmp_path / "step-00000003", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_a_full_disk_leaves_earlier_checkpoints_alone(tmp_path, make_model, monkeypatch):
    model = make_model()
    optimizer = e5nl.new_optimizer(model, 0.1)
    model(torch.tensor([0, 5, 2]), [3])[0, 0].backward()
    optimizer.step()
    save_checkpoint(tmp_path, model, optimizer, 1, keep=1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, model, optimizer, 2, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"] and newest_checkpoint(tmp_path)[0]
