"""The speed claims, each beside its baseline: ``python -m benchmarks [--rounds N] [--only GROUP] [--large]``.

What is compared is the CPU time (user and system) of whole processes, run in turn so that a busy machine slows both
alike; ratios are those of the medians. The baseline is bare pytest on as many empty parametrized tests as the
experiment has items. Judging is waiting, so there it is wall time: see ``benchmarks/judging.py``. Experiments are
written to a temporary directory first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import judging
from .sessions import run_session, write
from .synthetic import FULL_SCALE, Plan, run_dir, run_ids

BARE = """
import pytest

@pytest.mark.parametrize("number", range({items}))
def test_nothing(number):
    pass
"""

GROUPS = ("audit", "repair", "judging", "large")


@dataclass
class Measured:
    """One command: its CPU seconds, wall seconds and peak memory (MB), a value a round."""

    name: str
    command: tuple[str, ...]
    limit: float | None
    baseline: str
    prepare: Callable[[], object] = lambda: None
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    def run(self, directory: Path) -> None:
        """Prepare what the command needs, which is not measured, and run it once."""
        self.prepare()
        taken = run_session(directory, *self.command)
        self.wall.append(taken.wall)
        self.cpu.append(taken.cpu)
        self.peak.append(taken.peak)

    def forget(self) -> None:
        """Drop what was measured so far."""
        for values in (self.cpu, self.wall, self.peak):
            values.clear()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; the exit code is 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all commands (default: 5)")
    parser.add_argument("--only", action="append", choices=GROUPS, help="only this group of claims; repeatable")
    parser.add_argument("--large", action="store_true", help="also 11,300 runs, which takes some minutes")
    options = parser.parse_args(arguments)
    wanted = options.only or [group for group in GROUPS if group != "large" or options.large]
    held = True
    with tempfile.TemporaryDirectory(prefix="scylla-benchmark-") as name:
        directory = Path(name)
        for group in wanted:
            if group == "judging":
                held &= judging.measure(directory, options.rounds)
            else:
                held &= _measure(_MAKERS[group](directory), directory, options.rounds)
    return 0 if held else 1


def _measure(group: list[Measured], directory: Path, rounds: int) -> bool:
    for measured in group:  # once to warm up: bytecode, and the files in the machine's memory
        measured.run(directory)
        measured.forget()
    for _ in range(rounds):
        for measured in group:
            measured.run(directory)
    return _print(group)


def _audit(directory: Path) -> list[Measured]:
    items = len(list(run_ids(FULL_SCALE))) * (1 + len(FULL_SCALE.judge_models))
    (directory / "test_bare.py").write_text(BARE.format(items=items))
    write("full", directory / "healthy")
    write("full", directory / "failing")
    for record in _derived_records(directory / "failing", FULL_SCALE):
        record.unlink()
    bare = f"bare pytest, {items:,} empty tests"
    return [
        Measured(bare, ("-p", "no:scylla", "test_bare.py"), None, bare),
        Measured(f"full audit, {items:,} healthy items", ("--scylla-exp=healthy",), 1.2, bare),
        Measured(
            "the same, pytest's own protocol", ("--scylla-exp=healthy", "-p", "benchmarks.own_protocol"), None, bare
        ),
        Measured(f"full audit, {items:,} failing items", ("--scylla-exp=failing",), 2.5, bare),
        Measured("--collect-only", ("--scylla-exp=healthy", "--collect-only"), 0.5, bare),
    ]


def _repair(directory: Path) -> list[Measured]:
    write("full", directory / "healthy")
    write("full", directory / "lost")
    records = [run_dir(directory / "lost", FULL_SCALE, run) / "run_result.json" for run in run_ids(FULL_SCALE)]

    def lose_records() -> None:
        # Moved away, for file systems such as ext4 are slow to make files for a while after many were deleted; and
        # brought to the disk, for what is still on its way there would be in the repair's way.
        lost = Path(tempfile.mkdtemp(dir=directory))
        for number, file in enumerate([directory / "lost" / ".scylla", *records]):
            if file.exists():
                file.rename(lost / str(number))
        os.sync()

    healthy, lost = "audit, healthy", f"audit, {len(records):,} run_result.json lost"
    return [
        Measured(healthy, ("--scylla-exp=healthy",), None, healthy),
        Measured("repair, healthy", ("--repair", "--scylla-exp=healthy"), 2.2, healthy),
        Measured(lost, ("--scylla-exp=lost",), None, healthy, lose_records),
        Measured("repair of that", ("--repair", "--scylla-exp=lost"), 3.0, lost, lose_records),
    ]


def _large(directory: Path) -> list[Measured]:
    write("full", directory / "healthy")
    write("full", directory / "large", "--runs", "100")
    write("full", directory / "half", "--runs", "100", "--missing-half")
    small = f"{len(list(run_ids(FULL_SCALE))):,} runs"
    return [
        Measured(small, ("--scylla-exp=healthy",), None, small),
        Measured("ten times as many", ("--scylla-exp=large",), 11.5, small),
        Measured("the same, half of them missing", ("--scylla-exp=half",), 11.5, small),
    ]


_MAKERS = {"audit": _audit, "repair": _repair, "large": _large}


def _derived_records(root: Path, plan: Plan) -> Iterator[Path]:
    for run in run_ids(plan):
        directory = run_dir(root, plan, run)
        yield directory / "run_result.json"
        yield from directory.glob("judge/judge_*/judgment.json")


def _print(group: list[Measured]) -> bool:
    baseline = {measured.name: statistics.median(measured.cpu) for measured in group}
    width = max(len(measured.name) for measured in group)
    print(f"\n{'':{width}}  CPU s   wall s   peak MB   ratio   claimed")
    held = True
    for measured in group:
        cpu, wall, peak = (statistics.median(values) for values in (measured.cpu, measured.wall, measured.peak))
        ratio = cpu / baseline[measured.baseline]
        claim = "" if measured.limit is None else f"<= {measured.limit}"
        held &= measured.limit is None or ratio <= measured.limit
        print(f"{measured.name:{width}}  {cpu:5.2f}   {wall:6.2f}   {peak:7.0f}   {ratio:5.2f}   {claim}")
    return held


if __name__ == "__main__":
    raise SystemExit(main())
