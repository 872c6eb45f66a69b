"""Writing into an experiment: whole or not at all, nothing destroyed, nothing followed, everything told."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import pytest_scylla
from pytest_scylla.experiment.keeping import KEEPING, Keeping
from pytest_scylla.experiment.records import open_experiment
from pytest_scylla.experiment.writing import CannotWrite, append, directory, directory_below, naming, write_new

from .damage import CONSENSUS, JUDGMENT, RESULT, RUN_RESULT, Run, cut, each, lose, overwrite
from .locking import SHARED, mount
from .repairing import (
    Tree,
    actions,
    count_calls,
    digest,
    healthy,
    journal,
    outcomes,
    quarantined,
    reasons,
    repair,
    staged,
    tree,
)

RUN, OTHER = "T1/02/run_01", "T1/02/run_02"
DAMAGE = each(lose(RESULT), cut(JUDGMENT, 0.5), cut(RUN_RESULT, 0.5))
"""Three files to write, two of which replace one."""
CHANGED = {RESULT, JUDGMENT, RUN_RESULT}


@pytest.fixture
def run(two_run_experiment: Path, tmp_path: Path) -> Run:
    """A run to damage."""
    return Run(shutil.copytree(two_run_experiment, tmp_path / "exp"), RUN)


@pytest.fixture
def damaged(run: Run) -> Run:
    """A run with three files to write."""
    DAMAGE(run)
    return run


# --------------------------------------------------------------------------------------------------- a file is replaced


def test_a_replaced_file_keeps_its_mode_and_its_old_bytes_go_to_the_quarantine(damaged: Run) -> None:
    damaged.path(RUN_RESULT).chmod(0o640)
    old = damaged.read(RUN_RESULT)
    assert set(outcomes(repair(damaged.root, RUN)).values()) == {"done"}
    assert damaged.read(RUN_RESULT) != old
    assert stat.S_IMODE(damaged.path(RUN_RESULT).stat().st_mode) == 0o640
    assert quarantined(damaged.root)[digest(old)] == old


def test_the_quarantined_copy_keeps_time_and_mode_of_what_it_is_a_copy_of(damaged: Run) -> None:
    path = damaged.path(RUN_RESULT)
    path.chmod(0o604)
    os.utime(path, ns=(1_700_000_000_000_000_001, 1_600_000_000_123_456_789))
    old = damaged.read(RUN_RESULT)
    repair(damaged.root, RUN)
    kept = damaged.root / KEEPING / "quarantine" / digest(old)[:2] / digest(old)
    assert kept.stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert stat.S_IMODE(kept.stat().st_mode) == 0o604


def test_a_new_file_has_the_mode_that_any_new_file_has(damaged: Run, tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    repair(damaged.root, RUN)
    assert damaged.path(RESULT).stat().st_mode == (tmp_path / "new").stat().st_mode


def test_special_bits_of_a_replaced_file_are_not_given_to_the_new_one(damaged: Run) -> None:
    damaged.path(RUN_RESULT).chmod(0o6755)
    repair(damaged.root, RUN)
    assert stat.S_IMODE(damaged.path(RUN_RESULT).stat().st_mode) == 0o755
    assert journal(damaged.root)[-1]["replaced"]["mode"] == "6755"


def test_a_repair_changes_the_files_it_names_and_no_other(damaged: Run) -> None:
    before = tree(damaged.root)
    outcome = repair(damaged.root, RUN)
    after = tree(damaged.root)
    named = {file for action in actions(outcome) for file in action.files}
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == named
    assert named == {f"{RUN}/{name}" for name in CHANGED}
    assert not staged(damaged.root)


def test_whoever_has_the_old_file_open_still_reads_all_of_it(damaged: Run) -> None:
    old = damaged.read(RUN_RESULT)
    with damaged.path(RUN_RESULT).open("rb") as file:
        repair(damaged.root, RUN)
        assert file.read() == old


def test_another_name_of_a_replaced_file_keeps_its_content(damaged: Run, tmp_path: Path) -> None:
    os.link(damaged.path(RUN_RESULT), tmp_path / "hard")
    old = damaged.read(RUN_RESULT)
    repair(damaged.root, RUN)
    assert (tmp_path / "hard").read_bytes() == old
    assert damaged.read(RUN_RESULT) != old


def test_new_content_and_what_it_replaces_are_on_the_disk_before_the_first_file_takes_its_place(
    damaged: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file is synchronised before its renaming, the quarantine before the journal, that before the run's files,
    and each directory after its renaming."""
    told: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def name_of(fd: int) -> str:
        return os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), damaged.root)

    def fsync_telling(fd: int) -> None:
        fsync(fd)
        told.append(("fsync", name_of(fd)))

    def rename_telling(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        told.append(("from", f"{name_of(src_dir_fd)}/{source}"))
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        told.append(("to", f"{name_of(dst_dir_fd)}/{target}"))

    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc to tell files by")
    monkeypatch.setattr(os, "fsync", fsync_telling)
    monkeypatch.setattr(os, "rename", rename_telling)
    repair(damaged.root, RUN)

    synchronised: set[str] = set()
    for position, (what, name) in enumerate(told):
        if what == "fsync":
            synchronised.add(name)
        elif what == "from":
            assert name in synchronised, name
        else:
            assert told[position + 1] == ("fsync", os.path.dirname(name))
    places = [name for what, name in told if what == "to"]
    in_quarantine, in_run = [[n for n in places if n.startswith(start)] for start in (f"{KEEPING}/quarantine/", RUN)]
    assert (len(in_quarantine), len(in_run)) == (2, 3)
    written = told.index(("fsync", f"{KEEPING}/journal/{journal_name()}"))
    assert max(told.index(("to", name)) for name in in_quarantine) < written
    assert ("fsync", f"{KEEPING}/journal") in told[: told.index(("to", in_run[0]))]
    assert written < min(told.index(("to", name)) for name in in_run)
    assert in_run == [f"{RUN}/{name}" for name in (RESULT, JUDGMENT, RUN_RESULT)]  # raw before derived


def test_a_file_of_a_year_beyond_the_calendar_is_replaced_like_any_other(damaged: Run) -> None:
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no file system that is known to have such times")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        there = Run(shutil.copytree(damaged.root, Path(elsewhere, "exp")), RUN)
        os.utime(there.path(RUN_RESULT), (0, 1e12))
        assert set(outcomes(repair(there.root, RUN)).values()) == {"done"}
        assert journal(there.root)[-1]["replaced"]["modified"] is None


# ----------------------------------------------------------------------------------------------------------- quarantine


def test_equal_contents_are_kept_once(run: Run) -> None:
    content = b"{"
    overwrite(RUN_RESULT, content)(run)
    overwrite(RESULT, content)(run)
    overwrite(RUN_RESULT, content)(Run(run.root, OTHER))
    repair(run.root, RUN)
    repair(run.root, OTHER)
    assert healthy(run.root)
    assert quarantined(run.root) == {digest(content): content}
    told = [entry["replaced"]["quarantine"] for entry in journal(run.root)]
    assert told == [f"{KEEPING}/quarantine/{digest(content)[:2]}/{digest(content)}"] * 3


def test_damaged_the_same_way_again_a_file_is_repaired_again(run: Run) -> None:
    for _ in range(2):
        overwrite(RUN_RESULT, b"{")(run)
        assert outcomes(repair(run.root, RUN)) == {RUN_RESULT: "done"}
        assert healthy(run.root)
        assert quarantined(run.root) == {digest(b"{"): b"{"}


@pytest.mark.parametrize("content", [b'{"run_number": 1', b""], ids=["some", "empty"])
@pytest.mark.parametrize("foreign", ["shorter", "longer", "link", "directory", "fifo"])
def test_something_else_under_a_name_in_the_quarantine_is_refused_by_name_and_nothing_is_replaced(
    run: Run, content: bytes, foreign: str, tmp_path: Path
) -> None:
    overwrite(RUN_RESULT, content)(run)
    place = run.root / KEEPING / "quarantine" / digest(content)[:2] / digest(content)
    place.parent.mkdir(parents=True)
    if foreign == "shorter":
        place.write_bytes(content[:-1] if content else b"x")
    elif foreign == "longer":
        place.write_bytes(content + b" and more")
    elif foreign == "link":
        (tmp_path / "target").write_bytes(content)
        place.symlink_to(tmp_path / "target")
    elif foreign == "directory":
        place.mkdir()
    else:
        os.mkfifo(place)
    before, there = tree(run.root), place.lstat()
    outcome = repair(run.root, RUN)
    (reason,) = reasons(outcome)
    assert reason.startswith(f"{KEEPING}/quarantine/{digest(content)[:2]}/{digest(content)}: expected")
    assert set(outcomes(outcome).values()) == {"failed"}
    assert tree(run.root) == before
    assert place.lstat().st_ino == there.st_ino
    assert not staged(run.root)


def test_a_directory_in_the_place_of_a_file_is_moved_whole_to_the_quarantine(run: Run) -> None:
    run.delete(CONSENSUS)
    run.write(f"{CONSENSUS}/deep/er/notes.txt", "somebody's\n")
    run.path(f"{CONSENSUS}/link").symlink_to("/nowhere")
    (run.path(CONSENSUS) / "empty").mkdir()
    moved = tree(run.path(CONSENSUS))
    outcome = repair(run.root, RUN)
    assert outcomes(outcome) == {CONSENSUS: "done"}
    assert healthy(run.root)
    (entry,) = journal(run.root)
    assert entry["replaced"]["sha256"] is None
    assert entry["replaced"]["size"] is None
    assert entry["replaced"]["quarantine"].startswith(f"{KEEPING}/quarantine/")
    assert tree(run.root / entry["replaced"]["quarantine"]) == moved


def test_two_directories_that_lay_in_the_same_place_are_both_kept(run: Run) -> None:
    for name in ("first", "second"):
        run.delete(CONSENSUS)
        run.write(f"{CONSENSUS}/{name}", name)
        repair(run.root, RUN)
    assert healthy(run.root)
    assert [list(tree(run.root / entry["replaced"]["quarantine"])) for entry in journal(run.root)] == [
        ["first"],
        ["second"],
    ]


# -------------------------------------------------------------------------------------------------------------- journal


def journal_name() -> str:
    return f"{platform.node()}-{os.getpid()}.jsonl"


def test_the_journal_tells_of_each_file_in_one_line(damaged: Run) -> None:
    damaged.path(RUN_RESULT).chmod(0o640)
    os.utime(damaged.path(RUN_RESULT), (1_700_000_000, 1_600_000_000))
    before = tree(damaged.root)
    start = datetime.now(timezone.utc)
    outcome = repair(damaged.root, RUN)
    end = datetime.now(timezone.utc)
    (path,) = (damaged.root / KEEPING / "journal").iterdir()
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [entry["file"] for entry in entries] == [f"{RUN}/{name}" for name in (RESULT, JUDGMENT, RUN_RESULT)]
    assert [entry["item"] for entry in entries] == [RUN, f"{RUN}/judge_02", RUN]
    done = {action.files[0]: action for action in actions(outcome)}
    for entry in entries:
        assert list(entry) == [
            "time", "tool", "item", "what", "file", "sha256", "solves", "sources", "replaced",
        ]  # fmt: skip
        assert start <= datetime.fromisoformat(entry["time"]) <= end
        assert entry["tool"] == f"pytest-scylla {pytest_scylla.__version__}"
        assert entry["what"] == "regenerate"
        assert entry["solves"] == list(done[entry["file"]].solved)
        assert entry["sha256"] == digest((damaged.root / entry["file"]).read_bytes())
        assert [source["file"] for source in entry["sources"]] == list(done[entry["file"]].sources)
        assert entry["sources"]
        for source in entry["sources"]:
            assert source["sha256"] == digest((damaged.root / source["file"]).read_bytes())
        old = before.get(entry["file"])
        if old is None:
            assert entry["replaced"] is None
        else:
            hashed = digest(old.content)
            assert {key: entry["replaced"][key] for key in ("quarantine", "sha256", "size")} == {
                "quarantine": f"{KEEPING}/quarantine/{hashed[:2]}/{hashed}",
                "sha256": hashed,
                "size": len(old.content),
            }
            assert set(entry["replaced"]) == {"quarantine", "sha256", "size", "mode", "modified"}
            assert int(entry["replaced"]["mode"], 8) == stat.S_IMODE(old.mode)
    replaced = entries[-1]["replaced"]
    assert (replaced["mode"], replaced["modified"]) == ("0640", "2020-09-13T12:26:40+00:00")


def test_by_the_journal_a_person_can_put_back_what_was_replaced(damaged: Run) -> None:
    damaged.path(RUN_RESULT).chmod(0o640)
    os.utime(damaged.path(RUN_RESULT), (1_700_000_000, 1_600_000_000))
    before = tree(damaged.root)
    repair(damaged.root, RUN)
    assert tree(damaged.root) != before
    for entry in journal(damaged.root):
        place, replaced = damaged.root / entry["file"], entry["replaced"]
        assert digest(place.read_bytes()) == entry["sha256"]  # still what the repair wrote
        if replaced is None:
            place.unlink()
        else:
            shutil.copy2(damaged.root / replaced["quarantine"], place)
            place.chmod(int(replaced["mode"], 8))
            assert digest(place.read_bytes()) == replaced["sha256"]
            assert datetime.fromtimestamp(place.stat().st_mtime, timezone.utc).isoformat() == replaced["modified"]
    assert tree(damaged.root) == before
    assert set(outcomes(repair(damaged.root, RUN)).values()) == {"done"}


def test_one_process_has_one_journal(damaged: Run) -> None:
    lose(RUN_RESULT)(Run(damaged.root, OTHER))
    repair(damaged.root, OTHER)
    repair(damaged.root, RUN)
    (path,) = (damaged.root / KEEPING / "journal").iterdir()
    assert path.name == journal_name()
    assert len(path.read_text().splitlines()) == 4


@pytest.mark.parametrize("left", [b'{"time": "2026', b"{", b'{"file": "\xc3', b"\0\0\0"])
def test_a_line_that_a_killed_process_left_unfinished_spoils_no_other(damaged: Run, left: bytes) -> None:
    whole = b'{"time": "2026-01-20T00:00:00+00:00", "file": "T0/00/run_01/run_result.json"}\n'
    path = damaged.root / KEEPING / "journal" / journal_name()
    path.parent.mkdir(parents=True)
    path.write_bytes(whole + left)
    assert set(outcomes(repair(damaged.root, RUN)).values()) == {"done"}
    lines = path.read_bytes().split(b"\n")
    assert lines[:2] == [whole[:-1], left]
    assert [json.loads(line)["file"] for line in lines[2:5]] == [
        f"{RUN}/{name}" for name in (RESULT, JUDGMENT, RUN_RESULT)
    ]
    assert lines[5:] == [b""]


def test_the_journal_is_written_before_any_file_of_the_run(damaged: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(damaged.root)

    def refuse(self: Keeping, lines: bytes) -> str:
        assert tree(damaged.root) == before
        raise CannotWrite("the journal: no")

    monkeypatch.setattr(Keeping, "write_journal", refuse)
    outcome = repair(damaged.root, RUN)
    assert reasons(outcome) == {"the journal: no"}
    assert tree(damaged.root) == before
    assert not staged(damaged.root)


@pytest.mark.parametrize("host", ["", "../../etc", "a/b", "x" * 300, "line\nbreak", ".."])
def test_a_host_of_any_name_names_a_file_of_the_journal(
    damaged: Run, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "node", lambda: host)
    assert set(outcomes(repair(damaged.root, RUN)).values()) == {"done"}
    (path,) = (damaged.root / KEEPING / "journal").iterdir()
    assert path.name.endswith(f"-{os.getpid()}.jsonl")
    assert path.name.isprintable()
    assert len(journal(damaged.root)) == 3


# ------------------------------------------------------------------------------------------------------- hostile places

FOLDERS = ("locks", "staging", "quarantine", "journal")


def precious(tmp_path: Path) -> Path:
    """A directory outside of the experiment, with things that nobody may touch."""
    place = tmp_path / "precious"
    for name in ("", *FOLDERS):
        (place / name).mkdir()
        (place / name / "file.txt").write_text("precious\n")
    return place


def puts(kind: str, target: Path) -> Callable[[Path], object]:
    """Something that makes an object of a kind at a path; links lead to ``target``, or to the file in it."""
    kinds: dict[str, Callable[[Path], object]] = {
        "link to a directory": lambda path: path.symlink_to(target),
        "link to a file": lambda path: path.symlink_to(target / "file.txt"),
        "link to nothing": lambda path: path.symlink_to(target / "nothing"),
        "hard link": lambda path: os.link(target / "file.txt", path),
        "directory": os.mkdir,
        "link to itself": lambda path: path.symlink_to(path.name),
        "file": lambda path: path.write_text("a file\n"),
        "fifo": os.mkfifo,
    }
    return kinds[kind]


def refused(run: Run, outside: Path, named: str) -> None:
    """The repair fails by a reason that names the place, and leaves everything as it was."""
    before, apart = tree(run.root), tree(outside, but=None)
    outcome = repair(run.root, RUN)
    assert set(outcomes(outcome).values()) == {"failed"}
    assert set(outcomes(outcome)) == CHANGED
    assert all(action.files == () and action.solved == () for action in actions(outcome))
    (reason,) = reasons(outcome)
    assert reason.startswith(f"{named}: "), reason
    assert tree(run.root) == before
    assert tree(outside, but=None) == apart


@pytest.mark.parametrize("kind", ["link to a directory", "link to nothing", "link to itself", "file", "fifo"])
@pytest.mark.parametrize("name", [KEEPING, *(f"{KEEPING}/{name}" for name in FOLDERS)])
def test_a_place_to_keep_things_that_is_no_directory_is_refused_by_name(
    damaged: Run, name: str, kind: str, tmp_path: Path
) -> None:
    place = damaged.root / name
    place.parent.mkdir(exist_ok=True)
    outside = precious(tmp_path)
    puts(kind, outside)(place)
    status = place.lstat()
    refused(damaged, outside, name)
    assert (place.lstat().st_mode, place.lstat().st_ino) == (status.st_mode, status.st_ino)


@pytest.mark.parametrize("kind", ["link to a directory", "link to nothing", "file", "fifo"])
def test_a_directory_of_the_quarantine_that_is_none_is_refused_by_name(damaged: Run, kind: str, tmp_path: Path) -> None:
    hashed = digest(damaged.read(JUDGMENT))
    place = damaged.root / KEEPING / "quarantine" / hashed[:2]
    place.parent.mkdir(parents=True)
    outside = precious(tmp_path)
    puts(kind, outside)(place)
    refused(damaged, outside, f"{KEEPING}/quarantine/{hashed[:2]}")


@pytest.mark.parametrize("kind", ["link to a file", "link to nothing", "hard link", "fifo", "directory"])
def test_a_journal_that_is_no_file_of_its_own_is_refused_by_name(damaged: Run, kind: str, tmp_path: Path) -> None:
    place = damaged.root / KEEPING / "journal" / journal_name()
    place.parent.mkdir(parents=True)
    outside = precious(tmp_path)
    puts(kind, outside)(place)
    refused(damaged, outside, f"{KEEPING}/journal/{journal_name()}")


@pytest.mark.parametrize("kind", ["link to a file", "link to nothing", "hard link", "fifo", "file"])
@pytest.mark.parametrize("name", ["T1-02-run_01-run_result.json", "T1-02-run_01-run_result.json.old"])
def test_what_lies_in_the_way_of_a_staged_file_is_removed_and_never_written_through(
    damaged: Run, name: str, kind: str, tmp_path: Path
) -> None:
    place = damaged.root / KEEPING / "staging" / name
    place.parent.mkdir(parents=True)
    outside = precious(tmp_path)
    puts(kind, outside)(place)
    content = {path: entry.content for path, entry in tree(outside, but=None).items()}
    assert set(outcomes(repair(damaged.root, RUN)).values()) == {"done"}
    assert {path: entry.content for path, entry in tree(outside, but=None).items()} == content
    assert healthy(damaged.root)
    assert damaged.path(RUN_RESULT).stat().st_nlink == 1
    assert not damaged.path(RUN_RESULT).is_symlink()
    assert not staged(damaged.root)


def test_a_directory_in_the_way_of_a_staged_file_is_refused_by_the_files_name(damaged: Run, tmp_path: Path) -> None:
    place = damaged.root / KEEPING / "staging" / "T1-02-run_01-run_result.json"
    (place / "full").mkdir(parents=True)
    before = tree(damaged.root)
    outcome = repair(damaged.root, RUN)
    (reason,) = reasons(outcome)
    assert reason.startswith(f"{RUN}/{RUN_RESULT}: ")
    assert tree(damaged.root) == before
    assert staged(damaged.root) == [place.name]


@pytest.mark.parametrize("kind", ["link to a file", "link to nothing", "hard link", "fifo", "directory"])
@pytest.mark.parametrize("shared", [False, True], ids=["flock", "lease"])
def test_a_lock_that_is_no_file_of_its_own_is_refused_by_name(
    damaged: Run, kind: str, shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = damaged.root / KEEPING / "locks" / f"T1-02-run_01.{'lease' if shared else 'lock'}"
    place.parent.mkdir(parents=True)
    outside = precious(tmp_path)
    if shared:
        mount(monkeypatch, SHARED)
    puts(kind, outside)(place)
    refused(damaged, outside, f"{KEEPING}/locks/T1-02-run_01.lock")


# ----------------------------------------------------------------------------------------------------- a full disk etc.


def fails_at(monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: int, *, half: bool = False) -> list[str]:
    """Let the n-th call of a function of :mod:`os` fail from now on, as a full disk does; half of a write succeeds."""
    calls: list[str] = []

    def counted(name: str) -> None:
        if name == call:
            calls.append(name)
            if len(calls) >= number:
                raise OSError(code, os.strerror(code))

    original = getattr(os, call)
    replaced = count_calls(counted)[call]

    def partly(fd: int, data: memoryview) -> int:
        if half and len(calls) == number - 1 and len(data) > 1:
            calls.append(call)
            return int(original(fd, data[: len(data) // 2]))
        return int(replaced(fd, data))

    monkeypatch.setattr(os, call, partly if call == "write" else replaced)
    return calls


FAILURES = [
    ("write", errno.ENOSPC, False),
    ("write", errno.ENOSPC, True),
    ("write", errno.EDQUOT, False),
    ("write", errno.EIO, False),
    ("fsync", errno.EIO, False),
    ("mkdir", errno.EROFS, False),
    ("mkdir", errno.ENOSPC, False),
    ("open", errno.EROFS, False),
    ("open", errno.EACCES, False),
    ("open", errno.EMFILE, False),
    ("rename", errno.EACCES, False),
    ("rename", errno.ENOSPC, False),
    ("unlink", errno.EROFS, False),
    ("utime", errno.EPERM, False),
]


@pytest.mark.parametrize(
    ("call", "code", "half"),
    FAILURES,
    ids=[f"{call}-{errno.errorcode[code]}{'-half' * half}" for call, code, half in FAILURES],
)
def test_where_a_call_fails_the_actions_fail_by_name_and_the_next_repair_finishes(
    damaged: Run, call: str, code: int, half: bool, tmp_path: Path
) -> None:
    """For every call of a function in turn, that and all later calls of it fail."""
    before = tree(damaged.root)
    shutil.copytree(damaged.root, tmp_path / "whole" / "exp")
    repair(tmp_path / "whole" / "exp", RUN)
    here, there = bytes(tmp_path / "whole" / "exp"), bytes(damaged.root)
    after = {
        name: entry._replace(content=entry.content.replace(here, there))
        for name, entry in tree(tmp_path / "whole" / "exp").items()
    }
    failures = 0
    for number in range(1, 100):
        restore(damaged, tmp_path / "pristine")
        with pytest.MonkeyPatch.context() as monkeypatch:
            calls = fails_at(monkeypatch, call, number, code, half=half)
            outcome = repair(damaged.root, RUN)
        if len(calls) < number or (call == "unlink" and "failed" not in outcomes(outcome).values()):
            break  # no call failed, or only those that would have cleaned up
        failures += 1
        failed_by_name(outcome, code)
        every_file_is_old_or_new(damaged.root, before, after)
        nothing_is_lost(damaged.root, before)
        if call != "unlink":
            assert not staged(damaged.root), number
        assert set(outcomes(repair(damaged.root, RUN)).values()) <= {"done"}
        assert tree(damaged.root) == after, number
        assert not staged(damaged.root), number
    assert failures >= {"mkdir": 5, "utime": 2}.get(call, 3)


def restore(run: Run, pristine: Path) -> None:
    """Put the run back as it was when this was first called for it."""
    if pristine.exists():
        shutil.rmtree(run.path())
        shutil.rmtree(run.root / KEEPING, ignore_errors=True)
        shutil.copytree(pristine, run.path())
    else:
        shutil.copytree(run.path(), pristine)


def failed_by_name(outcome: Any, code: int) -> None:
    found = {action.what: action for action in actions(outcome)}
    assert set(found) == CHANGED
    failed = [action for action in found.values() if action.outcome == "failed"]
    assert failed
    (reason,) = reasons(outcome)
    name, _, why = reason.partition(": ")
    assert why == os.strerror(code)
    assert name.startswith((KEEPING, RUN))
    for action in failed:
        assert (action.files, action.solved) == ((), ())


def every_file_is_old_or_new(root: Path, before: Tree, after: Tree) -> None:
    found = tree(root)
    for name in {*before, *after, *found}:
        assert found.get(name) in (before.get(name), after.get(name)), name


def nothing_is_lost(root: Path, before: Tree) -> None:
    found, kept = tree(root), quarantined(root)
    for name, entry in before.items():
        assert found.get(name) == entry or kept[digest(entry.content)] == entry.content, name


def may_not_be_written(place: Path) -> None:
    """Take the right to write to a directory from everyone."""
    place.chmod(0o555)
    if os.access(place, os.W_OK):
        pytest.skip("root may write everywhere")


@pytest.mark.parametrize("name", [".", f"{RUN}/agent", f"{RUN}/judge/judge_02", RUN])
def test_a_directory_that_may_not_be_written_fails_the_actions_and_changes_nothing_in_it(
    damaged: Run, name: str
) -> None:
    before = tree(damaged.root)
    place = damaged.root / name
    mode = stat.S_IMODE(place.stat().st_mode)
    try:
        may_not_be_written(place)
        outcome = repair(damaged.root, RUN)
        assert "failed" in outcomes(outcome).values()
        (reason,) = reasons(outcome)
        assert reason.endswith(os.strerror(errno.EACCES))
    finally:
        place.chmod(mode)
    nothing_is_lost(damaged.root, before)
    assert not staged(damaged.root)
    assert set(outcomes(repair(damaged.root, RUN)).values()) == {"done"}
    assert healthy(damaged.root)


def test_a_healthy_experiment_that_may_not_be_written_needs_no_repair(run: Run) -> None:
    try:
        may_not_be_written(run.root)
        assert outcomes(repair(run.root, RUN)) == {}
    finally:
        run.root.chmod(0o755)


# -------------------------------------------------------------------------------------------------- the parts by itself


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty directory."""
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def test_a_write_that_fails_leaves_nothing_of_the_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_at(monkeypatch, "write", 2, errno.ENOSPC, half=False)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))  # writes may be short
    with open_experiment(place) as folder, pytest.raises(OSError, match="No space"):
        write_new(folder, "file", b"more than three bytes")
    assert not list(place.iterdir())


def test_short_writes_are_continued(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    with open_experiment(place) as folder:
        write_new(folder, "file", b"more than three bytes")
        append(folder, "lines", b"one line\n")
        append(folder, "lines", b"another\n")
    assert (place / "file").read_bytes() == b"more than three bytes"
    assert (place / "lines").read_bytes() == b"one line\nanother\n"


def test_a_directory_that_another_process_makes_at_the_same_time_is_used(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir

    def late(name: str, *, dir_fd: int) -> None:
        mkdir(name, dir_fd=dir_fd)
        mkdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", late)
    with open_experiment(place) as folder, directory(folder, "new") as made:
        assert made.names() == []


def test_directories_that_there_are_not_are_made_on_the_way_and_all_are_closed(place: Path) -> None:
    (place / "a").mkdir()
    (place / "a" / "there").touch()
    with open_experiment(place) as root:
        with directory_below(root, ("a", "b", "c")) as made:
            assert (made.file, made.names()) == ("a/b/c", [])
        with pytest.raises(OSError, match="Bad file descriptor"):
            made.names()
        with directory_below(root, ()) as same:
            assert same is root
        assert root.names() == ["a"]
    assert sorted(tree(place)) == ["a", "a/b", "a/b/c", "a/there"]


@pytest.mark.parametrize("kind", ["link to a directory", "link to nothing", "file", "fifo"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_what_has_the_place_of_a_directory_on_the_way_is_told_by_name_and_nothing_is_made_behind_it(
    place: Path, tmp_path: Path, kind: str, depth: int
) -> None:
    names = ("a", "b", "c")
    in_the_way = place.joinpath(*names[: depth + 1])
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    outside = precious(tmp_path)
    puts(kind, outside)(in_the_way)
    before, apart = tree(place), tree(outside)
    where = "/".join(names[: depth + 1])
    with (
        open_experiment(place) as root,
        pytest.raises(CannotWrite, match=f"^{where}: expected"),
        directory_below(root, names),
    ):
        pytest.fail("it was opened")
    assert (tree(place), tree(outside)) == (before, apart)


def test_a_failure_is_told_with_the_file_and_the_reason_even_where_the_system_gives_none() -> None:
    for error, told in ((OSError(errno.ENOSPC, "x"), os.strerror(errno.ENOSPC)), (OSError("no reason"), "no reason")):
        with pytest.raises(CannotWrite, match=f"^a/file: {told}$"), naming("a/file"):
            raise error
