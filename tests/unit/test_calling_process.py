"""One command, run to its end: what it gets, how it ended, and that nothing of it stays, whatever happens to whom.

The commands are real processes. Those that are to be killed hold a lifeline, a FIFO that they and all their descendants
have open for writing: whoever reads it learns their ids, and whether one of them is still there.
"""

from __future__ import annotations

import errno
import os
import pty
import resource
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pytest_scylla.calling import guard
from pytest_scylla.calling.guard import TICK
from pytest_scylla.calling.process import MAX_OUTPUT, Finished, kept_from, run_command
from pytest_scylla.experiment.records import open_experiment

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = (sys.executable, "-I", "-S", "-c")
PATIENCE = 120.0

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process find all its descendants")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; whatever a test does, nothing is left there."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(place))
    yield place
    assert os.listdir(place) == []


def run(*argv: str, stdin: bytes = b"", timeout: float = PATIENCE, **rest: Any) -> Finished:
    return run_command(argv, stdin, timeout=timeout, **{"environment": {}, **rest})


def run_python(code: str, *arguments: str, **rest: Any) -> Finished:
    """Run Python code as a command; it has ``os``, ``signal`` and ``sys``."""
    return run(*PYTHON, f"import os, signal, sys\n{code}", *arguments, **rest)


def run_shell(script: str, *arguments: str, **rest: Any) -> Finished:
    return run("/bin/sh", "-c", script, *arguments, **rest)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Lifeline:
    """A FIFO that commands hold open."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = os.fspath(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._told = b""

    def wait_for(self, count: int) -> list[int]:
        """Wait for so many processes to tell their ids; return these, in the order in which they came."""
        deadline = time.monotonic() + PATIENCE
        while len(self._ids()) < count:
            assert time.monotonic() < deadline
            select.select([self._fd], [], [], 0.01)
            with suppress(BlockingIOError):
                self._told += os.read(self._fd, 4096)
        return self._ids()

    def _ids(self) -> list[int]:
        return [int(word) for word in self._told.split(b" ")[:-1]]

    def is_held(self) -> bool:
        """Whether any process is left that holds it."""
        try:
            while found := os.read(self._fd, 4096):
                self._told += found
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        os.close(self._fd)


HOLD = "life = os.open(sys.argv[1], os.O_WRONLY)\ndef here(pid): os.write(life, b'%d ' % pid)\nhere(os.getpid())\n"
"""Lets a command hold a lifeline, with whatever it forks, and tell its id; ``here`` tells others."""

GUARD_AND_COMMAND = HOLD.replace("\nhere(", "\nhere(os.getppid()); here(")
"""The same, but it tells the guard's id before its own."""


@pytest.fixture
def lifeline(tmp_path: Path) -> Iterator[Lifeline]:
    line = Lifeline(tmp_path / "lifeline")
    yield line
    line.close()


def assert_gone(lifeline: Lifeline, count: int) -> None:
    """Nobody of those who told their ids is there any more, not even as a zombie, and nobody who did not."""
    assert not lifeline.is_held()
    ids = lifeline.wait_for(count)
    assert len(ids) == len(set(ids)) == count
    for pid in ids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


# ---------------------------------------------------------------------------------------- what it gets and what it says


def test_what_it_prints_and_its_exit_code_come_back() -> None:
    done = run_shell("cat; printf 'tr\\303uble' >&2; exit 3", stdin=b"asked\xff\0")
    assert (done.ended, done.exit_code, done.reason) == ("exited", 3, "")
    assert (done.stdout, done.stderr) == (b"asked\xff\0", b"tr\xc3uble")
    assert 0 < done.seconds < PATIENCE


@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 255])
def test_an_exit_code_is_the_commands_own(code: int) -> None:
    done = run_shell(f"exit {code}")
    assert (done.ended, done.exit_code) == ("exited", code)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE])
def test_a_signal_that_ends_it_is_a_negative_exit_code(number: signal.Signals) -> None:
    done = run_shell("echo before; kill -$0 $$", str(int(number)))
    assert (done.ended, done.exit_code, done.stdout) == ("exited", -number, b"before\n")


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_its_input_is_a_file_so_that_one_that_does_not_read_it_is_not_waited_for(size: int) -> None:
    done = run_python("print(os.fstat(0).st_size, os.path.isfile('/dev/fd/0'))", stdin=bytes(size))
    assert done.stdout == b"%d True\n" % size


def test_input_of_any_size_is_read_from_its_beginning_to_its_end() -> None:
    given = os.urandom(3_000_000)
    assert run_shell("cat", stdin=given).stdout == given


