"""What the tests of the plugin share: a project with an experiment in it, damage, and ways to read a session."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import pytest_scylla.session  # noqa: F401  -- so that not every session within this process imports it anew
from benchmarks.synthetic import Plan, run_ids, small
from pytest_scylla.experiment.checkpoint import config_hash

from ..unit.aggregating import aggregates_in

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "schemas" / "report.schema.json").read_text("utf-8"))

NOT_RANDOM = ("-p", "no:randomly")
NO_OTHERS = tuple(f"-pno:{name}" for name in ("hypothesispytest", "rerunfailures", "html", "metadata"))
ALONE = (*NOT_RANDOM, *NO_OTHERS)
"""Options by which no other plugin takes part in running tests, whatever is installed."""

SLOTS = ("judge_01", "judge_02", "judge_03")
CHECKPOINT = "checkpoint"
"""The item of an experiment's checkpoint."""
AGGREGATES = "aggregates"
"""The item of an experiment's aggregates."""
WHOLES = (CHECKPOINT, AGGREGATES)
"""The items of what follows from all runs."""

RUN_COUNTS = ("completed", "results", "failed", "partial", "missing", "conflict", "unsafe", "not_audited")
SLOT_COUNTS = ("complete", "missing", "failed", "agent_failed", "conflict", "unsafe", "not_audited")

NASTY = "\x1b[31mred\x1b]0;title\x07 \x9b1m ::error file=x::boom ##[group]in ##vso[task.complete] \u202eback"
"""Text that takes over a terminal, or a CI service that reads a log, where it is printed as it is."""


def counted_ids(plan: Plan | None = None) -> list[str]:
    """The id of every run and judge slot of a plan's experiment, which is what COUNTS count."""
    plan = plan or small()
    slots = [f"judge_{number:02d}" for number in range(1, len(plan.judge_models) + 1)]
    return [item_id for run in run_ids(plan) for item_id in (*(f"{run}/{slot}" for slot in slots), run)]


def item_ids(plan: Plan | None = None) -> list[str]:
    """The id of every item of a plan's experiment, in the order in which they run."""
    return [*counted_ids(plan), *WHOLES]


def node_id(item_id: str, name: str = "exp") -> str:
    """The node id of an item of the experiment that is called ``name``."""
    if item_id in WHOLES:
        return f"{name}/{item_id}::{item_id}"
    head, _, last = item_id.rpartition("/")
    return f"{name}/{head}::{last}" if last.startswith("judge_") else f"{name}/{item_id}::run"


def node_ids(items: Iterable[str] | None = None, name: str = "exp") -> list[str]:
    """The node ids of items; of all of them by default."""
    return [node_id(item_id, name) for item_id in (item_ids() if items is None else items)]


BUT_AGGREGATES = f"--deselect={node_id(AGGREGATES)}"
"""Leaves the aggregates alone: a repair rebuilds them for the runs that still count, where one cannot be repaired."""

BUT_WHOLES = tuple(f"--deselect={node_id(item_id)}" for item_id in WHOLES)
"""Leaves alone what follows from all runs."""


# Damage


def lose_judgment(experiment: Path, slot: str) -> None:
    """Take a slot's judgment; its judge's reply survives."""
    run, _, name = slot.rpartition("/")
    (experiment / run / "judge" / name / "judgment.json").unlink()


def lose_slot(experiment: Path, slot: str) -> None:
    """Take a slot's judgment and every copy of its judge's reply."""
    run, _, name = slot.rpartition("/")
    for file in ("judgment.json", "response.txt", "stdout.log"):
        (experiment / run / "judge" / name / file).unlink()


def lose_run_result(experiment: Path, run: str) -> None:
    """Take a run's run_result.json."""
    (experiment / run / "run_result.json").unlink()


def lose_run(experiment: Path, run: str) -> None:
    """Take a run as a whole."""
    shutil.rmtree(experiment / run)


def never_begin(experiment: Path, run: str) -> None:
    """Have a run that never began: there is nothing of it, the checkpoint does not record it, its tier is not done."""
    lose_run(experiment, run)
    record_run(experiment, run, None)
    tier = run.partition("/")[0]
    for file in aggregates_in(experiment):
        if file.startswith(f"{tier}/") or "/" not in file:
            (experiment / file).unlink()


def record_run(experiment: Path, run: str, state: str | None) -> None:
    """Have the checkpoint record a run as "passed", "failed" or "agent_complete"; of ``None``, not at all."""
    tier, subtest, name = run.split("/")
    path = experiment / "checkpoint.json"
    recorded = json.loads(path.read_text("utf-8"))["completed_runs"]
    number = str(int(name.removeprefix("run_")))
    recorded[tier][subtest].pop(number, None)
    if state is not None:
        recorded[tier][subtest][number] = state
    edit_json(path, completed_runs=recorded)


