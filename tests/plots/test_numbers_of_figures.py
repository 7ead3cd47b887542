"""The numbers behind the figures, against numbers worked out by hand and against the comparisons themselves."""

import numpy as np
import pandas as pd
import pytest

from ablations.comparison.pairs import comparisons
from ablations.plots.disagreements import disagreement
from ablations.plots.effects import seed_pairs
from ablations.plots.factors import interaction_means, marginal_means
from ablations.plots.ladder import rungs
from ablations.plots.sizes import by_size


def runs(*rows: tuple, factors: tuple[str, ...] = ("a", "b")) -> pd.DataFrame:
    """Rows of levels, seed and value; None is a run without a result."""
    frame = pd.DataFrame(rows, columns=[*(f"params.{f}" for f in factors), "params.seed", "value"])
    frame["value"] = frame["value"].astype(float)
    finished = frame["value"].notna()
    return frame.assign(
        finished=finished,
        run_id=[f"run{i}" for i in range(len(frame))],
        status=finished.map({True: "FINISHED", False: "FAILED"}),
        **{"metrics.loss": frame["value"], "tags.stream": "s", "tags.data_sha256": "d"},
    )


GRID = runs(
    *[("relu", "max", "0", 1), ("relu", "max", "1", 2), ("relu", "avg", "0", 3), ("relu", "avg", "1", 6)],
    *[("tanh", "max", "0", 5), ("tanh", "max", "1", 7), ("tanh", "avg", "0", 9), ("tanh", "avg", "1", 9)],
)


def listed(frame: pd.DataFrame) -> list[tuple]:
    return [tuple(row) for row in frame.to_numpy().tolist()]


def test_marginal_means_average_over_settings_then_over_seeds():
    means = marginal_means(GRID, ["a", "b"])
    assert list(means) == ["factor", "level", "mean", "low", "high", "n"]
    assert listed(means) == [
        ("a", "relu", 3.0, 2.0, 4.0, 2),  # seed 0: (1 + 3) / 2, seed 1: (2 + 6) / 2
        ("a", "tanh", 7.5, 7.0, 8.0, 2),
        ("b", "avg", 6.75, 6.0, 7.5, 2),
        ("b", "max", 3.75, 3.0, 4.5, 2),
    ]


def test_settings_have_equal_weight_however_often_they_ran():
    again = pd.concat([GRID, GRID.iloc[[0]].assign(value=3.0)], ignore_index=True)
    # relu × max at seed 0 is then (1 + 3) / 2, so that relu at seed 0 is (2 + 3) / 2.
    assert listed(marginal_means(again, ["a", "b"]))[0] == ("a", "relu", 3.25, 2.5, 4.0, 2)


def test_only_settings_count_that_every_level_was_run_in():
    frame = runs(
        *[("relu", "max", "0", 1), ("relu", "avg", "0", 50), ("tanh", "max", "0", 4), ("elu", "max", "0", 9)]
    )
    assert listed(marginal_means(frame, ["a", "b"])) == [
        *[("a", "elu", 9.0, 9.0, 9.0, 1), ("a", "relu", 1.0, 1.0, 1.0, 1), ("a", "tanh", 4.0, 4.0, 4.0, 1)],
        *[("b", "avg", 50.0, 50.0, 50.0, 1), ("b", "max", 1.0, 1.0, 1.0, 1)],
    ]


def test_a_seed_that_lost_a_run_does_not_count_and_a_level_without_runs_has_a_row():
    frame = runs(
        *[("10", "max", "0", 1), ("10", "avg", "0", None), ("10", "max", "1", 3), ("10", "avg", "1", 5)],
        *[("2", "max", "0", None), ("2", "avg", "0", None), ("(not logged)", "max", "0", 1e9)],
    )
    means = marginal_means(frame, ["a", "b"])[:2]
    assert means["level"].tolist() == ["2", "10"]
    assert means["n"].tolist() == [0, 1]
    assert means.loc[1, ["mean", "low", "high"]].tolist() == [4, 4, 4]
    assert means.loc[0, ["mean", "low", "high"]].isna().all()


