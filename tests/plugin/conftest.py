"""A project in which sessions are started, with experiments to copy into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.synthetic import small, write_experiment

from .support import Project

WIDE = small(tiers={"T0": ("00", "01"), "T1": ("01",)}, runs_per_subtest=4, side_files=False)
"""Enough runs that more than 30 items can fail: 12 runs, 48 items."""


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
