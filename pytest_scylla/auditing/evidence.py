"""Everything an audit reads of one run, each file once.

Nothing is judged here beyond what a file is by itself: absent, sound, malformed, invalid or unsafe.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Literal

from ..experiment.attempts import Attempt, attempts_of
from ..experiment.errors import ExperimentGone
from ..experiment.expected import Experiment
from ..experiment.layout import JUDGE, RunId, SlotId
from ..experiment.records import MAX_FILE_SIZE, Blob, EntryState, Folder, Record, open_below, open_experiment
from ..experiment.schemas import Kind, as_record
from ..experiment.strict_json import parse_object

_MODEL = re.compile(rb"^\*\*Model\*\*:([^\r\n]*)", re.MULTILINE)
# Where each file lies, the field that holds it, and, of a record, its schema.
_RUN_FILES: dict[str, tuple[str, Kind | None]] = {
    "agent/output.txt": ("output", None),
    "agent/stdout.log": ("stdout_log", None),
    "agent/cmd_0000_stdout.log": ("command_stdout", None),
    "agent/stderr.log": ("stderr", None),
    "agent/cmd_0000_stderr.log": ("command_stderr", None),
    "agent/result.json": ("result", "agent-result"),
    "agent/timing.json": ("timing", "agent-timing"),
    "agent/command_log.json": ("command_log", "command-log"),
    "agent/MODEL.md": ("model_file", None),
    "judge/result.json": ("consensus", "consensus"),
    "judge/timing.json": ("judge_timing", "judge-timing"),
    "judge_prompt.md": ("judge_prompt", None),
    "run_result.json": ("run_result", "run-result"),
}
_SLOT_FILES: dict[str, tuple[str, Kind | None]] = {
    "judgment.json": ("judgment", "judgment"),
    "timing.json": ("timing", "judge-slot-timing"),
    "response.txt": ("response", None),
    "stdout.log": ("stdout", None),
    "MODEL.md": ("model_file", None),
}
_PROMPTS = frozenset({"prompt.md", "task_prompt.md", "judge_prompt.md", "workspace"})


@dataclass(frozen=True, slots=True)
class Policy:
    """What an audit may be told.

    ``max_file_size`` is how large a file it reads, in bytes; ``fallback`` whether a fallback judgment counts as
    complete; ``attempts`` how often a judge is asked in vain before a slot is left alone.
    """

    max_file_size: int = MAX_FILE_SIZE
    fallback: Literal["warn", "fail"] = "warn"
    attempts: int = 3


DEFAULT_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class SlotEvidence:
    """What lies in a judge slot. ``folder`` is "sound" if ``judge_NN/`` is a directory that could be opened.

    ``attempts`` at its judging are read only where it lacks a judgment that counts.
    """

    slot: SlotId
    model: str
    folder: Blob
    judgment: Record
    timing: Record
    response: Blob
    stdout: Blob
    model_file: Blob
    attempts: tuple[Attempt, ...] = ()

    @property
    def named_model(self) -> str | None:
        """The model that MODEL.md names, if it names one."""
        return _named_model(self.model_file)

    @property
    def replies(self) -> tuple[Blob, ...]:
        """The copies of the judge's reply that hold any text; one, where both say the same."""
        found = [blob for blob in (self.response, self.stdout) if blob.data.strip()]
        return tuple(found[:1] if len(found) == 2 and found[0].data == found[1].data else found)

    @property
    def disowned(self) -> bool:
        """Whether judgment.json says, in whatever words, that it is not valid; it may break its schema as well."""
        data: Mapping[str, Any] = self.judgment.data
        if self.judgment.state == "invalid":
            data = parse_object(self.judgment.raw)  # which was possible when it was read, or it would be malformed
        return data.get("is_valid", True) is not True

    @property
    def fallback(self) -> bool:
        """Whether the judgment is said to be a heuristic's."""
        return self.judgment.data.get("fallback") is True or self.timing.data.get("fallback") is True

    def attempts_with(self, prompt: Blob) -> tuple[Attempt, ...]:
        """The attempts that asked its model with the run's prompt as it is: others say nothing of what it would say."""
        if not self.attempts:
            return ()
        digest = sha256(prompt.data).hexdigest()
        return tuple(one for one in self.attempts if (one.model, one.prompt_sha256) == (self.model, digest))

    def lacks_judgment(self, policy: Policy) -> bool:
        """Whether no judgment is there that counts."""
        return not self.judgment.sound or self.disowned or (self.fallback and policy.fallback == "fail")

    def files(self) -> Iterator[Blob | Record]:
        """Everything that was read."""
        return (getattr(self, field) for field, _ in _SLOT_FILES.values())

    def with_file(self, name: str, data: bytes) -> SlotEvidence:
        """What the slot would hold if its file ``name`` were ``data``."""
        return replace(self, folder=Blob(self.folder.file, "sound"), **_changed(self, _SLOT_FILES, name, data))


