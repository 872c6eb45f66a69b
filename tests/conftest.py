"""Experiments for the tests: a small synthetic one to damage, and the recorded one where it is at hand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.synthetic import small, write_experiment

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data"

CI_SERVICES = ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")
COLOURS = ("FORCE_COLOR", "NO_COLOR", "PY_COLORS")
"""Variables that change what pytest, or the plugin, prints."""


@pytest.fixture(scope="session", autouse=True)
def nowhere_in_particular(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let sessions that tests start print the same in CI, tell it nothing, and leave nothing where they are killed."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*CI_SERVICES, *COLOURS):
            patch.delenv(name, raising=False)
        temporary = str(tmp_path_factory.mktemp("tmp"))
        patch.setenv("TMPDIR", temporary)
        patch.setattr("tempfile.tempdir", temporary)
        yield


@pytest.fixture(scope="session")
def pristine_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy experiment: T0/00, T1/01 and T1/02 with 2 runs and 3 judges each. Shared: not to be written to."""
    root = tmp_path_factory.mktemp("pristine") / "exp"
    write_experiment(root, small())
    return root


@pytest.fixture
def experiment_dir(pristine_experiment: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the healthy experiment, to damage."""
    root = tmp_path / "exp"
    shutil.copytree(pristine_experiment, root)
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def one_run_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy experiment of one run, T0/00/run_01. Shared: not to be written to."""
    root = tmp_path_factory.mktemp("one-run") / "exp"
    write_experiment(root, small(tiers={"T0": ("00",)}, runs_per_subtest=1))
    return root


@pytest.fixture(scope="session")
def two_run_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy experiment of two runs, those of T1/02, and nothing optional. Shared: not to be written to."""
    root = tmp_path_factory.mktemp("two-runs") / "exp"
    write_experiment(root, small(tiers={"T1": ("02",)}, side_files=False))
    return root


@pytest.fixture(scope="session")
def recorded_experiment() -> Path:
    """The recorded experiment, read where it is."""
    if not (RECORDED / "dryrun").is_dir():
        pytest.skip("the recorded experiment is not on this machine")
    return RECORDED / "dryrun"


@pytest.fixture(scope="session")
def recorded_subtests() -> Path:
    """The recorded subtest definitions, read where they are."""
    if not (RECORDED / "subtests").is_dir():
        pytest.skip("the recorded subtest definitions are not on this machine")
    return RECORDED / "subtests"
