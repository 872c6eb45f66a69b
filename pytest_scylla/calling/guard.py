"""A process that starts one command, watches it, and leaves nothing of it behind: no process, no directory.

It is a script, ``python -I -S guard.py <alive> <order> <notes>``, with a session of its own, so that no terminal's
Ctrl-C reaches it; its standard input, output and error are the command's. ``alive`` is the read end of a pipe whose
write end only the caller has: once that is closed, the caller is gone or has given up. ``order`` is a file that holds
an order, ``notes`` one in which the guard notes what became of it.

An order is fields with a NUL byte between them, which none of them can hold: the caller's process id, the seconds that
the command may take, the bytes that it may print to each of its two files, the directory that it works in, whether that
is its "own" (made for it, and removed behind it) or "given", its executable, the number of its arguments, these, and
its environment. A note is a word, perhaps a blank and a text, and a NUL byte: ``started`` with the time, ``command``
with its process id, then one of ``exited`` with its exit code, ``timed-out``, ``too-much-output``, and ``not-started``
with the reason. That one is on the disk, with what was printed until then, before anything is cleaned up. What the rest
goes on to print until it is killed may be too much as well: that is told by the size of the files alone.

On Linux all processes that descend from the command are found, since orphans become children of the guard; elsewhere,
those that stayed in its group.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

TICK = 0.1
"""How often, in seconds, it is looked at how much was printed, and whether the caller still lives."""

PATIENCE = 10.0
"""How many seconds a killed process may take to be gone: one may be stuck in the kernel, or another user's."""

_STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_PARENT_DEATH_SIGNAL, _CHILD_SUBREAPER = 1, 36


def main() -> None:
    """Do what the order says, and note what became of it."""
    alive, given, notes = (int(argument) for argument in sys.argv[1:])
    for fd in (alive, given, notes):
        os.set_inheritable(fd, False)
    order = os.pread(given, os.fstat(given).st_size, 0)
    caller, timeout, most, directory, whose, executable, count, *rest = order.split(b"\0")
    own = whose == b"own"
    arguments, variables = rest[: int(count)], rest[int(count) :]
    watch = _Watch(alive, int(caller), int(most))
    try:
        try:
            if own:
                os.mkdir(directory, 0o700)
            watch.start(directory, executable, arguments, dict(variable.split(b"=", 1) for variable in variables))
            _note(notes, b"started %f" % time.time())
            _note(notes, b"command %d" % watch.command)
            ended = watch.until_it_ends(float(timeout))
        except OSError as error:
            ended = b"not-started " + _reason(directory, error)
        if ended:
            # Before the cleaning up, which takes its time: killed meanwhile, this is all that tells of the command.
            _note_ending(notes, ended)
    finally:
        watch.end()
        if own:
            remove_tree(os.fsdecode(directory))


class _Watch:
    """The command and all that descends from it."""

    def __init__(self, alive: int, caller: int, most: int) -> None:
        self.command = 0
        self._exit_code: int | None = None
        self._alive, self._caller, self._most = alive, caller, most
        # A child that fails to become the command leaves the reason in this pipe.
        self._failure, self._to_fail = os.pipe()
        # Signals leave their numbers in this one, so that one that comes just before a waiting ends that too.
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *_STOPPING):
            signal.signal(number, lambda *_: None)
        self._prctl = _prctl()
        self._prctl(_CHILD_SUBREAPER, 1)

    def start(
        self, directory: bytes, executable: bytes, arguments: list[bytes], environment: dict[bytes, bytes]
    ) -> None:
        """Start the command in ``directory``, as the leader of a session of its own.

        :raises OSError: no process can be made.
        """
        guard = os.getpid()
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        self.command = os.fork()
        if self.command:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.close(self._to_fail)
            return
        where = directory
        try:
            os.setsid()
            self._prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
            if os.getppid() != guard:  # it was killed before it could be asked for
                return
            os.chdir(directory)
            _reset_signals()
            where = executable
            os.execve(executable, arguments, environment)  # noqa: S606  # what it is there for
        except Exception as error:
            os.write(self._to_fail, _reason(where, error))
        finally:
            os._exit(1)

    def until_it_ends(self, timeout: float) -> bytes:
        """Wait until the command has ended, or is to be ended; return how, as a note."""
        deadline = time.monotonic() + timeout
        while True:
            self._reap()
            if self._exit_code is not None:
                reason = os.read(self._failure, 65536)
                return b"not-started " + reason if reason else b"exited %d" % self._exit_code
            if self._is_too_much():
                return b"too-much-output"
            left = deadline - time.monotonic()
            if left <= 0:
                return b"timed-out"
            signals = self._wait(min(TICK, left), self._alive)
            for number in _STOPPING:
                if number in signals:
                    return b"exited %d" % -number
            if self._caller_is_gone():
                return b""

    def end(self) -> None:
        """Kill the command and all that it left behind, and wait until they are gone."""
        if self.command:
            if self._exit_code is None:
                _kill(os.kill, self.command)  # which may not lead its group yet
            _kill(os.killpg, self.command)
        deadline = time.monotonic() + PATIENCE
        # What is killed leaves its children to this process, generation by generation. None but this process reaps
        # them, so that their groups keep their ids until then.
        while (self._reap() or self._is_left()) and time.monotonic() < deadline:
            for group in _groups_of_children():
                if group != os.getpgrp():
                    _kill(os.killpg, group)  # all of it at once, so that nobody forks faster than can be listed
            self._wait(0.02)

    def _is_too_much(self) -> bool:
        """Whether the command printed more than it may.

        That is looked for again and again instead of limiting the size of files (RLIMIT_FSIZE): such a limit would hold
        for every file of the command, and cut off its own logs and settings, which are the user's.
        """
        return any(os.fstat(fd).st_size > self._most for fd in (1, 2))

    def _reap(self) -> bool:
        """Take note of children that have ended; return whether there are others."""
        try:
            while True:
                child, status = os.waitpid(-1, os.WNOHANG)
                if not child:
                    return True
                if child == self.command:
                    self._exit_code = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            return False

    def _is_left(self) -> bool:
        """Whether anybody is left of the command's group, which may be nobody's child here."""
        with suppress(ProcessLookupError, PermissionError):
            if self.command:
                os.killpg(self.command, 0)
                return True
        return False

    def _wait(self, seconds: float, *others: int) -> bytes:
        """Wait for a signal, or for one of ``others`` to be readable; return the numbers of the signals that came."""
        select.select([self._woken, *others], [], [], seconds)
        with suppress(BlockingIOError):
            return os.read(self._woken, 4096)
        return b""

    def _caller_is_gone(self) -> bool:
        # What the caller forked may hold the pipe's other end beyond its death.
        return os.getppid() != self._caller or bool(select.select([self._alive], [], [], 0)[0])


