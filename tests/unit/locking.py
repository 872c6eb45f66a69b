"""A process that takes a lock, says so, and holds it until it is told to go on; lines over its pipes.

It says "asking" when it is about to, "locked" once it has the lock, and "left" after it let go. A line on its standard
input lets it go on from there. Arguments: the lock's path, and how the lock is to be made.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from pathlib import Path

import pytest

from pytest_scylla.experiment import locks

KINDS = ("flock", "lease", "no flock")
SHARED = "1 0 8:1 / / rw - nfs4 server:/ rw"
"""The mounts of a host that has everything from another one."""


def mount(monkeypatch: pytest.MonkeyPatch, mounts: str) -> None:
    """Let this be the list of mounts, also for directories that were looked up before."""
    locks._lies_on_a_shared_one.cache_clear()
    monkeypatch.setattr(locks, "_mounts", lambda: mounts)


def prepare(kind: str) -> None:
    """Let this process make its locks by ``flock``, by leases as on a shared file system, or on one without flock."""
    if kind == "lease":
        locks._mounts = lambda: SHARED
    elif kind == "no flock":

        def refuse(*arguments: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        fcntl.flock = refuse


def say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main(path: str, kind: str) -> None:
    prepare(kind)
    say("asking")
    with locks.locked(Path(path)):
        say("locked")
        sys.stdin.readline()
    say("left")


if __name__ == "__main__":
    main(*sys.argv[1:])