def test_arguments_are_given_as_they_are() -> None:
    arguments = ["", " ", "a b", "$HOME", "*", "a'b\"c", "line\nbreak", "-x", "; echo", "\udcff\xe9"]
    done = run_shell("for x; do printf '%s|' \"$x\"; done", "sh", *arguments)
    assert done.stdout == b"".join(os.fsencode(argument) + b"|" for argument in arguments)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"ONE": "1"},
        {"PATH": "/nowhere", "LC_ALL": "C", "PYTHONHOME": "/nowhere", "EMPTY": "", "ODD": "a=b\nc\udcff"},
    ],
    ids=["empty", "one", "many"],
)
def test_the_environment_is_what_is_passed_and_nothing_else(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCYLLA_SECRET", "kept back")
    monkeypatch.setenv("LC_ALL", "C")  # for which an interpreter changes its own environment
    env = shutil.which("env")
    assert env is not None
    done = run(env, "-0", environment=environment)
    variables = dict(variable.split(b"=", 1) for variable in done.stdout.split(b"\0")[:-1])
    variables.pop(b"__CF_USER_TEXT_ENCODING", None)  # macOS gives it to every process
    assert variables == {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


def test_no_other_open_file_of_this_process_reaches_it(tmp_path: Path) -> None:
    with (tmp_path / "open").open("wb") as file:
        os.set_inheritable(file.fileno(), True)
        code = "for fd in range(256):\n try: os.fstat(fd); print(fd)\n except OSError: pass"
        assert run_python(code).stdout == b"0\n1\n2\n"


def test_signals_are_neither_ignored_nor_blocked_whatever_this_process_does() -> None:
    code = (
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))\n"
        "print([n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN])"
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGALRM})
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        told = run_python(code).stdout.decode().splitlines()
    finally:
        signal.signal(signal.SIGHUP, hang_up)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert told[0] == "set()"
    for name in ("SIGHUP", "SIGTERM", "SIGINT", "SIGCHLD"):
        assert name not in told[1]


def test_it_leads_a_session_of_its_own() -> None:
    code = "print(os.getpid() == os.getsid(0) == os.getpgrp(), os.getsid(os.getppid()) != os.getsid(0))"
    assert run_python(code).stdout == b"True True\n"


def test_the_seconds_are_those_that_it_took() -> None:
    began = time.monotonic()
    done = run_python("import select; select.select([], [], [], 0.3)")
    assert 0.3 <= done.seconds <= time.monotonic() - began


def test_its_end_is_noticed_at_once_not_when_the_guard_looks_the_next_time() -> None:
    assert min(run_shell("exit 0").seconds for _ in range(10)) < TICK


def test_it_runs_from_any_thread_and_many_at_once() -> None:
    found: dict[int, Finished] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: run_shell("cat; exit $0", str(n), stdin=b"%d" % n)}))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: (done.exit_code, done.stdout) for n, done in found.items()} == {n: (n, b"%d" % n) for n in range(8)}


# -------------------------------------------------------------------------------------------------------- its directory


def test_it_runs_in_an_empty_directory_that_nobody_else_may_enter(temporary: Path) -> None:
    code = "print(os.listdir()); print(oct(os.stat('.').st_mode)); print(os.getcwd())"
    told = [run_python(code).stdout.decode().splitlines() for _ in range(2)]
    assert [lines[:2] for lines in told] == [["[]", oct(stat.S_IFDIR | 0o700)]] * 2
    first, second = (Path(lines[2]) for lines in told)
    assert first != second
    assert first.parent == second.parent == temporary.resolve()


LEFT_BEHIND = {
    "files": "open('a', 'w').write('x' * 100000); os.mkdir('b'); open('b/c', 'w'); os.mkfifo('b/d')",
    "read-only directories": "os.makedirs('a/b'); open('a/b/c', 'w'); [os.chmod(p, 0o500) for p in ('a/b', 'a')]",
    "closed directories": "os.makedirs('a/b'); open('a/b/c', 'w'); [os.chmod(p, 0) for p in ('a/b', 'a')]",
    "a closed directory": "open('a', 'w'); os.chmod('.', 0)",
    "read-only files": "open('a', 'w'); os.chmod('a', 0o400)",
    "a deep tree": "for _ in range(40): os.mkdir('deep' * 60); os.chdir('deep' * 60)",
    "a wide tree": "for i in range(9):\n for j in range(5): os.makedirs(f'{i}/{j}/x'); open(f'{i}/{j}/x/y', 'w')",
    "odd names": "os.makedirs(b'\\xff\\n/-rf'); open(b'\\xff\\n/*', 'w')",
}


@pytest.mark.parametrize("kind", LEFT_BEHIND)
def test_its_directory_is_removed_with_what_it_left_there(kind: str, temporary: Path) -> None:
    done = run_python(f"{LEFT_BEHIND[kind]}\nprint(0)")
    assert (done.exit_code, done.stderr) == (0, b"")
    assert os.listdir(temporary) == []


def test_no_link_that_it_left_there_is_followed(tmp_path: Path, temporary: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "file").write_text("precious")
    outside.chmod(0o750)
    code = "out = sys.argv[1]; os.symlink(out, 'a'); os.mkdir('b'); os.symlink(out, 'b/c'); os.link(out + '/file', 'd')"
    assert run_python(code, os.fspath(outside)).exit_code == 0
    assert os.listdir(temporary) == []
    assert sorted(os.listdir(outside)) == ["file", "inner"]
    assert (outside / "file").read_text() == "precious"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o750


# -------------------------------------------------------------------------------------------------- which command it is


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A directory with a command, ``judge``, that prints its directory's name."""
    return make_tool(tmp_path / "tools")


def make_tool(place: Path) -> Path:
    place.mkdir()
    (place / "judge").write_text(f"#!/bin/sh\necho {place.name}\n")
    (place / "judge").chmod(0o755)
    return place


