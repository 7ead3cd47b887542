"""The figures of a tuning, by what they contain."""

import numpy as np
import pandas as pd

from ablations.comparison.verdicts import Verdict
from ablations.plots import style
from ablations.plots.tuning import best_by_trial, verdicts_by_trials

NAN = float("nan")
TRIALS = pd.DataFrame(
    [
        *((0, 1, "complete", 0.8, 0.8), (0, 2, "pruned", NAN, 0.8), (0, 3, "complete", 0.98, 0.98)),
        *((1, 1, "diverged", NAN, NAN), (1, 2, "complete", 0.9, 0.9), (1, 3, "pruned", NAN, 0.9)),
    ],
    columns=["variant", "trial", "state", "value", "best"],
)


def verdicts(*rows: tuple) -> pd.DataFrame:
    """Rows of after, variant, n, mean, low, high, verdict."""
    frame = pd.DataFrame(rows, columns=["after", "variant", "n", "mean_diff", "ci_low", "ci_high", "verdict"])
    return frame.assign(factor="optimizer", baseline="adam")


def test_each_variant_has_a_line_of_its_best_value_so_far():
    figure = best_by_trial(TRIALS, ["a", "b"], "best validation accuracy", "optimizer", 4, True)
    (axes,) = figure.axes
    steps = {line.get_color(): line for line in axes.lines if line.get_drawstyle() == "steps-post"}
    assert list(steps) == [*style.PALETTE[:2]]
    np.testing.assert_allclose(steps[style.PALETTE[0]].get_xdata(), [1, 2, 3, 4.3])
    np.testing.assert_allclose(
        steps[style.PALETTE[0]].get_ydata(), [20, 20, 2, 2]
    )  # what is missing to 100 %
    np.testing.assert_allclose(steps[style.PALETTE[1]].get_xdata(), [2, 3, 4.3])
    assert axes.yaxis_inverted()
    assert axes.yaxis.get_major_formatter()(2, None) == "98"
    crosses = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "x"]
    np.testing.assert_allclose(sorted(crosses), [1, 2, 3])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_a_loss_falls_on_an_axis_of_its_own():
    losses = TRIALS.assign(value=1 - TRIALS["value"], best=1 - TRIALS["best"])
    (axes,) = best_by_trial(losses, ["a", "b"], "best val/loss", "", 4, False).axes
    assert not axes.yaxis_inverted()
    assert axes.get_ylabel().startswith("best val/loss")


def test_a_perfect_accuracy_is_drawn():
    perfect = TRIALS.assign(value=1.0, best=1.0)
    (axes,) = best_by_trial(perfect, ["a", "b"], "best validation accuracy", "", 3, True).axes
    assert np.isfinite(axes.get_ylim()).all()


def test_each_comparison_has_a_panel_and_each_count_a_mark_that_says_its_verdict():
    table = verdicts(
        *((1, "sgd", 8, 70.0, 60.0, 80.0, Verdict.WORSE), (2, "sgd", 8, 5.0, 1.0, 9.0, Verdict.WORSE)),
        *(
            (4, "sgd", 8, 0.2, -0.5, 0.7, Verdict.INCONCLUSIVE),
            (2, "momentum", 8, -1.0, -2.0, -0.5, Verdict.BETTER),
        ),
        (4, "momentum", 5, -1.0, -np.inf, np.inf, Verdict.TOO_FEW),
    )
    figure = verdicts_by_trials(table, "test error", "percentage points", 0.1, True)
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == ["sgd against adam", "momentum against adam"]
    marks = {
        title: [
            (int(line.get_xdata()[0]), line.get_marker())
            for line in axes.lines
            if line.get_marker() != "None"
        ]
        for title, axes in panels.items()
    }
    assert marks["sgd against adam"] == [(0, "v"), (1, "v"), (2, "o")]
    assert marks["momentum against adam"] == [(1, "^"), (2, "o")]
    assert [text.get_text() for text in panels["momentum against adam"].texts] == ["no choice"]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "2", "4"]
    assert figure.axes[0].get_yscale() == "symlog"
    assert "better  ←" in figure.axes[0].get_ylabel()
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["better", "worse", "inconclusive", "too few seeds", "±0.1: does not matter"]


def test_differences_of_one_size_are_on_a_linear_axis():
    table = verdicts(*((n, "sgd", 8, 1.0, 0.5, 1.5, Verdict.WORSE) for n in (1, 2)))
    assert verdicts_by_trials(table, "loss", "", 0.0, True).axes[0].get_yscale() == "linear"
    flat = verdicts(*((n, "sgd", 8, 0.0, 0.0, 0.0, Verdict.NO_DIFFERENCE) for n in (1, 2)))
    verdicts_by_trials(flat, "loss", "", 0.0, True).canvas.draw()
