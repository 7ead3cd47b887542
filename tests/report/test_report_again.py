"""A report compiled again from its own runs.csv."""

import shutil
from pathlib import Path

import pytest
from test_report import compiled

from ablations.errors import InputError
from ablations.ground.paths import REPORTS
from ablations.report.__main__ import main
from ablations.report.again import compile_again
from ablations.report.check import check
from ablations.tracking import Store
from ablations.tracking.study import Study

STUDY = Study("s", ("activation",), {"activation": "relu"}, "test/error_pct", 0.1, design="grid", tuned_on="")


@pytest.fixture
def home(store, tmp_path) -> Path:
    store.keep(STUDY)
    for seed in range(6):
        for activation, error in (("relu", 5.0), ("tanh", 4.0 - seed / 8)):
            store.add(error, seed=seed, activation=activation, predictions=True)
    return compiled(tmp_path)[0].path.parent


def contents(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_the_same_edition_writes_the_same_files(home, store):
    before = contents(home)
    store.rows.clear()
    assert "figures/confusion_matrix.png" in before  # which takes the store
    assert compile_again(home) == home / "README.md"
    assert contents(home) == before


def test_text_tables_and_figures_follow_the_runs(home):
    before = contents(home)
    runs = home / "runs.csv"
    runs.write_text(runs.read_text().replace(",4.0,", ",3.0,"))
    compile_again(home)
    after = contents(home)
    changed = {name for name in before if before[name] != after[name]}
    assert {"README.md", "effects.csv", "verdicts.tex", "figures/forest.png"} < changed
    assert not {"figures/confusion_matrix.png", "figures/learning_curves.png"} & changed
    assert set(after) == set(before)


def test_the_command_does_it_and_says_where(home, capsys):
    main(["--again", "--out", str(home)])
    assert capsys.readouterr().out == f"report: {home / 'README.md'}\n"
    with pytest.raises(SystemExit):
        main(["--again"])
    assert capsys.readouterr().err == "error: --again: the name of a report is expected\n"


def test_what_is_no_report_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="there is no report"):
        compile_again(tmp_path / "none")


@pytest.mark.parametrize("name", ["activation_x_pool", "reproductions"])
def test_the_published_reports_follow_from_their_runs_and_are_of_this_edition(name, tmp_path, monkeypatch):
    def missing(store: Store) -> None:
        raise InputError("there is no MLflow store")

    monkeypatch.setattr("ablations.report.check.Reader", missing)
    home = tmp_path / name
    shutil.copytree(REPORTS / name, home)
    assert f"{name}: README.md, runs.csv, effects.csv and verdicts.tex follow from its runs.csv" in check(
        None, Store(), home=home
    )
    before = contents(home)
    compile_again(home)
    after = contents(home)
    texts = {each for each in before if not each.endswith(".png")}
    assert {each for each in texts if after[each] != before[each]} == set()
    assert set(after) == set(before)