def test_differences_of_marginal_means_are_the_mean_differences_of_the_contrasts():
    rng = np.random.default_rng(5)
    rows = [(a, b, c, str(s), rng.normal()) for a in "xyz" for b in "uv" for c in "pq" for s in range(4)]
    frame = runs(*rows, factors=("a", "b", "c"))
    base = {"a": "x", "b": "u", "c": "p"}
    means = marginal_means(frame, list("abc")).set_index(["factor", "level"])["mean"]
    crossed = interaction_means(frame, list("abc"))
    crossed = crossed.set_index(["a", "b", "level_a", "level_b"])["mean"]
    found = comparisons(frame, list("abc"), base, "loss")
    assert len(found) == 4 + 5
    for comparison in found:
        factors, upper, lower = comparison.factors, comparison.variant, comparison.baseline
        if len(factors) == 1:
            expected = means[factors[0], upper[0]] - means[factors[0], lower[0]]
        else:
            at = {
                (p, q): crossed[(*factors, p, q)] for p in (upper[0], lower[0]) for q in (upper[1], lower[1])
            }
            expected = at[upper[0], upper[1]] - at[upper[0], lower[1]] - at[lower[0], upper[1]]
            expected += at[lower[0], lower[1]]
        assert np.mean(comparison.differences) == pytest.approx(expected)


def test_interaction_means_have_a_row_per_combination():
    means = interaction_means(GRID, ["a", "b"])
    assert listed(means[["level_a", "level_b", "mean", "low", "high", "n"]]) == [
        ("relu", "avg", 4.5, 3.0, 6.0, 2),
        ("relu", "max", 1.5, 1.0, 2.0, 2),
        ("tanh", "avg", 9.0, 9.0, 9.0, 2),
        ("tanh", "max", 6.0, 5.0, 7.0, 2),
    ]
    assert set(zip(means["a"], means["b"], strict=True)) == {("a", "b")}


def test_one_factor_at_a_time_shows_no_interaction():
    frame = runs(("relu", "max", "0", 1), ("tanh", "max", "0", 2), ("relu", "avg", "0", 3))
    assert interaction_means(frame, ["a", "b"]).empty


def test_seed_pairs_are_the_values_behind_the_differences():
    lost = pd.concat([GRID, runs(("relu", "max", "2", 1), ("tanh", "max", "2", None))], ignore_index=True)
    lost["run_id"] = [f"run{i}" for i in range(len(lost))]
    comparison = comparisons(lost, ["a", "b"], {"a": "relu", "b": "max"}, "loss")[0]
    pairs = seed_pairs(lost, comparison)
    assert listed(pairs) == [("0", 2.0, 7.0), ("1", 4.0, 8.0)]
    assert (pairs["variant"] - pairs["baseline"]).tolist() == list(comparison.differences)


LABELS = np.array([0, 1, 2, 3, 4])


def predictions(*read: int) -> dict[str, np.ndarray]:
    """As a run saves them; the picture of image i is filled with i."""
    misread = np.flatnonzero(np.array(read) != LABELS)
    pixels = np.repeat(misread, 28 * 28).reshape(-1, 28, 28).astype(np.uint8)
    return {"labels": LABELS, "predictions": np.array(read), "misread": misread, "misread_images": pixels}


def test_images_on_which_two_variants_disagree():
    first = [predictions(0, 1, 9, 3, 7), predictions(0, 1, 9, 3, 7), predictions(0, 1, 9, 3, 4)]
    second = [predictions(0, 6, 2, 5, 8), predictions(0, 6, 2, 3, 8)]
    found = disagreement(first, second)
    # Shares of right runs: image 0 1/1, 1 1/0, 2 0/1, 3 1/½, 4 ⅓/0.
    assert listed(found.images) == [
        (1, 1, 1, 6, 3, 0),
        (3, 3, 3, 3, 3, 1),
        (4, 4, 7, 8, 1, 0),
        (2, 2, 9, 2, 0, 2),
    ]
    assert found.pixels[:, 0, 0].tolist() == [1, 3, 4, 2]
    assert (found.runs, found.better, found.total) == ((3, 2), (3, 1), 5)


