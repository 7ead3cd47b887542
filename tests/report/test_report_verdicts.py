"""What a report says of planted effects: every number in a sentence or a table was worked out by hand.

A single look spends four fifths of the error: p is that of the sign-flip test divided by 0.8, the interval that of
the test at 4 %. With six pairs it reaches from the smallest to the largest difference, and p is at least
2/64 / 0.8 = 0.039; with eight, of equally spaced differences, from the second to the last but one (the fifth of the
means of all sets), and p is at least 2/256 / 0.8 = 0.0098.
"""

import csv
import io
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_report import IN_FULL, answer_of, compiled, rows_of

from ablations.comparison.pairs import comparisons
from ablations.comparison.verdicts import seeds_needed, tabulate
from ablations.report import Request, compile_report, files
from ablations.report.analysis import analyse
from ablations.report.check import check
from ablations.report.files import runs_from_csv
from ablations.report.request import UNSAID
from ablations.tracking.study import Study

pytestmark = pytest.mark.usefixtures("without_figures")

COMMAND = "python run.py -m activation=relu,tanh 'seed=range(6)'"


def a_study(*factors: str, **other: object) -> Study:
    base = {"activation": "relu", "pool": "max", "optimizer": "sgd"}
    defaults = {"metric": "test/error_pct", "margin": 0.1, "command": COMMAND, **UNSAID}
    return Study("s", factors, {key: base[key] for key in factors}, **defaults | other)


def planted(store, differences, study: Study | None = None, **more: object) -> None:
    """tanh − relu, seed by seed."""
    store.keep(study or a_study("activation"))
    for seed, difference in enumerate(differences):
        store.add(5.0, seed=seed, **more)
        store.add(5.0 + difference, seed=seed, activation="tanh", **more)


# Verdicts


def test_a_planted_effect_is_better_with_its_interval(store, tmp_path):
    planted(store, [-1.0, -1.2, -0.8, -1.1, -0.9, -1.0])
    result, text = compiled(tmp_path)
    assert answer_of(text) == [
        "**activation=tanh** has the lowest mean test error: 4.00 % on average over 6 seeds.",
        "**activation: tanh** against relu is better: its test error is 1.00 percentage points lower (0.80 to 1.20).",
    ]
    assert rows_of(text, "## Verdicts") == [
        ["activation", "tanh", "relu", "better", r"-1.00 \[-1.20, -0.80\]", "6"]
    ]
    assert rows_of(text, IN_FULL) == [
        [
            *("activation", "tanh", "relu", "better", "6", "-1.00", r"\[-1.20, -0.80\]", "0.039", "0.039"),
            *("100 %", "-7.1", ""),
        ]
    ]
    assert "## Add the seeds" not in text
    assert "better" in result.summary


def test_a_planted_effect_is_worse_where_more_is_better(store, tmp_path):
    planted(
        store, [1.0, 1.2, 0.8, 1.1, 0.9, 1.0], a_study("activation", metric="test/accuracy", margin=0.001)
    )
    _, text = compiled(tmp_path)
    assert answer_of(text) == [
        "**activation=relu** has the highest mean test accuracy: 0.950 on average over 6 seeds.",
        "**activation: tanh** against relu is worse: its test accuracy is 0.010 lower (0.008 to 0.012).",
    ]
    assert "test accuracy (positive is better)" in text


def test_a_small_effect_makes_no_difference_that_matters(store, tmp_path):
    planted(store, [0.05, 0.02, 0.03, 0.04, 0.01, 0.03])
    _, text = compiled(tmp_path)
    assert answer_of(text)[1:] == [
        "**activation: tanh** against relu makes no difference that matters (less than 0.28 percentage points)."
    ]
    assert rows_of(text, "## Verdicts")[0][3:5] == ["no difference that matters", r"+0.03 \[+0.01, +0.05\]"]


@pytest.mark.parametrize(
    ("metric", "images", "margin", "least"),
    [
        ("test/error_pct", 360, 0.1, "0.28 percentage points: what one of 360 test images changes"),
        ("test/error_pct", 500, 0.1, "0.2 percentage points: what one of 500 test images changes"),
        ("test/accuracy", 360, 0.001, "0.0028: what one of 360 test images changes"),
        ("test/error_pct", 10_000, 0.01, None),
        ("test/error_pct", 360, 0.5, None),
        ("test/loss", 360, 0.001, None),
    ],
)
def test_the_margin_is_at_least_what_one_image_changes(store, tmp_path, metric, images, margin, least):
    one = 100 / images
    planted(store, [one, 0, 0, one, one, one, 0, -one], a_study("activation", metric=metric, margin=margin))
    for row in store.rows:
        row["params.dataset.test_images"] = str(images)
    text = compiled(tmp_path)[1]
    assert ("The margin is" in text) == (least is not None)
    if least is not None:
        assert f"The margin is {least}." in text
        assert rows_of(text, "## Verdicts")[0][3] == "no difference that matters"


