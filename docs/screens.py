"""The screens of README.md and of these pages, made by running what they show.

``python -m docs.screens``, in the project's directory, runs every command in a temporary directory and rewrites the
blocks between ``<!-- screen: NAME -->`` and ``<!-- end of screen -->``. A block of which only times differ stays as it
is, so that running it again changes nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SAMPLES = PROJECT / "examples"

_BLOCK = re.compile(r"(?<=<!-- screen: )(?P<name>[a-z-]+) -->\n(?P<shown>.*?)(?=<!-- end of screen -->)", re.DOTALL)
_OF_THE_MACHINE = re.compile(r"={5,} test session starts|platform |cachedir: |rootdir: |configfile: |plugins: ")
"""The lines with which pytest says where it runs."""

_NEEDED = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR")
"""The variables that a command keeps. Of the others, some change what pytest prints: it does not shorten lines where
``CI`` is set."""


@dataclass(frozen=True)
class Step:
    """One command, ``pytest`` with ``arguments``, and what is shown of its output.

    ``only`` are the beginnings of the first line that is shown and of the first behind it that is not; of ``cut``,
    each pair gives so what is replaced by "..". A ``hidden`` step only prepares the next.
    """

    arguments: str
    exit_code: int = 0
    only: tuple[str, str] | None = None
    cut: tuple[tuple[str, str], ...] = ()
    hidden: bool = False


@dataclass(frozen=True)
class Screen:
    """One block: ``prepare`` fills an empty directory, in which the steps are then run one after the other."""

    prepare: Callable[[Path], None]
    steps: tuple[Step, ...]
    language: str = "console"


class ScreenError(Exception):
    """A command did not end as it should, or its output is not what the screen expects; ``str()`` says both."""


# What the commands run on


def sample(name: str) -> Callable[[Path], None]:
    """Take a copy of a sample, with the judge of the samples beside it."""

    def prepare(directory: Path) -> None:
        shutil.copytree(SAMPLES / name, directory / name)
        shutil.copy(SAMPLES / "judge" / "conftest.py", directory)

    return prepare


PRICES = {"judge-large-1": 0.11, "judge-medium-1": 0.05, "judge-small-1": 0.02}
"""What a call costs in USD, of each of the judges of a made-up experiment."""

_PRICED_JUDGE = f"""
import pytest
from pytest_scylla import JudgeReply

@pytest.fixture
def scylla_judge():
    verdict = '{{"score": 0.75, "passed": true, "reasoning": "made up"}}'
    return lambda request: JudgeReply(verdict, cost_usd={PRICES}[request.model])
