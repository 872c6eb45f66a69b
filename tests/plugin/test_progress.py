"""The line that tells how far judging is: what it says, how it keeps out of pytest's way, and where there is none."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.synthetic import small
from pytest_scylla.calling.pauses import set_pause
from pytest_scylla.experiment.keeping import Keeping
from pytest_scylla.progress import LIVE, PLAIN, Limit, Pace, progress_line

from .support import (
    ALONE,
    NASTY,
    Project,
    edit_json,
    logged,
    lose_judgment,
    lose_run,
    lose_slot,
    node_id,
    write_logging,
)

NOW = datetime(2026, 3, 1, 14, 30, tzinfo=timezone.utc)

FIRST, SECOND = "T0/00/run_01/judge_01", "T1/02/run_01/judge_02"
"""The first item, and a slot of another run and model."""

MODELS = dict(zip((FIRST, SECOND), small().judge_models, strict=False))

PATIENCE = 300.0
"""How long to wait, in seconds, for what is sure to come."""


# The text


def _line(**changes: Any) -> str:
    return progress_line(NOW, **{"done": 3, "total": 9, "elapsed": 60.0, "costs": (0.5, 0.25, 0.25), **changes})


def _at(hour: int, minute: int = 0, second: int = 0, days: int = 0) -> datetime:
    return NOW.replace(hour=hour, minute=minute, second=second) + timedelta(days=days)


def test_it_tells_calls_done_time_taken_and_left_cost_and_what_waits() -> None:
    waiting = [Limit("claude-opus-4-5", _at(16))]
    assert progress_line(NOW, done=12, total=160, elapsed=480.0, costs=[0.12] * 11 + [0.1], limits=waiting) == (
        "judging: limit of claude-opus-4-5 until 16:00; 12 of 160 calls, 8 min, about 1 h 40 min left, 1.42 USD"
    )


def test_before_the_first_call_is_done_nothing_is_told_of_cost_and_time_left() -> None:
    assert progress_line(NOW, done=0, total=1, elapsed=4.2) == "judging: 0 of 1 call, 4 s"


def test_before_the_first_call_is_done_the_time_left_is_the_expected_one_less_what_has_passed() -> None:
    assert _line(done=0, costs=(), expected=60 + 240) == "judging: 0 of 9 calls, 1 min, about 4 min left"


def test_what_takes_longer_than_expected_has_no_known_end() -> None:
    assert _line(done=0, costs=(), expected=59.0) == "judging: 0 of 9 calls, 1 min"


def test_once_a_call_is_done_what_was_expected_does_not_matter() -> None:
    assert "about 2 min left" in _line(expected=7200.0)


def test_slots_that_were_given_up_without_a_call_do_not_make_calls_look_fast() -> None:
    assert "3 of 9 calls, 1 min, about 6 min left" in _line(costs=(1.0,))


def test_nothing_takes_any_time_once_all_is_done() -> None:
    assert _line(done=9) == "judging: 9 of 9 calls, 1 min, 1.00 USD"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.1, "10 s"),
        (17, "20 s"),
        (57, "1 min"),
        (61, "1 min"),
        (100, "2 min"),
        (3590, "1 h"),
        (3600 + 260, "1 h"),
        (3600 + 2000, "1 h 30 min"),
    ],
)
def test_the_time_left_is_told_no_more_exactly_than_it_is_known(seconds: float, told: str) -> None:
    assert f", about {told} left" in _line(done=0, costs=(), elapsed=0.0, expected=seconds)


@pytest.mark.parametrize(
    ("costs", "told"),
    [
        ((0.1, 0.2), "0.30 USD"),
        ((0.0,), "0.00 USD"),
        ((0.1, None), "at least 0.10 USD"),
        ((None, None), "cost unknown"),
    ],
)
def test_a_cost_is_told_as_far_as_it_is_known(costs: tuple[float | None, ...], told: str) -> None:
    assert _line(costs=costs).endswith(f" left, {told}")


def test_nothing_that_waits_is_done_before_its_limit_ends() -> None:
    assert "about 2 h left" in _line(limits=[Limit("opus", _at(16, 30)), Limit("haiku", _at(15))])
    assert "about 2 h left" in _line(elapsed=3600.0, limits=[Limit("opus", _at(15))])


def test_how_long_a_limit_lasts_does_not_tell_how_long_calls_take() -> None:
    assert _line(done=0, costs=(), limits=[Limit("opus", _at(16))]) == (
        "judging: limit of opus until 16:00; 0 of 9 calls, 1 min"
    )


def test_what_waits_is_told_in_the_order_in_which_it_ends() -> None:
    limits = [Limit("opus", _at(17)), Limit("haiku", _at(18)), Limit("sonnet", _at(16))]
    line = _line(limits=limits)
    assert line.startswith("judging: limit of sonnet until 16:00, opus until 17:00, haiku until 18:00; 3 of 9 calls, ")


@pytest.mark.parametrize(
    ("until", "told"),
    [
        (_at(16, 0, 0), "16:00"),
        (_at(16, 0, 1), "16:01"),
        (_at(23, 59, 30), "2026-03-02 00:00"),
        (_at(14, 30, days=1), "2026-03-02 14:30"),
    ],
)
def test_a_limit_is_over_at_the_minute_that_is_told(until: datetime, told: str) -> None:
    assert _line(limits=[Limit("opus", until)]).startswith(f"judging: limit of opus until {told}; ")


def test_of_a_long_name_so_much_is_told_that_80_columns_hold_the_end_of_the_limit() -> None:
    line = _line(doing="repairing", limits=[Limit("us.anthropic.claude-opus-4-5-20251101-v1:0", _at(14, days=1))])
    assert line[:79].startswith("repairing: limit of us.anthropic.claude-opus-4-5.. until 2026-03-02 14:00; ")
    whole = Limit("us.anthropic.claude-opus-4-5", _at(16))
    assert _line(limits=[whole]).startswith(f"judging: limit of {whole.model} until 16:00; ")


@given(model=st.text(max_size=200) | st.just(NASTY), done=st.integers(0, 9))
def test_whatever_a_model_is_called_the_line_is_one_of_plain_characters(model: str, done: int) -> None:
    line = _line(done=done, limits=[Limit(model, _at(16))])
    assert line.isascii()
    assert line.isprintable()
    assert " until 16:00; " in line[:79]
    assert "::" not in line
    assert "##" not in line


def test_a_terminal_shows_it_soon_and_every_second_and_a_log_gets_one_a_minute() -> None:
    assert Pace(first=2, every=1) == LIVE
    assert Pace(first=60, every=60) == PLAIN


# A session whose judge answers when it is told to, on a terminal or not

QUICK, NEVER = "Pace(0.0, 0.02)", "Pace(3600.0, 3600.0)"

CONFTEST = """\
import json
import os
import threading
import time
from datetime import datetime, timedelta, timezone

