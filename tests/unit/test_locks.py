"""One process at a time on a run, also where the file system is shared or knows no flock; a dead one never holds."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from pytest_scylla.experiment import locks
from pytest_scylla.experiment.locks import file_system_of, is_shared, locked

from .locking import KINDS, SHARED, mount

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A lock."""
    return tmp_path / "T1-02-run_01.lock"


class Holder:
    """A process that takes the lock, and holds it until it is told to leave."""

    def __init__(self, path: Path, kind: str) -> None:
        command = [sys.executable, "-m", "tests.unit.locking", str(path), kind]
        # Unbuffered: of two lines that come at once, the second is still there to be waited for.
        self.process = subprocess.Popen(command, cwd=ROOT, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    @property
    def _said(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def hear(self) -> str:
        """What it says next; waits for that, and says nothing for one that takes longer than any lock is left."""
        return "" if self.is_silent(20) else self._said.readline().decode().strip()

    def is_silent(self, seconds: float) -> bool:
        """Whether it says nothing for so long."""
        return not select.select([self._said], [], [], seconds)[0]

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL


@pytest.fixture
def holders(path: Path) -> Iterator[list[Holder]]:
    """Processes to end."""
    started: list[Holder] = []
    yield started
    for holder in started:
        holder.process.kill()
        holder.process.communicate()


def start(holders: list[Holder], path: Path, kind: str) -> Holder:
    holder = Holder(path, kind)
    holders.append(holder)
    assert holder.hear() == "asking"
    return holder


# ----------------------------------------------------------------------------------------------------- mutual exclusion


@pytest.mark.parametrize("kind", KINDS)
def test_who_comes_second_waits_until_the_first_has_left(path: Path, holders: list[Holder], kind: str) -> None:
    first = start(holders, path, kind)
    assert first.hear() == "locked"
    second = start(holders, path, kind)
    assert second.is_silent(0.3)
    first.leave()
    assert first.hear() == "left"
    assert second.hear() == "locked"
    second.leave()
    assert second.hear() == "left"


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_process_holds_nothing(path: Path, holders: list[Holder], kind: str) -> None:
    first = start(holders, path, kind)
    assert first.hear() == "locked"
    second = start(holders, path, kind)
    assert second.is_silent(0.2)
    first.kill()
    assert second.hear() == "locked"
    second.kill()
    third = start(holders, path, kind)
    assert third.hear() == "locked"


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_is_free_again_after_an_error_in_the_block(
    path: Path, holders: list[Holder], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_kind(monkeypatch, kind)
    with pytest.raises(KeyboardInterrupt), locked(path):
        raise KeyboardInterrupt
    holder = start(holders, path, kind)
    assert holder.hear() == "locked"


@pytest.mark.parametrize("kind", KINDS)
def test_of_many_threads_of_one_process_one_at_a_time_has_the_lock(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_kind(monkeypatch, kind)
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with locked(path):
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_locks_of_different_runs_are_held_at_the_same_time(tmp_path: Path, holders: list[Holder]) -> None:
    first = start(holders, tmp_path / "T1-02-run_01.lock", "flock")
    second = start(holders, tmp_path / "T1-02-run_02.lock", "flock")
    assert {first.hear(), second.hear()} == {"locked"}


@pytest.mark.parametrize("kind", ["lease", "no flock"])
def test_a_lock_that_was_taken_by_flock_before_is_free_for_a_lease(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(path):
        pass
    as_kind(monkeypatch, kind)
    monkeypatch.setattr(locks, "_PATIENCE", 0.2)
    with locked(path):
        assert path.with_suffix(".lease").exists()


def as_kind(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Let this process make its locks as a :class:`Holder` of that kind does."""
    if kind == "lease":
        mount(monkeypatch, SHARED)
    elif kind == "no flock":
        flock_fails(monkeypatch, errno.ENOLCK)


def flock_fails(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)


# --------------------------------------------------------------------------------------------------------- other places


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_there_is_no_flock_a_lease_is_taken_without_a_warning(
    path: Path, holders: list[Holder], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock_fails(monkeypatch, code)
    with locked(path):
        other = start(holders, path, "no flock")
        assert other.is_silent(0.3)
    assert other.hear() == "locked"


@pytest.mark.parametrize("code", [errno.EIO, errno.EBADF, errno.EINVAL])
def test_a_flock_that_fails_for_another_reason_is_an_error(
    path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock_fails(monkeypatch, code)
    with pytest.raises(OSError, match=os.strerror(code)), locked(path):
        pytest.fail("locked")


def test_a_link_to_a_shared_file_system_is_looked_through(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "shared" / "exp").mkdir(parents=True)
    (path.parent / "exp").symlink_to("shared/exp")
    shared = os.path.realpath(path.parent / "shared")
    mounts = f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:5 / {shared} rw - nfs4 server:/ rw"
    mount(monkeypatch, mounts)
    with locked(path.parent / "exp" / path.name):
        assert (path.parent / "shared" / "exp" / "T1-02-run_01.lease").exists()


def test_a_lease_that_was_never_signed_is_taken_over_in_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process killed at the wrong moment leaves an empty one."""
    path.with_suffix(".lease").touch()
    as_kind(monkeypatch, "lease")
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    with locked(path):
        assert path.with_suffix(".lease").stat().st_size


def test_a_lease_on_other_terms_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_kind(monkeypatch, "lease")
    lease = path.with_suffix(".lease")
    lease.write_text("filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken=ab\nduration=12345.0\n")
    with pytest.raises(OSError, match="12345"), locked(path):
        pytest.fail("locked")
    assert lease.exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_that_cannot_be_made_is_an_error(
    path: Path, kind: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_kind(monkeypatch, kind)
    opened = os.open

    def refuse(place: str, flags: int, *arguments: int, **named: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(code, os.strerror(code))
        return opened(place, flags, *arguments, **named)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match=os.strerror(code)), locked(path):
        pytest.fail("locked")


# ----------------------------------------------------------------------------------------------------------- the mounts

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/root rw
28 27 0:40 / /home rw,relatime shared:3 - nfs4 server:/home rw,vers=4.2,addr=10.0.0.1
29 28 0:41 / /home/local rw,relatime - xfs /dev/sdb rw
30 27 0:42 / /mnt/with\040a\040blank rw - cifs //server/share rw
31 27 0:43 / /mnt/tab\011line\012back\134slash rw - lustre mds:/fs rw
32 27 0:44 / /scratch rw - autofs systemd-1 rw
33 32 0:45 / /scratch rw - beegfs_nodev beegfs_nodev rw
34 27 0:46 / /remote rw - fuse.sshfs me@host:/data rw
35 34 0:47 / /remote rw - tmpfs tmpfs rw
36 27 0:48 / /wide　blank rw - 9p host rw
37 27 0:49 /subvolume /data rw unknown:9 - btrfs /dev/sdc - rw
""".strip()


@pytest.mark.parametrize(
    ("path", "file_system"),
    [
        ("/", "ext4"),
        ("/var/exp/x.lock", "ext4"),
        ("/proc/self", "proc"),
        ("/home", "nfs4"),
        ("/home/me/exp", "nfs4"),
        ("/homestead/exp", "ext4"),
        ("/home/local/exp", "xfs"),
        ("/home/locally/exp", "nfs4"),
        ("/mnt/with a blank/exp", "cifs"),
        ("/mnt/with", "ext4"),
        ("/mnt/tab\tline\nback\\slash/exp", "lustre"),
        ("/scratch/exp", "beegfs_nodev"),
        ("/remote/exp", "tmpfs"),
        ("/wide\u3000blank/exp", "9p"),
        ("/data/exp", "btrfs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_last_mount_on_the_longest_way_to_it(
    path: str, file_system: str
) -> None:
    assert file_system_of(Path(path), MOUNTS) == file_system


@pytest.mark.parametrize(
    "mounts", ["", "\n\n", "nonsense", " - ", "1 2 3 4 / rw - ", "1 2 - ext4 x rw", "\udcff\0 - \0"]
)
def test_where_the_mounts_say_nothing_the_file_system_is_not_known(mounts: str) -> None:
    assert file_system_of(Path("/data/exp"), mounts) == ""
    assert not is_shared("")


def test_without_a_list_of_mounts_flock_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_MOUNTS", path.parent / "no such file")
    with locked(path):
        assert not path.with_suffix(".lease").exists()


@pytest.mark.parametrize(
    "file_system",
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "fuse.sshfs",
     "fuse.s3fs", "fuse.glusterfs", "virtiofs", "gfs2", "ocfs2", "afs"],
)  # fmt: skip
def test_file_systems_that_hosts_share(file_system: str) -> None:
    assert is_shared(file_system)


@pytest.mark.parametrize(
    "file_system",
    ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "fuseblk", "f2fs", "nfsd", "ramfs", "", "ext4nfs"],
)
def test_file_systems_of_one_host(file_system: str) -> None:
    assert not is_shared(file_system)
