"""A corpus of faults, each with the verdict that the rules give: what may happen to a run, and what an audit says then.

Every fault is a function that damages one run of a healthy experiment (see `damage.py`). Where the rules leave the
choice between two words open, both stand here, with `|` between them.
"""

from __future__ import annotations

import codecs
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pytest_scylla
from benchmarks.synthetic import (
    JUDGE_MODELS,
    SECRET,
    JsonObject,
    agent_reply,
    agent_stdout,
    model_md,
    response,
    small,
    write_experiment,
)
from pytest_scylla import CODES, RUN_STATUSES, SLOT_STATUSES, Finding, Policy, RunAudit, SlotAudit
from pytest_scylla.auditing.evidence import DEFAULT_POLICY
from pytest_scylla.auditing.experiment import audit_experiment

from . import damage as do
from .damage import (
    ALL_COPIES,
    CONSENSUS,
    DERIVED,
    FILE_COPIES,
    JUDGMENT,
    JUDGMENTS,
    LOG,
    OUTPUT,
    REPLIES,
    RESULT,
    RUN_RESULT,
    SLOTS,
    Damage,
    Run,
    cut,
    cut_output,
    each,
    in_root,
    lose,
    opinions,
    overwrite,
    put,
    raw_value,
    retell,
)
from .limits import processor_time

RUN = "T1/01/run_02"
EVERYWHERE = "T"
SLOT = SLOTS[1]

Unasked = Literal["unasked"]


@dataclass(frozen=True)
class Fault:
    """Damage to a run, and what an audit has to say about it.

    In `run`, `slots` and `codes`, `a|b` means that the rules allow either word.
    """

    name: str
    damage: Damage
    run: str = "completed"
    slots: str = "complete"
    """The status of each slot, or one word for all of them."""
    codes: str = ""
    """Errors that the findings of the run and of its slots must hold; a run or slot that is well has none at all."""
    warnings: str | Unasked = ""
    """Warnings of the run and its slots: exactly these if the run is completed, at least these if it is not."""
    notes: str = ""
    """Warnings about the experiment: exactly these."""
    policy: Policy = DEFAULT_POLICY
    place: str = RUN
    """The runs that the damage concerns: those whose id begins so. All others stay as they were."""

    def __str__(self) -> str:
        return self.name


# ---------------------------------------------------------------------------------------------------------
# Loss

MISSING_CODE = {
    OUTPUT: "output-missing",
    RESULT: "agent-result-missing",
    CONSENSUS: "consensus-missing",
    RUN_RESULT: "run-result-missing",
}
SUBJECT = {OUTPUT: "output", RESULT: "agent-result", CONSENSUS: "consensus", RUN_RESULT: "run-result"}
RECORDS = (RESULT, CONSENSUS, RUN_RESULT)
SIDE_RECORDS = ("agent/timing.json", LOG, "judge/timing.json", f"{SLOT}/timing.json")
SIDE_FILES = (
    "agent/stdout.log",
    "agent/cmd_0000_stdout.log",
    "agent/stderr.log",
    "agent/MODEL.md",
    f"{SLOT}/MODEL.md",
    "judge_prompt.md",
    *SIDE_RECORDS,
)
OPTIONAL = ("worktree_create.sh", "agent/replay.sh", f"{SLOT}/replay.sh", "report.json", "report.md")


def loss() -> Iterator[Fault]:
    for name in DERIVED:
        yield Fault(f"loss of {name}", lose(name), "results", codes=MISSING_CODE[name])
    for name in SIDE_FILES:
        yield Fault(f"loss of {name}", lose(name), warnings="side-file-missing")
    for name in OPTIONAL:
        yield Fault(f"loss of {name}", lose(name))
    for name in ("task_prompt.md", "agent/prompt.md", "agent/cmd_0000_stderr.log", "cmd_0000_stdout.log", "commands"):
        yield Fault(f"loss of {name}", lose(name), warnings="unasked")
    for name in REPLIES:
        yield Fault(f"loss of {name}", lose(name), warnings="unasked")
    yield Fault("loss of one judgment", lose(JUDGMENT), slots="complete failed complete", codes="judgment-missing")
    yield Fault("loss of one slot", lose(SLOT), slots="complete missing complete", codes="judge-slot-missing")
    yield Fault(
        "loss of all that is in a slot",
        each(lose(SLOT), lambda run: run.path(SLOT).mkdir()),
        slots="complete failed complete",
        codes="judgment-missing",
    )
    yield Fault("loss of both replies", lose(*REPLIES), warnings="unasked")
    yield Fault(
        "loss of all of a slot but its judgment",
        lose(*REPLIES, f"{SLOT}/MODEL.md", f"{SLOT}/timing.json"),
        warnings="unasked",
    )
    yield Fault("loss of all judgments", lose(*JUDGMENTS), "results", "failed", "no-complete-slot judgment-missing")
    yield Fault("loss of all slots", lose(*SLOTS), "results", "missing", "no-complete-slot judge-slot-missing")
    yield Fault("loss of judge/", lose("judge"), "results", "missing", "no-complete-slot consensus-missing")
    yield Fault(
        "loss of judge/ and run_result.json", lose("judge", RUN_RESULT), "results", "missing", "run-result-missing"
    )
    yield Fault("loss of all derived files", lose(*DERIVED), "results", codes=" ".join(MISSING_CODE.values()))
    yield Fault("loss of all output files but the record", lose(*FILE_COPIES), "results", codes="output-missing")
    yield Fault(
        "loss of all output files and of run_result.json",
        lose(*FILE_COPIES, RUN_RESULT),
        "results",
        codes="output-missing run-result-missing",
    )
    yield Fault(
        "loss of all output but cmd_0000",
        lose(OUTPUT, "agent/stdout.log", RESULT),
        "results",
        codes="output-missing agent-result-missing",
    )
    yield Fault(
        "loss of the consensus and of a judgment",
        lose(CONSENSUS, JUDGMENT),
        "results",
        "complete failed complete",
        "consensus-missing judgment-missing",
    )
    yield Fault(
        "loss of run_result.json and of a slot",
        lose(RUN_RESULT, SLOT),
        "results",
        "complete missing complete",
        "run-result-missing judge-slot-missing",
    )
    yield Fault("loss of agent/", lose("agent"), "partial", codes="agent-output-missing")
    yield Fault("loss of agent/ and judge/", lose("agent", "judge"), "partial", "agent_failed", "no-agent-result")
    yield Fault("loss of all copies of the output", lose(*ALL_COPIES), "partial", codes="agent-output-missing")
    yield Fault(
        "loss of all output and of a judgment whose reply survives",
        lose(*ALL_COPIES, JUDGMENT),
        "partial",
        "complete failed complete",
        "agent-output-missing judgment-missing",
    )
    yield Fault(
        "loss of all output and of a judgment with its replies",
        lose(*ALL_COPIES, JUDGMENT, *REPLIES),
        "partial",
        "complete agent_failed complete",
        "no-agent-result",
    )
    yield Fault(
        "loss of all output and of a slot",
        lose(*ALL_COPIES, SLOT),
        "partial",
        "complete agent_failed complete",
        "no-agent-result",
    )
    yield Fault(
        "loss of all output and judgments where run_result.json shows tokens",
        lose(*ALL_COPIES, *JUDGMENTS),
        "partial",
        "failed",
        "agent-output-missing",
    )
    yield Fault(
        "loss of everything but run_result.json", do.keep_only(RUN_RESULT), "partial", "agent_failed", "no-agent-result"
    )
    gone = lose(*ALL_COPIES, "judge", RUN_RESULT)
    yield Fault("an agent that left nothing but its stderr.log", gone, "failed", "agent_failed", "no-agent-result")
    yield Fault(
        "an agent that left an empty output.txt and its stderr.log",
        each(gone, overwrite(OUTPUT, "")),
        "failed",
        "agent_failed",
        "no-agent-result",
    )
    yield Fault(
        "an agent that left not even its stderr.log",
        each(gone, lose("agent/stderr.log")),
        "partial",
        "agent_failed",
        "no-agent-result",
    )
    yield Fault(
        "an agent that left an unfinished output.txt and its stderr.log",
        each(gone, overwrite(OUTPUT, '{"type": "result", "usa')),
        "partial",
        "agent_failed",
        "agent-output-unsound",
    )
    yield Fault(
        "an agent that left only its stderr.log, and one sound judgment",
        each(lose(*ALL_COPIES, RUN_RESULT, *JUDGMENTS[1:])),
        "partial",
        "complete failed failed",
        "agent-output-missing",
    )
    yield Fault("loss of the run", lose("."), "missing", "agent_failed", "run-missing")
    yield Fault("an empty run", do.keep_only(), "missing", "agent_failed", "run-missing")
    yield Fault(
        "a run with nothing but prompts",
        do.keep_only("task_prompt.md", "judge_prompt.md"),
        "missing",
        "agent_failed",
        "run-missing",
    )
    yield Fault(
        "a run with nothing but a prompt and a workspace",
        each(do.keep_only("task_prompt.md"), overwrite("workspace/tally.py", "")),
        "missing",
        "agent_failed",
        "run-missing",
    )
    yield Fault(
        "a run with prompts and an empty agent/",
        each(do.keep_only("task_prompt.md"), lambda run: run.path("agent").mkdir()),
        "partial",
        "agent_failed",
        "agent-output-missing",
    )
    yield Fault("loss of a subtest", lose(".."), "missing", "agent_failed", "run-missing", place="T1/01/")
    yield Fault("loss of a tier", lose("../.."), "missing", "agent_failed", "run-missing", place="T1/")
    yield Fault(
        "loss of the checkpoint and the aggregates",
        lose(*[in_root(name) for name in ("checkpoint.json", "result.json", "report.json", "T1/result.json")]),
    )


# ---------------------------------------------------------------------------------------------------------
# Truncation

PLAIN = "I wrote tally.py.\n\nAll of its tests pass: 9 of 9.\nNothing else was changed.\n"


