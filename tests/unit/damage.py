"""Ways to damage an experiment: small functions that do something to one of its runs.

Most are made by a function of their own: `lose("agent/output.txt")` returns the function that deletes that file of a
run. Names are relative to the run's directory; `..` leads out of it, so that a subtest or a tier can be damaged too.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.synthetic import (
    JUDGE_MODELS,
    JsonObject,
    agent_result,
    agent_stdout,
    consensus,
    judge_timing,
    judgment,
    model_md,
    response,
    run_result,
)

OUTPUT = "agent/output.txt"
RESULT = "agent/result.json"
LOG = "agent/command_log.json"
CONSENSUS = "judge/result.json"
RUN_RESULT = "run_result.json"
FILE_COPIES = ("agent/stdout.log", OUTPUT, "agent/cmd_0000_stdout.log")
"""The agent's output as it is kept in files; `RESULT` holds it once more."""
ALL_COPIES = (*FILE_COPIES, RESULT)
DERIVED = (OUTPUT, RESULT, CONSENSUS, RUN_RESULT)
SLOTS = tuple(f"judge/judge_{number:02d}" for number in range(1, 4))
JUDGMENTS = tuple(f"{slot}/judgment.json" for slot in SLOTS)
JUDGMENT = JUDGMENTS[1]
"""The judgment of the second slot, the one that is damaged where one is enough."""
REPLIES = (f"{SLOTS[1]}/response.txt", f"{SLOTS[1]}/stdout.log")


@dataclass(frozen=True)
class Run:
    """A run to damage: the experiment's root and the run's id, such as `T1/01/run_02`."""

    root: Path
    run_id: str

    def path(self, name: str = ".") -> Path:
        return Path(os.path.normpath(self.root / self.run_id / name))

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def write(self, name: str, data: bytes | str) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)

    def load(self, name: str) -> JsonObject:
        value: JsonObject = json.loads(self.read(name))
        return value

    def store(self, name: str, value: Any) -> None:
        self.write(name, json.dumps(value, indent=2))

    def delete(self, name: str) -> None:
        path = self.path(name)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    @property
    def sibling(self) -> Run:
        """The first run of the same subtest."""
        return Run(self.root, self.run_id.rpartition("/")[0] + "/run_01")


Damage = Callable[[Run], None]


def nothing(run: Run) -> None:
    """Leave the run as it is: the damage of a fault that lies in the policy or outside of the run."""


def each(*damages: Damage) -> Damage:
    """Do one after the other."""

    def damage(run: Run) -> None:
        for one in damages:
            one(run)

    return damage


# ---------------------------------------------------------------------------------------------------------
# Files


def lose(*names: str) -> Damage:
    """Delete files and directories."""
    return each(*[lambda run, name=name: run.delete(name) for name in names])


def keep_only(*names: str) -> Damage:
    """Delete everything in the run's directory except these of its entries."""

    def damage(run: Run) -> None:
        for entry in sorted(os.listdir(run.path())):
            if entry not in names:
                run.delete(entry)

    return damage


def cut(name: str, keep: int | float) -> Damage:
    """Truncate a file to so many bytes, to all but so many (a negative number), or to a share (a float)."""

    def damage(run: Run) -> None:
        data = run.read(name)
        run.write(name, data[: int(len(data) * keep)] if isinstance(keep, float) else data[:keep])

    return damage


def cut_output(keep: int | float, copies: Sequence[str] = ALL_COPIES) -> Damage:
    """Truncate copies of the agent's output, also the one in result.json, at the same place."""

    def damage(run: Run) -> None:
        for name in copies:
            if name == RESULT:
                stdout = run.load(RESULT)["stdout"]
                length = int(len(stdout) * keep) if isinstance(keep, float) else keep
                put(RESULT, "/stdout", stdout[:length])(run)
            else:
                cut(name, keep)(run)

    return damage


def overwrite(name: str, data: bytes | str) -> Damage:
    """Give a file other contents; make it where it is not there."""
    return lambda run: run.write(name, data)


def change(name: str, how: Callable[[bytes], bytes]) -> Damage:
    """Give a file the contents that a function makes of its own."""
    return lambda run: run.write(name, how(run.read(name)))


def directory_for_file(name: str) -> Damage:
    """Put an empty directory in the place of a file."""

    def damage(run: Run) -> None:
        run.delete(name)
        run.path(name).mkdir()

    return damage


def file_for_directory(name: str) -> Damage:
    """Put a file in the place of a directory."""

    def damage(run: Run) -> None:
        run.delete(name)
        run.write(name, "not a directory\n")

    return damage


def copy_from_sibling(*names: str) -> Damage:
    """Put the files and directories of another run in the place of the run's own."""

    def damage(run: Run) -> None:
        for name in names:
            run.delete(name)
            source, target = run.sibling.path(name), run.path(name)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copyfile(source, target)

    return damage


