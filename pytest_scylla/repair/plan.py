"""The plan of a run's free repair: which files to rebuild, from what, in which order, and how the run stands then.

A plan is made by doing it on what was read: a file is rebuilt in memory, the run is audited as if the file were there,
and so on, raw files before those that derive from them. So a plan is exactly what a repair then writes, and a file that
would not make its findings go away is never written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256

from ..auditing.evidence import RunEvidence
from ..auditing.findings import Finding
from ..auditing.run import RunAudit, conclude
from ..auditing.status import Case
from ..experiment.expected import Experiment
from ..experiment.layout import CONFIG
from ..experiment.wording import printable
from .actions import Level
from .request import CannotRegenerate, LacksJudgment, Regenerate, Regenerated, RegenerateRequest

Admits = Callable[[str], bool]
"""Whether a repair may act on the item of this name: "run", or a slot's such as "judge_01"."""

_AGENT_FILES = (
    "agent/output.txt",
    "agent/stdout.log",
    "agent/cmd_0000_stdout.log",
    "agent/stderr.log",
    "agent/timing.json",
    "agent/MODEL.md",
    "agent/result.json",
)
_SLOT_FILES = ("judgment.json", "response.txt", "stdout.log", "MODEL.md")
_CONSENSUS, _RUN_RESULT = "judge/result.json", "run_result.json"

_MOST_PASSES = 4
"""What one file lists makes another stale that was looked at before, at most: a verdict that run_result.json lacked
changes the consensus, and that changes run_result.json again."""

REBUILDABLE = frozenset(
    {
        *(f"output-{fault}" for fault in ("missing", "malformed", "truncated", "differs")),
        *(f"agent-result-{fault}" for fault in ("missing", "malformed", "invalid", "stale")),
        *(f"consensus-{fault}" for fault in ("missing", "malformed", "invalid", "stale")),
        *(f"run-result-{fault}" for fault in ("missing", "malformed", "invalid", "stale")),
        *(f"judgment-{fault}" for fault in ("missing", "malformed", "invalid")),
        "score-out-of-range",
        "token-counts-lost",
        "exit-code-differs",
        "side-file-missing",
        "side-file-malformed",
    }
)
"""The findings that a file rebuilt in its place may solve."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that a rebuilt one comes from, relative to the experiment, and the hash of what it held."""

    file: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """One file to write.

    ``item`` is whose it is ("run", or "judge_01"); ``name`` is relative to the run, ``file`` to the experiment;
    ``solves`` are the codes of the findings that go away with it. ``level`` says where its content comes from: other
    files, or a judge.
    """

    item: str
    name: str
    file: str
    data: bytes
    sources: tuple[Source, ...]
    solves: tuple[str, ...]
    level: Level = "regenerate"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file with an error that cannot be rebuilt, why, and whether a judgment that a judge may give would help."""

    item: str
    name: str
    file: str
    reason: str
    lacks_judgment: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a repair of a run writes. ``case`` is what the run then holds, and ``audit`` what an audit makes of it."""

    steps: tuple[Step, ...]
    refusals: tuple[Refusal, ...]
    audit: RunAudit
    case: Case | None = field(repr=False)

    @property
    def items(self) -> set[str]:
        """The items that it is about: "run", "judge_01", .."""
        return {step.item for step in self.steps} | {refusal.item for refusal in self.refusals}


@dataclass(frozen=True, slots=True)
class Given:
    """New files of a run that come from elsewhere, by their names in it, in the order in which to write them.

    ``item`` is whose they are ("run", or "judge_01"). ``main`` is the one that the others are there for. ``sources``
    are files that they come from, ``level`` is what it took to get them.
    """

    item: str
    files: Mapping[str, bytes]
    main: str
    level: Level
    sources: tuple[str, ...] = ()


def make_plan(
    experiment: Experiment,
    case: Case,
    audit: RunAudit,
    regenerate: Regenerate,
    admits: Admits = lambda item: True,
    given: Given | None = None,
) -> Plan:
    """Plan the repair of a run that was read as ``case`` and audited as ``audit``, by what survives and is ``given``.

    Beside what ``admits`` lets it act on, consensus and run_result.json are kept current where a slot changes.
    """
    draft = _Draft(experiment, regenerate, case, audit)
    if given is not None:
        draft.take(given)
    findings = (*draft.audit.findings, *(found for slot in draft.audit.slots for found in slot.findings))
    if not draft.steps and not any(found.code in REBUILDABLE for found in findings):
        return Plan((), (), audit, case)
    for _ in range(_MOST_PASSES):
        accepted = draft.accepted
        for name in _files(audit):
            follows = draft.slot_changed and name in (_CONSENSUS, _RUN_RESULT)
            if admits(_item_of(name)) or follows:
                draft.consider(name, follows=follows)
        if draft.accepted == accepted:
            break
    return Plan(tuple(draft.steps.values()), tuple(draft.refusals.values()), draft.audit, draft.case)


class _Contradicts(CannotRegenerate):
    """The rebuilt file would contradict other records as they stand."""