from pytest_scylla import progress
from pytest_scylla.judging.contract import JudgeLimit, JudgePermanent, JudgeReply
from benchmarks.synthetic import small
from pytest_scylla.calling.pauses import set_pause
from pytest_scylla.experiment.keeping import Keeping
from pytest_scylla.progress import JudgingProgress, Pace
from pytest_scylla.running.contract import AgentPermanent, Workspace
from pytest_scylla.settings import read_settings


ticks = []
pauses = progress.pauses


def counted(*arguments):
    ticks.append(1)
    return pauses(*arguments)


progress.pauses = counted


def wait_for_ticks():
    enough = len(ticks) + 4
    while len(ticks) < enough:
        time.sleep(0.001)


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name == "scylla-progress"]


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    manager, pace = config.pluginmanager, {pace}
    if manager.has_plugin("scylla-progress"):
        manager.unregister(name="scylla-progress")
    shown = JudgingProgress(
        config, read_settings(config), manager.get_plugin("scylla-session").experiments, live=pace, plain=pace
    )
    manager.register(shown, "scylla-progress")


@pytest.hookimpl(trylast=True)
def pytest_runtest_logstart(nodeid):
    log("item", nodeid, *threads())


@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_testnodedown(node):
    log("down")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    log("end", *threads())


def wait_for_word(request):
    log("asked", request.slot_id, *threads())
    with (LOG.parent / request.slot_id.replace("/", "-")).open():
        pass


def reply(cost_usd=0.25):
    return JudgeReply(json.dumps(dict(score=0.9, passed=True, reasoning="good")), cost_usd)


@pytest.fixture(scope="session")
def scylla_judge(pytestconfig):
    def judge(request):
{judge}

    judge.command = "stand-in"
    return judge


