"""What a tier started from: the configuration of the best subtest before it.

T0 to T4 start from nothing. T5 starts from the one of them whose passes are cheapest, T6 from T5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..experiment.records import Record
from ..experiment.strict_json import Json
from .tier import TierFigures

_FIRST = ("T0", "T1", "T2", "T3", "T4")


def inherited_from(
    tier: TierFigures,
    tiers: Mapping[str, TierFigures],
    configured: Sequence[str],
    manifest: Callable[[str, str], Record],
) -> dict[str, Json] | None:
    """What a tier's result.json says that it started from, where no old one says it any more.

    It is believed only if it is what the tier's own subtests were given: their scores may have changed since.

    :param configured: the tiers of the configuration.
    :param manifest: reads config_manifest.json of a subtest, by tier and id.
    """
    parent = _parent(tier.tier, tiers, configured)
    if parent is None or parent.best_id is None:
        return None
    source = manifest(parent.tier, parent.best_id)
    if not source.sound:
        return None
    resources = source.data["resources"]
    own = [manifest(tier.tier, subtest.subtest) for subtest in tier.subtests]
    given = [record.data.get("inherited_from") or {} for record in own if record.sound]
    if not given or any(one != resources for one in given):
        return None
    return {
        "tier_id": parent.tier,
        "subtest_id": parent.best_id,
        "claude_md_path": None,
        "claude_dir_path": None,
        "resources": resources,
    }


def _parent(tier: str, tiers: Mapping[str, TierFigures], configured: Sequence[str]) -> TierFigures | None:
    if tier == "T6" and "T5" in configured:
        return tiers.get("T5")
    if tier != "T5":
        return None
    costs = [(cost, tiers[one]) for one in _FIRST if one in tiers and (cost := tiers[one].cost_of_pass) is not None]
    return min(costs, key=lambda entry: entry[0])[1] if costs else None
