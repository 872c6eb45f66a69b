"""Whether a process that a file names is at work on this host."""

from __future__ import annotations

import os
from pathlib import Path


def is_at_work(pid: int) -> bool:
    """Whether the process ``pid`` of this host runs, and was not killed with nobody having looked after it yet."""
    if pid <= 0:  # a group of processes to the kernel
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):  # no Linux
        return True