def recorded_runs(experiment: Path) -> dict[str, str]:
    """How the checkpoint records each run that it knows of, by the run's id."""
    tiers = json.loads((experiment / "checkpoint.json").read_text("utf-8"))["completed_runs"]
    return {
        f"{tier}/{subtest}/run_{int(number):02d}": state
        for tier, subtests in tiers.items()
        for subtest, numbers in subtests.items()
        for number, state in numbers.items()
    }


def lose_item(experiment: Path, item_id: str) -> None:
    """Make exactly one item fail."""
    if "/judge_" in item_id:
        lose_judgment(experiment, item_id)
    else:
        lose_run_result(experiment, item_id)


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}, indent=2), "utf-8")


def edit_config(experiment: Path, **changes: Any) -> None:
    """Change keys of an experiment's configuration; checkpoint and aggregates repeat it as if it had always been so."""
    path = experiment / "config" / "experiment.json"
    edit_json(path, **changes)
    config = json.loads(path.read_text("utf-8"))
    known = {"config_hash": config_hash(config), "experiment_id": config["experiment_id"]}
    edit_json(experiment / "checkpoint.json", **known)
    edit_json(experiment / "result.json", config=config)
    edit_json(experiment / "report.json", experiment_id=config["experiment_id"])


def judgment_of(experiment: Path, slot: str) -> Path:
    """The judgment.json of a slot."""
    run, _, name = slot.rpartition("/")
    return experiment / run / "judge" / name / "judgment.json"


def run_result_of(experiment: Path, run: str) -> Path:
    """The run_result.json of a run."""
    return experiment / run / "run_result.json"


def damaged_in_several_ways(experiment: Path) -> list[str]:
    """Damage an experiment: one run absent, which the checkpoint records, one derived file lost, one judgment lost.

    Return the ids that fail.
    """
    lose_run(experiment, "T0/00/run_02")
    lose_run_result(experiment, "T1/01/run_01")
    lose_judgment(experiment, "T1/02/run_01/judge_02")
    absent = [f"T0/00/run_02/{slot}" for slot in SLOTS]
    return [*absent, "T0/00/run_02", "T1/01/run_01", "T1/02/run_01/judge_02", CHECKPOINT, AGGREGATES]


