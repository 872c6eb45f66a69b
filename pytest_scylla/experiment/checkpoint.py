"""checkpoint.json: what the program that runs an experiment believes is done, read and brought up to date.

Version 2.0 records an ending a run (``completed_runs``). Version 3.1 records the step that each run has reached
(``run_states``) as well, and goes by that; ``completed_runs`` follows from it.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from .expected import Experiment
from .keeping import KEEPING, Keeping
from .layout import CHECKPOINT, CONFIG, SUBTEST, TIER, RunId
from .locks import locked
from .records import Folder, Problem, Record, read_below
from .replacing import NewFile, put_file, put_update
from .schemas import as_record, is_valid
from .strict_json import Json, MalformedJSON, parse_object
from .wording import describe
from .writing import CannotWrite, naming

State = Literal["passed", "failed", "agent_complete"]
"""How a run is recorded: finished, as the judges passed it or did not; or still to be judged."""

FINISHED_STEPS = frozenset({"run_finalized", "report_written", "checkpointed", "worktree_cleaned", "run_complete"})
"""The steps at which a run's records are all written."""

AGENT_STEPS = frozenset(
    {
        "agent_complete",
        "agent_changes_committed",
        "diff_captured",
        "promoted_to_completed",
        "judge_pipeline_run",
        "judge_prompt_built",
        "judge_complete",
    }
)
"""The steps at which the agent is done and the run is not finished."""

GIVEN_UP_STEPS = frozenset({"failed", "rate_limited"})
"""The steps at which the program gave up; it begins such a run again by itself. ``completed_runs`` may call it failed,
which says nothing about its judges then."""

EARLY_STEPS = frozenset(
    {
        "pending",
        "dir_structure_created",
        "worktree_created",
        "symlinks_applied",
        "config_committed",
        "baseline_captured",
        "prompt_written",
        "replay_generated",
    }
)
"""The steps before the agent is done."""

_STEP_OF: dict[State | None, str] = {
    # Later steps than the one before it lead the program to work on the run once more.
    "passed": "worktree_cleaned",
    "failed": "worktree_cleaned",
    "agent_complete": "agent_complete",
    None: "pending",
}
_AT_WORK = ("running", "paused_rate_limit")
_NUMBER = re.compile(r"[1-9][0-9]{0,5}")
_LEVELS = (TIER, SUBTEST, _NUMBER)
_TABLES = {"completed_runs": 3, "run_states": 3, "subtest_states": 2, "tier_states": 1}
"""The tables of ids, and how many levels each has."""

_SETTINGS = ("parallel_subtests", "max_subtests")
_LATER_SETTINGS = (*_SETTINGS, "tiers_to_run")
_LATEST_SETTINGS = (*_LATER_SETTINGS, "parallel_high", "parallel_med", "parallel_low")
_UNSAVED: Mapping[str, Json] = {"criteria_file": None, "rubric_file": None}
_HASHED: tuple[tuple[tuple[str, ...], Mapping[str, Json]], ...] = (
    (_SETTINGS, {}),
    (_SETTINGS, _UNSAVED),
    (_LATER_SETTINGS, _UNSAVED),
    (_LATEST_SETTINGS, _UNSAVED),
    (_LATEST_SETTINGS, {**_UNSAVED, "off_peak": False}),
    (_LATEST_SETTINGS, {**_UNSAVED, "off_peak": True}),
)
"""What versions of the program left out of the hash, and what they put in that the file does not hold."""


class UnknownVersion(Exception):
    """A checkpoint of a version that is not known, which is nobody's to change; ``str()`` says so, in one line."""