@pytest.mark.parametrize(
    ("errors", "first"),
    [
        (
            (2.0, 2.0, 3.0),
            "A tie: **activation=a** and **activation=b** have the lowest mean test error, 2.00 %.",
        ),
        (
            (2.0, 2.001, 2.0),
            "A tie: **activation=a**, **activation=c** and **activation=b** have the lowest mean test error, 2.00 %.",
        ),
        ((2.0, 2.01, 3.0), "**activation=a** has the lowest mean test error: 2.00 % in its one run."),
    ],
)
def test_a_tie_has_no_single_winner(store, tmp_path, errors, first):
    for activation, error in zip("abc", errors, strict=True):
        store.add(error, activation=activation)
    assert answer_of(compiled(tmp_path)[1])[0] == first


def test_without_a_margin_nothing_is_too_small_to_matter(store, tmp_path):
    planted(store, [0.05, 0.02, 0.03, 0.04, 0.01, 0.03], a_study("activation", margin=0))
    _, text = compiled(tmp_path)
    assert (
        "**activation: tanh** against relu is worse: its test error is 0.03 percentage points higher" in text
    )
    assert "No margin was given" in text


def test_what_is_not_settled_has_the_command_that_settles_it(store, tmp_path):
    planted(store, [-1.0, -1.0, -1.0, -1.0, -1.0, 0.5])
    _, text = compiled(tmp_path)
    # squared deviations from the mean of -0.75: five times 0.25², once 1.25²
    sd = math.sqrt((5 * 0.0625 + 1.5625) / 5)
    likely, needed = seeds_needed(-0.75, sd, 6, 0.28, pairs=(6,))
    assert 6 < likely < needed < 50
    assert chance_of_settling(-0.75, sd, 6, likely) >= 0.5 > chance_of_settling(-0.75, sd, 6, likely - 1)
    assert chance_of_settling(-0.75, sd, 6, needed) >= 0.8 > chance_of_settling(-0.75, sd, 6, needed - 1)
    seeds = f"{likely} to {needed}"
    assert answer_of(text)[1:] == [
        f"Not settled: **activation: tanh** against relu (about {seeds} seeds in all would settle it)."
    ]
    # 4 of the 64 sign patterns have a mean as far from 0: -5.5/6 (one flip), -4.5/6, and their mirror images;
    # 4/64 / 0.8 = 0.078; the mean is -0.75 / 0.612 deviations
    assert rows_of(text, IN_FULL) == [
        [
            *(
                "activation",
                "tanh",
                "relu",
                "inconclusive",
                "6",
                "-0.75",
                r"\[-1.00, +0.50\]",
                "0.078",
                "0.078",
            ),
            *("83 %", "-1.2", seeds),
        ]
    ]
    section = text[text.index("## Add the seeds") : text.index("## Results")]
    assert f"about {seeds} seeds in all that give a pair would settle 1 comparison that is open." in section
    assert f"python run.py -m activation=relu,tanh 'seed=range(6,{needed})'" in section


def chance_of_settling(mean: float, sd: float, n: int, seeds: int) -> float:
    """Of one comparison without a margin at a second look with so many seeds in all, drawn 200,000 times."""
    rng = np.random.default_rng(0)
    spread = sd * math.sqrt((seeds - n) / (n * seeds))
    means = mean + spread * rng.standard_t(n - 1, 200_000)
    share = 0.2 * (1 - n / seeds)
    return float(np.mean(np.abs(means) * math.sqrt(seeds) / sd > stats.t.isf(0.05 * share / 2, seeds - 1)))


def test_too_few_seeds_are_never_called_insignificant(store, tmp_path):
    planted(store, [-1.0, -1.1, -0.9])
    _, text = compiled(tmp_path)
    assert answer_of(text)[1:] == [
        "Not settled: **activation: tanh** against relu (about 6 seeds in all would settle it)."
    ]
    assert rows_of(text, "## Verdicts")[0][3:] == ["too few seeds", "-1.00", "3"]
    assert "At an error of 5 % a comparison takes 6 seeds at least." in text
    assert "python run.py -m activation=relu,tanh 'seed=range(3,6)'" in text
    assert "significant" not in text


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python run.py +study=activation seed=3", "python run.py +study=activation 'seed=range(3,6)'"),
        ("python run.py activation=tanh", "python run.py -m activation=tanh 'seed=range(3,6)'"),
        ("python run.py --multirun 'name=a b'", "python run.py --multirun 'name=a b' 'seed=range(3,6)'"),
        (None, "Add runs with further seeds to the same experiment and compile this report again."),
    ],
)
def test_the_command_that_adds_seeds_is_the_one_that_made_the_runs(store, tmp_path, command, expected):
    planted(store, [-1.0, -1.1, -0.9], a_study("activation", command=command))
    assert expected in compiled(tmp_path)[1].splitlines()


def test_seeds_with_gaps_are_all_asked_for(store, tmp_path):
    store.keep(a_study("activation"))
    for seed in (3, 7):
        store.add(5.0, seed=seed)
        store.add(4.0, seed=seed, activation="tanh")
    assert "python run.py -m activation=relu,tanh 'seed=range(6)'" in compiled(tmp_path)[1]


