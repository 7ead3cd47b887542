"""Figures by what they contain, not by their pixels."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from ablations.comparison.verdicts import COLUMNS, Verdict
from ablations.plots import style
from ablations.plots.curves import sweep_curves
from ablations.plots.disagreements import Disagreement, disagreements
from ablations.plots.effects import SHOWN_EFFECTS, forest, seed_slopes
from ablations.plots.factors import PAIRS, interactions, main_effects
from ablations.plots.run import confusion_matrix, kernels_and_maps, learning_curves
from ablations.plots.secondary import forests
from ablations.plots.style import HIGHLIGHTED, OTHERS, PALETTE, save
from ablations.plots.values import SHOWN_VARIANTS, value_against_time, value_grids, values_by_variant

BETTER, WORSE, NO_DIFFERENCE, INCONCLUSIVE, TOO_FEW, CONFOUNDED = Verdict


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


def runs(variants: int, value: float = 2.0, growth: float = 1.0) -> pd.DataFrame:
    rows = [(v, value + growth * v + 0.1 * seed, 10.0 + v) for v in range(variants) for seed in range(3)]
    return pd.DataFrame(rows, columns=["variant", "value", "train_s"])


def effects(*rows: tuple) -> pd.DataFrame:
    """Rows of factors, variant, n, mean, low, high, verdict."""
    frame = pd.DataFrame(
        rows, columns=["factors", "variant", "n", "mean_diff", "ci_low", "ci_high", "verdict"]
    )
    frame = frame.assign(factors=[(each,) if isinstance(each, str) else each for each in frame["factors"]])
    frame = frame.assign(factor=frame["factors"].map(" × ".join), baseline="base")
    return frame.reindex(columns=["factor", *COLUMNS])


def assert_nothing_is_cut_off(figure) -> None:
    """What is drawn lies within the page, and the axes still have room."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert min(box.x0, box.y0) >= -0.01
    assert box.x1 <= width + 0.01
    assert box.y1 <= height + 0.01
    assert all(axes.get_position().width > 0.08 for axes in figure.axes if axes.get_label() != "<colorbar>")


def drawn_texts(figure) -> list[str]:
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.parametrize(("validation", "lines"), [(True, 2), (False, 1)])
def test_the_curves_of_a_run(validation, lines):
    loss, accuracy = learning_curves(history(validation=validation)).axes
    assert [len(axes.lines) for axes in (loss, accuracy)] == [lines, lines]
    assert loss.lines[0].get_ydata().tolist() == [1, 1 / 2, 1 / 3]
    assert (loss.get_xlabel(), loss.get_ylabel(), accuracy.get_ylabel()) == ("epoch", "loss", "accuracy (%)")


