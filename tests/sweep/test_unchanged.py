"""A sweep that is asked for again has its report compiled where anything that it is made of changed, and only there."""

import ast
import json
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from importlib.metadata import packages_distributions

import pytest

import ablations.report
from ablations.ground.paths import PACKAGE
from ablations.report import unchanged
from ablations.report.check import check
from ablations.report.request import Request
from ablations.report.unchanged import LIBRARIES, NOTE, Making
from ablations.tracking import Reader, Store
from ablations.tracking.basis import basis
from ablations.tracking.reports import report_run
from ablations.tracking.study import tag_of

NAME, EVEN, MORE = "same", "seed=0,1", "seed=0,1,2"


@pytest.fixture
def compiled(monkeypatch):
    """The names of the reports that were compiled, in their order."""
    names, compile_report = [], ablations.report.compile_report

    def recorded(name, *given, **options):
        names.append(name)
        return compile_report(name, *given, **options)

    monkeypatch.setattr("ablations.report.compile_report", recorded)
    return names


@pytest.mark.slow  # many seconds; .ci/run has it
def test_it_is_compiled_where_something_was_trained(commands, compiled, capsys):
    commands.sweep(NAME, EVEN)
    said = capsys.readouterr().out
    before = commands.files(NAME)
    commands.sweep(NAME, EVEN)
    assert compiled == [NAME]
    assert commands.looks(NAME) == [["0", "1"]]
    again = capsys.readouterr().out
    assert said[said.index("\n\n") :] == again[again.index("\n\n") :]  # all below the runs' own lines
    after = commands.files(NAME)
    assert {name for name in after if after[name] != before[name]} == {"runs.csv", NOTE}
    assert "follow from the store" in check(NAME, commands.store, commands.reports)
    reader = Reader(commands.store)
    kept = reader.artifact(report_run(reader, "lenet5", NAME), "runs.csv")
    assert kept.read_bytes() == after["runs.csv"]

    commands.sweep(NAME, MORE)
    assert compiled == [NAME, NAME]
    assert commands.looks(NAME) == [["0", "1"], ["2"]]

    commands.sweep(NAME, EVEN)  # two of three runs: these are the newest invocation now
    assert compiled == [NAME, NAME, NAME]
    assert "follow from the store" in check(NAME, commands.store, commands.reports)


def test_whatever_changes_it_is_compiled(commands, monkeypatch):
    commands.sweep(NAME, "activation=relu,tanh")
    home, database = commands.reports / NAME, commands.store.path
    run = Reader(commands.store).records(tags={"sweep": NAME})[0]
    run_id, predictions = run["run_id"], Reader(commands.store).artifact(run["run_id"], "predictions.npz")

    def there(formats=()):
        making = Making.of(NAME, commands.store, formats)
        return making and making.there()

    def changed(*statements):
        with closing(sqlite3.connect(database)) as db, db:
            for statement in statements:
                assert db.execute(statement, {"run": run_id}).rowcount

    def noted(**values):
        (home / NOTE).write_text(json.dumps(json.loads((home / NOTE).read_text()) | values))

    def copy(source, target):
        with closing(sqlite3.connect(source)) as db, closing(sqlite3.connect(target)) as other:
            db.backup(other)

    of_run = "WHERE run_uuid = :run"
    changes = {
        "another run": lambda: changed(
            "INSERT INTO runs (run_uuid, name, experiment_id, status, lifecycle_stage)"
            f" SELECT 'more', name, experiment_id, status, 'active' FROM runs {of_run}",
            f"INSERT INTO tags (run_uuid, key, value) VALUES ('more', 'sweep', '{NAME}')",
        ),
        "a run less": lambda: changed(f"UPDATE runs SET lifecycle_stage = 'deleted' {of_run}"),
        "a status": lambda: changed(f"UPDATE runs SET status = 'FAILED' {of_run}"),
        "a tag": lambda: changed(f"UPDATE tags SET value = 'x' {of_run} AND key = 'machine'"),
        "a tag less": lambda: changed(f"DELETE FROM tags {of_run} AND key = 'machine'"),
        "an invocation": lambda: changed(f"UPDATE tags SET value = '9' {of_run} AND key = 'sweep_id'"),
        "a first one": lambda: changed(f"UPDATE tags SET value = '0' {of_run} AND key = 'first_sweep_id'"),
        "a param": lambda: changed(f"UPDATE params SET value = '0.1' {of_run} AND key = 'optimizer.lr'"),
        "a metric": lambda: changed(f"UPDATE latest_metrics SET value = 0.5 {of_run}"),
        "an epoch": lambda: changed(f"UPDATE metrics SET value = 0.5 {of_run} AND key = 'train/loss'"),
        "a data set": lambda: changed("UPDATE datasets SET digest = 'x'"),
        "the study": lambda: changed(
            f"UPDATE experiment_tags SET value = value || ' ' WHERE key = '{tag_of(NAME)}'"
        ),
        "the experiment": lambda: changed("UPDATE experiments SET name = 'other' WHERE name = 'lenet5'"),
        "predictions": lambda: os.utime(predictions, (1, 1)),
        "predictions less": predictions.unlink,
        "an edited page": lambda: (home / "README.md").write_text("mine"),
        "a table less": (home / "effects.csv").unlink,
        "a figure more": lambda: (home / "figures" / "mine.png").write_bytes(b"mine"),
        "it is published": lambda: (home / "PUBLISHED").write_text(""),
        "no note": (home / NOTE).unlink,
        "half a note": lambda: (home / NOTE).write_text("{"),
        "a note of others": lambda: (home / NOTE).write_text("[]"),
        "a note without files": lambda: noted(files=None),
        "no report": lambda: shutil.rmtree(home),
    }
    kept = commands.folder.parent / "kept"
    shutil.copytree(commands.reports, kept / "reports")
    shutil.copy2(predictions, kept)
    copy(database, kept / "database")
    for what, change in changes.items():
        assert there() is not None, f"before {what}"
        change()
        assert there() is None, what
        copy(kept / "database", database)
        shutil.copytree(kept / "reports", commands.reports, dirs_exist_ok=True)
        shutil.copy2(kept / predictions.name, predictions)
        for path in (home / "PUBLISHED", home / "figures" / "mine.png"):
            path.unlink(missing_ok=True)

    with monkeypatch.context() as patched:  # another process has another report compiled, just now
        patched.setattr(
            unchanged, "_with_ids", lambda text, _: (home / "README.md").write_text("theirs") and f"{text}\n"
        )
        assert there() is not None
    assert there() is None
    shutil.copytree(kept / "reports", commands.reports, dirs_exist_ok=True)

    assert there(("svg",)) is None
    assert Making.of(NAME, Store(f"sqlite:///{kept / 'nothing'}"), ()) is None
    for name, value in (("_code", "x"), ("_libraries", ["x"]), ("columns", 80)):
        with monkeypatch.context() as patched:
            patched.setattr(unchanged, name, lambda *_, value=value: value)
            assert there() is None, name
    assert there() is not None
    rc = commands.folder / "settings" / "matplotlibrc"
    rc.parent.mkdir()
    rc.write_text("font.size: 20")
    for name, value in (("MATPLOTLIBRC", rc), ("MATPLOTLIBRC", rc.parent), ("MPLCONFIGDIR", rc.parent)):
        with monkeypatch.context() as patched:
            patched.setenv(name, str(value))
            assert there() is None, (name, value)
    with monkeypatch.context() as patched:
        patched.chdir(rc.parent)
        assert there() is None
    for key in ("mlflow.note.content", "mlflow.sharedViewState.mine", tag_of("another"), "look.9999"):
        commands.store.tag_experiment(str(run["experiment_id"]), key, "x")  # these are no part of it
    assert there() is not None


