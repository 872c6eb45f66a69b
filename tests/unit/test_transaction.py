"""A repair of a run as one transaction: planned on what is there, carried out under the lock, audited again."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pytest_scylla
from pytest_scylla.auditing.evidence import DEFAULT_POLICY, fingerprint
from pytest_scylla.experiment.keeping import KEEPING, Keeping
from pytest_scylla.experiment.locks import locked
from pytest_scylla.experiment.writing import CannotWrite
from pytest_scylla.repair import transaction
from pytest_scylla.repair.regenerate import regenerate
from pytest_scylla.repair.request import CannotRegenerate, Regenerated, RegenerateRequest
from pytest_scylla.repair.transaction import RepairOutcome, draft_repair, planned_actions

from .damage import CONSENSUS, JUDGMENT, OUTPUT, RESULT, RUN_RESULT, SLOTS, Damage, Run, cut, each, lose, overwrite, put
from .locking import SHARED, mount
from .repairing import (
    Tree,
    actions,
    digest,
    healthy,
    journal,
    outcomes,
    quarantined,
    reasons,
    repair,
    run_named,
    staged,
    tree,
)

RUN = "T1/02/run_01"
DAMAGE = each(lose(RESULT), cut(JUDGMENT, 0.5), cut(RUN_RESULT, 0.5))
CHANGED = (RESULT, JUDGMENT, RUN_RESULT)


@pytest.fixture
def run(two_run_experiment: Path, tmp_path: Path) -> Run:
    """A run to damage."""
    return Run(shutil.copytree(two_run_experiment, tmp_path / "exp"), RUN)


@pytest.fixture
def damaged(run: Run) -> Run:
    """A run with three files to write."""
    DAMAGE(run)
    return run


def repaired_elsewhere(run: Run, place: Path) -> Tree:
    """What the run's experiment would hold after a repair; it is moved for that, as it tells where it is."""
    shutil.copytree(run.root, place)
    repair(run.root, RUN)
    after = tree(run.root)
    shutil.rmtree(run.root)
    place.rename(run.root)
    return after


# ---------------------------------------------------------------------------------------- what is done, and what is not


def test_a_healthy_run_is_not_touched_and_nothing_is_made_for_it(run: Run) -> None:
    before = tree(run.root, but=None)
    outcome = repair(run.root, RUN)
    assert outcome.actions == {}
    assert outcome.audit.status == "completed"
    assert tree(run.root, but=None) == before


def test_what_can_only_be_refused_makes_nothing_either(run: Run) -> None:
    each(lose(CONSENSUS, RUN_RESULT, *(f"{slot}/{name}" for slot in SLOTS for name in os.listdir(run.path(slot)))))(run)
    before = tree(run.root, but=None)
    outcome = repair(run.root, RUN)
    assert set(outcomes(outcome).values()) == {"refused"}
    assert tree(run.root, but=None) == before


def test_the_outcome_is_the_audit_of_what_lies_there_afterwards(damaged: Run) -> None:
    outcome = repair(damaged.root, RUN)
    experiment = pytest_scylla.load(damaged.root)
    assert outcome.audit == pytest_scylla.audit_run(experiment, run_named(experiment, RUN))
    assert outcome.audit.status == "completed"
    assert list(outcome.actions) == ["run", "judge_02"]
    assert [action.what for action in outcome.actions["run"]] == [RESULT, RUN_RESULT]
    assert [action.what for action in outcome.actions["judge_02"]] == [JUDGMENT]


def test_a_repair_does_what_the_plan_says(damaged: Run) -> None:
    experiment = pytest_scylla.load(damaged.root)
    _, _, draft = draft_repair(experiment, run_named(experiment, RUN), DEFAULT_POLICY, regenerate)
    assert not (damaged.root / KEEPING).exists()
    planned = [action for of_item in planned_actions(draft.plan).values() for action in of_item]
    outcome = repair(damaged.root, RUN)
    done = actions(outcome)
    assert [(action.what, action.files, action.solved, action.sources) for action in planned] == [
        (action.what, action.files, action.solved, action.sources) for action in done
    ]
    assert {action.outcome for action in planned} == {"planned"}
    for step in draft.plan.steps:
        assert (damaged.root / step.file).read_bytes() == step.data
    assert draft.plan.audit == outcome.audit