def test_the_confusion_matrix_shows_shares_and_counts():
    figure = confusion_matrix([0, 0, 0, 1], [0, 0, 1, 1], ["zero", "one"])
    axes = figure.axes[0]
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]))
    assert sorted(text.get_text() for text in axes.texts) == ["1", "1", "2"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["zero", "one"]


def test_single_mistakes_have_a_colour_of_their_own():
    labels = np.repeat([0, 1], 1000)
    read = labels.copy()
    read[0] = read[1000:1010] = 2
    (image,) = confusion_matrix(labels, read, ["0", "1", "2"]).axes[0].images
    colours = image.to_rgba(image.get_array())
    one, ten, most = (colours[at][:3].sum() for at in ((0, 2), (1, 2), (0, 0)))
    assert colours[0, 1, 3] == 0  # what never happened is white as the paper
    assert 3 - 0.1 > one > ten + 0.3 > most + 0.6


@pytest.mark.parametrize("classes", [2, 10, 26, 47])
def test_any_number_of_classes(classes, tmp_path):
    labels = np.arange(200) % classes
    save(
        confusion_matrix(labels, labels, [f"class number {i}" for i in range(classes)]),
        tmp_path / "c.png",
    )


def test_a_line_and_a_band_for_each_variant():
    figure = sweep_curves(sweep(3), ["a", "b", "c"], "pool")
    assert [len(axes.lines) for axes in figure.axes] == [3, 3, 3, 3]
    assert [len(axes.collections) for axes in figure.axes] == [3, 3, 3, 3]
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"]
    assert "pool" in legend.get_title().get_text()


def test_no_band_for_one_seed_and_no_column_without_validation():
    figure = sweep_curves(sweep(2, n=1, parts=("train",)), ["a", "b"])
    assert len(figure.axes) == 2
    assert [len(axes.collections) for axes in figure.axes] == [0, 0]


def test_many_variants_keep_colour_for_the_best():
    figure = sweep_curves(sweep(30), [f"v{i}" for i in range(30)])
    assert [len(axes.lines) for axes in figure.axes] == [HIGHLIGHTED + 1] * 4
    assert figure.legends[0].get_texts()[-1].get_text() == "the other 22"
    colours = [line.get_color() for line in figure.axes[0].lines]
    assert colours == [OTHERS, *PALETTE]


def test_one_variant_needs_no_legend():
    assert sweep_curves(sweep(1), ["all runs"]).legends == []


def foreign(*names: str) -> pd.DataFrame:
    rows = [(name, 0, step, float(step), 0.0, 9.0, 1) for name in names for step in (0, 100)]
    return pd.DataFrame(rows, columns=["metric", "variant", "step", "mean", "low", "high", "n"])


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        (["val_acc"], ["val_acc"]),
        (["f1", "auc"], ["auc", "f1"]),
        (["c", "b", "a"], ["a", "b", "c"]),
        (["e", "d", "c", "b", "a"], ["a", "b", "c", "d"]),
    ],
)
def test_metrics_of_other_programs_have_a_panel_each(names, titles):
    figure = sweep_curves(foreign(*names), ["all"])
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == titles
    assert {axes.get_xlabel() for axes in shown if axes.get_xlabel()} == {"step"}
    assert shown[0].lines[0].get_ydata().tolist() == [0, 100]
    assert_nothing_is_cut_off(figure)


def test_where_one_of_the_four_is_missing_the_others_keep_their_places():
    figure = sweep_curves(foreign("train/loss", "val/loss", "val/accuracy"), ["all"])
    assert_nothing_is_cut_off(figure)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    places = [(axes.get_title(), axes.get_ylabel()) for axes in shown]
    assert all(axes.yaxis.label.get_visible() for axes in shown)
    assert [axes.yaxis.get_tick_params()["labelleft"] for axes in shown] == [True, False, True]
    # 100 is no fraction, so that this accuracy keeps the numbers that it came with.
    assert places == [("training", "loss"), ("validation", ""), ("validation", "accuracy")]


def test_every_run_is_a_point_and_every_mean_a_bar():
    figure = values_by_variant(runs(4), list("abcd"), "test error (%)", "pool")
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
    axes = values_by_variant(runs(3, growth=growth), list("abc"), "test error (%)").axes[0]
    assert axes.get_xscale() == scale
    assert ("logarithmic" in axes.get_xlabel()) == (scale == "log")


def test_an_error_of_zero_is_drawn():
    assert (
        values_by_variant(runs(3, value=0.0, growth=40), list("abc"), "loss").axes[0].get_xscale() == "linear"
    )


def test_only_so_many_variants_fit():
    figure = values_by_variant(runs(100), [str(i) for i in range(100)], "loss")
    assert len(figure.axes[0].get_yticks()) == SHOWN_VARIANTS


def test_the_grid_writes_its_numbers():
    grid = pd.DataFrame([[1.0, 2.5], [np.nan, 3.25]], index=["relu", "tanh"], columns=["max", "avg"])
    figure = value_grids(
        {"full": grid, "sparse": grid + 1}, "mean test error (%)", "activation", "pool", "c3"
    )
    texts = drawn_texts(figure)
    assert {"1.00", "2.50", "3.25", "2.00", "3.50", "4.25", "c3 = full", "c3 = sparse", "activation"} <= set(
        texts
    )
    assert "mean test error (%)" in texts


def test_no_colour_of_the_grid_stands_for_no_run():
    grid = pd.DataFrame([[1.0, 2.0], [np.nan, 3.0]])
    axes = value_grids({"": grid}, "loss", "a", "b").axes[0]
    assert axes.patch.get_hatch() == "////"
    cells = axes.collections[0].to_rgba(np.linspace(1, 3, 50))[:, :3]
    assert (np.ptp(cells, axis=1) > 0.2).all()  # none is grey


