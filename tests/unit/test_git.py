"""Running git: bounded, without asking anybody, and without running what others left in a repository."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_scylla.running import git as module
from pytest_scylla.running.git import GitFailed, clone, run_git, unwelcome_settings, without_password

from .repositories import commit, git, make_task, needs_git, write

Stand = Callable[[str], None]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Let a shell script be git."""

    def make(script: str) -> None:
        place = tmp_path / "bin" / "git"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(0o755)
        monkeypatch.setenv("PATH", f"{place.parent}{os.pathsep}{os.environ['PATH']}")

    return make


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a commit."""
    make_task(tmp_path / "repository")
    return tmp_path / "repository"


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, but not for ever."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that nobody waited for yet is dead as well.
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def failure(call: Callable[[], object]) -> str:
    """What a command that fails tells."""
    with pytest.raises(GitFailed) as caught:
        call()
    told = str(caught.value)
    assert told.isprintable()
    assert "::" not in told
    return told


# ------------------------------------------------------------------------------------------------------------- commands


@needs_git
def test_a_command_returns_the_bytes_that_it_printed(repository: Path) -> None:
    write(repository, {"latin.txt": ""})
    (repository / "latin.txt").write_bytes(b"caf\xe9\0\n")
    commit(repository, "Latin")
    assert run_git(["cat-file", "blob", "HEAD:latin.txt"], git_dir=repository / ".git") == b"caf\xe9\0\n"


@needs_git
def test_a_command_is_given_its_standard_input(repository: Path) -> None:
    assert run_git(["hash-object", "--stdin"], stdin=b"x\n", git_dir=repository / ".git").strip() == (
        b"587be6b4c3f93f93c489c0111bba5596147a26cb"
    )


@needs_git
def test_a_command_that_fails_says_which_and_why(repository: Path) -> None:
    told = failure(lambda: run_git(["rev-parse", "--verify", "nothing"], git_dir=repository / ".git"))
    assert told == "git rev-parse: fatal: Needed a single revision"
    told = failure(lambda: run_git(["worktree", "add", "/dev/null/x", "HEAD"], git_dir=repository / ".git"))
    assert told.startswith("git worktree add: ")


def test_of_many_lines_the_last_one_that_says_why_is_told(stand_in: Stand) -> None:
    stand_in("printf 'fatal: first\\nfatal: \\033[31mthe reason::\\nhint: try this\\n' >&2; exit 3")
    assert failure(lambda: run_git(["status"])) == "git status: fatal: \\x1b[31mthe reason:\\x3a"
    stand_in("exit 3")
    assert failure(lambda: run_git(["status"])) == "git status: exit code 3"


def test_an_error_tells_no_password(stand_in: Stand) -> None:
    stand_in("echo \"fatal: unable to access 'https://me:secret@example.org/task.git/': no\" >&2; exit 128")
    told = failure(lambda: clone("https://me:secret@example.org/task.git", Path("/nowhere")))
    assert told == "git clone: fatal: unable to access 'https://example.org/task.git/': no"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://token@host/x", "https://host/x"),
        ("ssh://git:pw@host:22/x and https://a:b@c", "ssh://host:22/x and https://c"),
        ("https://host/a@b", "https://host/a@b"),
        ("git@host:x", "git@host:x"),
    ],
)
def test_user_names_and_passwords_are_left_out_of_urls(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_without_git_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert failure(lambda: run_git(["status"])) == "git status: No such file or directory"


def test_an_argument_that_no_command_can_have_is_a_failure() -> None:
    assert failure(lambda: run_git(["status", "a\0b"])).startswith("git status: ")


# --------------------------------------------------------------------------------------------------------------- bounds


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(stand_in: Stand, tmp_path: Path) -> None:
    stand_in(f"sleep 60 & echo $! > {tmp_path}/pid; sleep 60")
    start = time.monotonic()
    assert failure(lambda: run_git(["status"], timeout=0.5)) == "git status: not finished within 0.5 s"
    assert time.monotonic() - start < 20
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not is_alive(pid))


def test_what_holds_the_output_open_is_not_waited_for_longer_than_that(stand_in: Stand) -> None:
    stand_in("sleep 60 & exit 0")
    start = time.monotonic()
    assert run_git(["status"], timeout=0.5) == b""
    assert time.monotonic() - start < 20


def test_a_command_may_clean_up_before_it_is_ended(stand_in: Stand, tmp_path: Path) -> None:
    stand_in(f"trap 'echo > {tmp_path}/cleaned; exit 1' TERM; while :; do sleep 0.01; done")
    failure(lambda: run_git(["status"], timeout=0.5))
    assert (tmp_path / "cleaned").exists()


def test_a_command_that_will_not_end_is_killed(
    stand_in: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.2)
    stand_in(f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.01; done")
    failure(lambda: run_git(["status"], timeout=0.5))
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not is_alive(pid))


def test_a_command_that_prints_too_much_is_ended(stand_in: Stand) -> None:
    stand_in("yes")
    assert failure(lambda: run_git(["log"], most=5000)) == "git log: printed more than 5,000 bytes"
    assert run_git(["log"], most=7, cut=True) == b"y\ny\ny\ny"


def test_exactly_as_much_as_is_allowed_is_not_too_much(stand_in: Stand) -> None:
    stand_in("printf 12345")
    assert run_git(["log"], most=5) == b"12345"
    assert run_git(["log"], most=5, cut=True) == b"12345"
    stand_in("printf 12345; exit 1")
    assert failure(lambda: run_git(["log"], most=5, cut=True)) == "git log: exit code 1"


def test_an_interrupted_session_leaves_no_command(stand_in: Stand, tmp_path: Path) -> None:
    stand_in(f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 60")

    def interrupt() -> None:
        until((tmp_path / "pid").exists)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        run_git(["status"])
    interrupting.join()
    assert not is_alive(int((tmp_path / "pid").read_text()))


# ------------------------------------------------------------------------------------------------- nobody else's matter


def test_a_command_runs_nowhere_in_particular_and_has_no_terminal(stand_in: Stand) -> None:
    stand_in("pwd; if ( : < /dev/tty ) 2> /dev/null; then echo terminal; fi; cat")
    code = "from pytest_scylla.running.git import run_git; print(run_git(['status'], stdin=b'given').decode())"
    # In a session that has a terminal, as a user's has.
    done = subprocess.run(
        [sys.executable, "-c", f"import pty, sys; sys.exit(pty.spawn([sys.executable, '-c', {code!r}]))"],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout.split() == ["/", "given"]


@needs_git
def test_variables_that_lead_git_elsewhere_are_not_passed_on(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_task(tmp_path / "other", {"other": ""})
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "other" / ".git" / "objects"))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.bare=nonsense'")
    assert b"README" in run_git(["ls-files"], git_dir=repository / ".git")
    clone(str(repository), tmp_path / "clone")
    assert (tmp_path / "clone" / ".git" / "HEAD").exists()


def test_only_a_clone_has_the_users_access(stand_in: Stand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(f"env | sort > {tmp_path}/environment")
    for name in ("GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_TRACE", "SSH_ASKPASS"):
        monkeypatch.setenv(name, "users")

    def environment() -> dict[str, str]:
        lines = (tmp_path / "environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line.startswith(("GIT_", "SSH_ASK", "LC_ALL")))

    run_git(["status"])
    local = environment()
    assert local["GIT_CONFIG_GLOBAL"] == "/dev/null"
    assert "GIT_SSH_COMMAND" not in local
    assert "GIT_TRACE" not in local
    clone("https://example.org/x", tmp_path / "x")
    remote = environment()
    assert {remote[name] for name in ("GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL")} == {"users"}
    assert not {"GIT_TRACE", "SSH_ASKPASS"} & remote.keys()
    assert remote["GIT_ALLOW_PROTOCOL"] == "https:ssh:file"
    for both in (local, remote):
        assert both["GIT_TERMINAL_PROMPT"] == "0"
        assert both["GIT_CONFIG_NOSYSTEM"] == "1"
        assert both["LC_ALL"] == "C"
        assert both["GIT_AUTHOR_NAME"] == both["GIT_COMMITTER_NAME"] == "pytest-scylla"


@needs_git
def test_no_hook_runs(repository: Path, tmp_path: Path) -> None:
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho >> {tmp_path}/ran\n")
    hook.chmod(0o755)
    run_git(["worktree", "add", "--detach", str(tmp_path / "w1")], git_dir=repository / ".git")
    assert not (tmp_path / "ran").exists()
    git(repository, "worktree", "add", "--detach", str(tmp_path / "w2"))
    assert (tmp_path / "ran").exists()  # it would have


@needs_git
def test_no_file_system_monitor_runs(repository: Path, tmp_path: Path) -> None:
    monitor = tmp_path / "monitor"
    monitor.write_text(f"#!/bin/sh\necho >> {tmp_path}/ran\nexit 1\n")
    monitor.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(monitor))
    run_git(["status"], git_dir=repository / ".git", work_tree=repository)
    assert not (tmp_path / "ran").exists()
    git(repository, "status")
    assert (tmp_path / "ran").exists()


@needs_git
def test_a_lacking_object_is_not_fetched_by_a_command_of_the_configuration(repository: Path, tmp_path: Path) -> None:
    """Every setting of this is one that a base repository may have."""
    blob = git(repository, "rev-parse", "HEAD:README")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    git(repository, "config", "remote.origin.url", str(repository))
    git(repository, "config", "remote.origin.promisor", "true")
    git(repository, "config", "remote.origin.uploadpack", f"echo >> {tmp_path}/ran; git-upload-pack")
    assert unwelcome_settings((repository / ".git" / "config").read_bytes()) == []
    failure(lambda: run_git(["worktree", "add", "--detach", str(tmp_path / "w1")], git_dir=repository / ".git"))
    failure(lambda: run_git(["cat-file", "blob", blob], git_dir=repository / ".git"))
    assert not (tmp_path / "ran").exists()
    with pytest.raises(AssertionError):
        git(repository, "cat-file", "blob", blob)
    assert (tmp_path / "ran").exists()


@needs_git
def test_replaced_objects_are_not_believed(repository: Path) -> None:
    """Whoever may write into a repository could let one commit stand for another."""
    first = git(repository, "rev-parse", "HEAD")
    write(repository, {"README": "Something else\n"})
    git(repository, "replace", first, commit(repository, "Another"))
    assert git(repository, "show", f"{first}:README") == "Something else"
    assert run_git(["show", f"{first}:README"], git_dir=repository / ".git") == b"Count words.\n"


# -------------------------------------------------------------------------------------------------------------- cloning


@needs_git
def test_a_clone_holds_all_of_the_history_and_nothing_of_the_users_templates(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"template/hooks/post-checkout": "", "users": f"[init]\ntemplateDir = {tmp_path}/template\n"})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "users"))
    first = git(repository, "rev-parse", "HEAD")
    write(repository, {"more": ""})
    commit(repository, "More")
    for source in (str(repository), repository.as_uri()):
        target = tmp_path / f"clone of {source.replace('/', '-')}"
        clone(source, target)
        assert git(target, "cat-file", "-t", first) == "commit"
        assert not (target / ".git" / "hooks").exists()
        assert unwelcome_settings((target / ".git" / "config").read_bytes()) == []
        files = [path for path in (target / ".git" / "objects").rglob("*") if path.is_file()]
        assert files
        assert all(path.stat().st_nlink == 1 for path in files)


@needs_git
def test_a_clone_runs_nothing_that_its_source_names(repository: Path, tmp_path: Path) -> None:
    failure(lambda: clone(f"ext::sh -c 'echo >> {tmp_path}/ran'", tmp_path / "clone"))
    failure(lambda: clone(f"--upload-pack=echo >> {tmp_path}/ran; git-upload-pack", tmp_path / "clone"))
    assert not (tmp_path / "ran").exists()


@needs_git
@pytest.mark.parametrize("scheme", ["http", "git", "ftp"])
def test_a_clone_is_made_by_safe_transports_only(tmp_path: Path, scheme: str) -> None:
    told = failure(lambda: clone(f"{scheme}://localhost:1/x", tmp_path / "clone"))
    assert "not allowed" in told


# ------------------------------------------------------------------------------------------------------------- settings


@needs_git
@pytest.mark.parametrize(
    ("config", "names"),
    [
        ("", []),
        ("[core]\nrepositoryformatversion = 0\nfilemode = true\nbare = false\nlogallrefupdates = true", []),
        ("[core]\nfilemode = true\nignorecase = true\nprecomposeunicode = true", []),  # of a clone on macOS
        ("[core]\nfilemode = false\nsymlinks = false\nignorecase = true", []),  # of one on Windows
        ("[core]\nprecomposeunicodex = true\nxsymlinks = true", ["core.precomposeunicodex", "core.xsymlinks"]),
        ('[remote "origin"]\nurl = x\nfetch = +refs/heads/*:refs/remotes/origin/*', []),
        ('[branch "main"]\nremote = origin\nmerge = refs/heads/main\n[user]\nname = x\nemail = y', []),
        ("[core]\nhooksPath = x", ["core.hookspath"]),
        ("[CORE]\nFSMonitor = x\n[core]\nfsmonitor = y", ["core.fsmonitor"]),
        ('[filter "x"]\nsmudge = x\nclean = y', ["filter.x.smudge", "filter.x.clean"]),
        ('[diff "remote.x"]\ntextconv = x', ["diff.remote.x.textconv"]),
        ("[include]\npath = /dev/zero", ["include.path"]),
        ('[includeIf "gitdir:/"]\npath = x', ["includeif.gitdir:/.path"]),
        ("[alias]\nworktree = !x", ["alias.worktree"]),
        ("[extensions]\nworktreeConfig = true", ["extensions.worktreeconfig"]),
        ("[corex]\nbare = x", ["corex.bare"]),
        ("[remotes]\nx = y", ["remotes.x"]),
        ("[core]\nbare", []),
        ('[remote "a\\nb.core.x"]\nurl = x', []),
        ('[x "remote.origin"]\nurl = x', ["x.remote.origin.url"]),
    ],
)
def test_settings_of_another_kind_than_a_clone_has_are_unwelcome(config: str, names: list[str]) -> None:
    assert unwelcome_settings(config.encode()) == names


@needs_git
@pytest.mark.parametrize("config", [b"[core", b"\xff\xfe\0", b"= x", b'[core]\nbare = "x'])
def test_a_file_that_is_no_configuration_is_a_failure(config: bytes) -> None:
    assert failure(lambda: unwelcome_settings(config)).startswith("git config: ")