@pytest.fixture(scope="session")
def scylla_workspace():
    def make_workspace(request):
        path = request.run_directory / "workspace"
        path.mkdir(parents=True)
        return Workspace(path, "branch", "0" * 40)

    return make_workspace


@pytest.fixture(scope="session")
def scylla_agent():
    def run(request):
        log("ran", request.run_id, *threads())
        with (LOG.parent / request.run_id.replace("/", "-")).open():
            raise AgentPermanent("it does not work", cost_usd=0.5)

    run.command = "stand-in"
    return run
"""

ANSWERS = """\
wait_for_word(request)
return reply()
"""

AT_ONCE = """\
log("asked", request.slot_id, *threads())
return reply()
"""


def _indented(text: str, by: int = 4) -> str:
    return text.rstrip().replace("\n", "\n" + " " * by)


def _prepare(project: Project, *slots: str, judge: str = ANSWERS, pace: str = QUICK) -> None:
    """Lose ``slots``; whoever judges one of them and waits for a word is stopped until :func:`_word` is given."""
    write_logging(project, CONFTEST.replace("{pace}", pace).replace("{judge}", f"        {_indented(judge, 8)}"))
    for slot in slots:
        lose_slot(project.experiment, slot)
        with suppress(FileExistsError):
            os.mkfifo(project.path / slot.replace("/", "-"))


def _expect(project: Project, seconds: float) -> None:
    """Let each call of any judge have taken so long before."""
    for path in project.experiment.glob("T*/*/run_*/judge/judge_*/timing.json"):
        edit_json(path, judge_duration_seconds=seconds)


def _word(project: Project, slot: str) -> None:
    """Give the word that the judge of ``slot`` waits for, once it is asked."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            os.close(os.open(project.path / slot.replace("/", "-"), os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            assert time.monotonic() < deadline, f"nobody asked about {slot}: {logged(project)}"
            time.sleep(0.01)
        else:
            return