# Reading


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint records: ``data`` is that of a sound record."""

    data: Mapping[str, Json]

    @property
    def has_steps(self) -> bool:
        """Whether it is of a version that records steps."""
        return self.data.get("version") != "2.0"

    def ending_of(self, run: RunId) -> State | None:
        """What ``completed_runs`` says of ``run``; ``None`` where it says nothing."""
        ending: State | None = _entry(self.data.get("completed_runs"), run)
        return ending

    def step_of(self, run: RunId) -> str | None:
        """What ``run_states`` says of ``run``; ``None`` where it says nothing."""
        step: str | None = _entry(self.data.get("run_states"), run) if self.has_steps else None
        return step

    def state_of(self, run: RunId) -> str | None:
        """How ``run`` is recorded: as ``completed_runs`` has it, else by its step; ``None`` where it is not."""
        return self.ending_of(run) or self.step_of(run)


def checkpoint_record(root: Folder) -> Record:
    """Read the checkpoint of the experiment ``root``. One with ids that are none is "invalid", as by its schema."""
    record = as_record(root.read(CHECKPOINT), "checkpoint")
    problem = _misnamed(record.data)
    return record if problem is None else record._replace(state="invalid", data={}, problems=(problem,))


def said_of(root: Folder, run: RunId) -> State | None:
    """What ``completed_runs`` says of ``run``, also where another part of the checkpoint breaks its schema."""
    record = checkpoint_record(root)
    data = parse_object(record.raw) if record.state == "invalid" else record.data
    ending = Checkpoint(data).ending_of(run)
    return ending if ending in get_args(State) else None


def configuration_record(root: Folder) -> Record:
    """Read the whole configuration of the experiment ``root``."""
    return as_record(read_below(root, CONFIG)._replace(file=CONFIG), "experiment")


def config_hash(config: Mapping[str, Json]) -> str:
    """The hash by which a checkpoint knows the configuration ``config``: 16 hexadecimal digits.

    >>> config_hash({"experiment_id": "demo", "max_subtests": 1}) == config_hash({"experiment_id": "demo"})
    True
    """
    return _hash(config, *_HASHED[0])


def is_hash_of(stored: str, config: Mapping[str, Json]) -> bool:
    """Whether ``stored`` is the hash of ``config`` by the rule of any known version of the program."""
    return any(stored == _hash(config, left_out, added) for left_out, added in _HASHED)


def differences(checkpoint: Mapping[str, Json], config: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """Where a sound checkpoint names another configuration than ``config``: JSON pointers, and what is there instead.

    Nothing differs from a configuration that is not known.
    """
    if not config:
        return
    stored, named = checkpoint["config_hash"], checkpoint["experiment_id"]
    if not is_hash_of(stored, config):
        message = f"expected the hash of {CONFIG}, {describe(config_hash(config))}, found {describe(stored)}"
        yield "/config_hash", message
    if named != config["experiment_id"]:
        yield "/experiment_id", f"expected {describe(config['experiment_id'])}, as in {CONFIG}, found {describe(named)}"


def _hash(config: Mapping[str, Json], left_out: Sequence[str], added: Mapping[str, Json]) -> str:
    hashed = {key: value for key, value in {**added, **config}.items() if key not in left_out}
    return sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:16]


def _entry(table: Json, run: RunId) -> Json:
    for key in (run.tier, run.subtest, str(run.number)):
        if not isinstance(table, Mapping):
            return None
        table = table.get(key)
    return table


def _misnamed(data: Mapping[str, Json]) -> Problem | None:
    """The first id in a checkpoint's tables that is none."""
    for table, levels in _TABLES.items():
        places = [(f"/{table}", data.get(table))]
        for level in _LEVELS[:levels]:
            below = []
            for pointer, entries in places:
                for key, value in (entries or {}).items():
                    if not level.fullmatch(key):
                        return Problem(pointer, f"expected ids such as T5, 13 and 7, found {describe(key)}")
                    below.append((f"{pointer}/{key}", value))
            places = below
    return None


# Making


def new_checkpoint(
    root: Path, config: Mapping[str, Json], now: datetime, status: Literal["completed", "interrupted"]
) -> dict[str, Json]:
    """A checkpoint, of version 2.0, of an experiment at ``root`` of which nothing is recorded yet.

    Every version of the program reads it. What is not known is left out: when the experiment started, who ran it, how
    often it paused.
    """
    return {
        "version": "2.0",
        "experiment_id": config["experiment_id"],
        "experiment_dir": os.fspath(root),
        "config_hash": config_hash(config),
        "completed_runs": {},
        "last_updated_at": _written(now),
        "status": status,
        "rate_limit_source": None,
        "rate_limit_until": None,
        "pid": None,
    }


def readable_part(record: Record, new: Mapping[str, Json]) -> dict[str, Json]:
    """What the checkpoint ``record`` says, as far as it is sound, and what it does not as ``new`` has it.

    :raises UnknownVersion: it is of a version that is not known.
    """
    if record.sound:
        return dict(record.data)
    try:
        found = parse_object(record.raw)
    except MalformedJSON:
        return dict(new)
    if "version" in found and not _is_sound({**new, "version": found["version"]}):
        raise UnknownVersion(f"expected version 2.0 or 3.1, found {describe(found['version'])}")
    kept = _sound_entries(found, lambda part: _is_sound({**new, **part}))
    lacking = {key: value for key, value in new.items() if key not in (*kept, "last_updated_at")}
    return _stamped({**kept, **lacking}, new["last_updated_at"])


def with_runs(data: Mapping[str, Json], states: Mapping[RunId, State | None], now: datetime) -> dict[str, Json]:
    """The sound checkpoint ``data`` with ``states`` recorded; of ``None``, that nothing of the run is done.

    All else stays as it is, except the time of the last update where anything changed. Not that either while the
    checkpoint says that its program is at work: it is that program's word on being alive.

    :param now: with a time zone.
    """
    renewed = {**data, "completed_runs": _with_entries(data["completed_runs"], states)}
    checkpoint = Checkpoint(data)
    if checkpoint.has_steps:
        steps = {
            run: _STEP_OF[state]
            for run, state in states.items()
            if state is not None or checkpoint.step_of(run) is not None
        }
        if steps:
            renewed["run_states"] = _with_entries(data.get("run_states"), steps)
    return renewed if renewed == data else _stamped(renewed, _written(now))


