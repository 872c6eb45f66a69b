"""An experiment is evidence: nothing in it is imported, obeyed or written to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.synthetic import small, write_experiment

from .support import (
    WHOLES,
    Project,
    assert_usage_error,
    counted_ids,
    damaged_in_several_ways,
    item_ids,
    node_ids,
    outcomes,
    printed,
    snapshot,
    with_outcome,
)

ORDINARY = "def test_one():\n    pass\n"
PLANTED = ("conftest.py", "test_planted.py", "planted_test.py", "__init__.py", "setup.py")

TINY = small(tiers={"T0": ("00",)}, runs_per_subtest=1, judge_models=("judge-a",), side_files=False)
INSIDE = ("", "T0", "T0/00/run_01", "T0/00/run_01/workspace", "T0/00/tests", "config")
"""Places in that experiment where one can stand."""


class Trap:
    """An experiment with files at every level that would leave a mark if anybody imported them."""

    def __init__(self, project: Project, root: Path) -> None:
        self.root = root
        self._marks = project.path / "imported"
        code = f"with open({str(self._marks)!r}, 'a') as marks:\n    marks.write(__file__ + '\\n')\n\n\n"
        code += "def test_planted():\n    pass\n"
        (root / "T0/00/run_01/workspace").mkdir(exist_ok=True)
        for directory in (root, *[path for path in root.rglob("*") if path.is_dir()]):
            for place in (directory, directory / "tests", directory / "test001"):
                place.mkdir(exist_ok=True)
                for name in PLANTED:
                    (place / name).write_text(code)
        (root / "README.txt").write_text(">>> open('imported', 'w').close()\n")
        self._before = snapshot(root)

    def assert_untouched(self) -> None:
        """Check that nothing was imported and nothing written."""
        assert not self._marks.exists(), self._marks.read_text()
        assert snapshot(self.root) == self._before


@pytest.fixture(scope="session")
def tiny_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy experiment with one run and one judge. Shared: not to be written to."""
    root = tmp_path_factory.mktemp("tiny") / "exp"
    write_experiment(root, TINY)
    return root


@pytest.fixture
def trap(empty_project: Project, tiny_experiment: Path) -> Trap:
    """The project's experiment exp, with one run and one judge, made a trap."""
    return Trap(empty_project, empty_project.copy(tiny_experiment, "exp"))


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--scylla-exp=exp",),
        ("-v", "-rA"),
        ("--co",),
        ("--import-mode=importlib",),
        ("--doctest-modules",),
        ("--doctest-glob=*.txt",),
        ("--lf",),
        ("--keep-duplicates", "--collect-in-virtualenv"),
        ("-o", "norecursedirs="),
        ("-o", "python_files=*.py"),
        ("-o", "testpaths=exp"),
        ("-o", "testpaths=exp/T0 exp/T0/00"),
        ("-o", "testpaths=ex*"),
        ("--confcutdir=exp",),
    ],
)
@pytest.mark.parametrize("positionals", [(), (".",), ("sub",), ("test_a.py",)])
def test_nothing_in_an_experiment_is_imported(
    empty_project: Project, trap: Trap, args: tuple[str, ...], positionals: tuple[str, ...]
) -> None:
    empty_project.write("test_a.py", ORDINARY)
    empty_project.write("sub/test_b.py", ORDINARY)
    result = empty_project.audit(*positionals, *args)
    trap.assert_untouched()
    if result.ret == pytest.ExitCode.USAGE_ERROR:
        assert_usage_error(result, "exp")
    else:
        assert result.ret == 0
        assert "planted" not in printed(result)


@pytest.mark.parametrize("positionals", [(), (".",)])
def test_no_worker_imports_anything_in_an_experiment(
    empty_project: Project, trap: Trap, positionals: tuple[str, ...]
) -> None:
    empty_project.write("test_a.py", ORDINARY)
    assert empty_project.audit(*positionals, "-n", "2").ret == 0
    trap.assert_untouched()


@pytest.mark.parametrize(("positionals", "workers"), [((), 0), ((".",), 0), (("test_a.py",), 0), ((), 2), ((".",), 2)])
@pytest.mark.parametrize("space", [False, True])
def test_an_experiment_whose_name_begins_with_test_is_never_imported(
    empty_project: Project, tiny_experiment: Path, positionals: tuple[str, ...], workers: int, space: bool
) -> None:
    trap = Trap(empty_project, empty_project.copy(tiny_experiment, "test001"))
    if space:
        (trap.root / "setup.py").unlink()
    empty_project.write("test_a.py", ORDINARY)
    args = [*(("--scylla-exp", "test001") if space else ("--scylla-exp=test001",)), *positionals, "-n", str(workers)]
    result = empty_project.run(*args)
    if result.ret == pytest.ExitCode.USAGE_ERROR:
        assert_usage_error(result, "test001/conftest.py", "--noconftest")
        result = empty_project.run(*args, "--noconftest")
    assert result.ret == 0
    if space:
        assert not (empty_project.path / "imported").exists()
    else:
        trap.assert_untouched()


