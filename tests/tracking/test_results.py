"""Tables of anybody's results as runs: long ones, wide ones, CSV files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablations.errors import InputError
from ablations.tracking.results import Layout, read_csv, results

LONG = Layout(["arch"], ["acc"])


def long(**more) -> pd.DataFrame:
    return pd.DataFrame(
        {"arch": ["a", "b", "a", "b"], "seed": [0, 0, 1, 1], "acc": [0.5, 0.25, 1, None]} | more
    )


def test_each_row_is_a_finished_run():
    runs = results(long(lr=[0.1, 0.1, 1, 1]), "mine", LONG).runs()
    assert list(runs["run_id"]) == ["row-1", "row-2", "row-3", "row-4"]
    assert list(runs["run_name"]) == ["arch=a seed=0", "arch=b seed=0", "arch=a seed=1", "arch=b seed=1"]
    assert set(runs["status"]) == {"FINISHED"}
    assert set(runs["experiment"]) == {"mine"}
    assert list(runs["params.seed"]) == ["0", "0", "1", "1"]
    assert list(runs["params.lr"]) == ["0.1", "0.1", "1.0", "1.0"]
    assert runs["metrics.acc"].tolist()[:3] == [0.5, 0.25, 1.0]
    assert np.isnan(runs["metrics.acc"][3])


def test_whole_numbers_have_no_point_even_where_a_cell_is_empty():
    runs = results(long(layers=[1.0, 2.0, None, 1.0]), "mine", LONG).runs()
    assert runs["params.layers"].fillna("missing").tolist() == ["1", "2", "missing", "1"]


def test_columns_of_mlflow_are_what_they_say():
    frame = pd.DataFrame(
        {
            "run_id": ["x", "y"],
            "status": ["FINISHED", "FAILED"],
            "start_time": pd.to_datetime(["2024-01-01", "2024-01-02"], utc=True),
            "params.arch": ["a", "b"],
            "params.seed": ["0", "0"],
            "metrics.acc": [0.5, None],
            "metrics.loss": [1.0, 2.0],
            "tags.code": ["c", "c"],
        }
    )
    runs = results(frame, "mine", LONG).runs()
    assert list(runs["run_id"]) == ["x", "y"]
    assert list(runs["status"]) == ["FINISHED", "FAILED"]
    assert str(runs["start_time"][1]) == "2024-01-02 00:00:00+00:00"
    assert {"params.arch", "metrics.loss", "tags.code"} < set(runs)


def test_names_that_are_no_statuses_and_no_ids_are_settings():
    runs = results(long(status=["good", "bad", "good", "bad"], run_id=["r", "r", "s", "s"]), "m", LONG).runs()
    assert list(runs["params.status"]) == ["good", "bad", "good", "bad"]
    assert list(runs["params.run_id"]) == ["r", "r", "s", "s"]


def test_a_wide_table_gives_the_runs_of_the_long_one():
    expected = {("a", "0"): 0.5, ("b", "0"): 0.25, ("a", "1"): 1.0}  # the fourth was never run
    levels = long().pivot(index="seed", columns="arch", values="acc")
    seeds = long().pivot(index="arch", columns="seed", values="acc")
    for frame, wide in ((levels, "levels"), (seeds, "seeds"), (levels.reset_index(), "levels")):
        runs = results(frame, "mine", Layout(["arch"], ["acc"], wide=wide)).runs()
        found = zip(runs["params.arch"], runs["params.seed"], strict=True)
        assert dict(zip(found, runs["metrics.acc"], strict=True)) == expected


def test_a_wide_table_may_have_further_columns_that_are_named():
    frame = pd.DataFrame({"data": ["x", "x", "y"], "seed": [0, 1, 0], "a": [1, 2, 3], "b": [4, 5, 6]})
    runs = results(frame, "mine", Layout(["arch", "data"], ["acc"], wide="levels")).runs()
    assert runs.groupby("params.arch")["metrics.acc"].sum().to_dict() == {"a": 6, "b": 15}
    assert set(runs["params.data"]) == {"x", "y"}


def test_rows_by_step_are_one_run_with_a_history():
    rows = [(arch, seed, epoch, 10 * seed + epoch) for epoch in (2, 1) for seed in (0, 1) for arch in "ab"]
    frame = pd.DataFrame(rows, columns=["arch", "seed", "epoch", "acc"])
    source = results(frame, "mine", Layout(["arch"], ["acc"], step="epoch"))
    runs = source.runs()
    assert len(runs) == 4
    assert {(row["params.arch"], row["params.seed"]): row["metrics.acc"] for _, row in runs.iterrows()} == {
        ("a", "0"): 2,
        ("b", "0"): 2,
        ("a", "1"): 12,
        ("b", "1"): 12,
    }
    second = runs.loc[(runs["params.arch"] == "b") & (runs["params.seed"] == "1"), "run_id"].item()
    assert source.histories([second], ["acc"])[["step", "value"]].values.tolist() == [[1, 11], [2, 12]]


@pytest.mark.parametrize(
    ("frame", "layout", "said"),
    [
        (
            long(),
            Layout(["arch"], ["loss"]),
            "metric loss: no such column; there are arch, seed, acc; of a wide table",
        ),
        (long(), Layout(["model"], ["acc"]), "the table has no column model; there are arch, seed, acc"),
        (long(), Layout(["acc"], ["acc"]), "acc: it is what was measured"),
        (long(), Layout(["arch"], ["acc"], wide="levels"), "each of them is a column"),
        (long(), Layout(["model"], ["acc"], wide="seeds"), "wide=seeds: no column model"),
        (long(acc=["1", "2", "bad", "3"]), LONG, "row 3: acc is 'bad', which is no number"),
        (long().head(0), LONG, "the table has no rows"),
        (
            pd.DataFrame({"seed": [0], "a": [1], "b": ["?"]}),
            Layout(["arch"], ["acc"], wide="levels"),
            "wide=levels: the column b has '?', which is no number; each column but seed is one of levels",
        ),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), LONG, "the column a is there twice"),
        (long(), Layout(["arch"], ["acc"], wide="tall"), "levels or seeds is expected"),
    ],
)
def test_what_does_not_fit_is_said(frame, layout, said):
    with pytest.raises(InputError) as error:
        results(frame, "mine", layout)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


# CSV files


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "results.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "arch,seed,acc\na,0,0.5\n'b,1,\n",
        "\ufeffarch;seed;acc\r\na;0;0,5\r\n'b;1;\r\n",  # as a spreadsheet in Europe writes it
        ',arch,seed,acc\n0,a,0,0.5\n1,"\'b",1,\n',  # as pandas writes it
        "arch\tseed\tacc\na\t0\t0.5\n\n'b\t1\t\n",
    ],
)
def test_csv_as_programs_write_it(tmp_path, text):
    frame = read_csv(written(tmp_path, text))
    assert frame.to_dict("list") == {"arch": ["a", "'b"], "seed": ["0", "1"], "acc": ["0.5", ""]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a head and at least one row are expected"),
        ("arch,acc\n", "a head and at least one row are expected"),
        ("arch,acc\na,1\nb,1,2\n", "line 3: 3 cells, but the head has 2"),
        ("arch,acc\nä,1\n".encode("latin-1"), "it is not in UTF-8"),
    ],
)
def test_csv_that_is_none(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        read_csv(written(tmp_path, text))


def test_csv_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_csv(tmp_path / "none.csv")