def copy_within(source: str, target: str) -> Damage:
    """Copy a file or directory over another."""

    def damage(run: Run) -> None:
        if run.path(source).is_dir():
            shutil.rmtree(run.path(target), ignore_errors=True)
            shutil.copytree(run.path(source), run.path(target))
        else:
            run.write(target, run.read(source))

    return damage


# ---------------------------------------------------------------------------------------------------------
# Objects that are neither files nor directories


def link(name: str) -> Damage:
    """Move something out of the experiment, and put a symbolic link to it in its place: what is behind it is sound."""

    def damage(run: Run) -> None:
        path = run.path(name)
        elsewhere = run.root.parent / f"elsewhere-{path.name}"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)

    return damage


def link_to(name: str, target: str) -> Damage:
    """Put a symbolic link to any place (or none) where something was."""

    def damage(run: Run) -> None:
        if os.path.lexists(run.path(name)):
            run.delete(name)
        run.path(name).symlink_to(target)

    return damage


def fifo(name: str) -> Damage:
    """Put a named pipe in the place of something."""

    def damage(run: Run) -> None:
        run.delete(name)
        os.mkfifo(run.path(name))

    return damage


def unix_socket(name: str) -> Damage:
    """Put a socket in the place of something."""

    def damage(run: Run) -> None:
        run.delete(name)
        path = run.path(name)
        # A socket's address may only be about a hundred bytes long, and temporary directories are longer.
        with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as made:
            Path(short, "d").symlink_to(path.parent)
            made.bind(f"{short}/d/{path.name}")

    return damage


def undecodable(*names: str) -> Damage:
    """Make files whose names are not UTF-8 in directories of a run."""

    def damage(run: Run) -> None:
        for name in names:
            for entry in (b"run_\xff\xfe", b"judge_\x80", b"line\nbreak\x1b[31m", b"\xc3\x28.json"):
                # Some file systems (macOS) accept no such names: then there is nothing to find.
                with suppress(OSError), open(os.path.join(os.fsencode(run.path(name)), entry), "wb") as file:
                    file.write(b"{}")

    return damage


# ---------------------------------------------------------------------------------------------------------
# Records


def put(name: str, pointer: str, value: Any) -> Damage:
    """Set the value at a JSON pointer; the last key may be new."""

    def damage(run: Run) -> None:
        record = run.load(name)
        place, key = _find(record, pointer)
        place[key] = value
        run.store(name, record)

    return damage


def add(name: str, pointer: str, amount: float) -> Damage:
    """Add to the number at a JSON pointer."""

    def damage(run: Run) -> None:
        record = run.load(name)
        place, key = _find(record, pointer)
        place[key] += amount
        run.store(name, record)

    return damage


def drop(name: str, pointer: str) -> Damage:
    """Remove what is at a JSON pointer."""

    def damage(run: Run) -> None:
        record = run.load(name)
        place, key = _find(record, pointer)
        del place[key]
        run.store(name, record)

    return damage


def _find(record: Any, pointer: str) -> tuple[Any, Any]:
    place: Any = None
    key: Any = None
    for step in pointer.split("/")[1:]:
        place = record if key is None else place[key]
        key = int(step) if isinstance(place, list) else step
    return place, key


def raw_value(name: str, key: str, text: str) -> Damage:
    """Set a key of a record to a value that need not be JSON: `NaN`, `1e999`, a number of a thousand digits."""

    def damage(run: Run) -> None:
        record = run.load(name)
        record[key] = "HERE"
        run.write(name, json.dumps(record, indent=2).replace('"HERE"', text))

    return damage


def nested(levels: int) -> str:
    """JSON lists in lists; at top level of a record, whose own braces count as well, one level deeper."""
    return "[" * levels + "]" * levels


def edit(name: str, how: Callable[[JsonObject], object]) -> Damage:
    """Change a record by a function that changes the object."""

    def damage(run: Run) -> None:
        record = run.load(name)
        how(record)
        run.store(name, record)

    return damage


def lengthen_cache_names(*names: str) -> Damage:
    """Write the cache counts under their long names, as an old regeneration did."""

    def how(record: JsonObject) -> None:
        stats = record["token_stats"]
        stats["cache_creation_input_tokens"] = stats.pop("cache_creation_tokens")
        stats["cache_read_input_tokens"] = stats.pop("cache_read_tokens")

    return each(*[edit(name, how) for name in names])


def lose_cache_counts(name: str) -> Damage:
    """Set the cache counts to 0, as an old regeneration did that knew only their short names."""

    def how(record: JsonObject) -> None:
        record["token_stats"].update(cache_creation_tokens=0, cache_read_tokens=0)
        if "tokens_input" in record:
            record["tokens_input"] = record["token_stats"]["input_tokens"]

    return edit(name, how)


