"""A process that runs something in children of its own, and lets a child be killed at the n-th thing that it does.

What is run, and what counts, is a module's affair, which is started as a program: :mod:`tests.end_to_end.killing` and
:mod:`tests.end_to_end.agents`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Told = TypeVar("Told")

REPOSITORY = Path(__file__).resolve().parents[2]


class Killer:
    """Such a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, place: Path, last: int = 0) -> str:
        """Run a child on what lies at ``place``, that dies at the thing of this number (0: never); say how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(last, place, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().rstrip("\n")


@contextmanager
def killer(module: str) -> Iterator[Killer]:
    """Such a process of a module."""
    command = [sys.executable, "-m", module]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Killer(process)
    finally:
        process.communicate()
    assert process.returncode == 0


def in_two_threads(module: str, numbers: Sequence[int], work: Callable[[Killer, int], Told]) -> list[Told]:
    """What ``work`` returns for each of the numbers, in any order, with two processes of a module."""

    def some(mine: Sequence[int]) -> list[Told]:
        with killer(module) as process:
            return [work(process, number) for number in mine]

    with ThreadPoolExecutor(2) as two:
        return [told for half in two.map(some, (numbers[::2], numbers[1::2])) for told in half]
