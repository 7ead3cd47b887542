"""Comparing from Python, of data frames, CSV files, stores and reports; and the command on a CSV file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ablations
from ablations.errors import InputError
from ablations.report.__main__ import main
from ablations.report.check import DoesNotFollow, check
from ablations.tracking import Store

HOSTILE = "<script>alert(1)</script>\n| [x](javascript:alert(2)) `*_&amp;"


def frame(name: str = "b") -> pd.DataFrame:
    """Level b (or as named) costs (k + 4)/64 of accuracy with seed k."""
    rows = [(arch, k, 0.75 - cost) for k in range(8) for arch, cost in (("a", 0), (name, (k + 4) / 64))]
    return pd.DataFrame(rows, columns=["arch", "seed", "acc"])


def test_importing_is_light():
    heavy = ("numpy", "pandas", "mlflow", "hydra", "matplotlib", "scipy")
    code = f"import ablations, sys; print([name for name in {heavy} if name in sys.modules], *dir(ablations))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("[]")
    assert {"compare", "train"} < set(said.split())
    with pytest.raises(AttributeError, match="no attribute 'comparing'"):
        _ = ablations.comparing


def test_a_data_frame_is_compared_seed_by_seed():
    found = ablations.compare(frame(), factors="arch", metric="acc", baseline={"arch": "a"}, margin=0.01)
    (row,) = found.verdicts.to_dict("records")
    assert (row["factor"], row["variant"], row["baseline"], row["n"], row["verdict"]) == (
        "arch",
        "b",
        "a",
        8,
        "worse",
    )
    assert row["mean_diff"] == -7.5 / 64
    assert row["p"] == pytest.approx(
        2 / 2**8 / 0.8, rel=1e-9
    )  # all signs alike; the first look has 80 % of the error
    assert found.answer == [
        "arch=a has the highest mean acc: 0.75 on average over 8 seeds.",
        "arch: b against a is worse: its acc is 0.12 lower (0.08 to 0.16).",
    ]
    assert "worse" in repr(found)
    assert len(found.runs) == 16
    assert found.runs["value"].max() == 0.75


def test_direction_factors_and_margin_are_those_that_were_said():
    lower = ablations.compare(frame(), ["arch"], "acc", better="lower")
    assert list(lower.verdicts["verdict"]) == ["better"]
    wide = ablations.compare(frame(), ["arch"], "acc", margin=1)
    assert list(wide.verdicts["verdict"]) == ["no difference that matters"]


def test_wide_tables_and_csv_files_say_the_same(tmp_path):
    expected = ablations.compare(frame(), "arch", "acc").verdicts
    levels = frame().pivot(index="seed", columns="arch", values="acc")
    frame().to_csv(tmp_path / "long.csv", index=False)
    levels.to_csv(tmp_path / "levels.csv")
    for found in (
        ablations.compare(levels, "arch", "acc", wide="levels"),
        ablations.compare(levels.T, "arch", "acc", wide="seeds"),
        ablations.compare(str(tmp_path / "long.csv"), "arch", "acc"),
        ablations.compare(tmp_path / "levels.csv", "arch", "acc", wide="levels"),
    ):
        pd.testing.assert_frame_equal(found.verdicts, expected)


def test_other_columns_are_settings_that_must_not_differ_unless_they_were_measured():
    table = frame().assign(loss=np.arange(16.0) + 0.5)
    with pytest.raises(
        InputError, match=r"loss has another number in nearly each run: .* measured \(measured\)"
    ):
        ablations.compare(table, "arch", "acc")
    found = ablations.compare(table, "arch", "acc", measured="loss")
    assert list(found.verdicts["metric"]) == ["acc"]
    assert found.runs["metrics.loss"].sum() == 128
    assert list(ablations.compare(table, "arch", "acc", ignore="loss").verdicts["verdict"]) == ["worse"]


def test_a_setting_that_goes_with_the_factor_is_a_confound():
    table = frame()
    found = ablations.compare(table.assign(lr=np.where(table["arch"] == "a", 0.1, 0.2)), "arch", "acc")
    assert list(found.verdicts["verdict"]) == ["confounded"]


def test_blocks_groups_and_looks_work_as_for_tracked_runs():
    table = pd.concat([frame().assign(data=name) for name in "xyz"])
    within = ablations.compare(table, "arch", "acc", blocks="data")
    assert list(within.verdicts["block"]) == ["x", "y", "z"]
    groups = ablations.compare(frame().drop(columns="seed"), "arch", "acc", unpaired=True)
    assert groups.verdicts["n"].tolist() == [8]
    looked = ablations.compare(frame(), "arch", "acc", looks=[6, 8])
    assert looked.verdicts["looks"].tolist() == [2]
    with pytest.raises(
        InputError, match=r"name the one that holds the seed \(seed\), or compare groups \(unpaired\)"
    ):
        ablations.compare(frame().drop(columns="seed"), "arch", "acc")
    with pytest.raises(InputError, match="better='larger': 'higher' or 'lower' is expected"):
        ablations.compare(frame(), "arch", "acc", better="larger")
    with pytest.raises(InputError, match=r"no\.csv: No such file"):
        ablations.compare("no.csv", "arch", "acc")
    with pytest.raises(InputError, match="no: no table and no report is there"):
        ablations.compare(Path("no"), "arch", "acc")
    with pytest.raises(TypeError, match="unexpected keyword argument 'factor'"):
        ablations.compare(frame(), factor="arch")


def test_figures_are_matplotlibs_and_missing_ones_are_explained():
    found = ablations.compare(frame(), "arch", "acc")
    assert found.forest()._repr_png_().startswith(b"\x89PNG")
    assert found.figures == ["forest", "seed_slopes", "value_by_variant"]
    with pytest.raises(
        InputError, match="no figure learning_curves: No metrics by epoch were logged; there are: for"
    ):
        found.curves()


def test_a_table_by_epoch_has_curves():
    table = pd.concat([frame().assign(epoch=epoch) for epoch in (1, 2)])
    table["acc"] = table["acc"].where(table["epoch"] == 2, 0.1)
    found = ablations.compare(table, "arch", "acc", step="epoch")
    assert found.verdicts["mean_diff"].tolist() == [-7.5 / 64]
    assert found.curves().axes


def test_a_saved_report_is_read_again_and_checked(tmp_path):
    found = ablations.compare(frame(), "arch", "acc", name="mine", unpaired=None, ignore="nothing")
    readme = found.save(tmp_path / "saved", html=True)
    assert readme.read_text().startswith("# mine\n")
    assert "This report from the table of results:" in readme.read_text()
    assert (tmp_path / "saved" / "report.html").exists()
    assert "follow from its runs.csv" in check(
        None, Store(f"sqlite:///{tmp_path}/none.db"), home=tmp_path / "saved"
    )
    page = tmp_path / "saved" / "report.html"
    written = page.read_text(encoding="utf-8")
    page.write_text(written.replace("worse", "better", 1), encoding="utf-8")
    with pytest.raises(DoesNotFollow, match=r"report.html: it is not made of this README.md"):
        check(None, Store(f"sqlite:///{tmp_path}/none.db"), home=tmp_path / "saved")
    again = ablations.compare(tmp_path / "saved")
    assert again.answer == found.answer
    pd.testing.assert_frame_equal(again.verdicts, found.verdicts)
    again.save(tmp_path / "copy")
    assert (tmp_path / "copy" / "README.md").read_text() == readme.read_text()
    with pytest.raises(InputError, match="a report says itself what it compares"):
        ablations.compare(tmp_path / "saved", "arch")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README.md").write_text("mine")
    with pytest.raises(InputError, match="that is no report"):
        found.save(tmp_path / "other")


def test_a_store_is_compared_as_the_command_does(swept):
    found = ablations.compare("activation-pool", tracking_uri=swept.uri)
    assert found.answer[0].startswith("One variant was run")
    assert found.figures == ["value_by_variant", "value_grid"]
    for experiment in ("lenet5", ["lenet5"]):
        with pytest.raises(InputError, match=r"there is one variant only \(pool=max\)"):
            ablations.compare(experiment, "pool", "test/error_pct", tracking_uri=swept.uri)
    with pytest.raises(InputError, match="there are: Default, lenet5"):
        ablations.compare("lenet6", "pool", tracking_uri=swept.uri)


def test_a_notebook_shows_answer_figure_and_table_and_nothing_that_runs():
    found = ablations.compare(frame(HOSTILE), "arch", "acc", name=HOSTILE)
    shown = found._repr_html_()
    assert shown.count("<img ") == 1
    assert 'src="data:image/png;base64,' in shown
    assert shown.count("<tr>") == 2
    assert "<script" not in shown
    assert "href" not in shown
    assert "&lt;script&gt;alert(1)" in shown


# The command


@pytest.mark.parametrize("wide", [None, "levels", "seeds"])
def test_the_command_reads_a_csv_file(tmp_path, capsys, monkeypatch, wide):
    monkeypatch.setattr("ablations.ground.paths.REPORTS", tmp_path / "reports")
    levels = frame().pivot(index="seed", columns="arch", values="acc")
    table = {None: frame().set_index("arch"), "levels": levels, "seeds": levels.T}[wide]
    table.to_csv(tmp_path / "results.csv")
    words = [
        "--csv",
        str(tmp_path / "results.csv"),
        "--factors",
        "arch",
        "--metric",
        "acc",
        "--seed-param",
        "seed",
    ]
    main([*words, *([] if wide is None else ["--wide", wide])])
    home = tmp_path / "reports" / "results"
    assert f"report: {home / 'README.md'}" in capsys.readouterr().out
    assert pd.read_csv(home / "effects.csv")["mean_diff"].tolist() == [-7.5 / 64]
    main(["results", "--check"])
    assert (
        "results: README.md, runs.csv, effects.csv and verdicts.tex follow from its runs.csv"
        in capsys.readouterr().out
    )
    (home / "runs.csv").write_text((home / "runs.csv").read_text().replace("0.6875", "0.6885"))
    with pytest.raises(DoesNotFollow):
        check("results", Store(f"sqlite:///{tmp_path}/none.db"), tmp_path / "reports")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--csv", "x.csv", "--factors", "a"], "x.csv: No such file"),
        (["--csv", "x.csv", "--experiment", "e", "--factors", "a"], "--csv: in place of a store"),
        (["--wide", "levels"], "of a table of results, with --csv FILE"),
    ],
)
def test_what_the_command_cannot_use(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert said in capsys.readouterr().err