def list_instead(name: str) -> Damage:
    """Put the record into a list."""
    return change(name, lambda data: b"[" + data + b"]")


def repeat_key(name: str, key: str) -> Damage:
    """Give a key of the record a second time, with the same value."""

    def damage(run: Run) -> None:
        value = json.dumps(run.load(name)[key])
        run.write(name, run.read(name).replace(b"{", f'{{"{key}": {value}, '.encode(), 1))

    return damage


# ---------------------------------------------------------------------------------------------------------
# Whole runs, sound in themselves


def retell(
    *,
    reply: JsonObject | None = None,
    stdout: str | None = None,
    exit_code: int | None = None,
    judgments: Sequence[JsonObject] | None = None,
) -> Damage:
    """Let the run have gone differently: all of its records follow.

    `reply` is what the agent printed at its end, `stdout` its whole output where that is not just the reply.
    `judgments` are those of all slots; slots beyond the third are made.
    """

    def damage(run: Run) -> None:
        agent, final = run.load(RESULT), run.load(RUN_RESULT)
        if reply is not None:
            agent = agent_result(agent_stdout(reply), stderr=agent["stderr"], exit_code=agent["exit_code"])
        if stdout is not None:
            agent["stdout"] = stdout
        if exit_code is not None:
            agent["exit_code"] = exit_code
            put(LOG, "/commands/0/exit_code", exit_code)(run)
        for name in FILE_COPIES:
            run.write(name, agent["stdout"])
        run.store(RESULT, agent)
        verdicts = [run.load(name) for name in JUDGMENTS] if judgments is None else list(judgments)
        models = [*JUDGE_MODELS, *(f"judge-extra-{number}" for number in range(4, len(verdicts) + 1))]
        if judgments is not None:
            for number, verdict in enumerate(verdicts, 1):
                store_slot(run, number, verdict, models[number - 1])
        run.store(CONSENSUS, consensus(verdicts))
        retold = run_result(
            run_number=final["run_number"],
            agent=agent,
            judgments=verdicts,
            judge_models=models[: len(verdicts)],
            agent_duration=final["agent_duration_seconds"],
            judge_duration=final["judge_duration_seconds"],
            recorded_run=os.path.dirname(final["workspace_path"]),
        )
        run.store(RUN_RESULT, retold)

    return damage


def store_slot(run: Run, number: int, verdict: JsonObject, model: str) -> None:
    """Write the files of a judge slot whose judgment is given."""
    slot = f"judge/judge_{number:02d}"
    run.store(f"{slot}/judgment.json", verdict)
    for name in ("response.txt", "stdout.log"):
        run.write(f"{slot}/{name}", response(verdict))
    moment = run.load("judge/timing.json")["measured_at"]
    if not run.path(f"{slot}/timing.json").exists():
        run.store(f"{slot}/timing.json", judge_timing(1.0, moment))
    run.write(f"{slot}/MODEL.md", model_md("Judge", model, moment))


def opinions(*verdicts: tuple[float, bool]) -> list[JsonObject]:
    """Judgments with these scores and verdicts, one for each slot."""
    return [judgment(score, passed=passed, slot=number) for number, (score, passed) in enumerate(verdicts, 1)]


def reconcile(verdicts: Callable[[list[JsonObject]], list[JsonObject]]) -> Damage:
    """Make the consensus, and run_result.json's share of it, from what a function makes of the three judgments."""

    def damage(run: Run) -> None:
        outcome = consensus(verdicts([run.load(name) for name in JUDGMENTS]))
        run.store(CONSENSUS, outcome)
        final = run.load(RUN_RESULT)
        final.update({f"judge_{key}": outcome[key] for key in ("score", "passed", "grade", "reasoning")})
        run.store(RUN_RESULT, final)

    return damage


def agree_on(key: str, value: Any) -> Damage:
    """Set a key of the consensus, in judge/result.json and in run_result.json alike."""
    return each(put(CONSENSUS, f"/{key}", value), put(RUN_RESULT, f"/judge_{key}", value))


def in_every_slot(how: Callable[[str], Damage]) -> Damage:
    """Damage each of the three slots."""
    return each(*[how(slot) for slot in SLOTS])


def in_every_record(how: Callable[[str], Damage]) -> Damage:
    """Damage every JSON file of the run."""

    def damage(run: Run) -> None:
        for path in sorted(run.path().rglob("*.json")):
            how(os.path.relpath(path, run.path()))(run)

    return damage


def in_root(name: str) -> str:
    """The name, from a run's directory, of something in the experiment's root."""
    return f"../../../{name}"