def test_experiments_below_a_directory_whose_name_begins_with_test_are_never_imported(
    empty_project: Project, tiny_experiment: Path
) -> None:
    trap = Trap(empty_project, empty_project.copy(tiny_experiment, "tests/exp"))
    empty_project.write("tests/test_a.py", ORDINARY)
    for args in ((), (".",), ("tests",), ("tests/test_a.py",)):
        result = empty_project.run("--scylla-exp=tests/exp", *args)
        trap.assert_untouched()
        assert result.ret == 0
        assert len(outcomes(result)) == len(item_ids(TINY)) + bool(args)


@pytest.mark.parametrize("args", [(), ("--co",), ("-x", "-v"), ("--lf",), ("--ff",), ("--noconftest",)])
@pytest.mark.parametrize("place", INSIDE)
def test_with_the_current_directory_in_the_experiment_nothing_is_imported_or_written(
    empty_project: Project, trap: Trap, args: tuple[str, ...], place: str
) -> None:
    cwd = trap.root / place
    result = empty_project.run(f"--scylla-exp={os.path.relpath(trap.root, cwd)}", *args, cwd=cwd)
    trap.assert_untouched()
    assert "Traceback" not in printed(result)
    assert result.ret == 0
    if "--co" not in args:
        assert list(outcomes(result)) == node_ids(item_ids(TINY))


@pytest.mark.parametrize("place", INSIDE[:4])
def test_with_the_current_directory_in_the_experiment_no_worker_imports_or_writes_anything(
    empty_project: Project, trap: Trap, place: str
) -> None:
    result = empty_project.audit("-n", "2", cwd=trap.root / place)
    trap.assert_untouched()
    assert "Traceback" not in printed(result)
    assert result.ret == 0


@pytest.mark.parametrize("positional", [".", "..", "test_planted.py", "./conftest.py"])
def test_a_positional_in_the_experiment_where_one_stands_is_refused(
    empty_project: Project, trap: Trap, positional: str
) -> None:
    result = empty_project.audit(positional, cwd=trap.root / "T0" / "00")
    assert_usage_error(result, "--scylla-select")
    trap.assert_untouched()


def test_links_into_an_experiment_are_no_way_around(empty_project: Project, trap: Trap) -> None:
    (empty_project.path / "link").symlink_to("exp")
    (empty_project.path / "sub").mkdir()
    (empty_project.path / "sub" / "test_link").symlink_to("../exp/T0")
    empty_project.write("test_a.py", ORDINARY)
    for args in ((), (".",), ("sub",), ("link",), ("sub/test_link",)):
        result = empty_project.run("--scylla-exp=exp", *args)
        trap.assert_untouched()
        assert result.ret in (0, pytest.ExitCode.USAGE_ERROR)
    result = empty_project.run("--scylla-exp=link", ".")
    trap.assert_untouched()
    assert result.ret in (0, pytest.ExitCode.USAGE_ERROR)


@pytest.mark.parametrize("args", [("--scylla-exp=exp", "--scylla-exp=other"), ("--scylla-exp=.",)])
def test_every_experiment_of_a_session_is_kept_out(
    empty_project: Project, trap: Trap, tiny_experiment: Path, args: tuple[str, ...]
) -> None:
    other = Trap(empty_project, empty_project.copy(tiny_experiment, "other"))
    empty_project.write("test_a.py", ORDINARY)
    assert empty_project.run(*args, ".").ret == 0
    trap.assert_untouched()
    other.assert_untouched()


def test_scripts_hooks_and_git_configurations_are_never_executed(project: Project) -> None:
    mark = project.path / "executed"
    script = f"#!/bin/sh\ntouch {mark}\n"
    run = project.experiment / "T0/00/run_01"
    for place in (run, run / "agent", run / "workspace/.git/hooks"):
        place.mkdir(parents=True, exist_ok=True)
        for name in ("replay.sh", "worktree_create.sh", "post-checkout", "pre-commit"):
            (place / name).write_text(script)
            (place / name).chmod(0o755)
    (run / "workspace/.git/config").write_text(f"[core]\n\tfsmonitor = touch {mark}\n")
    assert project.audit().ret == 0
    assert not mark.exists()


