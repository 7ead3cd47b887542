"""Looks as a report knows them: from its sweep's invocations, or from who says at how many seeds he looked."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
from test_foreign_runs import Logger, arguments
from test_report import IN_FULL, compiled, rows_of

from ablations.report import sections
from ablations.report.__main__ import main
from ablations.report.analysis import Look
from ablations.report.check import check
from ablations.report.request import UNSAID
from ablations.tracking import Store
from ablations.tracking.study import Study, look_tag

pytestmark = pytest.mark.usefixtures("without_figures")

LATER = [1.0, 1.1, 0.9, -0.5, 1.2, 0.8, 1.0, 1.1, 0.9, 1.0, 1.2, 0.8]
"""Of the first eight differences one has another sign: 6 of 256 sign patterns have a mean as far from zero."""

FIRST_P = 4 / 256 / 0.8
SHARE = 0.2 * (1 - 8 / 12)
SECOND_P = 4 / 4096 / SHARE


def sequence(store, invocations: dict[int, str]) -> None:
    """The seeds from each number on belong to the invocation."""
    store.keep(Study("s", ("activation",), {"activation": "relu"}, "test/error_pct", 0.0, **UNSAID))
    for seed, difference in enumerate(LATER):
        first = [of for start, of in invocations.items() if start <= seed][-1]
        for activation, error in (("relu", 5.0), ("tanh", 5.0 + difference)):
            tags = {"first_sweep_id": first}
            store.add(error, seed=seed, activation=activation, invocation="3", tags=tags)


def looks_of(home) -> list[dict]:
    return json.loads((home / "report.json").read_text("utf-8"))["looks"]


def test_seeds_that_were_added_after_a_report_are_a_second_look(store, tmp_path):
    sequence(store, {0: "1", 8: "2"})
    store.studies |= {look_tag("1"): "s", look_tag("2"): "s", look_tag("3"): "s"}
    result, text = compiled(tmp_path)
    home = result.path.parent
    assert looks_of(home) == [
        {"invocation": "1", "seeds": [str(seed) for seed in range(8)]},
        {"invocation": "2", "seeds": [str(seed) for seed in range(8, 12)]},
    ]
    (row,) = pd.read_csv(home / "effects.csv").to_dict("records")
    assert row["looks"] == 2
    assert row["p"] == pytest.approx(min(FIRST_P, SECOND_P))
    assert "Seeds were added after earlier reports: 2 looks so far, at 8 and 12 seeds." in text
    assert check("s", Store(), home.parent).endswith("24 runs, 1 comparison")
    files = {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}
    compiled(tmp_path)
    assert {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()} == files


def test_the_page_says_at_which_look_a_comparison_was_settled(store, tmp_path):
    sequence(store, {0: "1", 8: "2"})
    store.studies[look_tag("1")] = "s"
    text = compiled(tmp_path)[1]
    (row,) = rows_of(text, "## Verdicts")
    assert row[3] == "worse (look 1)"
    assert rows_of(text, IN_FULL)[0][3] == "worse (look 1)"


def test_an_invocation_whose_report_was_never_compiled_is_no_look(store, tmp_path):
    sequence(store, {0: "1", 8: "2"})
    store.studies[look_tag("2")] = "s"
    result, text = compiled(tmp_path)
    assert looks_of(result.path.parent) == [{"invocation": "2", "seeds": [str(seed) for seed in range(12)]}]
    assert "One look: no seeds were added after an earlier report." in text


def test_a_look_at_another_sweep_is_none_at_this_one(store, tmp_path):
    """The first invocation was interrupted, and the report of another sweep compiled before it went on."""
    sequence(store, {0: "1", 8: "3"})
    store.studies |= {look_tag("2"): "other", look_tag("3"): "s"}
    result, text = compiled(tmp_path)
    assert looks_of(result.path.parent) == [{"invocation": "3", "seeds": [str(seed) for seed in range(12)]}]
    assert "One look: no seeds were added after an earlier report." in text


def test_results_of_another_sweep_were_looked_at_in_its_report(store, tmp_path):
    sequence(store, {0: "1", 8: "3"})
    store.studies |= {look_tag("1"): "other", look_tag("2"): "other", look_tag("3"): "s"}
    assert [look["invocation"] for look in looks_of(compiled(tmp_path)[0].path.parent)] == ["1", "3"]


# Runs of others


@pytest.fixture
def uri(tmp_path) -> str:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    log = Logger(uri, "theirs")
    for seed, difference in enumerate(LATER):
        log.run({"opt": "a", "seed": seed}, {"loss": 5.0})
        log.run({"opt": "b", "seed": seed}, {"loss": 5.0 + difference})
    return uri


@pytest.fixture
def reports(tmp_path, monkeypatch):
    monkeypatch.setattr("ablations.ground.paths.REPORTS", tmp_path / "reports")
    return tmp_path / "reports"


def test_looks_at_runs_of_others_are_told(uri, reports):
    request = arguments(uri, experiment="theirs", factors="opt", metric="loss")
    main(request)
    home = reports / "theirs"
    assert len(looks_of(home)) == 1
    assert "this counts as the only look (`--looks 8,12` tells of others)" in (home / "README.md").read_text(
        "utf-8"
    )
    (once,) = pd.read_csv(home / "effects.csv").to_dict("records")
    assert (once["looks"], once["p"]) == (1, pytest.approx(4 / 4096 / 0.8))

    main([*request, "--looks", "8,12", "--replace"])
    text = (home / "README.md").read_text("utf-8")
    assert [look["seeds"] for look in looks_of(home)] == [list(map(str, range(8))), ["8", "9", "10", "11"]]
    assert {look["invocation"] for look in looks_of(home)} == {""}
    (twice,) = pd.read_csv(home / "effects.csv").to_dict("records")
    assert (twice["looks"], twice["settled_at"]) == (2, 1)
    assert twice["p"] == pytest.approx(min(FIRST_P, SECOND_P))
    assert "2 looks so far, at 8 and 12 seeds" in text
    assert "--looks 8,12" in text[text.index("## Again") :]
    assert "follow from the store" in check("theirs", Store(uri), reports)
    assert "follow from its runs.csv" in check("theirs", Store("sqlite:////nowhere/mlflow.db"), reports)


@pytest.mark.parametrize("looks", ["12,8", "0,8", "8,x"])
def test_looks_that_do_not_grow_are_one_line(uri, reports, capsys, looks):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments(uri, experiment="theirs", factors="opt", metric="loss"), "--looks", looks])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: --looks {looks}: numbers of seeds that grow are expected, such as 8,12,18"


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((("0", "1"), ("2",)), "Seeds were added after earlier reports: 2 looks so far, at 2 and 3 seeds."),
        (
            (("0", "1"), ("0", "1")),
            "Runs were added after earlier reports: 2 looks so far, at 2 (2 times) seeds.",
        ),
        (
            (("0", "1"), (), ("2",)),
            "Seeds were added after earlier reports: 3 looks so far, at 2 (2 times) and 3 seeds.",
        ),
    ],
)
def test_what_was_added_is_said(seeds, said):
    """After a tuning that chose something else there are new runs on the same seeds."""
    looks = tuple(Look("", each) for each in seeds)
    pairs = (SimpleNamespace(seen=(1, 2)),)
    assert said in sections._looks(SimpleNamespace(looks=looks, comparisons=pairs))


def test_a_baseline_of_another_sweep_makes_no_second_look(store, tmp_path):
    """Its report showed these runs of the baseline beside others."""
    store.keep(Study("s", ("activation",), {"activation": "relu"}, "test/error_pct", 0.0, **UNSAID))
    for seed, difference in enumerate(LATER):
        for activation, error, first in (("relu", 5.0, "1"), ("tanh", 5.0 + difference, "2")):
            tags = {"first_sweep_id": first}
            store.add(error, seed=seed, activation=activation, invocation="2", tags=tags)
    store.studies |= {look_tag("1"): "other", look_tag("2"): "s"}
    result, text = compiled(tmp_path)
    assert "One look: some of these runs were in earlier reports, but no pair of them." in text
    assert "looks so far" not in text
    (row,) = pd.read_csv(result.path.parent / "effects.csv").to_dict("records")
    assert (row["looks"], row["p"]) == (1, pytest.approx(4 / 4096 / 0.8))
