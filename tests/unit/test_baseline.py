"""The comparison with an earlier report: which one is believed, and what is better, worse, or only different."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_scylla.auditing.checkpoint import CHECKPOINT_STATUSES
from pytest_scylla.auditing.findings import RUN_STATUSES, SLOT_STATUSES
from pytest_scylla.experiment.schemas import load_schema
from pytest_scylla.gate.baseline import BaselineError, Comparison, State, compare, read_baseline
from pytest_scylla.gate.given import GivenFile

RUN, SLOT, OTHER = "T0/00/run_01", "T0/00/run_01/judge_01", "T0/00/run_02"
Json = dict[str, Any]


def run(run_id: str = RUN, status: str = "completed", score: float | None = 0.5, slot: str = "complete") -> Json:
    """A run of a report, with one judge slot."""
    judges = [{"status": slot, "score": score, "passed": None, "model": "m"}]
    return {"id": run_id, "status": status, "score": score, "passed": None, "cost_usd": None, "judges": judges}


def item(item_id: str, status: str, outcome: str = "failed", *codes: str) -> Json:
    """An item that a report lists."""
    findings = [{"code": code, "severity": "error", "file": None, "pointer": "", "message": ""} for code in codes]
    return {"id": item_id, "status": status, "outcome": outcome, "findings": findings}


def part(*runs: Json, items: tuple[Json, ...] = (), not_audited: int = 0) -> Json:
    """A report's part about one experiment, as far as it is compared."""
    return {
        "experiment_id": "e",
        "path": "exp",
        "runs": list(runs or (run(),)),
        "items": list(items),
        "not_audited": not_audited,
    }


def ids(compared: Comparison) -> dict[str, list[str]]:
    """The items of a comparison, by what became of them, where anything did."""
    kinds = ("better", "worse", "changed")
    found = {kind: [change.item_id for change in getattr(compared, kind)] for kind in kinds}
    found |= {"scores": [change.run for change in compared.scores]}
    found |= {"new": list(compared.new), "absent": list(compared.absent)}
    return {kind: listed for kind, listed in found.items() if listed}


def unsound(status: str) -> Json:
    """A part whose run has this status."""
    return part(run(status=status), items=(item(RUN, status),))


# Better and worse


def test_nothing_changes_between_equal_reports() -> None:
    for same in (part(), unsound("missing"), part(items=(item("checkpoint", "stale"),)), part(not_audited=3)):
        assert ids(compare(same, copy.deepcopy(same))) == {}


def test_an_item_that_became_sound_is_better_and_one_that_did_not_stay_so_is_worse() -> None:
    assert ids(compare(unsound("results"), part())) == {"better": [RUN]}
    assert ids(compare(part(), unsound("results"))) == {"worse": [RUN]}
    (change,) = compare(part(), unsound("results")).worse
    assert str(change) == "T0/00/run_01: completed -> results"
    assert change.as_data() == {
        "id": RUN,
        "before": {"status": "completed", "outcome": "passed", "fallback": False},
        "after": {"status": "results", "outcome": "failed", "fallback": False},
    }


@pytest.mark.parametrize(
    "order",
    [
        ("completed", "results", "missing", "conflict"),
        ("completed", "results", "failed", "unsafe"),
        ("completed", "results", "partial", "unsafe"),
    ],
)
def test_of_a_run_that_is_worse_which_takes_more_to_put_right(order: tuple[str, ...]) -> None:
    for place, before in enumerate(order):
        for after in order[place + 1 :]:
            first = part() if before == "completed" else unsound(before)
            assert ids(compare(first, unsound(after))) == {"worse": [RUN]}
            assert ids(compare(unsound(after), first)) == {"better": [RUN]}


def test_of_a_slot_that_is_worse_for_which_the_agent_has_to_run_again() -> None:
    def of_slot(status: str) -> Json:
        return part(run(slot=status), items=(item(SLOT, status),) if status != "complete" else ())

    order = ("complete", "failed", "agent_failed", "conflict")
    for before, after in pairwise(order):
        assert ids(compare(of_slot(before), of_slot(after))) == {"worse": [SLOT]}
    assert ids(compare(of_slot("missing"), of_slot("failed"))) == {"changed": [SLOT]}


