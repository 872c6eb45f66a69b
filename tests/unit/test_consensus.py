"""What several judges amount to: the mean of their scores, the majority of their verdicts, the grade of the mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_scylla.auditing.consensus import TOLERANCE, agree, consensus_of, grade_of, grades_near

BOUNDARIES = [(0.8, "A", "B"), (0.6, "B", "C"), (0.4, "C", "D"), (0.2, "D", "F")]
ORDER = "FDCBAS"
SCORES = st.floats(0, 1) | st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


@dataclass(frozen=True)
class Opinion:
    score: float
    passed: bool


def opinions(*scores: float, passed: int = 0) -> list[Opinion]:
    return [Opinion(score, index < passed) for index, score in enumerate(scores)]


@pytest.mark.parametrize(("boundary", "at", "below"), BOUNDARIES)
def test_a_grade_begins_exactly_at_its_boundary(boundary: float, at: str, below: str) -> None:
    assert grade_of(boundary) == at
    assert grade_of(math.nextafter(boundary, 1)) == at
    assert grade_of(math.nextafter(boundary, 0)) == below


def test_only_exactly_1_is_an_s() -> None:
    assert grade_of(1.0) == "S"
    assert grade_of(1) == "S"
    assert grade_of(math.nextafter(1.0, 0.0)) == "A"
    assert grade_of(0.9999999) == "A"


@pytest.mark.parametrize(
    ("score", "grade"), [(0.0, "F"), (0, "F"), (0.19, "F"), (0.3, "D"), (0.5, "C"), (0.7, "B"), (0.95, "A")]
)
def test_between_the_boundaries_the_grade_stays(score: float, grade: str) -> None:
    assert grade_of(score) == grade


@settings(deadline=None)
@given(SCORES, SCORES)
def test_a_better_score_never_has_a_worse_grade(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert ORDER.index(grade_of(low)) <= ORDER.index(grade_of(high))


@pytest.mark.parametrize(("boundary", "at", "below"), BOUNDARIES)
def test_within_the_tolerance_of_a_boundary_both_grades_are_right(boundary: float, at: str, below: str) -> None:
    assert TOLERANCE == 1e-6
    for score in (boundary, boundary - 5e-7, math.nextafter(boundary, 0), boundary + 5e-7):
        assert grades_near(score) == {at, below}
    assert grades_near(boundary + 2e-6) == {at}
    assert grades_near(boundary - 2e-6) == {below}


def test_within_the_tolerance_of_1_an_s_and_an_a_are_right() -> None:
    assert grades_near(1.0) == {"S", "A"}
    assert grades_near(math.nextafter(1.0, 0.0)) == {"S", "A"}
    assert grades_near(1 - 5e-7) == {"S", "A"}
    assert grades_near(1 - 2e-6) == {"A"}


def test_at_0_there_is_nothing_below() -> None:
    assert grades_near(0.0) == {"F"}


@settings(deadline=None)
@given(SCORES, st.floats(-0.9e-6, 0.9e-6))
def test_the_grade_of_every_score_that_agrees_is_near(score: float, off: float) -> None:
    other = min(max(score + off, 0.0), 1.0)
    assert grade_of(other) in grades_near(score)
    assert grade_of(score) in grades_near(score)


# -------------------------------------------------------------------------------------------------------- the consensus


@pytest.mark.parametrize(
    ("scores", "mean", "grade"),
    [
        ((0.5,), 0.5, "C"),
        ((1.0, 1.0, 1.0), 1.0, "S"),
        ((1.0, 1.0, 0.99), 2.99 / 3, "A"),
        ((0.9, 0.8, 0.7), 0.8, "A"),
        ((0.0, 0.0), 0.0, "F"),
        ((1.0, 0.0, 0.2), 0.4, "C"),
    ],
)
def test_the_score_is_the_mean_and_the_grade_is_the_means(scores: tuple[float, ...], mean: float, grade: str) -> None:
    consensus = consensus_of(opinions(*scores))
    assert consensus is not None
    assert consensus.score == pytest.approx(mean, abs=1e-12)
    assert consensus.grade in grades_near(mean)
    assert grade in grades_near(consensus.score)
    assert consensus.count == len(scores)


@pytest.mark.parametrize("score", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
def test_judges_of_one_mind_give_their_own_grade(score: float) -> None:
    for count in range(1, 10):
        consensus = consensus_of(opinions(*[score] * count))
        assert consensus is not None
        assert consensus.score == pytest.approx(score, abs=1e-12)
        assert consensus.grade == grade_of(score), count


@pytest.mark.parametrize(
    ("count", "passed", "expected"),
    [
        *((1, 0, False), (1, 1, True), (2, 1, False), (2, 2, True), (3, 1, False), (3, 2, True)),
        *((4, 2, False), (4, 3, True), (5, 2, False), (5, 3, True)),
    ],
)
def test_it_passes_if_more_than_half_passed_it(count: int, passed: int, expected: bool) -> None:
    consensus = consensus_of(opinions(*[0.5] * count, passed=passed))
    assert consensus is not None
    assert consensus.passed is expected


@pytest.mark.parametrize(("score", "passed"), [(0.0, True), (1.0, False)])
def test_passed_is_the_judges_word_and_does_not_follow_from_the_score(score: float, passed: bool) -> None:
    consensus = consensus_of([Opinion(score, passed)] * 3)
    assert consensus is not None
    assert consensus.passed is passed


def test_without_a_judgment_there_is_no_consensus() -> None:
    assert consensus_of([]) is None


@settings(deadline=None)
@given(st.lists(st.builds(Opinion, SCORES, st.booleans()), min_size=1, max_size=9))
def test_the_order_of_the_judges_makes_no_difference(judges: list[Opinion]) -> None:
    one, other = consensus_of(judges), consensus_of(judges[::-1])
    assert one is not None
    assert other is not None
    assert agree(one.score, other.score)
    assert min(judge.score for judge in judges) - 1e-12 <= one.score <= max(judge.score for judge in judges) + 1e-12
    assert (one.passed, one.count) == (other.passed, other.count)
    assert one.grade in grades_near(other.score)


# ------------------------------------------------------------------------------------------------------- stored numbers


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (0.5, 0.5, True),
        (0.5, 0.5 + 9e-7, True),
        (0.5, 0.5 - 9e-7, True),
        (0.5, 0.5 + 1.1e-6, False),
        (1, 1.0, True),
        (0.0, -0.0, True),
        (None, None, True),
        (None, 0.0, False),
        (0, None, False),
    ],
)
def test_stored_numbers_agree_within_the_tolerance_and_unknown_is_not_0(
    one: float | None, other: float | None, expected: bool
) -> None:
    assert agree(one, other) is expected
    assert agree(other, one) is expected
