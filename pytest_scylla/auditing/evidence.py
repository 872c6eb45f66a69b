"""Everything an audit reads of one run, each file once.

Nothing is judged here beyond what a file is by itself: absent, sound, malformed, invalid or unsafe.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..experiment.expected import Experiment
from ..experiment.layout import JUDGE, RunId, SlotId
from ..experiment.records import MAX_FILE_SIZE, Blob, Folder, Record, open_below, open_experiment
from ..experiment.schemas import Kind, as_record

_MODEL = re.compile(rb"^\*\*Model\*\*:([^\r\n]*)", re.MULTILINE)
_PROMPTS = frozenset({"prompt.md", "task_prompt.md", "judge_prompt.md", "workspace"})


@dataclass(frozen=True, slots=True)
class Policy:
    """What an audit may be told: how large a file it reads, and whether a fallback judgment counts as complete."""

    max_file_size: int = MAX_FILE_SIZE
    fallback: Literal["warn", "fail"] = "warn"


DEFAULT_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class SlotEvidence:
    """What lies in a judge slot. ``folder`` is "sound" if ``judge_NN/`` is a directory that could be opened."""

    slot: SlotId
    model: str
    folder: Blob
    judgment: Record
    timing: Record
    response: Blob
    stdout: Blob
    model_file: Blob

    @property
    def named_model(self) -> str | None:
        """The model that MODEL.md names, if it names one."""
        return _named_model(self.model_file)

    @property
    def replies(self) -> tuple[Blob, ...]:
        """The copies of the judge's reply that hold any text; one, where both say the same."""
        found = [blob for blob in (self.response, self.stdout) if blob.data.strip()]
        return tuple(found[:1] if len(found) == 2 and found[0].data == found[1].data else found)


@dataclass(frozen=True, slots=True)
class RunEvidence:
    """What lies in a run. ``folder`` is "absent" also where the directory holds nothing but prompts.

    ``also_at`` names further places where the run lies. ``agent`` and ``judge`` are the two directories.
    ``stderr`` is looked at, not read. ``extra_slots`` are beyond the configuration.
    """

    run: RunId
    folder: Blob
    also_at: tuple[str, ...]
    agent: Blob
    judge: Blob
    output: Blob
    stdout_log: Blob
    command_stdout: Blob
    stderr: Blob
    result: Record
    timing: Record
    command_log: Record
    model_file: Blob
    consensus: Record
    judge_timing: Record
    judge_prompt: Blob
    run_result: Record
    slots: tuple[SlotEvidence, ...]
    extra_slots: tuple[SlotEvidence, ...]

    @property
    def named_model(self) -> str | None:
        """The model that agent/MODEL.md names, if it names one."""
        return _named_model(self.model_file)


def read_run(experiment: Experiment, run: RunId, policy: Policy) -> RunEvidence:
    """Read everything of ``run`` that its verdict and its slots' verdicts rest on.

    :raises OSError: the experiment itself can no longer be opened.
    """
    found: list[tuple[Blob, Folder | None]] = []
    with open_experiment(experiment.root) as root:
        try:
            for stage in experiment.stages:
                found.append(_open_run(root, stage, run))
            held = [(blob, folder) for blob, folder in found if not _is_bare(blob, folder)]
            # A file in the place of one layout's directory is no second run.
            held = [place for place in held if place[0].state != "malformed"] or held
            if not held:
                return _read(experiment, run, Blob(found[0][0].file, "absent"), None, (), policy)
            (blob, folder), others = held[0], tuple(other.file for other, _ in held[1:])
            return _read(experiment, run, blob, folder, others, policy)
        finally:
            for _, opened in found:
                if opened is not None:
                    opened.close()


def _open_run(root: Folder, stage: str, run: RunId) -> tuple[Blob, Folder | None]:
    names = [name for name in (stage, run.tier, run.subtest, run.name) if name]
    place = "/".join(names)
    opened = open_below(root, names)
    if isinstance(opened, Folder):
        return Blob(place, "sound"), opened
    return (Blob(place, "absent") if opened.state == "absent" else opened), None