def test_a_bare_name_is_looked_up_in_this_processs_path_not_in_the_environment_that_is_passed(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_tool(tmp_path / "other")
    monkeypatch.setenv("PATH", f"/nowhere:{tools}:{other}")
    assert run("judge", environment={"PATH": os.fspath(other)}).stdout == b"tools\n"


@pytest.mark.parametrize("path", ["", ":", ".", "..:./:/nowhere:", "tools", "./tools:tools/"])
def test_a_bare_name_is_never_found_by_way_of_the_working_directory(
    path: str, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tools if "tools" not in path else tools.parent)
    monkeypatch.setenv("PATH", path)
    done = run("judge")
    assert (done.ended, done.reason) == ("not-started", "judge: No such file or directory")


def test_a_path_is_relative_to_this_processs_directory(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tools.parent)
    for path in ("tools/judge", "./tools/judge", "tools/../tools/judge", os.fspath(tools / "judge")):
        assert run(path).stdout == b"tools\n"


def test_no_shell_sees_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("true; touch made", "&& touch made")
    assert (done.ended, done.reason) == ("not-started", "true; touch made: No such file or directory")
    assert not (tmp_path / "made").exists()


# ---------------------------------------------------------------------------------------------- one that does not start


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (None, 0, errno.ENOENT),
        ("#!/bin/sh\n", 0o644, errno.EACCES),
        ("echo a script without a first line\n", 0o755, errno.ENOEXEC),
        ("#!/nowhere/interpreter\n", 0o755, errno.ENOENT),
    ],
    ids=["absent", "not executable", "no program", "no interpreter"],
)
def test_one_that_cannot_be_executed_was_not_started_and_the_reason_names_it(
    content: str | None, mode: int, reason: int, tmp_path: Path
) -> None:
    path = tmp_path / "judge"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    done = run(os.fspath(path), stdin=b"asked")
    assert (done.ended, done.exit_code, done.stdout, done.stderr) == ("not-started", None, b"", b"")
    assert done.reason == f"{path}: {os.strerror(reason)}"


def test_a_directory_is_no_command(tmp_path: Path) -> None:
    assert run(os.fspath(tmp_path)).reason == f"{tmp_path}: Permission denied"


@pytest.mark.parametrize("name", ["", "nosuch", "no/such"])
def test_one_that_is_not_found_was_not_started(name: str) -> None:
    done = run(name)
    assert (done.ended, done.exit_code) == ("not-started", None)
    assert done.reason.endswith(f"{name}: No such file or directory")


@pytest.mark.parametrize(
    ("argv", "environment", "part"),
    [
        (("true", "a\0b"), {}, "NUL"),
        (("true\0", ""), {}, "No such file"),
        (("/bin/true\0", ""), {}, "NUL"),
        (("true",), {"A": "\0"}, "NUL"),
        (("true",), {"A=B": "c"}, "name"),
        (("true",), {"": "c"}, "name"),
        (("true", "\ud800"), {}, "surrogates"),
        (("true", "x" * 10_000_000), {}, os.strerror(errno.E2BIG)),
    ],
)
def test_what_no_process_can_be_given_is_a_reason(
    argv: tuple[str, ...], environment: dict[str, str], part: str
) -> None:
    done = run(*argv, environment=environment)
    assert (done.ended, done.exit_code) == ("not-started", None)
    assert part in done.reason


def test_a_reason_is_one_printable_line() -> None:
    done = run("/no\x1b[31m\nwhere::error::" + "x" * 1000)
    assert done.reason.isprintable()
    assert "::" not in done.reason
    assert len(done.reason) < 600


def test_without_a_place_for_its_directory_it_was_not_started(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path / "nowhere"))
    done = run("true")
    assert (done.ended, done.reason) == ("not-started", "true: No such file or directory")


def test_no_command_at_all_is_the_callers_mistake() -> None:
    with pytest.raises(IndexError):
        run()


# --------------------------------------------------------------------------------------------------- one without an end

TREES = {
    "children": "for _ in range(3):\n if not os.fork(): here(os.getpid()); signal.pause()\n",
    "children that heed no signal": (
        "for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)\n"
        "for _ in range(3):\n if os.fork(): break\n here(os.getpid())\n"
    ),
    "stopped children": (
        "for _ in range(3):\n if not os.fork(): here(os.getpid()); os.kill(os.getpid(), signal.SIGSTOP)\n"
    ),
    "sessions": "for _ in range(3):\n if os.fork(): break\n os.setsid(); here(os.getpid())\n",
    "daemons": (
        "for _ in range(3):\n"
        " if not os.fork():\n"
        "  os.setsid()\n"
        "  if os.fork(): os._exit(0)\n"
        "  os.setpgid(0, 0); here(os.getpid()); signal.pause()\n"
        " else: os.wait()\n"
    ),
}
"""Four processes, each of which tells its id; the first of them is the command, which goes on."""

trees = pytest.mark.parametrize(
    "tree", [pytest.param(tree, marks=on_linux if tree in ("sessions", "daemons") else ()) for tree in TREES]
)
WAIT_FOR_ALL = "import time\nwhile not os.path.exists(sys.argv[2]): time.sleep(0.005)\n"


@pytest.mark.parametrize("tree", ["children that heed no signal", pytest.param("daemons", marks=on_linux)])
def test_after_its_time_it_is_killed_with_all_its_descendants(tree: str, lifeline: Lifeline) -> None:
    done = run_python(HOLD + TREES[tree] + "signal.pause()", lifeline.path, timeout=2)
    assert (done.ended, done.exit_code, done.reason) == ("timed-out", None, "")
    assert 2 <= done.seconds < PATIENCE
    assert_gone(lifeline, 4)