class Screen:
    """What a terminal shows that is high enough for everything."""

    def __init__(self, text: str, columns: int) -> None:
        self._columns = columns
        self._rows: list[list[str]] = [[]]
        self._row = self._column = 0
        for token in re.finditer(r"\x1b\[([0-9;]*)([A-Za-z])|[^\x1b]", text):
            if token[2]:
                self._obey(token[2], int(token[1]) if token[1].isdigit() else 1)
            else:
                self._print(token[0])

    def _obey(self, command: str, count: int) -> None:
        assert command in "KACm"
        if command == "K":
            del self._cells[self._column :]
        elif command == "A":
            self._row = max(0, self._row - count)
        elif command == "C":
            self._column = min(self._columns - 1, self._column + count)

    def _print(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._row += 1
        else:
            if self._column == self._columns:
                self._row, self._column = self._row + 1, 0
            cells = self._cells
            cells += " " * (self._column + 1 - len(cells))
            cells[self._column] = character
            self._column += 1

    @property
    def _cells(self) -> list[str]:
        self._rows += ([] for _ in range(self._row + 1 - len(self._rows)))
        return self._rows[self._row]

    @property
    def lines(self) -> list[str]:
        """Its lines, from the top."""
        return ["".join(cells).rstrip() for cells in self._rows]


class Running:
    """A session in a process of its own, and what it printed so far: on a terminal of so many columns, or in a pipe."""

    def __init__(self, project: Project, *args: str, columns: int = 0, term: str = "xterm") -> None:
        self.columns = columns
        self.text = ""
        self._ended = False
        self._changed = threading.Condition()
        environment = {**os.environ, "TERM": term, "PYTHONUNBUFFERED": ""}
        for name in ("COLUMNS", "LINES", "PY_COLORS"):
            environment.pop(name, None)
        command = [sys.executable, "-m", "pytest", *ALONE, "--scylla-exp=exp", *args]
        self._here, there = pty.openpty() if columns else os.pipe()
        if columns:
            fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            cwd=project.path,
            env=environment,
            stdin=there if columns else subprocess.DEVNULL,
            stdout=there,
            stderr=there,
            start_new_session=True,
        )
        os.close(there)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # a terminal that nobody has open any more
            while data := os.read(self._here, 65536):
                with self._changed:
                    self.text += data.decode()
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str, after: int = 0) -> int:
        """Wait until something matches that was printed behind the first ``after`` characters; return where it ends."""
        found: list[re.Match[str]] = []

        def seen() -> bool:
            found[:] = [match for match in [re.compile(pattern).search(self.text, after)] if match]
            return bool(found) or self._ended

        with self._changed:
            assert self._changed.wait_for(seen, PATIENCE), f"no {pattern!r} in {self.text}"
        assert found, f"no {pattern!r} in {self.text}"
        return found[0].end()

    def type(self, text: str) -> None:
        """Type on the terminal."""
        os.write(self._here, text.encode())

    def interrupt(self) -> None:
        """Do what the terminal does when Ctrl-C is typed."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        """Wait for the end; return the exit status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive()
        assert "INTERNALERROR" not in self.text
        return status

    @property
    def screen(self) -> list[str]:
        """What the terminal shows in the end."""
        return Screen(self.text, self.columns).lines

    @property
    def screen_without_times(self) -> list[str]:
        """The same but for the last line, which tells how long the session took."""
        last = re.search(r"\n[^\n]*\d+ passed[^\n]*\n$", self.text)
        assert last
        return Screen(self.text[: last.start()], self.columns).lines

    def close(self) -> None:
        """Leave no process behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(PATIENCE)
        if self._here >= 0:
            os.close(self._here)
            self._here = -1


Start = Callable[..., Running]


@pytest.fixture
def start(project: Project) -> Iterator[Start]:
    """Start a session in the project; with ``columns``, on a terminal."""
    running: list[Running] = []

    def started(*args: str, **how: Any) -> Running:
        running.append(Running(project, *args, **how))
        return running[-1]

    yield started
    for session in running:
        session.close()


def _unspoilt(project: Project, pristine: Path) -> None:
    """Put the experiment back as it was at first."""
    shutil.rmtree(project.experiment)
    project.copy(pristine, "exp")


# On a terminal


def test_while_a_judge_is_asked_the_line_is_repainted_below_those_of_pytest(project: Project, start: Start) -> None:
    _prepare(project, FIRST, SECOND)
    session = start("--repair", columns=120)
    place = session.wait_for(r"\rjudging: 0 of 2 calls, \d+ s[^\r]*\x1b\[K(?=\rjudging: 0 of 2 calls)")
    shown = Screen(session.text[:place], 120).lines
    assert shown[-2] == "exp"
    assert re.fullmatch(r"judging: 0 of 2 calls, \d+ s, about \d+ (s|min) left", shown[-1])
    assert not any("judging" in line for line in shown[:-1])
    _word(project, FIRST)
    session.wait_for(r"\rjudging: 1 of 2 calls, \d+ s, about \d+ s left, 0\.25 USD\x1b\[K")
    _word(project, SECOND)
    assert session.end() == 0
    assert not any("judging:" in line for line in session.screen)


@pytest.mark.parametrize(
    "options", [(), ("-v",), ("-n1",), ("-n1", "-v"), ("-o", "console_output_style=count")], ids=" ".join
)
def test_in_the_end_the_screen_is_as_if_it_had_never_been_shown(
    project: Project, start: Start, pristine_experiment: Path, options: tuple[str, ...]
) -> None:
    screens = []
    for pace in (QUICK, NEVER):
        _unspoilt(project, pristine_experiment)
        _prepare(project, FIRST, SECOND, pace=pace)
        session = start("--repair", *options, columns=80)
        for number, slot in enumerate((FIRST, SECOND)):
            if pace == QUICK:
                session.wait_for(f"judging: {number} of 2")
            _word(project, slot)
        assert session.end() == 0
        assert ("judging:" in session.text) is (pace == QUICK)
        screens.append(session.screen_without_times)
    assert screens[0] == screens[1]


STARTED = f"{node_id(FIRST)} "
"""What pytest writes, with -v, when the item of the first slot starts."""


@pytest.mark.parametrize("columns", [len(STARTED) // 2, len(STARTED), len(STARTED) + 1, 80])
def test_it_is_cut_where_the_terminal_ends_and_pytest_goes_on_where_it_was(
    project: Project, start: Start, pristine_experiment: Path, columns: int
) -> None:
    screens = []
    for pace in (QUICK, NEVER):
        _unspoilt(project, pristine_experiment)
        _prepare(project, FIRST, pace=pace)
        _expect(project, 6000)
        session = start("--repair", "-v", columns=columns)
        if pace == QUICK:
            place = session.wait_for(r"\rjudging: [^\r]*\x1b\[K(?=\rjudging)")
            *above, shown = Screen(session.text[:place], columns).lines
            assert "".join(above).endswith(STARTED.strip())
            assert (
                re.sub(r"\b\d s", "0 s", shown)
                == "judging: 0 of 1 call, 0 s, about 1 h 40 min left"[: columns - 1].rstrip()
            )
        _word(project, FIRST)
        assert session.end() == 0
        screens.append(session.screen_without_times)
    assert screens[0] == screens[1]


def test_it_is_shown_no_sooner_than_it_is_due(project: Project, start: Start) -> None:
    _prepare(project, FIRST, pace=NEVER)
    session = start("--repair", columns=80)
    _word(project, FIRST)
    assert session.end() == 0
    assert "judging:" not in session.text
    assert f"asked {FIRST} scylla-progress" in logged(project)


@pytest.mark.parametrize(
    "slots", [("T1/01/run_01/judge_01", "T1/01/run_01/judge_02"), (FIRST, SECOND)], ids=["one", "two"]
)
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_before_the_first_answer_the_time_left_is_what_calls_took_before_shared_by_the_workers_at_work(
    project: Project, start: Start, slots: tuple[str, str], workers: str
) -> None:
    _prepare(project, *slots)
    _expect(project, 6000)
    session = start("--repair", workers, columns=120)
    session.wait_for("judging: 0 of 2 calls")
    alike = workers == "-n0" or slots[0].rpartition("/")[0] == slots[1].rpartition("/")[0]
    session.wait_for(f"judging: 0 of 2 calls, \\d+ s, about {'3 h 20 min' if alike else '1 h 40 min'} left\x1b")


def test_where_nothing_tells_how_long_the_calls_of_one_model_take_no_time_is_told(
    project: Project, start: Start
) -> None:
    _prepare(project, FIRST, SECOND)
    for path in project.experiment.glob("T*/*/run_*/judge/judge_02/timing.json"):
        path.unlink()
    session = start("--repair", columns=120)
    session.wait_for(r"judging: 0 of 2 calls, \d+ s\x1b")


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        (ANSWERS.replace("reply()", "reply(None)"), ", cost unknown"),
        ("raise RuntimeError", ""),
        ("raise JudgePermanent('too long', cost_usd=0.05)", ", 0.05 USD"),
    ],
    ids=["answered", "raised", "permanent"],
)
def test_a_slot_is_done_with_however_that_ends(project: Project, start: Start, judge: str, told: str) -> None:
    _prepare(project, FIRST, SECOND, judge=f"if request.slot_id == '{SECOND}':\n    {_indented(ANSWERS)}\n{judge}")
    session = start("--repair", columns=120)
    if "wait_for_word" in judge:
        _word(project, FIRST)
    session.wait_for(rf"judging: 1 of 2 calls, \d+ s, about \d+ (s|min) left{told}\x1b")
    _word(project, SECOND)
    session.end()


def test_only_slots_are_counted_that_a_judge_is_going_to_be_asked_about(project: Project, start: Start) -> None:
    exhausted, absent, waived = "T1/01/run_01/judge_01", "T1/01/run_01/judge_02", "T1/01/run_01/judge_03"
    whole = [f"T1/02/run_01/judge_{number:02d}" for number in (1, 2, 3)]  # whose run waits for them, too
    _prepare(project, FIRST, exhausted, waived, *whole, judge="return JudgeReply('no')")
    once = ("--repair", "-o", "scylla_attempts=1")
    assert start(*once, f"--scylla-select={exhausted}").end() == 1
    shutil.rmtree(project.experiment / "T1/01/run_01/judge/judge_02")
    os.mkfifo(project.path / absent.replace("/", "-"))
    lose_run(project.experiment, "T1/01/run_02")
    lose_judgment(project.experiment, "T1/02/run_02/judge_01")  # another file gives that back
    project.write("waivers.yml", f"- item: {waived}\n  reason: it is known\n  until: 2999-01-01\n")
    _prepare(project)
    for number, options in (
        (4, ()),
        (4, ("-n1",)),
        (5, ("--repair-retry",)),
        (3, ("--repair-status=slot:failed",)),
    ):
        session = start(*once, "--scylla-select=T1/*", "--scylla-waivers=waivers.yml", *options, columns=120)
        session.wait_for(f"judging: 0 of {number} calls,")
        session.close()


def _lose_output(experiment: Path, run: str) -> None:
    for path in (experiment / run / "agent").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "options", "calls"),
    [(lose_run, (), "4 calls"), (_lose_output, (), "1 call"), (None, ("--repair-fresh",), "4 calls")],
    ids=["with its judges", "alone", "fresh"],
)
def test_where_agents_run_again_that_counts_like_the_judge_calls_behind_it(
    project: Project, start: Start, damage: Callable[[Path, str], None] | None, options: tuple[str, ...], calls: str
) -> None:
    run = "T1/01/run_02"
    _prepare(project)
    if damage is not None:
        damage(project.experiment, run)
    os.mkfifo(project.path / run.replace("/", "-"))
    session = start("--repair", "--repair-level=agents", f"--scylla-select={run}", *options, columns=120)
    session.wait_for(f"repairing: 0 of {calls}, ")
    _word(project, run)
    session.end()
    assert f"ran {run} scylla-progress" in logged(project)


# Limits


def _lift(model: str, minutes: float) -> str:
    return f"""\
