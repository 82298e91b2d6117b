"""Runs that take days: several processes that train as one, checkpoints, progress, stopping.

What is trained does not matter here: `e5nl.py` says what a step is. In: a model, an optimizer, a
number of steps. Out: `checkpoints/step-….safetensors`. Evaluation and mining also share their work
among processes by this module.

Left out on purpose: sharding of weights or optimizer over processes (each has all of them), saving
in the background.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
import torch.distributed
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from files import InputError, new_file, remove_leftovers

# --- several processes ----------------------------------------------------------------------------

# How Open MPI, other MPIs, and srun tell a process how many they started.
LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


@contextlib.contextmanager
def processes() -> Iterator[tuple[int, int]]:
    """(rank, how many processes): joins those that torchrun or another launcher started.

    They meet by torch's `env://`: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment,
    over nccl on GPUs and gloo elsewhere. Within the block only the first process prints.
    """
    rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if not rank and not world:
        # Without a way to meet, each would train alone, and all would write into one folder.
        for name in LAUNCHERS:
            if os.environ.get(name, "1") != "1":
                raise InputError(
                    f"{name} is {os.environ[name]}: so many processes were started, but RANK and "
                    "WORLD_SIZE are not set; start them with torchrun, or set RANK, WORLD_SIZE, "
                    "MASTER_ADDR and MASTER_PORT for each"
                )
        world = "1"
    if world == "1":
        yield 0, 1
        return

    gpus = torch.cuda.device_count()
    try:
        torch.distributed.init_process_group("nccl" if gpus else "gloo")
    except ValueError as error:
        raise InputError(f"RANK is {rank}, WORLD_SIZE is {world}, but {error}") from None
    rank, world = rank_and_world()
    if gpus:
        # Without LOCAL_RANK: ranks are counted node by node, or each process sees one GPU.
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % gpus)
    try:
        with open(os.devnull, "w") as nowhere:
            with contextlib.redirect_stdout(nowhere if rank else sys.stdout):
                yield rank, world
    except RuntimeError as error:
        # What gloo and NCCL raise when a process has died, or its node.
        if "gloo" not in str(error) and not isinstance(error, torch.distributed.DistError):
            raise
        lost = f"process {rank}: lost the connection to another ({error})"
        advice = "start all of them again; `e5nl.py train` continues with --resume"
        raise InputError(f"{lost}; {advice}") from None
    finally:
        torch.distributed.destroy_process_group()


def rank_and_world() -> tuple[int, int]:
    """(rank, how many processes)."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def wait() -> None:
    """Wait until all processes are here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def agree(facts: dict, device) -> None:
    """Stop all processes when one has other facts than the first.

    facts: what decides a run (JSON values). Nodes without a shared disk may have different data, or
    resume from different steps, and would train nonsense together.
    """
    rank, world = rank_and_world()
    if world == 1:
        return
    # The facts of all processes, as bytes padded to one length.
    text = json.dumps(facts).encode()
    longest = torch.tensor(len(text), device=device)
    torch.distributed.all_reduce(longest, torch.distributed.ReduceOp.MAX)
    padded = torch.tensor(list(text.ljust(longest.item())), dtype=torch.uint8, device=device)
    texts = [torch.empty_like(padded) for _ in range(world)]
    torch.distributed.all_gather(texts, padded)
    first, *others = (json.loads(bytes(text.tolist())) for text in texts)
    for number, other in enumerate(others, 1):
        differing = [f"{key} is {other.get(key)}, not {value}" for key, value in first.items()
                     if other.get(key) != value]  # fmt: skip
        if differing and rank:
            sys.exit(2)  # the first process says it
        if differing:
            raise InputError(
                f"process {number} differs from process 0: {'; '.join(differing)}; "
                "give all nodes the same data, settings and --out"
            )


def add_up(tensor: Tensor) -> Tensor:
    """`tensor`, in place, as its sum over all processes."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(tensor)
    return tensor


# --- checkpoints ----------------------------------------------------------------------------------

# A checkpoint is one file, named by the number of steps: weights and AdamW's moments.
# Nothing random has to be kept: batches, negatives and dropout are functions of (seed, step). So a
# run that resumes ends with the bytes of a run that never stopped (on the CPU).
MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of each parameter, besides the step


