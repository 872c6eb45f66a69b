"""Which runs and judge slots an experiment should have, and what lies there beside them.

The expected matrix is tiers_to_run x subtests x runs_per_subtest x (one run and one slot per judge model). Only the
subtests are not in the configuration: they come from the subtest definitions where the user names them, and else from
what the experiment's own directories, checkpoint and aggregates mention.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .layout import CHECKPOINT, CONFIG, RUN, STAGES, SUBTEST, TIER, RunId, SlotId, tier_order
from .records import Blob, Folder, Problem, open_experiment
from .schemas import as_record
from .strict_json import Json, MalformedJSON, parse_roughly
from .wording import describe, printable

MOST_RUNS = 200_000

_DEFINITION = re.compile(r"([0-9]{2,3})\b.*\.ya?ml", re.DOTALL)


class ExperimentError(Exception):
    """An experiment cannot be audited at all. ``str()`` is one line: file, pointer, what is wrong, and the remedy."""

    def __init__(self, place: str, message: str, remedy: str, pointer: str = "") -> None:
        where = printable(place) + (f" {pointer}" if pointer else "")
        super().__init__(f"{where}: {message}. {remedy}")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What was to be run, of ``config/experiment.json`` the part that decides what is expected."""

    experiment_id: str
    tiers: tuple[str, ...]
    runs_per_subtest: int
    judge_models: tuple[str, ...]
    max_subtests: int | None


@dataclass(frozen=True, slots=True)
class Surplus:
    """What lies in an experiment beside what is expected. It is never counted, only mentioned.

    ``kind`` is "tier", "subtest" or "run"; ``file`` its path.
    """

    kind: Literal["tier", "subtest", "run"]
    file: str