def test_a_second_repair_changes_no_byte(damaged: Run) -> None:
    repair(damaged.root, RUN)
    everything = tree(damaged.root, but=None)
    assert repair(damaged.root, RUN).actions == {}
    assert tree(damaged.root, but=None) == everything


def test_one_slot_alone_is_repaired_and_consensus_and_run_result_with_it(run: Run) -> None:
    each(cut(JUDGMENT, 0.5), lose("agent/stdout.log", CONSENSUS))(run)
    experiment = pytest_scylla.load(run.root)
    outcome = transaction.repair_run(
        experiment, run_named(experiment, RUN), DEFAULT_POLICY, regenerate, lambda item: item == "judge_02"
    )
    assert outcomes(outcome) == {JUDGMENT: "done", CONSENSUS: "done"}
    assert not run.path("agent/stdout.log").exists()


def carried_out(run: Run) -> tuple[Callable[[], RepairOutcome], transaction.Draft]:
    """A plan that was made now, and the repair that carries it out later."""
    experiment = pytest_scylla.load(run.root)
    run_id = run_named(experiment, RUN)
    _, _, draft = draft_repair(experiment, run_id, DEFAULT_POLICY, regenerate)
    return lambda: transaction.repair_run(experiment, run_id, DEFAULT_POLICY, regenerate, draft=draft), draft