@trees
def test_what_it_leaves_behind_when_it_ends_is_killed(tree: str, lifeline: Lifeline, tmp_path: Path) -> None:
    """Those have its output open, too, and are not waited for."""
    found: list[Finished] = []
    ready = tmp_path / "ready"
    code = f"{HOLD}first = os.getpid()\n{TREES[tree]}{WAIT_FOR_ALL}if os.getpid() != first: signal.pause()\nsys.exit(4)"
    thread = threading.Thread(target=lambda: found.append(run_python(code, lifeline.path, os.fspath(ready))))
    thread.start()
    lifeline.wait_for(4)
    ready.touch()
    thread.join()
    assert [(done.ended, done.exit_code) for done in found] == [("exited", 4)]
    assert_gone(lifeline, 4)


@on_linux
def test_descendants_that_run_away_into_ever_new_sessions_are_caught(lifeline: Lifeline) -> None:
    code = f"{HOLD}while True:\n if os.fork(): os._exit(0)\n os.setsid()"
    assert run_python(code, lifeline.path).ended == "exited"
    assert_gone(lifeline, 1)


def test_what_it_printed_before_its_time_was_over_is_kept() -> None:
    done = run_shell("echo out; echo err >&2; exec sleep 1000", environment=dict(os.environ), timeout=0.5)
    assert (done.ended, done.stdout, done.stderr) == ("timed-out", b"out\n", b"err\n")


def test_one_may_have_no_time_at_all(lifeline: Lifeline) -> None:
    assert run_python("signal.pause()", timeout=0).ended == "timed-out"


def test_one_may_have_any_time() -> None:
    assert run_shell("exit 5", timeout=float("inf")).exit_code == 5


# --------------------------------------------------------------------------------------------- one that prints too much


@pytest.mark.parametrize("fd", [1, 2])
def test_what_fits_is_kept_and_one_byte_more_is_too_much(fd: int) -> None:
    code = "os.write(int(sys.argv[1]), bytes(int(sys.argv[2])))"
    fits = run_python(code, str(fd), "1000", max_output=1000)
    assert (fits.ended, fits.exit_code) == ("exited", 0)
    more = run_python(code, str(fd), "1001", max_output=1000)
    assert (more.ended, more.exit_code, more.reason) == ("too-much-output", None, "")
    for done in (fits, more):
        assert (done.stdout, done.stderr)[fd - 1] == bytes(1000)
        assert (done.stdout, done.stderr)[2 - fd] == b""


def test_one_that_prints_a_gigabyte_is_stopped_and_the_beginning_is_kept() -> None:
    done = run_shell("head -c 1073741824 /dev/zero; echo went on >&2; exec sleep 1000", environment=dict(os.environ))
    assert (done.ended, done.exit_code) == ("too-much-output", None)
    assert len(done.stdout) == MAX_OUTPUT == 16 * 1024 * 1024
    assert done.seconds < PATIENCE


def test_one_that_goes_on_printing_is_killed_with_its_descendants(lifeline: Lifeline, tmp_path: Path) -> None:
    code = f"{HOLD}first = os.getpid()\n{TREES['children']}{WAIT_FOR_ALL}while True: os.write(1, bytes(30_000))\n"
    ready = tmp_path / "ready"

    def let_it_print() -> None:
        lifeline.wait_for(4)
        ready.touch()

    thread = threading.Thread(target=let_it_print)
    thread.start()
    done = run_python(code, lifeline.path, os.fspath(ready), max_output=100_000)
    thread.join()
    assert (done.ended, done.exit_code) == ("too-much-output", None)
    assert done.stdout == bytes(100_000)
    assert_gone(lifeline, 4)


def test_other_files_may_be_of_any_size_such_as_its_own_logs_and_settings(tmp_path: Path) -> None:
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_FSIZE))"
    own = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert run_python(code, max_output=5000).stdout.decode() == f"{own}\n"
    log = tmp_path / "log"
    done = run_shell(f"head -c 5000 /dev/zero > {log}; echo done", max_output=10)
    assert (done.ended, done.exit_code, done.stdout) == ("exited", 0, b"done\n")
    assert log.stat().st_size == 5000


# ------------------------------------------------------------------------------------------ this process is interrupted


def signal_here(number: int) -> None:
    """Send a signal to this process's main thread, which is where it runs the command."""
    identity = threading.main_thread().ident
    assert identity is not None
    signal.pthread_kill(identity, number)


class Interrupted(OSError):
    """Not what it looks like: it comes from a signal, while the command runs."""


