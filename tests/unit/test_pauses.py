"""A limit that was met pauses the calls of that command and model, for whoever shares the experiment's directory."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from pytest_scylla.calling.pauses import LONGEST, Pause, pause_file, paused_until, pauses, set_pause
from pytest_scylla.experiment.keeping import KEEPING, Keeping
from pytest_scylla.experiment.records import open_experiment
from pytest_scylla.experiment.writing import CannotWrite

from .repairing import staged, tree

HOUR = timedelta(hours=1)
NOW = datetime.now(timezone.utc)
"""Close enough to when a test runs, whose moments lie hours apart."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An experiment's directory; of what else it holds, pauses know nothing."""
    (tmp_path / "exp").mkdir()
    return tmp_path / "exp"


@pytest.fixture
def keeping(root: Path) -> Iterator[Keeping]:
    """What the experiment keeps, open for writing."""
    with Keeping(root) as opened:
        yield opened


def files(root: Path) -> list[Path]:
    return sorted((root / KEEPING / "pauses").iterdir())


def rewrite(root: Path, **changes: Any) -> None:
    """Change what the only pause says; a change to ``None`` takes the key away."""
    (path,) = files(root)
    entry = {**json.loads(path.read_bytes()), **changes}
    path.write_text(json.dumps({key: value for key, value in entry.items() if value is not None}))


def later(hours: float) -> datetime:
    return NOW + hours * HOUR


# ------------------------------------------------------------------------------------------------------ a pause is kept


def test_a_pause_holds_until_its_end_and_says_why(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "usage limit reached")
    expected = Pause("claude", "opus", later(5), "usage limit reached")
    assert paused_until(root, "claude", "opus", NOW) == expected
    assert paused_until(root, "claude", "opus", later(5) - timedelta(microseconds=1)) == expected
    assert paused_until(root, "claude", "opus", later(5)) is None


