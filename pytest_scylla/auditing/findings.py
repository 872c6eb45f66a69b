"""What an audit can find: every code with its meaning, and the words for a status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..experiment.records import Problem
from ..experiment.wording import printable

Severity = Literal["error", "warning"]

RunStatus = Literal["completed", "results", "failed", "partial", "missing", "conflict", "unsafe"]
SlotStatus = Literal["complete", "missing", "failed", "agent_failed", "conflict", "unsafe"]
Status = RunStatus | SlotStatus

RUN_STATUSES: dict[RunStatus, str] = {
    "completed": "the agent's records, the consensus and run_result.json are there, sound, and agree",
    "results": "the agent finished, but a derived file is absent, unsound or disagrees",
    "failed": "the agent ran and did not work",
    "partial": "the agent started, and its output is lost or unfinished",
    "missing": "the agent never started",
    "conflict": "sound records contradict each other, so only a person can decide",
    "unsafe": "an object that may not be read or written is in the way",
}
SLOT_STATUSES: dict[SlotStatus, str] = {
    "complete": "a sound judgment is there",
    "missing": "the judge never started",
    "failed": "no sound judgment came of it",
    "agent_failed": "it needs judging, and there is no agent result to judge",
    "conflict": RUN_STATUSES["conflict"],
    "unsafe": RUN_STATUSES["unsafe"],
}


@dataclass(frozen=True, slots=True)
class Code:
    """A finding's code explained: its meaning, what usually causes it, and what to do about it."""

    severity: Severity
    meaning: str
    cause: str
    remedy: str


_REBUILD = "Free: it can be rebuilt from files that survive."
_RERUN = "Run the agent again; its judges follow."
_JUDGE = "Free where a reply of the judge survives; else one judge call."
_PERSON = "Look at both records and remove the one that is wrong; no repair chooses between them."
_FROM_RUNS = "Free: it follows from the runs."
_CUT_OFF = "It was cut off while it was written: a process was killed, or the disk was full."
_FOREIGN = "Another tool wrote it, or somebody edited it."
_UNSAFE = "Put a regular file or directory in its place; no repair touches it."

