"""Requirements: what can be asked for, and that nothing is rounded in its favour."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_scylla.gate.requirements import KINDS, RequirementError, parse_requirement, parse_requirements


def counts(*, runs: tuple[int, int] = (0, 0), slots: tuple[int, int] = (0, 0), fallback: int = 0) -> dict[str, Any]:
    """COUNTS with so many completed runs, complete slots and fallbacks, each of so many."""
    return {
        "runs": {"completed": runs[0], "expected": runs[1]},
        "judge_slots": {"complete": slots[0], "expected": slots[1], "fallback": fallback},
    }


FULL = counts(runs=(1129, 1130), slots=(3388, 3390), fallback=34)


# What each kind counts


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("min-slots=99.5%", "min-slots=99.5%: 3388 of 3390 complete, 99.94%: holds"),
        ("min-slots=3388", "min-slots=3388: 3388 of 3390 complete, 99.94%: holds"),
        ("min-slots=3390", "min-slots=3390: 3388 of 3390 complete, 99.94%: does not hold, 2 too few"),
        ("min-runs=100%", "min-runs=100%: 1129 of 1130 completed, 99.91%: does not hold, 1 too few"),
        ("min-runs=0", "min-runs=0: 1129 of 1130 completed, 99.91%: holds"),
        ("max-fallback=1%", "max-fallback=1%: 34 of 3388 fallback, 1.01%: does not hold, 1 too many"),
        ("max-fallback=34", "max-fallback=34: 34 of 3388 fallback, 1.01%: holds"),
        ("max-fallback=30", "max-fallback=30: 34 of 3388 fallback, 1.01%: does not hold, 4 too many"),
    ],
)
def test_a_requirement_tells_its_arithmetic(text: str, line: str) -> None:
    assert str(parse_requirement(text).measure(FULL)) == line


def test_all_of_all_is_a_hundred_percent() -> None:
    found = counts(runs=(6, 6), slots=(18, 18))
    lines = [str(parse_requirement(f"{kind}=100%").measure(found)) for kind in KINDS]
    assert lines == [
        "min-runs=100%: 6 of 6 completed, 100%: holds",
        "min-slots=100%: 18 of 18 complete, 100%: holds",
        "max-fallback=100%: 0 of 18 fallback, 0%: holds",
    ]


def test_nothing_of_nothing_is_no_least_of_anything() -> None:
    assert not parse_requirement("min-runs=0%").measure(counts()).holds
    assert not parse_requirement("min-slots=1").measure(counts()).holds
    assert parse_requirement("max-fallback=0%").measure(counts()).holds
    assert str(parse_requirement("min-runs=100%").measure(counts())) == (
        "min-runs=100%: 0 of 0 completed: does not hold, nothing is expected"
    )


# No rounding


@pytest.mark.parametrize(
    ("text", "completed", "expected", "holds", "share"),
    [
        ("min-runs=100%", 9995, 10000, False, "99.95%"),
        ("min-runs=100%", 999_999, 1_000_000, False, "99.99%"),
        ("min-runs=99.99%", 999_899, 1_000_000, False, "99.98%"),
        ("min-runs=99.99%", 9_999, 10_000, True, "99.99%"),
        ("min-runs=33.333333%", 1, 3, True, "33.333333%"),
        ("min-runs=33.333334%", 1, 3, False, "33.333333%"),
        ("min-runs=0.1%", 1, 1000, True, "0.10%"),
        ("min-runs=0.3%", 3, 1000, True, "0.30%"),
        ("min-runs=70%", 7, 10, True, "70%"),
        ("min-runs=56.1%", 561, 1000, True, "56.10%"),
    ],
)
def test_a_least_is_decided_exactly_and_its_share_is_rounded_down(
    text: str, completed: int, expected: int, holds: bool, share: str
) -> None:
    found = parse_requirement(text).measure(counts(runs=(completed, expected)))
    assert (found.holds, found.percentage) == (holds, share)


@pytest.mark.parametrize(
    ("text", "fallback", "complete", "holds", "share"),
    [
        ("max-fallback=0%", 1, 1_000_000, False, "0.01%"),
        ("max-fallback=1%", 1_001, 100_000, False, "1.01%"),
        ("max-fallback=1%", 1_000, 100_000, True, "1%"),
        ("max-fallback=33.333333%", 1, 3, False, "33.333334%"),
    ],
)
def test_a_most_is_decided_exactly_and_its_share_is_rounded_up(
    text: str, fallback: int, complete: int, holds: bool, share: str
) -> None:
    found = parse_requirement(text).measure(counts(slots=(complete, complete), fallback=fallback))
    assert (found.holds, found.percentage) == (holds, share)


LIMITS = st.tuples(st.integers(0, 100_000_000), st.integers(0, 6)).filter(lambda pair: pair[0] <= 100 * 10 ** pair[1])


@given(LIMITS, st.integers(1, 50_000), st.data())
def test_the_share_that_is_told_always_agrees_with_the_verdict(
    limit: tuple[int, int], expected: int, data: st.DataObject
) -> None:
    digits, decimals = limit
    whole, rest = divmod(digits, 10**decimals)
    given_limit = f"{whole}.{rest:0{decimals}d}%" if decimals else f"{whole}%"
    count = data.draw(st.integers(0, expected))
    for text, found, least in (
        (f"min-runs={given_limit}", counts(runs=(count, expected)), True),
        (f"max-fallback={given_limit}", counts(slots=(expected, expected), fallback=count), False),
    ):
        measured = parse_requirement(text).measure(found)
        exact = Fraction(100 * count, expected)
        told = Fraction(measured.percentage.rstrip("%"))
        bound = Fraction(digits, 10**decimals)
        assert measured.holds is (exact >= bound if least else exact <= bound)
        assert measured.holds is (told >= bound if least else told <= bound)
        assert (measured.percentage == "100%") <= (count == expected)


# What cannot be told


def test_a_refused_requirement_does_not_hold_and_says_why() -> None:
    measured = parse_requirement("min-runs=0").measure(FULL).but_refused("2 of 8 items did not run (-k)")
    assert not measured.holds
    assert str(measured) == "min-runs=0: 1129 of 1130 completed, 99.91%: refused, 2 of 8 items did not run (-k)"
    assert (measured.as_data()["holds"], measured.as_data()["reason"]) == (None, "2 of 8 items did not run (-k)")


def test_a_requirement_as_data_has_the_names_of_the_report() -> None:
    assert parse_requirement("min-runs=99%").measure(counts(runs=(3, 4))).as_data() == {
        "requirement": "min-runs=99%",
        "count": 3,
        "of": 4,
        "percent": 75.0,
        "holds": False,
        "reason": None,
    }
    assert parse_requirement("max-fallback=0").measure(counts()).as_data()["percent"] is None


# What can be written


@pytest.mark.parametrize(
    "text",
    [
        "",
        "min-runs",
        "min-runs=",
        "min-runs=%",
        "min-runs=.5%",
        "min-runs=5.%",
        "min-runs=1.5",
        "min-runs=-1",
        "min-runs=+1",
        "min-runs=1e2%",
        "min-runs=1_000",
        "min-runs=1,5%",
        "min-runs=99.1234567%",
        "min-runs=101%",
        "min-runs=100.000001%",
        "min-runs=1234567890",
        "min-runs=\N{ARABIC-INDIC DIGIT THREE}%",
        "min-runs=5%\n",
        "min-runs= 5%",
        " min-runs=5%",
        "MIN-RUNS=5%",
        "max-runs=5%",
        "=5%",
        "min-runs=nan%",
        "min-runs==5%",
    ],
)
def test_anything_else_is_refused_in_one_line_that_quotes_it(text: str) -> None:
    with pytest.raises(RequirementError) as raised:
        parse_requirement(text)
    message = str(raised.value)
    assert message.isprintable()
    assert message.startswith("expected ")
    assert message.rpartition("found ")[2].startswith('"')


def test_a_kind_that_is_none_is_answered_with_those_that_are() -> None:
    with pytest.raises(RequirementError, match="min-runs, min-slots, max-fallback"):
        parse_requirement("min-items=1")


def test_each_kind_may_be_required_once() -> None:
    both = parse_requirements(["max-fallback=1%", "min-runs=5"])
    assert [str(found) for found in both] == ["max-fallback=1%", "min-runs=5"]
    with pytest.raises(RequirementError, match=r'once, found "min-runs=5" and "min-runs=6%"'):
        parse_requirements(["min-runs=5", "min-slots=5", "min-runs=6%"])