def test_a_pause_is_read_as_well_through_the_experiment_that_is_open_already(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    with open_experiment(root) as folder:
        assert paused_until(folder, "claude", "opus", NOW) == paused_until(root, "claude", "opus", NOW) is not None
        assert pauses(folder, NOW) == pauses(root, NOW) != ()
        assert folder.kind(KEEPING) == "directory"


def test_another_command_or_model_is_not_paused(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    assert paused_until(root, "claude", "haiku", NOW) is None
    assert paused_until(root, "codex", "opus", NOW) is None
    assert paused_until(root, "opus", "claude", NOW) is None


def test_every_command_and_model_has_a_pause_of_its_own(root: Path, keeping: Keeping) -> None:
    names = [
        ("a", "b c"),
        ("a b", "c"),
        ("", "a"),
        ("a", ""),
        ("a\0", "b"),
        ("a", "\0b"),
        ("../a", "b"),
        ("\ud800", "x"),
    ]
    for hours, (command, model) in enumerate(names, 1):
        set_pause(keeping, command, model, later(hours), "limit")
    for hours, (command, model) in enumerate(names, 1):
        assert paused_until(root, command, model, NOW) == Pause(command, model, later(hours), "limit")
    assert len(files(root)) == len(names)


def test_all_pauses_that_hold_are_listed_by_command_and_model(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "codex", "gpt", later(1), "first")
    set_pause(keeping, "claude", "opus", later(3), "second")
    set_pause(keeping, "claude", "haiku", later(2), "third")
    (root / KEEPING / "pauses" / "notes.txt").write_text("not a pause")
    (root / KEEPING / "pauses" / "folder").mkdir()
    assert [pause.reason for pause in pauses(root, NOW)] == ["third", "second", "first"]
    assert [pause.reason for pause in pauses(root, later(1))] == ["third", "second"]
    assert pauses(root, later(3)) == ()


def test_the_end_is_told_in_utc_whatever_zone_it_was_given_in(root: Path, keeping: Keeping) -> None:
    east = timezone(timedelta(hours=9))
    set_pause(keeping, "claude", "opus", later(5).astimezone(east), "limit")
    (path,) = files(root)
    assert json.loads(path.read_bytes())["until"] == later(5).isoformat()
    rewrite(root, until=later(4).astimezone(east).isoformat())
    pause = paused_until(root, "claude", "opus", NOW.astimezone(east))
    assert pause is not None
    assert (pause.until, pause.until.tzinfo) == (later(4), timezone.utc)


def test_a_reason_is_kept_and_shown_as_one_printable_line(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit\n::error::\x1b[31m")
    (path,) = files(root)
    assert "\\n:\\x3aerror:\\x3a\\x1b[31m" in json.loads(path.read_bytes())["reason"]
    rewrite(root, reason="limit\x1b[31m\nreached " + "x" * 1000)
    pause = paused_until(root, "claude", "opus", NOW)
    assert pause is not None
    assert pause.reason.startswith("limit\\x1b[31m\\nreached x")
    assert pause.reason.isprintable()
    assert len(pause.reason) <= 500


# ---------------------------------------------------------------------------------------------------- which pause stays


def test_of_two_pauses_the_one_that_ends_later_stays(root: Path, keeping: Keeping) -> None:
    for hours, reason in ((2, "first"), (5, "second"), (3, "third"), (5, "fourth")):
        set_pause(keeping, "claude", "opus", later(hours), reason)
    assert paused_until(root, "claude", "opus", NOW) == Pause("claude", "opus", later(5), "second")
    assert len(files(root)) == 1


def test_a_pause_reaches_seven_days_ahead_at_most(root: Path, keeping: Keeping) -> None:
    for until in (NOW + timedelta(days=30), datetime.max.replace(tzinfo=timezone(-timedelta(hours=12)))):
        before = datetime.now(timezone.utc)
        set_pause(keeping, "claude", "opus", until, "limit")
        after = datetime.now(timezone.utc)
        pause = paused_until(root, "claude", "opus", after)
        assert pause is not None
        assert before <= pause.until - timedelta(days=7) <= after
    assert timedelta(days=7) == LONGEST


@pytest.mark.parametrize("until", [NOW - HOUR, datetime.min.replace(tzinfo=timezone(timedelta(hours=12)))])
def test_a_moment_that_has_passed_pauses_nothing(root: Path, keeping: Keeping, until: datetime) -> None:
    before = tree(root, but=None)
    set_pause(keeping, "claude", "opus", until, "limit")
    assert tree(root, but=None) == before


def test_a_pause_that_ran_out_gives_way_to_a_new_one(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "old")
    rewrite(root, until=later(-1).isoformat())
    assert paused_until(root, "claude", "opus", NOW) is None
    set_pause(keeping, "claude", "opus", later(2), "new")
    assert paused_until(root, "claude", "opus", NOW) == Pause("claude", "opus", later(2), "new")


def test_a_file_that_is_no_pause_gives_way_to_one(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "old")
    rewrite(root, until=(NOW + timedelta(days=60)).isoformat())
    set_pause(keeping, "claude", "opus", later(2), "new")
    assert paused_until(root, "claude", "opus", NOW) == Pause("claude", "opus", later(2), "new")


def test_a_pause_that_another_process_sets_meanwhile_is_not_lost(
    root: Path, keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged_before = Keeping.stage

    def set_the_other() -> None:
        with Keeping(root) as other:
            set_pause(other, "claude", "opus", later(5), "later end")

    meanwhile = threading.Thread(target=set_the_other)

    def stage(self: Keeping, *arguments: Any) -> None:
        if self is keeping:
            meanwhile.start()
            meanwhile.join(0.3)  # it cannot get further than to the lock
        staged_before(self, *arguments)

    monkeypatch.setattr(Keeping, "stage", stage)
    set_pause(keeping, "claude", "opus", later(2), "earlier end")
    meanwhile.join(60)
    assert paused_until(root, "claude", "opus", NOW) == Pause("claude", "opus", later(5), "later end")
    assert not staged(root)


# -------------------------------------------------------------------------------------------------------------- reading


def test_reading_writes_nothing(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    before = tree(root, but=None)
    paused_until(root, "claude", "opus", NOW)
    paused_until(root, "claude", "haiku", NOW)
    pauses(root, NOW)
    assert tree(root, but=None) == before


@pytest.mark.parametrize("present", ["", KEEPING, f"{KEEPING}/pauses"])
def test_where_nothing_is_kept_nothing_is_paused_and_nothing_is_made(root: Path, present: str) -> None:
    (root / present).mkdir(parents=True, exist_ok=True)
    before = tree(root, but=None)
    assert paused_until(root, "claude", "opus", NOW) is None
    assert pauses(root, NOW) == ()
    assert tree(root, but=None) == before


def test_an_experiment_that_is_gone_is_an_error(root: Path) -> None:
    root.rmdir()
    with pytest.raises(FileNotFoundError):
        paused_until(root, "claude", "opus", NOW)
    with pytest.raises(FileNotFoundError):
        pauses(root, NOW)


def test_nothing_is_left_open(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    before = os.listdir("/dev/fd")
    for _ in range(3):
        set_pause(keeping, "claude", "opus", later(6), "limit")
        paused_until(root, "claude", "opus", NOW)
        pauses(root, NOW)
    assert len(os.listdir("/dev/fd")) == len(before)


# ------------------------------------------------------------------------------------------------- it is input like all


def ignored(root: Path) -> bool:
    """Whether the only file there pauses nobody, one by one and listed."""
    return paused_until(root, "claude", "opus", NOW) is None and pauses(root, NOW) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"until": (NOW + LONGEST + timedelta(seconds=1)).isoformat()},
        {"until": "9999-12-31T23:59:59-23:59"},
        {"until": "0001-01-01T00:00:00+23:59"},
        {"until": "soon"},
        {"until": ""},
        {"until": 1_900_000_000},
        {"until": None},
        {"reason": None},
        {"reason": ["limit"]},
        {"command": None},
        {"command": 1},
        {"model": None},
        {"command": "codex"},
        {"model": "haiku"},
        {"command": "opus", "model": "claude"},
    ],
)
def test_a_pause_is_ignored_that_is_not_sound_or_not_of_its_name(
    root: Path, keeping: Keeping, changes: dict[str, Any]
) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    assert not ignored(root)
    rewrite(root, **changes)
    assert ignored(root)


def test_a_pause_of_just_seven_days_holds(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    rewrite(root, until=(NOW + LONGEST).isoformat())
    assert not ignored(root)


def test_an_end_without_a_zone_is_read_as_utc(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    rewrite(root, until=later(3).replace(tzinfo=None).isoformat())
    pause = paused_until(root, "claude", "opus", NOW)
    assert pause is not None
    assert pause.until == later(3)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b'{"until": NaN}'])
def test_a_malformed_file_is_ignored(root: Path, keeping: Keeping, data: bytes) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    (path,) = files(root)
    path.write_bytes(data)
    assert ignored(root)


def test_a_pause_cut_off_or_with_a_key_twice_is_ignored(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    (path,) = files(root)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert ignored(root)
    path.write_bytes(whole[:-1] + b', "command": "claude"}')
    assert ignored(root)


def test_a_very_large_file_is_ignored(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    (path,) = files(root)
    path.write_bytes(path.read_bytes() + b" " * 65_536)
    assert ignored(root)


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_no_file_is_ignored(root: Path, keeping: Keeping, tmp_path: Path, kind: str) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    (path,) = files(root)
    path.rename(tmp_path / "pause.json")
    if kind == "link":
        path.symlink_to(tmp_path / "pause.json")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert ignored(root)


def test_a_pause_whose_file_is_deleted_holds_no_longer(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    set_pause(keeping, "claude", "haiku", later(5), "limit")
    (root / pause_file("claude", "opus")).unlink()
    assert paused_until(root, "claude", "opus", NOW) is None
    assert paused_until(root, "claude", "haiku", NOW) is not None


@pytest.mark.parametrize("name", [KEEPING, f"{KEEPING}/pauses"])
def test_a_directory_that_is_a_link_is_not_followed(root: Path, tmp_path: Path, name: str) -> None:
    with Keeping(root) as keeping:
        set_pause(keeping, "claude", "opus", later(5), "limit")
    (root / name).rename(tmp_path / "elsewhere")
    (root / name).symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path, but=None)
    assert ignored(root)
    with pytest.raises(CannotWrite, match="link"), Keeping(root) as keeping:
        set_pause(keeping, "claude", "opus", later(6), "limit")
    assert tree(tmp_path, but=None) == before


# -------------------------------------------------------------------------------------------------------------- writing


def test_a_link_in_its_place_is_replaced_and_what_it_leads_to_is_not_touched(
    root: Path, keeping: Keeping, tmp_path: Path
) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    (path,) = files(root)
    path.unlink()
    (tmp_path / "other").write_text("somebody's")
    path.symlink_to(tmp_path / "other")
    set_pause(keeping, "claude", "opus", later(5), "limit")
    assert (tmp_path / "other").read_text() == "somebody's"
    assert stat.S_ISREG(path.lstat().st_mode)
    assert not ignored(root)


def test_a_directory_in_its_place_stays_and_the_failure_is_told(root: Path, keeping: Keeping) -> None:
    set_pause(keeping, "claude", "opus", later(5), "limit")
    (path,) = files(root)
    path.unlink()
    path.mkdir()
    with pytest.raises(CannotWrite, match=rf"^\.scylla/pauses/{path.name}: {os.strerror(errno.EISDIR)}"):
        set_pause(keeping, "claude", "opus", later(5), "limit")
    assert path.is_dir()
    assert not staged(root)


def test_whoever_reads_while_a_pause_is_prolonged_sees_the_old_one_or_the_new_one(
    root: Path, keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pause(keeping, "claude", "opus", later(1), "old")
    seen = []
    written = os.write

    def look(fd: int, data: bytes) -> int:
        done = written(fd, data[:7])
        pause = paused_until(root, "claude", "opus", NOW)
        seen.append(pause and pause.reason)
        return done

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", look)
        set_pause(keeping, "claude", "opus", later(2), "new")
    assert len(seen) > 5
    assert set(seen) == {"old"}
    assert paused_until(root, "claude", "opus", NOW) == Pause("claude", "opus", later(2), "new")


def test_a_full_disk_is_told_and_the_pause_that_is_there_stays(
    root: Path, keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pause(keeping, "claude", "opus", later(1), "old")

    def refuse(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse)
        with pytest.raises(CannotWrite, match=os.strerror(errno.ENOSPC)):
            set_pause(keeping, "claude", "opus", later(2), "new")
    assert paused_until(root, "claude", "opus", NOW) == Pause("claude", "opus", later(1), "old")
    assert not staged(root)


def test_what_is_kept_for_pauses_is_made_when_the_first_is_set(root: Path, keeping: Keeping) -> None:
    assert not (root / KEEPING / "pauses").exists()
    set_pause(keeping, "claude", "opus", later(1), "limit")
    assert len(files(root)) == 1
