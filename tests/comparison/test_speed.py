"""Seconds per epoch of both sides of a comparison, by hand."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from ablations.comparison.pairs import Comparison
from ablations.comparison.speed import seconds_per_epoch

RUNS = pd.DataFrame({"run_id": list("abcdef"), "epoch_s": [2.0, 1.0, 4.0, 1.5, 90.0, 3.0]})
PAIRS = Comparison(
    ("pool",),
    ("avg",),
    ("max",),
    "test/error_pct",
    seeds=("0", "1", "2"),
    differences=(0.0, 0.0, 0.0),
    run_ids=(("a", "b"), ("c", "d"), ("e", "f")),
    seen=(1, 1, 1),
    unpaired=(),
    fingerprinted=True,
    signs=(1, -1),
)


def test_each_side_is_its_median_run():
    assert seconds_per_epoch(PAIRS, RUNS) == (4.0, 1.5)
    turned = replace(PAIRS, signs=(-1, 1))
    assert seconds_per_epoch(turned, RUNS) == (1.5, 4.0)


def test_runs_over_the_settings_of_other_factors_count_on_their_side():
    both = replace(PAIRS, seeds=("0",), run_ids=(("a", "b", "c", "d"),), signs=(1, -1, 1, -1))
    assert seconds_per_epoch(both, RUNS) == (3.0, 1.25)


@pytest.mark.parametrize(
    "other",
    [
        replace(PAIRS, factors=("pool", "c3"), variant=("avg", "sparse"), baseline=("max", "full")),
        replace(PAIRS, run_ids=()),
        replace(PAIRS, signs=()),
        replace(PAIRS, run_ids=(("a", "nobody"),)),
    ],
)
def test_four_sides_no_pairs_and_no_times_are_unknown(other):
    assert all(map(math.isnan, seconds_per_epoch(other, RUNS)))
