"""A process that repairs experiments in children of its own, and lets a child kill itself at its n-th call.

It reads lines from its standard input, each a number and an experiment's root, and answers each with a line: how many
calls the child made that change a file system, or "killed at" and the name of the call at which it died. A child that
is to die in ``os.write`` writes half of the data first. With 0 for the number, none dies.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import filelock  # noqa: F401  # before the fork: it need not be imported in every child

from tests.unit.repairing import count_calls, repair_all


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def repair_counting(root: Path, last: int, told: int) -> None:
    """Repair the experiment, and die at the ``last`` call; tell each call's name to the descriptor ``told``."""
    write = os.write
    calls: list[str] = []

    def counted(name: str) -> None:
        calls.append(name)
        write(told, f"{name} ".encode())
        if len(calls) == last and name != "write":
            die()

    replaced = count_calls(counted)
    whole = replaced["write"]

    def half(fd: int, data: memoryview) -> int:
        if len(calls) + 1 == last:
            counted("write")
            write(fd, data[: len(data) // 2])
            die()
        return int(whole(fd, data))

    # The kernel keeps what a killed process wrote: bringing it to the disk would only take time.
    replaced.update(write=half, fsync=lambda fd: counted("fsync"))
    for name, function in replaced.items():
        setattr(os, name, function)
    repair_all(root)


def main() -> None:
    for line in sys.stdin:
        last, _, root = line.rstrip("\n").partition(" ")
        reading, told = os.pipe()
        child = os.fork()
        if not child:
            try:
                repair_counting(Path(root), int(last), told)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        os.close(told)
        with os.fdopen(reading, "rb") as pipe:
            calls = pipe.read().decode().split()
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            answer = f"killed at {calls[-1]}"
        else:
            answer = str(len(calls)) if status == 0 else f"exit status {status}"
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
