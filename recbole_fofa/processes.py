"""Several processes that do one job: who am I, how do we start, meet and share.

Whoever starts them, each process finds its place in the variables that torchrun sets. Outside of
:func:`group` every process is alone: its rank is 0 of 1, and nothing here waits for anybody.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed

from recbole_fofa import errors
from recbole_fofa.errors import FofaError, ProcessError
from recbole_fofa.whole_file import write_whole

_T = TypeVar("_T")
_EXIT_FAULT = 2


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that were started together.

    Attributes:
        rank: Among all, from 0.
        local_rank: Among those of this machine, from 0.
        world_size: Number of all.
        n_here: Number of those of this machine.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    n_here: int = 1


@dataclass(frozen=True)
class Launch:
    """Processes to start on this machine.

    Attributes:
        n_here: How many.
        world_size: How many there are on all machines together.
        offset: Rank of the first one here.
        address: Host name of the machine of rank 0.
        port: On that machine; ``None`` takes a free one, if all processes are here.
    """

    n_here: int
    world_size: int
    offset: int = 0
    address: str = "localhost"
    port: int | None = None


# Who am I


def place() -> Place:
    """This process's place, as its launcher left it in the environment; alone without one."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    if not all(os.environ.get(name, "").isdigit() for name in names):
        return Place()
    rank, local_rank, world_size = (int(os.environ[name]) for name in names)
    n_here = os.environ.get("LOCAL_WORLD_SIZE", "")
    return Place(rank, local_rank, world_size, int(n_here) if n_here.isdigit() else world_size)


def is_joined() -> bool:
    """Whether this process is in a group with others."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Number of this process in its group, from 0."""
    return distributed.get_rank() if is_joined() else 0


def world_size() -> int:
    """Number of processes in the group."""
    return distributed.get_world_size() if is_joined() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and speaks to the user."""
    return rank() == 0


# Meeting the others: whatever follows must be called by all processes, in the same order


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Be in a group with those that were started together: gloo on CPUs, nccl between GPUs.

    After an error the group is left as it is, for leaving it may wait for the others; a process
    that ends makes its launcher end them all.

    Args:
        device: Where this process computes.
    """
    if place().world_size == 1 or is_joined():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Default arguments in this module are the group that exists when it is first imported, which an
    # optimizer does. The group would then live on after its end, and its threads in an interpreter
    # that is ending abort the process now and then (pytorch pull request 179291).
    importlib.import_module("torch.distributed.nn")
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend)
    yield
    distributed.destroy_process_group()


def barrier() -> None:
    """Wait until all are here."""
    all_gather(None)


def all_gather(value: _T) -> list[_T]:
    """Everybody's value, in the order of ranks; values are pickled."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, value)
    return found


def from_main(value: _T) -> _T:
    """The main process's value; values are pickled."""
    if world_size() == 1:
        return value
    found = [value]
    distributed.broadcast_object_list(found, src=0)
    return found[0]


def copy_from_main(tensor: torch.Tensor) -> None:
    """Overwrite a tensor with the main process's."""
    if world_size() > 1:
        distributed.broadcast(tensor, src=0)


def add_up(tensor: torch.Tensor) -> torch.Tensor:
    """Sum of everybody's tensor, the same for all, bit for bit.

    Of the gradient, each process gets what goes through its own tensor.
    """
    summed: torch.Tensor = _AddUp.apply(tensor) if world_size() > 1 else tensor
    return summed


class _AddUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        summed = tensor.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return upstream


# Starting them


def start(launch: Launch, work: Callable[..., _T], keywords: dict[str, Any]) -> _T | None:
    """Run a function in several new processes; if one of them fails, all are ended.

    Args:
        launch: How many, and who they are.
        work: Can be imported; what it returns must be plain values.
        keywords: Its arguments.

    Returns:
        What the process of rank 0 returned; ``None`` if that one is on another machine.

    Raises:
        FofaError: What a process raised.
        ProcessError: A process was killed.
    """
    from torch import multiprocessing

    port = launch.port or _free_port()
    with tempfile.TemporaryDirectory() as folder:
        try:
            multiprocessing.start_processes(
                _run, (launch, port, folder, work, keywords), launch.n_here, start_method="spawn"
            )
        except multiprocessing.ProcessExitedException as ended:
            raise _fault(Path(folder)) or _killed(launch, ended) from None
        except multiprocessing.ProcessRaisedException as failed:
            # Where one ends with a fault, others may fail first because they have lost it.
            raise _fault(Path(folder)) or failed from None
        result = Path(folder) / "result.json"
        return json.loads(result.read_text()) if result.exists() else None


def _run(
    index: int,
    launch: Launch,
    port: int,
    folder: str,
    work: Callable[..., Any],
    keywords: dict[str, Any],
) -> None:
    """One of the new processes."""
    faulthandler.enable()  # a process that a library aborts says where
    rank = launch.offset + index
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(index),
        "WORLD_SIZE": str(launch.world_size),
        "LOCAL_WORLD_SIZE": str(launch.n_here),
        "MASTER_ADDR": launch.address,
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(max(1, torch.get_num_threads() // launch.n_here))
    try:
        result = work(**keywords)
    except FofaError as error:
        told = {"kind": type(error).__name__, "faults": error.faults}
        write_whole(Path(folder) / f"fault-{rank}.json", json.dumps(told).encode())
        raise SystemExit(_EXIT_FAULT) from None
    if rank == 0:
        write_whole(Path(folder) / "result.json", json.dumps(result).encode())


def _fault(folder: Path) -> FofaError | None:
    """What the first process that told of a fault said."""
    for path in sorted(folder.glob("fault-*.json")):
        told = json.loads(path.read_text())
        kind = getattr(errors, told["kind"], FofaError)
        found: FofaError = kind(told["faults"])
        return found
    return None


def _killed(launch: Launch, ended: Any) -> ProcessError:
    how = f"signal {ended.signal_name}" if ended.signal_name else f"exit code {ended.exit_code}"
    rank = launch.offset + ended.error_index
    return ProcessError(
        f"process {rank} of {launch.world_size} was ended by {how}; the others were stopped. "
        "Out of memory? Then lower train_batch_size, which is that of one process"
    )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port: int = found.getsockname()[1]
        return port


def part_of(n: int, number: int, of: int) -> range:
    """The ``number``-th of ``of`` equal parts of ``range(n)``, counted from 0: neighbours."""
    return range(n * number // of, n * (number + 1) // of)
