"""How well judge calls fill the workers: 160 slots of 80 runs to judge, 16 workers, a judge that takes 2 seconds.

At best that takes 160 x 2 s / 16 = 20 s. What a session takes beyond its start-up is its wall time less that of the
same session on the same experiment with nothing lost, which starts as many workers and audits as much, and asks nobody.
So all that comes with a call counts: to reserve it and to account for it, to write the slot and what follows from it
and to bring that to the disk, to audit the run again, and to wait for the worker that is last. Beside it stands, by the
judge's own clock, the time from the start of the first call to the end of the last, which needs no other session to
compare with. The claim is made for the larger of the two.

The same session with a judge that answers at once shows how much of it is work, for which all workers share the cores.
"""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from .sessions import run_session, write

WORKERS = 16
CALLS = 160
SECONDS = 2.0
IDEAL = CALLS * SECONDS / WORKERS
CLAIM = 1.15

_JUDGE = """\
import os
import time

import pytest

from pytest_scylla.judging.contract import JudgeReply

ANSWER = '''
```json
{{"score": 0.8, "passed": true, "grade": "A", "reasoning": "Judged for a benchmark.", "categories": {{}}}}
```
'''


@pytest.fixture(scope="session")
def scylla_judge():
    log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def judge(request):
        start = time.time()
        time.sleep({seconds})
        os.write(log, f"{{start}} {{time.time()}}\\n".encode())
        return JudgeReply(ANSWER)

    return judge
"""


@dataclass
class _Measured:
    """One kind of session: what is lost before it, and how long its judge takes, in seconds; a value a round."""

    name: str
    lost: bool
    seconds: float
    wall: list[float] = field(default_factory=list)
    calling: list[float] = field(default_factory=list)

    def run(self, directory: Path) -> None:
        """Run it once, in a new ``directory``."""
        log = directory / "calls.txt"
        write("8x10", directory / "exp")
        (directory / "conftest.py").write_text(_JUDGE.format(log=str(log), seconds=self.seconds), "utf-8")
        if self.lost:
            _lose_slots(directory / "exp")
        os.sync()  # what is still on its way to the disk would be in the repair's way
        taken = run_session(directory, "--repair", f"-n{WORKERS}", "--repair-max-calls=200", "--scylla-exp=exp")
        calls = [tuple(map(float, line.split())) for line in log.read_text("utf-8").splitlines()] if self.lost else []
        if taken.exit_code or len(calls) != CALLS * self.lost:
            raise SystemExit(f"{self.name}: not repaired as expected, after {len(calls)} calls")
        self.wall.append(taken.wall)
        if calls:
            self.calling.append(max(end for _, end in calls) - min(start for start, _ in calls))


def _lose_slots(experiment: Path) -> None:
    """Lose two of the three slots of each run, other ones of each."""
    for number, run in enumerate(sorted(experiment.glob("T*/*/run_*"))):
        for slot in (number, number + 1):
            shutil.rmtree(run / f"judge/judge_{slot % 3 + 1:02d}")


def measure(directory: Path, rounds: int) -> bool:
    """Measure in new directories below ``directory`` and print what was found; return whether the claim holds."""
    start_up = _Measured("start-up: nothing lost, no calls", False, 0.0)
    at_once = _Measured(f"{CALLS} calls that are answered at once", True, 0.0)
    judged = _Measured(f"{CALLS} calls of {SECONDS:g} s, at best {IDEAL:g} s", True, SECONDS)
    numbers = itertools.count()

    def run(measured: _Measured) -> None:
        place = directory / f"judging-{next(numbers)}"
        place.mkdir()
        measured.run(place)

    run(start_up)  # to warm up, as with the others
    start_up.wall.clear()
    for _ in range(rounds):
        for measured in (start_up, at_once, judged):
            run(measured)

    width = len(max((start_up.name, at_once.name, judged.name), key=len))
    starting = statistics.median(start_up.wall)
    print(f"\n{'':{width}}  wall s   beyond start-up   first to last call   ratio   claimed")
    print(f"{start_up.name:{width}}  {starting:6.2f}")
    held = True
    for measured in (at_once, judged):
        wall, calling = statistics.median(measured.wall), statistics.median(measured.calling)
        line = f"{measured.name:{width}}  {wall:6.2f}   {wall - starting:15.2f}   {calling:18.2f}"
        if measured is judged:
            ratio = max(wall - starting, calling) / IDEAL
            held = ratio <= CLAIM
            line += f"   {ratio:5.2f}   <= {CLAIM}"
        print(line)
    return held