"""


def many_lost(directory: Path) -> None:
    """Make an experiment of 30 runs that all lack two judgments, of which nothing survives, and a judge with prices.

    Its journal tells of a call of each model, so that the next are estimated by that.
    """
    from benchmarks.synthetic import small, write_experiment
    from pytest_scylla.experiment.journal import call_entry

    root = directory / "current"
    write_experiment(root, small(tiers={"T0": ("00",)}, runs_per_subtest=30, side_files=False))
    for run in (root / "T0" / "00").glob("run_*"):
        for slot in ("judge_01", "judge_03"):
            shutil.rmtree(run / "judge" / slot)
        for derived in ("judge/result.json", "run_result.json"):
            (run / derived).unlink()
    journal = root / ".scylla" / "journal"
    journal.mkdir(parents=True)
    earlier = (
        call_entry(
            what="judge-call",
            item="T0/00/run_01/judge_01",
            command="judge",
            model=model,
            attempt=1,
            outcome="answered",
            seconds=45.0,
            cost_usd=cost,
        )
        for model, cost in PRICES.items()
    )
    (journal / "earlier.jsonl").write_bytes(b"".join(earlier))
    (directory / "conftest.py").write_text(_PRICED_JUDGE)


# The screens

_AUDIT = "--scylla-exp=interrupted"
_PLAN = f"--repair-plan -q --tb=no {_AUDIT}"
_REPAIR = f"--repair {_AUDIT}"

SCREENS: dict[str, Screen] = {
    "main": Screen(
        sample("interrupted"),
        (
            Step(_AUDIT, 1, cut=(("_+ T0/00/run_01 _", "=+ [0-9]+ failed"),)),
            Step(_PLAN, 1, cut=((r"[.F]+ +\[", "would rebuild"), ("not sound", "[0-9]+ failed"))),
            Step(_REPAIR),
        ),
    ),
    "audit": Screen(sample("interrupted"), (Step(_AUDIT, 1),)),
    "plan": Screen(sample("interrupted"), (Step(_PLAN, 1),)),
    "plan-in-full": Screen(sample("interrupted"), (Step(f"{_PLAN} -v", 1, only=("would rebuild", "not sound")),)),
    "repair": Screen(sample("interrupted"), (Step(_REPAIR),)),
    "again": Screen(
        sample("interrupted"),
        (Step(_REPAIR, hidden=True), Step(f"{_AUDIT} --scylla-strict --scylla-report=report.json")),
    ),
    "finding": Screen(
        sample("broken"),
        (Step("--scylla-exp=broken --scylla-select=T0/00/run_02", 1, only=("T0/00/run_02: ", "=")),),
        language="text",
    ),
    "gate": Screen(
        sample("broken"),
        (
            Step(
                "-q --tb=no --scylla-exp=broken --scylla-require=min-runs=10% --scylla-require=min-slots=99.5%",
                1,
                only=("=+ gate", "not sound|[0-9]+ failed"),
            ),
        ),
    ),
    "cost-plan": Screen(
        many_lost,
        (Step("--repair-plan -q --tb=no --scylla-exp=current", 1, only=("would rebuild", "not sound")),),
    ),
    "cost": Screen(
        many_lost,
        (
            Step(
                "--repair -q --tb=no --scylla-exp=current", 1, only=("[0-9]+ items not-run", "not sound|[0-9]+ failed")
            ),
            Step(
                "--repair --repair-budget=3 -q --tb=no --scylla-exp=current",
                1,
                only=("asked judges", "not sound|[0-9]+ failed"),
            ),
        ),
    ),
}


def make(name: str) -> str:
    """Run the commands of a screen; return it as a block of Markdown.

    :raises ScreenError: one of them does not end as it should, or does not print what is to be shown.
    """
    screen = SCREENS[name]
    with tempfile.TemporaryDirectory(prefix="scylla-screen-") as directory:
        screen.prepare(Path(directory))
        shown = [_run(step, Path(directory)) for step in screen.steps]
    steps = zip(screen.steps, shown, strict=True)
    text = "\n\n".join(_shown(step, lines, screen.language) for step, lines in steps if not step.hidden)
    return f"```{screen.language}\n{text}\n```\n"


def _run(step: Step, directory: Path) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *step.arguments.split()]
    kept = {name: os.environ[name] for name in _NEEDED if name in os.environ}
    environment = {**kept, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONPATH": os.fspath(PROJECT)}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode != step.exit_code:
        raise ScreenError(f"pytest {step.arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return [line for line in done.stdout.splitlines() if not _OF_THE_MACHINE.match(line)]


def _shown(step: Step, lines: list[str], language: str) -> str:
    if step.only is not None:
        begin, end = _places(step, lines, *step.only)
        left_out = ([".."] * (begin > 0), [".."] * (end < len(lines))) if language == "console" else ([], [])
        lines = [*left_out[0], *lines[begin:end], *left_out[1]]
    for pair in step.cut:
        begin, end = _places(step, lines, *pair)
        lines[begin:end] = [".."]
    return "\n".join([*(_command(step) if language == "console" else ()), *lines]).rstrip()


def _command(step: Step) -> list[str]:
    """The command as one would type it, in several lines if it is long."""
    lines = textwrap.wrap(
        f"$ pytest {step.arguments}", 90, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]


def _places(step: Step, lines: list[str], first: str, behind: str) -> tuple[int, int]:
    begin = next((index for index, line in enumerate(lines) if re.match(first, line)), None)
    if begin is None:
        printed = "\n".join(lines)
        raise ScreenError(f"pytest {step.arguments}: no line begins with {first}\n{printed}")
    rest = range(begin + 1, len(lines))
    return begin, next((index for index in rest if re.match(behind, lines[index])), len(lines))


def without_times(text: str) -> str:
    """``text`` as it is compared: how long a session took says nothing."""
    return re.sub(r"=*( ?[^=\n]*) in [0-9.]+s(?: \([0-9:]+\))?( ?)=*", r"\1 in some time\2", text)


# Where they stand


def pages() -> Iterator[Path]:
    """The files that show screens, or may."""
    yield PROJECT / "README.md"
    yield from sorted(path for path in (PROJECT / "docs").rglob("*.md") if "_build" not in path.parts)


def blocks(text: str) -> dict[str, str]:
    """The screens in the text of a page, by name."""
    return {match["name"]: match["shown"] for match in _BLOCK.finditer(text)}


def main() -> None:
    """Rewrite what is no longer so; print the names of what was."""
    made: dict[str, str] = {}

    def current(match: re.Match[str]) -> str:
        name, shown = match["name"], match["shown"]
        if name not in made:
            made[name] = make(name)
        if without_times(made[name]) == without_times(shown):
            return match[0]
        print(f"{path.relative_to(PROJECT)}: {name}")
        return f"{name} -->\n{made[name]}"

    for path in pages():
        text = path.read_text("utf-8")
        path.write_text(_BLOCK.sub(current, text), "utf-8")


if __name__ == "__main__":
    main()