def truncation() -> Iterator[Fault]:
    for keep, place in ((0, "nothing"), (1, "one byte"), (0.5, "half"), (-1, "all but a byte")):
        for name in RECORDS:
            code = f"{SUBJECT[name]}-malformed"
            yield Fault(f"{name} cut to {place}", cut(name, keep), "results", codes=code)
        yield Fault(
            f"a judgment cut to {place}",
            cut(JUDGMENT, keep),
            slots="complete failed complete",
            codes="judgment-malformed",
        )
        for name in SIDE_RECORDS if keep in (0, 0.5) else ():
            yield Fault(f"{name} cut to {place}", cut(name, keep), warnings="side-file-malformed")
        yield Fault(
            f"output.txt cut to {place}",
            cut(OUTPUT, keep),
            "results",
            codes="output-truncated|output-malformed",
        )
        for name in ("agent/stdout.log", "agent/cmd_0000_stdout.log"):
            yield Fault(f"{name} cut to {place}", cut(name, keep), warnings="side-file-malformed")
    for keep, place in ((0, "nothing"), (1, "one byte"), (0.5, "half"), (-2, "all but the brace")):
        yield Fault(
            f"all copies of the output cut to {place}", cut_output(keep), "partial", codes="agent-output-unsound"
        )
    yield Fault(
        "all copies of the output cut to half, and a slot lost",
        each(cut_output(0.5), lose(SLOT)),
        "partial",
        "complete agent_failed complete",
        "agent-output-unsound no-agent-result",
    )
    yield Fault(
        "stdout.log and cmd_0000 cut at the same place",
        cut_output(0.5, ("agent/stdout.log", "agent/cmd_0000_stdout.log")),
        warnings="side-file-malformed",
    )
    yield Fault(
        "two sound copies without the last line break",
        cut_output(-1, ("agent/stdout.log", "agent/cmd_0000_stdout.log")),
        warnings="side-file-malformed",
    )
    yield Fault(
        "three sound copies without the last line break",
        cut_output(-1, FILE_COPIES),
        "results",
        codes="agent-result-stale|output-truncated",
    )
    yield Fault("response.txt cut to half", cut(REPLIES[0], 0.5), warnings="unasked")
    yield Fault("both replies cut to half", each(*[cut(name, 0.5) for name in REPLIES]), warnings="unasked")
    yield Fault("both replies blank", each(*[cut(name, 0) for name in REPLIES]), warnings="unasked")
    yield Fault("an empty MODEL.md of a judge", cut(f"{SLOT}/MODEL.md", 0), warnings="side-file-malformed")
    yield Fault("an empty MODEL.md of the agent", cut("agent/MODEL.md", 0), warnings="side-file-malformed")
    yield Fault("an empty judge_prompt.md", cut("judge_prompt.md", 0), warnings="side-file-malformed")
    yield Fault("an empty stderr.log", cut("agent/stderr.log", 0), warnings="unasked")

    yield Fault("an agent that prints plain text", retell(stdout=PLAIN))
    for keep, place in ((0.5, "half"), (-1, "all but the last line break"), (1, "one byte"), (0, "nothing")):
        yield Fault(
            f"plain output.txt cut to {place}",
            each(retell(stdout=PLAIN), cut(OUTPUT, keep)),
            "results",
            codes="output-truncated|output-malformed",
        )
        yield Fault(
            f"plain stdout.log cut to {place}",
            each(retell(stdout=PLAIN), cut("agent/stdout.log", keep)),
            warnings="side-file-malformed",
        )
    yield Fault(
        "plain output.txt and stdout.log cut at the same place",
        each(retell(stdout=PLAIN), cut_output(0.5, (OUTPUT, "agent/stdout.log"))),
        "results",
        codes="output-truncated",
    )
    yield Fault(
        "plain output cut at three different places",
        each(retell(stdout=PLAIN), cut(OUTPUT, 0.5), cut("agent/stdout.log", 0.3), cut("agent/cmd_0000_stdout.log", 9)),
        "results",
        codes="output-truncated",
    )
    yield Fault(
        "all plain output files cut at the same place",
        each(retell(stdout=PLAIN), cut_output(0.5, FILE_COPIES)),
        "results",
        codes="agent-result-stale|output-truncated",
    )
    yield Fault("plain output lost but for the record", each(retell(stdout=PLAIN), lose(*FILE_COPIES)), "results")
    yield Fault("plain output blank in all copies", retell(stdout=" \n\t\n"), "partial", codes="agent-output-unsound")
    yield Fault("NUL bytes in all copies", retell(stdout="I wrote\0\0\0"), "partial", codes="agent-output-unsound")
    yield Fault(
        "NUL bytes in output.txt",
        each(retell(stdout=PLAIN), overwrite(OUTPUT, PLAIN.encode()[:20] + b"\0" * 20)),
        "results",
        codes="output-malformed|output-differs",
    )


# ---------------------------------------------------------------------------------------------------------
# Type confusion

BAD_JSON: dict[str, Callable[[str], Damage]] = {
    "NaN": lambda name: raw_value(name, "extra", "NaN"),
    "Infinity": lambda name: raw_value(name, "extra", "-Infinity"),
    "1e999": lambda name: raw_value(name, "extra", "1e999"),
    "a number of a thousand digits": lambda name: raw_value(name, "extra", "9" * 1000),
    "a number of a hundred thousand digits": lambda name: raw_value(name, "extra", "9" * 100_000),
    "a number that 64 bits do not hold": lambda name: raw_value(name, "extra", str(2**64)),
    "101 levels": lambda name: raw_value(name, "extra", do.nested(100)),
    "100,000 levels": lambda name: raw_value(name, "extra", do.nested(100_000)),
    "100,000 open brackets": lambda name: overwrite(name, '{"extra": ' + "[" * 100_000),
    "a list": do.list_instead,
    "null": lambda name: overwrite(name, "null"),
    "a text": lambda name: overwrite(name, '"completed"'),
    "two objects": lambda name: do.change(name, lambda data: data + b"\n" + data),
    "a key twice": lambda name: do.repeat_key(name, "passed" if "judg" in name else "exit_code"),
    "a byte order mark": lambda name: do.change(name, lambda data: codecs.BOM_UTF8 + data),
    "UTF-16": lambda name: do.change(name, lambda data: data.decode().encode("utf-16")),
    "Latin-1": lambda name: do.change(name, lambda data: data[:-2] + b', "extra": "na\xefve"}'),
    "a surrogate in UTF-8": lambda name: do.change(name, lambda data: data[:-2] + b', "extra": "\xed\xa0\x80"}'),
    "NUL bytes behind": lambda name: do.change(name, lambda data: data + b"\0" * 512),
    "NUL bytes for all of it": lambda name: do.change(name, lambda data: b"\0" * len(data)),
    "blanks": lambda name: overwrite(name, " \n"),
    "a comma before the brace": lambda name: do.change(name, lambda data: data[:-1].rstrip() + b",}"),
    "single quotes": lambda name: do.change(name, lambda data: data.replace(b'"', b"'")),
    "another file's text": lambda name: overwrite(name, model_md("Judge", "judge-large-1", "2026-02-02")),
    "a directory": do.directory_for_file,
}

WRONG_JUDGMENTS: tuple[tuple[str, Any, str], ...] = (
    ("/score", True, "judgment-invalid|score-out-of-range"),
    ("/score", "85%", "judgment-invalid|score-out-of-range"),
    ("/score", "0.85", "judgment-invalid|score-out-of-range"),
    ("/score", None, "judgment-invalid|score-out-of-range"),
    ("/score", [0.8], "judgment-invalid|score-out-of-range"),
    ("/score", 85, "score-out-of-range"),
    ("/score", 1.0001, "score-out-of-range"),
    ("/score", -0.1, "score-out-of-range"),
    ("/passed", "yes", "judgment-invalid"),
    ("/passed", 1, "judgment-invalid"),
    ("/passed", None, "judgment-invalid"),
    ("/grade", "E", "judgment-invalid"),
    ("/grade", "A+", "judgment-invalid"),
    ("/grade", "N/A", "judgment-invalid"),
    ("/grade", 1, "judgment-invalid"),
    ("/reasoning", 5, "judgment-invalid"),
    ("/reasoning", None, "judgment-invalid"),
    ("/criteria_scores", [], "judgment-invalid"),
    ("/criteria_scores/clarity", 0.7, "judgment-invalid"),
    ("/fallback", "true", "judgment-invalid"),
    ("/is_valid", False, "judgment-not-valid"),
    ("/is_valid", None, "judgment-invalid|judgment-not-valid"),
    ("/is_valid", "true", "judgment-invalid|judgment-not-valid"),
    ("/is_valid", 1, "judgment-invalid|judgment-not-valid"),
)
WRONG_RECORDS: tuple[tuple[str, str, Any], ...] = (
    (RESULT, "/exit_code", True),
    (RESULT, "/exit_code", "0"),
    (RESULT, "/exit_code", None),
    (RESULT, "/stdout", None),
    (RESULT, "/stdout", {}),
    (RESULT, "/token_stats", [1, 2, 3, 4]),
    (RESULT, "/token_stats/input_tokens", "33"),
    (RESULT, "/token_stats/output_tokens", True),
    (RESULT, "/token_stats/output_tokens", -1),
    (RESULT, "/token_stats/cache_read_tokens", 0.5),
    (RESULT, "/cost_usd", "0.12"),
    (RESULT, "/cost_usd", -0.12),
    (CONSENSUS, "/score", "0.9"),
    (CONSENSUS, "/score", 90),
    (CONSENSUS, "/score", True),
    (CONSENSUS, "/passed", "true"),
    (CONSENSUS, "/grade", None),
    (CONSENSUS, "/reasoning", []),
    (CONSENSUS, "/is_valid", "yes"),
    (RUN_RESULT, "/run_number", True),
    (RUN_RESULT, "/run_number", "2"),
    (RUN_RESULT, "/judge_score", "85%"),
    (RUN_RESULT, "/judge_score", 85),
    (RUN_RESULT, "/judge_passed", 1),
    (RUN_RESULT, "/judge_grade", "E"),
    (RUN_RESULT, "/cost_usd", True),
    (RUN_RESULT, "/duration_seconds", "31 s"),
    (RUN_RESULT, "/duration_seconds", -1),
    (RUN_RESULT, "/token_stats", None),
    (RUN_RESULT, "/judges", {}),
    (RUN_RESULT, "/judges/0", None),
    (RUN_RESULT, "/judges/1/score", "high"),
    (RUN_RESULT, "/judges/1/passed", 0),
    (RUN_RESULT, "/judges/1/judge_number", "2"),
    (RUN_RESULT, "/workspace_path", 7),
)