@pytest.mark.parametrize(("before", "after"), [("missing", "partial"), ("failed", "missing"), ("conflict", "unsafe")])
def test_what_takes_the_same_to_put_right_is_only_changed(before: str, after: str) -> None:
    assert ids(compare(unsound(before), unsound(after))) == {"changed": [RUN]}
    assert ids(compare(unsound(after), unsound(before))) == {"changed": [RUN]}


def test_every_status_has_a_rank_of_its_own_choosing() -> None:
    for status in (*RUN_STATUSES, *SLOT_STATUSES, *CHECKPOINT_STATUSES):
        sound = status in ("completed", "complete", "sound")
        assert (State(status, "passed" if sound else "failed").badness[0] == 0) is sound
        assert str(State(status, "passed" if sound else "failed")) == status


def test_an_outcome_counts_where_the_status_stays() -> None:
    strict = part(items=(item(RUN, "completed", "failed", "stale"),))
    assert ids(compare(part(), strict)) == {"worse": [RUN]}
    assert ids(compare(strict, part())) == {"better": [RUN]}
    assert str(compare(part(), strict).worse[0]) == "T0/00/run_01: completed -> completed, failed"
    repaired = part(items=(item(RUN, "completed", "repaired"),))
    assert ids(compare(part(), repaired)) == ids(compare(repaired, part())) == {}


def test_a_fallback_is_worse_than_a_judgment_and_better_than_none() -> None:
    fallback = part(items=(item(SLOT, "complete", "passed", "fallback"),))
    refused = part(run(slot="failed"), items=(item(SLOT, "failed", "failed", "fallback-refused"),))
    none = part(run(slot="failed"), items=(item(SLOT, "failed", "failed", "judgment-missing"),))
    assert ids(compare(part(), fallback)) == {"worse": [SLOT]}
    assert ids(compare(fallback, part())) == {"better": [SLOT]}
    assert ids(compare(none, fallback)) == {"better": [SLOT]}
    assert ids(compare(fallback, refused)) == {"worse": [SLOT]}
    assert str(compare(part(), fallback).worse[0]) == f"{SLOT}: complete -> complete, fallback"


def test_what_is_waived_now_is_never_worse_and_told() -> None:
    waived = part(run(status="missing"), items=(item(RUN, "missing", "waived"),))
    assert ids(compare(part(), waived)) == {"changed": [RUN]}
    assert ids(compare(unsound("missing"), waived)) == {"changed": [RUN]}
    assert ids(compare(waived, unsound("missing"))) == {"changed": [RUN]}
    assert ids(compare(waived, part())) == {"better": [RUN]}
    assert str(compare(part(), waived).changed[0]) == "T0/00/run_01: completed -> missing, waived"


# Scores


def test_another_score_is_told_and_is_neither_better_nor_worse() -> None:
    for before, after in ((0.5, 0.75), (0.75, 0.5), (1.0, 0.0)):
        compared = compare(part(run(score=before)), part(run(score=after)))
        assert ids(compared) == {"scores": [RUN]}
        assert compared.scores[0].as_data() == {"id": RUN, "before": before, "after": after}
    assert str(compare(part(run(score=0.5)), part(run(score=0.75))).scores[0]) == "T0/00/run_01: 0.5 -> 0.75"


def test_scores_that_agree_as_floats_do_or_that_are_not_known_are_no_change() -> None:
    for before, after in ((0.1 + 0.2, 0.3), (0.5, 0.5 + 9e-7), (None, 0.5), (0.5, None), (None, None)):
        assert ids(compare(part(run(score=before)), part(run(score=after)))) == {}
    assert ids(compare(part(run(score=0.5)), part(run(score=0.5 + 2e-6)))) == {"scores": [RUN]}


# More and fewer items