# What lies in a directory, to the last bit


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything about each object below ``root`` but the time at which it was last read."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in (root, *sorted(root.rglob("*"))):
        found = path.lstat()
        content: object = None
        if stat.S_ISREG(found.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(found.st_mode):
            content = os.readlink(path)
        about = (found.st_mode, found.st_ino, found.st_nlink, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        seen[path.relative_to(root).as_posix()] = (*about, content)
    return seen


# Sessions


def reports(result: pytest.RunResult) -> Iterator[pytest.TestReport]:
    """The reports of a session in this process, in their order."""
    recorder: pytest.HookRecorder = result.reprec  # type: ignore[attr-defined]
    for report in recorder.getreports("pytest_runtest_logreport"):
        assert isinstance(report, pytest.TestReport)
        yield report


def outcomes(result: pytest.RunResult) -> dict[str, str]:
    """What became of each item of a session in this process: passed, failed, skipped, or error."""
    found: dict[str, str] = {}
    for report in reports(result):
        if report.when == "call":
            assert report.nodeid not in found, f"{report.nodeid} ran twice"
            found[report.nodeid] = report.outcome
        elif report.outcome != "passed":
            found[report.nodeid] = "skipped" if report.outcome == "skipped" else "error"
    return found


def with_outcome(result: pytest.RunResult, outcome: str) -> list[str]:
    """The node ids of the items of a session that ended so, in the order in which they ran."""
    return [nodeid for nodeid, found in outcomes(result).items() if found == outcome]


def collected(result: pytest.RunResult) -> list[str]:
    """The node ids that --collect-only -q printed."""
    return [line for line in result.outlines if "::" in line]


def printed(result: pytest.RunResult) -> str:
    """All that a session printed."""
    return f"{result.stdout}\n{result.stderr}"


def assert_usage_error(result: pytest.RunResult, *parts: str) -> str:
    """Check that a session ended with one line on standard error that holds ``parts``; return it."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR, printed(result)
    lines = [line for line in result.errlines if line.strip()]
    assert len(lines) == 1, printed(result)
    text = printed(result)
    assert "INTERNALERROR" not in text
    assert "Traceback" not in text
    for part in parts:
        assert part in lines[0]
    return lines[0]


@dataclass(frozen=True)
class Project:
    """A project directory, by default with a healthy experiment ``exp`` in it, in which sessions are started."""

    pytester: pytest.Pytester

    @property
    def path(self) -> Path:
        """The project's directory."""
        return self.pytester.path

    @property
    def experiment(self) -> Path:
        """The experiment's root."""
        return self.path / "exp"

    @property
    def elsewhere(self) -> str:
        """A directory outside of the project, relative to it."""
        return f"../{self.path.name}-elsewhere"

    def copy(self, source: Path, target: str) -> Path:
        """Copy an experiment into the project."""
        root = self.path / target
        root.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, root)
        return root

    def write(self, name: str, text: str) -> Path:
        """Write a file into the project."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def reverse_items(self) -> None:
        """Let the project's conftest.py reverse the order of all items, so that runs come before their slots."""
        with (self.path / "conftest.py").open("a", encoding="utf-8") as file:
            file.write("\n\ndef pytest_collection_modifyitems(items):\n    items.reverse()\n")

    def run(self, *args: str | os.PathLike[str], cwd: Path | None = None, alone: bool = True) -> pytest.RunResult:
        """Run a session within this process; not ``alone`` means: with whatever other plugins are installed."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(cwd or self.path)
            return self.pytester.runpytest_inprocess(*(ALONE if alone else NOT_RANDOM), *args)

    def audit(self, *args: str | os.PathLike[str], cwd: Path | None = None, alone: bool = True) -> pytest.RunResult:
        """Run a session within this process that audits the experiment ``exp``."""
        return self.run(f"--scylla-exp={self.experiment if cwd else 'exp'}", *args, cwd=cwd, alone=alone)

    def run_apart(self, *args: str | os.PathLike[str], cwd: Path | None = None, alone: bool = True) -> pytest.RunResult:
        """Run a session in a process of its own."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(cwd or self.path)
            return self.pytester.runpytest_subprocess(*(ALONE if alone else NOT_RANDOM), *args, timeout=600)

    def audit_apart(
        self, *args: str | os.PathLike[str], cwd: Path | None = None, alone: bool = True
    ) -> pytest.RunResult:
        """Run a session in a process of its own that audits the experiment ``exp``."""
        return self.run_apart(f"--scylla-exp={self.experiment if cwd else 'exp'}", *args, cwd=cwd, alone=alone)

    def at_once(self, *sessions: Sequence[str]) -> list[tuple[int, str]]:
        """Audit the experiment ``exp`` by sessions that run at once; the exit code of each, and what it printed."""
        start = (sys.executable, "-m", "pytest", *ALONE, "-p", "no:cacheprovider", "--scylla-exp=exp")
        started = [
            subprocess.Popen(
                (*start, *args), cwd=self.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for args in sessions
        ]
        said = [process.communicate(timeout=600)[0] for process in started]
        return [(process.returncode, text) for process, text in zip(started, said, strict=True)]

    def report(self, name: str = "report.json") -> dict[str, Any]:
        """The report that a session wrote; it is valid, and counts the whole matrix."""
        data: dict[str, Any] = json.loads((self.path / name).read_text("utf-8"))
        jsonschema.Draft202012Validator(SCHEMA).validate(data)
        for experiment in data["experiments"]:
            for counts in (experiment["before"], experiment["after"]):
                assert_counts_add_up(counts, experiment["runs"])
        return data

    def only_experiment(self, name: str = "report.json") -> dict[str, Any]:
        """The one experiment of the report that a session wrote."""
        (experiment,) = self.report(name)["experiments"]
        assert isinstance(experiment, dict)
        return experiment


def assert_counts_add_up(counts: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> None:
    """Check that COUNTS cover the whole matrix, and say the same as the list of runs."""
    assert counts["runs"]["expected"] == sum(counts["runs"][status] for status in RUN_COUNTS) == len(runs)
    assert _nonzero(counts["runs"], RUN_COUNTS) == Counter(run["status"] for run in runs)
    slots = counts["judge_slots"]
    assert slots["expected"] == sum(slots[status] for status in SLOT_COUNTS) == sum(len(run["judges"]) for run in runs)
    assert _nonzero(slots, SLOT_COUNTS) == Counter(slot["status"] for run in runs for slot in run["judges"])
    for status in SLOT_COUNTS:
        assert slots[status] == sum(row[status] for row in slots["by_slot"].values())


def _nonzero(counts: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    return {name: counts[name] for name in names if counts[name]}


def without_times(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report without what may differ between two sessions of the same audit."""
    data: dict[str, Any] = json.loads(json.dumps(report))
    del data["generated_at"]
    for experiment in data["experiments"]:
        del experiment["repairs"]["seconds"]
    return data


def summary_line(text: str, label: str) -> dict[str, int]:
    """The numbers of a line of the summary about all runs or slots, by what they count."""
    lines = [line for line in text.splitlines() if line.strip().startswith(label)]
    assert len(lines) == 1, f"expected one line {label!r} in {text}"
    numbers = re.findall(r"(\d+) (not audited|[a-z_]+)", lines[0].strip()[len(label) :])
    return {word: int(number) for number, word in numbers}


# Repairs

FREE = {
    "T0/00/run_02": ("agent/output.txt",),
    "T1/01/run_01": ("run_result.json",),
    "T1/01/run_02": ("judge/result.json", "run_result.json"),
    "T1/01/run_02/judge_01": ("judge/judge_01/judgment.json",),
    "T1/02/run_01/judge_02": ("judge/judge_02/judgment.json",),
}
"""What :func:`damaged_for_free` takes or spoils, by the item that fails then; relative to the item's run.

With them checkpoint and aggregates fail, which say how the judges found T1/01/run_02: until its files are back, nothing
else does.
"""

FREE_ITEMS = (*FREE, *WHOLES)
"""The items that fail then."""

FREE_FILES = {
    item_id: [f"{item_id.partition('/judge_')[0]}/{name}" for name in names] for item_id, names in FREE.items()
}
"""The same files relative to the experiment."""

WARNED, WARNED_FILE = "T0/00/run_01", "T0/00/run_01/agent/timing.json"
"""The item that it leaves with a warning only, and the file that is lost of it."""


def damaged_for_free(experiment: Path) -> list[str]:
    """Damage an experiment so that surviving files put everything right. Return the ids that fail, sorted."""
    (experiment / WARNED_FILE).unlink()
    output = experiment / "T0/00/run_02/agent/output.txt"
    output.write_bytes(output.read_bytes()[:100])
    lose_run_result(experiment, "T1/01/run_01")
    (experiment / "T1/01/run_02/judge/result.json").write_text("{")
    edit_json(run_result_of(experiment, "T1/01/run_02"), judge_score=0.123)
    lose_judgment(experiment, "T1/01/run_02/judge_01")
    lose_judgment(experiment, "T1/02/run_01/judge_02")
    return sorted(FREE_ITEMS)


def beyond_rebuilding(experiment: Path, run: str) -> None:
    """Damage a run so that a copy of its output can be restored, and its run_result.json can not."""
    for name in ("agent/output.txt", "agent/timing.json", "agent/command_log.json", "run_result.json"):
        (experiment / run / name).unlink()


def report_of_repair(project: Project, name: str = "report.json") -> dict[str, Any]:
    """The report that a session wrote which repaired: its counts before need not be what its list of runs says now."""
    data: dict[str, Any] = json.loads((project.path / name).read_text("utf-8"))
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    for experiment in data["experiments"]:
        assert_counts_add_up(experiment["after"], experiment["runs"])
        runs, slots = experiment["before"]["runs"], experiment["before"]["judge_slots"]
        assert runs["expected"] == sum(runs[status] for status in RUN_COUNTS) == len(experiment["runs"])
        assert slots["expected"] == sum(slots[status] for status in SLOT_COUNTS)
        for status in SLOT_COUNTS:
            assert slots[status] == sum(row[status] for row in slots["by_slot"].values())
    return data


def experiment_of_repair(project: Project, name: str = "report.json") -> dict[str, Any]:
    """The one experiment of the report that a session wrote which repaired."""
    (experiment,) = report_of_repair(project, name)["experiments"]
    assert isinstance(experiment, dict)
    return experiment


def items_of_repair(project: Project, name: str = "report.json") -> dict[str, dict[str, Any]]:
    """The items of that experiment by their id."""
    return {item["id"]: item for item in experiment_of_repair(project, name)["items"]}


def acted_on(project: Project, name: str = "report.json") -> dict[str, list[dict[str, Any]]]:
    """What was done, planned or declined, by item; without how long it took."""
    items = items_of_repair(project, name)
    return {
        item_id: [{key: value for key, value in action.items() if key != "seconds"} for action in item["actions"]]
        for item_id, item in items.items()
        if item["actions"]
    }


def without_durations(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report of a repair without what may differ between two sessions that do the same."""
    data = without_times(report)
    for experiment in data["experiments"]:
        for item in experiment["items"]:
            for action in item["actions"]:
                del action["seconds"]
    return data


# A module of the project that logs what it does

LOGGING = """\
from pathlib import Path

import pytest

LOG = Path({path!r})


def log(*words):
    with LOG.open("a") as file:
        print(*words, file=file)


"""


def write_logging(project: Project, text: str, name: str = "conftest.py") -> None:
    """Write a module into the project whose text may call ``log``."""
    project.write(name, LOGGING.format(path=str(project.path / "log.txt")) + text)


def logged(project: Project) -> list[str]:
    """What was logged."""
    path = project.path / "log.txt"
    return path.read_text("utf-8").splitlines() if path.exists() else []