def type_confusion() -> Iterator[Fault]:
    for what, spoil in BAD_JSON.items():
        yield Fault(
            f"a judgment with {what}", spoil(JUDGMENT), slots="complete failed complete", codes="judgment-malformed"
        )
    for number, (what, spoil) in enumerate(BAD_JSON.items()):
        name = RECORDS[number % 3]
        yield Fault(f"{name} with {what}", spoil(name), "results", codes=f"{SUBJECT[name]}-malformed")
    for name, what in zip(SIDE_RECORDS, ("NaN", "100,000 levels", "UTF-16", "a directory"), strict=True):
        yield Fault(f"{name} with {what}", BAD_JSON[what](name), warnings="side-file-malformed")
    for pointer, value, code in WRONG_JUDGMENTS:
        yield Fault(
            f"a judgment whose {pointer[1:]} is {json.dumps(value)}",
            put(JUDGMENT, pointer, value),
            slots="complete failed complete",
            codes=code,
        )
    for text in ("NaN", "Infinity", "1e999", "9" * 400):
        yield Fault(
            f"a judgment whose score is {text[:9]}",
            raw_value(JUDGMENT, "score", text),
            slots="complete failed complete",
            codes="judgment-malformed",
        )
    for key in ("score", "passed", "grade", "reasoning"):
        yield Fault(
            f"a judgment without {key}",
            do.drop(JUDGMENT, f"/{key}"),
            slots="complete failed complete",
            codes="judgment-invalid",
        )
    for name, pointer, value in WRONG_RECORDS:
        yield Fault(
            f"{name} whose {pointer[1:]} is {json.dumps(value)}",
            put(name, pointer, value),
            "results",
            codes=f"{SUBJECT[name]}-invalid",
        )
    yield Fault("run_result.json without judges", do.drop(RUN_RESULT, "/judges"), "results", codes="run-result-invalid")
    yield Fault(
        "all judgments in percent",
        do.in_every_slot(lambda slot: put(f"{slot}/judgment.json", "/score", 85)),
        "results",
        "failed",
        "no-complete-slot score-out-of-range",
    )
    yield Fault(
        "timing.json whose duration is a text",
        put("agent/timing.json", "/agent_duration_seconds", "31"),
        warnings="side-file-malformed",
    )
    yield Fault(
        "timing.json of a slot whose fallback is 1",
        put(f"{SLOT}/timing.json", "/fallback", 1),
        warnings="side-file-malformed",
    )
    yield Fault(
        "a command log whose env_vars are a list",
        put(LOG, "/commands/0/env_vars", [f"KEY={SECRET}"]),
        warnings="side-file-malformed",
    )
    yield Fault("a directory for output.txt", do.directory_for_file(OUTPUT), "results", codes="output-malformed")
    for name in (
        "agent/stdout.log",
        "agent/cmd_0000_stdout.log",
        "agent/stderr.log",
        "agent/MODEL.md",
        "judge_prompt.md",
        f"{SLOT}/MODEL.md",
    ):
        yield Fault(f"a directory for {name}", do.directory_for_file(name), warnings="side-file-malformed")
    yield Fault("a directory for response.txt", do.directory_for_file(REPLIES[0]), warnings="unasked")
    yield Fault(
        "a file for agent/",
        do.file_for_directory("agent"),
        "partial",
        codes="agent-output-unsound|agent-output-missing",
    )
    yield Fault("a file for judge/", do.file_for_directory("judge"), "results", "missing|failed", "no-complete-slot")
    yield Fault(
        "a file for a slot",
        do.file_for_directory(SLOT),
        slots="complete missing|failed complete",
        codes="judge-slot-malformed|judge-slot-missing",
    )
    yield Fault("a file for the run", do.file_for_directory("."), "partial|missing", "agent_failed", "no-agent-result")
    yield Fault(
        "a file for the tier",
        do.file_for_directory("../.."),
        "partial|missing",
        "agent_failed",
        "no-agent-result",
        place="T1/",
    )
    yield Fault(
        "output.txt whose token count is a text",
        each(do.change(OUTPUT, lambda data: data.replace(b'"output_tokens":', b'"output_tokens":"many","was":'))),
        "results",
        codes="output-malformed|output-differs",
    )
    yield Fault(
        "output.txt with a byte order mark",
        do.change(OUTPUT, lambda data: codecs.BOM_UTF8 + data),
        "results",
        codes="output-malformed|output-differs",
    )
    yield Fault(
        "all copies of the output with NaN",
        retell(stdout='{"type":"result","is_error":false,"usage":NaN}\n'),
        "partial",
        codes="agent-output-unsound",
    )
    yield Fault(
        "all copies of the output an object that is no reply",
        retell(stdout='{"score": 1, "passed": true}\n'),
        "partial",
        codes="agent-output-unsound",
    )
    yield Fault(
        "all copies of the output 100,000 levels deep",
        retell(stdout='{"usage":' + "[" * 100_000 + "\n"),
        "partial",
        codes="agent-output-unsound",
    )


# ---------------------------------------------------------------------------------------------------------
# Contradiction


def foreign(path: str) -> Callable[[JsonObject], None]:
    """Set all paths of a run_result.json to those of the run at `path`."""

    def how(record: JsonObject) -> None:
        record.update(
            workspace_path=f"{path}/workspace",
            logs_path=f"{path}/agent",
            command_log_path=f"{path}/agent/command_log.json",
        )

    return how


def other_output(*copies: str, text: str | None = None) -> Damage:
    """Put a sound reply of another execution into copies of the output."""
    other = agent_stdout(agent_reply(text="Something else altogether.")) if text is None else text

    def damage(run: Run) -> None:
        for name in copies:
            if name == RESULT:
                put(RESULT, "/stdout", other)(run)
            else:
                run.write(name, other)

    return damage


def revised(*scores: float, names: tuple[str, ...] = REPLIES, stored_at: int | None = None) -> Damage:
    """Let replies of the slot hold several verdicts with these scores; the stored one comes in at `stored_at`."""

    def damage(run: Run) -> None:
        stored = run.load(JUDGMENT)
        verdicts = [dict(stored, score=score, criteria_scores=None) for score in scores]
        if stored_at is not None:
            verdicts.insert(stored_at, stored)
        text = "\n".join(response(verdict, "On reflection:") for verdict in verdicts)
        for name in names:
            run.write(name, text)

    return damage


def other_judgment(change: Callable[[JsonObject], object]) -> Damage:
    return do.edit(JUDGMENT, change)


def stored_score(score: float) -> Damage:
    return put(JUDGMENT, "/score", score)


def extra_slots(verdicts: list[JsonObject], counted: bool) -> Damage:
    """Give the run a fourth slot; `counted` says whether the consensus includes it."""

    def damage(run: Run) -> None:
        retell(judgments=verdicts if counted else verdicts[:3])(run)
        if not counted:
            do.store_slot(run, 4, verdicts[3], "judge-extra-4")

    return damage


FOUR = opinions((0.9, True), (0.8, True), (0.7, True), (0.2, False))


