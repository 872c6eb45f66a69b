"""What runs amount to: only those that count, each number with how many they are, never a 0 for what is not known."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_scylla.aggregates.experiment import (
    ExperimentFigures,
    Times,
    experiment_report,
    experiment_result,
    tier_comparison,
)
from pytest_scylla.aggregates.facts import Coverage, RunFigures, coverage_of_all, digest_of
from pytest_scylla.aggregates.inheritance import inherited_from
from pytest_scylla.aggregates.subtest import SubtestFigures, subtest_report, subtest_result
from pytest_scylla.aggregates.tier import Former, TierFigures, best_subtest, select, tier_report, tier_result
from pytest_scylla.experiment.records import Record
from pytest_scylla.experiment.schemas import Kind, is_valid

from .aggregating import one_run, runs_with


def subtest(*runs: RunFigures, id_: str = "00", tier: str = "T0") -> SubtestFigures:
    return SubtestFigures(tier, id_, runs)


def scored(id_: str, *scores: float, tokens: int = 100, tier: str = "T0", **named: Any) -> SubtestFigures:
    """A subtest whose runs have these scores, and each took so many tokens."""
    return subtest(*runs_with(scores, tokens=tokens, subtest=id_, tier=tier, **named), id_=id_, tier=tier)


def tier(*subtests: SubtestFigures, id_: str = "T0", former: Former = Former()) -> TierFigures:  # noqa: B008
    return TierFigures(id_, subtests, former)


# -------------------------------------------------------------------------------------------------- the runs that count


@pytest.mark.parametrize(("judges", "sound", "counts"), [(3, 1, False), (3, 2, True), (4, 2, True), (4, 1, False)])
def test_a_run_counts_if_at_least_half_of_its_judges_are_sound(judges: int, sound: int, counts: bool) -> None:
    run = one_run(score=0.9, judges=judges, sound=sound)
    assert run.is_scored is counts
    assert subtest(run).mean_score == (0.9 if counts else None)


def test_a_run_that_does_not_count_is_not_a_run_that_scored_nothing() -> None:
    figures = subtest(*runs_with([0.6, 0.8]), one_run(3, 0.1, sound=1, passed=False), one_run(4, None, status="failed"))
    assert figures.mean_score == pytest.approx(0.7)
    assert figures.pass_rate == 1.0
    assert [run.run.number for run in figures.runs] == [1, 2]


def test_how_many_runs_were_expected_are_there_are_sound_and_count_are_separate_numbers() -> None:
    figures = subtest(
        *runs_with([0.6, 0.8, 0.9]),
        one_run(4, 0.5, fallback=True, cost=None),
        one_run(5, 0.5, sound=1),
        one_run(6, None, status="failed"),
        one_run(7, None, status="conflict"),
        one_run(8, None, status="missing"),
    )
    assert figures.coverage == Coverage(expected=8, present=7, sound=5, scored=4, fallback=1, priced=3)
    assert coverage_of_all([figures.coverage, Coverage(1, 1, 1, 1, 1, 1)]) == Coverage(9, 8, 6, 5, 2, 4)


def test_a_fallback_of_a_run_that_does_not_count_is_not_counted() -> None:
    assert subtest(one_run(sound=1, fallback=True)).coverage.fallback == 0


@pytest.mark.parametrize(
    ("run", "is_full"),
    [
        (one_run(), True),
        (one_run(fallback=True), False),
        (one_run(cost=None), False),
        (one_run(sound=1), False),
        (one_run(score=None, status="missing"), False),
    ],
)
def test_coverage_is_full_where_every_expected_run_counts_by_its_judges_with_a_cost(
    run: RunFigures, is_full: bool
) -> None:
    assert subtest(run).coverage.is_full is is_full


def test_without_a_run_that_counts_there_is_no_number() -> None:
    figures = subtest(one_run(score=None, status="failed"), one_run(2, sound=1))
    record = subtest_report(figures)
    told = {key: value for key, value in record["summary"].items() if key not in ("total_runs", "passed", "coverage")}
    assert set(told.values()) == {None}
    assert record["summary"]["total_runs"] == record["summary"]["passed"] == 0
    assert record["children"] == []
    result = subtest_result(figures, [], None)
    assert result["mean_cost"] is None
    assert result["std_dev_score"] is None
    assert is_valid("subtest-report", record)


@pytest.mark.parametrize("status", ["completed", "results", "failed", "conflict", "unsafe"])
def test_a_subtest_is_done_when_none_of_its_runs_is_missing_or_unfinished(status: Any) -> None:
    assert subtest(one_run(), one_run(2, None, status=status)).is_done
    assert not subtest(one_run(), one_run(2, None, status="partial")).is_done
    assert not subtest(one_run(), one_run(2, None, status="missing")).is_done


# ----------------------------------------------------------------------------------------------------------- statistics


def test_scores_amount_to_their_mean_median_and_sample_deviation() -> None:
    figures = scored("00", 0.5, 0.6, 0.9)
    assert figures.mean_score == pytest.approx(2 / 3)
    assert figures.median_score == 0.6
    assert figures.std_dev == pytest.approx(
        math.sqrt(((0.5 - 2 / 3) ** 2 + (0.6 - 2 / 3) ** 2 + (0.9 - 2 / 3) ** 2) / 2)
    )
    assert figures.consistency == pytest.approx(1 - statistics.stdev([0.5, 0.6, 0.9]) / (2 / 3))


def test_the_median_of_an_even_number_lies_between_the_middle_two() -> None:
    assert scored("00", 0.1, 0.5, 0.7, 1.0).median_score == pytest.approx(0.6)


def test_a_single_run_is_wholly_consistent() -> None:
    figures = scored("00", 0.37)
    assert (figures.std_dev, figures.consistency) == (0.0, 1.0)


@pytest.mark.parametrize("scores", [(0.0, 0.0), (0.0,), (0.0, 0.0, 0.0, 1.0)])
def test_consistency_is_never_below_0_and_is_0_where_all_scores_are(scores: Sequence[float]) -> None:
    assert scored("00", *scores).consistency == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_statistics_stay_within_what_they_are_about(scores: list[float]) -> None:
    figures = scored("00", *scores)
    assert figures.mean_score is not None
    assert min(scores) - 1e-12 <= figures.mean_score <= max(scores) + 1e-12
    assert figures.consistency is not None
    assert 0 <= figures.consistency <= 1
    assert is_valid("subtest-report", subtest_report(figures))


def test_passing_is_the_judges_word_and_does_not_follow_from_the_score() -> None:
    figures = subtest(one_run(1, 0.95, passed=False), one_run(2, 0.3, passed=True))
    assert (figures.passed, figures.pass_rate) == (1, 0.5)


def test_a_mean_cost_is_about_the_costs_that_are_known() -> None:
    figures = subtest(one_run(1, cost=0.2), one_run(2, cost=None), one_run(3, cost=0.4))
    assert figures.total_cost == pytest.approx(0.6)
    assert figures.mean_cost == pytest.approx(0.3)
    assert figures.coverage.priced == 2
    unknown = subtest(one_run(cost=None))
    assert (unknown.total_cost, unknown.mean_cost, unknown.cost_of_pass) == (None, None, None)


def test_a_pass_costs_the_mean_cost_by_the_share_that_passes() -> None:
    figures = subtest(one_run(1, cost=0.2), one_run(2, cost=0.4, passed=False), one_run(3, cost=0.6, passed=False))
    assert figures.cost_of_pass == pytest.approx(1.2)


def test_without_a_pass_there_is_no_cost_of_one() -> None:
    assert subtest(one_run(passed=False)).cost_of_pass is None
    assert tier(subtest(one_run(passed=False))).cost_of_pass is None


def test_grades_are_counted_and_na_is_neither_the_best_nor_the_worst() -> None:
    grades = ["B", "N/A", "A", "D", "A", "B"]
    figures = subtest(*(one_run(number, grade=grade) for number, grade in enumerate(grades, 1)))
    assert list(figures.grades.items()) == [("B", 2), ("N/A", 1), ("A", 2), ("D", 1)]
    assert (figures.modal_grade, figures.min_grade, figures.max_grade) == ("B", "D", "A")
    only = subtest(one_run(grade="N/A"))
    assert (only.modal_grade, only.min_grade, only.max_grade) == ("N/A", None, None)


def test_s_is_above_a() -> None:
    figures = subtest(one_run(1, grade="A"), one_run(2, grade="S"), one_run(3, grade="F"))
    assert (figures.min_grade, figures.max_grade) == ("F", "S")


# --------------------------------------------------------------------------------------------- the best of the subtests


def test_the_highest_median_wins_whatever_the_mean() -> None:
    selection = select([scored("01", 0.2, 0.8, 0.8), scored("02", 0.7, 0.7, 1.0)], Former())
    assert selection.winner is not None
    assert selection.winner.subtest == "01"
    assert selection.margin == pytest.approx(0.1)
    assert not selection.tied
    assert selection.reason == "Highest median score (0.800)"


def test_the_only_subtest_wins_by_a_margin_of_1() -> None:
    record = best_subtest(tier(scored("00", 0.4, 0.6)))
    assert record == {
        "winning_subtest": "00",
        "winning_score": 0.5,
        "votes": [
            {
                "subtest_id": "00",
                "score": 0.5,
                "confidence": 1.0,
                "reasoning": "Only sub-test in tier",
                "scored_runs": 2,
            }
        ],
        "margin": 1.0,
        "tiebreaker_needed": False,
        "tiebreaker_result": None,
    }


def test_a_second_that_is_less_than_005_behind_wins_with_fewer_tokens() -> None:
    figures = tier(scored("01", 0.9, tokens=300), scored("02", 0.86, tokens=200), scored("03", 0.5, tokens=1))
    record = best_subtest(figures)
    assert (record["winning_subtest"], record["winning_score"], record["tiebreaker_needed"]) == ("02", 0.86, True)
    assert record["tiebreaker_result"]["subtest_id"] == "02"
    assert "01=300, 02=200" in record["tiebreaker_result"]["reasoning"]
    assert [vote["subtest_id"] for vote in record["votes"]] == ["01", "02", "03"]
    assert [one["selected"] for one in tier_report(figures)["children"]] == [False, True, False]


def test_a_third_is_not_in_the_tie_however_close() -> None:
    selection = select([scored("01", 0.9), scored("02", 0.9), scored("03", 0.9, tokens=1)], Former())
    assert selection.winner is not None
    assert selection.winner.subtest == "01"


def test_with_equal_tokens_the_first_wins() -> None:
    selection = select([scored("01", 0.86), scored("02", 0.9)], Former())
    assert selection.winner is not None
    assert (selection.winner.subtest, selection.tied) == ("02", True)


def test_equals_rank_as_they_did_before() -> None:
    equals = [scored("01", 0.9), scored("02", 0.9), scored("03", 0.9)]
    assert [one.subtest for one in select(equals, Former()).ranked] == ["01", "02", "03"]
    selection = select(equals, Former(("03", "01", "02")))
    assert [one.subtest for one in selection.ranked] == ["03", "01", "02"]
    assert selection.winner is equals[2]


def test_a_difference_that_rounding_made_changes_no_ranking() -> None:
    subtests = [scored("01", 0.9), scored("02", 0.9 + 1e-9)]
    selection = select(subtests, Former(("01", "02")))
    assert [one.subtest for one in selection.ranked] == ["01", "02"]
    assert selection.margin == 0.0


@pytest.mark.parametrize("before", [("01", "02"), ("02",), ("02", "01", "03"), ("02", "02")])
def test_a_former_ranking_counts_only_for_the_same_subtests_in_an_order_that_their_scores_allow(
    before: tuple[str, ...],
) -> None:
    selection = select([scored("01", 0.7), scored("02", 0.9)], Former(before))
    assert [one.subtest for one in selection.ranked] == ["02", "01"]


@pytest.mark.parametrize("tied", [True, False])
def test_where_rounding_decides_about_a_tie_it_stays_decided(tied: bool) -> None:
    subtests = [scored("01", 0.95, tokens=300), scored("02", 0.90, tokens=200)]
    assert select(subtests, Former(tied=tied)).tied is tied
    clear = [scored("01", 0.96, tokens=300), scored("02", 0.90, tokens=200)]
    assert not select(clear, Former(tied=tied)).tied


def test_a_subtest_without_a_score_does_not_compete() -> None:
    lost = subtest(one_run(score=None, status="failed", subtest="02"), id_="02")
    figures = tier(scored("01", 0.2), lost)
    record = best_subtest(figures)
    assert record["winning_subtest"] == "01"
    assert [vote["subtest_id"] for vote in record["votes"]] == ["01"]
    assert record["votes"][0]["reasoning"] != "Only sub-test in tier"
    assert (record["margin"], record["votes"][0]["confidence"]) == (1.0, 1.0)
    children = tier_report(figures)["children"]
    assert [(one["id"], one["score"], one["scored_runs"]) for one in children] == [("01", 0.2, 1), ("02", None, 0)]


def test_without_any_score_nothing_is_selected() -> None:
    figures = tier(subtest(one_run(sound=1)))
    assert best_subtest(figures) == {
        "winning_subtest": None,
        "winning_score": None,
        "votes": [],
        "margin": None,
        "tiebreaker_needed": False,
        "tiebreaker_result": None,
    }
    record = tier_result(figures, {})
    assert record["subtest_results"]["00"]["selected_as_best"] is False
    assert record["cost_of_pass"] is None
    kinds: dict[Kind, dict[str, Any]] = {
        "tier-best-subtest": best_subtest(figures),
        "tier-report": tier_report(figures),
    }
    assert all(is_valid(kind, found) for kind, found in kinds.items())


def test_a_tier_sums_its_subtests_and_passes_at_the_cost_of_its_best() -> None:
    figures = tier(scored("01", 0.9, 0.8, cost=0.5, tokens=10), scored("02", 0.2, cost=0.1, tokens=7))
    assert figures.total_cost == pytest.approx(1.1)
    assert figures.tokens.input == 27
    assert figures.cost_of_pass == pytest.approx(0.5)
    assert figures.coverage.scored == 3


# ------------------------------------------------------------------------------------------------ the best of the tiers


def experiment(*tiers: TierFigures, before: str | None = None) -> ExperimentFigures:
    return ExperimentFigures(tiers, before)


def costing(id_: str, cost: float, **named: Any) -> TierFigures:
    return tier(scored("01", 0.5, cost=cost, tier=id_, **named), id_=id_)


def test_the_best_tier_is_the_one_whose_passes_are_cheapest_whatever_its_score() -> None:
    figures = experiment(costing("T0", 0.3), costing("T1", 0.1), costing("T2", 0.01, passed=False))
    record = experiment_result(figures, {one.tier: {} for one in figures.tiers}, {}, Times())
    assert (record["best_overall_tier"], record["best_overall_subtest"]) == ("T1", "01")
    assert (record["frontier_cop_tier"], record["frontier_cop"]) == ("T1", pytest.approx(0.1))
    assert record["total_cost"] == pytest.approx(0.41)
    assert record["coverage"]["scored"] == 3


def test_of_equal_tiers_the_first_is_the_best_unless_another_was_before() -> None:
    tiers = (costing("T3", 0.1), costing("T0", 0.1), costing("T1", 0.2))
    found = [experiment(*tiers, before=before).best for before in (None, "T0", "T1", "T9")]
    assert [one.tier if one else None for one in found] == ["T3", "T0", "T3", "T3"]


def test_without_a_pass_no_tier_is_the_best() -> None:
    figures = experiment(costing("T0", 0.3, passed=False))
    assert figures.best is None
    report = experiment_report(figures, {"T0": "T0"}, "id", Times("then"), generated_at="now")
    assert report["best"] == {"tier": None, "subtest": None, "report": None}
    assert is_valid("experiment-report", report)
    assert is_valid("tier-comparison", dict(tier_comparison(figures)))


def test_reports_link_to_where_a_tier_lies() -> None:
    figures = experiment(costing("T0", 0.3))
    report = experiment_report(figures, {"T0": "completed/T0"}, "id", Times("then"))
    assert report["best"]["report"] == report["children"][0]["report"] == "./completed/T0/report.json"


# --------------------------------------------------------------------------------------------- what tells records apart


def test_a_run_that_was_moved_says_the_same_and_one_that_says_anything_else_does_not() -> None:
    record = {"run_number": 1, "judge_score": 0.5, "workspace_path": "/a", "logs_path": "/a", "command_log_path": None}
    assert digest_of(record) == digest_of(
        {**record, "workspace_path": "/b", "logs_path": "/b", "command_log_path": "/b"}
    )
    assert digest_of(record) == digest_of(dict(reversed(record.items())))
    assert digest_of(record) != digest_of({**record, "judge_score": 0.6})
    assert digest_of(record) != digest_of({**record, "judge_reasoning": "x"})


def test_a_record_with_half_a_character_can_be_told_apart_too() -> None:
    assert digest_of({"judge_reasoning": "cut \ud83d"}) != digest_of({"judge_reasoning": "cut \ud83e"})


# --------------------------------------------------------------------------------------------- what a tier started from

SKILLS = {"skills": {"categories": ["agent"]}}


def manifest(resources: Any, inherited: Any) -> Record:
    return Record("config_manifest.json", "sound", {"resources": resources, "inherited_from": inherited})


def start_of(
    tier_id: str, configured: Sequence[str], given: Any, *, costs: Sequence[float] = (0.3, 0.1, 0.2)
) -> dict[str, Any] | None:
    """What a tier started from, where the first tiers are T0 and T1, which costs less, and T5 was given ``given``."""
    tiers = {one: costing(one, cost) for one, cost in zip(("T0", "T1", "T5"), costs, strict=True)}
    tiers["T6"] = costing("T6", 1.0)
    manifests = {
        "T0": manifest({}, None),
        "T1": manifest(SKILLS, None),
        "T5": manifest({}, given),
        "T6": manifest({}, None),
    }
    return inherited_from(tiers[tier_id], tiers, configured, lambda one, subtest: manifests[one])


def test_t5_starts_from_the_tier_whose_passes_are_cheapest_and_t6_from_t5() -> None:
    every = ("T0", "T1", "T5", "T6")
    found = start_of("T5", every, SKILLS)
    assert found == {
        "tier_id": "T1",
        "subtest_id": "01",
        "claude_md_path": None,
        "claude_dir_path": None,
        "resources": SKILLS,
    }
    follows = start_of("T6", every, SKILLS)
    assert follows is not None
    assert (follows["tier_id"], follows["resources"]) == ("T5", {})


def test_other_tiers_start_from_nothing() -> None:
    assert start_of("T0", ("T0", "T1", "T5"), SKILLS) is None
    assert start_of("T6", ("T0", "T1", "T6"), SKILLS) is None


def test_what_a_tier_started_from_is_not_claimed_where_its_subtests_were_given_something_else() -> None:
    assert start_of("T5", ("T0", "T1", "T5"), {"skills": {}}) is None
    assert start_of("T5", ("T0", "T1", "T5"), SKILLS, costs=(0.05, 0.1, 0.2)) is None


def test_what_a_tier_started_from_is_not_claimed_without_manifests() -> None:
    tiers = {one: costing(one, 0.1) for one in ("T0", "T5")}
    absent = Record("config_manifest.json", "absent", {})
    assert inherited_from(tiers["T5"], tiers, ("T0", "T5"), lambda one, subtest: absent) is None
    own = {"T0": manifest({}, None), "T5": absent}
    assert inherited_from(tiers["T5"], tiers, ("T0", "T5"), lambda one, subtest: own[one]) is None
