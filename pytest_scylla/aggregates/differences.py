"""Where a record says something else than it has to: numbers, verdicts and ids; not times, paths or wording."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..auditing.agent_output import TokenCounts
from ..auditing.consensus import agree
from ..experiment.schemas import Kind, load_schema
from ..experiment.strict_json import Json
from ..experiment.wording import describe, printable
from ..repair.agent_files import token_stats
from .subtest import Members

_ADDED = frozenset({"coverage", "scored_runs"})
"""Keys that rebuilt aggregates have, and those of the program that runs experiments lack."""

_TOLD = frozenset(
    {
        *("report", "reasoning", "selection_reason"),
        *("generated_at", "started_at", "completed_at", "total_duration", "total_duration_seconds"),
        *("config", "inherited_from", "rate_limit_info", "runs"),
    }
)
"""Keys of which the value is not compared: it tells of something else than the runs' results, or is them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs: where, and both in words."""

    pointer: str
    expected: str
    found: str


def differences(expected: Mapping[str, Json], found: Mapping[str, Json], pointer: str = "") -> Iterator[Difference]:
    """Where the sound aggregate ``found`` differs from ``expected``; it may have keys of its own."""
    if isinstance(expected, Members):
        yield from _lacking(expected, found, pointer)
    for key, value in expected.items():
        if key not in found:
            if key not in _ADDED and not isinstance(expected, Members):
                yield _lost(f"{pointer}/{key}")
        elif key not in _TOLD:
            theirs = found[key]
            if key == "token_stats":
                theirs = token_stats(TokenCounts.from_stats(theirs))
            yield from _differences(value, theirs, f"{pointer}/{key}")


def copy_differences(
    expected: Mapping[str, Json], found: Mapping[str, Json], pointer: str, kind: Kind, but: Collection[str]
) -> Iterator[Difference]:
    """Where the copy ``found`` of a record differs from the record, ``but`` for keys that nobody compares.

    It may lack keys that the schema of ``kind`` does not know: they may have come into the record since.
    """
    known = load_schema(kind)["properties"]
    for key, value in expected.items():
        place = f"{pointer}/{_step(key)}"
        if key in but:
            continue
        if key not in found:
            if key in known:
                yield _lost(place)
        elif key == "token_stats":
            mine, theirs = (token_stats(TokenCounts.from_stats(stats)) for stats in (value, found[key]))
            yield from _copied(mine, theirs, place)
        else:
            yield from _copied(value, found[key], place)


def _differences(expected: Json, found: Json, pointer: str) -> Iterator[Difference]:
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        yield from differences(expected, found, pointer)
    elif isinstance(expected, list) and isinstance(found, list):
        yield from _entries(expected, found, pointer)
    elif not _same(expected, found):
        yield Difference(pointer, describe(expected), describe(found))


def _entries(expected: Sequence[Json], found: Sequence[Json], pointer: str) -> Iterator[Difference]:
    """Compare lists of entries that are known by their first key, in whatever order."""
    if expected:
        key = next(iter(expected[0]))
        places = {entry[key]: index for index, entry in enumerate(found)}
        for entry in expected:
            index = places.get(entry[key])
            if index is None:
                yield Difference(pointer, f"an entry for {describe(entry[key])}", "none")
            else:
                yield from differences(entry, found[index], f"{pointer}/{index}")
    if len(found) > len(expected):
        yield Difference(pointer, f"{len(expected)} of it", str(len(found)))


def _lacking(expected: Members, found: Mapping[str, Json], pointer: str) -> Iterator[Difference]:
    for key in expected:
        if key not in found:
            yield Difference(pointer, f"an entry for {describe(key)}", "none")
    for key in found:
        if key not in expected:
            yield Difference(pointer, f"no entry for {describe(key)}", "one")


def _copied(expected: Json, found: Json, pointer: str) -> Iterator[Difference]:
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in expected:
            place = f"{pointer}/{_step(key)}"
            if key in found:
                yield from _copied(expected[key], found[key], place)
            else:
                yield _lost(place)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (mine, theirs) in enumerate(zip(expected, found, strict=True)):
            yield from _copied(mine, theirs, f"{pointer}/{index}")
    elif not _same(expected, found):
        yield Difference(pointer, describe(expected), describe(found))


def _lost(pointer: str) -> Difference:
    return Difference(pointer, "this key", "it absent")


def _step(key: str) -> str:
    return printable(key.replace("~", "~0").replace("/", "~1"), 80)


def _same(expected: Json, found: Json) -> bool:
    if _is_number(expected) and _is_number(found):
        return agree(expected, found)
    return type(expected) is type(found) and bool(expected == found)


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
