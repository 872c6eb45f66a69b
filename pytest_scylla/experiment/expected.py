"""Which runs and judge slots an experiment should have, and what lies there beside them.

The expected matrix is tiers_to_run x subtests x runs_per_subtest x (one run and one slot per judge model). Only the
subtests are not in the configuration: they come from the subtest definitions where the user names them, and else from
what the experiment's own directories, checkpoint and aggregates mention.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import ExperimentError
from .layout import CONFIG, STAGES, TIER, RunId, SlotId, tier_order
from .listing import Listing, Surplus, surplus
from .records import Blob, Folder, open_experiment
from .schemas import as_record
from .subtests import RefusedSource, defined_subtests, mentioned_subtests
from .wording import describe

MOST_RUNS = 200_000


@dataclass(frozen=True, slots=True)
class Configuration:
    """What was to be run: of ``config/experiment.json`` the part that a session needs, and the file's hash.

    ``task_repo`` is a URL or a path, ``task_commit`` the commit of it that runs start from; both as they are written.
    ``agent_timeout`` is how long an agent may run, in seconds; ``None`` where nothing says.
    """

    experiment_id: str
    tiers: tuple[str, ...]
    runs_per_subtest: int
    judge_models: tuple[str, ...]
    agent_models: tuple[str, ...]
    max_subtests: int | None
    task_repo: str
    task_commit: str
    agent_timeout: float | None
    sha256: str


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
        disk = Listing.of(folder)
        tiers = tuple(sorted(config.tiers, key=tier_order))
        refused: tuple[RefusedSource, ...] = ()
        if subtests is not None:
            expected = defined_subtests(Path(subtests), tiers, config.max_subtests)
        else:
            expected, refused = mentioned_subtests(folder, disk, tiers)
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
        surplus=tuple(surplus(disk, expected, config.runs_per_subtest)),
        refused=refused,
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
        agent_models=tuple(data["models"]),
        max_subtests=None if data.get("max_subtests") is None else int(data["max_subtests"]),
        task_repo=data["task_repo"],
        task_commit=data["task_commit"],
        agent_timeout=data.get("timeout_seconds") or None,
        sha256=hashlib.sha256(record.raw).hexdigest(),
    )