if request.model == "{model}":
    log("limited", request.slot_id)
    raise JudgeLimit("limit reached", datetime.now(timezone.utc) + timedelta(minutes={minutes}))
wait_for_word(request)
return reply()
"""


def test_while_one_waits_for_a_limit_others_are_counted_and_an_interruption_ends_it(
    project: Project, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "XYZ-5:45")
    _prepare(project, FIRST, SECOND, judge=_lift(MODELS[FIRST], 20))
    session = start("--repair", columns=80)
    waits = rf"judging: limit of {MODELS[FIRST]} until ([\d :-]+); "
    session.wait_for(rf"{waits}0 of 2 calls, \d+ s")
    _word(project, SECOND)
    place = session.wait_for(rf"{waits}1 of 2 calls, \d+ s")
    told = re.findall(waits, session.text)[-1]
    (pause,) = (project.experiment / ".scylla" / "pauses").glob("*.json")
    ends = datetime.fromisoformat(json.loads(pause.read_text())["until"])
    here = (ends + timedelta(seconds=59.999)).astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert f"{here:%Y-%m-%d %H:%M}".endswith(told)
    session.interrupt()
    session.wait_for("KeyboardInterrupt", place)
    assert session.end() == pytest.ExitCode.INTERRUPTED
    assert not any("judging:" in line for line in session.screen)
    assert logged(project)[-1] == "end"


@pytest.mark.parametrize(
    ("command", "slot", "minutes", "shown"),
    [
        ("stand-in", FIRST, 10, True),
        ("somebody", FIRST, 10, False),
        ("stand-in", "T1/01/run_01/judge_03", 10, False),
        ("stand-in", FIRST, 40, False),
    ],
    ids=["holds", "of another command", "of a model of which nothing is left", "longer than anybody waits"],
)
def test_a_limit_is_told_of_if_something_waits_for_it(
    project: Project, start: Start, command: str, slot: str, minutes: float, shown: bool
) -> None:
    _prepare(project, SECOND, "T1/02/run_02/judge_01")
    model = small().judge_models[int(slot[-1]) - 1]
    with Keeping(project.experiment) as keeping:
        set_pause(keeping, command, model, datetime.now(timezone.utc) + timedelta(minutes=minutes), "limit")
    session = start("--repair", columns=160)
    waits = rf"limit of {model} until [\d :-]+; " if shown else ""
    session.wait_for(rf"judging: {waits}0 of 2 calls, \d+ s, about \d+ (s|min) left\x1b")


def test_an_agent_waits_for_the_limit_of_its_own_model(project: Project, start: Start) -> None:
    _prepare(project)
    lose_run(project.experiment, "T1/01/run_02")
    with Keeping(project.experiment) as keeping:
        for model in ("agent-medium-1", "agent-large-1"):
            set_pause(keeping, "stand-in", model, datetime.now(timezone.utc) + timedelta(minutes=10), "limit")
    session = start("--repair", "--repair-level=agents", columns=160)
    session.wait_for(r"repairing: limit of agent-medium-1 until [\d :-]+; 0 of 4 calls, \d+ s, about 10 min left\x1b")


# With xdist


def test_with_xdist_the_process_that_has_the_terminal_counts_what_its_workers_report(
    project: Project, start: Start
) -> None:
    _prepare(project, FIRST, SECOND)
    session = start("--repair", "-n2", columns=120)
    session.wait_for("judging: 0 of 2 calls")
    _word(project, SECOND)
    session.wait_for(r"judging: 1 of 2 calls, \d+ s, about \d+ s left, 0\.25 USD\x1b")
    _word(project, FIRST)
    assert session.end() == 0
    assert not any("judging:" in line for line in session.screen)
    asked = [line for line in logged(project) if line.startswith("asked")]
    assert sorted(asked) == [f"asked {FIRST}", f"asked {SECOND}"]


def test_with_xdist_it_is_shown_while_the_other_workers_have_nothing_left_to_do(project: Project, start: Start) -> None:
    _prepare(project, FIRST, SECOND)
    session = start("--repair", "-n2", "--scylla-select=T0/*", columns=120)
    deadline = time.monotonic() + PATIENCE
    while "down" not in logged(project):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    session.wait_for("judging: 0 of 1 call,", after=len(session.text))
    _word(project, FIRST)
    assert session.end() == 0


def test_with_xdist_a_slot_is_done_with_when_its_worker_dies(project: Project, start: Start) -> None:
    _prepare(
        project,
        FIRST,
        SECOND,
        judge=f"wait_for_word(request)\nif request.slot_id == '{FIRST}':\n    os._exit(1)\nreturn reply()",
    )
    session = start("--repair", "-n2", columns=120)
    session.wait_for("judging: 0 of 2 calls")
    _word(project, FIRST)
    session.wait_for("judging: 1 of 2 calls")
    _word(project, SECOND)
    assert session.end() == 1
    assert not any("judging:" in line for line in session.screen)
    assert any(line.startswith("replacing crashed worker") for line in session.screen)


# Beside others who write to the terminal


def test_a_debugger_has_the_terminal_for_itself(project: Project, start: Start) -> None:
    _prepare(project, FIRST, judge="wait_for_word(request)\nbreakpoint()\nreturn reply()")
    session = start("--repair", columns=80)
    session.wait_for("judging: 0 of 1 call")
    _word(project, FIRST)
    prompt = session.wait_for(r"\(Pdb\) ")
    assert any(re.fullmatch(r">+ PDB set_trace .*>+", line) for line in Screen(session.text, 80).lines)
    session.type("p wait_for_ticks()\n")
    session.wait_for(r"None\r\n\(Pdb\) ", prompt)
    assert "judging" not in session.text[prompt:]
    session.type("c\n")
    assert session.end() == 0


LOGS = """\
import logging
logging.getLogger().info("this is so")
"""

WRITES = """\
manager = pytestconfig.pluginmanager
with manager.get_plugin("capturemanager").global_and_fixture_disabled():
    manager.get_plugin("terminalreporter").write("INFO but not this is so", flush=True)