def test_artifacts_that_are_downloaded_are_looked_at(commands):
    commands.sweep(NAME, EVEN)
    assert basis(commands.store, NAME) is not None
    for place in ("s3://bucket/run", "mlflow-artifacts:/1/run"):
        with closing(sqlite3.connect(commands.store.path)) as db, db:
            db.execute("UPDATE runs SET artifact_uri = ?", [place])
        assert basis(commands.store, NAME) is None


def test_what_changes_while_it_is_compiled_is_compiled_again(commands, compiled, monkeypatch):
    """Another process has the report of other options compiled, and somebody deletes a run for a moment."""
    compile_report = ablations.report.compile_report

    def written_over(name, *given, **options):
        report = compile_report(name, *given, **options)
        compile_report(name, commands.store, request=Request(margin=3.0))
        return report

    def with_a_run_less(name, *given, **options):
        change = (
            "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid ="
            " (SELECT min(run_uuid) FROM metrics JOIN runs USING (run_uuid) WHERE lifecycle_stage = 'active')"
        )
        with closing(sqlite3.connect(commands.store.path)) as db, db:
            db.execute(change)
        return compile_report(name, *given, **options)

    for meanwhile in (written_over, with_a_run_less):
        (commands.reports / NAME / NOTE).unlink(missing_ok=True)
        with monkeypatch.context() as patched:
            patched.setattr("ablations.report.compile_report", meanwhile)
            commands.sweep(NAME, EVEN)
        assert not (commands.reports / NAME / NOTE).exists(), meanwhile


def test_all_that_figures_and_numbers_are_made_with_is_in_the_digest():
    """By the packages that the rooms import which make them."""
    imported = set()
    for room in ("comparison", "plots", "report"):
        for path in (PACKAGE / room).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                imported |= {name.partition(".")[0] for name in names}
    packages = packages_distributions()
    others = imported - sys.stdlib_module_names - {"ablations"}
    assert {packages[name][0].lower() for name in others} <= {*LIBRARIES}


def test_a_table_of_others_is_left_to_be_compiled():
    table = "run_id,tags.sweep_id\na,1\nb,2\n"
    assert unchanged._with_ids(table, {"a": "3"}) == "run_id,tags.sweep_id\na,3\nb,2\n"
    assert unchanged._with_ids(table.replace("a,", '"a",'), {"a": "3"}) is None
    with pytest.raises(ValueError, match="sweep_id"):
        unchanged._with_ids("run_id\na\n", {})
