"""Runs and judge slots among ordinary tests, in any order, under both protocols: nobody's set-up state is disturbed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from .support import (
    WHOLES,
    Project,
    counted_ids,
    item_ids,
    judgment_of,
    node_id,
    node_ids,
    outcomes,
    printed,
    run_result_of,
)

PROTOCOLS = {"short": "", "full": "def pytest_runtest_setup(item):\n    pass\n\n\n"}

ORDINARY = """\
import pytest

STATE = []


@pytest.fixture(scope="module", autouse=True)
def module():
    assert STATE == []
    STATE.append("module")
    yield
    assert STATE.pop() == "module"


@pytest.fixture
def function(module, session, tmp_path, capsys):
    STATE.append("function")
    yield
    assert STATE.pop() == "function"


@pytest.mark.parametrize("number", range(4))
def test_of_it(function, number, capsys):
    print(number)
    assert capsys.readouterr().out == f"{number}\\n"
    assert STATE == ["module", "function"]
    assert number != 2, "the ordinary failure"


class TestClass:
    @pytest.fixture(scope="class", autouse=True)
    def of_class(self):
        STATE.append("class")
        yield
        assert STATE.pop() == "class"

    def test_first(self):
        assert STATE == ["module", "class"]

    def test_second(self):
        assert STATE == ["module", "class"]
"""

SESSION = """\
import pytest

LIVES = []


@pytest.fixture(scope="session")
def session():
    LIVES.append(1)
    assert len(LIVES) == 1
    yield


"""

ARRANGEMENTS = {
    "experiment-last": "",
    "experiment-first": """\
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.nodeid.startswith("exp/"))
""",
    "experiment-between": """\
def pytest_collection_modifyitems(items):
    order = ["test_a.py", "exp/T0", "exp/T1", "exp/checkpoint", "exp/aggregates", "test_z.py"]
    items.sort(key=lambda item: [item.nodeid.startswith(start) for start in order].index(True))
""",
    "tiers-apart": """\
def pytest_collection_modifyitems(items):
    order = ["exp/T0", "exp/checkpoint", "test_a.py", "exp/aggregates", "exp/T1/01", "test_z.py", "exp/T1/02"]
    items.sort(key=lambda item: [item.nodeid.startswith(start) for start in order].index(True))
""",
    "backwards": """\
def pytest_collection_modifyitems(items):
    items.reverse()
""",
    "slots-across": """\
def pytest_collection_modifyitems(items):
    def key(item):
        return item.name if item.nodeid.startswith("exp/") else "judge_02b"
    items.sort(key=key)
