"""Experiments with a base repository, and with workspaces of their runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from .repositories import Setting, with_repository, with_workspaces


@pytest.fixture
def bare(experiment_dir: Path) -> Setting:
    """An experiment whose base repository has no branch of a run."""
    return with_repository(experiment_dir)


@pytest.fixture
def setting(bare: Setting) -> Setting:
    """An experiment with workspaces of three runs, of which one is to be run again."""
    return with_workspaces(bare)
