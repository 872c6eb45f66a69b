"""New files put in their places: all prepared before the first takes its own, what they replace kept and told of."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_scylla.experiment.keeping import KEEPING, Keeping
from pytest_scylla.experiment.records import Folder
from pytest_scylla.experiment.replacing import NewFile, put_file, put_files, put_update
from pytest_scylla.experiment.schemas import is_valid
from pytest_scylla.experiment.writing import CannotWrite

from .repairing import digest, journal, quarantined, staged, tree

RUN = "T0/00/run_01"
FILES = ("top.json", f"{RUN}/first.json", f"{RUN}/judge/second.json", "last.json")
"""Two in the experiment's root, and two below it."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An experiment that holds one of the files."""
    (tmp_path / "exp" / RUN).mkdir(parents=True)
    (tmp_path / "exp" / RUN / "first.json").write_bytes(b"old")
    return tmp_path / "exp"


def new(file: str) -> NewFile:
    return NewFile(file, f"new {file}".encode(), RUN, "regenerate")


def put(root: Path, *files: str) -> list[str]:
    """Put new files in their places; what is returned was, one by one."""
    with Keeping(root) as keeping:
        return [done.file for done in put_files(keeping, [new(file) for file in files])]


# ------------------------------------------------------------------------------------------------------- in their order


def test_files_are_put_one_after_the_other_and_each_is_told_of_once_it_is_there(root: Path) -> None:
    with Keeping(root) as keeping:
        for number, done in enumerate(put_files(keeping, [new(file) for file in FILES])):
            assert done == new(FILES[number])
            there = {file for file in FILES if (root / file).exists() and (root / file).read_bytes() != b"old"}
            assert there == set(FILES[: number + 1])
    assert [(root / file).read_bytes() for file in FILES] == [new(file).data for file in FILES]
    assert [entry["file"] for entry in journal(root)] == list(FILES)
    assert staged(root) == []


def test_all_are_told_of_before_the_first_is_there(root: Path) -> None:
    with Keeping(root) as keeping:
        next(put_files(keeping, [new(file) for file in FILES]))
        assert [entry["file"] for entry in journal(root)] == list(FILES)
        assert quarantined(root) == {digest(b"old"): b"old"}


def test_without_files_nothing_is_told(root: Path) -> None:
    before = tree(root)
    assert put(root) == []
    assert journal(root) == []
    assert list((root / KEEPING / "journal").iterdir()) == []
    assert tree(root) == before


def test_one_file_is_put_as_many_are(root: Path) -> None:
    with Keeping(root) as keeping:
        put_file(keeping, new(FILES[1]))
    assert (root / FILES[1]).read_bytes() == new(FILES[1]).data
    assert [entry["file"] for entry in journal(root)] == [FILES[1]]
    assert quarantined(root) == {digest(b"old"): b"old"}
    assert staged(root) == []


# --------------------------------------------------------------------------------------------- what is replaced is kept


def test_the_journal_tells_what_was_written_why_and_from_what(root: Path) -> None:
    data, sources = b"{}", (("config/experiment.json", digest(b"")), ("lost.txt", None))
    with Keeping(root) as keeping:
        put_file(keeping, NewFile("T1/x.json", data, "T1/01/run_02/judge_03", "judges", ("a-code", "b-code"), sources))
    (entry,) = journal(root)
    assert is_valid("journal-entry", entry)
    assert {key: value for key, value in entry.items() if key not in ("time", "tool")} == {
        "item": "T1/01/run_02/judge_03",
        "what": "judges",
        "file": "T1/x.json",
        "sha256": digest(data),
        "solves": ["a-code", "b-code"],
        "sources": [
            {"file": "config/experiment.json", "sha256": digest(b"")},
            {"file": "lost.txt", "sha256": None},
        ],
        "replaced": None,
    }


def test_of_a_replaced_file_the_bytes_are_kept_and_the_rest_is_told(root: Path) -> None:
    place = root / FILES[1]
    place.chmod(0o4640)
    os.utime(place, (1_700_000_000, 1_600_000_000))
    put(root, FILES[1])
    (entry,) = journal(root)
    assert is_valid("journal-entry", entry)
    assert entry["replaced"] == {
        "quarantine": f"{KEEPING}/quarantine/{digest(b'old')[:2]}/{digest(b'old')}",
        "sha256": digest(b"old"),
        "size": 3,
        "mode": "4640",
        "modified": "2020-09-13T12:26:40+00:00",
    }
    assert quarantined(root) == {digest(b"old"): b"old"}
    assert stat.S_IMODE(place.stat().st_mode) == 0o640


