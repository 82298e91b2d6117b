"""Checkpoints of a training run: written whole or not at all, found again after any kill, and the signals that ask for one.

A checkpoint is a folder `step-…`: `weights.safetensors`, `optimizer.safetensors` (AdamW's moments), and last `state.json`. A run that goes
on from one ends with the bytes of a run that never stopped (on the CPU), since nothing random has to be kept: batches, negatives and
dropout are functions of (seed, step).
"""

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from files import InputError, new_folder, read_json, write_json

MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of each parameter, beside the number of steps


def save_checkpoint(folder, model: nn.Module, optimizer: torch.optim.AdamW, step: int, keep: int) -> None:
    """Write `folder/step-…`: weights, AdamW's moments, and last `state.json`; then remove all but the newest `keep`.

    Those of this step and later ones are removed first.
    """
    folder = Path(folder)
    path = folder / f"step-{step:08}"
    for other in folder.glob("step-*"):
        if other.name >= path.name:  # not whole: the run went on from before it
            shutil.rmtree(other)
    with new_folder(path) as temporary:
        save_file({name: p.detach().contiguous() for name, p in model.named_parameters()}, temporary / "weights.safetensors")
        moments = {f"{name} {moment}": optimizer.state[p][moment] for name, p in model.named_parameters() for moment in MOMENTS}
        save_file(moments, temporary / "optimizer.safetensors")
        write_json(temporary / "state.json", {"step": step})
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def newest_checkpoint(folder) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint in `folder`, and a line about each that is not whole."""
    folder, skipped = Path(folder), []
    for path in sorted(folder.glob(".step-*")):
        skipped.append(f"{path}: half written when its run was killed; skipped and removed")
        shutil.rmtree(path)
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            if read_json(path / "state.json") != {"step": int(path.name.removeprefix("step-"))}:
                raise InputError("state.json is of another step")
            for file in ("weights.safetensors", "optimizer.safetensors"):
                with safe_open(path / file, "pt"):
                    pass
            return path, skipped
        except (InputError, OSError, ValueError, SafetensorError) as error:
            skipped.append(f"{path}: not whole ({error}); skipped")
    return None, skipped


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.AdamW) -> int:
    """Put a checkpoint's weights into the model and its moments into the optimizer; the number of steps that were taken."""
    step = read_json(path / "state.json")["step"]
    with safe_open(path / "weights.safetensors", "pt") as weights, safe_open(path / "optimizer.safetensors", "pt") as moments:
        for name, p in model.named_parameters():
            p.data.copy_(weights.get_tensor(name))
            state = {moment: moments.get_tensor(f"{name} {moment}").to(p.device, copy=True) for moment in MOMENTS}
            optimizer.state[p] = {"step": torch.tensor(float(step), device=p.device)} | state
    return step


@contextlib.contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Within the block SIGINT and SIGTERM are noted in the list, once each; a second one does what it always does."""
    noted, before = [], {}

    def note(number: int, _) -> None:
        noted.append(number)
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
