"""What a report says and draws of the size of the training set, from runs whose numbers were planted."""

import re

import pytest
from test_report import compiled

import ablations.plots.sizes
from ablations.report.check import check
from ablations.report.drawings import _by_size, _effects
from ablations.report.request import UNSAID
from ablations.tracking.study import Study

KEY = "dataset.train_images"


@pytest.fixture(autouse=True)
def only_this_figure(monkeypatch):
    """The others take most of a report's time."""
    monkeypatch.setattr("ablations.report.drawings.drawings", lambda _, analysis, __: _by_size(analysis))


def planted(
    store, error, *, key: str = KEY, sizes=(1000, 500, 4000), seeds: int = 6, **other: object
) -> None:
    """Runs of two activations at each size."""
    baseline = {key: str(sizes[0]), "activation": "tanh"}
    more = {"metric": "test/error_pct", "margin": 0.1, **UNSAID} | other
    store.keep(Study("s", (key, "activation"), baseline, **more))
    for size in sizes:
        for activation in ("tanh", "relu"):
            for seed in range(seeds):
                levels = {key: size, "activation": activation}
                store.add(error(size, activation, seed), seed=seed, factors=f"{key},activation", **levels)


def power_law(size: int, activation: str, seed: int) -> float:
    """By 1 / √2 with each doubling, for ReLU by half."""
    return (100 + seed) / size ** {"tanh": 0.5, "relu": 1.0}[activation]


def captions(text: str) -> list[str]:
    found = re.findall(r"value_by_size\.png\)\n\n(.*)", text)
    return [each.replace("\\[", "[").replace("\\]", "]") for each in found]


def test_a_power_law_is_drawn_and_told(store, tmp_path, monkeypatch):
    drawn = {}
    real = ablations.plots.sizes.values_by_size

    def seen(table, names, *more):
        figure = real(table, names, *more)
        drawn.update(table=table, names=names, axes=figure.axes[0], legend=figure.legends[0])
        return figure

    monkeypatch.setattr("ablations.report.sizes.values_by_size", seen)
    planted(store, power_law)
    _, text = compiled(tmp_path)
    assert captions(text) == [
        "Both axes are logarithmic: along a straight line each doubling of the training set changes the test error by "
        "the same share. The bar is the 95 % interval of the mean. Fitted seed by seed over the sizes drawn, a "
        "doubling changes the test error by −50.0 % [−50.0 %, −50.0 %] for relu, −29.3 % [−29.3 %, −29.3 %] for tanh; "
        "in brackets 95 % intervals."
    ]
    axes, table = drawn["axes"], drawn["table"]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "training images, logarithmic",
        "test error (%), logarithmic",
    )
    assert drawn["names"] == ["relu", "tanh"]
    assert table["size"].tolist() == [500, 1000, 4000] * 2
    assert table["mean"].to_numpy() == pytest.approx(
        [102.5 / size**power for power in (1, 0.5) for size in (500, 1000, 4000)]
    )
    assert check("s", store, tmp_path / "reports")


def test_runs_of_two_sizes_share_a_split_and_no_order(store, tmp_path, monkeypatch):
    monkeypatch.setattr("ablations.report.drawings.drawings", lambda _, analysis, __: _effects(analysis))
    planted(store, lambda size, _, seed: 10 - size / 500 + seed % 2 / 10)
    text = compiled(tmp_path)[1]
    assert "Each thin line is one seed, both ends trained on images of the same split;" in text


@pytest.mark.parametrize(
    "other",
    [
        {"key": "trainer.batch_size"},  # no size of a training set
        {"sizes": (1000, 2000)},
        {"sizes": (1000, 2000, "many")},
    ],
)
def test_of_other_factors_there_is_no_such_figure(store, tmp_path, other):
    planted(store, lambda *at: 5 + at[2], seeds=1, **other)
    assert captions(compiled(tmp_path)[1]) == []


def test_few_seeds_have_no_interval(store, tmp_path):
    planted(store, power_law, key="data.n_train", seeds=2)
    (told,) = captions(compiled(tmp_path)[1])
    assert (
        "The bar reaches from the lowest to the highest seed: fewer than six have no finite interval." in told
    )
    assert told.endswith("a doubling changes the test error by −50.0 % for relu, −29.3 % for tanh.")


@pytest.mark.parametrize(
    ("errors", "metric"), [((4.0, 8.0, 0.0), "test/error_pct"), ((4.0, 8.0, 2.0), "test/accuracy")]
)
def test_an_outcome_of_zero_and_an_accuracy_have_no_ratios(store, tmp_path, errors, metric):
    reached = dict(zip((1000, 500, 4000), errors, strict=True))
    planted(store, lambda size, *_: reached[size], metric=metric)
    assert captions(compiled(tmp_path)[1]) == [
        "The horizontal axis is logarithmic: equal steps multiply the training set by the same number. "
        "The bar is the 95 % interval of the mean."
    ]


def test_sizes_of_runs_that_are_no_pairs_have_no_slopes(store, tmp_path):
    planted(store, power_law, unpaired=True)
    (told,) = captions(compiled(tmp_path)[1])
    assert told.endswith("The bar is the 95 % interval of the mean.")
