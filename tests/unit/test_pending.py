"""An execution under way: what is kept of it, and what is believed of what lies there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_scylla.experiment.keeping import Keeping
from pytest_scylla.experiment.layout import RunId
from pytest_scylla.experiment.writing import CannotWrite
from pytest_scylla.running.pending import Pending, begin, end, outputs_of, unfinished

RUN = RunId("T0", "00", 1)
PENDING = Pending(2, "agent-medium-1", "a" * 64, "T0_00_run_01--a2-0badcafe", "b" * 40)
PRINTED = ("stdout", "stderr", "notes")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "exp"
    place.mkdir()
    return place


@pytest.fixture
def keeping(root: Path) -> Iterator[Keeping]:
    with Keeping(root) as opened:
        yield opened


def outputs(root: Path) -> Path:
    return outputs_of(root, RUN)


def write_outputs(root: Path, text: str = "something") -> None:
    for name in PRINTED:
        (outputs(root) / name).write_text(text)


def test_an_execution_has_a_directory_of_its_own(root: Path, keeping: Keeping) -> None:
    begin(keeping, RUN, PENDING)
    begin(keeping, RunId("T0", "00", 11), replace(PENDING, attempt=1))
    assert outputs(root) == root / ".scylla/running/T0-00-run_01"
    assert os.listdir(outputs(root)) == ["execution.json"]
    assert sorted(os.listdir(root / ".scylla/running")) == ["T0-00-run_01", "T0-00-run_11"]
    assert os.listdir(root / ".scylla/staging") == []


def test_it_is_told_what_the_execution_is_about(keeping: Keeping) -> None:
    assert unfinished(keeping, RUN) is None
    begin(keeping, RUN, PENDING)
    assert unfinished(keeping, RUN) == PENDING
    assert unfinished(keeping, RunId("T0", "00", 11)) is None


def test_what_is_left_of_another_is_kept_aside_whole(root: Path, keeping: Keeping) -> None:
    begin(keeping, RUN, PENDING)
    write_outputs(root, "what the first printed")
    begin(keeping, RUN, replace(PENDING, attempt=3))
    assert os.listdir(outputs(root)) == ["execution.json"]
    assert unfinished(keeping, RUN) == replace(PENDING, attempt=3)
    (aside,) = (root / ".scylla/quarantine").iterdir()
    assert sorted(os.listdir(aside)) == sorted(["execution.json", *PRINTED])
    assert (aside / "stdout").read_text() == "what the first printed"


def test_a_file_in_the_place_of_the_directory_is_kept_aside_too(root: Path, keeping: Keeping) -> None:
    keeping.folder("running")
    outputs(root).write_text("a file")
    begin(keeping, RUN, PENDING)
    assert unfinished(keeping, RUN) == PENDING
    assert [path.read_text() for path in (root / ".scylla/quarantine").iterdir()] == ["a file"]


def test_nothing_is_left_at_the_end(root: Path, keeping: Keeping) -> None:
    begin(keeping, RUN, PENDING)
    write_outputs(root)
    end(keeping, RUN)
    assert os.listdir(root / ".scylla/running") == []
    end(keeping, RUN)


def test_what_somebody_else_put_there_stays(root: Path, keeping: Keeping) -> None:
    begin(keeping, RUN, PENDING)
    write_outputs(root)
    (outputs(root) / "trace.json").write_text("an agent's own")
    end(keeping, RUN)
    assert os.listdir(outputs(root)) == ["trace.json"]
    assert unfinished(keeping, RUN) is None
    begin(keeping, RUN, PENDING)
    assert os.listdir(outputs(root)) == ["execution.json"]


def test_whoever_is_killed_at_the_end_leaves_nothing_that_tells_of_an_end(
    root: Path, keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(keeping, RUN, PENDING)
    write_outputs(root)

    class Killed(BaseException):
        pass

    unlink = os.unlink

    def killed(*arguments: Any, **named: Any) -> None:
        unlink(*arguments, **named)
        raise Killed

    monkeypatch.setattr(os, "unlink", killed)
    with pytest.raises(Killed):
        end(keeping, RUN)
    monkeypatch.undo()
    assert not (outputs(root) / "notes").exists()
    assert (outputs(root) / "stdout").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"attempt": "2"},
        {"attempt": True},
        {"attempt": 2.0},
        {"attempt": None},
        {"model": 7},
        {"prompt_sha256": None},
        {"branch": ["main"]},
        {"base_commit": {}},
    ],
)
def test_a_record_that_is_none_tells_nothing(root: Path, keeping: Keeping, changed: dict[str, Any]) -> None:
    begin(keeping, RUN, PENDING)
    record = outputs(root) / "execution.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), **changed}))
    assert unfinished(keeping, RUN) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"attempt": 1}', b"{" * 5000])
def test_a_malformed_record_tells_nothing(root: Path, keeping: Keeping, data: bytes) -> None:
    begin(keeping, RUN, PENDING)
    (outputs(root) / "execution.json").write_bytes(data)
    assert unfinished(keeping, RUN) is None


def test_no_link_is_followed(root: Path, keeping: Keeping, tmp_path: Path) -> None:
    begin(keeping, RUN, PENDING)
    outside = tmp_path / "outside"
    outputs(root).rename(outside)
    outputs(root).symlink_to(outside)
    assert unfinished(keeping, RUN) is None
    end(keeping, RUN)
    assert os.listdir(outside) == ["execution.json"]
    begin(keeping, RUN, replace(PENDING, attempt=3))  # in a directory of its own
    assert not outputs(root).is_symlink()
    assert json.loads((outside / "execution.json").read_text())["attempt"] == 2


def test_a_link_in_the_place_of_all_executions_is_refused(root: Path, keeping: Keeping, tmp_path: Path) -> None:
    (root / ".scylla/running").symlink_to(tmp_path)
    with pytest.raises(CannotWrite, match=r"^\.scylla/running: expected"):
        begin(keeping, RUN, PENDING)
    with pytest.raises(CannotWrite, match=r"^\.scylla/running: expected"):
        unfinished(keeping, RUN)
    with pytest.raises(CannotWrite, match=r"^\.scylla/running: expected"):
        end(keeping, RUN)
    assert sorted(os.listdir(tmp_path)) == ["exp"]