@trees
@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted])
def test_an_exception_while_it_runs_goes_on_when_everything_is_killed(
    error: type[BaseException], tree: str, lifeline: Lifeline
) -> None:
    def interrupt(*_: object) -> None:
        raise error

    def wait_and_signal() -> None:
        lifeline.wait_for(4)
        signal_here(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    began = time.monotonic()
    thread = threading.Thread(target=wait_and_signal)
    try:
        thread.start()
        with pytest.raises(error):
            run_python(HOLD + TREES[tree] + "signal.pause()", lifeline.path, timeout=10 * PATIENCE)
        assert time.monotonic() - began < PATIENCE
        assert_gone(lifeline, 4)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_impatience_does_not_leave_anything_behind(lifeline: Lifeline) -> None:
    """Ctrl-C is pressed again and again while the guard, which is stopped, does nothing about it."""
    pressed = 0

    def interrupt(*_: object) -> None:
        nonlocal pressed
        pressed += 1
        raise KeyboardInterrupt

    def press() -> None:
        guard, _ = lifeline.wait_for(2)
        os.kill(guard, signal.SIGSTOP)
        for count in range(1, 9):
            signal_here(signal.SIGINT)
            eventually(lambda count=count: pressed == count)  # type: ignore[misc]
        os.kill(guard, signal.SIGCONT)

    before = signal.signal(signal.SIGINT, interrupt)
    thread = threading.Thread(target=press)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            run_python(f"{GUARD_AND_COMMAND}signal.pause()", lifeline.path)
        assert_gone(lifeline, 2)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert pressed == 8


# ---------------------------------------------------------------------------------------------------- this process dies

CALLER = (
    "import os, signal, subprocess, sys, tempfile, threading\n"
    "from pytest_scylla.calling.process import run_command\n"
    "tempfile.tempdir = sys.argv[1]\n"
    "def call(code, *rest):\n"
    "    argv = [sys.executable, '-I', '-S', '-c', 'import os, signal, sys\\n' + code, *rest]\n"
    "    return run_command(argv, b'', environment={}, timeout=1000)\n"
)


class Caller:
    """Another process that runs commands; it may be killed."""

    def __init__(self, temporary: Path, code: str, *arguments: str, **rest: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CALLER + code, os.fspath(temporary), *arguments], cwd=PROJECT, **rest
        )

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL


@pytest.fixture
def callers() -> Iterator[list[Caller]]:
    """Callers to end."""
    started: list[Caller] = []
    yield started
    for caller in started:
        caller.process.kill()
        caller.process.wait()


def assert_nothing_left(lifeline: Lifeline, temporary: Path) -> None:
    """Soon, nobody who told its id is there, nor anything of its directory."""
    eventually(lambda: not lifeline.is_held())
    eventually(lambda: os.listdir(temporary) == [])


@trees
def test_when_this_process_is_killed_so_is_everything(
    tree: str, lifeline: Lifeline, temporary: Path, callers: list[Caller]
) -> None:
    command = HOLD + TREES[tree] + "signal.pause()"
    callers.append(Caller(temporary, "call(sys.argv[2], sys.argv[3])", command, lifeline.path))
    lifeline.wait_for(4)
    assert len(os.listdir(temporary)) == 1
    callers[0].kill()
    assert_nothing_left(lifeline, temporary)


def test_commands_that_run_at_once_do_not_keep_each_other_alive(
    lifeline: Lifeline, temporary: Path, callers: list[Caller]
) -> None:
    code = "for _ in range(4): threading.Thread(target=call, args=sys.argv[2:4]).start()"
    callers.append(Caller(temporary, code, HOLD + "signal.pause()", lifeline.path))
    lifeline.wait_for(4)
    callers[0].kill()
    assert_nothing_left(lifeline, temporary)


OTHERS = {
    "executed": "subprocess.Popen([sys.executable, '-c', 'import os, signal, sys\\n' + stay, path], close_fds=False)",
    "forked": "if not os.fork(): sys.argv[1] = path; exec(stay, globals())",
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_child_of_this_process_that_outlives_it_does_not_keep_the_command_alive(
    other: str, lifeline: Lifeline, temporary: Path, tmp_path: Path, callers: list[Caller]
) -> None:
    others = Lifeline(tmp_path / "others")
    stay = HOLD + "signal.pause()"
    code = (
        "def start(stay, path):\n"
        "    sys.stdin.readline()\n"
        f"    {OTHERS[other]}\n"
        "threading.Thread(target=start, args=sys.argv[4:6]).start()\n"
        "call(*sys.argv[2:4])\n"
    )
    caller = Caller(temporary, code, stay, lifeline.path, stay, others.path, stdin=subprocess.PIPE, bufsize=0)
    callers.append(caller)
    lifeline.wait_for(1)
    assert caller.process.stdin is not None
    with caller.process.stdin:
        caller.process.stdin.write(b"\n")
    [outliving] = others.wait_for(1)
    caller.kill()
    try:
        assert_nothing_left(lifeline, temporary)
        assert others.is_held()
    finally:
        os.kill(outliving, signal.SIGKILL)
        others.close()


def test_a_terminals_ctrl_c_reaches_this_process_and_neither_the_command_nor_its_guard(
    lifeline: Lifeline, temporary: Path, tmp_path: Path
) -> None:
    """The caller ignores it, and the command goes on to its end. It has no terminal to ask on, either."""
    result, ready = tmp_path / "result", tmp_path / "ready"
    ask = "try: open('/dev/tty')\nexcept OSError: print('no terminal')\n"
    code = (
        "signal.signal(signal.SIGINT, lambda *_: open(sys.argv[5], 'w').close())\n"
        "done = call(*sys.argv[2:4], sys.argv[5])\n"
        "open(sys.argv[4], 'w').write(f'{done.ended} {done.exit_code} {done.stdout}')\n"
    )
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(PROJECT)
        command = HOLD + WAIT_FOR_ALL + ask + "sys.exit(7)"
        arguments = [os.fspath(temporary), command, lifeline.path, os.fspath(result), os.fspath(ready)]
        os.execv(sys.executable, [sys.executable, "-c", CALLER + code, *arguments])
    try:
        lifeline.wait_for(1)
        os.write(terminal, b"\x03")
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        os.close(terminal)
    assert result.read_text() == r"exited 7 b'no terminal\n'"


def test_a_process_without_standard_files_can_run_commands(
    temporary: Path, tmp_path: Path, callers: list[Caller]
) -> None:
    code = (
        "found = []\n"
        "for closed in ([0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]):\n"
        "    if not os.fork():\n"
        "        for fd in closed: os.close(fd)\n"
        "        done = run_command(['/bin/sh', '-c', 'cat; echo err >&2'], b'asked', environment={}, timeout=20)\n"
        "        os._exit(0 if (done.exit_code, done.stdout, done.stderr) == (0, b'asked', b'err\\n') else 1)\n"
        "    found.append(os.wait()[1])\n"
        "sys.exit(str(found) if any(found) else 0)\n"
    )
    callers.append(Caller(temporary, code))
    assert callers[0].process.wait() == 0


# ------------------------------------------------------------------------------------------------------ the guard's own


def run_and_signal_the_guard(lifeline: Lifeline, number: int, code: str) -> Finished:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP, signal.SIGINT})
    thread = threading.Thread(target=lambda: os.kill(lifeline.wait_for(3)[0], number))
    thread.start()
    try:
        return run_python(f"{GUARD_AND_COMMAND}{code}", lifeline.path)
    finally:
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("session", [pytest.param("os.setsid(); ", marks=on_linux), ""])
def test_whoever_ends_the_guard_ends_the_command_whatever_this_process_blocks(
    number: int, session: str, lifeline: Lifeline
) -> None:
    code = f"if not os.fork(): {session}here(os.getpid())\nsignal.pause()"
    done = run_and_signal_the_guard(lifeline, number, code)
    assert (done.ended, done.exit_code, done.reason) == ("exited", -number, "")
    assert_gone(lifeline, 3)


