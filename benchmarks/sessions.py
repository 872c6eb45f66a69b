"""What the benchmarks measure: pytest sessions in processes of their own, on experiments that are written for them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).parent.parent

# Whatever else is installed for the project's own tests would be measured too, on both sides.
_QUIET = (
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:randomly",
    "-p",
    "no:hypothesispytest",
    "-p",
    "no:html",
    "-p",
    "no:rerunfailures",
)


@dataclass(frozen=True)
class Taken:
    """What a session took: CPU seconds (user and system), wall seconds, peak memory (MB). ``exit_code`` is 0 or 1."""

    exit_code: int
    cpu: float
    wall: float
    peak: float


def run_session(directory: Path, *options: str) -> Taken:
    """Run pytest in a directory. That items fail is no error.

    :raises SystemExit: the session ended in another way.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *_QUIET, *options],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        env=_environment(),
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"pytest {' '.join(options)} ended with {process.returncode}")
    peak = usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024 * 1024)
    return Taken(process.returncode, usage.ru_utime + usage.ru_stime, wall, peak)


def write(scale: str, experiment: Path, *options: str) -> None:
    """Write a synthetic experiment, unless it is there.

    In a process of its own: memory of this one would count as its children's until they are something else.
    """
    if not experiment.exists():
        command = [sys.executable, "-m", "benchmarks.synthetic", str(experiment), "--scale", scale, *options]
        subprocess.run(command, check=True, cwd=_SOURCE, stdout=subprocess.DEVNULL)


def _environment() -> dict[str, str]:
    # Installed packages come compiled; what is measured from a source tree has to be as well.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**environment, "PYTHONPATH": str(_SOURCE)}
