"""What a report says of each design, from runs whose numbers were planted."""

from dataclasses import replace
from itertools import product

import pytest
from test_report import answer_of, compiled, rows_of

from ablations.comparison.variants import with_times
from ablations.report.analysis import analyse
from ablations.report.check import check
from ablations.report.drawings import drawings
from ablations.report.naming import short_name, title, variant_name
from ablations.report.request import UNSAID
from ablations.tracking.study import Study

pytestmark = pytest.mark.usefixtures("without_figures")

LEVELS = {
    "activation": ("tanh", "relu"),
    "pool": ("avg", "max"),
    "c3": ("sparse", "full"),
    "head": ("mse", "softmax"),
}


def a_study(*factors: str, **other: object) -> Study:
    defaults = {"metric": "test/error_pct", "margin": 0.1, **UNSAID}
    return Study("s", factors, {key: LEVELS[key][0] for key in factors}, **defaults | other)


def planted(store, study: Study, settings, error, seeds: int = 8) -> None:
    store.keep(study)
    for seed, setting in product(range(seeds), settings):
        levels = dict(zip(study.factors, setting, strict=True))
        store.add(error(seed, *setting), seed=seed, factors=",".join(study.factors), **levels)


def follows(tmp_path, store) -> None:
    assert "follow from" in check("s", store, tmp_path / "reports")


def test_a_ladder_is_told_step_by_step_and_as_a_whole(store, tmp_path):
    study = a_study(
        "activation", "pool", design="ladder", steps={key: LEVELS[key] for key in ("activation", "pool")}
    )
    reached = {("tanh", "avg"): 5.0, ("relu", "avg"): 4.0, ("relu", "max"): 4.5}
    planted(store, study, reached, lambda seed, *at: reached[at] + seed / 10)
    _, text = compiled(tmp_path)
    assert rows_of(text, "## Verdicts") == [
        ["activation", "relu", "tanh", "better", r"-1.00 \[-1.00, -1.00\]", "8"],
        ["pool", "max", "avg", "worse", r"+0.50 \[+0.50, +0.50\]", "8"],
        ["all steps", "last", "first", "better", r"-0.50 \[-0.50, -0.50\]", "8"],
    ]
    assert "A ladder: each step keeps all changes before it" in text
    assert "3 comparisons share an error of 5 % (Holm)" in text
    assert "**all steps: last** against first is better" in answer_of(text)[1]
    follows(tmp_path, store)


def test_add_one_in_says_where_it_starts(store, tmp_path):
    study = a_study("activation", "pool", design="add_one_in")
    reached = {("tanh", "avg"): 5.0, ("relu", "avg"): 4.0, ("tanh", "max"): 4.5}
    planted(store, study, reached, lambda seed, *at: reached[at] + seed / 10)
    _, text = compiled(tmp_path)
    assert "the runs start from *activation=tanh pool=avg*, the opposite of the full system" in text
    assert rows_of(text, "## Verdicts") == [
        ["activation", "relu", "tanh", "better", r"-1.00 \[-1.00, -1.00\]", "8"],
        ["pool", "max", "avg", "better", r"-0.50 \[-0.50, -0.50\]", "8"],
    ]


def test_a_fraction_gives_main_effects_and_names_what_it_cannot_tell_apart(store, tmp_path):
    study = a_study(*LEVELS, design="fraction", brings={})
    half = [
        tuple(of[at] for of, at in zip(LEVELS.values(), (*three, sum(three) % 2), strict=True))
        for three in product((0, 1), repeat=3)
    ]

    def error(seed, activation, pool, c3, head):
        both = 2.0 * (activation == "relu" and pool == "max")
        return 5.0 - (c3 == "full") + both + seed / 10

    planted(store, study, half, error)
    _, text = compiled(tmp_path)
    assert [row[:4] for row in rows_of(text, "## Verdicts")] == [
        ["activation", "relu", "tanh", "worse"],  # half of what it does together with the pooling
        ["pool", "max", "avg", "worse"],
        ["c3", "full", "sparse", "better"],
        ["head", "softmax", "mse", "no difference that matters"],
    ]
    assert "8 of the 16 combinations of two levels each were run" in text
    assert rows_of(text, "### Which interactions cannot be told apart") == [
        ["activation × pool = c3 × head", "+2.00", r"\[+2.00, +2.00\]"],
        ["activation × c3 = pool × head", "+0.00", r"\[+0.00, +0.00\]"],
        ["activation × head = pool × c3", "+0.00", r"\[+0.00, +0.00\]"],
    ]
    assert "the interaction of activation and pool cannot be told from that of c3 and head" in text
    assert "Confounded" not in text
    follows(tmp_path, store)