@dataclass(frozen=True, slots=True)
class RefusedSource:
    """A file that could have named subtests and was not believed, and why."""

    file: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment: where it is, what was to be run, and what is therefore expected.

    ``subtests`` maps every tier of the configuration to its subtests; to none where no source names any, which is
    something else than a tier without subtests. ``expected_from`` says where they came from: "tiers" (definitions) or
    "disk". ``stages`` are the directories that hold tiers ("" is the root).
    """

    root: Path
    given: str
    config: Configuration
    subtests: Mapping[str, tuple[str, ...]]
    expected_from: Literal["tiers", "disk"]
    stages: tuple[str, ...]
    surplus: tuple[Surplus, ...]
    refused: tuple[RefusedSource, ...]

    @property
    def judges_per_run(self) -> int:
        """How many judge slots each run has."""
        return len(self.config.judge_models)

    @property
    def unknown_tiers(self) -> tuple[str, ...]:
        """The tiers of which nothing says what subtests they have."""
        return tuple(tier for tier, subtests in self.subtests.items() if not subtests)

    @property
    def expected_runs(self) -> int:
        """How many runs are expected, as far as the subtests are known."""
        return sum(map(len, self.subtests.values())) * self.config.runs_per_subtest

    def runs(self) -> Iterator[RunId]:
        """Every expected run, in the order of tier, subtest, number."""
        for tier, subtests in self.subtests.items():
            for subtest in subtests:
                for number in range(1, self.config.runs_per_subtest + 1):
                    yield RunId(tier, subtest, number)

    def slots(self, run: RunId) -> Iterator[tuple[SlotId, str]]:
        """The judge slots of ``run``, each with the model that judges it."""
        for number, model in enumerate(self.config.judge_models, 1):
            yield SlotId(run, number), model


def load_experiment(
    path: str | os.PathLike[str], *, subtests: str | os.PathLike[str] | None = None, given: str | None = None
) -> Experiment:
    """Read an experiment's configuration and directory listings; nothing of its runs.

    :param path: the experiment's root directory.
    :param subtests: a directory of subtest definitions, ``tN/NN-name.yaml``; the first ``max_subtests`` of each tier
        are expected. Without it, whatever the directories, the checkpoint and the aggregates mention is.
    :param given: how the user wrote ``path``, for messages and reports; ``path`` itself by default.
    :raises ExperimentError: the directory, its configuration or the definitions cannot be used.
    """
    given = os.fspath(path) if given is None else given
    root = Path(os.path.abspath(path))
    try:
        folder = open_experiment(root)
    except OSError as error:
        raise ExperimentError(
            given, f"not a directory that can be read ({os.strerror(error.errno or 0)})", "Name an experiment's root"
        ) from None
    with folder:
        config = _read_configuration(folder, given)
        disk = _Listing.of(folder)
        refused: list[RefusedSource] = []
        known: dict[str, set[str]] = {tier: set() for tier in sorted(config.tiers, key=tier_order)}
        if subtests is not None:
            expected = _defined_subtests(Path(subtests), tuple(known), config.max_subtests)
        else:
            for tier, subtest in disk.subtests():
                known.get(tier, set()).add(subtest)
            _add_from_checkpoint(folder, known, refused)
            _add_from_aggregates(folder, disk, known, refused)
            expected = {tier: tuple(sorted(found, key=lambda s: (int(s), s))) for tier, found in known.items()}
    count = sum(map(len, expected.values())) * config.runs_per_subtest
    if count > MOST_RUNS:
        raise ExperimentError(
            os.path.join(given, CONFIG),
            f"{count:,} runs would be expected, more than {MOST_RUNS:,}",
            "Correct runs_per_subtest",
            "/runs_per_subtest",
        )
    return Experiment(
        root=root,
        given=given,
        config=config,
        subtests=expected,
        expected_from="disk" if subtests is None else "tiers",
        stages=tuple(disk.stages),
        surplus=tuple(_surplus(disk, expected, config.runs_per_subtest)),
        refused=tuple(refused),
    )


def find_experiments(path: str | os.PathLike[str], *, given: str | None = None) -> list[str]:
    """The experiments that ``path`` names: itself, or those directly below it, by name.

    ``given`` is how the user wrote ``path``, for messages.

    A directory counts as one if it has a ``config/experiment.json``, or tiers: then the missing configuration is an
    error to report, not a reason to skip it.

    :raises ExperimentError: there is none.
    """
    place = os.fspath(path)
    given = place if given is None else given
    if not os.path.isdir(place):
        raise ExperimentError(given, "no such directory", "Name an experiment's root")
    if _looks_like_experiment(place):
        return [place]
    try:
        names = sorted(os.listdir(place))
    except OSError as error:
        raise ExperimentError(given, os.strerror(error.errno or 0), "Name a directory that can be read") from None
    below = [os.path.join(place, name) for name in names]
    found = [candidate for candidate in below if os.path.isdir(candidate) and _looks_like_experiment(candidate)]
    if not found:
        raise ExperimentError(
            given,
            f"not an experiment: it has no {CONFIG}, and neither has a directory in it",
            "Name an experiment's root, or the directory that holds experiments",
        )
    return found


def _looks_like_experiment(path: str) -> bool:
    if os.path.lexists(os.path.join(path, CONFIG)):
        return True
    for stage in STAGES:
        try:
            with os.scandir(os.path.join(path, stage)) as entries:
                if any(TIER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False) for entry in entries):
                    return True
        except OSError:
            continue
    return False


def _read_configuration(folder: Folder, given: str) -> Configuration:
    place = os.path.join(given, CONFIG)
    opened = folder.open("config")
    if isinstance(opened, Blob):
        blob = opened
    else:
        with opened:
            blob = opened.read("experiment.json")
    record = as_record(blob, "experiment")
    if record.state == "absent":
        raise ExperimentError(place, "absent", "Restore it: it says what was to be run; without it nothing is expected")
    if not record.sound:
        problem = record.problems[0]
        raise ExperimentError(place, f"{record.state}: {problem.message}", "Correct it", problem.pointer)
    data = record.data
    for index, tier in enumerate(data["tiers_to_run"]):
        if not TIER.fullmatch(tier):
            raise ExperimentError(
                place,
                f"invalid: expected a tier such as T5, found {describe(tier)}",
                "Correct it",
                f"/tiers_to_run/{index}",
            )
    return Configuration(
        experiment_id=data["experiment_id"],
        tiers=tuple(data["tiers_to_run"]),
        runs_per_subtest=int(data["runs_per_subtest"]),
        judge_models=tuple(data["judge_models"]),
        max_subtests=None if data.get("max_subtests") is None else int(data["max_subtests"]),
    )


def _defined_subtests(directory: Path, tiers: tuple[str, ...], most: int | None) -> dict[str, tuple[str, ...]]:
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
        expected[tier] = tuple(sorted(ids, key=lambda s: (int(s), s)))[:most]
    return expected


@dataclass(slots=True)
class _Listing:
    """The tiers, subtests and runs that directories are named for; ``.failed``, ``old`` and the like are not listed."""

    stages: list[str] = field(default_factory=list)
    tiers: dict[tuple[str, str], dict[str, list[str]]] = field(default_factory=dict)
    """(stage, tier) to subtest to run directory names."""

    @classmethod
    def of(cls, root: Folder) -> _Listing:
        listing = cls()
        for stage in STAGES:
            opened = root if stage == "" else root.open(stage)
            if isinstance(opened, Folder):
                try:
                    listing._add_stage(stage, opened)
                finally:
                    if opened is not root:
                        opened.close()
            if opened is root or root.kind(stage) in ("directory", "unsafe"):
                listing.stages.append(stage)
        return listing

    def _add_stage(self, stage: str, folder: Folder) -> None:
        for tier in folder.names():
            if TIER.fullmatch(tier):
                subtests = self.tiers.setdefault((stage, tier), {})
                tier_folder = folder.open(tier)
                if isinstance(tier_folder, Folder):
                    with tier_folder:
                        self._add_tier(subtests, tier_folder)

    @staticmethod
    def _add_tier(subtests: dict[str, list[str]], folder: Folder) -> None:
        for subtest in folder.names():
            if SUBTEST.fullmatch(subtest) and folder.kind(subtest) != "file":
                runs = subtests.setdefault(subtest, [])
                subtest_folder = folder.open(subtest)
                if isinstance(subtest_folder, Folder):
                    with subtest_folder:
                        runs.extend(name for name in subtest_folder.names() if subtest_folder.kind(name) == "directory")

    def subtests(self) -> Iterator[tuple[str, str]]:
        for (_, tier), subtests in self.tiers.items():
            for subtest in subtests:
                yield tier, subtest


def _surplus(disk: _Listing, expected: Mapping[str, tuple[str, ...]], runs: int) -> Iterator[Surplus]:
    for stage, tier in sorted(disk.tiers):
        place = f"{stage}/{tier}" if stage else tier
        if tier not in expected:
            yield Surplus("tier", place)
            continue
        for subtest, names in sorted(disk.tiers[stage, tier].items()):
            if subtest not in expected[tier]:
                yield Surplus("subtest", f"{place}/{subtest}")
                continue
            for name in sorted(names):
                match = RUN.fullmatch(name)
                if match and not (1 <= int(match[1]) <= runs and name == RunId(tier, subtest, int(match[1])).name):
                    yield Surplus("run", f"{place}/{subtest}/{name}")


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


def _add_from_aggregates(
    root: Folder, disk: _Listing, known: dict[str, set[str]], refused: list[RefusedSource]
) -> None:
    without = set(known)
    for stage, tier in sorted(disk.tiers):
        if tier not in known:
            continue
        opened = _open_path(root, (stage, tier))
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


def _open_path(root: Folder, names: tuple[str, ...]) -> Folder | Blob:
    """Open a directory below ``root``, one component at a time; empty names are passed over. The caller closes it."""
    current = root
    for name in filter(None, names):
        opened = current.open(name)
        if current is not root:
            current.close()
        if isinstance(opened, Blob):
            return opened
        current = opened
    return current