def contradiction() -> Iterator[Fault]:
    conflict = "agent-records-conflict"
    for key in ("input_tokens", "output_tokens", "cache_creation_tokens", "cache_read_tokens"):
        yield Fault(
            f"run_result.json with another {key}",
            do.add(RUN_RESULT, f"/token_stats/{key}", 1),
            "conflict",
            codes=conflict,
        )
    yield Fault("run_result.json with another cost", do.add(RUN_RESULT, "/cost_usd", 0.01), "conflict", codes=conflict)
    yield Fault("run_result.json with the cost within the tolerance", do.add(RUN_RESULT, "/cost_usd", 5e-7))
    yield Fault(
        "a plain-text run whose records differ in cost",
        each(retell(stdout=PLAIN), do.add(RUN_RESULT, "/cost_usd", 0.01)),
        "conflict",
        codes=conflict,
    )
    yield Fault(
        "result.json against its own output",
        do.add(RESULT, "/token_stats/output_tokens", 5),
        "results",
        codes="agent-result-stale",
    )
    yield Fault(
        "result.json with another cost than its own output",
        do.add(RESULT, "/cost_usd", 5),
        "results",
        codes="agent-result-stale",
    )
    yield Fault(
        "both records against the output",
        each(
            do.add(RESULT, "/token_stats/output_tokens", 5),
            do.add(RUN_RESULT, "/token_stats/output_tokens", 5),
            do.add(RUN_RESULT, "/tokens_output", 5),
        ),
        "results",
        codes="agent-result-stale",
    )
    yield Fault(
        "run_result.json against the output, result.json lost",
        each(lose(RESULT), do.add(RUN_RESULT, "/token_stats/output_tokens", 5)),
        "results|conflict",
    )
    yield Fault(
        "three accounts of the tokens",
        each(do.add(RESULT, "/token_stats/output_tokens", 5), do.add(RUN_RESULT, "/token_stats/output_tokens", 9)),
        "results|conflict",
    )
    yield Fault(
        "the old loss of the cache counts", do.lose_cache_counts(RUN_RESULT), "results", codes="token-counts-lost"
    )
    yield Fault(
        "the old loss of the cache counts in the agent's record",
        do.lose_cache_counts(RESULT),
        "results",
        codes="agent-result-stale",
    )
    yield Fault(
        "the old loss of the cache counts in both records",
        each(do.lose_cache_counts(RESULT), do.lose_cache_counts(RUN_RESULT)),
        "results",
        codes="agent-result-stale",
    )
    yield Fault(
        "the old loss of the cache counts where output.txt is lost too",
        each(do.lose_cache_counts(RUN_RESULT), lose(OUTPUT)),
        "results",
        codes="token-counts-lost output-missing",
    )
    yield Fault(
        "the cache counts lost and another output count",
        each(do.lose_cache_counts(RUN_RESULT), do.add(RUN_RESULT, "/token_stats/output_tokens", 1)),
        "conflict",
        codes=conflict,
    )
    yield Fault(
        "one cache count lost", put(RUN_RESULT, "/token_stats/cache_read_tokens", 0), "conflict", codes=conflict
    )
    yield Fault("long cache names in the agent's record", do.lengthen_cache_names(RESULT))
    yield Fault("long cache names in both records", do.lengthen_cache_names(RESULT, RUN_RESULT))
    yield Fault("tokens_input that is no sum", do.add(RUN_RESULT, "/tokens_input", 1), "results|conflict")

    for name in (RESULT, RUN_RESULT):
        yield Fault(f"another exit code in {name}", put(name, "/exit_code", 1), "results", codes="exit-code-differs")
    yield Fault(
        "another exit code in the command log",
        put(LOG, "/commands/0/exit_code", 1),
        "results",
        codes="exit-code-differs",
    )
    yield Fault(
        "another exit code in run_result.json, without a command log",
        each(lose(LOG), put(RUN_RESULT, "/exit_code", 2)),
        "results",
        codes="exit-code-differs",
    )
    yield Fault(
        "a command log whose first command failed and whose last did not",
        do.edit(
            LOG,
            lambda log: log.update(
                commands=[dict(log["commands"][0], exit_code=1), *log["commands"]], total_commands=2
            ),
        ),
    )

    yield Fault("another run_number", put(RUN_RESULT, "/run_number", 1), "results", codes="run-result-stale")
    for key, amount in (("duration_seconds", 1), ("agent_duration_seconds", 0.01), ("judge_duration_seconds", -0.01)):
        yield Fault(f"another {key}", do.add(RUN_RESULT, f"/{key}", amount), "results", codes="run-result-stale")

    # Copies of the output.
    differs = "output-differs"
    yield Fault("another reply in output.txt", other_output(OUTPUT), "results", codes=differs)
    yield Fault("plain text in output.txt", other_output(OUTPUT, text=PLAIN), "results", codes=differs)
    yield Fault("another reply in stdout.log", other_output("agent/stdout.log"), warnings="side-file-malformed")
    yield Fault("another reply in result.json", other_output(RESULT), "results", codes="agent-result-stale")
    yield Fault(
        "another reply in two of four copies",
        other_output(OUTPUT, "agent/stdout.log"),
        "conflict",
        codes="output-copies-conflict",
    )
    yield Fault(
        "three replies in four copies",
        each(other_output(OUTPUT), other_output("agent/stdout.log", text=PLAIN)),
        "conflict",
    )
    yield Fault(
        "four replies in four copies",
        each(other_output(OUTPUT), other_output("agent/stdout.log", text=PLAIN), other_output(RESULT, text="no")),
        "conflict",
        codes="output-copies-conflict",
    )
    yield Fault(
        "two copies left, with two replies",
        each(lose("agent/cmd_0000_stdout.log", RESULT), other_output(OUTPUT)),
        "conflict",
        codes="output-copies-conflict",
    )
    yield Fault(
        "another reply in two of three copies, result.json lost",
        each(lose(RESULT), other_output(OUTPUT)),
        "results",
        codes="output-differs agent-result-missing",
    )
    yield Fault(
        "another reply and a cut one against one",
        each(lose("agent/cmd_0000_stdout.log"), cut("agent/stdout.log", 0.5), other_output(OUTPUT)),
        "conflict",
        codes="output-copies-conflict",
    )

    # Files of other runs.
    copied = "copied-from-another-run"
    for key in ("workspace_path", "logs_path", "command_log_path"):
        yield Fault(
            f"{key} of another run",
            put(RUN_RESULT, f"/{key}", "/data/exp/T1/01/run_01/agent"),
            "conflict",
            "conflict",
            copied,
        )
    for path in (
        "/data/exp/T1/02/run_02",
        "/data/exp/T0/01/run_02",
        "T1/01/run_03",
        "/data/exp/T1/01/run_02/T1/01/run_01",
    ):
        yield Fault(f"paths of {path}", do.edit(RUN_RESULT, foreign(path)), "conflict", "conflict", copied)
    yield Fault(
        "the cwd of another run",
        put(LOG, "/commands/0/cwd", "/x/T1/01/run_01/workspace"),
        "conflict",
        "conflict",
        copied,
    )
    yield Fault("all files of another run", do.copy_from_sibling("."), "conflict", "conflict", copied)
    yield Fault("agent/ of another run", do.copy_from_sibling("agent"), "conflict", "conflict", copied)
    yield Fault("run_result.json of another run", do.copy_from_sibling(RUN_RESULT), "conflict", "conflict", copied)
    yield Fault("judge/ of another run", do.copy_from_sibling("judge"), "results", codes="run-result-stale")
    yield Fault("the consensus of another run", do.copy_from_sibling(CONSENSUS), "results", codes="consensus-stale")
    yield Fault(
        "the agent's result.json of another run", do.copy_from_sibling(RESULT), "results", codes="agent-result-stale"
    )
    yield Fault(
        "a subtest that is a copy of another",
        do.copy_within("..", "../../03"),
        "conflict",
        "conflict",
        copied,
        place="T1/03/",
    )
    yield Fault(
        "another run's paths, and the output lost",
        each(lose(*ALL_COPIES), do.edit(RUN_RESULT, foreign("/x/T0/00/run_01"))),
        "conflict",
        "conflict",
        copied,
    )
    for stage in ("completed", "in_progress"):
        yield Fault(
            f"a run at the root and in {stage}/",
            do.copy_within(".", in_root(f"{stage}/{RUN}")),
            "conflict",
            "conflict|complete",
            "run-in-two-places",
        )
    yield Fault(
        "a run in in_progress/ and in completed/",
        each(
            do.copy_within("../..", in_root("completed/T1")),
            do.copy_within(".", in_root(f"in_progress/{RUN}")),
            lose("../.."),
        ),
        "conflict",
        "conflict|complete",
        "run-in-two-places",
    )

    for part in ("agent", "judge", RUN_RESULT):
        yield Fault(
            f"a run whose move stopped behind {part}",
            do.copy_within(part, in_root(f"completed/{RUN}/{part}")),
            "conflict",
            "conflict|complete",
            "run-in-two-places",
        )

    # The consensus.
    stale = "consensus-stale"
    yield Fault("a consensus that is not the mean", do.add(CONSENSUS, "/score", -0.01), "results", codes=stale)
    yield Fault(
        "a consensus with the best score",
        do.reconcile(lambda all_: [max(all_, key=lambda one: one["score"])]),
        "results",
        codes=stale,
    )
    yield Fault("a consensus of the first two judges", do.reconcile(lambda all_: all_[:2]), "results", codes=stale)
    yield Fault("a consensus within the tolerance", do.add(CONSENSUS, "/score", -4e-7))
    yield Fault("a wrong grade in both records", do.agree_on("grade", "D"), "results", codes=stale)
    yield Fault(
        "a grade N/A of a valid consensus", put(CONSENSUS, "/grade", "N/A"), "results", codes="consensus-invalid"
    )
    yield Fault(
        "a wrong grade in run_result.json", put(RUN_RESULT, "/judge_grade", "S"), "results", codes="run-result-stale"
    )
    yield Fault("a wrong majority in both records", do.agree_on("passed", False), "results", codes=stale)
    yield Fault(
        "another judge_passed in run_result.json",
        put(RUN_RESULT, "/judge_passed", False),
        "results",
        codes="run-result-stale",
    )
    yield Fault(
        "another judge_score in run_result.json",
        do.add(RUN_RESULT, "/judge_score", 0.01),
        "results",
        codes="run-result-stale",
    )
    yield Fault(
        "a tie among two of two judges counted as passed",
        each(
            retell(judgments=opinions((0.6, True), (0.6, False), (0.6, True))),
            lose(SLOTS[2]),
            do.edit(RUN_RESULT, lambda record: record["judges"].pop()),
        ),
        "results",
        "complete complete missing",
        stale,
    )
    yield Fault(
        "a consensus of the slots that are left, against what run_result.json lists",
        each(do.reconcile(lambda all_: all_[:2]), lose(SLOTS[2])),
        "results",
        "complete complete missing",
        stale,
    )
    yield Fault(
        "a run judged by two of three so far",
        each(
            do.reconcile(lambda all_: all_[:2]),
            lose(SLOTS[2]),
            do.edit(RUN_RESULT, lambda record: record["judges"].pop()),
        ),
        slots="complete complete missing",
        codes="judge-slot-missing",
    )
    invalid = {"score": 0.0, "passed": False, "grade": "N/A", "reasoning": "No reply.", "is_valid": False}
    unjudged = each(
        overwrite(JUDGMENTS[2], json.dumps(invalid)), lose(f"{SLOTS[2]}/response.txt", f"{SLOTS[2]}/stdout.log")
    )
    listed = {key: invalid[key] for key in ("score", "passed", "grade", "reasoning")}
    counting = do.reconcile(lambda all_: [*all_[:2], dict(invalid, grade="F", criteria_scores=None)])
    yield Fault(
        "a failed judge that was averaged in",
        each(counting, unjudged, do.edit(RUN_RESULT, lambda record: record["judges"].pop())),
        "results",
        "complete complete failed",
        "consensus-stale judgment-not-valid",
    )
    yield Fault(
        "a failed judge that was averaged in and listed",
        each(counting, unjudged, do.edit(RUN_RESULT, lambda record: record["judges"][2].update(listed, grade="F"))),
        "results",
        "complete complete failed",
        "consensus-stale judgment-not-valid",
    )
    yield Fault(
        "a failed judge that was left out",
        each(
            do.reconcile(lambda all_: all_[:2]),
            unjudged,
            put(CONSENSUS, "/is_valid", False),
            do.edit(RUN_RESULT, lambda record: record["judges"].pop()),
        ),
        slots="complete complete failed",
        codes="judgment-not-valid",
    )
    yield Fault(
        "an old consensus",
        each(
            do.drop(CONSENSUS, "/is_valid"),
            do.drop(CONSENSUS, "/criteria_scores"),
            put(RUN_RESULT, "/criteria_scores", {}),
        ),
    )
    yield Fault("a consensus with the reasoning of the first judge", reasoning_of_the_first)
    yield Fault("an extra slot", extra_slots(FOUR, counted=False), warnings="extra-slot")
    yield Fault(
        "a consensus with an extra slot",
        extra_slots(FOUR, counted=True),
        warnings="extra-slot consensus-includes-extra",
    )
    yield Fault(
        "an extra slot without a sound judgment",
        each(extra_slots(FOUR, counted=False), overwrite("judge/judge_04/judgment.json", "{")),
        warnings="extra-slot",
    )
    yield Fault(
        "a wrong consensus beside an extra slot",
        each(extra_slots(FOUR, counted=True), do.add(CONSENSUS, "/score", -0.1)),
        "results",
        codes=stale,
    )

    # run_result.json's judges against the slots.
    for key, value in (
        ("score", 0.1),
        ("passed", False),
        ("grade", "F"),
        ("reasoning", "Because."),
        ("judge_number", 4),
    ):
        yield Fault(
            f"another {key} in run_result.json's judges",
            put(RUN_RESULT, f"/judges/1/{key}", value),
            "results",
            codes="run-result-stale",
        )
    yield Fault(
        "a judge that run_result.json does not list",
        do.drop(RUN_RESULT, "/judges/1"),
        "results",
        codes="run-result-stale",
    )
    yield Fault(
        "a run_result.json that lists no judges", put(RUN_RESULT, "/judges", []), "results", codes="run-result-stale"
    )
    yield Fault(
        "a judge that run_result.json lists twice",
        put(RUN_RESULT, "/judges/1/judge_number", 1),
        "results",
        codes="run-result-stale",
    )
    yield Fault(
        "another grade in the judgment",
        other_judgment(lambda record: record.update(grade="F")),
        "results",
        codes="run-result-stale",
    )
    yield Fault(
        "another reasoning in the judgment",
        other_judgment(lambda record: record.update(reasoning="No.")),
        "results",
        codes="run-result-stale",
    )

    # The slot.
    one = "complete conflict complete"
    yield Fault("MODEL.md of another judge", copy_model(SLOTS[0], SLOT), slots=one, codes="judge-model-differs")
    yield Fault("all files of another judge", do.copy_within(SLOTS[0], SLOT), slots=one, codes="judge-model-differs")
    yield Fault(
        "judges in another order",
        each(
            copy_model(SLOT, SLOTS[2]),
            copy_model(SLOTS[0], SLOT),
            overwrite(f"{SLOTS[0]}/MODEL.md", model_md("Judge", JUDGE_MODELS[2], "2026-02-02")),
        ),
        "results",
        "conflict",
        "judge-model-differs no-complete-slot",
    )
    yield Fault(
        "MODEL.md without a model", overwrite(f"{SLOT}/MODEL.md", "# Judge model\n"), warnings="side-file-malformed"
    )
    differs = "judgment-differs-from-reply"
    yield Fault("a score that the judge did not give", stored_score(0.99), slots=one, codes=differs)
    yield Fault("a verdict that the judge did not give", put(JUDGMENT, "/passed", False), slots=one, codes=differs)
    yield Fault(
        "a score that the judge did not give, run_result.json lost",
        each(stored_score(0.99), lose(RUN_RESULT)),
        "results",
        one,
        f"{differs} run-result-missing",
    )
    yield Fault("a score within the tolerance of the reply's", do.add(JUDGMENT, "/score", 4e-7))
    for name in REPLIES:
        yield Fault(
            f"a score that the judge did not give, {name} lost",
            each(stored_score(0.99), lose(name)),
            slots=one,
            codes=differs,
        )
    yield Fault(
        "judgment against run_result.json without a reply",
        each(stored_score(0.99), lose(*REPLIES)),
        slots=one,
        codes="judgment-differs-from-run-result",
    )
    yield Fault(
        "passed against run_result.json without a reply",
        each(put(JUDGMENT, "/passed", False), lose(*REPLIES)),
        slots=one,
        codes="judgment-differs-from-run-result",
    )
    yield Fault(
        "nothing to hold the judgment against",
        each(stored_score(0.99), lose(*REPLIES, RUN_RESULT)),
        "results",
        codes="run-result-missing consensus-stale",
    )
    prose = each(*[overwrite(name, "I would call this good work.\n") for name in REPLIES])
    yield Fault("replies without a verdict", prose)
    yield Fault(
        "replies without a verdict, and another score",
        each(prose, stored_score(0.99)),
        "results",
        codes="run-result-stale",
    )
    percent = each(*[overwrite(name, '```json\n{"score": 85, "passed": true}\n```\n') for name in REPLIES])
    yield Fault("replies whose score is no verdict's", percent)
    words = each(*[overwrite(name, '```json\n{"score": 0.5, "passed": "yes"}\n```\n') for name in REPLIES])
    yield Fault("replies whose passed is no verdict's", words)
    inner = each(*[overwrite(name, '{"draft": {"score": 0.5, "passed": true}}\n') for name in REPLIES])
    yield Fault("replies with a verdict inside another object", inner)
    yield Fault("a first verdict that was revised", revised(0.5, stored_at=0), warnings="verdict-revised")
    yield Fault("a last verdict after a revised one", revised(0.5, stored_at=1))
    yield Fault("a verdict given three times", revised(stored_at=0))
    yield Fault("only verdicts that the judgment does not hold", revised(0.5, 0.51), slots=one, codes=differs)
    yield Fault("a verdict that only stdout.log holds", revised(0.5, names=REPLIES[:1]), warnings="unasked")
    yield Fault("a verdict that only response.txt holds", revised(0.5, names=REPLIES[1:]), warnings="verdict-revised")
    many = tuple(number / 1000 for number in range(1, 64))
    yield Fault("the judgment's verdict as the 64th object", revised(*many, stored_at=63))
    yield Fault(
        "the judgment's verdict as the 65th object", revised(*many, 0.5, stored_at=64), slots=one, codes=differs
    )
    yield Fault(
        "a slot judged before the agent finished",
        put(f"{SLOT}/timing.json", "/measured_at", "2020-01-01T00:00:00+00:00"),
        warnings="stale",
    )
    yield Fault("a judgment without is_valid", do.drop(JUDGMENT, "/is_valid"))


