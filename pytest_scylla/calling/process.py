"""Running one command to its end, whatever it does, and whatever happens to this process meanwhile.

Between this process and the command stands a guard, a process that kills the command with all its descendants when it
takes too long or prints too much, when it ends and leaves any behind, and when this process gives up or dies.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from ..experiment.journal import MOST_SECONDS
from ..experiment.records import Folder, open_experiment
from ..experiment.wording import printable
from . import guard

MAX_OUTPUT = 16 * 1024 * 1024

_PRINTED, _NOTES = ("stdout", "stderr"), "notes"
"""The files in a directory for outputs."""

Ended = Literal["exited", "timed-out", "too-much-output", "not-started"]


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended, and what it printed.

    ``exit_code`` is ``None`` unless it ``ended`` as "exited": by itself, or by somebody else's signal, whose number it
    then is, negative. ``stdout`` and ``stderr`` are as much as was kept. ``reason`` says in one printable line why a
    command was not started, such as ``claude: No such file or directory``, and is empty otherwise.
    """

    exit_code: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    ended: Ended
    reason: str = ""


def run_command(
    argv: Sequence[str],
    stdin: bytes,
    *,
    environment: Mapping[str, str],
    timeout: float,
    max_output: int = MAX_OUTPUT,
    inside: Path | None = None,
    outputs: Path | None = None,
) -> Finished:
    """Run a command in an empty directory of its own; afterwards nothing is left of that, and no process.

    A bare name is looked up in the absolute directories of this process's PATH; a path with a slash in it is relative
    to this process's directory. The command has no terminal, no open file but its standard ones, and of the environment
    what ``environment`` holds. It is killed after ``timeout`` seconds, and once it printed more than ``max_output``
    bytes to its standard output, or to its standard error. An exception that is raised here while it runs goes on when
    everything is killed.

    :param inside: a directory that it works in instead, and that is left as it leaves it.
    :param outputs: an empty directory for what it prints, from which :func:`kept_from` tells how it ended, also where
        this process does not live to see it.
    :raises IndexError: ``argv`` is empty.
    """
    started = time.monotonic()
    name = argv[0]
    with ExitStack() as opened:
        try:
            directory = os.path.join(tempfile.gettempdir(), f"scylla-{secrets.token_hex(8)}")
            command = (_executable(name), *argv[1:])
            where = (directory, "own") if inside is None else (os.fspath(inside), "given")
            order = _order(timeout, max_output, where, command, environment)
            # These first: where this process has no standard files, they take their numbers, which no other may have.
            files: list[IO[bytes]] = [opened.enter_context(tempfile.TemporaryFile())]
            files += [opened.enter_context(_output(outputs, name)) for name in (*_PRINTED, _NOTES)]
            if outputs is not None:
                with open_experiment(outputs) as folder:
                    os.fsync(folder.descriptor)
            files[0].write(stdin)
            files[0].seek(0)
            orders = opened.enter_context(tempfile.TemporaryFile())
            orders.write(order)
            orders.flush()
            notes = files.pop()
            process = opened.enter_context(_guarded(files, orders, notes, where))
        except (OSError, ValueError) as error:
            told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return Finished(None, b"", b"", time.monotonic() - started, "not-started", printable(f"{name}: {told}"))
        status = process.wait()
        too_much = any(os.fstat(file.fileno()).st_size > max_output for file in files[1:])
        ended, exit_code, reason = _ending(name, _told(notes), status, too_much=too_much)
        stdout, stderr = (_kept(file, max_output) for file in files[1:])
    return Finished(exit_code, stdout, stderr, time.monotonic() - started, ended, reason)


def kept_from(outputs: Folder, max_output: int = MAX_OUTPUT) -> Finished | None:
    """How a command ended that printed into ``outputs``; ``None`` where it did not come to its end, or was not started.

    How long it took is told by the times of the files. What is there need not be what a guard wrote.
    """
    told = _words(outputs.read(_NOTES).data)
    if not told.keys() & {"exited", "timed-out", "too-much-output"}:
        return None
    states = {name: (size, modified / 1e9) for name, _, size, modified, _ in outputs.states()}
    too_much = any(states[name][0] > max_output for name in _PRINTED if name in states)
    try:
        ended, exit_code, _ = _ending("", told, 0, too_much=too_much)
    except ValueError:
        return None
    if exit_code is not None and not -256 < exit_code < 256:
        return None
    stdout, stderr = (outputs.read(name, max_output) for name in _PRINTED)
    seconds = 0.0
    with suppress(ValueError, KeyError):
        seconds = states[_NOTES][1] - float(told["started"])
    return Finished(exit_code, stdout.data, stderr.data, seconds if 0 <= seconds <= MOST_SECONDS else 0.0, ended)


