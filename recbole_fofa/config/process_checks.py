"""Settings of runs in several processes: RecBole's names, and what does not work there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from recbole.utils import get_trainer

from recbole_fofa.config.faults import Fault, Settings
from recbole_fofa.config.known_settings import settings_class
from recbole_fofa.config.sources import is_whole_number
from recbole_fofa.processes import Launch, place

LAUNCH_KEYS = ("nproc", "world_size", "group_offset", "ip", "port")
"""How many processes there are and where they meet, in RecBole's words."""


def launch_of(values: Mapping[str, Any]) -> Launch | None:
    """The processes that checked settings ask for; ``None`` if this one does it or is one of them.

    ``nproc`` is the number on this machine, ``world_size`` that on all machines.
    """
    n_here, world_size = _count(values, "nproc"), max(_count(values, "world_size"), 0)
    if place().world_size > 1 or max(n_here, world_size) == 1:
        return None
    address, port = str(values.get("ip") or "localhost"), values.get("port")
    offset = values.get("group_offset") or 0
    return Launch(n_here, world_size or n_here, offset, address, int(port) if port else None)


def _count(values: Mapping[str, Any], key: str) -> int:
    default = 1 if key == "nproc" else -1
    value = values.get(key)
    return default if value is None else int(value)


def process_faults(settings: Settings) -> Iterator[Fault]:
    """Find what is wrong with a run in several processes.

    Args:
        settings: The merged settings.

    Yields:
        The faults.
    """
    for key in ("local_rank", "offset"):
        if settings.get(key) is not None:
            yield Fault(f"{key} follows from how processes are started; leave it out", (key,))
    wrong = list(_value_faults(settings))
    yield from wrong
    if wrong:
        return
    launch, here = launch_of(settings.values), place()
    if launch is not None:
        yield from _launch_faults(settings, launch)
        yield from _shared_faults(settings, launch.n_here)
    elif here.world_size > 1:
        yield from _torchrun_faults(settings)
        yield from _shared_faults(settings, here.n_here)


def _value_faults(settings: Settings) -> Iterator[Fault]:
    for key, lowest in (("nproc", 1), ("group_offset", 0)):
        value = settings.get(key)
        if value is not None and not is_whole_number(value, lowest):
            yield settings.must(key, f"a whole number of at least {lowest}")
    value = settings.get("world_size")
    if not (value in (None, -1) or is_whole_number(value, 1)):
        yield settings.must("world_size", "a whole number of at least 1, or -1 for nproc")
    port = settings.get("port")
    number = int(port) if isinstance(port, str) and port.isdigit() else port
    if port is not None and not (is_whole_number(number, 1) and number < 2**16):
        yield settings.must("port", "a whole number from 1 to 65535")
    if not isinstance(settings.get("ip"), (str, type(None))):
        yield settings.must("ip", "text")


def _launch_faults(settings: Settings, launch: Launch) -> Iterator[Fault]:
    last = launch.offset + launch.n_here
    if last > launch.world_size:
        yield Fault(
            f"nproc ({launch.n_here}) processes from group_offset ({launch.offset}) on are more "
            f"than world_size ({launch.world_size}), the number on all machines; set world_size "
            f"to at least {last}",
            LAUNCH_KEYS,
        )
    elif launch.n_here < launch.world_size and launch.port is None:
        yield Fault(
            f"world_size ({launch.world_size}) is more than nproc ({launch.n_here}), so the "
            "processes of other machines must find this one: set ip and port of the first machine",
            LAUNCH_KEYS,
        )


def _torchrun_faults(settings: Settings) -> Iterator[Fault]:
    for key, started in (("nproc", place().n_here), ("world_size", place().world_size)):
        if settings.get(key) not in (None, -1, 1, started):
            yield Fault(
                f"{key} is {settings.get(key)}, but {started} processes were started already "
                f"(by torchrun, or by the variables RANK and WORLD_SIZE); leave {key} out",
                (key,),
            )


def _shared_faults(settings: Settings, n_here: int) -> Iterator[Fault]:
    if settings.get("use_gpu") is not False and torch.cuda.is_available():
        named = settings.get("gpu_id") if "gpu_id" in settings.given else None
        names = [part for part in str(named).split(",") if part.strip()]
        n_gpus = torch.cuda.device_count() if named is None else len(names)
        if 0 < n_gpus < n_here:
            yield Fault(
                f"{n_here} processes need a GPU each, but there are {n_gpus}; start fewer (nproc), "
                "name more in gpu_id, or set use_gpu: false",
                ("nproc",),
            )
    if settings.get("enable_scaler") is True:
        yield Fault(
            "enable_scaler: true is not supported in several processes: each would scale by its "
            "own gradients; leave it out (enable_amp may stay)",
            ("enable_scaler",),
        )
    if str(settings.get("learner")).lower() == "sparse_adam":
        yield Fault(
            "learner sparse_adam is not supported in several processes; use adam", ("learner",)
        )
    yield from _model_faults(settings)


def _model_faults(settings: Settings) -> Iterator[Fault]:
    """Models with a step of their own would each train alone in their processes."""
    model_class = settings.model_class
    if model_class is None or settings_class(model_class) is not None:
        return
    trainer = get_trainer(getattr(model_class, "type", None), settings.model).__name__
    if trainer != "Trainer":
        yield Fault(
            f"model {settings.model} is not supported in several processes: RecBole trains it with "
            f"its {trainer}; leave nproc out, or start it without torchrun",
            ("model",),
        )
