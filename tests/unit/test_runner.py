"""Whether somebody is at work on an experiment: the checkpoint's word, its process, and when it was last updated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from pytest_scylla.experiment.runner import RECENT, live_runner
from pytest_scylla.experiment.timestamps import moment

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)
OLD, FRESH = NOW - timedelta(days=40), NOW - timedelta(seconds=90)


@pytest.fixture
def root(pristine_experiment: Path, tmp_path: Path) -> Path:
    """As much of an experiment as matters here: a checkpoint."""
    (tmp_path / "exp").mkdir()
    shutil.copyfile(pristine_experiment / "checkpoint.json", tmp_path / "exp" / "checkpoint.json")
    return tmp_path / "exp"


@pytest.fixture(scope="module")
def dead() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def says(root: Path, **changes: Any) -> None:
    """Let the checkpoint say something else, of a runner that is long gone where nothing else is said."""
    checkpoint = json.loads((root / "checkpoint.json").read_text())
    checkpoint.update({"status": "running", "last_updated_at": OLD.isoformat(), "pid": None, **changes})
    (root / "checkpoint.json").write_text(json.dumps(checkpoint))


# -------------------------------------------------------------------------------------------------- somebody is at work


@pytest.mark.parametrize("status", ["running", "paused_rate_limit"])
def test_a_process_that_is_alive_here_holds_the_experiment_however_long_ago_it_wrote(root: Path, status: str) -> None:
    says(root, status=status, pid=os.getpid())
    told = live_runner(root, NOW)
    assert told is not None
    assert told.isprintable()
    assert f'"{status}"' in told
    assert str(os.getpid()) in told
    assert "alive" in told


def test_a_process_of_somebody_else_is_alive_as_well(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        assert (pid, signal) == (4321, 0)
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    says(root, pid=4321)
    assert "4321" in str(live_runner(root, NOW))


@pytest.mark.parametrize("status", ["running", "paused_rate_limit"])
def test_what_was_updated_within_ten_minutes_is_held_though_the_process_is_not_on_this_host(
    root: Path, dead: int, status: str
) -> None:
    says(root, status=status, pid=dead, last_updated_at=FRESH.isoformat())
    told = live_runner(root, NOW)
    assert told is not None
    assert told.isprintable()
    assert f'"{status}"' in told
    assert "90 seconds ago" in told
    assert str(dead) in told


def test_a_heartbeat_counts_as_an_update(root: Path, dead: int) -> None:
    says(root, pid=dead, last_heartbeat=FRESH.isoformat())
    assert "90 seconds ago" in str(live_runner(root, NOW))


def test_the_later_of_update_and_heartbeat_counts(root: Path, dead: int) -> None:
    says(root, pid=dead, last_updated_at=FRESH.isoformat(), last_heartbeat=OLD.isoformat())
    assert "90 seconds ago" in str(live_runner(root, NOW))


def test_a_heartbeat_of_null_leaves_the_update(root: Path, dead: int) -> None:
    says(root, pid=dead, last_updated_at=FRESH.isoformat(), last_heartbeat=None)
    assert live_runner(root, NOW) is not None


def test_now_is_the_moment_of_the_question(root: Path, dead: int) -> None:
    says(root, pid=dead, last_updated_at=datetime.now(timezone.utc).isoformat())
    assert live_runner(root) is not None
    says(root, pid=dead, last_updated_at=(datetime.now(timezone.utc) - 2 * RECENT).isoformat())
    assert live_runner(root) is None


WRITTEN: dict[str, Callable[[datetime], str]] = {
    "with an offset": datetime.isoformat,
    "with Z": lambda time: time.isoformat().replace("+00:00", "Z"),
    "with another offset": lambda time: time.astimezone(timezone(timedelta(hours=-7))).isoformat(),
    "without a zone": lambda time: time.replace(tzinfo=None).isoformat(),
    "with microseconds": lambda time: (time + timedelta(microseconds=7)).isoformat(),
    "with milliseconds": lambda time: time.isoformat(timespec="milliseconds"),
    "with a blank": lambda time: time.isoformat(sep=" "),
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN.keys())
def test_a_moment_is_understood_however_it_is_written(
    root: Path, dead: int, written: Callable[[datetime], str]
) -> None:
    says(root, pid=dead, last_updated_at=written(NOW - RECENT + timedelta(seconds=1)))
    assert live_runner(root, NOW) is not None
    says(root, pid=dead, last_updated_at=written(NOW - RECENT - timedelta(seconds=1)))
    assert live_runner(root, NOW) is None


@pytest.mark.parametrize("ahead", [timedelta(seconds=3), timedelta(hours=9)])
def test_a_clock_that_is_ahead_of_ours_lets_go_of_nothing(root: Path, dead: int, ahead: timedelta) -> None:
    says(root, pid=dead, last_updated_at=(NOW + ahead).isoformat())
    told = live_runner(root, NOW)
    assert "updated 0 seconds ago" in str(told)


# ---------------------------------------------------------------------------------------------------- nobody is at work


def test_a_healthy_experiment_that_is_complete_is_held_by_nobody(root: Path) -> None:
    assert live_runner(root) is None


def test_a_process_that_died_more_than_ten_minutes_ago_holds_nothing(root: Path, dead: int) -> None:
    says(root, pid=dead, last_updated_at=(NOW - RECENT).isoformat())
    assert live_runner(root, NOW) is None


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted", "Running", "", None, 1, ["running"]])
def test_who_is_not_at_work_holds_nothing_though_alive_and_just_updated(root: Path, status: object) -> None:
    says(root, status=status, pid=os.getpid(), last_updated_at=FRESH.isoformat())
    assert live_runner(root, NOW) is None


@pytest.mark.parametrize("pid", [0, -1, None, 2**31, 2**63 - 1, -(2**63)])
def test_a_number_that_no_process_has_holds_nothing(
    root: Path, pid: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = os.kill

    def careful(pid: int, signal: int) -> None:
        assert pid > 0  # 0 and negative numbers are groups of processes
        assert signal == 0
        kill(pid, signal)

    monkeypatch.setattr(os, "kill", careful)
    says(root, pid=pid)
    assert live_runner(root, NOW) is None


def test_without_a_number_an_update_alone_holds(root: Path) -> None:
    says(root, pid=None, last_updated_at=FRESH.isoformat())
    assert live_runner(root, NOW) is not None


@pytest.mark.parametrize(
    "time",
    ["", "Z", "yesterday", "2026-13-45T00:00:00", "12:00", "2026-03-01T12:00:00+99:00", "\0", "\ud800", "9" * 5000],
)
def test_a_moment_that_is_none_is_no_update(root: Path, dead: int, time: str) -> None:
    says(root, pid=dead, last_updated_at=time, last_heartbeat=time)
    assert live_runner(root, NOW) is None
    assert moment(time) is None


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"])
def test_the_ends_of_the_calendar_hold_nothing(root: Path, dead: int, time: str) -> None:
    says(root, pid=dead, last_updated_at=time, last_heartbeat=OLD.isoformat())
    assert moment(time) is not None
    assert live_runner(root, NOW) is None


def test_a_checkpoint_of_a_version_yet_unknown_holds_as_well(root: Path) -> None:
    says(root, version="9.9", pid=os.getpid(), rate_limit_until=17)
    assert live_runner(root, NOW) is not None


@pytest.mark.parametrize("time", [None, 0, 1.5, True, [], {}])
def test_what_is_no_text_is_no_moment(time: Any) -> None:
    assert moment(time) is None


def test_without_any_moment_only_a_live_process_holds(root: Path, dead: int) -> None:
    says(root, pid=dead)
    checkpoint = json.loads((root / "checkpoint.json").read_text())
    del checkpoint["last_updated_at"]
    (root / "checkpoint.json").write_text(json.dumps(checkpoint))
    assert live_runner(root, NOW) is None


UNREADABLE: dict[str, bytes] = {
    "empty": b"",
    "cut off": b'{"status": "running", "pid": 1',
    "a list": b"[]",
    "a key twice": b'{"status": "running", "status": "running"}',
    "NaN": b'{"status": "running", "pid": NaN}',
    "not UTF-8": b'{"status": "running\xff"}',
    "deep": b"[" * 100_000,
    "a pid that is text": b'{"version": "2.0", "status": "running", "pid": "1"}',
    "a pid that is a truth value": b'{"version": "2.0", "status": "running", "pid": true}',
    "a pid with a fraction": b'{"version": "2.0", "status": "running", "pid": 1.5}',
    "a huge pid": b'{"version": "2.0", "status": "running", "pid": ' + b"9" * 400 + b"}",
    "nothing": b"{}",
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_checkpoint_that_cannot_be_read_holds_nothing(root: Path, data: bytes) -> None:
    (root / "checkpoint.json").write_bytes(data)
    assert live_runner(root, NOW) is None


@pytest.mark.parametrize("kind", ["absent", "link", "link to nothing", "directory", "fifo"])
def test_something_else_than_a_checkpoint_holds_nothing_and_is_not_followed(
    root: Path, tmp_path: Path, kind: str
) -> None:
    says(root, pid=os.getpid())
    assert live_runner(root, NOW) is not None
    place = root / "checkpoint.json"
    place.rename(tmp_path / "elsewhere.json")
    if kind == "link":
        place.symlink_to(tmp_path / "elsewhere.json")
    elif kind == "link to nothing":
        place.symlink_to("nothing")
    elif kind == "directory":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    assert live_runner(root, NOW) is None


def test_an_experiment_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        live_runner(tmp_path / "nowhere")


def test_asking_writes_nothing(root: Path) -> None:
    says(root, pid=os.getpid())
    before = (root / "checkpoint.json").stat()
    live_runner(root, NOW)
    after = (root / "checkpoint.json").stat()
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    assert not (root / ".scylla").exists()