@pytest.mark.parametrize("values", [[[2.0]], [[2.0, 2.0]], [[0.0, 50.0]], [[1.0, 90.0]]])
def test_grids_of_any_range(values, tmp_path):
    save(value_grids({"": pd.DataFrame(values)}, "loss", "a", "b"), tmp_path / "grid.png")


def test_numbers_have_the_decimals_that_tell_them_apart():
    grid = pd.DataFrame([[0.9812, 0.9837]])
    assert {"0.9812", "0.9837"} <= set(drawn_texts(value_grids({"": grid}, "val_acc", "a", "b")))


COMPARED = (
    (("a", "b"), "y × v", 8, 0.3, 0.05, 0.6, WORSE),
    ("a", "y", 8, -0.4, -0.5, -0.3, BETTER),
    ("a", "z", 8, 0.01, -0.05, 0.06, NO_DIFFERENCE),
    ("b", "v", 8, 0.1, -0.2, 0.4, INCONCLUSIVE),
)


def beside(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def points(axes) -> dict[float, tuple[float, str, bool]]:
    """By line: the mean, its marker and whether it is filled."""
    marks = [line for line in axes.lines if line.get_marker() in ("o", "^", "v", "s")]
    return {
        line.get_ydata()[0]: (
            line.get_xdata()[0],
            line.get_marker(),
            line.get_markerfacecolor() == line.get_color(),
        )
        for line in marks
    }


def test_a_forest_has_main_effects_first_and_tells_verdicts_by_marker():
    figure = forest(effects(*COMPARED), "test error", "points", 0.1, smaller_is_better=True)
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["a, against base", "y", "z", "b, against base", "v", "a × b, against base", "y × v"]
    assert points(axes) == {
        1: (-0.4, "^", True),
        2: (0.01, "s", True),
        4: (0.1, "o", True),
        6: (0.3, "v", True),
    }
    assert beside(axes)[:6] == [
        *("mean [95 % interval]", "pairs", "verdict"),
        *("−0.40 [−0.50, −0.30]", "8", "better"),
    ]
    intervals = [list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert [-0.4, -0.5] in intervals
    assert [-0.4, -0.3] in intervals
    (band,) = [patch for patch in axes.patches if patch.get_label().startswith("±0.1 points")]
    assert (band.get_x(), band.get_width()) == pytest.approx((-0.1, 0.2))
    assert axes.get_xlabel() == "difference in test error (points)\n← better        worse →"
    assert_nothing_is_cut_off(figure)


def test_a_forest_names_the_other_factor_without_its_section():
    rows = effects(
        ("a", "scaled_tanh", 8, 0.1, -0.2, 0.4, INCONCLUSIVE), ("a", "y", 8, -0.4, -0.5, -0.3, BETTER)
    )
    rows["at"] = ["dataset.train_images=1000", "optimizer.lr=0.01"]
    axes = forest(rows, "test error", "points", 0.1, smaller_is_better=True).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[1:] == ["scaled_tanh at train_images=1000", "y at lr=0.01"]


def test_a_forest_without_margin_has_no_band_and_larger_may_be_better():
    axes = forest(effects(*COMPARED), "val_acc", "", 0, smaller_is_better=False).axes[0]
    assert axes.get_xlabel() == "difference in val_acc\n← worse        better →"
    assert len(axes.patches) == 0


def test_an_interval_without_ends_is_dashed_from_edge_to_edge():
    rows = [
        ("a", "y", 3, 0.2, -np.inf, np.inf, TOO_FEW),
        ("a", "z", 0, np.nan, -np.inf, np.inf, TOO_FEW),
    ]
    axes = forest(effects(*rows), "loss", "", 0.1, smaller_is_better=True).axes[0]
    assert points(axes) == {1: (0.2, "o", False)}
    dashed = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "--"]
    assert sorted(line.get_xdata()[1] for line in dashed) == pytest.approx(axes.get_xlim())
    assert "+0.20 [no limits]" in beside(axes)
    assert beside(axes)[-3:] == ["no pairs", "0", TOO_FEW]


def test_one_huge_effect_does_not_squeeze_the_others():
    rows = [*COMPARED, ("b", "w", 8, 80.0, 79.0, 81.0, WORSE)]
    axes = forest(effects(*rows), "test error", "points", 0.1, smaller_is_better=True).axes[0]
    assert axes.get_xlim()[1] < 1
    assert "axis is cut" in axes.get_xlabel()
    assert "+80.00 [+79.00, +81.00]" in beside(axes)
    assert len(points(axes)) == 4
    assert "axis is cut" not in forest(effects(*COMPARED), "e", "", 0.1, True).axes[0].get_xlabel()


def test_what_lies_beyond_the_axis_of_an_outcome_has_its_number_there():
    means = {"x": 0.2, "y": 0.3, "z": 80}
    rows = [("a", name, 8, mean, mean - 0.1, mean + 0.1, WORSE) for name, mean in means.items()]
    table = effects(*rows, ("a", "w", 8, -0.2, -0.3, -0.1, BETTER))
    for sign, side in ((1, "+80"), (-1, "−80")):
        numbers = ["ci_low", "mean_diff", "ci_high"]
        signed = table.assign(metric="loss", **{key: sign * table[key] for key in numbers})
        figure = forests(signed, {"loss": ("loss", "", True)})
        texts = drawn_texts(figure)
        assert side in texts
        assert not {"+0.2", "+0.3", "−0.2", "−0.3"} & set(texts)
        assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize("comparisons", [1, 40, 60])
def test_forests_of_any_size(comparisons):
    name = "Ж$_{" * 20
    rows = [(name, f"{i} {name}", 8, 0.1, 0.0, 0.2, INCONCLUSIVE) for i in range(comparisons)]
    figure = forest(effects(*rows), name, name, 0.1, smaller_is_better=True)
    shown = min(comparisons, SHOWN_EFFECTS)
    assert len(points(figure.axes[0])) == shown
    assert (f"The first 40 of {comparisons}" in figure.axes[0].get_xlabel()) == (comparisons > 40)
    assert_nothing_is_cut_off(figure)


def test_letters_that_the_font_lacks_stay_different():
    figure = values_by_variant(runs(2), ["猫", "犬"], "loss")
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [r"\u732b", r"\u72ac"]


def means(*rows: tuple, names: tuple[str, ...] = ("factor", "level")) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*names, "mean", "low", "high", "n"])