def test_added_seeds_join_the_old_ones(store, tmp_path):
    planted(store, [-1.0, -1.1, -0.9])
    for seed, difference in ((3, -1.0), (4, -1.2), (5, -0.8)):
        store.add(5.0, seed=seed, invocation="2")
        store.add(5.0 + difference, seed=seed, invocation="2", activation="tanh")
    _, text = compiled(tmp_path)
    assert rows_of(text, "## Verdicts")[0][3:] == ["better", r"-1.00 \[-1.20, -0.80\]", "6"]


def test_a_difference_too_small_for_any_budget_asks_for_no_seeds(store, tmp_path):
    planted(store, [-1.0, 1.0, -1.0, 1.0, -1.0, 2.2])
    _, text = compiled(tmp_path)
    (row,) = rows_of(text, IN_FULL)
    assert row[3] == "inconclusive"
    assert int(row[-1].partition(" ")[0]) > 50
    assert "seed=range" not in text[text.index("## Add the seeds") : text.index("## Results")]
    assert f"(activation: tanh against relu, {row[-1]} seeds)" in text


# Grids


def planted_grid(store, amounts, study: Study | None = None) -> None:
    """Average pooling costs tanh, and nobody else, the given amounts, seed by seed."""
    store.keep(study or a_study("activation", "pool", question="Does it?"))
    for seed, amount in enumerate(amounts):
        for activation in ("relu", "tanh"):
            for pool in ("max", "avg"):
                cost = amount if (activation, pool) == ("tanh", "avg") else 0
                store.add(5 + cost, seed=seed, factors="activation,pool", activation=activation, pool=pool)


SPACED = [1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25]


def test_a_planted_interaction_is_named_and_what_depends_on_it(store, tmp_path):
    planted_grid(store, SPACED)
    _, text = compiled(tmp_path)
    assert text.startswith("# s\n\n*Does it?*\n\n- ")
    assert answer_of(text)[1:] == [
        "**activation: tanh** against relu depends on pool: worse with avg (+2.38; +1.75 to +3.00), no difference that "
        "matters with max (+0.00; +0.00 to +0.00) percentage points; **pool: avg** against max depends on activation: "
        "no difference that matters with relu (+0.00; +0.00 to +0.00), worse with tanh (+2.38; +1.75 to +3.00) "
        "percentage points.",
    ]
    assert rows_of(text, "## Verdicts") == [
        ["activation", "tanh", "relu", "worse", r"+1.19 \[+0.88, +1.50\]", "8"],
        ["pool", "avg", "max", "worse", r"+1.19 \[+0.88, +1.50\]", "8"],
        ["activation × pool", "tanh × avg", "relu × max", "worse", r"+2.38 \[+1.75, +3.00\]", "8"],
    ]
    # three times 2/256 / 0.8
    assert [row[7:9] for row in rows_of(text, IN_FULL)] == [["0.010", "0.029"]] * 3
    assert "3 comparisons share an error of 5 % (Holm), which takes 8 seeds at least." in text


def test_the_levels_of_the_other_factor_have_a_table_and_a_family_of_their_own(store, tmp_path):
    planted_grid(store, SPACED)
    result, text = compiled(tmp_path)
    nothing = "no difference that matters"
    assert [row[:5] + row[6:9:2] for row in rows_of(text, "### Where it depends")] == [
        ["activation", "tanh", "relu", "pool=avg", "worse", "+2.38", "0.020"],  # 2 · 2/256 / 0.8
        ["activation", "tanh", "relu", "pool=max", nothing, "+0.00", "1.000"],
        ["pool", "avg", "max", "activation=relu", nothing, "+0.00", "1.000"],
        ["pool", "avg", "max", "activation=tanh", "worse", "+2.38", "0.020"],
    ]
    assert "beside that of the comparisons above; 2 of them take 7 seeds at least." in text
    effects = pd.read_csv(result.path.parent / "effects.csv", keep_default_na=False)
    assert effects["at"].tolist() == [
        "",
        "",
        "",
        "pool=avg",
        "pool=max",
        "activation=relu",
        "activation=tanh",
    ]
    assert effects["seeds_needed"].tolist()[:3] == ["", "", ""]


def test_one_factor_at_a_time_has_no_interactions(store, tmp_path):
    planted_grid(store, SPACED, a_study("activation", "pool", design="one_at_a_time"))
    _, text = compiled(tmp_path)
    assert [row[0] for row in rows_of(text, "## Verdicts")] == ["activation", "pool"]


@pytest.mark.parametrize("design", ["grid", "one_at_a_time"])
def test_an_average_is_said_only_where_there_are_several_settings(store, tmp_path, design):
    store.keep(a_study("activation", "pool", design=design))
    for seed in range(7):
        for activation, pool, error in (("relu", "max", 5), ("tanh", "max", 6), ("relu", "avg", 7)):
            more = {"factors": "activation,pool", "activation": activation, "pool": pool}
            store.add(error + seed % 3 / 4, seed=seed, **more)
    text = compiled(tmp_path)[1]
    assert "**activation: tanh** against relu is worse: its test error" in text
    assert "averaged over" not in text
    assert "averaged over the other factors" not in text