@dataclass(frozen=True, slots=True)
class RunEvidence:
    """What lies in a run. ``folder`` is "absent" also where the directory holds nothing but prompts.

    ``also_at`` names further places where the run lies. ``has_workspace``: the agent's workspace is still there.
    ``agent`` and ``judge`` are the two directories. ``extra_slots`` are beyond the configuration.
    """

    run: RunId
    folder: Blob
    also_at: tuple[str, ...]
    has_workspace: bool
    agent: Blob
    judge: Blob
    output: Blob
    stdout_log: Blob
    command_stdout: Blob
    stderr: Blob
    command_stderr: Blob
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

    def files(self) -> Iterator[Blob | Record]:
        """Everything that was read, in the run and in its slots."""
        for field, _ in _RUN_FILES.values():
            yield getattr(self, field)
        for slot in (*self.slots, *self.extra_slots):
            yield from slot.files()

    def with_file(self, name: str, data: bytes) -> RunEvidence:
        """What the run would hold if its file ``name``, such as ``judge/judge_01/judgment.json``, were ``data``.

        :raises KeyError: no verdict rests on such a file.
        """
        head, _, base = name.rpartition("/")
        if name in _RUN_FILES:
            changes: dict[str, Any] = _changed(self, _RUN_FILES, name, data)
            if head:
                changes[head] = Blob(f"{self.folder.file}/{head}", "sound")
            return replace(self, folder=Blob(self.folder.file, "sound"), **changes)
        if not head.startswith("judge/"):
            raise KeyError(name)
        slots = [slot.with_file(base, data) if f"judge/{slot.slot.name}" == head else slot for slot in self.slots]
        return replace(self, judge=Blob(self.judge.file, "sound"), slots=tuple(slots))


def read_run(experiment: Experiment, run: RunId, policy: Policy) -> RunEvidence:
    """Read everything of ``run`` that its verdict and its slots' verdicts rest on.

    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    found: list[tuple[Blob, Folder | None]] = []
    with _open_again(experiment) as root:
        try:
            for stage in experiment.stages:
                found.append(_open_run(root, stage, run))
            held = [(blob, folder) for blob, folder in found if not _is_bare(blob, folder)]
            # A file in the place of one layout's directory is no second run.
            held = [place for place in held if place[0].state != "malformed"] or held
            if not held:
                nothing = _read(experiment, run, Blob(found[0][0].file, "absent"), None, (), policy)
                return replace(nothing, has_workspace=any(_has_workspace(folder) for _, folder in found))
            (blob, folder), others = held[0], tuple(other.file for other, _ in held[1:])
            return _with_attempts(root, _read(experiment, run, blob, folder, others, policy), policy)
        finally:
            for _, opened in found:
                if opened is not None:
                    opened.close()


def fingerprint(experiment: Experiment, run: RunId) -> bytes:
    """What tells whether anything that :func:`read_run` reads has changed; no file is opened for it.

    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    found: list[tuple[str, list[EntryState]]] = []

    def add(folder: Folder) -> None:
        with folder:
            states = folder.states()
            found.append((folder.file, states))
            for name, *_ in states:
                if name in ("agent", "judge") or JUDGE.fullmatch(name):
                    opened = folder.open(name)
                    if isinstance(opened, Folder):
                        add(opened)

    with _open_again(experiment) as root:
        for stage in experiment.stages:
            opened = _open_run(root, stage, run)[1]
            if opened is not None:
                add(opened)
    return sha256(repr(found).encode("utf-8", "surrogateescape")).digest()