def test_main_effects_have_a_panel_per_factor_and_one_axis():
    frame = means(("pool", "max", 1, 0.5, 1.5, 8), ("pool", "avg", 2, 1, 3, 7), ("c3", "full", 1.5, 1, 2, 8))
    figure = main_effects(frame, "test error (%)")
    pool, c3 = figure.axes
    assert (pool.get_title(), c3.get_title()) == ("pool", "c3")
    assert pool.lines[-1].get_ydata().tolist() == [1, 2]
    assert [segment[:, 1].tolist() for segment in pool.collections[0].get_segments()] == [[0.5, 1.5], [1, 3]]
    assert [tick.get_text() for tick in pool.get_xticklabels()] == ["max", "avg (n = 7)"]
    assert pool.get_ylim() == c3.get_ylim()
    assert "test error (%)" in drawn_texts(figure)
    assert_nothing_is_cut_off(figure)


PAIR = ("a", "b", "level_a", "level_b")


def test_interactions_have_a_line_per_level_of_the_second_factor():
    rows = [
        *[("act", "pool", "relu", "max", 1, 0.5, 1.5, 8), ("act", "pool", "relu", "avg", 2, 1, 3, 8)],
        *[("act", "pool", "tanh", "max", 3, 2, 4, 8), ("act", "pool", "tanh", "avg", 9, 8, 10, 8)],
    ]
    figure = interactions(means(*rows, names=PAIR), "loss")
    (axes,) = figure.axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[1, 3], [2, 9]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["max", "avg"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["relu", "tanh"]
    assert (axes.get_xlabel(), axes.get_legend().get_title().get_text()) == ("act", "pool")
    assert_nothing_is_cut_off(figure)


def test_so_many_pairs_fit():
    rows = [
        (f"f{i}", "b", str(p), str(q), 1.0, 0, 2, 3) for i in range(15) for p in (0, 1) for q in range(20)
    ]
    figure = interactions(means(*rows, names=PAIR), "loss")
    assert len(figure.axes) == PAIRS
    assert figure.axes[0].get_legend().get_texts()[-1].get_text() == "the others"
    assert "The first 12 of 15 pairs." in drawn_texts(figure)


@pytest.mark.parametrize("smaller_is_better", [True, False])
def test_a_line_per_seed_coloured_by_which_is_better(smaller_is_better):
    pairs = pd.DataFrame({"seed": list("0123"), "baseline": [1.0, 1, 2, 2], "variant": [2.0, 3, 1, 2]})
    figure = seed_slopes(pairs, "relu", "tanh", "loss", smaller_is_better)
    lines = [(line.get_ydata().tolist(), line.get_color()) for line in figure.axes[0].lines[:-1]]
    up, down = (v[0] for v in (style.WORSE, style.BETTER)[:: 1 if smaller_is_better else -1])
    same = style.INCONCLUSIVE[0]
    assert sorted(lines) == sorted([([1, 2], up), ([1, 3], up), ([2, 1], down), ([2, 2], same)])
    assert list(figure.axes[0].lines[-1].get_ydata()) == [1.5, 2.0]
    rising, falling = ("worse", "better") if smaller_is_better else ("better", "worse")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {f"{rising} in 2 of 4 seeds", f"{falling} in 1 of 4 seeds", "mean"} <= set(names)
    assert_nothing_is_cut_off(figure)


IMAGES = pd.DataFrame(
    [(7, 2, 2, 7, 3, 0), (9, 1, 4, 1, 1, 2)],
    columns=["index", "label", "first", "second", "first_right", "second_right"],
)


def test_disagreements_are_drawn_with_what_each_variant_read():
    pixels = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    found = Disagreement(IMAGES, pixels, (3, 2), (40, 1), 1000)
    figure = disagreements(found, ("relu", "$tanh" * 30))
    shown = [np.asarray(image.get_array()).tolist() for axes in figure.axes for image in axes.images]
    assert shown == pixels.tolist()
    texts = drawn_texts(figure)
    captions = [text for text in texts if text.startswith("true")]
    assert captions == ["true 2\nA 2 · 3/3\nB 7 · 0/2", "true 1\nA 4 · 1/3\nB 1 · 2/2"]
    assert "A is right more often: 40 images; the clearest 1" in texts
    assert "B is right more often: 1 image" in texts
    assert "A: relu (3 runs)" in texts
    assert_nothing_is_cut_off(figure)


def test_captions_do_not_meet():
    images = pd.DataFrame([IMAGES.iloc[0]] * 24).assign(first_right=10)
    found = Disagreement(images, np.zeros((24, 28, 28), np.uint8), (10, 10), (24, 0), 1000)
    figure = disagreements(found, ("a", "b"))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text().startswith("true")]
    pictures = [image.get_window_extent() for image in figure.axes[0].images]
    assert len(boxes) == len(pictures) == 24
    assert all(box.x0 == pytest.approx(picture.x0) for box, picture in zip(boxes, pictures, strict=True))
    assert all(box.y1 < picture.y0 for box, picture in zip(boxes, pictures, strict=True))
    assert all(one.x1 < two.x0 for one, two in pairwise(boxes[:8]))
    assert boxes[7].x1 <= figure.bbox.x1
    assert boxes[0].y0 > pictures[8].y1


