"""Git, run so that nothing that others left in a repository runs with it.

An agent may write whatever it likes into its workspace and into the repository behind it. So no command is started in
there; hooks, file system monitors, other configurations and every transport are off; and a repository whose own
configuration could still name a program (a filter, a diff driver, an editor) is to be refused before any other command
looks at it: see :func:`unwelcome_settings`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..experiment.wording import printable

MOST_OUTPUT = 16 * 1024 * 1024
TIMEOUT = 300.0
CLONE_TIMEOUT = 3600.0

_GRACE = 10.0
"""How long a command that is ended has to remove its lock files."""

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "gc.auto=0",  # which prunes worktrees
    "maintenance.auto=false",
    "submodule.recurse=false",
)
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": "/dev/null",
    "GIT_AUTHOR_NAME": "pytest-scylla",
    "GIT_AUTHOR_EMAIL": "pytest-scylla@localhost",
    "GIT_COMMITTER_NAME": "pytest-scylla",
    "GIT_COMMITTER_EMAIL": "pytest-scylla@localhost",
    "LC_ALL": "C",
}
_LOCAL = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    # Of an object that is lacking, a configured remote would be asked, by a command that the configuration names.
    "GIT_ALLOW_PROTOCOL": "none",
}
_ACCESS = re.compile(
    r"GIT_(?:SSH|SSH_COMMAND|SSH_VARIANT|ASKPASS|SSL_\w+|HTTP_\w+|PROXY_\w+|CONFIG_(?:GLOBAL|COUNT|KEY_\d+|VALUE_\d+))"
)
"""The variables by which a user gives git access to a remote; all others of git's own would lead it elsewhere."""

_HARMLESS = re.compile(
    # The last three tell of a file system what a clone found out: those of macOS and Windows differ from Linux's.
    r"core\.(?:repositoryformatversion|bare|logallrefupdates|filemode|ignorecase|precomposeunicode|symlinks)"
    r"|(?:remote|branch|user)\..*",
    re.DOTALL,
)
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


class GitFailed(Exception):
    """A git command failed; ``str()`` says which and why, in one printable line without passwords."""


def run_git(
    arguments: Sequence[str],
    *,
    git_dir: Path | None = None,
    work_tree: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float = TIMEOUT,
    most: int = MOST_OUTPUT,
    cut: bool = False,
) -> bytes:
    """Run a git command that needs no remote, and return what it printed.

    :param git_dir: the repository, which is not searched for; it is to have no unwelcome settings.
    :param work_tree: the files, where they are not the command's own matter.
    :param environment: variables beside the usual ones.
    :param timeout: in seconds.
    :param most: how many bytes it may print.
    :param cut: leave the rest of a longer output out, instead of failing.
    :raises GitFailed: it cannot be started, fails, takes too long, or prints too much.
    """
    command = ["git", "--no-pager", *(word for setting in _SETTINGS for word in ("-c", setting))]
    if git_dir is not None:
        command.append(f"--git-dir={git_dir}")
    if work_tree is not None:
        command.append(f"--work-tree={work_tree}")
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return _run(
        [*command, *arguments],
        _name_of(arguments),
        {**own, **_ENVIRONMENT, **_LOCAL, **(environment or {})},
        stdin=stdin,
        timeout=timeout,
        most=most,
        cut=cut,
    )


def clone(source: str, target: Path, *, timeout: float = CLONE_TIMEOUT) -> None:
    """Clone the repository ``source``, a URL or an absolute path, to ``target``, without checking anything out.

    The user's own git configuration holds, because it gives access. Nobody is asked for a password.

    :param timeout: in seconds.
    :raises GitFailed: it cannot be cloned; what there is of ``target`` then is for the caller to remove.
    """
    command = ["git", "--no-pager", *(word for setting in _SETTINGS for word in ("-c", setting))]
    command += ["clone", "--quiet", "--no-checkout", "--no-hardlinks", "--no-recurse-submodules", "--template="]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or _ACCESS.fullmatch(name)}
    own.pop("SSH_ASKPASS", None)
    environment = {**own, **_ENVIRONMENT, "GIT_ALLOW_PROTOCOL": "https:ssh:file"}
    command += ["--", source, os.fspath(target)]
    _run(command, "clone", environment, stdin=b"", timeout=timeout, most=MOST_OUTPUT, cut=False)


def unwelcome_settings(config: bytes) -> list[str]:
    """The names of those settings in a repository's configuration file that it is to be refused for.

    :param config: the file's content. What it includes is not read: ``include.path`` is itself unwelcome.
    :raises GitFailed: it is no configuration.
    """
    listed = run_git(["config", "--file", "-", "--no-includes", "--list", "--name-only", "--null"], stdin=config)
    names = dict.fromkeys(name for name in listed.decode("utf-8", "replace").split("\0") if name)
    return [name for name in names if not _HARMLESS.fullmatch(name)]


def without_password(text: str) -> str:
    """``text`` without the user names and passwords of the URLs in it.

    >>> without_password("https://me:secret@example.org/task.git")
    'https://example.org/task.git'
    """
    return _PASSWORD.sub("", text)


def _name_of(arguments: Sequence[str]) -> str:
    """What to call a command by: ``worktree add``, ``rev-parse``."""
    return " ".join(arguments[: 2 if arguments[0] == "worktree" else 1])


def _run(
    command: list[str],
    name: str,
    environment: Mapping[str, str],
    *,
    stdin: bytes,
    timeout: float,
    most: int,
    cut: bool,
) -> bytes:
    # Files and not pipes, so that no more than one stream has to be attended to.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        try:
            # A session of its own has no terminal to ask for a password at, and is ended as a whole.
            process = subprocess.Popen(  # noqa: S603
                command, cwd="/", env=environment, stdin=given, stdout=subprocess.PIPE, stderr=errors,
                start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            raise GitFailed(printable(f"git {name}: {reason}")) from None
        output, late = _attend(process, timeout, most)
        told = _last_words(errors)
    if late:
        raise GitFailed(f"git {name}: not finished within {timeout:g} s")
    if len(output) > most:
        if not cut:
            raise GitFailed(f"git {name}: printed more than {most:,} bytes")
        return output[:most]
    if process.returncode:
        raise GitFailed(printable(f"git {name}: {without_password(told) or f'exit code {process.returncode}'}"))
    return output


def _attend(process: subprocess.Popen[bytes], timeout: float, most: int) -> tuple[bytes, bool]:
    """Read what a command prints, one byte more than ``most`` at most, until it ended; and if it was late."""
    late = threading.Event()

    def end_late() -> None:
        late.set()
        _end(process)

    timer = threading.Timer(timeout, end_late)
    timer.daemon = True
    timer.start()
    try:
        assert process.stdout is not None
        with process.stdout as printed:
            output = printed.read(most + 1)
        if len(output) > most:
            _end(process)
        process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        timer.cancel()
        timer.join()
    return output, late.is_set() and process.returncode != 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command with all that it started; first in a way that lets it clean up."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)


def _last_words(errors: IO[bytes]) -> str:
    """The line of a command's standard error that says why it failed."""
    errors.seek(max(errors.seek(0, os.SEEK_END) - 64 * 1024, 0))
    lines = [line.strip() for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (fatal or lines or [""])[-1]