def _is_bare(blob: Blob, folder: Folder | None) -> bool:
    return blob.state == "absent" or (folder is not None and _PROMPTS.issuperset(folder.names()))


def _read(
    experiment: Experiment, run: RunId, place: Blob, folder: Folder | None, others: tuple[str, ...], policy: Policy
) -> RunEvidence:
    agent_at, agent = _open_part(folder, place, "agent")
    judge_at, judge = _open_part(folder, place, "judge")
    try:
        reader = _Reader(policy.max_file_size)
        configured = experiment.judges_per_run
        extra = sorted(int(match[1]) for name in (judge.names() if judge else ()) if (match := JUDGE.fullmatch(name)))
        return RunEvidence(
            run=run,
            folder=place,
            also_at=others,
            agent=agent_at,
            judge=judge_at,
            output=reader.blob(agent, agent_at, "output.txt"),
            stdout_log=reader.blob(agent, agent_at, "stdout.log"),
            command_stdout=reader.blob(agent, agent_at, "cmd_0000_stdout.log"),
            stderr=agent.look("stderr.log") if agent else Blob(f"{agent_at.file}/stderr.log", "absent"),
            result=reader.record(agent, agent_at, "result.json", "agent-result"),
            timing=reader.record(agent, agent_at, "timing.json", "agent-timing"),
            command_log=reader.record(agent, agent_at, "command_log.json", "command-log"),
            model_file=reader.blob(agent, agent_at, "MODEL.md"),
            consensus=reader.record(judge, judge_at, "result.json", "consensus"),
            judge_timing=reader.record(judge, judge_at, "timing.json", "judge-timing"),
            judge_prompt=reader.blob(folder, place, "judge_prompt.md"),
            run_result=reader.record(folder, place, "run_result.json", "run-result"),
            slots=tuple(reader.slot(judge, judge_at, slot, model) for slot, model in experiment.slots(run)),
            extra_slots=tuple(
                reader.slot(judge, judge_at, SlotId(run, number), "") for number in extra if number > configured
            ),
        )
    finally:
        for part in (agent, judge):
            if part is not None:
                part.close()


def _open_part(folder: Folder | None, place: Blob, name: str) -> tuple[Blob, Folder | None]:
    if folder is None:
        return Blob(f"{place.file}/{name}", "absent"), None
    opened = folder.open(name)
    return (opened, None) if isinstance(opened, Blob) else (Blob(opened.file, "sound"), opened)


class _Reader:
    """Reads files below a directory that may itself be absent."""

    __slots__ = ("_max_size",)

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size

    def blob(self, folder: Folder | None, place: Blob, name: str) -> Blob:
        return Blob(f"{place.file}/{name}", "absent") if folder is None else folder.read(name, self._max_size)

    def record(self, folder: Folder | None, place: Blob, name: str, kind: Kind) -> Record:
        return as_record(self.blob(folder, place, name), kind)

    def slot(self, judge: Folder | None, judge_at: Blob, slot: SlotId, model: str) -> SlotEvidence:
        place, folder = _open_part(judge, judge_at, slot.name)
        try:
            return SlotEvidence(
                slot=slot,
                model=model,
                folder=place,
                judgment=self.record(folder, place, "judgment.json", "judgment"),
                timing=self.record(folder, place, "timing.json", "judge-slot-timing"),
                response=self.blob(folder, place, "response.txt"),
                stdout=self.blob(folder, place, "stdout.log"),
                model_file=self.blob(folder, place, "MODEL.md"),
            )
        finally:
            if folder is not None:
                folder.close()


def _named_model(blob: Blob) -> str | None:
    match = _MODEL.search(blob.data)
    return (match[1].decode("utf-8", "replace").strip() or None) if match else None
