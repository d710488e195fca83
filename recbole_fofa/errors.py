"""The errors that users meet. Each message says what was given, what is allowed and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class FofaError(Exception):
    """Base of all errors that this package raises on purpose.

    Args:
        faults: One message, or several that were found together. All of them are shown.
    """

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults: list[str] = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class ConfigError(FofaError, ValueError):
    """Settings that are unknown, out of range or contradict one another."""


class DataError(FofaError, ValueError):
    """Data files that are missing, malformed or too small for the chosen split."""


class CheckpointError(FofaError):
    """A checkpoint that cannot be read, or that belongs to another model."""


class DeviceError(FofaError, ValueError):
    """What a device cannot use: a damaged or foreign file or message, or one over its limits."""


class OutputError(FofaError, OSError):
    """A file that cannot be written: the disk is full, or the folder is gone or read-only."""


class TrainingDivergedError(FofaError, ArithmeticError):
    """A loss, gradient or parameter that is no longer finite."""


class ProcessError(FofaError, RuntimeError):
    """One of several processes that has ended before its time."""