def test_a_plan_that_is_at_hand_is_carried_out_without_planning_again(
    damaged: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out, draft = carried_out(damaged)
    monkeypatch.setattr(transaction, "draft_repair", lambda *arguments: pytest.fail("planned again"))
    assert outcomes(carry_out()) == dict.fromkeys(CHANGED, "done")
    assert [entry["file"] for entry in journal(damaged.root)] == [step.file for step in draft.plan.steps]


def test_a_plan_that_is_out_of_date_is_made_anew(damaged: Run) -> None:
    carry_out, _ = carried_out(damaged)
    cut("judge/judge_03/judgment.json", 0.5)(damaged)
    assert outcomes(carry_out()) == dict.fromkeys((*CHANGED, "judge/judge_03/judgment.json"), "done")
    assert healthy(damaged.root)


# ------------------------------------------------------------------------------ somebody else is there at the same time


@contextmanager
def meanwhile(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> Iterator[list[str]]:
    """Let somebody do something between a repair's plan and its lock; what is given says that it happened."""
    happened: list[str] = []

    @contextmanager
    def after_a_change(path: Path, *, wait: bool) -> Iterator[None]:
        if not happened:
            happened.append("changed")
            change()
        with locked(path, wait=wait):
            yield

    with monkeypatch.context() as patched:
        patched.setattr(transaction, "locked", after_a_change)
        yield happened


def test_what_somebody_repaired_meanwhile_is_left_alone(damaged: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with meanwhile(monkeypatch, lambda: repair(damaged.root, RUN)) as happened:
        outcome = repair(damaged.root, RUN)
    assert happened
    assert outcome.actions == {}
    assert outcome.audit.status == "completed"
    assert len(journal(damaged.root)) == 3


def test_what_somebody_changed_meanwhile_is_planned_anew(damaged: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was planned is neither written nor told of; what is there by then is repaired and kept."""

    def change() -> None:
        put("judge/timing.json", "/judge_duration_seconds", 77.0)(damaged)
        for slot in SLOTS:
            put(f"{slot}/timing.json", "/judge_duration_seconds", 77.0 / 3)(damaged)
        overwrite(RUN_RESULT, b"something new")(damaged)

    with meanwhile(monkeypatch, change) as happened:
        outcome = repair(damaged.root, RUN)
    assert happened
    assert outcomes(outcome) == dict.fromkeys(CHANGED, "done")
    assert damaged.load(RUN_RESULT)["judge_duration_seconds"] == 77.0
    assert healthy(damaged.root)
    assert quarantined(damaged.root)[digest(b"something new")] == b"something new"
    assert len(journal(damaged.root)) == 3


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lose("."), "missing"),
        (put("run_result.json", "/logs_path", "/data/exp/T0/00/run_01/agent"), "conflict"),
        (lose(*(f"agent/{name}" for name in ("output.txt", "stdout.log", "cmd_0000_stdout.log"))), "partial"),
    ],
    ids=["the run is gone", "records contradict each other", "the output is gone"],
)
def test_where_nothing_may_be_done_any_more_nothing_is(
    run: Run, change: Damage, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    each(lose(RESULT), cut(JUDGMENT, 0.5))(run)
    after: list[Tree] = []

    def changed() -> None:
        change(run)
        after.append(tree(run.root))

    with meanwhile(monkeypatch, changed):
        outcome = repair(run.root, RUN)
    assert outcome.audit.status == left
    assert "done" not in {action.outcome for action in outcome.actions.get("run", ())}
    named = {file for action in actions(outcome) for file in action.files}
    now = tree(run.root)
    assert {name for name in {*now, *after[0]} if now.get(name) != after[0].get(name)} == named


def test_a_link_that_took_the_place_of_a_directory_meanwhile_is_not_followed(
    damaged: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"

    def change() -> None:
        damaged.path("agent").rename(elsewhere)
        damaged.path("agent").symlink_to(elsewhere)

    with meanwhile(monkeypatch, change):
        outcome = repair(damaged.root, RUN)
    assert outcome.audit.status == "unsafe"
    assert not (elsewhere / "result.json").exists()


def test_a_link_that_took_the_place_of_a_file_after_all_checks_is_refused_by_name(
    damaged: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "precious").write_bytes(damaged.read(RUN_RESULT))
    checked = fingerprint

    def and_then(*arguments: object) -> object:
        found = checked(*arguments)  # type: ignore[arg-type]
        if (damaged.root / KEEPING).exists():
            damaged.path(RUN_RESULT).unlink()
            damaged.path(RUN_RESULT).symlink_to(tmp_path / "precious")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(transaction, "fingerprint", and_then)
        before = (tmp_path / "precious").read_bytes()
        experiment = pytest_scylla.load(damaged.root)
        drafted = draft_repair(experiment, run_named(experiment, RUN), DEFAULT_POLICY, regenerate)
        patched.setattr(transaction, "draft_repair", lambda *arguments: drafted)
        outcome = repair(damaged.root, RUN)
    (reason,) = reasons(outcome)
    assert reason.startswith(f"{RUN}/{RUN_RESULT}: ")
    assert set(outcomes(outcome).values()) == {"failed"}
    assert (tmp_path / "precious").read_bytes() == before
    assert damaged.path(RUN_RESULT).is_symlink()
    assert not damaged.path(RESULT).exists()


def both_repaired_once(run: Run, after: Tree) -> None:
    assert tree(run.root) == after
    assert healthy(run.root)
    assert sorted(entry["file"] for entry in journal(run.root)) == sorted(f"{RUN}/{name}" for name in CHANGED)
    assert len(quarantined(run.root)) == 2
    assert not staged(run.root)


@pytest.mark.parametrize("shared", [False, True], ids=["flock", "lease"])
def test_two_threads_that_repair_the_same_run_replace_each_file_once(
    damaged: Run, shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = repaired_elsewhere(damaged, tmp_path / "aside")
    if shared:
        mount(monkeypatch, SHARED)
    planned = threading.Barrier(2)

    @contextmanager
    def together(path: Path, *, wait: bool) -> Iterator[None]:
        planned.wait()
        with locked(path, wait=wait):
            yield

    monkeypatch.setattr(transaction, "locked", together)
    done: list[RepairOutcome] = []
    threads = [threading.Thread(target=lambda: done.append(repair(damaged.root, RUN))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(actions(outcome)) for outcome in done) == [0, 3]
    assert {outcome.audit.status for outcome in done} == {"completed"}
    both_repaired_once(damaged, after)
    assert (damaged.root / KEEPING / "locks" / "T1-02-run_01.lock").exists() != shared


def repair_after(root: Path, ready: object, go: object) -> None:
    ready.release()  # type: ignore[attr-defined]
    go.wait()  # type: ignore[attr-defined]
    repair(root, RUN)


def test_processes_that_repair_the_same_run_replace_each_file_once(damaged: Run, tmp_path: Path) -> None:
    after = repaired_elsewhere(damaged, tmp_path / "aside")
    context = multiprocessing.get_context("spawn")
    ready, go = context.Semaphore(0), context.Event()
    processes = [context.Process(target=repair_after, args=(damaged.root, ready, go)) for _ in range(3)]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    go.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    both_repaired_once(damaged, after)


def test_repairs_of_different_runs_do_not_get_in_each_others_way(run: Run) -> None:
    """Each of them makes the places to keep things, and both keep equal contents."""
    runs = (RUN, "T1/02/run_02")
    for name in runs:
        overwrite(RUN_RESULT, b"{")(Run(run.root, name))
        overwrite(RESULT, b"{")(Run(run.root, name))
    start = threading.Barrier(2)
    done: list[RepairOutcome] = []

    def work(name: str) -> None:
        start.wait()
        done.append(repair(run.root, name))

    threads = [threading.Thread(target=work, args=[name]) for name in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {result for outcome in done for result in outcomes(outcome).values()} == {"done"}
    assert healthy(run.root)
    assert quarantined(run.root) == {digest(b"{"): b"{"}
    assert len(journal(run.root)) == 4


# ------------------------------------------------------------------------------- a regenerate function of somebody else


@pytest.mark.parametrize("error", [ValueError, OSError, RecursionError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("name", CHANGED)
def test_whatever_a_regenerate_function_raises_leaves_everything_untouched(
    damaged: Run, name: str, error: type[BaseException]
) -> None:
    def broken(request: RegenerateRequest) -> Regenerated:
        if request.name == name:
            raise error("of its own")
        return regenerate(request)

    before = tree(damaged.root, but=None)
    with pytest.raises(error, match="of its own"):
        repair(damaged.root, RUN, broken)
    assert tree(damaged.root, but=None) == before


def test_whatever_it_raises_under_the_lock_leaves_the_run_untouched_and_the_lock_free(
    damaged: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[Tree] = []

    def broken(request: RegenerateRequest) -> Regenerated:
        if changed:
            raise ValueError("of its own")
        return regenerate(request)

    def change() -> None:
        overwrite(RUN_RESULT, b"something new")(damaged)
        changed.append(tree(damaged.root))

    with meanwhile(monkeypatch, change), pytest.raises(ValueError, match="of its own"):
        repair(damaged.root, RUN, broken)
    assert tree(damaged.root) == changed[0]
    assert not staged(damaged.root)
    assert set(outcomes(repair(damaged.root, RUN)).values()) == {"done"}


def test_what_it_cannot_regenerate_is_refused_and_the_rest_is_done(damaged: Run) -> None:
    def refusing(request: RegenerateRequest) -> Regenerated:
        if request.name == JUDGMENT:
            raise CannotRegenerate("not this one")
        return regenerate(request)

    old = damaged.read(JUDGMENT)
    found = {action.what: action for action in actions(repair(damaged.root, RUN, refusing))}
    assert (found[JUDGMENT].outcome, found[JUDGMENT].reason) == ("refused", "not this one")
    assert found[RESULT].outcome == "done"
    assert damaged.read(JUDGMENT) == old


def test_what_would_not_help_is_never_written(damaged: Run) -> None:
    before = tree(damaged.root, but=None)
    outcome = repair(damaged.root, RUN, lambda request: Regenerated(b"{}", ()))
    assert set(outcomes(outcome).values()) == {"refused"}
    assert tree(damaged.root, but=None) == before


# ------------------------------------------------------------------------------------------------ stopped in the middle


@pytest.mark.parametrize("call", ["stage", "quarantine", "write_journal", "put_in_place"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupted_anywhere_a_repair_leaves_files_old_or_new_and_the_next_one_finishes(
    damaged: Run,
    call: str,
    late: bool,
    error: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, after = tree(damaged.root), repaired_elsewhere(damaged, tmp_path / "aside")
    original = getattr(Keeping, call)
    calls: list[str] = []

    def interrupted(*arguments: object) -> object:
        calls.append(call)
        last = len(calls) == (1 if call == "write_journal" else 2)
        if last and not late:
            raise error
        result = original(*arguments)
        if last:
            raise error
        return result

    with monkeypatch.context() as patched:
        patched.setattr(Keeping, call, interrupted)
        with pytest.raises(error):
            repair(damaged.root, RUN)
    found = tree(damaged.root)
    for name in {*before, *after, *found}:
        assert found.get(name) in (before.get(name), after.get(name)), name
    changed = [name for name in CHANGED if found.get(f"{RUN}/{name}") != before.get(f"{RUN}/{name}")]
    assert len(changed) == {("put_in_place", False): 1, ("put_in_place", True): 2}.get((call, late), 0)
    assert not staged(damaged.root)
    with locked(damaged.root / KEEPING / "locks" / "T1-02-run_01.lock"):
        pass
    assert set(outcomes(repair(damaged.root, RUN)).values()) == {"done"}
    assert tree(damaged.root) == after


def test_where_only_some_files_could_be_written_each_action_tells_what_became_of_its_own(
    damaged: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place = Keeping.put_in_place
    before = tree(damaged.root)

    def fails_at_the_last(self: Keeping, file: str, *arguments: object) -> None:
        if file.endswith(RUN_RESULT):
            raise CannotWrite(f"{file}: No space left on device")
        put_in_place(self, file, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Keeping, "put_in_place", fails_at_the_last)
    outcome = repair(damaged.root, RUN)
    assert outcomes(outcome) == {RESULT: "done", JUDGMENT: "done", RUN_RESULT: "failed"}
    assert reasons(outcome) == {f"{RUN}/{RUN_RESULT}: No space left on device"}
    assert outcome.audit.status == "results"
    assert tree(damaged.root)[f"{RUN}/{RUN_RESULT}"] == before[f"{RUN}/{RUN_RESULT}"]


def test_a_reason_is_one_printable_line_whatever_the_place_says(damaged: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise CannotWrite("a\x1b[31m::error::\nfile: no\n")

    monkeypatch.setattr(Keeping, "stage", refuse)
    (reason,) = reasons(repair(damaged.root, RUN))
    assert "::" not in reason


# --------------------------------------------------------------------------------------- what was written is read again


@pytest.mark.parametrize(
    "wrong", [b"", b"{", b'{"run_number": 99}', b"\0" * 1000], ids=["empty", "half", "other", "NUL"]
)
@pytest.mark.parametrize("name", CHANGED)
def test_a_file_that_silently_holds_something_else_was_not_repaired(
    damaged: Run, name: str, wrong: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place = Keeping.put_in_place

    def other_bytes(self: Keeping, file: str, *arguments: object) -> None:
        put_in_place(self, file, *arguments)  # type: ignore[arg-type]
        if file.endswith(name):
            (damaged.root / file).write_bytes(wrong)

    with monkeypatch.context() as patched:
        patched.setattr(Keeping, "put_in_place", other_bytes)
        outcome = repair(damaged.root, RUN)
    found = {action.what: action for action in actions(outcome)}
    assert found[name].outcome == "failed"
    assert found[name].solved == ()
    assert found[name].files == (f"{RUN}/{name}",)  # it was written to, after all
    reason = str(found[name].reason)
    assert reason.startswith("audited again, it still has ")
    assert reason.isprintable()
    assert {action.outcome for what, action in found.items() if what != name} == {"done"}
    assert repair(damaged.root, RUN).audit.status == "completed"


def test_a_renaming_that_does_nothing_is_seen(damaged: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def only_elsewhere(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if target not in ("result.json", "judgment.json", "run_result.json"):
            rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    before = tree(damaged.root)
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", only_elsewhere)
        outcome = repair(damaged.root, RUN)
    assert set(outcomes(outcome).values()) == {"failed"}
    assert outcome.audit.status == "results"
    assert tree(damaged.root) == before
    assert not staged(damaged.root)


def test_a_sound_file_of_another_content_is_no_repair(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong with each of the two copies of the output by itself."""
    lose(OUTPUT)(run)
    put_in_place = Keeping.put_in_place

    def other_output(self: Keeping, file: str, *arguments: object) -> None:
        put_in_place(self, file, *arguments)  # type: ignore[arg-type]
        reply = json.loads((run.root / file).read_bytes())
        (run.root / file).write_text(json.dumps({**reply, "session_id": "another"}))

    monkeypatch.setattr(Keeping, "put_in_place", other_output)
    outcome = repair(run.root, RUN)
    assert outcomes(outcome) == {OUTPUT: "failed"}


@pytest.mark.parametrize(
    "change", [{"score": 0.123}, {"note": "of somebody"}], ids=["in conflict", "not seen by an audit"]
)
def test_a_judgment_that_is_sound_but_not_what_was_written_is_no_repair(
    run: Run, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(JUDGMENT)(run)
    put_in_place = Keeping.put_in_place

    def other_judgment(self: Keeping, file: str, *arguments: object) -> None:
        put_in_place(self, file, *arguments)  # type: ignore[arg-type]
        run.store(JUDGMENT, {**run.load(JUDGMENT), **change})

    monkeypatch.setattr(Keeping, "put_in_place", other_judgment)
    outcome = repair(run.root, RUN)
    assert outcomes(outcome) == {JUDGMENT: "failed"}
    assert reasons(outcome) == {"read again, it is not what was written"}
