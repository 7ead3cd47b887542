"""The gate for continuous integration: which comparisons end the command with exit code 3."""

import pandas as pd
import pytest

from ablations.comparison.verdicts import Verdict, judge
from ablations.report.__main__ import main
from ablations.report.gate import failing, held_up_by
from ablations.report.request import UNSAID
from ablations.tracking.study import Study

SIGNS = (1, -1, 1, -1, 1, -1)
DIFFERENCES = {  # of errors, variant − baseline, six seeds; margin 0.1
    "worse": [1.0, 1.2, 0.8, 1.1, 0.9, 1.0],  # interval [0.8, 1.2]
    "better": [-1.0, -1.2, -0.8, -1.1, -0.9, -1.0],
    "the same": [0.05, 0.02, 0.03, 0.04, 0.01, 0.03],
    "open": [0.3 * sign for sign in SIGNS],  # interval [-0.3, 0.3]
    "few": [-1.0, -1.1],
}


def effects(*names: str, factors: tuple[str, ...] = ("f",)) -> pd.DataFrame:
    """Verdicts of studies of one comparison each."""
    tables = []
    for name in names:
        sides = {"variant": [(name,) * len(factors)], "baseline": [("base",) * len(factors)]}
        tables.append(judge([DIFFERENCES[name]], 0.1, True).assign(factors=[factors], **sides))
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize(
    ("fail_if", "margin", "found"),
    [
        ("worse", None, ["f: worse against base is worse"]),
        (
            "inconclusive",
            None,
            ["f: open against base is inconclusive", "f: few against base is inconclusive"],
        ),
        ("confounded", None, []),
        (
            *("worse,inconclusive", 0.3),  # what is open is at most 0.3 worse
            [
                "f: worse against base is worse (not shown to be at most 0.3 worse)",
                "f: few against base is inconclusive (not shown to be at most 0.3 worse)",
            ],
        ),
        (
            "inconclusive",
            0.2,
            [
                f"f: {name} against base is inconclusive (not shown to be at most 0.2 worse)"
                for name in ("open", "few")
            ],
        ),
        ("worse", 1.2, []),
        ("worse", 1.1, ["f: worse against base is worse (not shown to be at most 1.1 worse)"]),
        ("", None, []),
    ],
)
def test_what_is_named_is_found(fail_if, margin, found):
    assert held_up_by(effects(*DIFFERENCES), True, failing(fail_if, margin), margin) == found


def test_where_more_is_better_the_lower_end_counts():
    """The same differences of an accuracy: [-1.2, -0.8] is at most 1.2 worse."""
    table = effects("better").assign(verdict=Verdict.WORSE)
    assert held_up_by(table, False, ["worse"], 1.2) == []
    assert held_up_by(table, False, ["worse"], 1.1) != []


def test_interactions_are_no_gate():
    assert held_up_by(effects("worse", factors=("f", "g")), True, ["worse"]) == []


def test_what_is_worse_at_a_level_of_another_factor_is_worse():
    """Where a choice depends on another, its average may be better though it is worse at one level."""
    table = pd.concat([effects("better").assign(at=""), effects("worse").assign(at="g=1")], ignore_index=True)
    assert held_up_by(table, True, ["worse"]) == ["f: worse against base at g=1 is worse"]


def test_where_nothing_was_compared_nothing_is_shown():
    assert held_up_by(effects("worse")[:0], True, ["inconclusive"]) == ["nothing was compared"]
    assert held_up_by(effects("worse")[:0], True, ["worse"]) == ["nothing was compared"]
    assert held_up_by(effects("worse")[:0], True, []) == []
    lost = effects("few").assign(n=0)
    assert held_up_by(lost, True, ["worse"]) == ["f: few against base has no result"]


def test_words_are_named_once_and_in_order():
    assert failing(" worse, inconclusive,worse,") == ("worse", "inconclusive")


# The command


@pytest.fixture
def reports(store, without_figures, tmp_path, monkeypatch):
    monkeypatch.setattr("ablations.ground.paths.REPORTS", tmp_path / "reports")
    store.keep(Study("s", ("activation",), {"activation": "relu"}, "test/error_pct", 0.1, **UNSAID))
    for seed, difference in enumerate(DIFFERENCES["worse"]):
        store.add(5.0, seed=seed)
        store.add(5.0 + difference, seed=seed, activation="tanh")
    return tmp_path / "reports"


def test_what_holds_a_change_up_ends_the_command_with_3(reports, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["s", "--fail-if", "worse"])
    assert stopped.value.code == 3
    out, err = capsys.readouterr()
    assert err == "gate: activation: tanh against relu is worse\n"
    assert f"report: {reports / 's' / 'README.md'}" in out


def test_a_choice_that_is_worse_with_one_level_of_another_ends_the_command_with_3(reports, store, capsys):
    """Better on average, and worse where it matters: the report's answer is that at each level."""
    study = Study(
        "t", ("activation", "pool"), {"activation": "relu", "pool": "max"}, "test/error_pct", 0.1, **UNSAID
    )
    store.keep(study)
    for seed in range(8):
        for pool, gain in (("max", 1.0), ("avg", -2.0)):
            noise = seed % 3 / 64
            store.add(5.0 + noise, seed=seed, pool=pool, sweep="t")
            store.add(5.0 + gain + seed % 5 / 64, seed=seed, pool=pool, activation="tanh", sweep="t")
    with pytest.raises(SystemExit) as stopped:
        main(["t", "--fail-if", "worse"])
    assert stopped.value.code == 3
    assert "gate: activation: tanh against relu at pool=max is worse\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--fail-if", "inconclusive,confounded"],
        ["--fail-if", "worse,inconclusive", "--non-inferiority", "1.21"],
        [],
    ],
)
def test_what_is_not_named_lets_the_command_end_well(reports, capsys, words):
    main(["s", *words])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fail-if", "bad"], "--fail-if bad: accepted are worse, inconclusive, confounded"),
        (["--fail-if", "worse,\x1b[1m"], "--fail-if [1m: accepted are worse, inconclusive, confounded"),
        (
            ["--fail-if", "worse", "--non-inferiority", "-1"],
            "--non-inferiority -1: a number of at least 0 is expected, in the metric's unit",
        ),
        (
            ["--fail-if", "worse", "--non-inferiority", "nan"],
            "--non-inferiority nan: a number of at least 0 is expected, in the metric's unit",
        ),
        (["--non-inferiority", "1"], "--non-inferiority 1: say with --fail-if what must not be"),
        (
            ["--check", "--fail-if", "worse"],
            "--fail-if: with a report that is compiled from the store, without --check and --again",
        ),
    ],
)
def test_a_gate_that_cannot_be_is_one_line_before_anything_is_compiled(reports, capsys, words, said):
    with pytest.raises(SystemExit) as stopped:
        main(["s", *words])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"error: {said}\n"
    assert not reports.exists()