@contextmanager
def _open_again(experiment: Experiment) -> Iterator[Folder]:
    try:
        with open_experiment(experiment.root) as root:
            yield root
    except OSError as error:
        raise ExperimentGone(error.errno, error.strerror) from error


def _open_run(root: Folder, stage: str, run: RunId) -> tuple[Blob, Folder | None]:
    names = [name for name in (stage, run.tier, run.subtest, run.name) if name]
    place = "/".join(names)
    opened = open_below(root, names)
    if isinstance(opened, Folder):
        return Blob(place, "sound"), opened
    return (Blob(place, "absent") if opened.state == "absent" else opened), None


def _is_bare(blob: Blob, folder: Folder | None) -> bool:
    return blob.state == "absent" or (folder is not None and _PROMPTS.issuperset(folder.names()))


def _has_workspace(folder: Folder | None) -> bool:
    return folder is not None and folder.kind("workspace") == "directory"


def _read(
    experiment: Experiment, run: RunId, place: Blob, folder: Folder | None, others: tuple[str, ...], policy: Policy
) -> RunEvidence:
    agent_at, agent = _open_part(folder, place, "agent")
    judge_at, judge = _open_part(folder, place, "judge")
    try:
        reader = _Reader(policy.max_file_size)
        parts = {"": (folder, place), "agent": (agent, agent_at), "judge": (judge, judge_at)}
        configured = experiment.judges_per_run
        extra = sorted(int(match[1]) for name in (judge.names() if judge else ()) if (match := JUDGE.fullmatch(name)))
        return RunEvidence(
            run=run,
            folder=place,
            also_at=others,
            has_workspace=_has_workspace(folder),
            agent=agent_at,
            judge=judge_at,
            slots=tuple(reader.slot(judge, judge_at, slot, model) for slot, model in experiment.slots(run)),
            extra_slots=tuple(
                reader.slot(judge, judge_at, SlotId(run, number), "") for number in extra if number > configured
            ),
            **reader.files(parts, _RUN_FILES),
        )
    finally:
        for part in (agent, judge):
            if part is not None:
                part.close()


def _with_attempts(root: Folder, run: RunEvidence, policy: Policy) -> RunEvidence:
    if run.judge_prompt.state != "sound" or not any(slot.lacks_judgment(policy) for slot in run.slots):
        return run  # no attempt counts without the prompt that it was made with
    slots = (
        replace(slot, attempts=attempts_of(root, slot.slot)) if slot.lacks_judgment(policy) else slot
        for slot in run.slots
    )
    return replace(run, slots=tuple(slots))


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

    def files(
        self, parts: Mapping[str, tuple[Folder | None, Blob]], files: Mapping[str, tuple[str, Kind | None]]
    ) -> dict[str, Any]:
        """Read ``files`` in their directories ``parts``; by field."""
        found: dict[str, Any] = {}
        for name, (field, kind) in files.items():
            part, _, base = name.rpartition("/")
            folder, place = parts[part]
            blob = Blob(f"{place.file}/{base}", "absent") if folder is None else folder.read(base, self._max_size)
            found[field] = blob if kind is None else as_record(blob, kind)
        return found

    def slot(self, judge: Folder | None, judge_at: Blob, slot: SlotId, model: str) -> SlotEvidence:
        place, folder = _open_part(judge, judge_at, slot.name)
        try:
            return SlotEvidence(slot=slot, model=model, folder=place, **self.files({"": (folder, place)}, _SLOT_FILES))
        finally:
            if folder is not None:
                folder.close()


def _changed(
    evidence: RunEvidence | SlotEvidence, files: Mapping[str, tuple[str, Kind | None]], name: str, data: bytes
) -> dict[str, Any]:
    field, kind = files[name]
    blob = Blob(getattr(evidence, field).file, "sound", data)
    return {field: blob if kind is None else as_record(blob, kind)}


def _named_model(blob: Blob) -> str | None:
    match = _MODEL.search(blob.data)
    return (match[1].decode("utf-8", "replace").strip() or None) if match else None