def test_where_the_guard_is_killed_the_command_dies_with_its_group(lifeline: Lifeline, temporary: Path) -> None:
    done = run_and_signal_the_guard(
        lifeline,
        signal.SIGKILL,
        "open('left', 'w')\nif not os.fork(): here(os.getpid())\nprint('out', flush=True)\nsignal.pause()",
    )
    assert (done.ended, done.exit_code, done.reason) == ("exited", -signal.SIGKILL, "")
    assert os.listdir(temporary) == []
    eventually(lambda: not lifeline.is_held())


@on_linux
def test_where_the_guard_and_this_process_are_killed_the_command_dies(
    lifeline: Lifeline, temporary: Path, callers: list[Caller]
) -> None:
    callers.append(Caller(temporary, "call(*sys.argv[2:4])", GUARD_AND_COMMAND + "signal.pause()", lifeline.path))
    guard, _ = lifeline.wait_for(2)
    callers[0].process.send_signal(signal.SIGSTOP)
    os.kill(guard, signal.SIGKILL)
    eventually(lambda: not lifeline.is_held())
    callers[0].kill()
    for name in os.listdir(temporary):
        os.rmdir(temporary / name)


def test_nothing_of_this_processs_python_path_is_imported_by_the_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = tmp_path / "poisoned"
    poisoned.mkdir()
    for name in ("os", "signal", "select", "resource", "contextlib", "ctypes", "sitecustomize"):
        (poisoned / f"{name}.py").write_text("raise SystemExit('poisoned')")
    monkeypatch.setenv("PYTHONPATH", os.fspath(poisoned))
    monkeypatch.chdir(poisoned)
    assert run_shell("exit 6").exit_code == 6


def test_a_guard_that_does_not_come_up_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    done = run("true")
    assert (done.ended, done.exit_code) == ("not-started", None)
    assert done.reason == "true: the process that was to guard it ended with 1"


# ----------------------------------------------------------------------------------------- in a directory that is given


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A directory for a command to work in, with something in it."""
    place = tmp_path / "given"
    (place / "src").mkdir(parents=True)
    (place / "src" / "words.txt").write_text("the quick fox")
    place.chmod(0o755)
    return place


def test_it_may_work_in_a_directory_that_is_given_and_stays_as_it_leaves_it(given: Path, temporary: Path) -> None:
    done = run_shell(f"pwd; ls {temporary}; echo more >> src/words.txt; mkdir made; rm src/none", inside=given)
    assert done.stdout.decode().split() == [os.path.realpath(given)]
    assert sorted(os.listdir(given)) == ["made", "src"]
    assert (given / "src" / "words.txt").read_text() == "the quick foxmore\n"
    assert stat.S_IMODE(given.stat().st_mode) == 0o755


def test_there_its_files_may_be_of_any_size_but_not_what_it_prints(given: Path) -> None:
    done = run_shell("head -c 5000 /dev/zero > large; echo done", inside=given, max_output=10)
    assert (done.ended, done.exit_code, done.stdout) == ("exited", 0, b"done\n")
    assert (given / "large").stat().st_size == 5000
    done = run_shell("head -c 5000 /dev/zero; exec sleep 600", inside=given, max_output=10)
    assert (done.ended, done.stdout) == ("too-much-output", bytes(10))


def test_what_it_leaves_running_there_is_killed_and_its_files_stay(lifeline: Lifeline, given: Path) -> None:
    code = f"{HOLD}open('mine', 'w').close()\nif not os.fork(): here(os.getpid()); signal.pause()"
    assert run_python(code, lifeline.path, inside=given).exit_code == 0
    assert not lifeline.is_held()
    assert sorted(os.listdir(given)) == ["mine", "src"]


def test_where_the_guard_is_killed_the_directory_stays_too(lifeline: Lifeline, given: Path) -> None:
    def kill() -> None:
        os.kill(lifeline.wait_for(2)[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    run_python(f"{GUARD_AND_COMMAND}signal.pause()", lifeline.path, inside=given)
    thread.join()
    assert os.listdir(given) == ["src"]


def test_without_that_directory_it_was_not_started(given: Path) -> None:
    done = run_shell("echo never", inside=given / "absent")
    assert (done.ended, done.stdout) == ("not-started", b"")
    assert done.reason == f"{given / 'absent'}: No such file or directory"


# ---------------------------------------------------------------------------------------------- what it printed is kept


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A directory for what a command prints."""
    place = tmp_path / "outputs"
    place.mkdir()
    return place