def test_items_that_are_no_longer_expected_are_worse() -> None:
    compared = compare(part(run(), run(OTHER)), part())
    assert ids(compared) == {"worse": [OTHER, f"{OTHER}/judge_01"], "absent": [OTHER, f"{OTHER}/judge_01"]}
    assert str(compared.worse[0]) == "T0/00/run_02: completed -> no longer expected"
    assert compared.worse[0].as_data()["after"] is None


def test_new_items_are_told_and_worse_if_they_are_not_sound() -> None:
    assert ids(compare(part(), part(run(), run(OTHER)))) == {"new": [OTHER, f"{OTHER}/judge_01"]}
    missing = part(run(), run(OTHER, "missing"), items=(item(OTHER, "missing"),))
    assert ids(compare(part(), missing)) == {"new": [OTHER, f"{OTHER}/judge_01"], "worse": [OTHER]}
    assert str(compare(part(), missing).worse[0]) == "T0/00/run_02: not expected -> missing"
    waived = part(run(), run(OTHER, "missing"), items=(item(OTHER, "missing", "waived"),))
    assert ids(compare(part(), waived)) == {"new": [OTHER, f"{OTHER}/judge_01"]}


def test_what_is_no_run_and_not_listed_is_sound() -> None:
    stale = part(items=(item("checkpoint", "stale"),))
    assert ids(compare(part(), stale)) == {"worse": ["checkpoint"]}
    assert ids(compare(stale, part())) == {"better": ["checkpoint"]}
    unknown = part(items=(item("T2", "missing"),))
    assert ids(compare(part(), unknown)) == {"worse": ["T2"]}


# What nobody looked at


def test_what_one_of_the_sessions_did_not_look_at_is_not_compared() -> None:
    unseen = part(run(status="not_audited", slot="not_audited", score=None), not_audited=2)
    for before, after in (
        (part(), unseen),
        (unseen, part()),
        (unsound("missing"), unseen),
        (unseen, unsound("missing")),
    ):
        compared = compare(before, after)
        assert (ids(compared), compared.not_compared) == ({}, 2)


def test_a_session_that_did_not_look_at_everything_says_nothing_by_not_listing_a_checkpoint() -> None:
    stale = part(items=(item("checkpoint", "stale"),))
    compared = compare(part(not_audited=1), stale)
    assert (ids(compared), compared.not_compared) == ({}, 1)


STATUSES = st.sampled_from(["completed", "results", "missing", "conflict", "not_audited"])
PARTS = st.dictionaries(st.sampled_from([RUN, OTHER]), st.tuples(STATUSES, st.sampled_from(["failed", "waived"]))).map(
    lambda runs: part(
        run("T9/00/run_01"),
        *(run(run_id, status) for run_id, (status, _) in runs.items()),
        items=tuple(
            item(run_id, status, outcome)
            for run_id, (status, outcome) in runs.items()
            if status not in ("completed", "not_audited")
        ),
    )
)


@given(PARTS, PARTS)
def test_every_item_is_in_one_list_at_most_and_the_way_back_is_the_reverse(before: Json, after: Json) -> None:
    there, back = compare(before, after), compare(after, before)
    listed = [change.item_id for kind in (there.better, there.worse, there.changed) for change in kind]
    assert len(listed) == len(set(listed))
    assert set(there.new) == set(back.absent)
    assert {change.item_id for change in there.better} <= {change.item_id for change in (*back.worse, *back.changed)}
    assert there.not_compared == back.not_compared


# Which report is believed


@pytest.fixture
def report() -> Json:
    """A report as it is written."""
    found: Json = copy.deepcopy(load_schema("report")["examples"][0])
    return found


def read(tmp_path: Path, data: Json | bytes, max_size: int = 10**6) -> Any:
    """Read a report that a file holds."""
    path = tmp_path / "old.json"
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return read_baseline(GivenFile(path, "old.json"), max_size)