def reasoning_of_the_first(run: Run) -> None:
    first = run.load(JUDGMENTS[0])
    assert run.load(CONSENSUS)["reasoning"] != first["reasoning"]
    for key in ("reasoning", "criteria_scores"):
        put(CONSENSUS, f"/{key}", first[key])(run)
    put(RUN_RESULT, "/judge_reasoning", first["reasoning"])(run)


def copy_model(source: str, target: str) -> Damage:
    return do.copy_within(f"{source}/MODEL.md", f"{target}/MODEL.md")


# ---------------------------------------------------------------------------------------------------------
# Agents that did not work


def service_error(**changes: Any) -> JsonObject:
    reply = agent_reply(text="API Error: rate limit reached")
    return {**reply, "is_error": True, "api_error_status": 429, **changes}


NO_USAGE = {"input_tokens": 0, "output_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}


def failed_agents() -> Iterator[Fault]:
    yield Fault(
        "a reply that is a rate limit",
        retell(reply=service_error(usage=NO_USAGE), exit_code=1),
        "failed",
        codes="agent-error",
    )
    yield Fault(
        "a reply that is a rate limit after some work", retell(reply=service_error()), "failed", codes="agent-error"
    )
    yield Fault(
        "a reply that is an overload, in words",
        retell(reply=service_error(api_error_status="overloaded")),
        "failed",
        codes="agent-error",
    )
    yield Fault(
        "a service error with a command for the CI service",
        retell(reply=service_error(api_error_status="\x1b[31m\n::error::boom")),
        "failed",
        codes="agent-error",
    )
    yield Fault(
        "a rate limit in output.txt and stdout.log alone, the others lost",
        each(retell(reply=service_error()), lose("agent/cmd_0000_stdout.log", RESULT)),
        "failed",
        codes="agent-error",
    )
    yield Fault(
        "a rate limit, and a slot lost",
        each(retell(reply=service_error()), lose(SLOT)),
        "failed",
        "complete agent_failed complete",
        "agent-error no-agent-result",
    )
    yield Fault(
        "a rate limit, and a judgment lost",
        each(retell(reply=service_error()), lose(JUDGMENT)),
        "failed",
        "complete failed complete",
        "agent-error judgment-missing",
    )
    yield Fault(
        "a rate limit, a contradicted judgment and a linked slot",
        each(retell(reply=service_error()), stored_score(0.99), do.link(SLOTS[2])),
        "failed",
        "complete conflict unsafe",
        "agent-error",
    )
    yield Fault(
        "a rate limit, and nothing judged",
        each(retell(reply=service_error()), lose("judge", RUN_RESULT)),
        "failed",
        "agent_failed",
        "agent-error",
    )
    yield Fault(
        "a rate limit, and records that differ in cost",
        each(retell(reply=service_error()), do.add(RUN_RESULT, "/cost_usd", 1)),
        "failed",
        codes="agent-error",
    )
    yield Fault(
        "JSON lines that end in a rate limit",
        retell(reply=service_error(), stdout=agent_stdout(agent_reply()) + agent_stdout(service_error())),
        "failed",
        codes="agent-error",
    )
    idle = agent_reply(input_tokens=0, output_tokens=0, cache_creation_tokens=0, cache_read_tokens=0, cost_usd=0.0)
    yield Fault("an execution that never happened", retell(reply=idle, exit_code=-1), "failed", codes="agent-never-ran")
    yield Fault(
        "an execution that never happened, and no output",
        each(retell(reply=idle, exit_code=-1), lose(*FILE_COPIES, RESULT)),
        "failed",
        codes="agent-never-ran",
    )
    yield Fault(
        "an execution that never happened, with blank output",
        retell(reply=idle, stdout="\n", exit_code=-1),
        "failed",
        codes="agent-never-ran",
    )
    yield Fault("a non-zero exit without tokens", retell(reply=idle, exit_code=1), "failed", codes="agent-error")
    yield Fault(
        "a non-zero exit without tokens, whatever derived files say",
        each(
            retell(reply=idle, exit_code=1),
            *[put(name, "/exit_code", 0) for name in (RESULT, RUN_RESULT)],
            *[do.add(name, "/token_stats/output_tokens", 9) for name in (RESULT, RUN_RESULT)],
        ),
        "failed",
        codes="agent-error",
    )
    yield Fault("a zero exit without tokens", retell(reply=idle))
    yield Fault(
        "derived files that deny the work done",
        each(
            *[put(name, "/exit_code", -1) for name in (RESULT, RUN_RESULT)],
            *[
                do.edit(name, lambda record: record["token_stats"].update(dict.fromkeys(record["token_stats"], 0)))
                for name in (RESULT, RUN_RESULT)
            ],
        ),
        "results",
        codes="agent-result-stale exit-code-differs",
    )


# ---------------------------------------------------------------------------------------------------------
# Hostile objects

LIMIT = 256 * 1024
SMALL_FILES = Policy(max_file_size=LIMIT)


def pad(name: str, size: int) -> Damage:
    return do.change(name, lambda data: data.ljust(size))


NASTY = "\x1b]0;title\x07\x1b[31mred\r\n::error file=a.py::boom\n##[error]boom\u202e\u2028\x85\x00\ud800"
LONG = "\U000e0041" * 4000


def hostile() -> Iterator[Fault]:
    unsafe = "unsafe-object"
    for name, place in ((".", RUN), ("..", "T1/01/"), ("../..", "T1/")):
        what = {".": "run", "..": "subtest", "../..": "tier"}[name]
        yield Fault(f"a link for the {what}", do.link(name), "unsafe", "unsafe", unsafe, place=place)
    yield Fault("a link to nowhere for the run", do.link_to(".", "/nowhere/at/all"), "unsafe", "unsafe", unsafe)
    yield Fault("a link to the run before for the run", do.link_to(".", "run_01"), "unsafe", "unsafe", unsafe)
    yield Fault("a link to itself for the run", do.link_to(".", "run_02"), "unsafe", "unsafe", unsafe)
    yield Fault("a named pipe for the run", do.fifo("."), "unsafe", "unsafe", unsafe)
    yield Fault("a link for agent/", do.link("agent"), "unsafe", codes=unsafe)
    yield Fault("a link for judge/", do.link("judge"), "unsafe", "unsafe", unsafe)
    yield Fault("a link for a slot", do.link(SLOT), slots="complete unsafe complete", codes=unsafe)
    makers: dict[str, Callable[[str], Damage]] = {
        "link": do.link,
        "named pipe": do.fifo,
        "socket": do.unix_socket,
        "link to a device": lambda name: do.link_to(name, "/dev/zero"),
        "link to nowhere": lambda name: do.link_to(name, "/nowhere"),
        "link into the experiment": lambda name: do.link_to(name, f"{'../' * (name.count('/') + 1)}run_01/{name}"),
    }
    for what, make in makers.items():
        for name in DERIVED if what in ("link", "named pipe") else (OUTPUT,):
            yield Fault(f"a {what} for {name}", make(name), "unsafe", codes=unsafe)
        yield Fault(f"a {what} for a judgment", make(JUDGMENT), slots="complete unsafe complete", codes=unsafe)
        yield Fault(f"a {what} for stdout.log", make("agent/stdout.log"), warnings="side-file-unsafe")
    for name in SIDE_FILES[1:]:
        yield Fault(f"a link for {name}", do.link(name), warnings="side-file-unsafe")
    yield Fault("a named pipe for timing.json", do.fifo("agent/timing.json"), warnings="side-file-unsafe")
    yield Fault("a named pipe for a slot", do.fifo(SLOT), slots="complete unsafe complete", codes=unsafe)
    yield Fault("a named pipe for agent/", do.fifo("agent"), "unsafe", codes=unsafe)
    for name in REPLIES:
        yield Fault(f"a link for {name}", do.link(name), warnings="side-file-unsafe")
    for name in OPTIONAL[:3]:
        yield Fault(f"a link for {name}", do.link(name))
    yield Fault("a link for the workspace", do.link_to("workspace", "/"))
    yield Fault("a link for an extra slot", do.link_to("judge/judge_04", "/"), warnings="extra-slot")
    yield Fault("a link beside the tiers", do.link_to(in_root("T9-notes"), "/"))
    yield Fault("a link that an output mentions", retell(stdout=PLAIN + "/dev/zero\n../../../../etc/passwd\n"))
    yield Fault(
        "a link for all records at once",
        each(*[do.link(name) for name in (*DERIVED, *JUDGMENTS)]),
        "unsafe",
        "unsafe",
        unsafe,
    )
    yield Fault(
        "a link before a copy of another run", each(do.copy_from_sibling("."), do.link(OUTPUT)), "unsafe", codes=unsafe
    )
    yield Fault(
        "a linked slot beside a lost run_result.json",
        each(do.link(SLOT), lose(RUN_RESULT)),
        "results",
        "complete unsafe complete",
        f"{unsafe} run-result-missing",
    )
    yield Fault(
        "a hard link to another run's report",
        each(lose("report.md"), lambda run: os.link(run.sibling.path("report.md"), run.path("report.md"))),
    )

    yield Fault(
        "files just within the size limit", each(pad(RUN_RESULT, LIMIT), pad(JUDGMENT, LIMIT)), policy=SMALL_FILES
    )
    for name in RECORDS:
        yield Fault(f"{name} beyond the size limit", pad(name, LIMIT + 1), "unsafe", codes=unsafe, policy=SMALL_FILES)
    yield Fault("output.txt beyond the size limit", pad(OUTPUT, LIMIT + 1), "unsafe", codes=unsafe, policy=SMALL_FILES)
    yield Fault(
        "a judgment beyond the size limit",
        pad(JUDGMENT, LIMIT + 1),
        slots="complete unsafe complete",
        codes=unsafe,
        policy=SMALL_FILES,
    )
    for name in ("agent/stdout.log", LOG, f"{SLOT}/timing.json"):
        yield Fault(
            f"{name} beyond the size limit", pad(name, LIMIT + 1), warnings="side-file-unsafe", policy=SMALL_FILES
        )

    places = (".", "agent", "judge", SLOT, "..", "../..", in_root("."))
    yield Fault("names that are not UTF-8 everywhere", do.undecodable(*places))
    yield Fault(
        "names that are not UTF-8 in an empty run",
        each(do.keep_only(), do.undecodable(".")),
        "partial",
        "agent_failed",
        "no-agent-result",
    )

    for what, text in (("terminal escapes", NASTY), ("4,000 unprintable characters", LONG)):
        yield Fault(
            f"a reasoning with {what}",
            put(JUDGMENT, "/reasoning", text),
            "results",
            codes="run-result-stale",
        )
        yield Fault(
            f"a listed reasoning with {what}",
            each(
                put(JUDGMENT, "/reasoning", "a" + text),
                put(RUN_RESULT, "/judges/1/reasoning", "b" + text),
            ),
            "results",
            codes="run-result-stale",
        )
        yield Fault(
            f"a reasoning with {what} in all records",
            retell(judgments=[dict(one, reasoning=text) for one in opinions((0.7, True), (0.8, True), (0.9, True))]),
        )
        for key in ("score", "grade", "passed", "is_valid"):
            yield Fault(
                f"a judgment whose {key} is {what}",
                put(JUDGMENT, f"/{key}", text),
                slots="complete failed complete",
                codes="judgment-invalid|judgment-not-valid|score-out-of-range",
            )
        yield Fault(
            f"a criterion named with {what}",
            put(JUDGMENT, f"/criteria_scores/{text.replace('/', '')}", 5),
            slots="complete failed complete",
            codes="judgment-invalid",
        )
        yield Fault(
            f"a key twice, with {what}",
            overwrite(JUDGMENT, f"{{{json.dumps(text)}:1,{json.dumps(text)}:2}}"),
            slots="complete failed complete",
            codes="judgment-malformed",
        )
        yield Fault(
            f"a consensus grade with {what}", put(CONSENSUS, "/grade", text), "results", codes="consensus-invalid"
        )
        yield Fault(
            f"a model with {what}",
            overwrite(f"{SLOT}/MODEL.md", f"**Model**: x{text}\n"),
            slots="complete conflict complete",
            codes="judge-model-differs",
        )
        yield Fault(
            f"a fallback reason with {what}",
            each(put(JUDGMENT, "/fallback", True), put(JUDGMENT, "/fallback_reason", text)),
            warnings="fallback",
        )
        yield Fault(
            f"an environment with {what}", put(LOG, "/commands/0/env_vars", {text: 5}), warnings="side-file-malformed"
        )
        yield Fault(
            f"paths with {what}",
            put(RUN_RESULT, "/workspace_path", f"/{text}/T0/00/run_01"),
            "conflict",
            "conflict",
            "copied-from-another-run",
        )
    yield Fault(
        "a checkpoint with ids that lead elsewhere",
        put(in_root("checkpoint.json"), "/completed_runs/T1", {"../../etc": {"1": "passed"}}),
        notes="subtest-source-refused",
    )


# ---------------------------------------------------------------------------------------------------------
# Oddities that are none of an audit's business


def crlf(name: str) -> Damage:
    return do.change(name, lambda data: data.replace(b"\n", b"\r\n"))


def extra_keys(name: str) -> Damage:
    return do.edit(name, lambda record: record.update({"x-note": None, "x-list": [1, {"deep": [NASTY[:20]]}]}))


def relocated(run: Run) -> None:
    """Move the tiers to the later layout's `completed/`."""
    target = run.root / "completed"
    target.mkdir()
    for tier in ("T0", "T1"):
        (run.root / tier).rename(target / tier)


def configured(key: str, value: Any) -> Damage:
    return put(in_root("config/experiment.json"), f"/{key}", value)


def heuristic(run: Run) -> None:
    """Let the second slot be a fallback as one was stored once, with replies that say something else."""
    verdicts = [run.load(name) for name in JUDGMENTS]
    verdicts[1] = {
        "score": 0.7,
        "passed": True,
        "grade": "C",
        "reasoning": "Fallback: the agent reported success.",
        "is_valid": True,
        "criteria_scores": None,
        "fallback": True,
        "fallback_reason": "no verdict found",
    }
    retell(judgments=verdicts)(run)
    revised(0.3)(run)


def legitimate() -> Iterator[Fault]:
    yield Fault("nothing at all", do.nothing)
    for code in (1, 2, 124, 137, -1, -9):
        yield Fault(f"exit code {code} with tokens", retell(exit_code=code))
    yield Fault("a timeout with tokens and plain output", retell(stdout=PLAIN, exit_code=-1))
    yield Fault("grade F", retell(judgments=opinions((0.0, False), (0.1, False), (0.05, False))))
    yield Fault("grade S", retell(judgments=opinions((1.0, True), (1.0, True), (1, True))))
    yield Fault("not passed with 0.9", retell(judgments=opinions((0.9, False), (0.9, False), (0.9, False))))
    yield Fault("passed with 0.1", retell(judgments=opinions((0.1, True), (0.1, True), (0.1, True))))
    yield Fault("a mean on the border of two grades", retell(judgments=opinions((0.7, True), (0.8, True), (0.9, True))))
    yield Fault("a mean of 0.6 in thirds", retell(judgments=opinions((0.5, True), (0.6, True), (0.7, False))))
    yield Fault(
        "criteria that do not apply",
        each(put(JUDGMENT, "/criteria_scores/tests", {"achieved": "N/A", "max": "N/A", "score": "N/A", "items": {}})),
    )
    yield Fault("a judgment without criteria", put(JUDGMENT, "/criteria_scores", None))
    yield Fault(
        "an agent that speaks of rate limits",
        retell(
            reply=agent_reply(
                text='Error: rate limit exceeded (429). "is_error": true, "api_error_status": 429, overloaded_error'
            )
        ),
    )
    yield Fault("an agent that speaks of rate limits in plain text", retell(stdout="API Error: 429 rate_limit_error\n"))
    yield Fault("is_error without api_error_status", retell(reply={**agent_reply(), "is_error": True}))
    yield Fault("is_error with an api_error_status of null", retell(reply=service_error(api_error_status=None)))
    yield Fault("api_error_status without is_error", retell(reply=service_error(is_error=False)))
    yield Fault(
        "a run that reached the maximum of turns",
        retell(reply={**agent_reply(), "is_error": True, "subtype": "error_max_turns"}, exit_code=1),
    )
    reply = agent_reply()
    line = agent_stdout(reply)
    for what, text in (
        ("JSON lines", f'{{"type":"system"}}\n{{"type":"assistant"}}\n{line}'),
        ("JSON lines with an error that was overcome", agent_stdout(service_error()) + line),
        ("a reply among other lines", f"npm warn old lockfile\n{line}bye\n"),
        ("a reply before other lines", line + "{not JSON\nbye\n"),
        ("a reply over several lines", json.dumps(reply, indent=2)),
        ("a reply with blanks around it", f"\n \n{line}\n\n"),
    ):
        yield Fault(what, retell(reply=reply, stdout=text))
    yield Fault("a surrogate in the agent's text", retell(reply=agent_reply(text="caf\\ud83d")))
    yield Fault("CRLF in every record", do.in_every_record(crlf))
    yield Fault("CRLF in MODEL.md", each(crlf(f"{SLOT}/MODEL.md"), crlf("agent/MODEL.md")))
    yield Fault("unknown keys in every record", do.in_every_record(extra_keys))
    yield Fault("100 levels", raw_value(JUDGMENT, "extra", do.nested(99)))
    yield Fault(
        "records without indentation",
        do.in_every_record(
            lambda name: (
                lambda run: run.write(name, json.dumps(run.load(name), ensure_ascii=False, separators=(",", ":")))
            )
        ),
    )
    yield Fault(
        "a last line break in every record",
        do.in_every_record(lambda name: do.change(name, lambda data: data + b"\n")),
    )
    yield Fault("another model of the agent", overwrite("agent/MODEL.md", model_md("Agent", "agent-large-9", "2026")))
    yield Fault(
        "a workspace full of records",
        each(
            overwrite("workspace/run_result.json", "{"),
            overwrite("workspace/agent/output.txt", "\0"),
            do.link_to("workspace/judge", "/"),
        ),
    )
    yield Fault("an experiment that was moved", do.edit(RUN_RESULT, foreign(f"/mnt/archive/T0/00/run_01/old/{RUN}")))
    yield Fault("paths that name no run", do.edit(RUN_RESULT, foreign("/tmp/somewhere")))
    yield Fault(
        "attempts in .failed/",
        each(
            do.copy_within(".", "../.failed/run_02"),
            do.copy_within(".", "../.failed/run_02_failed_1"),
            lose("../.failed/run_02/agent"),
        ),
    )
    yield Fault(
        "attempts beside the runs",
        each(do.copy_within(".", "../run_02_failed_1"), do.copy_within(".", "../run_02.bak")),
    )
    yield Fault(
        "an old/ directory",
        each(
            do.copy_within(".", "../old/run_02"),
            do.copy_within("..", "../../old/01"),
            do.copy_within("../..", in_root("old/T1")),
        ),
    )
    yield Fault("the later layout", relocated, place=EVERYWHERE)
    yield Fault("prompts of the run in another layout", overwrite(in_root(f"in_progress/{RUN}/task_prompt.md"), "x"))
    yield Fault("an empty directory for the other layout", lambda run: (run.root / "completed").mkdir())
    yield Fault("a file named like the other layout", overwrite(in_root("completed"), "yes\n"))
    yield Fault("an extra run", do.copy_within(".", "../run_03"), notes="extra-run")
    yield Fault(
        "an extra run that is broken",
        each(do.copy_within(".", "../run_07"), lose("../run_07/agent"), do.link_to("../run_07/judge", "/nowhere")),
        notes="extra-run",
    )
    yield Fault("an extra tier", do.copy_within("../..", in_root("T5")), notes="extra-tier")
    yield Fault(
        "fewer runs configured since",
        configured("runs_per_subtest", 1),
        notes="extra-run extra-run",
        place=EVERYWHERE,
    )
    yield Fault("fewer tiers configured since", configured("tiers_to_run", ["T1"]), notes="extra-tier")
    yield Fault(
        "fewer judges configured since",
        configured("judge_models", list(JUDGE_MODELS[:2])),
        slots="complete complete",
        warnings="extra-slot consensus-includes-extra",
        place=EVERYWHERE,
    )
    yield Fault(
        "more judges configured since",
        configured("judge_models", [*JUDGE_MODELS, "judge-new-1"]),
        slots="complete complete complete missing",
        codes="judge-slot-missing",
        place=EVERYWHERE,
    )
    yield Fault("a fallback flag in the judgment", put(JUDGMENT, "/fallback", True), warnings="fallback")
    yield Fault(
        "a fallback flag in timing.json",
        each(put(f"{SLOT}/timing.json", "/fallback", True), put(f"{SLOT}/timing.json", "/failed", True)),
        warnings="fallback",
    )
    yield Fault("a call that failed before the one that gave the judgment", put(f"{SLOT}/timing.json", "/failed", True))
    yield Fault("a backup of a slot", do.copy_within(SLOT, f"{SLOT}.bak"))
    yield Fault("judges listed in another order", do.edit(RUN_RESULT, lambda record: record["judges"].reverse()))
    for state in ("failed", "agent_complete"):
        yield Fault(
            f"a checkpoint that says {state}",
            put(in_root("checkpoint.json"), "/completed_runs/T1/01", {"1": "passed", "2": state}),
        )
    yield Fault("a checkpoint that lacks the tier", do.drop(in_root("checkpoint.json"), "/completed_runs/T1"))
    yield Fault(
        "fallback false", each(put(JUDGMENT, "/fallback", False), put(f"{SLOT}/timing.json", "/fallback", False))
    )
    yield Fault("a heuristic's verdict against the replies", heuristic, warnings="fallback")
    strict = Policy(fallback="fail")
    yield Fault(
        "a fallback flag in the judgment, refused",
        put(JUDGMENT, "/fallback", True),
        "completed|results",
        "complete failed complete",
        "fallback-refused",
        "unasked",
        policy=strict,
    )
    yield Fault(
        "a fallback flag in timing.json, refused",
        put(f"{SLOT}/timing.json", "/fallback", True),
        "completed|results",
        "complete failed complete",
        "fallback-refused",
        "unasked",
        policy=strict,
    )
    yield Fault(
        "fallbacks only, refused",
        do.in_every_slot(lambda slot: put(f"{slot}/judgment.json", "/fallback", True)),
        "results",
        "failed",
        "fallback-refused no-complete-slot",
        policy=strict,
    )
    yield Fault(
        "a checkpoint that is not JSON", overwrite(in_root("checkpoint.json"), "{"), notes="subtest-source-refused"
    )


FAULTS = [
    *loss(),
    *truncation(),
    *type_confusion(),
    *contradiction(),
    *failed_agents(),
    *hostile(),
    *legitimate(),
]


# ---------------------------------------------------------------------------------------------------------
# The corpus under audit


@dataclass(frozen=True)
class Outcome:
    """What an audit of a damaged experiment said, and what on disk was another afterwards than before."""

    audits: dict[str, RunAudit]
    about_experiment: tuple[Finding, ...]
    touched: list[bytes]

    @property
    def findings(self) -> list[Finding]:
        return [*self.about_experiment, *(found for audit in self.audits.values() for found in all_findings(audit))]


Examine = Callable[[Fault], Outcome]
Entry = tuple[tuple[int, ...], tuple[int, int], bytes]
Snapshot = dict[bytes, Entry]


def all_findings(audit: RunAudit) -> list[Finding]:
    return [*audit.findings, *(found for slot in audit.slots for found in slot.findings)]


def snapshot(root: Path, known: Snapshot | None = None) -> Snapshot:
    """Everything below a directory: what each entry is, its times (not the last access's), its bytes or its target.

    Files that are in `known` with the same times are not read again.
    """
    found: Snapshot = {}
    waiting = [os.fsencode(root)]
    while waiting:
        place = waiting.pop()
        found[place] = entry = look_at(place, known)
        if stat.S_ISDIR(entry[0][0]):
            waiting += [place + b"/" + name for name in os.listdir(place)]
    return found


def look_at(place: bytes, known: Snapshot | None = None) -> Entry:
    """What a snapshot holds of one entry."""
    status = os.lstat(place)
    identity = (status.st_mode, status.st_ino, status.st_nlink, status.st_uid, status.st_gid, status.st_size)
    times = (status.st_mtime_ns, status.st_ctime_ns)
    if stat.S_ISLNK(status.st_mode):
        return identity, times, os.readlink(place)
    if not stat.S_ISREG(status.st_mode):
        return identity, times, b""
    earlier = known.get(place) if known else None
    if earlier and earlier[:2] == (identity, times):
        return earlier
    with open(place, "rb", buffering=0) as file:
        return identity, times, file.read()


class Workbench:
    """A place with a healthy experiment of four runs, T0/00 and T1/01, that is damaged, audited and mended in turn."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.root = place / "exp"
        write_experiment(self.root, small(tiers={"T0": ("00",), "T1": ("01",)}))
        self._healthy = snapshot(place)
        self._known: dict[str, Outcome] = {}

    def examine(self, fault: Fault) -> Outcome:
        """Audit the experiment with this damage: once, however many tests look at the outcome."""
        if fault.name not in self._known:
            after: Snapshot | None = None
            try:
                fault.damage(Run(self.root, RUN))
                before = snapshot(self.place, self._healthy)
                experiment = pytest_scylla.load(self.root)
                audits = {str(audit.run): audit for audit in pytest_scylla.audit(experiment, fault.policy)}
                about_experiment = audit_experiment(experiment)
                after = snapshot(self.place)
                touched = [name for name in {*before, *after} if before.get(name) != after.get(name)]
                self._known[fault.name] = Outcome(audits, about_experiment, touched)
            finally:
                self._mend(snapshot(self.place) if after is None else after)
        return self._known[fault.name]

    def _mend(self, found: Snapshot) -> None:
        """Put back what was there; to write the whole experiment anew for each fault would take minutes."""
        for name in sorted(found, reverse=True):  # what is in a directory before the directory
            if name not in self._healthy or _kept(found[name]) != _kept(self._healthy[name]):
                (os.rmdir if stat.S_ISDIR(found.pop(name)[0][0]) else os.unlink)(name)
        for name in sorted(self._healthy.keys() - found.keys()):
            (mode, *_), _, content = self._healthy[name]
            if stat.S_ISDIR(mode):
                os.mkdir(name)
            else:
                Path(os.fsdecode(name)).write_bytes(content)
                # Times are coarse: the next damage may give the file the same ones. So it is always read again.
                self._healthy[name] = ((mode,), (0, 0), content)


def _kept(entry: Entry) -> tuple[int, bytes]:
    return stat.S_IFMT(entry[0][0]), entry[2]


@pytest.fixture(scope="session")
def examine() -> Iterator[Examine]:
    """The function that damages an experiment and audits it, where possible in memory: it makes many small files."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        yield Workbench(Path(place)).examine


def codes(findings: Iterator[Finding] | list[Finding] | tuple[Finding, ...], severity: str) -> list[str]:
    return sorted(found.code for found in findings if found.severity == severity)


def one_of(words: str) -> set[str]:
    return set(words.split("|"))


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_audit_gives_the_verdict_of_the_rules(fault: Fault, examine: Examine) -> None:
    outcome = examine(fault)
    damaged = {run: audit for run, audit in outcome.audits.items() if run.startswith(fault.place)}
    assert damaged
    for run, audit in damaged.items():
        said = "\n".join([f"{run}: {audit.status}", *map(str, all_findings(audit))])
        assert audit.status in one_of(fault.run), said
        expected = fault.slots.split() if " " in fault.slots else [fault.slots] * len(audit.slots)
        assert len(audit.slots) == len(expected)
        for slot, words in zip(audit.slots, expected, strict=True):
            assert slot.status in one_of(words), f"{slot.slot}: {slot.status}\n{said}"
        if fault.place == EVERYWHERE and run != RUN:
            continue  # what a changed configuration means for a run depends on the run
        errors = codes(all_findings(audit), "error")
        for code in fault.codes.split():
            assert one_of(code) & set(errors), f"no {code}\n{said}"
        warnings = set(codes(all_findings(audit), "warning"))
        if fault.run == "completed" and fault.warnings != "unasked":
            assert warnings == set(fault.warnings.split()), said
        elif fault.warnings != "unasked":
            assert warnings >= set(fault.warnings.split()), said
    for run, audit in outcome.audits.items():
        if run not in damaged:
            assert audit.status == "completed", run
            assert {slot.status for slot in audit.slots} == {"complete"}, run
            assert not all_findings(audit), run
    assert codes(outcome.about_experiment, "warning") == sorted(fault.notes.split())
    assert not codes(outcome.about_experiment, "error")


def test_every_fault_names_known_verdicts_and_codes() -> None:
    assert len(FAULTS) >= 100
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        assert one_of(fault.run) <= set(RUN_STATUSES), fault
        assert {word for words in fault.slots.split() for word in one_of(words)} <= set(SLOT_STATUSES), fault
        for words in fault.codes.split():
            assert {CODES[code].severity for code in one_of(words)} == {"error"}, fault
        if fault.warnings != "unasked":
            assert all(CODES[code].severity == "warning" for code in fault.warnings.split()), fault


def test_a_run_or_slot_has_an_error_exactly_where_something_is_wrong_with_it(examine: Examine) -> None:
    for fault in FAULTS:
        for audit in examine(fault).audits.values():
            assert bool(codes(audit.findings, "error")) == (audit.status != "completed"), (fault, audit)
            for slot in audit.slots:
                assert bool(codes(slot.findings, "error")) == (slot.status != "complete"), (fault, slot)


def test_only_what_is_sound_has_a_score(examine: Examine) -> None:
    for fault in FAULTS:
        for audit in examine(fault).audits.values():
            items: list[tuple[RunAudit | SlotAudit, bool]] = [(audit, audit.status == "completed")]
            items += [(slot, slot.complete) for slot in audit.slots]
            for item, well in items:
                assert (item.score is not None) == (item.passed is not None) == well, (fault, item)
                assert item.score is None or 0 <= item.score <= 1, (fault, item)


def test_no_audit_writes_anything(examine: Examine) -> None:
    for fault in FAULTS:
        assert examine(fault).touched == [], fault


def unpresentable(found: Finding) -> str:
    """What is wrong with a finding as a line in a terminal, a log or an annotation; nothing, as a rule."""
    text = str(found)
    if not text.isprintable():
        return "not printable"
    if len(text) >= 1000:
        return f"{len(text)} characters"
    if "::" in text or "##[" in text:
        return "a command for a CI service"
    if found.severity != CODES[found.code].severity:
        return "another severity than its code's"
    return "" if found.message and found.message == found.message.strip() else "no message"


def test_every_finding_is_one_printable_line_of_moderate_length(examine: Examine) -> None:
    wrong = [
        (str(fault), reason, ascii(str(found))[:300])
        for fault in FAULTS
        for found in examine(fault).findings
        if (reason := unpresentable(found))
    ]
    assert wrong == []


def test_no_finding_shows_a_secret(examine: Examine) -> None:
    for fault in FAULTS:
        for found in examine(fault).findings:
            assert SECRET[:12] not in str(found), (fault, found)


LOG_TEXT = f'{{"commands": [{{"command": ["agent"], "exit_code": 0, "env_vars": {{"ANTHROPIC_API_KEY": "{SECRET}"'
SPILLED_SECRETS: dict[str, Damage] = {
    "env_vars a text": put(LOG, "/commands/0/env_vars", f"ANTHROPIC_API_KEY={SECRET}"),
    "env_vars a list": put(LOG, "/commands/0/env_vars", [f"ANTHROPIC_API_KEY={SECRET}"]),
    "env_vars a list of pairs": put(LOG, "/commands/0/env_vars", [["ANTHROPIC_API_KEY", SECRET]]),
    "a value in a list": put(LOG, "/commands/0/env_vars", {"ANTHROPIC_API_KEY": [SECRET]}),
    "a value in an object": put(LOG, "/commands/0/env_vars", {"ANTHROPIC_API_KEY": {"value": SECRET}}),
    "a key for a value": put(LOG, "/commands/0/env_vars", {SECRET: 5}),
    "another value no text": put(LOG, "/commands/0/env_vars/PATH", 5),
    "the key twice": overwrite(LOG, f'{LOG_TEXT}, "ANTHROPIC_API_KEY": "{SECRET}"}}}}]}}'),
    "the secret for a key, twice": overwrite(LOG, f'{{"commands": [], "{SECRET}": 1, "{SECRET}": 2}}'),
    "cut within the secret": overwrite(LOG, LOG_TEXT[:-10]),
    "cut behind the secret": overwrite(LOG, LOG_TEXT),
    "a line break in the secret": overwrite(LOG, LOG_TEXT[:-10] + "\n" + '"}}]}'),
    "no quotes around the secret": overwrite(LOG, f'{{"commands": [{{"env_vars": {{"KEY": {SECRET}}}}}]}}'),
    "a command that is a text": put(LOG, "/commands/0", f"ANTHROPIC_API_KEY={SECRET} agent"),
    "commands that are a text": put(LOG, "/commands", f"ANTHROPIC_API_KEY={SECRET} agent"),
    "arguments that are a text": put(LOG, "/commands/0/command", f"agent --key {SECRET}"),
    "a working directory that is a list": put(LOG, "/commands/0/cwd", [SECRET]),
    "an exit code that is the secret": put(LOG, "/commands/0/exit_code", SECRET),
}


@pytest.mark.parametrize("name", SPILLED_SECRETS)
def test_no_finding_shows_the_secret_of_a_command_log_that_is_unsound(name: str, examine: Examine) -> None:
    outcome = examine(Fault(f"secret: {name}", SPILLED_SECRETS[name]))
    audit = outcome.audits[RUN]
    assert audit.status == "completed"
    assert codes(audit.findings, "warning") == ["side-file-malformed"]
    assert all(SECRET[:12] not in str(found) for found in outcome.findings), audit.findings


def test_a_healthy_experiment_has_no_finding_wherever_it_lies(experiment_dir: Path, tmp_path: Path) -> None:
    moved = experiment_dir.rename(tmp_path / "T0")
    alias = tmp_path / "alias"
    alias.symlink_to(moved)
    for root in (moved, alias):
        experiment = pytest_scylla.load(root)
        audits = list(pytest_scylla.audit(experiment))
        assert [audit.status for audit in audits] == ["completed"] * 6
        assert [found for audit in audits for found in all_findings(audit)] == []
        assert audit_experiment(experiment) == ()


MANY = 30_000
SLOW_TEXTS: dict[str, Damage] = {
    "quotes in a reply that never closes": overwrite(REPLIES[0], '{"passed" ' + '\\"' * MANY),
    "broken objects in a reply": overwrite(REPLIES[0], '"passed" ' + '{"a" x}' * (MANY // 10)),
    "open objects in a reply": overwrite(REPLIES[0], '"passed" ' + '{"a":' * MANY),
    "fences in a reply": overwrite(REPLIES[0], '"passed"\n' + "```\n" * MANY),
    "blanks in MODEL.md": overwrite(f"{SLOT}/MODEL.md", f"**Model**: {JUDGE_MODELS[1]}{' ' * MANY}x"),
    "lines that are nearly replies": overwrite(OUTPUT, '{"usage" x}\n' * MANY),
    "parts of a path": put(RUN_RESULT, "/workspace_path", "/T1/01" * MANY),
}


@pytest.mark.parametrize("name", SLOW_TEXTS)
def test_no_text_makes_an_audit_slow(name: str, examine: Examine) -> None:
    with processor_time(1.0):
        examine(Fault(f"slow: {name}", SLOW_TEXTS[name]))


def test_a_subtest_beyond_the_definitions_is_a_warning(experiment_dir: Path, tmp_path: Path) -> None:
    for name in ("t0/00-plain.yaml", "t1/01-short.yaml"):
        (tmp_path / "defined" / name).parent.mkdir(parents=True)
        (tmp_path / "defined" / name).write_text("id: x\n")
    shutil.rmtree(experiment_dir / "T1/02/run_01")
    experiment = pytest_scylla.load(experiment_dir, subtests=tmp_path / "defined")
    assert [audit.status for audit in pytest_scylla.audit(experiment)] == ["completed"] * 4
    assert codes(audit_experiment(experiment), "warning") == ["extra-subtest"]


# ---------------------------------------------------------------------------------------------------------
# Damage that nobody thought of

ONE_RUN = "T0/00/run_01"
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(st.characters(), max_size=12)
    | st.sampled_from([NASTY, 1e308, 1e300, -0.0, "2026-02-02T09:00:00", "0001-01-01T00:00:00+23:59", "T0/00/run_09"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


def mutate_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, len(data)) | st.integers(start, min(len(data), start + 3)))
    return (
        data[:start]
        + draw(st.binary(max_size=12) | st.sampled_from([b"", b"{", b"}", b'"', b"\0", b"[" * 500]))
        + data[end:]
    )


def mutate_json(draw: st.DrawFn, data: bytes) -> bytes:
    try:
        record = json.loads(data)
    except ValueError:
        return mutate_bytes(draw, data)
    place: Any = {"": record}
    key: Any = ""
    while isinstance(place[key], (dict, list)) and place[key] and draw(st.integers(0, 3)):
        place = place[key]
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)):
            break
    else:
        if key == "":
            return json.dumps(draw(JSON_VALUES)).encode()
    if draw(st.integers(0, 3)):
        place[key] = draw(JSON_VALUES)
    else:
        del place[key]
    return json.dumps(record, indent=2).encode()


@st.composite
def mutations(draw: st.DrawFn, files: dict[str, bytes]) -> dict[str, bytes | None]:
    """Other contents (or none) for some of the files of a run."""
    evidence = [name for name in sorted(files) if name.startswith(ONE_RUN) and not name.endswith((".sh", "report.md"))]
    changed: dict[str, bytes | None] = {}
    for name in draw(st.lists(st.sampled_from(evidence), min_size=1, max_size=3, unique=True)):
        how = draw(st.sampled_from((mutate_json, mutate_json, mutate_bytes, None)))
        changed[name] = how(draw, files[name]) if how else None
    return changed


@pytest.fixture(scope="session")
def one_run() -> Iterator[tuple[Path, dict[str, bytes]]]:
    """An experiment of one run, and the bytes of its files."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "exp")
        write_experiment(root, small(tiers={"T0": ("00",)}, runs_per_subtest=1))
        yield root, {os.path.relpath(path, root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_whatever_happens_to_the_files_of_a_run_the_audit_gives_a_verdict(
    one_run: tuple[Path, dict[str, bytes]], data: st.DataObject
) -> None:
    root, files = one_run
    changed = data.draw(mutations(files))
    lost = data.draw(st.none() | st.integers(1, 3))
    if lost is not None:
        changed[f"{ONE_RUN}/judge/judge_{lost:02d}/judgment.json"] = None
    try:
        for name, content in changed.items():
            if content is None:
                (root / name).unlink()
            else:
                (root / name).write_bytes(content)
        (audit,) = pytest_scylla.audit(pytest_scylla.load(root))
    finally:
        for name in changed:
            (root / name).write_bytes(files[name])
    assert audit.status in RUN_STATUSES
    assert bool(codes(audit.findings, "error")) == (audit.status != "completed")
    for slot in audit.slots:
        assert slot.status in SLOT_STATUSES
        assert bool(codes(slot.findings, "error")) == (slot.status != "complete")
    if lost is not None:
        assert not audit.slots[lost - 1].complete
    for found in all_findings(audit):
        assert not unpresentable(found), ascii(str(found))
        assert SECRET[:12] not in str(found)


def test_an_experiment_of_one_run_is_well_before_it_is_damaged(one_run: tuple[Path, dict[str, bytes]]) -> None:
    (audit,) = pytest_scylla.audit(pytest_scylla.load(one_run[0]))
    assert (audit.status, all_findings(audit)) == ("completed", [])
