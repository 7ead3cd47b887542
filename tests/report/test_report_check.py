"""`--check`: what was written still follows from the runs, or the first number that does not is named."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_report import compiled

from ablations.errors import InputError
from ablations.report import Request, compile_report
from ablations.report.__main__ import main
from ablations.report.check import DoesNotFollow, _same, check
from ablations.tracking import Store
from ablations.tracking.study import Study


@pytest.fixture
def home(store, tmp_path, without_figures) -> Path:
    """The folder of a report with verdicts, a claim, a failed run and another one in its runs.csv."""
    claim = {"text": "It is.", "source": "S", "factor": "activation", "variant": "tanh", "baseline": "relu"}
    store.keep(
        Study(
            "s",
            ("activation",),
            {"activation": "relu"},
            "test/error_pct",
            0.1,
            claims=(claim,),
            design="grid",
            tuned_on="val/accuracy",
            command="python run.py",
        )
    )
    for seed, difference in enumerate([-1.0, -1.2, -0.8, -1.1, -0.9, -1.0]):
        store.add(5.0, seed=seed)
        store.add(5.0 + difference, seed=seed, activation="tanh")
    diverged = {"failure": "diverged", "failure_reason": "loss, in epoch 2,\nis nan"}
    store.add(None, seed=6, status="FAILED", tags=diverged)
    return compiled(tmp_path)[0].path.parent


def checked(home: Path) -> str:
    return check(home.name, Store(), folder=home.parent)


def missing(store: Store) -> None:
    raise InputError("there is no MLflow store")


@pytest.fixture
def without_store(monkeypatch):
    monkeypatch.setattr("ablations.report.check.Reader", missing)


def test_a_report_follows_from_the_store(home):
    assert checked(home) == (
        "s: README.md, runs.csv, effects.csv and verdicts.tex follow from the store: 13 runs, 1 comparison"
    )


def test_a_report_follows_from_its_own_runs(home, without_store):
    assert "follow from its runs.csv (the store does not have its runs" in checked(home)


def test_a_store_without_these_runs_is_no_store_for_them(home, store):
    store.rows.pop()
    assert "follow from its runs.csv" in checked(home)


CHANGES = [
    ("README.md", "is 1.00 percentage points", "is 1.10 percentage points", "1.10", "1.00"),
    ("README.md", "| 0.039 |", "| 0.093 |", "0.093", "0.039"),
    ("README.md", "lower (0.80 to 1.20)", "lower (0.81 to 1.20)", "0.81", "0.80"),
    ("README.md", "61,706", "61,707", "61,707", "61,706"),
    ("effects.csv", "0.0390625", "0.0390635", "0.0390635", "0.0390625"),
    ("verdicts.tex", "1.20, $-$0.80", "1.20, $-$0.81", "0.81", "0.80"),
]


@pytest.mark.parametrize(("file", "there", "instead", "wrong", "right"), CHANGES)
@pytest.mark.parametrize("source", ["store", "runs.csv"])
def test_a_changed_number_is_found_and_named(home, file, there, instead, wrong, right, source, request):
    if source == "runs.csv":
        request.getfixturevalue("without_store")
    text = (home / file).read_text(encoding="utf-8")
    assert there in text
    (home / file).write_text(text.replace(there, instead, 1), encoding="utf-8")
    line = next(i for i, row in enumerate(text.splitlines(), 1) if there in row)
    message = f"{home / file}, line {line}: {wrong} does not follow; recomputed: {right}"
    with pytest.raises(DoesNotFollow, match=f"^{re.escape(message)}$"):
        checked(home)


def test_a_changed_run_is_found_in_the_store(home):
    text = (home / "runs.csv").read_text(encoding="utf-8")
    (home / "runs.csv").write_text(text.replace(",3.8,", ",3.9,"), encoding="utf-8")
    with pytest.raises(DoesNotFollow, match=r"runs\.csv, line \d+: 3\.9 does not follow; recomputed: 3\.8$"):
        checked(home)


def test_a_changed_run_moves_everything_that_rests_on_it(home, without_store):
    text = (home / "runs.csv").read_text(encoding="utf-8")
    (home / "runs.csv").write_text(text.replace(",3.8,", ",3.9,"), encoding="utf-8")
    with pytest.raises(
        DoesNotFollow, match=r"effects\.csv, line 2: -1\.0 does not follow; recomputed: -0\.98333"
    ):
        checked(home)


def test_a_changed_word_is_found_too(home):
    text = (home / "README.md").read_text(encoding="utf-8")
    (home / "README.md").write_text(text.replace("relu is better", "relu is worse"), encoding="utf-8")
    with pytest.raises(DoesNotFollow, match=r"README\.md, line \d+: '.*' does not follow; recomputed: '"):
        checked(home)


def test_a_run_that_the_store_lost_a_number_of_is_found(home, store):
    store.rows[1]["metrics.test/error_pct"] = 4.5  # tanh, seed 0
    with pytest.raises(DoesNotFollow, match=r"runs\.csv, line \d+: 4\.0 does not follow; recomputed: 4\.5$"):
        checked(home)


@pytest.mark.parametrize("file", ["README.md", "runs.csv", "report.json"])
def test_a_missing_file_is_one_clear_line(home, file):
    (home / file).unlink()
    with pytest.raises(InputError, match=rf"{file}: no such file; compile the report again$"):
        checked(home)


@pytest.mark.parametrize("file", ["effects.csv", "verdicts.tex"])
def test_a_missing_table_does_not_follow(home, file):
    (home / file).unlink()
    with pytest.raises(DoesNotFollow, match=rf"{re.escape(file)}: missing$"):
        checked(home)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("report.json", b"{", "report.json: "),
        ("report.json", b"{}", "report.json: again, .* missing; compile the report again"),
        ("report.json", b"[1]", "report.json: "),
        ("runs.csv", b"a,b\n1,2\n", "runs.csv: the columns .*run_id.* are missing"),
        ("runs.csv", b"", "runs.csv: "),
        ("README.md", b"\xff\xfe", "README.md: cannot be read: "),
    ],
)
def test_a_file_of_another_kind_is_one_clear_line(home, file, content, message):
    (home / file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        checked(home)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a", "seed", "metrics.x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "margin"]), inner),
    max_leaves=5,
)


def paths(node: object, here: tuple = ()) -> Iterator[tuple]:
    """Of everything in a value of JSON, but itself."""
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*here, key)
        if isinstance(inner, dict | list):
            yield from paths(inner, (*here, key))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.booleans())
def test_whatever_report_json_holds_is_checked_or_one_clear_line(home, data, with_store):
    file = home / "report.json"
    right = file.read_text("utf-8")
    about = json.loads(right)
    *into, last = data.draw(st.sampled_from(list(paths(about))))
    part = about
    for key in into:
        part = part[key]
    if isinstance(part, list) or data.draw(st.booleans()):
        part[last] = data.draw(JSON)
    else:
        part[data.draw(st.sampled_from(["a", "name", "seed", "activation"]))] = part.pop(last)
    file.write_text(json.dumps(about), "utf-8")
    try:
        with pytest.MonkeyPatch.context() as patch:
            if not with_store:
                patch.setattr("ablations.report.check.Reader", missing)
            checked(home)
    except (InputError, DoesNotFollow) as error:
        assert "\n" not in str(error)  # noqa: PT017
    finally:
        file.write_text(right, "utf-8")


def test_another_processors_last_bits_are_no_difference(home):
    text = (home / "effects.csv").read_text("utf-8")
    assert ",-1.0," in text
    (home / "effects.csv").write_text(text.replace(",-1.0,", ",-1.0000000000000002,"), "utf-8")
    assert checked(home)
    (home / "effects.csv").write_text(text.replace(",-1.0,", ",-1.00000001,"), "utf-8")
    with pytest.raises(DoesNotFollow, match=r"-1\.00000001 does not follow; recomputed: -1\.0$"):
        checked(home)


def test_runs_csv_with_a_word_for_a_number_is_one_clear_line(home):
    text = (home / "runs.csv").read_text(encoding="utf-8")
    (home / "runs.csv").write_text(text.replace(",3.8,", ",much,"), encoding="utf-8")
    with pytest.raises(InputError, match=r"runs\.csv: column test/error_pct: .*much"):
        checked(home)


def test_runs_csv_with_a_word_for_a_time_is_one_clear_line(home):
    text = (home / "runs.csv").read_text("utf-8")
    (home / "runs.csv").write_text(text.replace("2024-05-01T00:00:00+00:00", "yesterday"), "utf-8")
    with pytest.raises(InputError, match=r"^runs.csv: column start_time: [^\n]+$"):
        checked(home)


def test_an_unknown_report_names_those_that_exist(home):
    with pytest.raises(InputError, match=r"there is no report .*nothing; there are: s$"):
        check("nothing", Store(), folder=home.parent)
    with pytest.raises(InputError, match="--check: the name of a report is expected"):
        check(None, Store(), folder=home.parent)


def test_the_command_checks_and_says_in_one_line_what_does_not_follow(home, monkeypatch, capsys):
    monkeypatch.setattr("ablations.ground.paths.REPORTS", home.parent)
    main(["--check", "s"])
    assert capsys.readouterr().out.startswith(
        "s: README.md, runs.csv, effects.csv and verdicts.tex follow from the store"
    )
    text = (home / "effects.csv").read_text()
    (home / "effects.csv").write_text(text.replace("0.0390625", "0.04"))
    with pytest.raises(SystemExit) as stopped:
        main(["s", "--check"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {home / 'effects.csv'}, line 2: 0.04 does not follow; recomputed: 0.0390625\n"
    )


@pytest.mark.parametrize("source", ["store", "runs.csv"])
def test_a_report_on_request_is_checked_as_it_was_requested(
    store, tmp_path, without_figures, source, request
):
    for seed in range(6):
        for lr in ("0.1", "0.01"):
            values = {
                "val_acc": 0.5 + (0.25 if lr == "0.1" else 0) + seed / 64,
                "lr": float(lr),
                "val/acc": 0.25,
            }
            store.add(None, seed=seed, factors="", metrics=values, lr=lr, fold=seed)
    asked = Request(
        experiment="lenet5",
        factors=("lr",),
        metric="val_acc",
        baseline={"lr": "0.1"},
        seed_param="fold",
        margin=0.01,
    )
    compile_report("mine", folder=tmp_path / "reports", request=asked, again=["python -m ablations.report …"])
    if source == "runs.csv":
        request.getfixturevalue("without_store")
    assert "12 runs, 1 comparison" in check("mine", Store(), folder=tmp_path / "reports")
    columns = list(pd.read_csv(tmp_path / "reports" / "mine" / "runs.csv"))
    assert len(set(columns)) == len(columns)
    assert columns[:5] == ["run_id", "run_name", "status", "lr", "seed"]
    assert {"metrics.lr", "val_acc", "metrics.val_acc", "val/acc"} & set(columns) == {
        "metrics.lr",
        "val_acc",
        "metrics.val_acc",
    }


def test_what_a_check_needs_is_kept_as_readable_json(home):
    about = json.loads((home / "report.json").read_text(encoding="utf-8"))
    assert about["study"]["factors"] == ["activation"]
    assert about["metrics"]["test_error_pct"] == "metrics.test/error_pct"


ROUNDINGS = [  # as another machine wrote it, and whether it still follows from -0.983333333333
    ("-0.9833333333333334", True),
    ("-0.98333333333327", True),
    ("-0.983334316667", False),  # off by 1e-6
    ("-0.98333333532", False),  # by 2e-9
    ("-0.9833333333", True),
    ("-0.98333", False),  # too few digits to tell
]


@pytest.mark.parametrize(("there", "follows"), ROUNDINGS)
def test_another_rounding_follows_and_another_number_does_not(home, store, there, follows):
    store.rows[1]["metrics.test/error_pct"] = 4.1  # so that the mean is -5.9 / 6
    home = compile_report("s", folder=home.parent).path.parent
    text = (home / "effects.csv").read_text()
    assert ",-0.983333333333," in text
    (home / "effects.csv").write_text(text.replace(",-0.983333333333,", f",{there},"))
    if follows:
        assert "follow from the store" in checked(home)
    else:
        with pytest.raises(DoesNotFollow, match=f"line 2: {there} does not follow; recomputed: -0.98333"):
            checked(home)


@pytest.mark.parametrize(
    ("there", "expected", "same"),
    [
        ("a 1.2299999999999986 b", "a 1.23 b", True),
        ("a 1.2299999999999986 b", "c 1.23 b", False),
        ("1.23", "1.230", False),  # what is shown is text
        ("12345678901234567890123456789012", "12345678901234567890123456789013", False),  # ids
        ("1234567e01234567", "1234567e01234568", False),
        ("1e-08,5.0000000000000004e-12", "1e-08,5e-12", True),
        ("1e-08,5.0000000000000004e-12", "2e-08,5e-12", False),
        ("inf", "-inf", False),
        ("0.1234567890123", "0.1234567890123,0.5", False),
    ],
)
def test_only_the_last_digits_of_long_numbers_may_differ(there, expected, same):
    assert _same(there, expected) is same


def test_failed_runs_have_the_same_order_from_either_source(store, tmp_path, without_figures, request):
    for seed in range(2):
        for activation in ("tanh", "relu"):
            store.add(None, seed=seed, activation=activation, status="FAILED", tags={"failure": "error"})
        store.add(4.0, seed=seed, activation="sigmoid")
    home = compiled(tmp_path)[0].path.parent
    assert "6 runs" in checked(home)
    request.getfixturevalue("without_store")
    assert "6 runs" in checked(home)
