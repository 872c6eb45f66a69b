"""A project in which sessions are started, with experiments to copy into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import small, write_experiment
from pytest_scylla.auditing.evidence import read_run

from .judges import ScriptedJudge
from .support import Project

WIDE = small(tiers={"T0": ("00", "01"), "T1": ("01",)}, runs_per_subtest=4, side_files=False)
"""Enough runs that more than 30 items can fail: 12 runs, 48 items."""


COMMAND_LINES = ("claude", "codex", "gemini")


@pytest.fixture(scope="session")
def logged_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with stand-ins for the command lines that judge; of none of them anybody is logged in."""
    directory = tmp_path_factory.mktemp("logged-out")
    for name in COMMAND_LINES:
        command = directory / name
        command.write_text("#!/bin/sh\necho 'Not logged in'\nexit 1\n")
        command.chmod(0o755)
    return directory


@pytest.fixture(autouse=True)
def no_real_judge(logged_out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no session reach a real judge, whatever is installed here: nobody pays for these tests."""
    monkeypatch.setenv("PATH", f"{logged_out}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(scope="session")
def wide_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy experiment with 48 items. Shared: not to be written to."""
    root = tmp_path_factory.mktemp("wide") / "exp"
    write_experiment(root, WIDE)
    return root


@pytest.fixture(scope="session")
def lean_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The healthy experiment without what no audit asks for. Shared: not to be written to."""
    root = tmp_path_factory.mktemp("lean") / "exp"
    write_experiment(root, small(side_files=False))
    return root


@pytest.fixture(scope="session")
def staged_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy experiment of the later layout, tiers below completed/. Shared: not to be written to."""
    root = tmp_path_factory.mktemp("staged") / "exp"
    write_experiment(root, small(layout="staged"))
    return root


@pytest.fixture
def empty_project(pytester: pytest.Pytester) -> Project:
    """A project without an experiment."""
    return Project(pytester)


@pytest.fixture
def project(empty_project: Project, pristine_experiment: Path) -> Project:
    """A project with the healthy experiment exp, to damage."""
    empty_project.copy(pristine_experiment, "exp")
    return empty_project


@pytest.fixture
def wide_project(empty_project: Project, wide_experiment: Path) -> Project:
    """A project with the experiment exp of 48 items, to damage."""
    empty_project.copy(wide_experiment, "exp")
    return empty_project


@pytest.fixture
def judge(project: Project) -> Iterator[ScriptedJudge]:
    """The judge of the project's conftest.py; the test has to look at every call of it."""
    scripted = ScriptedJudge(project)
    yield scripted
    scripted.assert_all_looked_at()


@pytest.fixture
def wide_judge(wide_project: Project) -> Iterator[ScriptedJudge]:
    """The same for the project with 48 items."""
    scripted = ScriptedJudge(wide_project)
    yield scripted
    scripted.assert_all_looked_at()


@pytest.fixture
def audits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that sessions within this process read, in their order."""
    read: list[str] = []

    def noting(experiment: Any, run: Any, policy: Any) -> Any:
        read.append(str(run))
        return read_run(experiment, run, policy)

    monkeypatch.setattr("pytest_scylla.auditing.run.read_run", noting)
    return read
