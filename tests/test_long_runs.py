"""long_runs.py: processes that cannot meet, checkpoints that are damaged or do not fit on the disk.

    python -m pytest tests/test_long_runs.py

Runs of `e5nl.py train` that are killed, stopped, resumed and shared are in tests/test_e5nl.py.
"""

import errno
import os
import re

import pytest
import torch

import e5nl
import files
import long_runs
from files import InputError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),  # nobody to meet, so no address
        ({"SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"RANK": "1"}, "RANK is 1, .* WORLD_SIZE expected, but not set"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, .* RANK expected, but not set"),
        ({"RANK": "0", "WORLD_SIZE": "twee"}, "WORLD_SIZE is twee, but invalid literal"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "WORLD_SIZE is 2, .* MASTER_ADDR expected"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"},
            "WORLD_SIZE is 2, .* MASTER_PORT expected, but not set",
        ),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE is 2: so many .* not set; start"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "SLURM_STEP_NUM_TASKS is 4: so many processes were start"),
    ],
)
def test_processes_that_cannot_meet_are_refused(environment, values, message):
    environment(values)
    if message is None:
        with long_runs.processes() as rank_and_world:
            assert rank_and_world == (0, 1)
        return
    with pytest.raises(InputError, match=message), long_runs.processes():
        pass


@pytest.fixture
def stepped(make_model):
    """A model and its optimizer after a step."""
    model = make_model()
    optimizer = e5nl.new_optimizer(model, 0.1)
    model(torch.tensor([0, 5, 2]), [3])[0, 0].backward()
    optimizer.step()
    return model, optimizer


def test_checkpoints_that_are_damaged_are_skipped_and_named(tmp_path, stepped, make_model, capsys):
    names = [f"step-0000000{step}.safetensors" for step in range(6)]
    for step in (1, 2, 3):
        long_runs.save_checkpoint(tmp_path, *stepped, step, keep=2)
    assert sorted(os.listdir(tmp_path)) == names[2:4]
    content = bytearray((tmp_path / names[3]).read_bytes())
    content[-5] ^= 1  # in a tensor: the header is sound
    (tmp_path / names[3]).write_bytes(content)
    (tmp_path / names[5]).write_bytes(b"half")
    # What a run that was killed while it wrote leaves: a workspace whose lock is free.
    killed = tmp_path / ".step-00000003.safetensors.0123abcd.tmp"
    killed.mkdir()
    (killed / files._LOCK).touch()
    (killed / names[3]).write_bytes(b"half")

    model = make_model(seed=2)
    optimizer = e5nl.new_optimizer(model, 0.1)
    assert long_runs.load_checkpoint(tmp_path, model, optimizer) == 2
    damaged = re.findall(r"(step-\S+): damaged \(.*\); skipped", capsys.readouterr().out)
    assert damaged == [names[5], names[3]]
    for a, b in zip(stepped[0].parameters(), model.parameters(), strict=True):
        before, after = stepped[1].state[a], optimizer.state[b]
        assert torch.equal(a, b) and after.pop("step") == 2
        assert all(torch.equal(before[moment], after[moment]) for moment in long_runs.MOMENTS)
    assert long_runs.load_checkpoint(tmp_path / "nergens", model, optimizer) == 0

    # The resumed run comes by step 3 again: what was damaged or half written is removed.
    long_runs.save_checkpoint(tmp_path, *stepped, 3, keep=2)
    assert sorted(os.listdir(tmp_path)) == names[2:4]
    assert long_runs.load_checkpoint(tmp_path, model, optimizer) == 3


def test_equal_checkpoints_have_equal_bytes(tmp_path, stepped):
    for number in range(8):
        long_runs.save_checkpoint(tmp_path / str(number), *stepped, 1, keep=1)
    assert len({path.read_bytes() for path in tmp_path.glob("*/step-00000001.safetensors")}) == 1


def test_a_run_that_was_killed_before_it_removed_old_checkpoints(tmp_path):
    for step in (7, 8, 9):
        (tmp_path / f"step-0000000{step}.safetensors").touch()
    killed = tmp_path / ".step-00000009.safetensors.0123abcd.tmp"
    killed.mkdir()
    (killed / files._LOCK).touch()
    long_runs.keep_newest(tmp_path, keep=2)
    names = ["step-00000008.safetensors", "step-00000009.safetensors"]
    assert sorted(os.listdir(tmp_path)) == names


def test_a_full_disk_leaves_earlier_checkpoints_alone(tmp_path, stepped, monkeypatch):
    long_runs.save_checkpoint(tmp_path, *stepped, 1, keep=1)

    def full(_, path, *__):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(long_runs, "save_file", full)
    with pytest.raises(InputError, match="No space left on device: .* MB are free"):
        long_runs.save_checkpoint(tmp_path, *stepped, 2, keep=1)
    assert os.listdir(tmp_path) == ["step-00000001.safetensors"]