@pytest.mark.parametrize(
    ("together", "margin", "said"),
    [
        (0.5, 0.1, "Nothing shows so far that the effect of one factor depends on another."),
        (
            0.5,
            0.6,
            "The effect of one factor does not depend on another by as much as matters (0.60 percentage points).",
        ),
        (0.0, 0.0, "The effect of one factor does not depend on another."),
    ],
)
def test_no_interaction_is_said_to_be_none(store, tmp_path, together, margin, said):
    store.keep(a_study("activation", "pool", margin=margin))
    for seed in range(8):
        for i, activation in enumerate(("relu", "tanh")):
            for j, pool in enumerate(("max", "avg")):
                error = 5 + i + 2 * j + 0.25 * seed + (together * (-1) ** seed if i and j else 0)
                store.add(error, seed=seed, factors="activation,pool", activation=activation, pool=pool)
    assert answer_of(compiled(tmp_path)[1])[2:] == [said]


def test_too_few_seeds_do_not_deny_an_interaction(store, tmp_path):
    planted_grid(store, SPACED[:3])
    sentences = answer_of(compiled(tmp_path)[1])
    assert sentences[1:] == [
        "With 3 seeds nothing can be said yet: so many comparisons need 8 seeds at least."
    ]


def test_an_interaction_with_too_few_seeds_is_not_denied(store, tmp_path):
    """One level of three has three seeds alone."""
    store.keep(a_study("activation", "pool"))
    levels = ("relu", "tanh", "sigmoid")
    for seed, activation, pool in itertools.product(range(8), levels, ("max", "avg")):
        if activation != "sigmoid" or seed < 3:
            error = 5.0 + levels.index(activation) + seed / 8
            store.add(error, seed=seed, factors="activation,pool", activation=activation, pool=pool)
    text = compiled(tmp_path)[1]
    assert [(row[1], row[3], row[5]) for row in rows_of(text, "## Verdicts")] == [
        ("sigmoid", "too few seeds", "3"),
        ("tanh", "worse", "8"),
        ("avg", "too few seeds", "3"),
        ("sigmoid × avg", "too few seeds", "3"),
        ("tanh × avg", "no difference that matters", "8"),
    ]
    assert answer_of(text)[2] == "Whether the effect of one factor depends on another cannot be said yet."


def test_several_interactions_are_counted_and_the_largest_spelt_out(store, tmp_path):
    factors = ("activation", "pool", "optimizer")
    store.keep(a_study(*factors))
    for seed in range(10):
        for a, p, o in itertools.product((0, 1), repeat=3):
            names = ("relu", "tanh")[a], ("max", "avg")[p], ("sgd", "adam")[o]
            error = 5.0 + 6 * a + 3 * p + 5 * o + 2 * a * p + 4 * a * o + seed / 8
            store.add(error, seed=seed, factors=",".join(factors), **dict(zip(factors, names, strict=True)))
    sentences = answer_of(compiled(tmp_path)[1])
    assert len(sentences) == 3
    # main effects, which no interaction outweighs: 6 + 1 + 2, 3 + 1, 5 + 2
    assert sentences[1].startswith(
        "**activation: tanh** against relu is worse on average over pool and optimizer: its test error is 9.00 "
        "percentage points higher (9.00 to 9.00); **optimizer: adam** against sgd is worse"
    )
    assert sentences[2] == (
        "**activation and optimizer depend on each other** (and so does 1 other pair): tanh and adam together do 4.00 "
        "percentage points worse than each alone lets one expect."
    )


