"""One run for a variant and a seed: what differs within one, and numbers in several spellings."""

import pandas as pd
import pytest

from ablations.comparison.outcomes import with_outcomes
from ablations.comparison.selection import select
from ablations.comparison.units import Within, differing_within, level_of, with_equal_numbers


def frame(rows: list[dict]) -> pd.DataFrame:
    """Runs of x and y, numbered, finished, each with its own result unless said."""
    usual = {"status": "FINISHED", "run_name": "", "params.arch": "x", "params.seed": "0"}
    return pd.DataFrame(
        [
            usual | {"run_id": f"r{i}", "start_time": i, "metrics.acc": i / 64} | row
            for i, row in enumerate(rows)
        ]
    )


def within(rows: list[dict], *ignore: str, seeded: bool = True) -> tuple:
    return differing_within(with_outcomes(frame(rows), "acc"), ["arch"], ignore, seeded)


def test_a_param_that_differs_within_each_seed():
    rows = [{"params.lr": lr, "params.seed": seed} for seed in "01" for lr in ("0.1", "0.01")]
    assert within(rows) == (Within("lr", ("0.01", "0.1"), ("0", "1"), True),)
    assert within(rows, "lr") == ()


def test_in_one_seed_and_one_arm_only():
    rows = [{"params.lr": "0.1", "params.seed": seed, "params.arch": arch} for seed in "01" for arch in "xy"]
    assert within(rows) == ()
    twice = [
        *rows,
        {"params.lr": "1", "params.arch": "y"},
        {"params.lr": "0.1", "params.seed": "1", "params.n": "2"},
    ]
    assert within(twice) == (
        Within("lr", ("0.1", "1"), ("0",), False),
        Within("n", ("2", "(not logged)"), ("1",), False),
    )


@pytest.mark.parametrize(
    "row", [{"params.lr": "0.10"}, {"status": "FAILED", "params.lr": "1"}, {"params.output_dir": "b"}]
)
def test_what_does_not_count(row):
    assert within([{"params.lr": "0.1"}, {"params.lr": "0.1"} | row]) == ()


def test_groups_without_seeds_may_differ_in_their_random_numbers_alone():
    rows = [{"params.seed": None, "params.random_state": str(i), "params.lr": str(i // 2)} for i in range(4)]
    assert [each.key for each in within(rows, seeded=False)] == ["lr"]


def test_numbers_get_one_spelling():
    rows = [
        {"params.seed": "0", "params.lr": "0.01"},
        {"params.seed": "0.0", "params.lr": "1e-2"},
        {"params.seed": "1"},
    ]
    runs, spelled = with_equal_numbers(frame(rows), ["lr"])
    assert runs["params.seed"].tolist() == ["0", "0", "1"]
    assert runs["params.lr"].tolist()[:2] == ["0.01", "0.01"]
    assert spelled == {"lr": (("0.01", "1e-2"),), "seed": (("0", "0.0"),)}


def test_a_level_is_text_where_one_of_them_is():
    rows = [{"params.commit": commit} for commit in ("1e5", "100000", "abc")]
    runs, spelled = with_equal_numbers(frame(rows), ["commit"])
    assert runs["params.commit"].tolist() == ["1e5", "100000", "abc"]
    assert spelled == {}
    assert level_of("1e5", ["100000", "abc"]) == "1e5"
    assert level_of("1e5", ["100000", "7"]) == "100000"
    assert level_of(0.1, ["0.10", "1"]) == "0.10"
    assert level_of("1.0", ["None", "1", "nan"]) == "1"


def test_runs_of_the_same_everything_that_disagree_count_for_nothing():
    rows = [
        {},
        {},
        {"params.seed": "1", "metrics.acc": 0.5},
        {"params.seed": "1", "metrics.acc": 0.5 + 1e-12},
    ]
    selection = select(frame(rows), ["arch"], "acc")
    assert [(each.seed, [i for i, _ in each.results]) for each in selection.disagreeing] == [
        ("0", ["r0", "r1"])
    ]
    assert selection.runs["run_id"].tolist() == ["r3"]
    assert selection.repeated == 1


def test_names_and_spellings_make_no_other_run_but_a_result_that_is_missing_does_not_disagree():
    rows = [{"params.output_dir": "a", "params.lr": "0.1"}, {"params.output_dir": "b", "params.lr": ".1"}]
    assert len(select(frame(rows), ["arch"], "acc").disagreeing) == 1
    lost = [{"metrics.acc": 0.5}, {"metrics.acc": None, "status": "FAILED"}]
    selection = select(frame(lost), ["arch"], "acc")
    assert selection.disagreeing == ()
    assert selection.runs["run_id"].tolist() == ["r0"]


def test_of_our_own_runs_the_newest_counts():
    rows = [{"tags.config_hash": "h"}, {"tags.config_hash": "h"}]
    selection = select(frame(rows), ["arch"], "acc")
    assert selection.disagreeing == ()
    assert selection.runs["run_id"].tolist() == ["r1"]
