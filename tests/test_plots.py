"""Figures by what they contain, not by their pixels."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from ablations import plots


def history(epochs: int = 3, validation: bool = True) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    columns = {"epoch": epoch, "train/loss": 1 / epoch, "train/accuracy": 1 - 0.5 / epoch}
    if validation:
        columns |= {"val/loss": 1.1 / epoch, "val/accuracy": 1 - 0.6 / epoch}
    return pd.DataFrame(columns)


def sweep(
    variants: int, n: int = 3, parts: tuple[str, ...] = ("train", "val"), epochs: int = 4
) -> pd.DataFrame:
    rows = [
        (f"{part}/{quantity}", variant, step, 0.5 + 0.1 * variant / step, 0.4, 0.9, n)
        for part in parts
        for quantity in ("loss", "accuracy")
        for variant in range(variants)
        for step in range(1, epochs + 1)
    ]
    return pd.DataFrame(rows, columns=["metric", "variant", "step", "mean", "low", "high", "n"])


def runs(variants: int, error: float = 2.0, growth: float = 1.0) -> pd.DataFrame:
    rows = [(v, error + growth * v + 0.1 * seed, 10.0 + v) for v in range(variants) for seed in range(3)]
    return pd.DataFrame(rows, columns=["variant", "error", "train_s"])


def drawn_texts(figure) -> list[str]:
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.parametrize(("validation", "lines"), [(True, 2), (False, 1)])
def test_the_curves_of_a_run(validation, lines):
    loss, accuracy = plots.learning_curves(history(validation=validation)).axes
    assert [len(axes.lines) for axes in (loss, accuracy)] == [lines, lines]
    assert loss.lines[0].get_ydata().tolist() == [1, 1 / 2, 1 / 3]
    assert (loss.get_xlabel(), loss.get_ylabel(), accuracy.get_ylabel()) == ("epoch", "loss", "accuracy (%)")


def test_the_confusion_matrix_shows_shares_and_counts():
    figure = plots.confusion_matrix([0, 0, 0, 1], [0, 0, 1, 1], ["zero", "one"])
    axes = figure.axes[0]
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]))
    assert sorted(text.get_text() for text in axes.texts) == ["1", "1", "2"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["zero", "one"]


@pytest.mark.parametrize("classes", [2, 10, 26, 47])
def test_any_number_of_classes(classes, tmp_path):
    labels = np.arange(200) % classes
    plots.save(
        plots.confusion_matrix(labels, labels, [f"class number {i}" for i in range(classes)]),
        tmp_path / "c.png",
    )


def test_a_line_and_a_band_for_each_variant():
    figure = plots.sweep_curves(sweep(3), ["a", "b", "c"], "pool")
    assert [len(axes.lines) for axes in figure.axes] == [3, 3, 3, 3]
    assert [len(axes.collections) for axes in figure.axes] == [3, 3, 3, 3]
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"]
    assert "pool" in legend.get_title().get_text()


def test_no_band_for_one_seed_and_no_column_without_validation():
    figure = plots.sweep_curves(sweep(2, n=1, parts=("train",)), ["a", "b"])
    assert len(figure.axes) == 2
    assert [len(axes.collections) for axes in figure.axes] == [0, 0]


def test_many_variants_keep_colour_for_the_best():
    figure = plots.sweep_curves(sweep(30), [f"v{i}" for i in range(30)])
    assert [len(axes.lines) for axes in figure.axes] == [plots.HIGHLIGHTED + 1] * 4
    assert figure.legends[0].get_texts()[-1].get_text() == "the other 22"
    colours = [line.get_color() for line in figure.axes[0].lines]
    assert colours == [plots.OTHERS, *plots.PALETTE]


def test_one_variant_needs_no_legend():
    assert plots.sweep_curves(sweep(1), ["all runs"]).legends == []


def test_every_run_is_a_point_and_every_mean_a_bar():
    figure = plots.errors_by_variant(runs(4), list("abcd"), "pool")
    points, means = (np.concatenate(part) for part in split(figure.axes[0].collections))
    assert len(points) == 12
    assert means[:, 0] == pytest.approx([2.1, 3.1, 4.1, 5.1])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list("abcd")
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1]  # the best is on top


def split(collections) -> tuple[list, list]:
    *points, means = [np.asarray(each.get_offsets()) for each in collections]
    return points, [means]


@pytest.mark.parametrize(("growth", "scale"), [(1.0, "linear"), (40.0, "log")])
def test_a_wide_range_of_errors_is_drawn_logarithmic(growth, scale):
    axes = plots.errors_by_variant(runs(3, growth=growth), list("abc")).axes[0]
    assert axes.get_xscale() == scale
    assert ("logarithmic" in axes.get_xlabel()) == (scale == "log")


def test_an_error_of_zero_is_drawn():
    assert (
        plots.errors_by_variant(runs(3, error=0.0, growth=40), list("abc")).axes[0].get_xscale() == "linear"
    )


def test_only_so_many_variants_fit():
    figure = plots.errors_by_variant(runs(100), [str(i) for i in range(100)])
    assert len(figure.axes[0].get_yticks()) == plots.SHOWN_VARIANTS


def test_the_grid_writes_its_numbers():
    grid = pd.DataFrame([[1.0, 2.5], [np.nan, 3.25]], index=["relu", "tanh"], columns=["max", "avg"])
    figure = plots.error_grids({"full": grid, "sparse": grid + 1}, "activation", "pool", "c3")
    texts = drawn_texts(figure)
    assert {"1.00", "2.50", "3.25", "2.00", "3.50", "4.25", "c3 = full", "c3 = sparse", "activation"} <= set(
        texts
    )
    assert "mean test error (%)" in texts


@pytest.mark.parametrize("values", [[[2.0]], [[2.0, 2.0]], [[0.0, 50.0]], [[1.0, 90.0]]])
def test_grids_of_any_range(values, tmp_path):
    plots.save(plots.error_grids({"": pd.DataFrame(values)}, "a", "b"), tmp_path / "grid.png")


def test_time_is_on_the_other_axis():
    figure = plots.error_against_time(runs(2), ["a", "b"])
    assert figure.axes[0].get_xlabel() == "training time of the run (s)"
    assert sum(len(each.get_offsets()) for each in figure.axes[0].collections) == 6


@pytest.mark.parametrize("name", ["$a$", "$", "_hidden", "x" * 500, "two\nlines", r"\frac{", "%s", ""])
def test_names_are_not_read_as_formulas(name, tmp_path):
    figures = [
        plots.sweep_curves(sweep(2), [name, "b"], name),
        plots.errors_by_variant(runs(2), [name, "b"], name),
        plots.error_grids({name: pd.DataFrame([[1.0]], index=[name], columns=[name])}, name, name, name),
        plots.error_against_time(runs(2), [name, "b"], name),
        plots.confusion_matrix([0, 1], [0, 1], [name, "b"]),
    ]
    for figure in figures:
        plots.save(figure, tmp_path / "figure.png")
    assert len(figures[0].legends[0].get_texts()) == 2


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        plots.save(plots.sweep_curves(sweep(3), list("abc")), tmp_path / name, colours=256)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"matplotlib" not in (tmp_path / "a").read_bytes()


def test_figures_are_drawn_in_threads(tmp_path):
    def draw(i: int) -> bytes:
        plots.save(plots.learning_curves(history(epochs=5)), tmp_path / f"{i}.png")
        return (tmp_path / f"{i}.png").read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(draw, range(12)))) == 1


def test_the_figures_of_a_run_do_without_seaborn_and_leave_nothing_open():
    code = (
        "import sys, pandas as pd; from ablations import plots\n"
        "plots.learning_curves(pd.DataFrame({'epoch': [1], 'train/loss': [1.0], 'train/accuracy': [0.5]}))\n"
        "print('seaborn' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]


def test_no_figure_stays_open():
    from matplotlib import pyplot

    plots.sweep_curves(sweep(2), ["a", "b"])
    plots.errors_by_variant(runs(2), ["a", "b"])
    plots.error_grids({"": pd.DataFrame([[1.0, 2.0]])}, "a", "b")
    assert pyplot.get_fignums() == []