def test_a_filter_says_what_was_left_out(store, tmp_path):
    where = "not (activation == 'relu' and pool == 'max') or `x|<b>"
    study = a_study("activation", "pool", where=where)
    reached = {("tanh", "avg"): 5.0, ("relu", "avg"): 4.0, ("tanh", "max"): 4.5}
    planted(store, study, reached, lambda seed, *at: reached[at] + seed / 10)
    _, text = compiled(tmp_path)
    assert (
        "Only combinations with `not (activation == 'relu' and pool == 'max') or 'x|<b>` were run: 3 of the 4 that "
        "these levels make. Left out: activation=relu pool=max. A level"
    ) in text
    follows(tmp_path, store)


def named(store, study: Study) -> tuple[dict[tuple[str, ...], str], str, list[str]]:
    """Of each setting its name in figures, what the names are, and the names in sentences, best first."""
    everything = with_times(store.runs(), store.histories(list(store.runs()["run_id"])), study.target)
    analysis = analyse(study, everything, (), strict=True)
    rows = analysis.variants.to_dict("records")
    found = {
        tuple(row[f"params.{key}"] for key in study.factors): short_name(row, analysis.study) for row in rows
    }
    return found, title(study), [variant_name(row, analysis.study) for row in rows]


def test_figures_name_the_steps_of_a_ladder_in_whatever_order_they_are_added(store):
    factors = ("activation", "pool", "c3")
    steps = {key: LEVELS[key] for key in ("c3", "activation", "pool")}
    study = a_study(*factors, design="ladder", steps=steps)
    reached = {
        ("tanh", "avg", "sparse"): "start",
        ("tanh", "avg", "full"): "+ c3=full",
        ("relu", "avg", "full"): "+ activation=relu",
        ("relu", "max", "full"): "+ pool=max",
    }
    planted(store, study, reached, lambda seed, *at: 5 - list(reached).index(at) + seed / 10, seeds=2)
    assert named(store, study) == (
        reached,
        "step of the ladder",
        [
            *(f"{step[2:]} on top of the steps before it" for step in reversed(list(reached.values())[1:])),
            "the start",
        ],
    )


@pytest.mark.parametrize("design", ["one_at_a_time", "add_one_in"])
def test_figures_name_what_is_changed_alone(store, design):
    study = a_study("activation", "pool", design=design)
    names = {("tanh", "avg"): "baseline", ("relu", "avg"): "activation=relu", ("tanh", "max"): "pool=max"}
    planted(store, study, names, lambda seed, *at: 5 - list(names).index(at) + seed / 10, seeds=2)
    spoken = ["pool=max alone", "activation=relu alone", "the baseline"]
    assert named(store, study) == (names, "change to the baseline", spoken)


def test_figures_name_the_levels_of_a_grid_and_of_a_single_factor(store):
    study = a_study("activation", "pool", design="grid")
    names = {("tanh", "avg"): "tanh, avg", ("relu", "avg"): "relu, avg", ("relu", "max"): "relu, max"}
    planted(store, study, names, lambda seed, *at: 5 - list(names).index(at) + seed / 10, seeds=2)
    spoken = ["activation=relu pool=max", "activation=relu pool=avg", "activation=tanh pool=avg"]
    assert named(store, study) == (names, "activation, pool", spoken)
    alone = a_study("activation", design="one_at_a_time")
    assert set(named(store, alone)[0].items()) == {(("tanh",), "tanh"), (("relu",), "relu")}


@pytest.mark.parametrize(
    ("design", "drawn"), [("grid", True), ("one_at_a_time", False), ("add_one_in", False)]
)
def test_means_over_a_grid_are_drawn_only_where_choices_were_crossed(store, design, drawn):
    """Where one choice at a time was changed a cell would be a mean over unlike variants."""
    study = a_study("activation", "pool", design=design)
    settings = [("tanh", "avg"), ("relu", "avg"), ("tanh", "max")]
    planted(store, study, settings, lambda seed, *at: 5 - settings.index(at) + seed / 10, seeds=2)
    histories = store.histories(list(store.runs()["run_id"]))
    analysis = analyse(study, with_times(store.runs(), histories, study.target), (), strict=True)
    stems = [drawing.stem for drawing in drawings(store, analysis, histories)]
    assert ("value_grid" in stems) == drawn
    assert "main_effects" in stems