def _stamped(data: dict[str, Json], now: Json) -> dict[str, Json]:
    return data if data.get("status") in _AT_WORK else {**data, "last_updated_at": now}


def _written(now: datetime) -> str:
    return now.astimezone(timezone.utc).isoformat()


def _with_entries(table: Json, entries: Mapping[RunId, State | None] | Mapping[RunId, str]) -> Json:
    renewed = copy.deepcopy(table)
    for run, word in entries.items():
        if word == _entry(renewed, run):
            continue
        place = renewed = renewed or {}
        for key in (run.tier, run.subtest):
            place[key] = place.get(key) or {}
            place = place[key]
        if word is None:
            del place[str(run.number)]  # the subtest stays: it may be named nowhere else
        else:
            place[str(run.number)] = word
    return renewed


def _is_sound(document: Mapping[str, Json]) -> bool:
    return is_valid("checkpoint", document) and _misnamed(document) is None


def _sound_entries(table: Mapping[str, Json], is_sound: Callable[[dict[str, Json]], bool]) -> dict[str, Json]:
    """The entries of ``table`` that are sound by themselves; of those that are not, the sound part."""
    kept: dict[str, Json] = {}
    for key, value in table.items():
        if is_sound({key: value}):
            kept[key] = value
        elif isinstance(value, Mapping) and is_sound({key: {}}):
            kept[key] = _sound_entries(value, partial(_is_sound_below, is_sound, key))
    return kept


def _is_sound_below(is_sound: Callable[[dict[str, Json]], bool], key: str, part: dict[str, Json]) -> bool:
    return is_sound({key: part})


# Writing


@dataclass(frozen=True, slots=True)
class Renewal:
    """A checkpoint to write.

    ``solves`` are the codes of the findings that go away with it. Where they are ``None``, everything that the old one
    says is carried over; else the old one is kept in the quarantine, and the journal tells of it.
    """

    data: Mapping[str, Json]
    solves: tuple[str, ...] | None = None


def update_checkpoint(experiment: Experiment, keeping: Keeping, states: Mapping[RunId, State | None]) -> bool:
    """Record how runs ended; of ``None``, that nothing of the run is done. Says whether anything had to be written.

    Any number of processes, also on other hosts that share the directory, may do so at once. What cannot be relied on
    of the checkpoint that is there goes to the quarantine, and is made anew from the configuration.

    :raises CannotWrite: it cannot be written, something else is in its place, it is of an unknown version, or was
        written under another configuration.
    """

    def renew(record: Record) -> Renewal | None:
        now = datetime.now(timezone.utc)
        config = configuration_record(keeping.experiment)
        data = record.data
        if not record.sound:
            if not config.sound:
                raise CannotWrite(f"{CHECKPOINT}: {CONFIG} is {config.state}")
            try:
                data = readable_part(record, new_checkpoint(experiment.root, config.data, now, "interrupted"))
            except UnknownVersion as error:
                raise CannotWrite(f"{CHECKPOINT}: {error}") from error
        for _, message in differences(data, config.data):
            raise CannotWrite(f"{CHECKPOINT}: {message}")
        renewed = with_runs(data, states, now)
        if record.sound:
            return None if renewed == data else Renewal(renewed)
        return Renewal(renewed, ())

    return rewrite_checkpoint(keeping, renew) is not None


def rewrite_checkpoint(keeping: Keeping, renew: Callable[[Record], Renewal | None]) -> Renewal | None:
    """Write what ``renew`` makes of the checkpoint that is there, if anything, and return it.

    ``renew`` is called under the checkpoint's lock, so that no other process writes it meanwhile.

    :raises CannotWrite: it cannot be written, or something else is in its place.
    """
    with ExitStack() as held:
        lock = keeping.lock_path("checkpoint")
        with naming(f"{KEEPING}/locks/{lock.name}"):
            held.enter_context(locked(lock))
        record = checkpoint_record(keeping.experiment)
        renewal = renew(record)
        if renewal is None:
            return None
        if record.state == "unsafe":
            raise CannotWrite(f"{CHECKPOINT}: {record.problems[0].message}")
        data = (json.dumps(renewal.data, indent=2) + "\n" * record.raw.endswith(b"\n")).encode()
        if renewal.solves is None:
            put_update(keeping, CHECKPOINT, data)
        else:
            put_file(keeping, NewFile(CHECKPOINT, data, "checkpoint", "regenerate", renewal.solves))
        if keeping.experiment.read(CHECKPOINT, len(data)).data != data:
            raise CannotWrite(f"{CHECKPOINT}: read again, it is not what was written")
    return renewal