def test_a_network_from_the_inside():
    kernels = np.zeros((6, 5, 5))
    kernels[0, 0, 0], kernels[1, 1, 1] = -0.5, 0.25
    maps = np.arange(16 * 25.0).reshape(16, 5, 5)
    output = np.full(10, 0.05)
    output[7] = 0.55
    layers = {"S4": maps, "F6": np.arange(84.0), "output": output}
    figure = kernels_and_maps(np.eye(28), kernels, layers)
    pictures = [image for axes in figure.axes for image in axes.images]
    assert len(pictures) == 1 + 6 + 16 + 1
    assert np.asarray(pictures[1].get_array()).tolist() == kernels[0].tolist()
    assert {picture.get_clim() for picture in pictures[1:7]} == {(-0.5, 0.5)}
    assert {picture.get_clim() for picture in pictures[7:23]} == {(0, 399)}
    assert pictures[1].get_cmap()(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.05)  # no weight is white
    bars = figure.axes[-1].patches
    assert [bar.get_height() for bar in bars] == output.tolist()
    assert [bar.get_facecolor() == bars[7].get_facecolor() for bar in bars].count(True) == 1
    texts = drawn_texts(figure)
    assert {"S4", "16 of 5×5\nblack 0 … white 399", "84 units\nblack 0 … white 83", "55 %"} <= set(texts)
    assert "6 of 5×5\nblue −0.5 … red 0.5" in texts
    assert_nothing_is_cut_off(figure)