def test_a_claim_is_answered_by_the_effects_at_each_level_with_their_numbers(store, tmp_path):
    claim = {"text": "No worse.", "source": "S", "factor": "pool", "variant": "max", "baseline": "avg"}
    claims = ({**claim, "direction": "not_worse"}, claim)
    study = a_study("activation", "pool", design="grid", claims=claims)
    reached = {("tanh", "avg"): 5.0, ("relu", "avg"): 5.0, ("tanh", "max"): 5.0, ("relu", "max"): 3.0}
    planted(store, study, reached, lambda seed, *at: reached[at] + seed / 10, seeds=10)
    _, text = compiled(tmp_path)
    at = r"test error (%), max − avg, at activation=relu: -2.00 \[-2.00, -2.00\], p (Holm) = 0.005, n = 10"
    first, second = rows_of(text, "## Claims")
    assert (first[2], second[2]) == ("supported", "depends")
    assert at in first[3]
    assert r"; at activation=tanh: +0.00 \[+0.00, +0.00\], p (Holm) = 1.000, n = 10" in first[3]
    assert "-1.00" not in first[3]  # the average


def test_what_a_level_brings_is_named_and_what_follows_from_it_is_not(store, tmp_path):
    """Of a factor with a dot its own section is what stands below it, not what stands beside."""
    study = Study("s", ("trainer.epochs",), {"trainer.epochs": "2"}, "test/error_pct", 0.1, **UNSAID)
    store.keep(replace(study, brings={"trainer.epochs": {"4": ["trainer.batch_size"]}}))
    for seed, (epochs, batch) in product(range(8), ((2, 32), (4, 8))):
        beside = {"trainer.batch_size": batch, "trainer.epochs/warm_up": epochs, "n_params": batch}
        store.add(5 - epochs / 2 + seed / 10, seed=seed, factors="trainer.epochs", epochs=epochs, **beside)
    _, settled = answer_of(compiled(tmp_path)[1])
    assert settled.startswith("**trainer.epochs: 4** against 2 (with trainer.batch_size=8) is better: ")


def test_a_data_set_does_not_bring_its_own_digest(store, tmp_path):
    study = Study("s", ("dataset",), {"dataset": "digits"}, "test/error_pct", 0.1, **UNSAID)
    store.keep(study)
    for seed, name in product(range(8), ("digits", "mnist")):
        told = dict.fromkeys(("config_hash", "data_sha256", "stream")) | {"dataset_digest": f"of {name}"}
        store.add(len(name) + seed / 10, seed=seed, factors="dataset", dataset=name, tags=told)
    text = compiled(tmp_path)[1]
    assert "Varied with the factor by design: mnist against digits: dataset_digest" in text
    assert answer_of(text)[1].startswith("**dataset: mnist** against digits is better: ")


@pytest.mark.parametrize(("on_mnist", "finding"), [(1.0, "depends"), (-2.0, "supported")])
def test_a_claim_is_answered_by_every_data_set(store, tmp_path, on_mnist, finding):
    claim = {"text": "…", "source": "S", "factor": "activation", "variant": "relu", "baseline": "tanh"}
    claim["direction"] = "better"
    store.keep(a_study("activation", claims=(claim,), blocks="dataset"))
    for seed, (data, effect) in product(range(8), {"digits": -1.0, "mnist": on_mnist}.items()):
        for activation, error in {"tanh": 5.0, "relu": 5.0 + effect}.items():
            told = {"data_sha256": data}
            store.add(error + seed / 10, seed=seed, activation=activation, dataset=data, tags=told)
    (row,) = rows_of(compiled(tmp_path)[1], "## Claims")
    assert row[2] == finding
    assert r"relu − tanh, at digits: -1.00 \[-1.00, -1.00\], p (Holm) = 0.020, n = 8; at mnist: " in row[3]


def test_one_value_is_no_grid_with_an_edge_and_more_values_are_more_tuning(store, tmp_path):
    study = a_study("activation", design="one_at_a_time", nuisance=("optimizer.lr",))
    store.keep(study)
    for seed in range(6):
        store.add(5.0, seed=seed, activation="tanh", **{"optimizer.lr": "0.1"})
        for rate in ("0.1", "0.2"):
            store.add(4.0, seed=seed, activation="relu", **{"optimizer.lr": rate})
    text = compiled(tmp_path)[1].partition("## What each variant was given")[2]
    assert "**At the edge of its grid**: activation=relu. A better value" in text
    assert "**Unequal tuning**: activation=relu chose among 2 combinations, the others among fewer." in text