@pytest.mark.parametrize(("most", "chosen"), [(1, [1]), (2, [1, 2]), (3, [1, 3, 2])])
def test_both_directions_get_room(most, chosen):
    first, second = [predictions(0, 1, 9, 3, 4)], [predictions(0, 6, 2, 5, 8)]
    assert disagreement(first, second, most).images["index"].tolist() == chosen


def test_variants_that_agree_have_no_images():
    found = disagreement([predictions(0, 1, 2, 3, 9)], [predictions(0, 1, 2, 3, 8)])
    assert (len(found.images), found.better, len(found.pixels)) == (0, (0, 0), 0)


def test_runs_on_different_test_sets_are_not_compared():
    other = predictions(0, 1, 2, 3, 4) | {"labels": LABELS[::-1]}
    with pytest.raises(ValueError, match="different images"):
        disagreement([predictions(0, 1, 2, 3, 4)], [other])
    with pytest.raises(ValueError, match="needs a run"):
        disagreement([], [other])


def test_in_a_fraction_every_run_of_a_level_counts_and_a_seed_needs_all_of_them():
    half = runs(
        *[("0", "0", "0", "0", 1), ("0", "1", "1", "0", 3), ("1", "0", "1", "0", 5), ("1", "1", "0", "0", 9)],
        *[
            ("0", "0", "0", "1", 2),
            ("0", "1", "1", "1", 2),
            ("1", "0", "1", "1", None),
            ("1", "1", "0", "1", 4),
        ],
        factors=("a", "b", "c"),
    )
    means = marginal_means(half, ["a", "b", "c"], everywhere=True)
    assert listed(means)[:3] == [
        ("a", "0", 2.0, 2.0, 2.0, 2),
        ("a", "1", 7.0, 7.0, 7.0, 1),
        ("b", "0", 3.0, 3.0, 3.0, 1),
    ]
    assert not marginal_means(half, ["a", "b", "c"])["n"].any()


def test_the_rungs_of_a_ladder_have_their_own_runs_and_intervals():
    values = [2.0, 4.0, 3.0, 5.0, 6.0, 7.0]
    ladder = runs(
        *[("x", "1", str(seed), value) for seed, value in enumerate(values)],
        *[("y", "1", str(seed), value - 2) for seed, value in enumerate(values[:5])],
        *[("y", "2", "0", 4), ("y", "2", "1", None), ("x", "2", "0", 99)],
    )
    reached = rungs(ladder, {"a": ("x", "y"), "b": ("1", "2", "3")})
    assert listed(reached[["factor", "level", "mean", "n"]])[:3] == [
        ("start", "", 4.5, 6),
        ("a", "y", 2.0, 5),
        ("b", "2", 4.0, 1),
    ]
    # With six seeds the interval at 95 % is the one from the lowest to the highest; with fewer there is none.
    assert listed(reached[["low", "high"]])[:3] == [(2.0, 7.0), (0.0, 4.0), (4.0, 4.0)]
    assert reached["n"].tolist()[3] == 0
    assert reached["values"].tolist()[2] == (4.0,)


def test_what_each_setting_reaches_at_each_size():
    sizes = runs(
        *[
            (size, "max", str(seed), float(value + seed))
            for seed in range(6)
            for size, value in (("20", 8), ("100", 2))
        ],
        *[("3", "max", "0", 30), ("3", "max", "1", None), ("3", "avg", "0", 50), ("20", "avg", "0", 20)],
    )
    variants = sizes["params.b"].map({"max": 0, "avg": 1})
    table = by_size(sizes, "a", {"3": 3.0, "20": 20.0, "100": 100.0}, variants)
    # Average pooling has results at two sizes, which make no line. At 95 % six seeds reach from one end to the other.
    assert listed(table) == [(0, 3, 30, 30, 30, 1), (0, 20, 10.5, 8, 13, 6), (0, 100, 4.5, 2, 7, 6)]
    twice = pd.concat([sizes, sizes.assign(value=sizes["value"] + 2)], ignore_index=True)
    again = by_size(
        twice, "a", {"3": 3.0, "20": 20.0, "100": 100.0}, pd.concat([variants] * 2, ignore_index=True)
    )
    assert listed(again) == [(0, 3, 31, 31, 31, 1), (0, 20, 11.5, 9, 14, 6), (0, 100, 5.5, 3, 8, 6)]