def test_only_so_many_maps_are_drawn():
    layers = {"C1": np.zeros((70, 2, 2)), "output": np.ones(1)}
    figure = kernels_and_maps(np.eye(2), np.ones((1, 2, 2)), layers)
    assert sum(len(axes.images) for axes in figure.axes) == 1 + 1 + 64
    assert "70 of 2×2, 64 shown" in "".join(text.get_text() for text in figure.texts)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_network_that_went_wrong_can_still_be_looked_at(value, tmp_path):
    layers = {"C1": np.full((2, 3, 3), value), "output": np.full(26, 1 / 26)}
    figure = kernels_and_maps(np.zeros((4, 4)), np.full((2, 3, 3), value), layers)
    assert "2 of 3×3" in "".join(drawn_texts(figure))
    save(figure, tmp_path / "figure.png")
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize("name", ["network.layers.C1.maps", "dataset.train_images, activation"])
def test_the_name_of_a_factor_is_whole_beside_few_levels(name):
    by_variant = values_by_variant(runs(2), ["3", "12"], "test error (%)", name)
    assert by_variant.axes[0].get_title(loc="left") == name
    assert_nothing_is_cut_off(by_variant)
    (said,) = by_variant.findobj(lambda each: isinstance(each, Text) and each.get_text() == name)
    assert said.get_window_extent().x1 < by_variant.axes[0].get_legend().get_window_extent().x0
    key = name.split(",")[0]
    grid = value_grids(
        {"": pd.DataFrame(np.ones((2, 2)), index=["4", "12"], columns=["8", "32"])}, "error", key, key
    )
    assert (grid.axes[0].get_xlabel(), grid.axes[0].get_ylabel()) == (key, key)
    assert_nothing_is_cut_off(grid)


@pytest.mark.parametrize("draw", [forest, forests])
def test_a_heading_of_a_forest_gives_a_long_factor_the_room_of_a_short_baseline(draw):
    table = effects((("dataset.train_images", "activation"), "300 × tanh", 8, 0.1, 0, 1, WORSE))
    table = table.assign(baseline="100 × relu", metric="loss")
    more = ("loss", "", 0.0, True) if draw is forest else ({"loss": ("loss", "", True)},)
    figure = draw(table, *more)
    assert "dataset.train_images × activation, against 100 × relu" in drawn_texts(figure)
    assert_nothing_is_cut_off(figure)


def test_long_names_are_cut_before_they_leave_the_page():
    name = "W" * 90
    grid = pd.DataFrame(np.ones((3, 2)), index=[name + "1", "b", "c"], columns=[name, "e"])
    for figure in (
        value_grids({name: grid, "b": grid}, name, name, name, name),
        values_by_variant(runs(40), [name] * 40, name, name),
        values_by_variant(runs(2), [name] * 2, name, name),
        value_against_time(runs(40), [name] * 40, name, name),
        sweep_curves(sweep(9), [name] * 9, name),
        main_effects(means((name, name, 1, 0, 2, 3), (name, "b", 100, 0, 2, 3)), name),
    ):
        assert_nothing_is_cut_off(figure)


