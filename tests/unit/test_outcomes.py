"""Names of experiments and items, what a selection covers, and outcomes that travel between processes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pytest_scylla
from pytest_scylla.auditing.findings import CODES, Finding, finding
from pytest_scylla.experiment.layout import RunId
from pytest_scylla.outcomes import NOT_AUDITED, AuditedExperiment, ItemOutcome, Selection, unique_names
from pytest_scylla.repair.actions import LEVELS, Action

# ------------------------------------------------------------------------------------------------- names of experiments


def test_an_experiment_is_named_by_its_directory() -> None:
    assert unique_names(["/data/exp"]) == ["exp"]
    assert unique_names(["/data/one", "/data/two"]) == ["one", "two"]
    assert unique_names([]) == []


def test_equal_directories_are_told_apart_by_as_many_parents_as_it_takes() -> None:
    assert unique_names(["/x/p/exp", "/x/q/exp"]) == ["p/exp", "q/exp"]
    assert unique_names(["/x/p/exp", "/x/q/exp", "/x/q/other"]) == ["p/exp", "q/exp", "other"]
    assert unique_names(["/a/x/exp", "/b/x/exp", "/b/y/exp"]) == ["a/x/exp", "b/x/exp", "y/exp"]


def test_the_way_a_directory_is_written_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exp" / "T0").mkdir(parents=True)
    (tmp_path / "link").symlink_to("exp")
    monkeypatch.chdir(tmp_path / "exp")
    for root in (".", "../exp", "../exp/", "T0/..", os.fspath(tmp_path / "exp") + "/", "../link"):
        assert unique_names([root]) == ["exp"]


@pytest.mark.parametrize(
    "name",
    ["a::b", "a[b]", "a\nb", "a\x1b[31mb", "a b", "a\u202eb", "a::error::b", "-k", "##[group]", "a\tb", "*", "a'b"],
)
def test_a_name_means_nothing_in_a_node_id_or_on_a_terminal(name: str) -> None:
    (named,) = unique_names([f"/data/{name}"])
    assert named.isprintable()
    assert "::" not in named
    assert not re.search(r"[\[\]\s:*?#'\"\\]", named)


def test_a_readable_name_stays_as_it_is() -> None:
    for name in ("2026-01-20T06-16-41-test-001", "exp_1.2+rc=3,4@x", "\N{LATIN SMALL LETTER E WITH ACUTE}tude"):
        assert unique_names([f"/data/{name}"]) == [name]


def test_directories_whose_replaced_characters_make_them_equal_still_differ() -> None:
    names = unique_names(["/data/a b", "/data/a:b", "/data/a_b"])
    assert len(set(names)) == 3


def test_the_same_directory_twice_gets_two_names() -> None:
    assert len(set(unique_names(["/data/exp", "/data/exp", "/exp"]))) == 3


PART = st.sampled_from(["a", "b", "exp", "a b", "a:b", "a_b", "exp-0", "exp-1", "[x]", "::", "\n"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(PART, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)), max_size=6))
def test_no_two_experiments_ever_share_a_name(roots: list[str]) -> None:
    names = unique_names(roots)
    assert len(set(names)) == len(names) == len(roots)
    for name in names:
        assert name
        assert re.fullmatch(r"[\w.,+=@/-]+", name)
    assert unique_names(roots) == names


# ------------------------------------------------------------------------------------------------------ items and nodes


def test_every_run_and_slot_is_an_item_and_last_what_follows_from_them_which_is_not_counted(
    pristine_experiment: Path,
) -> None:
    experiment = pytest_scylla.load(pristine_experiment)
    audited = AuditedExperiment("exp", experiment, Selection([]))
    *ids, second_last, last = audited.item_ids()
    assert (second_last, last) == ("checkpoint", "aggregates")
    assert len(ids) == len(set(ids)) == audited.expected_items == 24
    assert ids[:5] == [
        *("T0/00/run_01", "T0/00/run_01/judge_01", "T0/00/run_01/judge_02", "T0/00/run_01/judge_03", "T0/00/run_02")
    ]


def test_node_ids_name_the_run_and_what_of_it_is_meant(pristine_experiment: Path) -> None:
    audited = AuditedExperiment("p/exp", pytest_scylla.load(pristine_experiment), Selection([]))
    assert audited.nodeid("T5/13/run_10") == "p/exp/T5/13/run_10::run"
    assert audited.nodeid("T5/13/run_10/judge_01") == "p/exp/T5/13/run_10::judge_01"
    assert audited.nodeid("checkpoint") == "p/exp/checkpoint::checkpoint"
    assert audited.nodeid("aggregates") == "p/exp/aggregates::aggregates"
    node_ids = [audited.nodeid(item_id) for item_id in audited.item_ids()]
    assert len(set(node_ids)) == 26


def test_what_a_session_did_not_look_at_is_not_audited(pristine_experiment: Path) -> None:
    audited = AuditedExperiment("exp", pytest_scylla.load(pristine_experiment), Selection([]))
    audited.outcomes["T0/00/run_01"] = ItemOutcome("completed", "passed")
    audited.outcomes["T0/00/run_02"] = ItemOutcome(NOT_AUDITED, "crashed")
    audited.outcomes["checkpoint"] = audited.outcomes["aggregates"] = ItemOutcome("sound", "passed")
    assert audited.audited_items == 1


# ------------------------------------------------------------------------------------------------------------ selection

ITEMS = [
    f"{tier}/{subtest}/{run}{slot}"
    for tier, subtest in (("T0", "00"), ("T1", "13"), ("T5", "13"))
    for run in ("run_01", "run_10", "run_100")
    for slot in ("", "/judge_01", "/judge_02")
]


def chosen(*globs: str) -> list[str]:
    selection = Selection(globs)
    return [item for item in ITEMS if item in selection]


def test_without_a_glob_everything_is_selected() -> None:
    assert chosen() == ITEMS
    assert Selection([]).run_is_whole(RunId("T0", "00", 1))


def test_a_tier_is_selected_with_everything_below_it() -> None:
    assert chosen("T0/*") == ITEMS[:9]
    assert chosen("T0/00/*") == ITEMS[:9]


def test_a_run_is_selected_with_its_slots_and_without_its_namesakes() -> None:
    assert chosen("T5/13/run_10") == ["T5/13/run_10", "T5/13/run_10/judge_01", "T5/13/run_10/judge_02"]
    assert chosen("T5/13/run_1") == []
    assert chosen("run_10") == []
    assert chosen("T5/13") == []


def test_slots_are_selected_without_their_runs() -> None:
    assert chosen("*/judge_01") == [item for item in ITEMS if item.endswith("/judge_01")]
    assert chosen("T5/13/run_10/judge_02") == ["T5/13/run_10/judge_02"]
    assert not Selection(["*/judge_01"]).run_is_whole(RunId("T0", "00", 1))


def test_several_globs_select_what_any_of_them_does() -> None:
    both = chosen("T0/00/run_01", "*/run_10/judge_02")
    assert both == [
        *("T0/00/run_01", "T0/00/run_01/judge_01", "T0/00/run_01/judge_02"),
        *("T0/00/run_10/judge_02", "T1/13/run_10/judge_02", "T5/13/run_10/judge_02"),
    ]


def test_globs_know_sets_and_single_characters() -> None:
    assert chosen("T[01]/*/run_0?") == [item for item in ITEMS if item[:2] in ("T0", "T1") and "/run_01" in item]
    assert chosen("T[!0]/*") == ITEMS[9:]


@pytest.mark.parametrize(
    "glob", ["t0/*", "T0", "", "T0/", "/T0/*", "T0/00/run_01 ", "T0/00/run_01\n", "x|T0/*", "(T0/.*)"]
)
def test_a_glob_that_names_no_item_selects_nothing(glob: str) -> None:
    assert chosen(glob) == []


@settings(deadline=None)
@given(st.lists(st.text("T0/*?[]!-()|\\.{}run_1^$", max_size=8), min_size=1, max_size=3))
def test_any_text_is_a_glob_and_a_run_that_is_whole_has_all_its_slots(globs: list[str]) -> None:
    selection = Selection(globs)
    run = RunId("T0", "00", 1)
    if selection.run_is_whole(run):
        assert all(item in selection for item in ITEMS[:3])
    alone = [Selection([glob]) for glob in globs]
    assert all((item in selection) is any(item in one for one in alone) for item in ITEMS)


# ------------------------------------------------------------------------------------------------------------- outcomes

FINDINGS = st.builds(
    Finding,
    code=st.sampled_from(sorted(CODES)),
    severity=st.sampled_from(["error", "warning"]),
    file=st.text(max_size=20),
    pointer=st.text(max_size=20),
    message=st.text(max_size=40),
)
FILES = st.lists(st.text(max_size=20), max_size=3).map(tuple)
ACTIONS = st.builds(
    Action,
    level=st.sampled_from(LEVELS),
    what=st.text(max_size=20),
    outcome=st.sampled_from(["done", "failed", "refused", "planned"]),
    files=FILES,
    solved=FILES,
    sources=FILES,
    reason=st.none() | st.text(max_size=20),
    calls=st.integers(0, 3),
    cost_usd=st.none() | st.floats(0, 1e6),
    seconds=st.floats(0, 1e6),
)
OUTCOMES = st.builds(
    ItemOutcome,
    status=st.sampled_from(["completed", "agent_failed", NOT_AUDITED]),
    outcome=st.sampled_from(["passed", "repaired", "failed", "not-run", "crashed"]),
    findings=st.lists(FINDINGS, max_size=3).map(tuple),
    remedy=st.text(max_size=20),
    score=st.none() | st.floats(0, 1),
    passed=st.none() | st.booleans(),
    cost_usd=st.none() | st.floats(0, 1e6),
    fallback=st.booleans(),
    level=st.none() | st.sampled_from(LEVELS),
    actions=st.lists(ACTIONS, max_size=3).map(tuple),
)


@settings(deadline=None)
@given(OUTCOMES)
def test_an_outcome_arrives_as_it_was_sent(outcome: ItemOutcome) -> None:
    sent = json.loads(json.dumps(outcome.as_data(), allow_nan=False))
    assert ItemOutcome.from_data(sent) == outcome


def test_what_is_not_known_stays_unknown_on_the_way() -> None:
    arrived = ItemOutcome.from_data(json.loads(json.dumps(ItemOutcome("missing", "failed").as_data())))
    assert (arrived.score, arrived.passed, arrived.cost_usd) == (None, None, None)


def test_only_findings_of_severity_error_are_errors() -> None:
    error, warning = finding("run-missing", "T0/00/run_01", "m"), finding("fallback", "f", "m")
    assert (error.severity, warning.severity) == ("error", "warning")
    assert ItemOutcome("missing", "failed", (warning, error, warning)).errors == (error,)


@settings(deadline=None)
@given(ACTIONS)
def test_an_action_arrives_as_it_was_sent(action: Action) -> None:
    assert Action.from_data(json.loads(json.dumps(action.as_data(), allow_nan=False))) == action


# -------------------------------------------------------------------------------------------------------------- repairs

DONE = Action("regenerate", "run_result.json", "done", files=("T0/00/run_01/run_result.json",), solved=("x",))
FAILED = Action("regenerate", "run_result.json", "failed", reason="No space left on device")
REFUSED = Action("regenerate", "judge/result.json", "refused", reason="nothing holds it")
PLANNED = Action("regenerate", "run_result.json", "planned", files=("T0/00/run_01/run_result.json",))

SOUND = ItemOutcome("completed", "passed")
BROKEN = ItemOutcome("results", "failed", remedy="free (rebuild it from files that survive)", level="regenerate")


@pytest.mark.parametrize(
    ("before", "after", "actions", "outcome"),
    [
        (BROKEN, SOUND, (DONE,), "repaired"),
        (BROKEN, SOUND, (), "repaired"),  # by an action on behalf of another item, or by somebody else
        (SOUND, SOUND, (DONE,), "repaired"),  # a warning
        (SOUND, SOUND, (), "passed"),
        (SOUND, SOUND, (FAILED,), "passed"),
        (SOUND, SOUND, (REFUSED,), "passed"),
        (SOUND, SOUND, (PLANNED,), "passed"),
        (SOUND, SOUND, (DONE, REFUSED), "repaired"),
        (BROKEN, BROKEN, (DONE,), "failed"),
        (BROKEN, BROKEN, (PLANNED,), "failed"),
        (SOUND, BROKEN, (DONE,), "failed"),
    ],
)
def test_an_item_is_repaired_that_is_sound_and_was_not_or_of_which_something_was_done(
    before: ItemOutcome, after: ItemOutcome, actions: tuple[Action, ...], outcome: str
) -> None:
    found = after.after(before, actions)
    assert (found.status, found.outcome, found.actions) == (after.status, outcome, actions)
    assert found.sound is (outcome in ("passed", "repaired"))


@pytest.mark.parametrize(
    ("level", "what"), [("judges", "judge call"), ("agents", "agent run"), ("regenerate", "item"), (None, "item")]
)
def test_what_no_action_explains_is_refused_for_what_it_takes(level: Any, what: str) -> None:
    unsound = ItemOutcome("failed", "failed", remedy="it takes this", level=level)
    (action,) = unsound.with_refusal().actions
    assert (action.what, action.outcome, action.reason) == (what, "refused", "it takes this")
    assert action.level == (level or "regenerate")
    assert action.files == ()


def test_a_refusal_is_added_to_what_was_done_and_once() -> None:
    refused = BROKEN.after(BROKEN, (DONE,)).with_refusal()
    assert [action.outcome for action in refused.actions] == ["done", "refused"]
    assert refused.with_refusal() == refused


@pytest.mark.parametrize(
    "outcome",
    [
        SOUND,
        SOUND.after(BROKEN, (DONE,)),
        BROKEN.after(BROKEN, (FAILED,)),
        BROKEN.after(BROKEN, (DONE, REFUSED)),
        BROKEN.after(BROKEN, (PLANNED,)),  # what is planned is not declined
    ],
)
def test_what_is_sound_or_explained_is_not_refused_as_well(outcome: ItemOutcome) -> None:
    assert outcome.with_refusal() == outcome


# Reports of the same item from several processes

RUN, SLOT = "T0/00/run_01", "T0/00/run_01/judge_01"
REPAIRED = SOUND.after(BROKEN, (DONE,))


@pytest.fixture
def audited(pristine_experiment: Path) -> AuditedExperiment:
    return AuditedExperiment("exp", pytest_scylla.load(pristine_experiment), Selection([]))


def test_what_an_item_reports_itself_counts_more_than_what_is_told_aside(audited: AuditedExperiment) -> None:
    audited.keep_aside(RUN, BROKEN)
    audited.keep(RUN, REPAIRED)
    audited.keep_aside(RUN, BROKEN)
    assert audited.outcomes[RUN] == REPAIRED


def test_what_is_not_sound_and_never_reported_was_not_run(audited: AuditedExperiment) -> None:
    audited.keep_aside(RUN, BROKEN)
    audited.keep_aside(SLOT, SOUND)
    assert audited.outcomes[RUN].outcome == "not-run"
    assert audited.outcomes[RUN].status == "results"
    assert audited.outcomes[SLOT] == SOUND


def test_what_is_told_aside_of_an_item_that_never_reports_replaces_what_was_known_first(
    audited: AuditedExperiment,
) -> None:
    audited.keep_aside(RUN, BROKEN)
    audited.keep_aside(RUN, REPAIRED)
    assert audited.outcomes[RUN] == REPAIRED


def test_actions_are_listed_by_item(audited: AuditedExperiment) -> None:
    audited.keep(SLOT, REPAIRED)
    audited.keep(RUN, BROKEN.after(BROKEN, (DONE, REFUSED)))
    assert list(audited.actions()) == [(RUN, DONE), (RUN, REFUSED), (SLOT, DONE)]


TOLD: dict[str, tuple[ItemOutcome, ItemOutcome]] = {
    "repaired": (REPAIRED, SOUND.after(BROKEN, ())),
    "a warning repaired": (SOUND.after(SOUND, (DONE,)), SOUND),
    "repaired in part": (BROKEN.after(BROKEN, (DONE, REFUSED)), BROKEN.after(BROKEN, (REFUSED,))),
}
"""What the process tells of an item that repaired its run, and what one does that came second."""


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("first_aside", [False, True])
def test_an_item_ends_as_by_the_process_that_repaired_its_run_whoever_reports_first(
    audited: AuditedExperiment, name: str, first_aside: bool
) -> None:
    did, second = TOLD[name]
    audited.keep_aside(RUN, BROKEN)
    if first_aside:
        audited.keep_aside(RUN, did)
        audited.keep(RUN, second)
    else:
        audited.keep(RUN, second)
        audited.keep_aside(RUN, did)
    assert audited.outcomes[RUN] == did


@pytest.mark.parametrize("name", TOLD)
def test_what_was_done_is_not_forgotten_over_a_third_process_that_did_nothing(
    audited: AuditedExperiment, name: str
) -> None:
    did, second = TOLD[name]
    audited.keep_aside(RUN, did)
    audited.keep_aside(RUN, second)
    audited.keep(RUN, second)
    assert audited.outcomes[RUN] == did