"""


@pytest.mark.parametrize("writes", [LOGS, WRITES], ids=["logged", "written"])
def test_what_others_write_to_the_terminal_beside_pytest_stays_there(
    project: Project, start: Start, writes: str
) -> None:
    _prepare(project, FIRST, judge=f"wait_for_word(request)\n{writes}return reply()\n", pace="Pace(2.0, 3600.0)")
    session = start("--repair", "-o", "log_cli=true", "-o", "log_cli_level=INFO", columns=80)
    session.wait_for("judging: 0 of 1 call")
    _word(project, FIRST)
    assert session.end() == 0
    assert any(re.search(r"INFO .* this is so", line) for line in session.screen)


def test_a_test_that_has_nothing_to_do_with_it_is_not_disturbed(project: Project, start: Start) -> None:
    _prepare(project, FIRST)
    project.write("test_ordinary.py", "from conftest import wait_for_ticks\n\ndef test_it():\n    wait_for_ticks()\n")
    session = start("--repair", "test_ordinary.py", columns=80)
    place = session.wait_for("judging: 0 of 1 call")
    assert re.search(r"test_ordinary\.py .*\.[^.]*exp ?\r?\n\rjudging: [^\n]*$", session.text[:place])
    assert session.text.index("exp ") < session.text.index("judging:")
    _word(project, FIRST)
    assert session.end() == 0


# Not on a terminal


def _letters(lines: list[str]) -> str:
    """The lines that begin as pytest's line of letters does, one above the other."""
    rows = [line for line in lines if line.startswith("exp ")]
    columns = zip_longest(*(row.removeprefix("exp ") for row in rows), fillvalue=" ")
    assert all(sum(cell != " " for cell in column) <= 1 for column in columns)
    columns = zip_longest(*rows, fillvalue=" ")
    return "".join(max(column) for column in columns)