""",
}

SPREADS: Sequence[Sequence[int]] = (
    (),
    (3, 23),
    (7, 8),
    (2, 3, 4),
    (3, 4, 11, 12, 19, 20),
    tuple(range(1, 24, 2)),
    tuple(range(24)),
)
"""Which items fail, by their place in the experiment: first and last of tiers, subtests and runs among them."""


@contextmanager
def _damaged(project: Project, places: Iterable[int]) -> Iterator[list[str]]:
    """Have the items at these places fail, whose ids are given; afterwards they are sound again."""
    chosen = [item_ids()[place] for place in places]
    files = [
        judgment_of(project.experiment, i) if "/judge_" in i else run_result_of(project.experiment, i) for i in chosen
    ]
    kept = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    yield chosen
    for path, content in zip(files, kept, strict=True):
        path.write_bytes(content)


@pytest.fixture
def lean_project(empty_project: Project, lean_experiment: Path) -> Project:
    """A project with the healthy experiment exp."""
    empty_project.copy(lean_experiment, "exp")
    return empty_project


def _expected(project: Project) -> dict[str, str]:
    """What each item comes to when it runs alone, by a session of its own."""
    return outcomes(project.run("--scylla-exp=exp", "-p", "no:cacheprovider", "--noconftest"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_failing_items_anywhere_disturb_no_set_up_state(lean_project: Project, protocol: str, arrangement: str) -> None:
    project = lean_project
    project.write("test_a.py", ORDINARY)
    project.write("test_z.py", ORDINARY)
    project.write("conftest.py", SESSION + PROTOCOLS[protocol] + ARRANGEMENTS[arrangement])
    ordinary = {
        f"{file}.py::{name}": "failed" if "2]" in name else "passed"
        for file in ("test_a", "test_z")
        for name in (*(f"test_of_it[{n}]" for n in range(4)), "TestClass::test_first", "TestClass::test_second")
    }
    for places in SPREADS:
        with _damaged(project, places) as chosen:
            result = project.audit("test_a.py", "test_z.py", "-p", "no:cacheprovider")
        failing = node_ids(chosen)
        assert result.ret == 1
        found = outcomes(result)
        assert "error" not in found.values(), printed(result)
        assert {nodeid: found[nodeid] for nodeid in ordinary} == ordinary
        failed = {nodeid for nodeid, outcome in found.items() if outcome == "failed" and nodeid.startswith("exp/")}
        assert failed >= set(failing)
        of_runs = {nodeid.partition("::")[0] for nodeid in failed - {*node_ids(WHOLES)}}  # these depend on the damage
        assert of_runs == {nodeid.partition("::")[0] for nodeid in failing}
        assert len(found) == len(item_ids()) + len(ordinary)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_failing_item_in_every_position_fails_alone(lean_project: Project, protocol: str) -> None:
    project = lean_project
    project.write("conftest.py", PROTOCOLS[protocol])
    for place in range(0, len(counted_ids()), 2):
        with _damaged(project, (place, (place + 9) % len(counted_ids()))) as chosen:
            result = project.audit("-p", "no:cacheprovider")
        failing = node_ids(chosen)
        assert result.ret == 1
        assert outcomes(result) == {n: "failed" if n in failing else "passed" for n in node_ids()}, printed(result)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_outcomes_are_those_of_the_experiment_alone(lean_project: Project, protocol: str) -> None:
    project = lean_project
    project.write("test_a.py", ORDINARY)
    project.write("conftest.py", SESSION + PROTOCOLS[protocol] + ARRANGEMENTS["backwards"])
    for places in SPREADS[-4:]:
        with _damaged(project, places):
            alone = _expected(project)
            mixed = outcomes(project.audit("test_a.py"))
        assert {nodeid: mixed[nodeid] for nodeid in alone} == alone


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_fixtures_of_the_session_are_torn_down_at_its_end_wherever_it_stops(
    lean_project: Project, protocol: str
) -> None:
    project = lean_project
    project.write("test_a.py", "def test_one(session):\n    pass\n")
    log = project.path / "log.txt"
    text = "import pytest\n\n\n@pytest.fixture(scope='session')\ndef session():\n    yield\n"
    text += f"    with open({str(log)!r}, 'a') as file:\n        file.write('end ')\n\n\n"
    project.write("conftest.py", text + PROTOCOLS[protocol])
    for place in (0, 5, 23):
        log.unlink(missing_ok=True)
        with _damaged(project, [place]):
            result = project.audit("test_a.py", "-x")
        assert result.ret == 1
        assert list(outcomes(result))[-1] == node_id(item_ids()[place])
        assert log.read_text() == "end "


def test_an_ordinary_test_that_fails_in_front_keeps_its_own_effect(project: Project) -> None:
    project.write("test_a.py", "def test_one():\n    assert False\n")
    assert project.audit("test_a.py").ret == 1
    result = project.audit("test_a.py", "-x")
    assert list(outcomes(result)) == ["test_a.py::test_one"]


def test_a_failing_test_below_a_directory_of_the_experiments_name_is_none_of_its_items(project: Project) -> None:
    project.copy(project.experiment, "data/tests")
    project.write("tests/unit/test_a.py", "def test_one():\n    assert False\n")
    result = project.run("--scylla-exp=data/tests", "tests", "--scylla-report=report.json")
    result.assert_outcomes(passed=len(item_ids()), failed=1)
    experiment = project.only_experiment()
    assert (experiment["items"], experiment["completeness"]) == ([], 1.0)


def test_a_test_file_that_cannot_be_collected_stops_the_session_as_ever(project: Project) -> None:
    project.write("test_a.py", "import no_such_module\n")
    result = project.audit("test_a.py", "--scylla-report=report.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert outcomes(result) == {}
    assert project.report()["exit_bits"] & 2
    assert project.only_experiment()["not_audited"] == len(counted_ids())
    result = project.audit("test_a.py", "--continue-on-collection-errors")
    assert result.ret == 1
    assert outcomes(result) == dict.fromkeys(node_ids(), "passed")