def test_time_is_on_the_other_axis():
    figure = value_against_time(runs(2), ["a", "b"], "val_acc")
    assert figure.axes[0].get_xlabel() == "training time of the run (s)"
    assert sum(len(each.get_offsets()) for each in figure.axes[0].collections) == 6


@pytest.mark.parametrize("name", ["$a$", "$", "_hidden", "x" * 500, "two\nlines", r"\frac{", "%s", ""])
def test_names_are_not_read_as_formulas(name):
    figures = [
        sweep_curves(sweep(2), [name, "b"], name),
        values_by_variant(runs(2), [name, "b"], name, name),
        value_grids({name: pd.DataFrame([[1.0]], index=[name], columns=[name])}, name, name, name, name),
        value_against_time(runs(2), [name, "b"], name, name),
        confusion_matrix([0, 1], [0, 1], [name, "b"]),
        forest(effects((name, name, 8, 0.1, 0, 1, WORSE)), name, name, 0.1, True),
        sweep_curves(foreign(name), [name]),
        main_effects(means((name, name, 1, 0, 2, 3)), name),
        interactions(means((name, name, name, name, 1, 0, 2, 3), names=PAIR), name),
        seed_slopes(pd.DataFrame({"baseline": [1.0], "variant": [2.0]}), name, name, name, True),
        disagreements(Disagreement(IMAGES, np.zeros((2, 28, 28)), (3, 2), (1, 1), 9), (name, name)),
        kernels_and_maps(np.eye(5), np.ones((1, 5, 5)), {name: np.ones(3), "output": np.ones(1)}),
    ]
    for figure in figures:
        figure.draw_without_rendering()  # a formula that is none would raise
    assert len(figures[0].legends[0].get_texts()) == 2


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save(sweep_curves(sweep(3), list("abc")), tmp_path / name, colours=256)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"matplotlib" not in (tmp_path / "a").read_bytes()


def test_figures_are_drawn_in_threads(tmp_path):
    def draw(i: int) -> bytes:
        save(learning_curves(history(epochs=5)), tmp_path / f"{i}.png")
        return (tmp_path / f"{i}.png").read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(draw, range(12)))) == 1


IN_TWO = """
import os, sys
from pathlib import Path
from matplotlib.figure import Figure
from ablations.plots import style
from ablations.plots.run import learning_curves
os.sched_getaffinity = lambda _: {0, 1}
folder = Path(sys.argv[1])
def draw(number):
    (folder / f"{number}.pid").write_text(str(os.getpid()))
    if number == int(sys.argv[2]):
        raise ValueError(f"figure {number}")
    return Figure()
style.save_all({folder / f"{i}.png": (lambda i=i: draw(i)) for i in range(5)}, ["svg"])
print("matplotlib.pyplot" in sys.modules)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")
def test_a_copy_of_the_process_draws_every_other_figure(tmp_path):
    done = subprocess.run([sys.executable, "-c", IN_TWO, str(tmp_path), "-1"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")  # nothing is left open
    assert {path.name for path in tmp_path.glob("*.*g")} == {
        f"{i}.{k}" for i in range(5) for k in ("png", "svg")
    }
    drew = [(tmp_path / f"{i}.pid").read_text() for i in range(5)]
    assert drew[0] == drew[2] == drew[4] != drew[1] == drew[3]
    failed = subprocess.run(
        [sys.executable, "-c", IN_TWO, str(tmp_path), "3"], capture_output=True, text=True
    )
    assert failed.stderr.splitlines()[-1] == "ValueError: figure 3"


def test_the_figures_of_a_run_do_without_seaborn_and_leave_nothing_open():
    code = (
        "import sys, pandas as pd; from ablations.plots.run import learning_curves\n"
        "learning_curves(pd.DataFrame({'epoch': [1], 'train/loss': [1.0], 'train/accuracy': [0.5]}))\n"
        "print('seaborn' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]


def test_no_figure_stays_open():
    from matplotlib import pyplot

    sweep_curves(sweep(2), ["a", "b"])
    values_by_variant(runs(2), ["a", "b"], "loss")
    value_grids({"": pd.DataFrame([[1.0, 2.0]])}, "loss", "a", "b")
    assert pyplot.get_fignums() == []