@pytest.mark.parametrize("options", [(), ("-n1",)], ids=" ".join)
def test_in_a_log_it_is_a_line_of_its_own_now_and_then_and_pytest_goes_on_in_the_next(
    project: Project, start: Start, pristine_experiment: Path, options: tuple[str, ...]
) -> None:
    found = []
    for pace in (QUICK, NEVER):
        _unspoilt(project, pristine_experiment)
        _prepare(project, FIRST, SECOND, pace=pace)
        session = start("--repair", *options)
        for number, slot in enumerate((FIRST, SECOND)):
            if pace == QUICK:
                session.wait_for(f"\njudging: {number} of 2 calls[^\n]*\njudging: {number} of 2 calls[^\n]*\n")
            _word(project, slot)
        assert session.end() == 0
        assert "\r" not in session.text
        assert "\x1b" not in session.text
        found.append([line for line in session.text.splitlines() if not line.startswith("judging: ")])
        assert not any("judging:" in line for line in found[-1])
    assert _letters(found[0]) == _letters(found[1])


@pytest.mark.parametrize(("term", "options"), [("dumb", ()), ("xterm", ("-s",))], ids=["dumb", "shared"])
def test_a_terminal_that_cannot_repaint_or_that_others_write_to_gets_the_same_lines_as_a_log(
    project: Project, start: Start, term: str, options: tuple[str, ...]
) -> None:
    _prepare(project, FIRST)
    session = start("--repair", "--color=no", *options, columns=120, term=term)
    session.wait_for(r"\njudging: 0 of 1 call,[^\r]*\r\njudging: 0 of 1 call,")
    _word(project, FIRST)
    assert session.end() == 0
    assert "\x1b[A" not in session.text
    assert "\x1b[K" not in session.text


