"""What an experiment's directories are named for, and which of them are beyond the expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .layout import RUN, STAGES, SUBTEST, TIER, RunId
from .records import Folder


@dataclass(frozen=True, slots=True)
class Surplus:
    """What lies in an experiment beside what is expected. It is never counted, only mentioned.

    ``kind`` is "tier", "subtest" or "run"; ``file`` its path.
    """

    kind: Literal["tier", "subtest", "run"]
    file: str


@dataclass(slots=True)
class Listing:
    """The tiers, subtests and runs that directories are named for; ``.failed``, ``old`` and the like are not listed."""

    stages: list[str] = field(default_factory=list)
    tiers: dict[tuple[str, str], dict[str, list[str]]] = field(default_factory=dict)
    """(stage, tier) to subtest to run directory names."""

    @classmethod
    def of(cls, root: Folder) -> Listing:
        """List what is below ``root``, following no link."""
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
        """Every (tier, subtest) that a directory is named for."""
        for (_, tier), subtests in self.tiers.items():
            for subtest in subtests:
                yield tier, subtest


def surplus(disk: Listing, expected: Mapping[str, tuple[str, ...]], runs: int) -> Iterator[Surplus]:
    """What is there beside the ``expected`` tiers and subtests with their ``runs`` runs each."""
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