def kept(outputs: Path, **rest: Any) -> Finished | None:
    with open_experiment(outputs) as folder:
        return kept_from(folder, **rest)


def test_what_it_prints_is_kept_where_that_is_wanted_and_tells_how_it_ended(outputs: Path) -> None:
    done = run_shell("printf out; printf err >&2; sleep 0.3; exit 3", outputs=outputs)
    assert (outputs / "stdout").read_bytes() == done.stdout == b"out"
    assert (outputs / "stderr").read_bytes() == done.stderr == b"err"
    told = kept(outputs)
    assert told is not None
    assert (told.ended, told.exit_code, told.stdout, told.stderr) == ("exited", 3, b"out", b"err")
    assert 0.2 < told.seconds <= done.seconds + 0.1


def test_it_is_there_while_the_command_still_runs(outputs: Path) -> None:
    done = run_shell(f"echo out; cat {outputs}/stdout >&2", outputs=outputs)
    assert done.stderr == b"out\n"


def test_how_one_ended_that_was_killed_is_told_as_well(outputs: Path) -> None:
    run_shell("kill -TERM $$", outputs=outputs)
    told = kept(outputs)
    assert told is not None
    assert (told.ended, told.exit_code) == ("exited", -signal.SIGTERM)


def test_that_one_took_too_long_is_told_with_what_it_had_printed(outputs: Path) -> None:
    run_shell("printf half; exec sleep 600", outputs=outputs, timeout=0.3)
    told = kept(outputs)
    assert told is not None
    assert (told.ended, told.exit_code, told.stdout) == ("timed-out", None, b"half")


def test_that_one_printed_too_much_is_told(outputs: Path) -> None:
    done = run_shell("head -c 5000 /dev/zero; exec sleep 600", outputs=outputs, max_output=10)
    told = kept(outputs, max_output=10)
    assert told is not None
    assert told.ended == done.ended == "too-much-output"


def test_what_is_larger_than_it_may_be_is_too_much_however_it_ended(outputs: Path) -> None:
    (outputs / "stdout").write_bytes(bytes(11))
    (outputs / "notes").write_bytes(b"started 1\0command 7\0exited 0\0")
    told = kept(outputs, max_output=10)
    assert told is not None
    assert (told.ended, told.exit_code) == ("too-much-output", None)
    told = kept(outputs, max_output=11)
    assert told is not None
    assert (told.ended, told.exit_code, told.stdout) == ("exited", 0, bytes(11))


def test_of_one_that_was_not_started_nothing_is_told(outputs: Path) -> None:
    assert run("/nowhere/at/all", outputs=outputs).ended == "not-started"
    assert kept(outputs) is None


def test_nothing_that_is_kept_is_overwritten(outputs: Path) -> None:
    run_shell("echo first", outputs=outputs)
    done = run_shell("echo second", outputs=outputs)
    assert (done.ended, done.reason) == ("not-started", "/bin/sh: File exists")
    assert (outputs / "stdout").read_bytes() == b"first\n"


INTO = (
    "from pathlib import Path\n"
    "run_command([sys.executable, '-I', '-S', '-c', 'import os, signal, sys\\n' + sys.argv[2], sys.argv[3]],\n"
    "            b'', environment={}, timeout=1000, outputs=Path(sys.argv[4]))\n"
)


def call_into(outputs: Path, temporary: Path, lifeline: Lifeline) -> Caller:
    command = HOLD + "print('out', flush=True)\nsignal.pause()"
    return Caller(temporary, INTO, command, lifeline.path, os.fspath(outputs))


def test_of_one_that_died_with_this_process_nothing_is_told(
    lifeline: Lifeline, temporary: Path, outputs: Path, callers: list[Caller]
) -> None:
    callers.append(call_into(outputs, temporary, lifeline))
    lifeline.wait_for(1)
    callers[0].kill()
    assert_nothing_left(lifeline, temporary)
    assert kept(outputs) is None


def test_of_one_that_ended_before_this_process_died_all_is_told(
    lifeline: Lifeline, temporary: Path, outputs: Path, callers: list[Caller]
) -> None:
    callers.append(call_into(outputs, temporary, lifeline))
    (command,) = lifeline.wait_for(1)
    eventually(lambda: (outputs / "stdout").read_bytes() == b"out\n")
    callers[0].process.send_signal(signal.SIGSTOP)
    os.kill(command, signal.SIGTERM)
    eventually(lambda: kept(outputs) is not None)
    callers[0].kill()
    assert_nothing_left(lifeline, temporary)
    told = kept(outputs)
    assert told is not None
    assert (told.ended, told.exit_code, told.stdout) == ("exited", -signal.SIGTERM, b"out\n")


