"""The report, from runs in a store that is made here, to the files on disk."""

import csv
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from project import PATIENCE_S

from ablations import report
from ablations.errors import InputError
from ablations.ground.paths import REPORTS, ROOT
from ablations.report import compile_report, folder_name
from ablations.report.__main__ import _list, _pairs, main
from ablations.report.check import check
from ablations.report.escaping import plain
from ablations.report.request import UNSAID
from ablations.tracking import Store
from ablations.tracking.study import Study


def compiled(tmp_path: Path, name: str | None = None) -> tuple[report.Report, str]:
    result = compile_report(name, folder=tmp_path / "reports")
    return result, result.path.read_text(encoding="utf-8")


def rows_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its head."""
    table = re.search(r"^\|.*?\n\n", text[text.index(heading) :], re.MULTILINE | re.DOTALL).group()
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.strip().splitlines()]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def answer_of(text: str) -> list[str]:
    """The sentences that a report begins with: at most four, and none that takes statistics to understand."""
    sentences = re.findall(r"^- (.+)$", text[: text.index("\n## ")], re.MULTILINE)
    assert 1 <= len(sentences) <= 4
    for sentence in sentences:
        assert not re.search(STATISTICS, sentence), sentence
    return sentences


STATISTICS = r"\bp [=<]|Holm|interval|signific|deviation|±|sign-flip|hypothes|interaction"
IN_FULL = "<details><summary>Every number: p-values, effect sizes, seeds needed"
"""What stands above the whole table of verdicts."""


def test_the_numbers_are_those_of_the_runs(store, tmp_path):
    for seed, (relu, tanh) in enumerate([(4.0, 2.0), (5.0, 3.0), (9.0, 4.0)]):
        store.add(relu, seed=seed, activation="relu")
        store.add(tanh, seed=seed, activation="tanh", predictions=True)
    result, text = compiled(tmp_path)

    assert rows_of(text, "## Results") == [
        ["tanh", "3", "3.00 ± 1.00", "2.00", "1.50", "61,706"],
        ["relu", "3", "6.00 ± 2.65", "4.00", "1.50", "61,706"],
    ]
    assert answer_of(text) == [
        "**activation=tanh** has the lowest mean test error: 3.00 % on average over 3 seeds.",
        "Not settled: **activation: tanh** against relu (about 6 seeds in all would settle it).",
    ]
    assert "1,150 training, 360 test images" in text
    assert "| seeds | 0, 1, 2 |" in text
    assert "0123abc" in text
    assert "2 cores, Linux" in text
    assert result.failed == 0
    assert result.name == "s"
    assert result.path == tmp_path / "reports" / "s" / "README.md"


def test_the_console_has_the_results_and_the_verdicts(store, tmp_path, without_figures):
    for seed in range(6):
        store.add(2.0 + seed % 2, seed=seed, activation="tanh")
        store.add(4.0 + seed % 2, seed=seed, activation="relu")
    result, _ = compiled(tmp_path)
    answer, results, verdicts, direction = result.summary.split("\n\n")
    assert direction == "test error (%): smaller is better (by its name)"
    assert answer.splitlines() == [
        "activation=tanh has the lowest mean test error: 2.50 % on average over 6 seeds.",
        "activation: tanh against relu is better: its test error is 2.00 percentage points lower (2.00 to 2.00).",
    ]
    assert [re.split(r" {2,}", line) for line in results.splitlines()] == [
        ["activation", "n", "test error (%)", "best", "s/epoch", "parameters"],
        ["tanh", "6", "2.50 ± 0.55", "2.00", "1.50", "61,706"],
        ["relu", "6", "4.50 ± 0.55", "4.00", "1.50", "61,706"],
    ]
    assert [re.split(r" {2,}", line) for line in verdicts.splitlines()] == [
        ["factor", "variant", "against", "verdict", "difference", "95 % interval", "n"],
        ["activation", "tanh", "relu", "better", "-2.00", "[-2.00, -2.00]", "6"],
    ]


@pytest.mark.parametrize("width", [80, 100, None])
def test_the_console_tables_fit_the_terminal_and_are_whole_in_a_pipe(
    width, store, tmp_path, without_figures, monkeypatch
):
    monkeypatch.setattr("ablations.report.console.columns", lambda _: width)
    factors = ",".join(f"group{i}.some_long_setting" for i in range(5))
    for i in range(60):
        store.add(i + 1, factors=factors, **dict.fromkeys(factors.split(","), f"a long value {i}"))
    result, _ = compiled(tmp_path)
    answer, results, verdicts, rest = (part.splitlines() for part in result.summary.split("\n\n"))
    assert results[-1] == "… and 20 more rows in the report"
    if width is None:
        assert results[0].split()[:5] == factors.split(",")
        assert results[1].endswith("61,706")
        assert len(answer) == 2
    else:
        assert max(map(len, answer + results + verdicts + rest)) <= width
        assert len(answer) > 2
        assert {line.split()[0][:4] for line in verdicts[1:-1]} == {"grou"}
        assert all("too few seeds" in line for line in verdicts[1:-1])
    assert verdicts[-1] == f"… and {5 * 59 - 40} more rows in the report"


def test_a_narrow_console_does_without_columns_before_names_are_cut(
    store, tmp_path, without_figures, monkeypatch
):
    monkeypatch.setattr("ablations.report.console.columns", lambda _: 80)
    for seed in range(6):
        for level, error in (("momentum, Polyak's", 2.0), ("momentum, Nesterov's of 1983", 2.01)):
            store.add(error + seed % 3 * (error - 1), seed=seed, factors="optimizer", optimizer=level)
    result, _ = compiled(tmp_path)
    verdicts = result.summary.split("\n\n")[2].splitlines()
    assert [re.split(r" {2,}", line) for line in verdicts] == [
        ["variant", "against", "verdict", "difference"],
        ["momentum, Polyak's", "momentum, …s of 1983", "no difference that matters", "-0.02"],
    ]


def test_one_seed_claims_no_spread(store, tmp_path):
    store.add(2.0, activation="tanh")
    store.add(4.0, activation="relu")
    _, text = compiled(tmp_path)
    assert rows_of(text, "## Results")[0][2:4] == ["2.00 –", "2.00"]
    assert "**activation=tanh** has the lowest mean test error: 2.00 % in its one run." in answer_of(text)
    assert answer_of(text)[1:] == [
        "Not settled: **activation: tanh** against relu (6 seeds are needed at least)."
    ]
    assert "with one seed there is no band" in text
    assert rows_of(text, "## Verdicts")[0][3:] == ["too few seeds", "-2.00", "1"]
    assert rows_of(text, IN_FULL)[0][3:10] == [
        *("too few seeds", "1", "-2.00", "no limits", "1.000", "1.000", "100 %")
    ]


def test_seeds_alone_are_one_variant(store, tmp_path):
    for seed, error in enumerate((2.0, 4.0)):
        store.add(error, seed=seed, factors="", predictions=True)
    result, text = compiled(tmp_path)
    assert rows_of(text, "## Results") == [["2", "3.00 ± 1.41", "2.00", "1.50", "61,706"]]
    assert answer_of(text) == [
        "One variant was run; its test error is 3.00 % on average over 2 seeds. There is nothing to compare it with."
    ]
    assert "## Verdicts" not in text
    assert "effects.csv" not in text
    assert (result.path.parent / "figures" / "learning_curves.png").exists()
    assert not (result.path.parent / "effects.csv").exists()
    assert not (result.path.parent / "verdicts.tex").exists()


def test_one_epoch_is_no_curve(store, tmp_path):
    store.add(2.0, epochs=1)
    store.add(4.0, epochs=1, activation="tanh")
    result, text = compiled(tmp_path)
    assert "### Learning curves\n\nOne epoch: nothing to draw.\n" in text
    assert "No metrics by epoch" not in text
    assert not (result.path.parent / "figures" / "learning_curves.png").exists()
    assert "| epochs | 1 |" in text


def test_figures_as_vector_graphics(store, tmp_path):
    store.add(2.0)
    store.add(4.0, activation="tanh")
    figures = tmp_path / "reports" / "s" / "figures"
    plain = {path.name for path in compiled(tmp_path)[0].path.parent.glob("figures/*")}
    text = compile_report(folder=tmp_path / "reports", formats="svg, pdf").path.read_text(encoding="utf-8")
    assert {path.name for path in figures.iterdir()} == {
        name.replace(".png", f".{kind}") for name in plain for kind in ("png", "svg", "pdf")
    }
    assert (figures / "forest.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert (figures / "forest.pdf").read_bytes().startswith(b"%PDF")
    assert ".svg" not in text
    compile_report(folder=tmp_path / "reports")
    assert {path.name for path in figures.iterdir()} == plain
    with pytest.raises(InputError, match="figures: bmp is no format; accepted: png, svg, pdf"):
        compile_report(folder=tmp_path / "reports", formats=["bmp"])


def test_validation_that_few_variants_have_is_not_drawn(store, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "ablations.report.drawings.sweep_curves", lambda lines, *_: drawn.append(lines) or Figure()
    )
    for number in range(5):
        store.add(2.0 + number, activation=f"a{number}", validation=number == 2)
    text = compiled(tmp_path)[1]
    assert set(drawn[0]["metric"]) == {"train/loss", "train/accuracy"}
    assert "Not drawn: validation metrics, which 1 of 5 variants have." in text


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["a,b"], ("a", "b")),
        (["a, b", "c"], ("a", "b", "c")),
        (['"a,b",c'], ("a,b", "c")),
        (['c, "a,b"'], ("c", "a,b")),
        (None, None),
    ],
)
def test_names_are_parted_by_commas_and_kept_by_quotes(given, names):
    assert _list(given) == names


@pytest.mark.parametrize(
    ("given", "levels"),
    [
        (["a=x,b=y"], {"a": "x", "b": "y"}),
        (["a=x, b=y"], {"a": "x", "b": "y"}),
        (["a=x", "b=y"], {"a": "x", "b": "y"}),
        (["a=(5,5),b=y"], {"a": "(5,5)", "b": "y"}),
        (['"a=x,b=y",c=z'], {"a": "x,b=y", "c": "z"}),
        (['"a,b=x"'], {"a,b": "x"}),
        (["a=lr=0.1"], {"a": "lr=0.1"}),
        (['a="x=1,y=2",b=z'], {"a": "x=1,y=2", "b": "z"}),
        (['"a"="x=1,y=2"'], {"a": "x=1,y=2"}),
        (["a=x,"], {"a": "x"}),
        (['a="x'], {"a": '"x'}),
        (None, None),
    ],
)
def test_levels_may_have_commas(given, levels):
    assert _pairs(given) == levels


def test_what_is_no_factor_belongs_to_the_level():
    assert _pairs(["a=x=1,y=2,b=z"], ["a", "b"]) == {"a": "x=1,y=2", "b": "z"}


@pytest.mark.usefixtures("without_figures")
def test_a_second_metric_has_a_report_of_its_own(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ablations.ground.paths.REPORTS", tmp_path)
    for seed, error in enumerate((2.0, 3.0)):
        store.add(error, seed=seed)
        store.add(error + 1, seed=seed, activation="tanh")
    main(["s", "--metric", "val/accuracy"])
    main(["s"])
    main(["s", "--metric", "test/error_pct", "--margin", "1"])
    first, second = ((tmp_path / name / "README.md").read_text() for name in ("s", "s.val_accuracy"))
    assert "mean test error" in first
    assert "mean validation accuracy" in second
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir() and path.name != "artifacts") == [
        "s",
        "s.val_accuracy",
    ]
    capsys.readouterr()
    main(["--check", "s.val_accuracy"])
    assert (
        "s.val_accuracy: README.md, runs.csv, effects.csv and verdicts.tex follow from the store"
        in capsys.readouterr().out
    )


@pytest.mark.usefixtures("without_figures")
def test_a_report_can_be_written_anywhere(store, tmp_path, capsys):
    store.add(2.0)
    store.add(4.0, activation="tanh")
    out = tmp_path / "mine"
    main(["s", "--out", str(out)])
    assert f"report: {out / 'README.md'}" in capsys.readouterr().out
    assert f"--out {out}" in (out / "README.md").read_text()
    main(["--check", "--out", str(out)])
    assert "follow from the store" in capsys.readouterr().out

    taken = tmp_path / "project"
    taken.mkdir()
    (taken / "README.md").write_text("somebody's")
    with pytest.raises(SystemExit):
        main(["s", "--out", str(taken)])
    assert "has a README.md that is no report; choose another folder" in capsys.readouterr().err
    assert (taken / "README.md").read_text() == "somebody's"


FIGURES = {"value_by_variant", "learning_curves", "value_against_time", "confusion_matrix"}
OF_COMPARISONS = {"forest", "seed_slopes"}
OF_GRIDS = {"main_effects", "interactions", "value_grid"}


@pytest.mark.parametrize(
    ("factors", "figures"),
    [
        ("", FIGURES),
        ("activation", FIGURES | OF_COMPARISONS),
        ("activation,pool", FIGURES | OF_COMPARISONS | OF_GRIDS),
        ("activation,pool,c3", FIGURES | OF_COMPARISONS | OF_GRIDS),
    ],
)
def test_every_figure_is_linked_and_every_link_leads_to_a_figure(store, tmp_path, factors, figures):
    keys = factors.split(",") if factors else []
    validation = len(keys) != 1
    for i, levels in enumerate(product("ab", repeat=len(keys))):
        for seed in range(2):
            chosen = dict(zip(keys, levels, strict=True))
            store.add(2.0 + i, seed=seed, factors=factors, validation=validation, predictions=True, **chosen)
    result, text = compiled(tmp_path)
    linked = re.findall(r"!\[.*?\]\((.+?)\)", text)
    written = [str(path.relative_to(result.path.parent)) for path in result.path.parent.glob("figures/*")]
    assert sorted(linked) == sorted(written) == sorted(f"figures/{stem}.png" for stem in figures)
    assert all((result.path.parent / path).stat().st_size < 300_000 for path in linked)
    assert ("highest validation accuracy" in text) == validation
    assert [path.name for path in result.path.parent.iterdir() if path.name.startswith(".")] == []


def test_failures_are_counted_and_named(store, tmp_path):
    for seed in range(3):
        store.add(3.0 + seed, seed=seed, activation="relu")
    store.add(2.0, seed=0, activation="tanh")
    diverged = {"failure": "diverged", "failure_reason": "loss is nan\nin epoch 2"}
    store.add(None, seed=1, activation="tanh", status="FAILED", tags=diverged)
    store.add(None, seed=2, activation="tanh", status="RUNNING")
    store.add(None, seed=0, activation="sigmoid", status="FAILED")
    result, text = compiled(tmp_path)

    assert result.failed == 3
    assert [row[:3] for row in rows_of(text, "## Results")] == [
        ["tanh", "1 of 3", "2.00 –"],
        ["relu", "3", "4.00 ± 1.00"],
        ["sigmoid", "0 of 1", "failed"],
    ]
    assert "1 of 3" in result.summary
    assert "3 of 7 runs gave no result" in text
    assert answer_of(text)[0] == (
        "**activation=tanh** has the lowest mean test error: 2.00 % in its one run, "
        "though only 1 of its 3 runs finished."
    )
    assert rows_of(text, "## Failed runs") == [
        ["activation=tanh seed=1", "1", "FAILED", "diverged: loss is nan in epoch 2"],
        ["activation=tanh seed=2", "2", "RUNNING", "still running, or killed before it could say why"],
        ["activation=sigmoid seed=0", "0", "FAILED", "no reason was logged"],
    ]
    assert "1 variant without a finished run cannot be shown" in text
    assert len(rows_of(text, "## Runs")) == 7


def test_a_sweep_that_failed_altogether_is_reported(store, tmp_path):
    store.add(None, status="FAILED", tags={"failure": "error", "failure_reason": "no space left"})
    result, text = compiled(tmp_path)
    assert "No run finished" in text
    assert "error: no space left" in text
    assert result.failed == 1
    assert not list((result.path.parent / "figures").iterdir())


def test_later_seeds_join_and_other_settings_do_not(store, without_figures, tmp_path):
    store.add(90.0, seed=0, epochs=1, invocation="old")
    store.add(2.0, seed=0, invocation="first")
    store.add(4.0, seed=1, invocation="second")
    _, text = compiled(tmp_path)
    assert rows_of(text, "## Results")[0][:4] == ["relu", "2", "3.00 ± 1.41", "2.00"]
    assert "Left out: 1 earlier run with other settings (trainer.epochs)." in text


def test_without_a_name_it_is_the_last_sweep(store, without_figures, tmp_path):
    store.add(2.0, sweep="older")
    store.add(2.0, sweep="newer")
    assert compiled(tmp_path)[0].name == "newer"
    assert compiled(tmp_path, "older")[0].name == "older"


def test_an_unknown_name_lists_those_that_exist(store, tmp_path):
    store.add(sweep="b")
    store.add(sweep="a")
    with pytest.raises(InputError, match=r"no sweep is named 'c'; there are: a, b$"):
        compiled(tmp_path, "c")


@pytest.mark.parametrize("name", [None, "x"])
def test_no_runs_is_one_line(store, tmp_path, name):
    with pytest.raises(InputError, match="the store has no runs yet: try"):
        compiled(tmp_path, name)


def test_the_same_store_gives_the_same_bytes(store, tmp_path):
    for i, activation in enumerate(("relu", "tanh", "sigmoid")):
        for pool in ("max", "avg"):
            store.add(3.0 + i, factors="activation,pool", activation=activation, pool=pool, predictions=True)
    one = compile_report(folder=tmp_path / "one").path.parent
    store.rows.reverse()
    two = compile_report(folder=tmp_path / "two").path.parent
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert {path.name for path in files if path.suffix != ".png"} == {
        *("README.md", "runs.csv", "effects.csv", "verdicts.tex", "report.json")
    }
    assert len(files) == 5 + len(FIGURES | OF_COMPARISONS | OF_GRIDS) - 1  # one seed: no slopes
    for path in files:
        assert (one / path).read_bytes() == (two / path).read_bytes(), path


HOSTILE = (
    "a|b",
    "<script>alert(1)</script>",
    "../x",
    "two\nlines",
    "$x$ $y",
    "`**_[l](u)",
    "_",
    "\x1b[31mred",
    "ä" * 200,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_text(store, tmp_path, text, without_figures):
    assert_stays_text(store, tmp_path, text)


def test_hostile_names_stay_text_in_a_report_with_figures(store, tmp_path):
    assert_stays_text(store, tmp_path, "".join(HOSTILE))


def assert_stays_text(store, tmp_path, text):
    store.add(2.0, sweep=text, factors="activation,pool", activation=text, seed=0, predictions=True)
    store.add(3.0, sweep=text, factors="activation,pool", activation="relu", seed=1)
    failure = {"failure": "error", "failure_reason": text}
    store.add(None, sweep=text, factors="activation,pool", pool=text, status="FAILED", tags=failure)
    result, written = compiled(tmp_path, text)

    assert result.path.resolve().parent.parent == tmp_path / "reports"
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("artifacts", "reports")] == []
    outside_code = re.sub(r"^(```+)sh\n.*?^\1$", "", written, flags=re.MULTILINE | re.DOTALL)
    assert "<script" not in outside_code
    assert "\x1b" not in written + result.summary
    assert [len(row) for row in rows_of(written, "## Results")] == [7, 7, 7]
    assert [len(row) for row in rows_of(written, "## Runs")] == [5, 5, 5]
    answer, results, *_ = result.summary.split("\n\n")
    assert len(answer.splitlines()) == 2
    assert plain(text) in answer
    assert len(results.splitlines()) == 4
    assert len(answer_of(written)) == 2


def test_crosses_in_names_reach_the_figures(store, tmp_path):
    baseline = {"size × depth": "2 × 2", "pool": "max"}
    store.keep(Study("s", tuple(baseline), baseline, "test/error_pct", 0.1, **UNSAID))
    for seed in range(2):
        for size, pool in product(("2 × 2", "4 × 4"), ("max", "avg × 1")):
            chosen = {"size × depth": size, "pool": pool}
            store.add(5.0 + seed, seed=seed, factors=",".join(baseline), predictions=True, **chosen)
    result, text = compiled(tmp_path)
    drawn = {path.stem for path in result.path.parent.glob("figures/*.png")}
    assert drawn == FIGURES | OF_COMPARISONS | OF_GRIDS
    assert "### Mean test error (%) over size × depth × pool" in text


def test_different_names_have_different_folders():
    names = ["a/b", "a-b", "a b", "..", ".", "", "../a", "A" * 300, "A" * 301, "con", "Aux.txt", "激" * 200]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert all(re.fullmatch(r"[\w=,+-][\w.=,+-]*", folder) and len(folder) < 100 for folder in folders)
    assert all(len(folder.encode()) < 200 for folder in folders)
    for name in ("activation-pool", "激活函数", "हिन्दी", "größe", "lr,trainer.epochs=1", "console", "a+b"):
        assert folder_name(name) == name
    reserved = '<>:"/\\|?*'
    assert not set(reserved) & set(folder_name(reserved))


def test_a_report_takes_the_place_of_one_of_the_same_settings_alone(store, without_figures, tmp_path):
    store.add(5.0)
    first, _ = compiled(tmp_path)
    store.add(4.0, seed=1)
    more, text = compiled(tmp_path)
    assert (more.path, more.remark) == (first.path, "")
    assert "2 seeds" in text

    store.rows.clear()  # another store, other epochs
    store.add(6.0, epochs=9)
    store.rows[0]["run_id"] = "f" * 32
    other, _ = compiled(tmp_path)
    assert other.path.parent == first.path.parent.with_name("s-2")
    assert other.remark == (
        "(reports/s is of other runs (trainer.epochs: 2 there, 9 here), and stays as it is; "
        "`python -m ablations.report s --replace` replaces it)"
    )
    assert first.path.read_text(encoding="utf-8") == text
    assert compiled(tmp_path)[0].path == other.path  # not a third
    assert check("s-2", Store(), tmp_path / "reports").startswith("s-2: README.md")
    replaced = compile_report("s", folder=tmp_path / "reports", replace=True)
    assert (replaced.path, replaced.remark) == (first.path, "")


def test_a_published_report_is_replaced_on_request_alone(store, without_figures, tmp_path):
    store.add(5.0)
    first, text = compiled(tmp_path)
    (first.path.parent / "PUBLISHED").touch()
    store.add(4.0, seed=1)
    second, _ = compiled(tmp_path)
    assert second.path.parent.name == "s-2"
    assert second.remark.startswith("(reports/s is published, and stays as it is; ")
    assert first.path.read_text(encoding="utf-8") == text
    assert compile_report("s", folder=tmp_path / "reports", replace=True).path == first.path
    assert compiled(tmp_path)[0].path.parent.name == "s-2"  # it is published still


def test_what_is_published_with_the_project_says_so():
    """Those that the project's page links to; a sweep of one's own may lie beside them."""
    names = set(re.findall(r"\]\(reports/(\w+)/", (ROOT / "README.md").read_text("utf-8")))
    assert names
    listed = set(re.findall(r"\]\((\w+)/README", (REPORTS / "README.md").read_text("utf-8")))
    assert names <= listed
    assert listed == {
        *("activation", "pool", "c3", "head", "loss", "optimizer", "learning_rate", "init", "normalization"),
        *("size", "distortion", "factorial", "age", "modernise", "modernise_single", "history"),
        *("activation_x_pool", "reproductions"),
    }
    for name in listed:
        assert (REPORTS / name / "PUBLISHED").exists(), name


def test_folders_that_are_compared_are_called_by_their_last_parts(store, without_figures, tmp_path):
    root = "dataset.root"
    store.keep(
        Study("s", (root,), {root: "/data/a"}, "test/error_pct", 0.1, design="grid", tuned_on="val/accuracy")
    )
    for folder in ("/data/a", "/data/b"):
        store.add(5.0, factors=root, **{root: folder})
    _, text = compiled(tmp_path)
    assert "| dataset.root | b | a |" in text
    assert check("s", Store(), tmp_path / "reports")
    store.add(5.0, factors=root, **{root: "/other/b"})
    assert "/other/b" in compiled(tmp_path)[1]


def test_runs_csv_has_every_run_in_full_precision(store, without_figures, tmp_path):
    error = 100 / 3
    store.add(error, factors="activation,optimizer.lr", **{"optimizer.lr": 1e-3})
    store.add(None, factors="activation,optimizer.lr", status="FAILED", seed=1, **{"optimizer.lr": 1e-3})
    result, _ = compiled(tmp_path)
    with open(result.path.parent / "runs.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    promised = [
        *("run_id", "run_name", "status", "activation", "optimizer.lr", "seed"),
        *("test_accuracy", "test_error_pct", "test_loss", "time_epoch_s", "train_accuracy", "train_loss"),
        *("val_accuracy", "val_loss", "seconds"),
    ]
    assert list(rows[0])[: len(promised)] == promised
    assert len(set(rows[0])) == len(rows[0])
    assert float(rows[0]["test_error_pct"]) == error
    assert [row["status"] for row in rows] == ["FINISHED", "FAILED"]
    assert rows[1]["test_error_pct"] == ""


def test_a_new_report_replaces_its_own_files_only(store, tmp_path):
    store.add(2.0, factors="activation,pool", predictions=True)
    result, _ = compiled(tmp_path)
    home = result.path.parent
    (home / "notes.md").write_text("mine")
    (home / "figures" / "mine.png").write_bytes(b"mine")
    assert (home / "figures" / "value_grid.png").exists()
    store.add(2.0, factors="activation", invocation="2", activation="tanh")
    compiled(tmp_path)
    assert not (home / "figures" / "value_grid.png").exists()
    assert (home / "notes.md").read_text() == "mine"
    assert (home / "figures" / "mine.png").exists()


def test_a_report_that_fails_leaves_the_old_one(store, tmp_path, monkeypatch):
    store.add(2.0)
    result, text = compiled(tmp_path)
    store.add(4.0, seed=1)

    def full_disk(figure, path, colours):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ablations.plots.style.save", full_disk)
    with pytest.raises(InputError, match=r"cannot write the report to .*: No space left"):
        compiled(tmp_path)
    assert result.path.read_text(encoding="utf-8") == text
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["s"]


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut off"])
def test_unreadable_predictions_are_said_to_be_so(store, tmp_path, content):
    run_id = store.add(2.0, predictions=True)
    (store.folder / run_id / "predictions.npz").write_bytes(content)
    _, text = compiled(tmp_path)
    assert "`predictions.npz` of the run" in text
    assert "confusion_matrix.png" not in text


def test_the_best_run_is_chosen_on_validation(store, tmp_path):
    store.add(2.0, activation="relu", predictions=True)
    store.add(3.0, activation="tanh", predictions=True)
    store.rows[1]["metrics.val/accuracy"] = 0.999
    _, text = compiled(tmp_path)
    assert "activation=tanh seed=0, chosen by the highest validation accuracy" in text


def test_a_thousand_runs_take_seconds(store, tmp_path):
    for i in range(1000):
        store.add(
            2 + i % 7,
            factors="activation,pool",
            activation=i % 10,
            pool=i // 10 % 10,
            seed=i // 100,
            epochs=3,
        )
    result, text = compiled(tmp_path)
    assert "<details>" in text
    answer, results, verdicts, _ = result.summary.split("\n\n")
    assert len(answer.splitlines()) == 3
    assert len(results.splitlines()) == 42
    assert len(verdicts.splitlines()) == 1 + 9 + 9  # 81 interactions are too many to look at
    assert "The 81 interactions of these factors were left out" in text


def run_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "ablations.report", *arguments]
    root = Path(report.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=PATIENCE_S
    )


def test_help_needs_no_heavy_import(tmp_path):
    done = run_command("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "examples:" in done.stdout
    code = (
        "import sys, ablations.report; print([m for m in ('pandas', 'numpy', 'mlflow') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_command_prints_table_path_and_next_step(store, without_figures, tmp_path, monkeypatch, capsys):
    store.add(2.0, sweep="a b")
    store.add(None, sweep="a b", seed=1, status="FAILED")
    monkeypatch.setattr("ablations.ground.paths.REPORTS", tmp_path / "reports")
    main(["a b"])
    printed = capsys.readouterr().out
    assert "1 of 2" in printed
    assert "1 run without a result" in printed
    assert f"report: {tmp_path / 'reports' / folder_name('a b') / 'README.md'}" in printed
    assert printed.endswith("python -m ablations.ui 'a b'\n")


def test_the_command_ends_with_one_line_on_bad_input(store, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["nothing"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "error: the store has no runs yet: try `python run.py -m activation=relu,tanh`\n"
    )


# The order of the page


def headings_of(text: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def test_a_page_begins_with_question_answer_figure_and_six_columns(store, tmp_path):
    study = Study(
        "s", ("activation",), {"activation": "relu"}, "test/error_pct", 0.1, question="Does it?", **UNSAID
    )
    store.keep(study)
    for seed in range(3):
        store.add(5.0, seed=seed)
        store.add(4.0, seed=seed, activation="tanh")
    store.add(None, seed=3, status="FAILED", tags={"failure": "diverged"})
    text = compiled(tmp_path)[1]
    in_order = [
        *(
            "# s\n\n*Does it?*\n\n- **activation=tanh** has",
            "- Not settled:",
            "![Differences to the baseline]",
        ),
        *(
            "**1 of 7 runs gave no result**",
            "## Verdicts",
            "| factor | variant | against | verdict | difference",
        ),
        *(
            "Differences are variant − baseline",
            "is without 1 seed",
            IN_FULL,
            "| beats it in |",
            "</details>",
        ),
        *("## Add the seeds", "## Results", "### Test error (%) by variant", "## What was run", "## Again"),
    ]
    places = [text.index(part) for part in in_order]
    assert places == sorted(places)
    head = next(line for line in text.splitlines() if line.startswith("| factor |"))
    assert head == r"| factor | variant | against | verdict | difference \[95 % interval\] | seeds |"
    assert text.count("![Differences to the baseline]") == 1


@pytest.mark.usefixtures("without_figures")
def test_a_study_of_published_figures_answers_with_them_and_asks_for_no_seeds(store, tmp_path):
    figures = {name: {"system": name, "figures": {"test/error_pct": 4.5}} for name in ("new", "old")}
    study = Study(
        "s", ("experiment",), {"experiment": "new"}, "test/error_pct", 0.1, published=figures, **UNSAID
    )
    store.keep(study)
    for seed in range(3):
        store.add(4.0, seed=seed, factors="experiment", experiment="new")
        store.add(4.75, seed=seed, factors="experiment", experiment="old")
    result, text = compiled(tmp_path)
    assert answer_of(text) == [
        "**1 of 2 published figures is reached or beaten** by means, without a test; one is missed by 0.25 points."
    ]
    assert result.summary.startswith(
        "1 of 2 published figures is reached or beaten by means, without a test; one is missed by 0.25 points.\n\n"
    )
    headings = headings_of(text)
    assert headings[:2] == ["s", "Published and ours"]
    assert headings.index("Verdicts") > headings.index("Published and ours")
    assert "Add the seeds" not in text
    assert "would settle" not in text
    assert "nothing can be said" not in text