def test_a_directory_in_the_place_of_a_file_is_moved_aside_as_it_is_just_before(root: Path) -> None:
    place = root / FILES[3]
    place.mkdir(mode=0o750)
    (place / "inside").write_text("kept")
    moved = tree(place)
    with Keeping(root) as keeping:
        for done in put_files(keeping, [new(FILES[1]), new(FILES[3])]):
            assert place.is_dir() == (done.file == FILES[1])
    told = journal(root)[-1]["replaced"]
    assert (told["sha256"], told["size"], told["mode"]) == (None, None, "0750")
    assert tree(root / told["quarantine"]) == moved
    assert place.read_bytes() == new(FILES[3]).data
    assert stat.S_IMODE(place.stat().st_mode) & 0o111 == 0


# ---------------------------------------------------------------------------------------------------------- all or none


def link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize("make", [link, os.mkfifo], ids=["link", "fifo"])
@pytest.mark.parametrize("place", [FILES[0], FILES[3], f"{RUN}/judge"])
def test_what_may_not_be_replaced_stays_and_so_does_all_else(
    root: Path, place: str, make: Callable[[Path], object]
) -> None:
    make(root / place)
    before = tree(root)
    with pytest.raises(CannotWrite, match=f"^{place}: expected a"):
        put(root, *FILES)
    after = tree(root)
    made = {f"{RUN}/judge"} if place == FILES[3] else set()  # a directory on the way, which is empty
    assert set(after) - set(before) == made
    assert {name: after[name] for name in before} == before
    assert journal(root) == []
    assert staged(root) == []


def test_behind_a_file_that_could_not_be_put_everything_is_as_before(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Keeping.put_in_place
    done: list[str] = []

    def failing(keeping: Keeping, file: str, folder: Folder) -> None:
        if file == FILES[1]:
            raise CannotWrite(f"{file}: not this one")
        original(keeping, file, folder)

    monkeypatch.setattr(Keeping, "put_in_place", failing)
    with Keeping(root) as keeping, pytest.raises(CannotWrite, match="not this one"):
        done.extend(one.file for one in put_files(keeping, [new(file) for file in FILES]))
    assert done == [FILES[0]]
    assert (root / FILES[1]).read_bytes() == b"old"
    assert [file for file in FILES if (root / file).exists()] == list(FILES[:2])
    assert staged(root) == []


def test_who_wants_no_more_of_them_leaves_the_rest_as_it_is(root: Path) -> None:
    with Keeping(root) as keeping:
        writing = put_files(keeping, [new(file) for file in FILES])
        next(writing)
        assert len(staged(root)) == 3
        writing.close()  # type: ignore[attr-defined]
    assert (root / FILES[0]).read_bytes() == new(FILES[0]).data
    assert (root / FILES[1]).read_bytes() == b"old"
    assert staged(root) == []


def test_every_directory_is_closed_again(root: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to count open files")
    before = len(os.listdir("/proc/self/fd"))
    put(root, *FILES)
    link(root / "T1")
    with pytest.raises(CannotWrite):
        put(root, FILES[0], f"{RUN}/deep/er.json", "T1/00.json")
    with Keeping(root) as keeping:
        put_update(keeping, FILES[2], b"newer")
    assert len(os.listdir("/proc/self/fd")) == before


# -------------------------------------------------------------------------------------------------------- carried over


@pytest.mark.parametrize("file", [FILES[1], "top.json", "T3/03/new.json"])
def test_an_update_keeps_the_mode_and_neither_keeps_nor_tells_of_what_it_carries_over(root: Path, file: str) -> None:
    (root / FILES[1]).chmod(0o604)
    with Keeping(root) as keeping:
        put_update(keeping, file, b"updated")
    assert (root / file).read_bytes() == b"updated"
    assert stat.S_IMODE((root / FILES[1]).stat().st_mode) == 0o604
    assert quarantined(root) == {}
    assert journal(root) == []
    assert staged(root) == []


@pytest.mark.parametrize("make", [link, os.mkfifo, os.mkdir], ids=["link", "fifo", "directory"])
def test_what_an_update_can_carry_nothing_over_from_stays(root: Path, make: Callable[[Path], object]) -> None:
    make(root / FILES[0])
    before = tree(root)
    with Keeping(root) as keeping, pytest.raises(CannotWrite, match=f"^{FILES[0]}: expected a file"):
        put_update(keeping, FILES[0], b"updated")
    assert tree(root) == before
    assert staged(root) == []


def test_an_update_that_fails_leaves_the_old_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(28, os.strerror(28))

    before = tree(root)
    with Keeping(root) as keeping:
        monkeypatch.setattr(os, "rename", refuse)
        with pytest.raises(CannotWrite, match=f"^{FILES[1]}: {os.strerror(28)}$"):
            put_update(keeping, FILES[1], b"updated")
    assert tree(root) == before
    assert staged(root) == []