def test_a_report_is_found_by_the_id_of_the_experiment(tmp_path: Path, report: Json) -> None:
    baseline = read(tmp_path, report)
    assert baseline.part_of("demo-001", "elsewhere") == report["experiments"][0]
    assert baseline.generated_at == "2026-03-01T10:05:00+00:00"
    compared = baseline.compare(report["experiments"][0])
    assert (compared.baseline, ids(compared)) == ("old.json", {})


def test_a_report_of_another_experiment_is_refused(tmp_path: Path, report: Json) -> None:
    with pytest.raises(BaselineError) as raised:
        read(tmp_path, report).part_of("demo-002", "demo-001")
    assert str(raised.value) == (
        'old.json: expected a report on experiment "demo-002", found "demo-001". Name a report of this experiment'
    )


def test_of_several_with_one_id_the_path_tells_which(tmp_path: Path, report: Json) -> None:
    first, second = report["experiments"][0], copy.deepcopy(report["experiments"][0])
    second["path"], second["selected"] = "other", 5
    report["experiments"] = [first, second]
    baseline = read(tmp_path, report)
    assert baseline.part_of("demo-001", "demo-001")["selected"] == 6
    assert baseline.part_of("demo-001", "other")["selected"] == 5
    with pytest.raises(BaselineError, match="demo-001"):
        baseline.part_of("demo-001", "third")
    report["experiments"] = [first, first]
    with pytest.raises(BaselineError, match="2 of that id and path"):
        read(tmp_path, report).part_of("demo-001", "demo-001")


def _set(*path: str | int, to: Any) -> Callable[[Json], None]:
    def change(report: Json) -> None:
        place: Any = report
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("version", to=2), "old.json /version: expected 1, found 2."),
        (_set("format", to="junit"), 'old.json /format: expected "pytest-scylla/report", found "junit".'),
        (_set("experiments", 0, "runs", 0, "score", to=85), "old.json /experiments/0/runs/0/score: expected at most 1"),
        (_set("experiments", 0, "runs", 0, "id", to="../../etc"), "/experiments/0/runs/0/id: expected a run such as"),
        (
            _set("experiments", 0, "runs", 1, "id", to="T0/00/run_01"),
            "/experiments/0/runs/1/id: expected a run such as",
        ),
        (_set("experiments", 0, "runs", 1, "id", to="T0\\00\\run_01"), "/experiments/0/runs/1/id: expected a run"),
        (_set("experiments", to=None), "old.json /experiments: expected array, found null"),
    ],
)
def test_a_report_that_says_something_else_is_refused_with_its_place(
    tmp_path: Path, report: Json, change: Callable[[Json], None], words: str
) -> None:
    change(report)
    with pytest.raises(BaselineError) as raised:
        read(tmp_path, report)
    assert words in str(raised.value)
    assert str(raised.value).isprintable()
    assert str(raised.value).endswith("Name a report that --scylla-report wrote, as .json")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"a": 1, "a": 2}', b'{"version": NaN}', b"<html>", b"[" * 10_000, b"{}"],
)
def test_what_is_no_report_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BaselineError, match=r"^old\.json"):
        read(tmp_path, data)


def test_a_report_that_is_too_large_or_absent_is_refused(tmp_path: Path, report: Json) -> None:
    with pytest.raises(BaselineError, match="expected at most 100 bytes"):
        read(tmp_path, report, 100)
    with pytest.raises(BaselineError, match=r"none\.json: expected a file, found none"):
        read_baseline(GivenFile(tmp_path / "none.json", "none.json"))
    with pytest.raises(BaselineError, match="No such file or directory"):
        read_baseline(GivenFile(tmp_path / "nowhere" / "old.json", "old.json"))


def test_texts_of_a_report_are_printable_in_a_comparison(tmp_path: Path, report: Json) -> None:
    report["generated_at"] = "\x1b[31m::error::"
    report["experiments"][0]["items"].append({**report["experiments"][0]["items"][0], "id": "\x1b[2J", "kind": "tier"})
    compared = read(tmp_path, report).compare({**part(), "experiment_id": "demo-001"})
    assert compared.generated_at.isprintable()
    assert all(str(change).isprintable() for change in compared.worse)
