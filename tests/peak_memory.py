"""Peak memory, for the programs that tests start."""

from __future__ import annotations

import re
from pathlib import Path


def peak_bytes() -> int:
    """The most that this program has held.

    Not ``ru_maxrss``, which begins at what the process held that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]
