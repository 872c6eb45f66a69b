"""Which runs and slots an experiment should have, and which experiments there are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import FULL_SCALE, checkpoint, experiment_config, small, write_experiment
from pytest_scylla.experiment.errors import ExperimentError
from pytest_scylla.experiment.expected import Experiment, find_experiments, load_experiment
from pytest_scylla.experiment.layout import RunId, SlotId, run_named_in
from pytest_scylla.experiment.listing import Surplus

CONFIG = Path("config", "experiment.json")


def make(root: Path, *directories: str, **changes: Any) -> Path:
    """An experiment with a configuration and these directories, and nothing else."""
    config = {**experiment_config(small()), **changes}
    (root / "config").mkdir(parents=True)
    (root / CONFIG).write_text(json.dumps(config))
    for directory in directories:
        (root / directory).mkdir(parents=True)
    return root


def write_checkpoint(root: Path, completed: dict[str, Any], **changes: Any) -> None:
    record = checkpoint(small(), completed, started_at="2026-02-02T09:00:00", last_updated_at="2026-02-02T09:00:00")
    (root / "checkpoint.json").write_text(json.dumps({**record, **changes}))


def definitions(root: Path, **tiers: list[str]) -> Path:
    for tier, names in tiers.items():
        (root / tier).mkdir(parents=True)
        for name in names:
            (root / tier / name).write_text("name: x\n")
    return root


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def ids(experiment: Experiment) -> list[str]:
    return [str(run) for run in experiment.runs()]


# ----------------------------------------------------------------------------------------------------- from definitions


def test_the_recorded_definitions_are_113(tmp_path: Path, recorded_subtests: Path) -> None:
    root = make(tmp_path / "exp", tiers_to_run=[f"T{n}" for n in range(7)], runs_per_subtest=10)
    experiment = load_experiment(root, subtests=recorded_subtests)
    assert [len(found) for found in experiment.subtests.values()] == [24, 10, 15, 41, 7, 15, 1]
    assert experiment.expected_runs == 1130
    assert experiment.expected_runs * experiment.judges_per_run == 3390
    assert experiment.expected_from == "tiers"
    assert [found[0] for found in experiment.subtests.values()] == ["00", "01", "01", "01", "01", "01", "01"]
    assert len(set(ids(experiment))) == 1130


@pytest.mark.parametrize(
    ("most", "expected"),
    [(1, [1, 1, 1, 1, 1, 1, 1]), (10, [10, 10, 10, 10, 7, 10, 1]), (1000, [24, 10, 15, 41, 7, 15, 1])],
)
def test_only_the_first_max_subtests_of_each_tier_are_expected(
    tmp_path: Path, recorded_subtests: Path, most: int, expected: list[int]
) -> None:
    root = make(tmp_path / "exp", tiers_to_run=[f"T{n}" for n in range(7)], max_subtests=most)
    experiment = load_experiment(root, subtests=recorded_subtests)
    assert [len(found) for found in experiment.subtests.values()] == expected
    assert all(list(found) == sorted(found) for found in experiment.subtests.values())
    assert experiment.subtests["T0"][0] == "00"


def test_what_lies_on_disk_adds_nothing_to_the_definitions(tmp_path: Path) -> None:
    root = make(tmp_path / "exp", "T0/00/run_01", "T0/07/run_01", tiers_to_run=["T0"])
    write_checkpoint(root, {"T0": {"08": {"1": "passed"}}})
    given = definitions(tmp_path / "defs", t0=["00-empty.yaml", "01-vanilla.yaml"], t1=["01-x.yaml"])
    experiment = load_experiment(root, subtests=given)
    assert dict(experiment.subtests) == {"T0": ("00", "01")}
    assert experiment.surplus == (Surplus("subtest", "T0/07"),)


def test_only_files_named_as_definitions_are_ones(tmp_path: Path) -> None:
    names = ["01-a.yaml", "README.md", "notes.yaml", "1-x.yaml", ".02-hidden.yaml", "03-x.yaml~", "04-x.txt"]
    given = definitions(tmp_path / "defs", t0=names)
    root = make(tmp_path / "exp", tiers_to_run=["T0"])
    assert dict(load_experiment(root, subtests=given).subtests) == {"T0": ("01",)}


@pytest.mark.parametrize("tiers", [{}, {"t0": []}, {"t0": ["README.md"]}])
def test_definitions_that_lack_a_tier_are_an_error_that_names_it(tmp_path: Path, tiers: dict[str, list[str]]) -> None:
    given = definitions(tmp_path / "defs", **tiers)
    root = make(tmp_path / "exp", tiers_to_run=["T0"])
    with pytest.raises(ExperimentError) as caught:
        load_experiment(root, subtests=given)
    assert "T0" in str(caught.value)
    assert os.fspath(given / "t0") in str(caught.value)
    assert str(caught.value).isprintable()


# ------------------------------------------------------------------------------------ from disk, checkpoint, aggregates


def test_a_whole_experiment_is_expected_as_it_is(pristine_experiment: Path) -> None:
    experiment = load_experiment(pristine_experiment)
    assert dict(experiment.subtests) == {"T0": ("00",), "T1": ("01", "02")}
    assert experiment.expected_from == "disk"
    assert ids(experiment) == [
        *("T0/00/run_01", "T0/00/run_02", "T1/01/run_01", "T1/01/run_02", "T1/02/run_01", "T1/02/run_02")
    ]
    assert (experiment.expected_runs, experiment.judges_per_run) == (6, 3)
    assert (experiment.surplus, experiment.refused, experiment.unknown_tiers) == ((), (), ())


def test_the_recorded_experiment_is_expected_as_it_is(recorded_experiment: Path) -> None:
    experiment = load_experiment(recorded_experiment)
    assert ids(experiment) == [f"T{n}/{'00' if n == 0 else '01'}/run_01" for n in range(7)]
    assert (experiment.surplus, experiment.refused) == ((), ())


def test_every_slot_has_the_model_that_the_configuration_gives_it(tmp_path: Path) -> None:
    experiment = load_experiment(make(tmp_path / "exp", "T0/00", tiers_to_run=["T0"], judge_models=["b", "a", "b"]))
    run = next(experiment.runs())
    assert [(str(slot), model) for slot, model in experiment.slots(run)] == [
        ("T0/00/run_01/judge_01", "b"),
        ("T0/00/run_01/judge_02", "a"),
        ("T0/00/run_01/judge_03", "b"),
    ]


def test_runs_that_never_started_are_expected_as_well(tmp_path: Path) -> None:
    experiment = load_experiment(make(tmp_path / "exp", "T0/00", tiers_to_run=["T0"], runs_per_subtest=3))
    assert ids(experiment) == ["T0/00/run_01", "T0/00/run_02", "T0/00/run_03"]


def test_max_subtests_takes_nothing_away_that_is_there(tmp_path: Path) -> None:
    root = make(tmp_path / "exp", "T0/00", "T0/01", tiers_to_run=["T0"], max_subtests=1)
    assert dict(load_experiment(root).subtests) == {"T0": ("00", "01")}


@pytest.mark.parametrize("key", ["completed_runs", "run_states", "subtest_states"])
def test_a_checkpoint_names_subtests_that_have_no_directory(tmp_path: Path, key: str) -> None:
    root = make(tmp_path / "exp", "T0/00", tiers_to_run=["T0", "T1"])
    state: Any = "complete" if key == "subtest_states" else {"1": "passed"}
    named = {"T0": {"05": state}, "T1": {"01": state, "100": state}}
    if key == "completed_runs":
        write_checkpoint(root, named)
    else:
        write_checkpoint(root, {}, **{"version": "3.1", key: named})
    experiment = load_experiment(root)
    assert dict(experiment.subtests) == {"T0": ("00", "05"), "T1": ("01", "100")}
    assert experiment.refused == ()


def test_a_checkpoint_of_version_3_1_may_lack_every_state(tmp_path: Path) -> None:
    root = make(tmp_path / "exp", "T0/00", tiers_to_run=["T0"])
    write_checkpoint(root, {}, version="3.1", run_states=None, subtest_states={"T0": None}, tier_states={"T0": None})
    experiment = load_experiment(root)
    assert dict(experiment.subtests) == {"T0": ("00",)}
    assert experiment.refused == ()


SOURCES = ["checkpoint.json", "T1/report.json", "T1/result.json", "result.json"]


@pytest.mark.parametrize("layout", ["flat", "staged"])
@pytest.mark.parametrize("source", SOURCES)
def test_one_surviving_source_is_enough_to_expect_a_lost_subtest(tmp_path: Path, source: str, layout: str) -> None:
    plan = small(layout=layout)
    write_experiment(tmp_path / "exp", plan)
    below = tmp_path / "exp" / ("completed" if layout == "staged" else "")
    shutil.rmtree(below / "T1" / "02")
    places = {name: (below if name.startswith("T") else tmp_path / "exp") / name for name in SOURCES}
    for name, place in places.items():
        if name != source:
            place.unlink()
    (below / "T1" / "best_subtest.json").unlink()
    assert dict(load_experiment(tmp_path / "exp").subtests) == {"T0": ("00",), "T1": ("01", "02")}
    places[source].unlink()
    assert dict(load_experiment(tmp_path / "exp").subtests) == {"T0": ("00",), "T1": ("01",)}


@pytest.mark.parametrize("source", ["checkpoint.json", "result.json"])
def test_one_surviving_source_is_enough_to_expect_a_lost_tier(experiment_dir: Path, source: str) -> None:
    shutil.rmtree(experiment_dir / "T1")
    (experiment_dir / ("result.json" if source == "checkpoint.json" else "checkpoint.json")).unlink()
    assert dict(load_experiment(experiment_dir).subtests) == {"T0": ("00",), "T1": ("01", "02")}


def test_sources_that_name_different_subtests_are_united(experiment_dir: Path) -> None:
    shutil.rmtree(experiment_dir / "T1" / "02")
    (experiment_dir / "checkpoint.json").unlink()
    edit(experiment_dir / "T1" / "report.json", lambda report: report["children"].pop())
    (experiment_dir / "T1" / "07").mkdir()
    assert load_experiment(experiment_dir).subtests["T1"] == ("01", "02", "07")


def test_a_tier_of_which_nothing_names_a_subtest_is_unknown_and_not_empty(tmp_path: Path) -> None:
    root = make(tmp_path / "exp", "T0/00", "T2", tiers_to_run=["T0", "T2", "T9"])
    experiment = load_experiment(root)
    assert experiment.unknown_tiers == ("T2", "T9")
    assert experiment.expected_runs == 2
    assert ids(experiment) == ["T0/00/run_01", "T0/00/run_02"]


def test_tiers_and_subtests_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = ["T10/01", "T2/100", "T2/11", "T2/02", "T0/00"]
    root = make(tmp_path / "exp", *names, tiers_to_run=["T10", "T2", "T0"], runs_per_subtest=1)
    assert ids(load_experiment(root)) == [
        *("T0/00/run_01", "T2/02/run_01", "T2/11/run_01", "T2/100/run_01", "T10/01/run_01")
    ]


def test_runs_beyond_99_have_longer_names() -> None:
    assert [str(RunId("T0", "00", number)) for number in (1, 99, 100)] == [
        *("T0/00/run_01", "T0/00/run_99", "T0/00/run_100")
    ]
    assert str(SlotId(RunId("T5", "13", 10), 1)) == "T5/13/run_10/judge_01"


# ---------------------------------------------------------------------------------------------------- what is not named

BAD_TIERS = ["../x", "..", "T0\n", "t0", "T", "T0/..", "T\N{ARABIC-INDIC DIGIT ZERO}", "", "/T0", "T-1", "\x1b[31mT0"]
BAD_SUBTESTS = ["../x", "..", "00\n", "0", "0000", "", "a", "00/..", "\N{ARABIC-INDIC DIGIT ONE}1", "run_01", "::"]


def assert_refused(experiment: Experiment, file: str, **subtests: tuple[str, ...]) -> None:
    assert dict(experiment.subtests) == subtests
    (refused,) = experiment.refused
    assert refused.file == file
    assert refused.problem.message.isprintable()
    assert "expected" in refused.problem.message


@pytest.mark.parametrize(
    "named",
    [{tier: {"01": {"1": "passed"}}} for tier in BAD_TIERS] + [{"T0": {bad: {"1": "passed"}}} for bad in BAD_SUBTESTS],
    ids=repr,
)
@pytest.mark.parametrize("key", ["completed_runs", "run_states"])
def test_a_checkpoint_with_an_id_that_is_none_is_refused_as_a_whole(tmp_path: Path, key: str, named: Any) -> None:
    root = make(tmp_path / "exp", "T0/00", tiers_to_run=["T0"])
    good = {"T0": {"05": {"1": "passed"}}}
    write_checkpoint(root, {**good, **named} if key == "completed_runs" else good, run_states={**good, **named})
    assert_refused(load_experiment(root), "checkpoint.json", T0=("00",))


@pytest.mark.parametrize("bad", ["../x", "00\n", "0", "\N{ARABIC-INDIC DIGIT ONE}1"])
def test_a_tier_report_with_an_id_that_is_none_is_refused_as_a_whole(experiment_dir: Path, bad: str) -> None:
    for name in ("checkpoint.json", "result.json", "T1/result.json"):
        (experiment_dir / name).unlink()
    shutil.rmtree(experiment_dir / "T1" / "02")
    edit(experiment_dir / "T1" / "report.json", lambda report: report["children"][0].update(id=bad))
    assert_refused(load_experiment(experiment_dir), "T1/report.json", T0=("00",), T1=("01",))


@pytest.mark.parametrize("bad", ["../x", "00\n", "0", "\N{ARABIC-INDIC DIGIT ONE}1"])
def test_a_tier_result_with_an_id_that_is_none_is_refused_as_a_whole(experiment_dir: Path, bad: str) -> None:
    def rename(result: dict[str, Any]) -> None:
        result["subtest_results"][bad] = result["subtest_results"].pop("01")

    for name in ("checkpoint.json", "result.json", "T1/report.json"):
        (experiment_dir / name).unlink()
    shutil.rmtree(experiment_dir / "T1" / "02")
    edit(experiment_dir / "T1" / "result.json", rename)
    assert_refused(load_experiment(experiment_dir), "T1/result.json", T0=("00",), T1=("01",))


@pytest.mark.parametrize("bad", ["../x", "T0\n", "t0", ""])
def test_an_experiment_result_with_an_id_that_is_none_is_refused_as_a_whole(experiment_dir: Path, bad: str) -> None:
    def rename(result: dict[str, Any]) -> None:
        result["tier_results"][bad] = result["tier_results"].pop("T0")

    (experiment_dir / "checkpoint.json").unlink()
    shutil.rmtree(experiment_dir / "T1")
    edit(experiment_dir / "result.json", rename)
    assert_refused(load_experiment(experiment_dir), "result.json", T0=("00",), T1=())


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"version": "9"}', b"{" * 5000])
def test_a_checkpoint_that_is_unsound_is_refused_and_the_rest_counts(tmp_path: Path, content: bytes) -> None:
    root = make(tmp_path / "exp", "T0/00", tiers_to_run=["T0"])
    (root / "checkpoint.json").write_bytes(content)
    assert_refused(load_experiment(root), "checkpoint.json", T0=("00",))


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_a_checkpoint_that_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    root = make(tmp_path / "exp", "T0/00", tiers_to_run=["T0"])
    write_checkpoint(root, {"T0": {"05": {"1": "passed"}}})
    (root / "checkpoint.json").rename(tmp_path / "elsewhere.json")
    place = root / "checkpoint.json"
    {"link": lambda: place.symlink_to(tmp_path / "elsewhere.json"), "fifo": lambda: os.mkfifo(place)}.get(
        kind, place.mkdir
    )()
    assert_refused(load_experiment(root), "checkpoint.json", T0=("00",))


def test_tiers_that_are_not_to_be_run_are_no_reason_to_refuse_a_source(tmp_path: Path) -> None:
    root = make(tmp_path / "exp", tiers_to_run=["T0"])
    write_checkpoint(root, {"T0": {"05": {"1": "passed"}}, "T6": {"01": {"1": "failed"}}})
    experiment = load_experiment(root)
    assert dict(experiment.subtests) == {"T0": ("05",)}
    assert experiment.refused == ()


# -------------------------------------------------------------------------------------------------- what lies beside it


def test_what_is_beyond_the_expected_is_reported_and_not_counted(tmp_path: Path) -> None:
    root = make(
        tmp_path / "exp",
        *("T0/00/run_01", "T0/00/run_02", "T0/00/run_03", "T0/00/run_100", "T0/00/run_00", "T5/01/run_01"),
        tiers_to_run=["T0"],
    )
    experiment = load_experiment(root)
    assert ids(experiment) == ["T0/00/run_01", "T0/00/run_02"]
    assert set(experiment.surplus) == {
        Surplus("tier", "T5"),
        Surplus("run", "T0/00/run_00"),
        Surplus("run", "T0/00/run_03"),
        Surplus("run", "T0/00/run_100"),
    }


def test_archived_attempts_and_copies_are_neither_counted_nor_reported(tmp_path: Path) -> None:
    root = make(
        tmp_path / "exp",
        *("T0/00/run_01", "T0/00/.failed/run_01", "T0/00/.failed/run_07", "T0/00/.failed/run_01_failed_1"),
        *("T0/00/old/run_05", "T0/00/run_01_failed_1", "T0/00/run_02.bak", "T0/00/workspace", "T0/old/00/run_01"),
        *("T0/.failed/03/run_01", "old/T0/00/run_01", ".failed/T3/01/run_01", "repo/T4/01/run_01", "T0.old/00/run_01"),
        *("T0/00.bak/run_01", ".scylla/quarantine/T0/00/run_01"),
        tiers_to_run=["T0"],
    )
    experiment = load_experiment(root)
    assert dict(experiment.subtests) == {"T0": ("00",)}
    assert experiment.surplus == ()


def test_links_and_files_name_no_subtests(tmp_path: Path) -> None:
    root = make(tmp_path / "exp", "T0/00/run_01", tiers_to_run=["T0", "T1"])
    (tmp_path / "elsewhere" / "05").mkdir(parents=True)
    (root / "T1").symlink_to(tmp_path / "elsewhere")
    (root / "T0" / "06").write_text("")
    experiment = load_experiment(root)
    assert dict(experiment.subtests) == {"T0": ("00",), "T1": ()}


def test_both_layouts_are_read_together(tmp_path: Path) -> None:
    root = make(
        tmp_path / "exp",
        *("T0/00/run_01", "completed/T0/01/run_01", "in_progress/T1/01/run_01", "completed/T1/02/run_05"),
        *("completed/T7/01/run_01", "elsewhere/T0/09/run_01"),
    )
    experiment = load_experiment(root)
    assert dict(experiment.subtests) == {"T0": ("00", "01"), "T1": ("01", "02")}
    assert set(experiment.stages) == {"", "in_progress", "completed"}
    assert set(experiment.surplus) == {Surplus("tier", "completed/T7"), Surplus("run", "completed/T1/02/run_05")}


# ------------------------------------------------------------------------------------------------------- too much of it


def test_200_000_runs_are_expected_and_one_more_is_an_error(tmp_path: Path) -> None:
    root = make(tmp_path / "exp", "T0/00", tiers_to_run=["T0"], runs_per_subtest=200_000)
    assert load_experiment(root).expected_runs == 200_000
    edit(root / CONFIG, lambda config: config.update(runs_per_subtest=200_001))
    with pytest.raises(ExperimentError, match="200,001") as caught:
        load_experiment(root)
    assert "/runs_per_subtest" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("runs", [1770, 10**6, 10**17])
def test_too_many_runs_are_refused_whatever_makes_them_many(tmp_path: Path, runs: int) -> None:
    tiers = {tier.lower(): [f"{subtest}-x.yaml" for subtest in found] for tier, found in FULL_SCALE.tiers.items()}
    root = make(tmp_path / "exp", tiers_to_run=list(FULL_SCALE.tiers), runs_per_subtest=runs)
    with pytest.raises(ExperimentError, match="200,000"):
        load_experiment(root, subtests=definitions(tmp_path / "defs", **tiers))


# ----------------------------------------------------------------------------------------------- hostile configurations

HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "tiers as text": ({"tiers_to_run": "T0"}, "/tiers_to_run"),
    "tiers as object": ({"tiers_to_run": {"T0": 1}}, "/tiers_to_run"),
    "tiers as null": ({"tiers_to_run": None}, "/tiers_to_run"),
    "no tier": ({"tiers_to_run": []}, "/tiers_to_run"),
    "tier twice": ({"tiers_to_run": ["T0", "T1", "T0"]}, "/tiers_to_run"),
    "list as tier": ({"tiers_to_run": [["T0"]]}, "/tiers_to_run/0"),
    "number as tier": ({"tiers_to_run": ["T0", 1]}, "/tiers_to_run/1"),
    **{f"tier {bad!r}": ({"tiers_to_run": ["T1", bad]}, "/tiers_to_run/1") for bad in BAD_TIERS},
    "tier with a null byte": ({"tiers_to_run": ["T0\0"]}, "/tiers_to_run/0"),
    "tier with a slash": ({"tiers_to_run": ["T0/00"]}, "/tiers_to_run/0"),
    "tier with a tail": ({"tiers_to_run": ["T0-copy"]}, "/tiers_to_run/0"),
    "runs as text": ({"runs_per_subtest": "2"}, "/runs_per_subtest"),
    "runs as boolean": ({"runs_per_subtest": True}, "/runs_per_subtest"),
    "no runs": ({"runs_per_subtest": 0}, "/runs_per_subtest"),
    "fewer than no runs": ({"runs_per_subtest": -1}, "/runs_per_subtest"),
    "half a run": ({"runs_per_subtest": 1.5}, "/runs_per_subtest"),
    "runs as null": ({"runs_per_subtest": None}, "/runs_per_subtest"),
    "runs as list": ({"runs_per_subtest": [1]}, "/runs_per_subtest"),
    "judges as text": ({"judge_models": "judge"}, "/judge_models"),
    "number as judge": ({"judge_models": ["judge", 1]}, "/judge_models/1"),
    "judge without a name": ({"judge_models": [""]}, "/judge_models/0"),
    "100 judges": ({"judge_models": ["judge"] * 100}, "/judge_models"),
    "name as number": ({"experiment_id": 1}, "/experiment_id"),
    "max_subtests as text": ({"max_subtests": "1"}, "/max_subtests"),
    "max_subtests as boolean": ({"max_subtests": True}, "/max_subtests"),
    "max_subtests of 0": ({"max_subtests": 0}, "/max_subtests"),
}


def load_error(root: Path) -> str:
    with pytest.raises(ExperimentError) as caught:
        load_experiment(root)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1000
    assert os.fspath(root) in message
    return message


@pytest.mark.parametrize(("change", "pointer"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_configuration_that_is_wrong_is_an_error_of_one_line_with_file_and_pointer(
    tmp_path: Path, change: dict[str, Any], pointer: str
) -> None:
    message = load_error(make(tmp_path / "exp", "T0/00", **change))
    assert f"{CONFIG} {pointer}: " in message
    assert message.partition(". ")[2], "a remedy"


@pytest.mark.parametrize("key", ["experiment_id", "runs_per_subtest", "tiers_to_run", "judge_models"])
def test_a_configuration_that_lacks_a_key_is_an_error_that_names_it(tmp_path: Path, key: str) -> None:
    root = make(tmp_path / "exp", "T0/00")
    edit(root / CONFIG, lambda config: config.pop(key))
    assert f"{CONFIG} /{key}: " in load_error(root)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"null", b"[]", b"\xff\xfe", b'\xef\xbb\xbf{"a": 1}', b"{" * 100_000, b'{"a": NaN}', b"\0" * 9),
        *(b'{"a": 1, "a": 2}', b'{"runs_per_subtest": 1e999}', b'{"runs_per_subtest": ' + b"9" * 5000 + b"}"),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_configuration_that_is_no_sound_json_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    root = make(tmp_path / "exp", "T0/00")
    (root / CONFIG).write_bytes(content)
    assert os.fspath(CONFIG) in load_error(root)


def test_values_of_a_configuration_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    root = make(tmp_path / "exp", tiers_to_run=["T0\x1b]0;x\x07\n::error::\u202e##[group]" + "x" * 5000])
    message = load_error(root)
    assert "::" not in message
    assert "##" not in message


def _absent(place: Path) -> None:
    place.unlink()


def _link(place: Path) -> None:
    place.rename(place.with_name("moved.json"))
    place.symlink_to("moved.json")


def _fifo(place: Path) -> None:
    place.unlink()
    os.mkfifo(place)


def _directory(place: Path) -> None:
    place.unlink()
    place.mkdir()


def _linked_directory(place: Path) -> None:
    place.parent.rename(place.parent.with_name("moved"))
    place.parent.symlink_to("moved")


def _no_directory(place: Path) -> None:
    shutil.rmtree(place.parent)
    place.parent.write_text("")


def _huge(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(65 * 1024 * 1024)


@pytest.mark.parametrize("spoil", [_absent, _link, _fifo, _directory, _linked_directory, _no_directory, _huge])
def test_a_configuration_that_is_no_regular_file_is_an_error_of_one_line(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    root = make(tmp_path / "exp", "T0/00")
    spoil(root / CONFIG)
    assert os.fspath(CONFIG) in load_error(root)


@pytest.mark.parametrize("kind", ["nothing", "file", "fifo"])
def test_what_is_no_directory_is_no_experiment(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "exp"
    if kind == "file":
        place.write_text("{}")
    elif kind == "fifo":
        os.mkfifo(place)
    load_error(place)
    with pytest.raises(ExperimentError):
        find_experiments(place)


def test_an_error_names_the_experiment_as_the_user_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "exp")
    (tmp_path / "exp" / CONFIG).unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExperimentError, match=r"^exp/config/experiment\.json: absent"):
        load_experiment("exp")
    with pytest.raises(ExperimentError, match=r"^\.\./x/exp/config/experiment\.json: absent"):
        load_experiment(tmp_path / "exp", given="../x/exp")


def test_a_configuration_keeps_working_with_keys_of_later_versions(tmp_path: Path) -> None:
    root = make(tmp_path / "exp", "T0/00", tiers_to_run=["T0"], thinking_mode="High", later={"any": [1]})
    assert load_experiment(root).expected_runs == 2


# ----------------------------------------------------------------------------------------------------- find experiments


def test_an_experiment_is_found_as_itself(pristine_experiment: Path) -> None:
    assert find_experiments(pristine_experiment) == [os.fspath(pristine_experiment)]


def test_a_directory_that_holds_experiments_is_searched_one_level_deep(tmp_path: Path) -> None:
    for name in ("b", "a", "deep/er"):
        make(tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").write_text("")
    assert find_experiments(tmp_path) == [os.fspath(tmp_path / "a"), os.fspath(tmp_path / "b")]


def test_experiments_inside_an_experiment_are_not_searched_for(tmp_path: Path) -> None:
    root = make(tmp_path / "exp", "T0/00")
    make(root / "copy")
    assert find_experiments(root) == [os.fspath(root)]


@pytest.mark.parametrize("tier", ["T0", "completed/T3", "in_progress/T12"])
def test_a_directory_with_tiers_and_no_configuration_is_an_error_and_not_skipped(tmp_path: Path, tier: str) -> None:
    make(tmp_path / "good")
    (tmp_path / "broken" / tier).mkdir(parents=True)
    found = find_experiments(tmp_path)
    assert found == [os.fspath(tmp_path / "broken"), os.fspath(tmp_path / "good")]
    assert f"{CONFIG}: absent" in load_error(tmp_path / "broken")
    assert find_experiments(tmp_path / "broken") == [os.fspath(tmp_path / "broken")]


def test_a_configuration_that_is_a_dangling_link_still_marks_an_experiment(tmp_path: Path) -> None:
    root = make(tmp_path / "exp")
    (root / CONFIG).unlink()
    (root / CONFIG).symlink_to("nowhere")
    assert find_experiments(tmp_path) == [os.fspath(root)]


@pytest.mark.parametrize("names", [[], ["a"], ["a/b/config"], ["t0", "Tx", "T0.old"]])
def test_a_directory_without_experiments_is_an_error_that_says_what_to_name(tmp_path: Path, names: list[str]) -> None:
    place = tmp_path / "results"
    place.mkdir()
    for name in names:
        (place / name).mkdir(parents=True)
    with pytest.raises(ExperimentError) as caught:
        find_experiments(place)
    assert os.fspath(place) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/data/exp/T0/00/run_01/workspace", "T0/00/run_01"),
        ("/data/exp/in_progress/T5/13/run_10", "T5/13/run_10"),
        ("C:\\data\\exp\\T0\\00\\run_01\\agent", "T0/00/run_01"),
        ("/data/T1/01/run_09/copy/T0/00/run_01/agent/command_log.json", "T0/00/run_01"),
        ("/data/exp/T0/00/run_01x", None),
        ("/data/exp/T0/00", None),
        ("", None),
        ("../../T0\n/00/run_01", None),
    ],
)
def test_a_stored_path_is_compared_by_its_tail_alone(path: str, named: str | None) -> None:
    assert run_named_in(path) == named


@pytest.mark.parametrize(("stored", "known"), [(600, 600), (90.5, 90.5), (None, None), (0, None)])
def test_how_long_an_agent_may_run(tmp_path: Path, stored: float | None, known: float | None) -> None:
    root = make(tmp_path / "exp", "T0/00", tiers_to_run=["T0"], timeout_seconds=stored)
    assert load_experiment(root).config.agent_timeout == known