def save_checkpoint(folder, model: nn.Module, optimizer: torch.optim.AdamW, step: int, keep: int):
    """Write `folder/step-….safetensors` and remove all but the newest `keep`.

    Those of later steps are removed first: the run was resumed before them, so they were damaged.
    """
    folder = Path(folder)
    path = folder / f"step-{step:08}.safetensors"
    for other in folder.glob("step-*"):
        if other > path:
            other.unlink()

    # One file, renamed when it is complete.
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[name] = parameter.detach().contiguous()
        for moment in MOMENTS:
            tensors[f"{name} {moment}"] = optimizer.state[parameter][moment]
    # (No more metadata than this: safetensors 0.8 writes several entries in random order.)
    with new_file(path) as temporary:
        save_file(tensors, temporary, {"digest": tensors_digest(tensors)})
    keep_newest(folder, keep)


def keep_newest(folder, keep: int) -> None:
    """Remove all checkpoints but the newest `keep`, and what a killed run left half written."""
    remove_leftovers(Path(folder))
    for path in sorted(Path(folder).glob("step-*"))[:-keep]:
        path.unlink()


def tensors_digest(tensors: dict[str, Tensor]) -> str:
    """Differs where a bit of the tensors does, or a name."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_checkpoint(folder, model: nn.Module, optimizer: torch.optim.AdamW) -> int:
    """Put the newest checkpoint in `folder` into model and optimizer; return the steps taken.

    0 where there is none. Damaged ones are skipped, and named.
    """
    for path in sorted(Path(folder).glob("step-*.safetensors"), reverse=True):
        try:
            checkpoint = safe_open(path, "pt")
        except (SafetensorError, OSError) as error:
            print(f"{path}: damaged ({error}); skipped")
            continue
        with checkpoint:
            metadata = checkpoint.metadata()
            tensors = {name: checkpoint.get_tensor(name) for name in checkpoint.keys()}
        if metadata["digest"] != tensors_digest(tensors):
            print(f"{path}: damaged (its content has changed); skipped")
            continue
        step = int(path.stem.removeprefix("step-"))
        for name, parameter in model.named_parameters():
            parameter.data.copy_(tensors[name])
            state = optimizer.state[parameter]
            state["step"] = torch.tensor(float(step), device=parameter.device)
            for moment in MOMENTS:
                state[moment] = tensors[f"{name} {moment}"].to(parameter.device, copy=True)
        return step
    return 0


def memory_in_use(device: torch.device) -> int:
    """Bytes that this process has on a device; where the system does not say, the most it had."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


# --- progress ------------------------------------------------------------------------------------

LINE_SECONDS = 30  # between lines of progress where there is no terminal


def progress_bar(total: int, unit: str, delay: float = 0, disable: bool = False) -> tqdm:
    """A bar, shown after `delay` seconds; without a terminal a line every half minute."""
    terminal = sys.stderr.isatty()
    lines = {
        "mininterval": LINE_SECONDS,
        "delay": LINE_SECONDS,
        "bar_format": "{n_fmt} of {total_fmt} {unit}s, {rate_fmt}, {remaining} left\n",
    }
    options = {"delay": delay, "leave": not delay} if terminal else lines
    scaled = total >= 10_000  # 12.3k, but 27 and not 27.0
    return tqdm(total=total, unit=unit, unit_scale=scaled, disable=disable, **options)


def counted(items: Iterable, bar: tqdm) -> Iterator:
    """The items, each of which moves the bar when it has been dealt with."""
    for item in items:
        yield item
        bar.update()


# --- stopping ------------------------------------------------------------------------------------


@contextlib.contextmanager
def signals_noted(announce: Callable[[], str]) -> Iterator[list[int]]:
    """Within the block SIGINT and SIGTERM are noted in the list, once each, and announced.

    A second signal of a kind has its usual effect.
    """
    noted = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _) -> None:
        noted.append(number)
        signal.signal(number, before[number])
        print(announce(), flush=True)

    for number in before:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Within the block no other run writes into the folder (a lock that ends with the process)."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a disk without locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                advice = "wait for it, or choose another output folder"
                raise InputError(f"{folder}: another run is writing here; {advice}") from None
        yield
    finally:
        os.close(descriptor)