# Where there is none


@pytest.mark.parametrize(
    "options",
    [
        ("--repair", "-q"),
        ("--repair", "-qq"),
        ("--repair-plan",),
        ("--repair", "--repair-level=regenerate"),
        ("--repair", "--co"),
        ("--repair", "--scylla-select=T1/01/run_01"),
        ("--repair", "-p", "no:terminal"),
    ],
    ids=" ".join,
)
def test_nothing_is_shown_where_nobody_is_asked_or_that_is_to_be_quiet(
    project: Project, start: Start, options: tuple[str, ...]
) -> None:
    _prepare(project, FIRST, judge=AT_ONCE)
    session = start(*options, columns=80)
    assert session.end() in (0, 1)
    assert "judging:" not in session.text
    assert logged(project)[-1] == "end"
    assert not any("scylla-progress" in line for line in logged(project))


def test_nothing_is_shown_while_so_many_calls_are_planned_that_none_is_made(project: Project, start: Start) -> None:
    _prepare(project, FIRST, SECOND, judge=AT_ONCE)
    conftest = project.path / "conftest.py"
    conftest.write_text(f"{conftest.read_text()}\nimport pytest_scylla.asking\npytest_scylla.asking.MOST_UNASKED = 1\n")
    session = start("--repair")
    assert session.end() == 1
    assert not any("scylla-progress" in line or "asked" in line for line in logged(project))


# As shipped


def test_a_session_that_asks_a_judge_shows_it_after_two_seconds(project: Project, start: Start) -> None:
    _prepare(project, FIRST)
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text().replace("def pytest_configure(", "def not_configured("))
    session = start("--repair", columns=120)
    session.wait_for(r"judging: 0 of 1 call, [2-9] s,")
    _word(project, FIRST)
    assert session.end() == 0
    assert not re.search("judging: 0 of 1 call, [01] s", session.text)


SIMPLE = """\
from pytest_scylla.judging.contract import JudgePermanent


@pytest.fixture
def scylla_judge():
    def judge(request):
        log("asked")
        raise JudgePermanent("no")

    return judge
"""


def test_a_session_whose_output_has_no_descriptor_shows_nothing(project: Project) -> None:
    write_logging(project, SIMPLE)
    lose_slot(project.experiment, FIRST)
    assert project.audit("--repair").ret == 1
    assert logged(project) == ["asked"]
