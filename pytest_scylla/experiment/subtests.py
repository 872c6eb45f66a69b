"""Which subtests a tier has: by definition, or by what the experiment itself mentions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import ExperimentError
from .layout import CHECKPOINT, SUBTEST, TIER
from .listing import Listing
from .records import Blob, Folder, Problem, open_below
from .schemas import as_record
from .strict_json import Json, MalformedJSON, parse_roughly
from .wording import describe

_DEFINITION = re.compile(r"([0-9]{2,3})\b.*\.ya?ml", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RefusedSource:
    """A file that could have named subtests and was not believed, and why."""

    file: str
    problem: Problem


def defined_subtests(directory: Path, tiers: tuple[str, ...], most: int | None) -> dict[str, tuple[str, ...]]:
    """The subtests that ``directory`` defines for each of ``tiers``, the first ``most`` of each.

    :raises ExperimentError: it defines none for one of them.
    """
    expected = {}
    for tier in tiers:
        place = directory / tier.lower()
        try:
            names = os.listdir(place)
        except OSError:
            names = []
        ids = {match[1] for name in names if (match := _DEFINITION.fullmatch(name))}
        if not ids:
            raise ExperimentError(
                str(place),
                f"holds no subtest definitions (NN-name.yaml), and {tier} is in tiers_to_run",
                "Name the directory that holds t0, t1, ..",
            )
        expected[tier] = _in_order(ids)[:most]
    return expected


def mentioned_subtests(
    root: Folder, disk: Listing, tiers: tuple[str, ...]
) -> tuple[dict[str, tuple[str, ...]], tuple[RefusedSource, ...]]:
    """The subtests that directories, the checkpoint or aggregates mention, and the files that were not believed."""
    known: dict[str, set[str]] = {tier: set() for tier in tiers}
    refused: list[RefusedSource] = []
    for tier, subtest in disk.subtests():
        if tier in known:
            known[tier].add(subtest)
    _add_from_checkpoint(root, known, refused)
    _add_from_aggregates(root, disk, known, refused)
    return {tier: _in_order(found) for tier, found in known.items()}, tuple(refused)


def _in_order(subtests: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(subtests, key=lambda subtest: (int(subtest), subtest)))


def _add_from_checkpoint(root: Folder, known: dict[str, set[str]], refused: list[RefusedSource]) -> None:
    record = as_record(root.read(CHECKPOINT), "checkpoint")
    if record.state == "absent":
        return
    if not record.sound:
        refused.append(RefusedSource(record.file, record.problems[0]))
        return
    named: list[tuple[str, str]] = []
    for key in ("completed_runs", "run_states", "subtest_states"):
        named += [
            (tier, subtest)
            for tier, subtests in (record.data.get(key) or {}).items()
            if isinstance(subtests, Mapping)
            for subtest in subtests
        ]
    _add(known, named, record.file, refused)


def _add_from_aggregates(root: Folder, disk: Listing, known: dict[str, set[str]], refused: list[RefusedSource]) -> None:
    without = set(known)
    for stage, tier in sorted(disk.tiers):
        if tier not in known:
            continue
        opened = open_below(root, filter(None, (stage, tier)))
        if isinstance(opened, Blob):
            continue
        with opened:
            for name, names_of in (("report.json", _children), ("result.json", _subtest_results)):
                blob = opened.read(name)
                if subtests := names_of(_document(blob)):
                    without.discard(tier)
                    _add(known, [(tier, subtest) for subtest in subtests], blob.file, refused)
    if without:
        # A large file, but the one that still names the subtests of a tier whose own aggregates are gone.
        blob = root.read("result.json")
        tiers = _mapping(_document(blob).get("tier_results"))
        named = [(tier, subtest) for tier, result in tiers.items() for subtest in _subtest_results(_mapping(result))]
        _add({tier: known[tier] for tier in without}, named, blob.file, refused)


def _document(blob: Blob) -> Mapping[str, Json]:
    """An aggregate as far as it can be read. It is large, and only its ids are wanted, which are checked one by one."""
    try:
        return parse_roughly(blob.data) if blob.state == "sound" else {}
    except MalformedJSON:
        return {}


def _children(report: Mapping[str, Json]) -> list[str]:
    children = report.get("children")
    return [str(_mapping(child).get("id")) for child in children] if isinstance(children, list) else []


def _subtest_results(result: Mapping[str, Json]) -> list[str]:
    return list(_mapping(result.get("subtest_results")))


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _add(known: dict[str, set[str]], named: list[tuple[str, str]], file: str, refused: list[RefusedSource]) -> None:
    for tier, subtest in named:
        if not (TIER.fullmatch(tier) and SUBTEST.fullmatch(subtest)):
            message = f"expected ids such as T5 and 13, found {describe(tier)} and {describe(subtest)}"
            refused.append(RefusedSource(file, Problem("", message)))
            return
    for tier, subtest in named:
        if tier in known:
            known[tier].add(subtest)
