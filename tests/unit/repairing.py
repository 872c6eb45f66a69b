"""Repairing runs of an experiment by the library, and looking at all that lies there before and after."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest_scylla
from pytest_scylla.auditing.evidence import DEFAULT_POLICY
from pytest_scylla.experiment.keeping import KEEPING
from pytest_scylla.experiment.layout import RunId
from pytest_scylla.experiment.strict_json import parse_object
from pytest_scylla.repair.actions import Action
from pytest_scylla.repair.regenerate import regenerate
from pytest_scylla.repair.request import Regenerate
from pytest_scylla.repair.transaction import RepairOutcome, repair_run


class Entry(NamedTuple):
    """What lies at a path: its kind and mode, and the content of a file or the target of a link."""

    mode: int
    content: bytes


Tree = dict[str, Entry]


def tree(root: Path, *, but: str | None = KEEPING) -> Tree:
    """Everything below a directory, by path; by default without what repairs keep in an experiment."""
    found: Tree = {}
    for folder, names, files in os.walk(root):
        if but is not None and Path(folder) == root and but in names:
            names.remove(but)
        for name in (*names, *files):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            content = b""
            if stat.S_ISLNK(mode):
                content = os.fsencode(os.readlink(path))
            elif stat.S_ISREG(mode):
                content = path.read_bytes()
            found[str(path.relative_to(root))] = Entry(mode, content)
    return found


def run_named(experiment: pytest_scylla.Experiment, name: str) -> RunId:
    (run,) = [run for run in experiment.runs() if str(run) == name]
    return run


def healthy(root: Path) -> bool:
    return all(audit.status == "completed" for audit in pytest_scylla.audit(pytest_scylla.load(root)))


def repair(root: Path, run: str, how: Regenerate = regenerate) -> RepairOutcome:
    """The free repair of one run."""
    experiment = pytest_scylla.load(root)
    return repair_run(experiment, run_named(experiment, run), DEFAULT_POLICY, how)


def repair_all(root: Path) -> None:
    """The free repair of every run of an experiment."""
    experiment = pytest_scylla.load(root)
    for run in experiment.runs():
        repair_run(experiment, run, DEFAULT_POLICY, regenerate)


def actions(outcome: RepairOutcome) -> list[Action]:
    """All actions of a repair."""
    return [action for of_item in outcome.actions.values() for action in of_item]


def outcomes(outcome: RepairOutcome) -> dict[str, str]:
    """The outcome of each action by its object."""
    return {action.what: action.outcome for action in actions(outcome)}


def reasons(outcome: RepairOutcome) -> set[str]:
    """The reasons that the failed actions give; each is a line that can be shown."""
    found = {action.reason or "" for action in actions(outcome) if action.outcome == "failed"}
    assert all(reason and reason.isprintable() for reason in found), found
    return found


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def quarantined(root: Path) -> dict[str, bytes]:
    """The files in the quarantine by the hash of their content, which is their name; directories apart."""
    found = {}
    for path in (root / KEEPING / "quarantine").glob("[0-9a-f][0-9a-f]/*"):
        data = path.read_bytes()
        assert path.name == digest(data)
        assert path.parent.name == path.name[:2]
        found[path.name] = data
    return found


def journal(root: Path) -> list[dict[str, Any]]:
    """The entries of all journals; a line that a killed process left unfinished is none."""
    entries: list[dict[str, Any]] = []
    for path in sorted((root / KEEPING / "journal").glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                entries.append(parse_object(line))
            except ValueError:
                continue
    return entries


def staged(root: Path) -> list[str]:
    """What is on its way to its place."""
    place = root / KEEPING / "staging"
    return sorted(os.listdir(place)) if place.is_dir() else []


def count_calls(counted: Callable[[str], None]) -> dict[str, Any]:
    """The functions of :mod:`os` that change a file system, each made to tell its name before it acts.

    ``os.write`` is told of as "write" with nothing written yet. Of ``os.open`` only what may make a file is told of.
    """
    originals = {name: getattr(os, name) for name in ("write", "rename", "unlink", "mkdir", "fsync", "open", "utime")}

    def telling(name: str) -> Callable[..., Any]:
        original = originals[name]

        def call(*arguments: Any, **named: Any) -> Any:
            if name != "open" or arguments[1] & os.O_CREAT:
                counted(name)
            return original(*arguments, **named)

        return call

    return {name: telling(name) for name in originals}