def test_many_comparisons_are_counted_and_the_largest_spelt_out(store, tmp_path):
    store.keep(a_study("activation"))
    for seed in range(10):
        store.add(5.0, seed=seed)
        for level in range(1, 11):
            store.add(5.0 + level, seed=seed, activation=f"a{level}")
    text = compiled(tmp_path)[1]
    higher = "**activation: a{0}** against relu is worse: its test error is {0}.00 percentage points higher "
    higher += "({0}.00 to {0}.00); "
    assert answer_of(text)[1:] == [
        "".join(higher.format(level) for level in (10, 9, 8, 7, 6)) + "5 more are settled, too."
    ]
    facts = dict(rows_of(text, "## What was run"))
    assert facts["runs"] == "110, of which 110 finished"
    assert facts["seeds"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert facts["epochs"] == "2"
    assert facts["data set"] == "digits: 1,150 training, 360 test images"


# Pairs


@pytest.mark.parametrize("tag", ["stream", "data_sha256"])
def test_runs_with_foreign_fingerprints_are_not_paired(store, tmp_path, tag):
    planted(store, [-1.0, -1.2, 5.0, -0.8, -1.1, -0.9, -1.0])
    store.rows[5][f"tags.{tag}"] = "another"  # of tanh with seed 2
    _, text = compiled(tmp_path)
    assert rows_of(text, "## Verdicts")[0][3:] == ["better", r"-1.00 \[-1.20, -0.80\]", "6"]
    assert (
        "**Not paired**: seed 2. Runs with different fingerprints of their random streams or data are no pairs."
    ) in text


def test_what_can_never_be_paired_asks_for_no_seeds(store, tmp_path):
    planted(store, [-1.0, -1.2, -0.8])
    for seed in range(3):
        store.add(4.0, seed=seed, activation="sigmoid", tags={"stream": f"another of seed {seed}"})
    _, text = compiled(tmp_path)
    assert [row[1:6] + row[11:] for row in rows_of(text, IN_FULL)] == [
        ["sigmoid", "relu", "too few seeds", "0", "–", ""],
        ["tanh", "relu", "too few seeds", "3", "-1.00", "7"],
    ]
    assert (
        "**Not paired**: seeds 0, 1, 2 (activation: sigmoid against relu). Runs with different fingerprints of their "
        "random streams or data are no pairs; where that is all there is, further seeds give none either."
    ) in text
    assert "would settle 1 comparison that is open" in text
    assert answer_of(text)[-1] == (
        "**activation: sigmoid** against relu: no seed gave a pair, so nothing can be said; "
        "not settled: **activation: tanh** against relu (about 7 seeds in all would settle it)."
    )


def test_different_numbers_of_epochs_are_all_given(store, tmp_path):
    for epochs in (2, 50, 3, 10):
        for activation in ("relu", "tanh"):
            store.add(5.0, activation=activation, **{"trainer.epochs": epochs})
    assert "| epochs | 2, 3, 10, 50 |" in compiled(tmp_path)[1]


def test_runs_without_fingerprints_are_paired_on_trust(store, tmp_path):
    planted(store, [-1.0, -1.2, -0.8, -1.1, -0.9, -1.0], tags={"stream": None, "data_sha256": None})
    _, text = compiled(tmp_path)
    assert rows_of(text, "## Verdicts")[0][3] == "better"
    assert "Paired by the number of the seed alone" in text


def test_a_diverged_run_is_counted_named_and_leaves_its_seed_unpaired(store, tmp_path):
    planted(store, [-1.0, -1.2, -0.8, -1.1, -0.9, -1.0])
    store.add(5.0, seed=6)
    diverged = {"failure": "diverged", "failure_reason": "loss is nan in epoch 2"}
    store.add(None, seed=6, activation="tanh", status="FAILED", tags=diverged)
    result, text = compiled(tmp_path)
    assert result.failed == 1
    assert answer_of(text)[0] == (
        "**activation=tanh** has the lowest mean test error: 4.00 % on average over 6 seeds, though only 6 of its 7 "
        "runs finished."
    )
    assert "**1 of 14 runs gave no result**, in 1 variant" in text
    assert "activation: tanh against relu is without 1 seed (seed 6: activation=tanh diverged)" in text
    assert rows_of(text, "## Failed runs") == [
        ["activation=tanh seed=6", "6", "FAILED", "diverged: loss is nan in epoch 2"]
    ]


def test_seeds_that_gave_no_pair_are_made_up_for(store, tmp_path):
    planted(store, [-1.0, -1.1, -0.9])
    store.rows[3] |= {"status": "FAILED", "tags.failure": "diverged"}  # tanh with seed 1
    _, text = compiled(tmp_path)
    # two pairs of three seeds: four more are needed for six
    assert "'seed=range(3,7)'" in text


def test_names_of_levels_are_never_read_as_reasons(store, tmp_path):
    """A level called `different_lr` whose runs were stopped is not foreign, and more seeds can settle it."""
    store.keep(a_study("activation"))
    for seed in range(6):
        store.add(5.0, seed=seed)
        stopped = {"failure": "interrupted"}
        store.add(None, seed=seed, status="FAILED", activation="different_lr", tags=stopped)
    text = compiled(tmp_path)[1]
    assert rows_of(text, IN_FULL)[0][1:5] == ["different_lr", "relu", "too few seeds", "0"]
    assert rows_of(text, IN_FULL)[0][-1] == "6"
    assert "**Not paired**" not in text
    assert "is without 6 seeds (seed 0: activation=different_lr crashed; " in text


@pytest.mark.parametrize(
    ("status", "tags", "reason"),
    [
        ("FAILED", {"failure": "diverged", "failure_reason": "the loss is nan"}, "diverged: the loss is nan"),
        ("FAILED", {"failure": "error", "failure_reason": "lr: no number"}, "error: lr: no number"),
        ("FAILED", {}, "no reason was logged"),
        ("FINISHED", {}, "no finite test/error_pct was logged"),
    ],
    ids=["diverged", "refused", "unsaid", "without result"],
)
def test_a_variant_that_always_fails_needs_no_seeds(store, tmp_path, status, tags, reason):
    planted(store, [-1.0, -1.1, -0.9])
    for seed in range(3):
        store.add(None, seed=seed, activation="wild", status=status, tags=tags)
    text = compiled(tmp_path)[1]
    rows = rows_of(text, IN_FULL)
    assert [(row[1], row[3], row[4], row[-1]) for row in rows] == [
        ("tanh", "too few seeds", "3", "7"),
        ("wild", "no result", "0", ""),
    ]
    assert (
        f"**activation: wild** against relu: none of its 3 runs gave a result ({reason}), so nothing" in text
    )
    assert "about 7 seeds in all that give a pair would settle 1 comparison" in text


def test_where_all_is_hopeless_no_seeds_are_advised(store, tmp_path):
    store.keep(a_study("activation"))
    for seed in range(3):
        store.add(5.0, seed=seed, activation="tanh")
        store.add(None, seed=seed, status="FAILED", tags={"failure": "diverged"})
    text = compiled(tmp_path)[1]
    assert "none of the 3 runs of activation=relu gave a result (diverged), so nothing can be said." in text
    assert "Add the seeds" not in text


def test_one_setting_that_always_fails_stops_all_that_needs_it(store, tmp_path):
    store.keep(a_study("activation", "pool"))
    for seed, activation, pool in itertools.product(range(3), ("relu", "tanh"), ("max", "avg")):
        lost = (activation, pool) == ("tanh", "avg")
        failure = {"status": "FAILED", "tags": {"failure": "diverged"}} if lost else {}
        chosen = {"factors": "activation,pool", "activation": activation, "pool": pool}
        store.add(None if lost else 5.0, seed=seed, **chosen, **failure)
    text = compiled(tmp_path)[1]
    assert [row[-1] for row in rows_of(text, IN_FULL)] == ["", "", ""]
    assert text.count("none of the 3 runs of activation=tanh pool=avg gave a result (diverged)") == 2
    assert "depends on another" not in text
    assert "Add the seeds" not in text


def test_a_run_that_did_not_learn_is_named(store, tmp_path):
    planted(store, [-1.0, -1.1, -0.9])
    store.add(90.0, seed=0, activation="deaf", tags={"did_not_learn": "true"})
    result, text = compiled(tmp_path)
    assert (
        "**1 run did not learn**, in 1 variant: it reads the test images no better than always answering"
        in text
    )
    assert [row[2] for row in rows_of(text, "## Runs")] == ["FINISHED"] * 6 + ["FINISHED, did not learn"]
    assert "did_not_learn" in (result.path.parent / "runs.csv").read_text(encoding="utf-8")


def crossed_names(store) -> None:
    """`planted_grid` of the factors `size × depth` and `pool`, whose levels have crosses, too."""
    baseline = {"size × depth": "2 × 2", "pool": "max × 1"}
    store.keep(Study("s", tuple(baseline), baseline, "test/error_pct", 0.1, command=COMMAND, **UNSAID))
    for seed, more in enumerate(SPACED):
        for size, high in (("2 × 2", 0), ("4 × 4", 1)):
            for pool, both in (("max × 1", 0), ("avg × 1", 1)):
                error = 5.0 + more * high * both
                chosen = {"size × depth": size, "pool": pool}
                store.add(error, seed=seed, factors=",".join(baseline), predictions=True, **chosen)


def test_a_cross_in_a_name_is_a_letter_like_any_other(store, tmp_path):
    crossed_names(store)
    result, text = compiled(tmp_path)
    assert [row[:4] for row in rows_of(text, "## Verdicts")] == [
        ["size × depth", "4 × 4", "2 × 2", "worse"],
        ["pool", "avg × 1", "max × 1", "worse"],
        ["size × depth × pool", "4 × 4 × avg × 1", "2 × 2 × max × 1", "worse"],
    ]
    assert answer_of(text)[1].startswith(
        "**size × depth: 4 × 4** against 2 × 2 depends on pool: worse with avg × 1 (+2.38; +1.75 to +3.00), no "
    )
    effects = pd.read_csv(result.path.parent / "effects.csv")
    assert effects["factor"].tolist()[:3] == ["size × depth", "pool", "size × depth × pool"]
    assert effects["variant"].tolist()[:3] == ["4 × 4", "avg × 1", "4 × 4 × avg × 1"]
    assert check("s", None, folder=tmp_path / "reports").endswith("32 runs, 3 comparisons")
    assert "size × depth × pool" in result.summary


def test_a_factor_with_a_cross_and_no_second_factor_is_no_interaction(store, tmp_path):
    store.keep(Study("s", ("a × b",), {"a × b": "1"}, "test/error_pct", 0.1, **UNSAID))
    for seed in range(6):
        for level, error in (("1", 5.0), ("2", 4.0)):
            store.add(error, seed=seed, factors="a × b", **{"a × b": level})
    text = compiled(tmp_path)[1]
    assert answer_of(text)[1:] == [
        "**a × b: 2** against 1 is better: its test error is 1.00 percentage points lower (1.00 to 1.00)."
    ]
    assert "difference of differences" not in text


# What was run


def test_what_is_the_same_for_all_is_told_from_the_params(store, tmp_path):
    planted(store, [-1.0, -1.0], distortion="planar", brand_new="thing", **{"optimizer.lr": 0.1, "a.b": 1})
    facts = dict(rows_of(compiled(tmp_path)[1], "## What was run"))
    assert facts["the same for all"] == "brand_new=thing, distortion=planar, pool=max, optimizer.lr=0.1"


def test_levels_have_one_order_everywhere(store, tmp_path):
    store.keep(Study("s", ("net",), {"net": "v1"}, "test/error_pct", 0.1, **UNSAID))
    for seed in range(2):
        for level in ("v10", "v2", "v1"):
            store.add(5.0, seed=seed, factors="net", net=level)
    text = compiled(tmp_path)[1]
    assert [row[1] for row in rows_of(text, "## Verdicts")] == ["v2", "v10"]
    assert [row[0] for row in rows_of(text, "## Results")] == ["v1", "v2", "v10"]
    assert "| varied: net | v1, v2, v10 |" in text


# Nuisance factors


def test_a_nuisance_factor_is_chosen_on_validation_and_compared_on_test(store, tmp_path):
    store.keep(
        a_study(
            "optimizer", nuisance=("optimizer.lr",), design="one_at_a_time", command="python run.py +study=s"
        )
    )
    tried = {  # (test error, validation accuracy)
        ("sgd", "0.01"): (4.0, 0.90),
        ("sgd", "0.1"): (5.0, 0.95),
        ("sgd", "1"): (3.0, 0.80),
        ("adam", "0.001"): (4.0, 0.97),
        ("adam", "0.01"): (9.0, 0.96),
    }
    for seed in range(6):
        for (optimizer, rate), (error, validation) in tried.items():
            chosen = {"optimizer": optimizer, "optimizer.lr": rate}
            values = {"val/accuracy": validation}
            store.add(error, seed=seed, factors="optimizer,optimizer.lr", metrics=values, **chosen)
    failed = {"optimizer": "sgd", "optimizer.lr": "10"}
    store.add(None, seed=0, status="FAILED", tags={"failure": "diverged"}, **failed)
    result, text = compiled(tmp_path)

    assert rows_of(text, "## What each variant was given") == [
        ["adam", "0.001 (edge of its grid)", "0.001, 0.01", "2", "12", "0", "0.9700"],
        ["sgd", "0.1", "0.01, 0.1, 1, 10", "4", "19", "1", "0.9500"],
    ]
    assert "**At the edge of its grid**: optimizer=adam." in text
    (row,) = rows_of(text, "## Verdicts")
    assert row == ["optimizer", "adam", "sgd", "better", r"-1.00 \[-1.00, -1.00\]", "6"]
    assert [row[:3] for row in rows_of(text, "## Results")] == [
        ["adam", "6", "4.00 ± 0.00"],
        ["sgd", "6", "5.00 ± 0.00"],
    ]
    assert "**1 of 31 runs gave no result**" in text
    table = pd.read_csv(result.path.parent / "runs.csv", dtype=str)
    assert len(table) == 31
    assert list(table)[:6] == ["run_id", "run_name", "status", "optimizer", "optimizer.lr", "seed"]


# Claims and costs


def test_claims_are_answered_with_their_evidence(store, tmp_path):
    def claim(text: str, variant: str, baseline: str, **more: object) -> dict:
        made = {
            "text": text,
            "source": "A | B 1998",
            "factor": "activation",
            "variant": variant,
            "baseline": baseline,
        }
        return made | more

    study = a_study(
        "activation",
        target={"metric": "val/accuracy", "value": 0.8},
        claims=(
            claim("Sigmoid errs less.", "sigmoid", "relu"),
            claim("Sigmoid errs more.", "sigmoid", "relu", direction="worse"),
            claim("ReLU is there sooner.", "relu", "sigmoid", metric="epochs_to_target", margin=1),
        ),
    )
    store.keep(study)
    for seed in range(7):
        # validation accuracy after epoch t: 0.94 - 0.5 · 0.4^t and 0.79 - 0.5 · 0.4^t: reached after the second, never
        store.add(5.0, seed=seed, epochs=3)
        store.add(20.0, seed=seed, epochs=3, activation="sigmoid")
    _, text = compiled(tmp_path)

    # twice 2/128 / 0.8
    evidence = r"test error (%), sigmoid − relu: +15.00 \[+15.00, +15.00\], p (Holm) = 0.039, n = 7"
    assert rows_of(text, "## Claims") == [
        ["Sigmoid errs less.", r"A \| B 1998", "refuted", evidence],
        ["Sigmoid errs more.", r"A \| B 1998", "supported", evidence],
        [
            *("ReLU is there sooner.", r"A \| B 1998", "supported"),
            r"epochs to validation accuracy 0.8, relu − sigmoid: -2.0 \[-2.0, -2.0\], p (Holm) = 0.039, n = 7",
        ],
    ]
    assert rows_of(text, "## Costs") == [
        ["relu", "61,706", "1.50", "4.5", "2.0"],
        ["sigmoid", "61,706", "1.50", "4.5", "4.0"],
    ]
    assert "epochs to validation accuracy 0.8" in text
    for table in ("## Verdicts", IN_FULL):
        assert [row[:4] for row in rows_of(text, table)] == [
            ["activation", "sigmoid", "relu", "test error (%)"],
            ["activation", "relu", "sigmoid", "epochs to validation accuracy 0.8"],
        ]


def test_a_claim_about_too_few_seeds_is_answered_so(store, tmp_path):
    claim = {"text": "It is.", "source": "S", "factor": "activation", "variant": "tanh", "baseline": "relu"}
    planted(store, [-1.0, -1.0], a_study("activation", claims=(claim,)))
    (row,) = rows_of(compiled(tmp_path)[1], "## Claims")
    assert row[2] == "too few seeds"
    assert row[3] == "test error (%), tanh − relu: -1.00 no limits, p (Holm) = 0.625, n = 2"  # 2/4 / 0.8


def test_costs_have_connections_and_macs_where_they_were_logged(store, tmp_path):
    counted = {"network.connections": "340908", "network.macs": "281640"}
    planted(store, [-1.0, -1.0], **counted)
    _, text = compiled(tmp_path)
    assert (
        "| activation | parameters | connections | MACs per image | seconds/epoch | seconds of training |"
        in text
    )
    assert rows_of(text, "## Costs")[0] == ["tanh", "61,706", "340,908", "281,640", "1.50", "3.0"]


# Tables for other programs


def test_effects_csv_has_the_promised_columns_with_twelve_digits(store, tmp_path):
    thirds = [-1 / 3, -2 / 3, -1.0, -4 / 3, -5 / 3, -2.0]
    planted(store, thirds)
    result, _ = compiled(tmp_path)
    text = (result.path.parent / "effects.csv").read_text()
    (row,) = csv.DictReader(io.StringIO(text))
    assert text.splitlines()[0] == (
        "factor,variant,baseline,metric,n,mean_diff,ci_low,ci_high,p,p_holm,prob_better,effect_size,verdict,seeds_needed,"
        "seeds_needed_at_least,looks,settled_at,at,wide_low,wide_high,share_seeds,share_images"
    )
    found = comparisons(store.runs(), ["activation"], {"activation": "relu"}, "test/error_pct")
    computed = tabulate(found, 0.1, True).iloc[0]
    for name in ("mean_diff", "ci_low", "ci_high", "p", "p_holm", "prob_better", "effect_size"):
        assert float(row[name]) == computed[name]
    assert float(row["ci_low"]) == (5.0 - 2.0) - 5.0
    assert float(row["mean_diff"]) == -1.16666666667
    assert row["p"] == "0.0390625"  # 2/64 / 0.8
    names = ("metric", "n", "verdict", "seeds_needed", "seeds_needed_at_least", "looks", "settled_at")
    assert [row[name] for name in names] == ["test/error_pct", "6", "better", "", "", "1", "1"]


def test_runs_csv_has_what_the_report_was_made_from(store, tmp_path):
    planted_grid(store, SPACED)
    store.add(None, seed=8, factors="activation,pool", status="FAILED", tags={"failure": "diverged"})
    result, _ = compiled(tmp_path)
    home = result.path.parent
    text = (home / "runs.csv").read_text(encoding="utf-8")
    study = Study.from_json(store.studies[next(iter(store.studies))])
    metrics = {column: f"metrics.{name}" for column, name in {"test_error_pct": "test/error_pct"}.items()}
    runs = runs_from_csv(text, study, metrics)
    assert list(runs["metrics.test/error_pct"].dropna()) == [
        row["metrics.test/error_pct"]
        for run_id in runs["run_id"]
        for row in store.rows
        if row["run_id"] == run_id and "metrics.test/error_pct" in row
    ]
    again = analyse(study, runs, (), strict=True)
    assert files.effects_csv(again) == (home / "effects.csv").read_text(encoding="utf-8")
    assert [row[3] for row in rows_of((home / "README.md").read_text("utf-8"), "## Failed runs")] == [
        "diverged"
    ]


def test_verdicts_tex_is_a_booktabs_table_that_latex_can_read(store, tmp_path):
    study = Study("a_b", ("opt",), {"opt": "a_b"}, "test/error_pct", 0.1, **UNSAID)
    store.keep(study)
    for seed, difference in enumerate([-1.0, -1.2, -0.8, -1.1, -0.9, -1.0]):
        store.add(5.0, sweep="a_b", factors="opt", seed=seed, opt="a_b")
        store.add(5.0 + difference, sweep="a_b", factors="opt", seed=seed, opt=r"50% {x}&\y~^#$")
    result, _ = compiled(tmp_path)
    lines = (result.path.parent / "verdicts.tex").read_text().splitlines()
    assert lines == [
        r"% a\_b: variant - baseline, test error (\%), paired by seed; sign-flip test, Holm",
        r"\begin{tabular}{lllrrrrl}",
        r"\toprule",
        r"factor & variant & baseline & $n$ & difference & 95\,\% interval & $p_\mathrm{Holm}$ & verdict \\",
        r"\midrule",
        r"opt & 50\% \{x\}\&\textbackslash{}y\textasciitilde{}\textasciicircum{}\#\$ & a\_b & 6 & $-$1.00 & "
        r"[$-$1.20, $-$0.80] & 0.039 & better \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_effects_csv_and_the_interface_agree():
    assert list(files.EFFECTS)[:17] == [
        *("factor", "variant", "baseline", "metric", "n", "mean_diff", "ci_low", "ci_high", "p", "p_holm"),
        *("prob_better", "effect_size", "verdict", "seeds_needed"),
        *("seeds_needed_at_least", "looks", "settled_at"),
    ]


# Another view of a sweep


def test_a_sweep_can_be_asked_about_another_metric(store, tmp_path):
    planted(store, [-1.0, -1.2, -0.8, -1.1, -0.9, -1.0])
    request = Request(metric="val/accuracy", baseline={"activation": "tanh"}, margin=0.001)
    text = compile_report("s", folder=tmp_path / "reports", request=request).path.read_text(encoding="utf-8")
    # accuracy = 1 - error / 99
    assert answer_of(text)[1:] == [
        "**activation: relu** against tanh is worse: its validation accuracy is 0.010 lower (0.008 to 0.012)."
    ]