@pytest.fixture
def altered_guard(tmp_path: Path) -> Callable[[str], str]:
    """Make a guard that first runs code of a test, to which it is ``guard``; return the script's path."""

    def make(code: str) -> str:
        script = tmp_path / "altered_guard.py"
        script.write_text(
            "import importlib.util, os, signal\n"
            f"spec = importlib.util.spec_from_file_location('guard', {guard.__file__!r})\n"
            "guard = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(guard)\n"
            f"{code}\n"
            "guard.main()\n"
        )
        return os.fspath(script)

    return make


def test_what_others_print_while_they_are_killed_may_be_too_much(
    altered_guard: Callable[[str], str], outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = "end = guard._Watch.end\nguard._Watch.end = lambda watch: (os.write(1, bytes(11)), end(watch))"
    monkeypatch.setattr(guard, "__file__", altered_guard(late))
    done = run_shell("exit 3", outputs=outputs, max_output=10)
    told = kept(outputs, max_output=10)
    assert told is not None
    assert told.ended == done.ended == "too-much-output"
    assert told.exit_code is done.exit_code is None
    assert b"exited 3" in (outputs / "notes").read_bytes()


DIE = "def die(): os.kill(os.getppid(), signal.SIGKILL); os.kill(os.getpid(), signal.SIGKILL)\n"
BEFORE_THE_NOTE = (
    f"{DIE}note = guard._note\nguard._note = lambda fd, text: die() if text == b'exited 3' else note(fd, text)"
)
BEHIND_THE_NOTE = f"{DIE}guard._Watch.end = lambda watch: die()"


@pytest.mark.parametrize(
    ("moment", "tells"), [(BEFORE_THE_NOTE, False), (BEHIND_THE_NOTE, True)], ids=["before", "behind"]
)
def test_where_all_are_killed_what_tells_of_the_end_is_the_note_and_that_comes_before_the_cleaning_up(
    moment: str,
    tells: bool,
    altered_guard: Callable[[str], str],
    given: Path,
    temporary: Path,
    outputs: Path,
    callers: list[Caller],
) -> None:
    """Both the guard and this process, once the command has exited."""
    code = (
        "from pathlib import Path\n"
        "from pytest_scylla.calling import guard\n"
        "guard.__file__ = sys.argv[2]\n"
        "run_command(['/bin/sh', '-c', 'printf out; exit 3'], b'', environment={}, timeout=1000,\n"
        "            inside=Path(sys.argv[3]), outputs=Path(sys.argv[4]))\n"
    )
    callers.append(Caller(temporary, code, altered_guard(moment), os.fspath(given), os.fspath(outputs)))
    assert callers[0].process.wait() == -signal.SIGKILL
    assert (outputs / "stdout").read_bytes() == b"out"
    told = kept(outputs)
    assert (told is not None) is tells
    if told is not None:
        assert (told.ended, told.exit_code, told.stdout) == ("exited", 3, b"out")


def test_what_it_printed_and_how_it_ended_are_brought_to_the_disk_in_that_order(
    altered_guard: Callable[[str], str], outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[int] = []
    fsync = os.fsync

    def note(fd: int) -> None:
        names.append(os.fstat(fd).st_ino)
        fsync(fd)

    log = tmp_path / "log"
    synced = (
        f"log = open({os.fspath(log)!r}, 'w')\n"
        "os.fsync = lambda fd: print(os.fstat(fd).st_ino, os.fstat(fd).st_size, file=log, flush=True)"
    )
    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(guard, "__file__", altered_guard(synced))
    run_shell("printf out; printf error >&2", outputs=outputs)
    assert names == [outputs.stat().st_ino]
    files = [(outputs / name).stat() for name in ("stdout", "stderr", "notes")]
    assert log.read_text().splitlines() == [f"{file.st_ino} {file.st_size}" for file in files]


@pytest.mark.parametrize(
    "notes",
    [
        b"",
        b"exited",
        b"exited x\0",
        b"exited 1e3\0",
        b"exited 256\0",
        b"exited -9999999999\0",
        b"exited \xff\0",
        b"not-started\0",
        b"\xff\xfe\0\0",
    ],
)
def test_what_is_there_and_does_not_tell_an_end_tells_none(notes: bytes, outputs: Path) -> None:
    for name in ("stdout", "stderr"):
        (outputs / name).write_text("something")
    (outputs / "notes").write_bytes(notes)
    assert kept(outputs) is None


@pytest.mark.parametrize("started", [b"never", b"nan", b"-inf", b"inf", b"1e999", b"99999999999", b"0"])
def test_a_beginning_that_cannot_be_is_not_believed(started: bytes, outputs: Path) -> None:
    (outputs / "notes").write_bytes(b"started %b\0command 7\0exited 0\0" % started)
    told = kept(outputs)
    assert told is not None
    assert (told.exit_code, told.seconds) == (0, 0)


def test_no_link_in_the_place_of_an_output_is_followed(outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    run_shell("echo out", outputs=outputs)
    (outputs / "stdout").unlink()
    (outputs / "stdout").symlink_to(tmp_path / "secret")
    told = kept(outputs)
    assert told is not None
    assert told.stdout == b""
    (outputs / "notes").rename(tmp_path / "notes")
    (outputs / "notes").symlink_to(tmp_path / "notes")
    assert kept(outputs) is None