def _output(outputs: Path | None, name: str) -> IO[bytes]:
    return tempfile.TemporaryFile() if outputs is None else open(outputs / name, "x+b")


def _executable(name: str) -> str:
    """Where the command of this name is, as an absolute path.

    :raises OSError: a bare name is not found.
    """
    if os.path.isabs(name):
        return name
    if os.sep in name:
        return os.path.join(os.getcwd(), name)
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = shutil.which(name, path=os.pathsep.join(filter(os.path.isabs, places)))
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return found


def _order(
    timeout: float, max_output: int, where: tuple[str, str], command: Sequence[str], environment: Mapping[str, str]
) -> bytes:
    """What the guard is to do, in its own words.

    :raises ValueError: no process can be given such arguments, or such an environment.
    """
    if not all(variable and "=" not in variable for variable in environment):
        raise ValueError("a variable of the environment has a name that none can have")
    variables = (f"{variable}={value}" for variable, value in environment.items())
    limits = (str(os.getpid()), str(float(timeout)), str(max_output), *where)
    fields = [os.fsencode(field) for field in (*limits, command[0], str(len(command)), *command, *variables)]
    if any(b"\0" in field for field in fields):
        raise ValueError("an argument, or a variable of the environment, holds a NUL byte")
    return b"\0".join(fields)


@contextmanager
def _guarded(
    files: Sequence[IO[bytes]], orders: IO[bytes], notes: IO[bytes], where: tuple[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a guard, whose order is in ``orders``; leaving the block ends it.

    :raises OSError: it cannot be started.
    """
    theirs, alive = os.pipe()
    process = None
    try:
        given, stdout, stderr = files
        try:
            process = subprocess.Popen(  # noqa: S603  # our own script
                [sys.executable, "-I", "-S", guard.__file__, *map(str, (theirs, orders.fileno(), notes.fileno()))],
                stdin=given,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(theirs, orders.fileno(), notes.fileno()),
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        yield process
    finally:
        os.close(alive)
        if process is not None:
            _outlast(process)
            if process.returncode:
                _clear_after(_told(notes), where)


def _outlast(process: subprocess.Popen[bytes]) -> None:
    """Wait for a guard that is at its end. It is not left for an interruption: it takes no longer than it must."""
    while True:
        try:
            process.wait()
        except KeyboardInterrupt:
            continue
        return


def _clear_after(told: Mapping[str, bytes], where: tuple[str, str]) -> None:
    """Do what a killed guard could no longer do."""
    if "command" in told:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(int(told["command"]), signal.SIGKILL)
    directory, whose = where
    if whose == "own":
        guard.remove_tree(directory)


def _told(notes: IO[bytes]) -> dict[str, bytes]:
    """What a guard noted."""
    fd = notes.fileno()
    return _words(os.pread(fd, os.fstat(fd).st_size, 0))


def _words(noted: bytes) -> dict[str, bytes]:
    """Notes as words, each with the text that belongs to it."""
    pairs = (note.partition(b" ") for note in noted.split(b"\0"))
    return {word.decode("ascii", "replace"): text for word, _, text in pairs}


def _ending(name: str, told: Mapping[str, bytes], status: int, *, too_much: bool) -> tuple[Ended, int | None, str]:
    """How a command ended, its exit code and the reason, by what its guard noted and by the guard's exit status.

    ``too_much``: it printed more than it may, if only after the guard had noted how it ended.
    """
    if too_much or "too-much-output" in told:
        return "too-much-output", None, ""
    if "exited" in told:
        return "exited", int(told["exited"]), ""
    if "timed-out" in told:
        return "timed-out", None, ""
    if "not-started" in told:
        return "not-started", None, printable(os.fsdecode(told["not-started"]))
    if "command" in told:  # somebody killed the guard, and the command with it
        return "exited", status if status < 0 else -signal.SIGKILL, ""
    return "not-started", None, printable(f"{name}: the process that was to guard it ended with {status}")


def _kept(file: IO[bytes], most: int) -> bytes:
    file.seek(0)
    return file.read(most)