# G1: an audit writes nothing


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("-v", "--tb=long", "-rA"),
        ("-n", "2"),
        ("--lf",),
        ("--ff", "--durations=0"),
        ("--scylla-strict",),
        ("--scylla-report=report.json", "--junitxml=junit.xml"),
        ("--rootdir=exp",),
        ("-o", "cache_dir=exp/.cache"),
        ("-o", "cache_dir=exp/T0/cache"),
        ("--log-file-mode=w", "-o", "log_file=exp/pytest.log"),
        ("--debug=exp/debug.log",),
        ("--pastebin=no-such-thing",),
        ("-p", "cacheprovider", "--cache-clear"),
    ],
)
def test_an_audit_writes_nothing_into_the_experiment(project: Project, args: tuple[str, ...]) -> None:
    failing = damaged_in_several_ways(project.experiment)
    before = snapshot(project.experiment)
    result = project.audit_apart(*args) if args[:1] == ("--debug=exp/debug.log",) else project.audit(*args)
    assert snapshot(project.experiment) == before
    if result.ret != pytest.ExitCode.USAGE_ERROR:
        assert result.ret == 1
        result.assert_outcomes(passed=len(item_ids()) - len(failing), failed=len(failing))


@pytest.mark.parametrize("args", [(), ("-n", "2"), ("--lf",), ("--debug",), ("--scylla-report=../report.json",)])
@pytest.mark.parametrize("place", ["", "T1/01/run_01/judge"])
def test_an_audit_writes_nothing_where_one_stands_in_the_experiment(
    project: Project, args: tuple[str, ...], place: str
) -> None:
    failing = damaged_in_several_ways(project.experiment)
    before = snapshot(project.experiment)
    run = project.audit_apart if "--debug" in args else project.audit
    result = run(*args, cwd=project.experiment / place)
    assert snapshot(project.experiment) == before
    if result.ret != pytest.ExitCode.USAGE_ERROR:
        assert result.ret == 1
        assert "Traceback" not in printed(result)
        result.assert_outcomes(passed=len(item_ids()) - len(failing), failed=len(failing))


def test_an_audit_in_the_experiment_can_write_its_report_outside(project: Project) -> None:
    path = project.path / "report.json"
    assert project.audit(f"--scylla-report={path}", cwd=project.experiment).ret == 0
    assert project.only_experiment()["selected"] == len(counted_ids())


def test_the_cache_is_kept_where_the_experiment_is_below_the_current_directory(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    project.audit()
    assert (project.path / ".pytest_cache").is_dir()
    assert not list(project.experiment.rglob(".pytest_cache"))
    assert not list(project.experiment.rglob("__pycache__"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_read_only_experiment_is_audited(project: Project) -> None:
    directories = [project.experiment, *(path for path in project.experiment.rglob("*") if path.is_dir())]
    for path in directories:
        path.chmod(0o555)
    try:
        assert project.audit().ret == 0
        assert project.audit(cwd=project.experiment).ret == 0
    finally:
        for path in directories:
            path.chmod(0o755)


# Hostile objects end no session and block nothing


@pytest.mark.parametrize("name", ["run_result.json", "agent/output.txt", "judge/judge_02/judgment.json", "judge", ""])
def test_pipes_and_links_in_place_of_evidence_are_unsafe_and_block_nothing(
    project: Project, pristine_experiment: Path, name: str
) -> None:
    path = project.experiment / "T0/00/run_01" / name
    for replace in ("fifo", "link"):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if replace == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to(pristine_experiment / "T0/00/run_01" / name)
        result = project.audit("--scylla-report=report.json")
        assert result.ret == 1
        items = [item for item in project.only_experiment()["items"] if item["id"] not in WHOLES]
        assert items
        assert {item["id"][:12] for item in items} == {"T0/00/run_01"}
        if replace == "link" or "." in name:
            assert "unsafe" in {item["status"] for item in items}


def test_an_experiment_that_vanishes_meanwhile_is_no_internal_error(project: Project) -> None:
    project.write(
        "conftest.py",
        "import shutil\n\n\ndef pytest_collection_finish(session):\n"
        "    shutil.rmtree(session.config.rootpath / 'exp')\n",
    )
    result = project.audit("--scylla-report=report.json")
    assert result.ret == 1
    assert "INTERNALERROR" not in printed(result)
    assert len(with_outcome(result, "failed")) == len(item_ids())
    assert len(project.only_experiment()["items"]) == len(item_ids())