def _prctl() -> Callable[[int, int], object]:
    """Linux's function of that name; elsewhere one that does nothing."""
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            prctl, number = ctypes.CDLL(None).prctl, ctypes.c_ulong
            return lambda option, value: prctl(option, number(value), number(0), number(0), number(0))
    return lambda option, value: None


def _reset_signals() -> None:
    """Let no signal be handled, ignored or held back, as this process or its caller may do."""
    for number in signal.valid_signals():
        with suppress(OSError):  # what nobody can change
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _kill(kill: Callable[[int, int], None], target: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        kill(target, signal.SIGKILL)


def _groups_of_children() -> Iterator[int]:
    """The group of each child of this process, dead or alive; none where the system does not list them."""
    with suppress(OSError):
        own = os.getpid()
        if os.readlink("/proc/self") != str(own):  # another namespace's, whose numbers mean other processes here
            return
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # Behind the last bracket: a command's name is in brackets, and may hold any character.
                _, parent, group, *_ = file.read().rpartition(b")")[2].split()
                if int(parent) == own:
                    yield int(group)


def remove_tree(path: str) -> None:
    """Remove the directory ``path``, however deep, and whatever its modes; no link in it is followed.

    The first thing that cannot be removed stays, with what is left then.
    """
    with suppress(OSError):
        top = _open(path)
        try:
            while found := os.listdir(top):
                for name in found:
                    if _is_directory(name, top):
                        _dissolve(name, top)
                    else:
                        os.unlink(name, dir_fd=top)
        finally:
            os.close(top)
        os.rmdir(path)


def _dissolve(name: str, top: int) -> None:
    """Remove a directory in ``top``; those in it move up, since a path to the deepest may be longer than any may be."""
    fd = _open(name, top)
    try:
        for inner in os.listdir(fd):
            if _is_directory(inner, fd):
                os.chmod(inner, 0o700, dir_fd=fd)  # its own entry for its parent changes
                os.rename(inner, os.urandom(16).hex(), src_dir_fd=fd, dst_dir_fd=top)
            else:
                os.unlink(inner, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=top)


def _open(name: str, parent: int | None = None) -> int:
    if not _is_directory(name, parent):
        raise NotADirectoryError(name)
    os.chmod(name, 0o700, dir_fd=parent)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


def _is_directory(name: str, parent: int | None) -> bool:
    return stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode)


def _reason(where: bytes, error: Exception) -> bytes:
    told = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return where + b": " + os.fsencode(told)


def _note(notes: int, text: bytes) -> None:
    os.write(notes, text + b"\0")


def _note_ending(notes: int, text: bytes) -> None:
    """Note how the command ended, behind what it printed: whoever finds the note finds that, too."""
    for fd in (1, 2):
        os.fsync(fd)
    _note(notes, text)
    os.fsync(notes)


if __name__ == "__main__":
    main()
