"""Parents and children, by hand."""

import pandas as pd
import pytest

from ablations.comparison.nested import without_parents

TAG = "tags.mlflow.parentRunId"


def frame(*rows: dict) -> pd.DataFrame:
    columns = ["run_id", "params.arch", "params.seed", "metrics.acc", TAG]
    return pd.DataFrame([{**dict.fromkeys(columns), **row} for row in rows]).astype({"metrics.acc": float})


def child(at: int, acc: float, parent: str = "p", **other) -> dict:
    return {
        "run_id": f"c{at}",
        "params.arch": "x",
        "params.seed": str(at),
        "metrics.acc": acc,
        TAG: parent,
    } | other


CHILDREN = [child(0, 0.9), child(1, 0.8), child(2, 0.95)]


def parents(*rows: dict) -> tuple:
    found = without_parents(frame(*rows), ["arch"], "acc")
    left = set(found.parents) | set(found.parts)
    assert set(found.runs["run_id"]) == {row["run_id"] for row in rows} - left
    return found.parents, found.parts, found.unclear


@pytest.mark.parametrize(
    "parent",
    [
        {},
        {"params.arch": "x"},
        {"params.arch": "x", "params.seed": "0"},  # without a result
        {"params.arch": "x", "metrics.acc": 0.7},  # without a seed
        {"params.seed": "0", "metrics.acc": 0.7},  # without the factor
        *(
            {"params.arch": "x", "params.seed": "0", "metrics.acc": acc}
            for acc in (0.95, 0.8, 0.9, 2.65 / 3, 0.8833333)
        ),
    ],
)
def test_a_parent_that_holds_its_childrens_results_is_left_out(parent):
    assert parents({"run_id": "p", **parent}, *CHILDREN) == (("p",), (), ())


def test_a_parent_with_a_result_of_its_own_is_unclear():
    parent = {"run_id": "p", "params.arch": "x", "params.seed": "0", "metrics.acc": 0.7}
    assert parents(parent, *CHILDREN) == ((), (), ("p",))


def test_two_deep():
    """The grandparent has the best of its grandchildren, one parent the best of its children, the other nothing."""
    rows = [
        {"run_id": "g", "params.arch": "x", "params.seed": "0", "metrics.acc": 0.95},
        {"run_id": "p", "params.arch": "x", "params.seed": "0", "metrics.acc": 0.9, TAG: "g"},
        {"run_id": "q", TAG: "g"},
        child(0, 0.9),
        child(1, 0.8),
        child(2, 0.95, "q"),
    ]
    assert parents(*rows) == (("g", "p", "q"), (), ())


def test_children_that_are_parts_never_replace_their_parent():
    parent = {"run_id": "p", "params.arch": "x", "params.seed": "0", "metrics.acc": 0.9}
    parts = [{"run_id": f"c{i}", "metrics.acc": 0.9 + i, TAG: "p"} for i in range(3)]
    assert parents(parent, *parts) == ((), ("c0", "c1", "c2"), ())
    failed = {"run_id": "p", "params.arch": "x", "params.seed": "0"}
    assert parents(failed, *({**part, "metrics.acc": None} for part in parts)) == ((), (), ())


def test_children_of_a_parent_elsewhere_and_circles_are_runs_like_others():
    assert parents(*CHILDREN) == ((), (), ())
    assert parents(child(0, 0.9, "c1"), child(1, 0.9, "c0"))[2] == ()
    assert parents(child(0, 0.9, "c0")) == ((), (), ())