CODES: dict[str, Code] = {
    # The run and its directory.
    "run-missing": Code(
        "error", "The run has no directory, or nothing in it but prompts.", "It was never started, or lost.", _RERUN
    ),
    "unsafe-object": Code(
        "error",
        "Something the verdict rests on is a link, pipe, socket or device, too large, or not readable.",
        "A copy that kept links, a permission, or a hostile workspace.",
        _UNSAFE,
    ),
    "run-in-two-places": Code(
        "error", "The run lies in more than one layout directory.", "A move that was interrupted.", _PERSON
    ),
    "copied-from-another-run": Code(
        "error",
        "Paths stored in the run name another tier, subtest or run.",
        "The directory was copied or renamed.",
        "Restore the run's own files, or remove the copy.",
    ),
    # The agent's output.
    "agent-output-missing": Code(
        "error", "No copy of the agent's output is left.", "Files were lost, or the agent was killed.", _RERUN
    ),
    "agent-output-unsound": Code(
        "error",
        "No copy of the agent's output is whole.",
        "The agent or the runner was killed while writing, or the disk was full.",
        _RERUN,
    ),
    "agent-never-ran": Code(
        "error",
        "Exit code -1 and no token counted: the execution never happened.",
        "The agent's command could not be started, or was stopped at once.",
        _RERUN,
    ),
    "agent-error": Code(
        "error",
        "The agent's reply is an error of its service, or it exited with an error before any token.",
        "A rate limit, a login that expired, an overloaded service.",
        _RERUN,
    ),
    "output-copies-conflict": Code(
        "error",
        "Sound copies of the agent's output differ, and no majority agrees.",
        "Files of two executions were mixed.",
        _PERSON,
    ),
    "agent-records-conflict": Code(
        "error",
        "The agent's record and run_result.json give different tokens or cost.",
        "The agent ran twice and the records of both were kept.",
        _PERSON,
    ),
    "output-missing": Code("error", "agent/output.txt is absent; another copy survives.", "It was lost.", _REBUILD),
    "output-malformed": Code("error", "agent/output.txt is not whole; another copy is.", _CUT_OFF, _REBUILD),
    "output-truncated": Code("error", "agent/output.txt is the beginning of another copy.", _CUT_OFF, _REBUILD),
    "output-differs": Code(
        "error", "agent/output.txt differs from the other copies.", "It was overwritten or edited.", _REBUILD
    ),
    # Derived records of the run.
    "agent-result-missing": Code("error", "agent/result.json is absent.", "It was lost.", _REBUILD),
    "agent-result-malformed": Code("error", "agent/result.json is not JSON that can be relied on.", _CUT_OFF, _REBUILD),
    "agent-result-invalid": Code("error", "agent/result.json breaks its schema.", _FOREIGN, _REBUILD),
    "agent-result-stale": Code(
        "error",
        "agent/result.json says something else than the agent's output.",
        "An old tool rebuilt it, or the agent ran again.",
        _REBUILD,
    ),
    "consensus-missing": Code("error", "judge/result.json is absent.", "It was lost, or judging broke off.", _REBUILD),
    "consensus-malformed": Code("error", "judge/result.json is not JSON that can be relied on.", _CUT_OFF, _REBUILD),
    "consensus-invalid": Code("error", "judge/result.json breaks its schema.", _FOREIGN, _REBUILD),
    "consensus-stale": Code(
        "error",
        "judge/result.json is not what the judgments amount to.",
        "A judge was rerun, or a failed one was averaged in.",
        _REBUILD,
    ),
    "run-result-missing": Code("error", "run_result.json is absent.", "The runner died before the end.", _REBUILD),
    "run-result-malformed": Code("error", "run_result.json is not JSON that can be relied on.", _CUT_OFF, _REBUILD),
    "run-result-invalid": Code("error", "run_result.json breaks its schema.", _FOREIGN, _REBUILD),
    "run-result-stale": Code(
        "error",
        "run_result.json says something else than the files it derives from.",
        "They changed later, and it did not.",
        _REBUILD,
    ),
    "token-counts-lost": Code(
        "error",
        "run_result.json lacks the cache tokens that the agent's record has.",
        "An old regeneration that knew the counts only under their short names.",
        _REBUILD,
    ),
    "exit-code-differs": Code(
        "error",
        "Records of the run give different exit codes of the agent.",
        "An old tool rebuilt one of them.",
        _REBUILD,
    ),
    "no-complete-slot": Code(
        "error", "No judge slot of the run is complete.", "Judging failed, or all judgments were lost.", _JUDGE
    ),
    # The judge slot.
    "judge-slot-missing": Code("error", "The slot has no directory.", "Judging broke off before it.", _JUDGE),
    "judge-slot-malformed": Code("error", "The slot's directory is a file.", "A copy that went wrong.", _JUDGE),
    "judgment-missing": Code(
        "error", "The slot has no judgment.json.", "The judge call failed, or the file was lost.", _JUDGE
    ),
    "judgment-malformed": Code("error", "judgment.json is not JSON that can be relied on.", _CUT_OFF, _JUDGE),
    "judgment-invalid": Code(
        "error", "judgment.json breaks its schema.", "A judge's answer was stored unchecked.", _JUDGE
    ),
    "score-out-of-range": Code(
        "error",
        "The score is no number from 0 to 1.",
        "The judge gave percent or points, and its answer was stored unchecked.",
        _JUDGE,
    ),
    "judgment-not-valid": Code(
        "error",
        "judgment.json itself says that it is not valid.",
        "The judge failed, and its failure was stored as a score.",
        "One judge call.",
    ),
    "no-agent-result": Code(
        "error",
        "There is no agent result that could be judged.",
        "The run is missing, partial or failed; its own findings say why.",
        _RERUN,
    ),
    "judgment-differs-from-reply": Code(
        "error",
        "judgment.json holds no verdict that the judge gave.",
        "Files of two judgings were mixed, or somebody edited one.",
        _PERSON,
    ),
    "judgment-differs-from-run-result": Code(
        "error",
        "judgment.json and run_result.json differ, and no reply is left.",
        "The slot was judged again and run_result.json is older, or somebody edited one.",
        _PERSON,
    ),
    "judge-model-differs": Code(
        "error",
        "MODEL.md names another model than the configuration gives the slot.",
        "The order of judge_models was changed, or the slot was copied from another.",
        _PERSON,
    ),
    "fallback-refused": Code(
        "error", "The judgment is a fallback, and scylla_fallback = fail.", "The judge call failed.", "One judge call."
    ),
    "exhausted": Code(
        "error",
        "The judge was asked as often as allowed and gave no verdict.",
        "Replies that cannot be read as a verdict, a prompt that is too long, or a timeout that is too short.",
        "Look at the replies in .scylla/attempts/, then --repair-retry.",
    ),
    # Warnings.
    "fallback": Code(
        "warning",
        "The judgment is a heuristic's, not a judge's.",
        "The judge call failed and a fallback was stored.",
        "Count such slots before trusting a mean.",
    ),
    "verdict-revised": Code(
        "warning",
        "The judge gave several verdicts, and the stored one is not its last.",
        "The judge changed its mind in its reply.",
        "Decide whether the first or the last counts for you.",
    ),
    "stale": Code(
        "warning",
        "The slot was judged before the agent finished.",
        "The agent was run again, and its judges were not.",
        "Judge it again.",
    ),
    "extra-slot": Code("warning", "A judge slot beyond the configuration.", "Fewer judges configured since.", "None."),
    "consensus-includes-extra": Code(
        "warning",
        "The consensus counts judge slots beyond the configuration.",
        "Fewer judges configured since.",
        "None, if that is meant.",
    ),
    "side-file-missing": Code(
        "warning", "A side file is absent.", "It was lost, or never written.", "Free where another file gives it back."
    ),
    "side-file-malformed": Code(
        "warning", "A side file is not what it should be.", _CUT_OFF, "Free where a copy is whole."
    ),
    "side-file-unsafe": Code(
        "warning", "A side file may not be read.", "It is a link, too large, or its permissions forbid it.", _UNSAFE
    ),
    # The experiment.
    "extra-tier": Code("warning", "A tier beyond the configuration.", "tiers_to_run was shortened.", "None."),
    "extra-subtest": Code("warning", "A subtest beyond the definitions.", "max_subtests was lowered.", "None."),
    "extra-run": Code("warning", "A run beyond runs_per_subtest.", "runs_per_subtest was lowered.", "None."),
    "subtest-source-refused": Code(
        "warning",
        "A file that could name subtests was not believed.",
        "It is malformed, or holds ids that are none.",
        "Name the definitions with --scylla-subtests.",
    ),
    "experiment-gone": Code(
        "error", "The experiment could no longer be opened.", "It was moved or unmounted meanwhile.", "Audit again."
    ),
    "subtests-unknown": Code(
        "error",
        "Nothing says which subtests a tier of the configuration has.",
        "The tier was never started, and no checkpoint or aggregate names its subtests.",
        "Name the definitions with --scylla-subtests.",
    ),
    # The checkpoint.
    "checkpoint-missing": Code("error", "The experiment has no checkpoint.json.", "It was lost.", _FROM_RUNS),
    "checkpoint-malformed": Code("error", "checkpoint.json is not JSON that can be relied on.", _CUT_OFF, _FROM_RUNS),
    "checkpoint-invalid": Code(
        "error",
        "checkpoint.json breaks its schema, or holds ids that are none.",
        "Another tool wrote it, or a version of the program yet unknown.",
        _FROM_RUNS,
    ),
    "checkpoint-config-differs": Code(
        "error",
        "checkpoint.json was written under another configuration.",
        "config/experiment.json was edited after the runs were made.",
        "Put the configuration back, or look at what was changed; nothing proves by which the runs were made.",
    ),
    "checkpoint-records-absent-run": Code(
        "error",
        "checkpoint.json records runs that are not there.",
        "Their directories were lost or archived; whoever resumes the experiment would leave them out.",
        _FROM_RUNS,
    ),
    "checkpoint-lacks-run": Code(
        "error",
        "checkpoint.json does not record runs that are finished, or whose agent is.",
        "The runner died before it wrote them down; whoever resumes the experiment would run them again.",
        _FROM_RUNS,
    ),
    "checkpoint-state-differs": Code(
        "error",
        "checkpoint.json says something else of runs than their own files.",
        "They were judged or run again, or lost files since.",
        _FROM_RUNS,
    ),
    # The aggregates.
    "aggregate-missing": Code(
        "error",
        "A record of a subtest, a tier or the experiment is absent, and all its runs are there.",
        "It was lost, or the runner died before it wrote it.",
        _FROM_RUNS,
    ),
    "aggregate-malformed": Code(
        "error",
        "A record of a subtest, a tier or the experiment is not JSON that can be relied on.",
        "Cut off, or an infinite cost of a pass was written down.",
        _FROM_RUNS,
    ),
    "aggregate-invalid": Code(
        "error",
        "A record of a subtest, a tier or the experiment breaks its schema.",
        _FOREIGN,
        _FROM_RUNS,
    ),
    "aggregate-stale": Code(
        "error",
        "A record of a subtest, a tier or the experiment says something else than its runs.",
        "They were judged, run or repaired since, or a run was counted that has no score.",
        _FROM_RUNS,
    ),
    "aggregate-too-large": Code(
        "warning",
        "A record of a subtest, a tier or the experiment is larger than what is read: nobody looked at it.",
        "There are many thousand runs.",
        "Raise scylla_max_file_mib, where there is memory for some ten times that.",
    ),
    "report-missing": Code(
        "warning", "A Markdown report of a subtest, a tier or the experiment is absent.", "It was lost.", _FROM_RUNS
    ),
    "report-stale": Code(
        "warning",
        "A Markdown report of a subtest, a tier or the experiment says something else than the records beside it.",
        "It was cut off, or somebody edited it.",
        _FROM_RUNS,
    ),
}


CONSEQUENCES = frozenset({"no-agent-result"})
"""Findings that follow from another item's: told after the causes, however many they are."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or worth knowing: a stable code, where, and one sentence with expected and found.

    ``file`` is relative to the experiment, ``pointer`` a JSON pointer ("" for a whole file). All texts are printable
    and one line.
    """

    code: str
    severity: Severity
    file: str
    pointer: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file} {self.pointer}" if self.pointer else self.file
        return f"{self.code}: {place}: {self.message}"


def finding(code: str, file: str, message: str, pointer: str = "") -> Finding:
    """Make the finding ``code`` (one of :data:`CODES`), with its severity."""
    return Finding(code, CODES[code].severity, printable(file), pointer, message)


def problem_finding(code: str, file: str, problem: Problem) -> Finding:
    """Make a finding of what is wrong with a record."""
    return finding(code, file, problem.message, problem.pointer)