class _Draft:
    """A plan in the making: the run as it would stand after the steps so far."""

    def __init__(self, experiment: Experiment, regenerate: Regenerate, case: Case, audit: RunAudit) -> None:
        self._experiment = experiment
        self._regenerate = regenerate
        self.case = case
        self.audit = audit
        self.steps: dict[str, Step] = {}
        self.refusals: dict[str, Refusal] = {}
        self.accepted = 0
        self.slot_changed = False
        self._settled: set[str] = set()

    def take(self, given: Given) -> None:
        """Take files for what the run holds that are not rebuilt from it."""
        findings = self.audit.findings
        for slot in self.audit.slots:
            if slot.slot.name == given.item:
                findings = slot.findings
        solved = tuple(sorted({fault.code for fault in findings if fault.severity == "error"}))
        sources = _hashed(self._experiment, self.case.evidence, given.sources)
        for name, data in given.files.items():
            file = f"{self.case.evidence.folder.file}/{name}"
            solves = solved if name == given.main else ()
            self.steps[name] = Step(given.item, name, file, data, sources, solves, given.level)
            with suppress(KeyError):  # no verdict rests on every file
                self.case = self.case.with_file(name, data)
        self.audit = conclude(self.case)
        self.slot_changed = given.item != "run"

    def consider(self, name: str, *, follows: bool) -> None:
        """Rebuild the file ``name`` if anything is wrong with it that this solves.

        Nobody is asked twice for what does not survive. But what would contradict other records may do so no more once
        those are put right: where agent/result.json and run_result.json are wrong in the same way, the derived one
        comes first. In the other order the run would be in conflict between the two, and not be finished if the repair
        is killed there.
        """
        if name in self._settled:
            return
        faults = faults_of(self.audit, name)
        if follows and not faults:
            faults = _faults_after_a_slot(self.case, self.audit, name)
        if not faults:
            return
        request = RegenerateRequest(self._experiment, self.case, name, faults)
        try:
            self._require_directory(name)
            rebuilt = self._regenerate(request)
            self._accept(request, rebuilt)
        except CannotRegenerate as refused:
            if not isinstance(refused, _Contradicts):
                self._settled.add(name)
            if any(fault.severity == "error" for fault in faults):
                reason, lacks_judgment = printable(str(refused)), isinstance(refused, LacksJudgment)
                self.refusals[name] = Refusal(_item_of(name), name, request.file, reason, lacks_judgment)

    def _require_directory(self, name: str) -> None:
        part = {"agent": self.case.evidence.agent, "judge": self.case.evidence.judge}.get(name.partition("/")[0])
        if part is not None and part.state not in ("sound", "absent"):
            raise CannotRegenerate(f"{part.file}: {part.reason}")

    def _accept(self, request: RegenerateRequest, rebuilt: Regenerated) -> None:
        """Take the rebuilt file for what the run holds, unless the run would not be the better for it."""
        name = request.name
        case = self.case.with_file(name, rebuilt.data)
        audit = conclude(case)
        left = faults_of(audit, name) or _faults_after_a_slot(case, audit, name)
        if left:
            kind = LacksJudgment if name == _CONSENSUS else CannotRegenerate
            raise kind(f"what survives does not put it right ({left[0].code} stays)")
        if worse := _contradictions(audit) - _contradictions(self.audit):
            raise _Contradicts(f"it would contradict other records ({min(worse)})")
        before = self.steps.pop(name, None)
        solved = before.solves if before is not None else tuple(sorted({fault.code for fault in request.findings}))
        sources = _hashed(self._experiment, self.case.evidence, rebuilt.sources)
        self.steps[name] = Step(_item_of(name), name, request.file, rebuilt.data, sources, solved)
        self.refusals.pop(name, None)
        self.accepted += 1
        self.slot_changed = self.slot_changed or name.endswith("/judgment.json")
        self.case, self.audit = case, audit


def _files(audit: RunAudit) -> Iterator[str]:
    """The files of a run that can be rebuilt, raw before derived."""
    yield from _AGENT_FILES
    for slot in audit.slots:
        for name in _SLOT_FILES:
            yield f"judge/{slot.slot.name}/{name}"
    yield from ("judge/timing.json", _CONSENSUS, _RUN_RESULT)


def _item_of(name: str) -> str:
    return name.split("/")[1] if name.startswith("judge/judge_") else "run"


def faults_of(audit: RunAudit, name: str) -> tuple[Finding, ...]:
    """What is wrong with a file, as far as the status of its item lets a rebuilt one solve it."""
    item = _item_of(name)
    if item == "run":
        findings = audit.findings if audit.status in ("completed", "results") else ()
    else:
        slot = next(slot for slot in audit.slots if slot.slot.name == item)
        findings = slot.findings if slot.status in ("complete", "failed") else ()
    return tuple(found for found in findings if found.code in REBUILDABLE and found.file.endswith(f"/{name}"))


def _faults_after_a_slot(case: Case, audit: RunAudit, name: str) -> tuple[Finding, ...]:
    """What is wrong with consensus or run_result.json in a run whose own status does not look at them.

    Records of an agent that contradict each other are for a person to decide, so run_result.json stays as it is then.
    """
    if name == _CONSENSUS and audit.status in ("failed", "partial", "conflict"):
        return tuple(found for found in case.consensus_findings if found.code in REBUILDABLE)
    if name == _RUN_RESULT and audit.status in ("failed", "partial"):
        return case.run_result_findings
    return ()


def _contradictions(audit: RunAudit) -> set[str]:
    items = [(str(audit.run), audit.status), *((str(slot.slot), slot.status) for slot in audit.slots)]
    return {f"{item}: {status}" for item, status in items if status in ("conflict", "unsafe")}


def _hashed(experiment: Experiment, evidence: RunEvidence, sources: tuple[str, ...]) -> tuple[Source, ...]:
    known = {CONFIG: experiment.config.sha256}
    read = {file.file: file.raw for file in evidence.files()}
    hashes = ((file, sha256(read[file]).hexdigest() if file in read else known.get(file)) for file in sources)
    return tuple(Source(printable(file), found) for file, found in hashes)
