"""Outcomes beside the study's own: which comparisons there are, what is said of them, and that nothing else changes."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from ablations.comparison.verdicts import judge
from ablations.plots.secondary import forests
from ablations.report import compile_report
from ablations.report.check import DoesNotFollow, check
from ablations.report.request import Request
from ablations.tracking import Store
from ablations.tracking.secondary import GROUPS, SECONDARY
from ablations.tracking.study import Study

pytestmark = pytest.mark.usefixtures("without_figures")

SEEDS = 10
TAGS = {"shift_sha256": "ab", "rejection_sha256": "cd"}


def planted(seed: int, activation: str, **better: float) -> dict[str, float]:
    """Every secondary outcome, equal for all but a seed's own part, and by name how much better tanh is."""
    own = np.random.default_rng([seed, *activation.encode()])
    values = {}
    for name, each in SECONDARY.items():
        values[name] = 0.5 + 0.05 * seed % 7 + 0.001 * own.standard_normal()
        if activation == "tanh":
            values[name] += better.get(name, 0.0) * (-1 if each.smaller else 1)
    return values


def add(store, seed: int, activation: str, error: float, metrics: dict | None, **more) -> None:
    store.add(error, seed=seed, activation=activation, metrics=metrics, tags=more.pop("tags", TAGS), **more)


@pytest.fixture
def filled(store):
    """Tanh: better by half a point, worse calibrated, better at non-digits."""
    for seed, activation in product(range(SEEDS), ("relu", "tanh")):
        metrics = planted(seed, activation, **{"test/ece": -0.1, "rejection/auroc": 0.1})
        error = 5 + seed % 3 / 4 - (0.5 + seed % 2 / 8) * (activation == "tanh")
        add(store, seed, activation, error, metrics | {"shift/rotation_15/error_pct": 10.0 + seed})
    return store


def report(tmp_path, name: str | None = "s", request: Request = Request()):  # noqa: B008
    return compile_report(name, folder=tmp_path, request=request)


def section(made) -> str:
    text = made.path.read_text("utf-8")
    return text.partition("## Other outcomes")[2].partition("\n## ")[0]


def test_verdicts_are_those_of_the_differences_in_a_family_of_their_own(filled, tmp_path):
    analysis = report(tmp_path).analysis
    assert [group.name for group in analysis.secondary] == list(GROUPS)
    runs = filled.runs()
    for group in analysis.secondary:
        metrics = list(GROUPS[group.name])
        assert group.effects["metric"].tolist() == metrics
        wide = {m: runs.pivot_table(f"metrics.{m}", "params.seed", "params.activation") for m in metrics}
        samples = [wide[m]["tanh"] - wide[m]["relu"] for m in metrics]
        expected = judge(samples, 0.0, [SECONDARY[m].smaller for m in metrics])
        assert group.effects["verdict"].tolist() == expected["verdict"].tolist()
        np.testing.assert_allclose(group.effects["p_holm"], expected["p_holm"])
        np.testing.assert_allclose(group.effects["mean_diff"], expected["mean_diff"])
    verdicts = {
        row["metric"]: row["verdict"]
        for group in analysis.secondary
        for row in group.effects.to_dict("records")
    }
    assert verdicts["test/ece"] == "worse"
    assert verdicts["rejection/auroc"] == "better"
    assert verdicts["test/brier"] == "inconclusive"


def test_what_a_choice_costs_is_in_the_answer(filled, tmp_path):
    said = report(tmp_path).summary.replace("\n", " ")
    assert (
        "activation: tanh against relu is better in test error and AUROC against non-digits, but worse in calibration "
        "error (secondary outcomes)."
    ) in said


@pytest.mark.parametrize(
    ("better", "expected"),
    [
        ({"test/ece": 0.1}, "does nothing for the test error, but is better in calibration error"),
        ({"test/nll": -0.1, "test/brier": -0.1}, "but is worse in Brier score and negative log-likelihood"),
        (
            {"test/nll": 0.1, "test/brier": -0.1},
            "is better in negative log-likelihood, but worse in Brier score",
        ),
        (
            dict.fromkeys(GROUPS["shift"], 0.1) | {"test/ece": 0.1},
            "moved and bent images, error on other strokes and 2 more",
        ),
        ({}, None),
    ],
)
def test_where_the_error_does_not_care(store, tmp_path, better, expected):
    for seed, activation in product(range(SEEDS), ("relu", "tanh")):
        add(store, seed, activation, 5.0, planted(seed, activation, **better))
    said = report(tmp_path).summary.replace("\n", " ")
    assert (expected in said) if expected else ("secondary" not in said)


def test_the_study_is_answered_as_if_nothing_else_had_been_measured(filled, tmp_path):
    home = report(tmp_path / "with").path.parent
    for row in filled.rows:
        for name in [key for key in row if key.removeprefix("metrics.") in SECONDARY or "rotation" in key]:
            del row[name]
    bare = report(tmp_path / "without").path.parent
    for name in ("effects.csv", "verdicts.tex"):
        assert (home / name).read_bytes() == (bare / name).read_bytes()
    assert not (bare / "outcomes.csv").exists()
    assert "Other outcomes" not in (bare / "README.md").read_text("utf-8")
    before, _, after = (home / "README.md").read_text("utf-8").partition("## Other outcomes")
    rest = before + after.partition("\n## ")[1].lstrip("\n") + after.partition("\n## ")[2]
    lines = [line for line in rest.splitlines() if "secondary" not in line]
    assert lines == (bare / "README.md").read_text("utf-8").splitlines()


def test_the_section(filled, tmp_path):
    made = report(tmp_path)
    text = section(made)
    assert "Main effects alone, as above." in text
    assert "3 comparisons of this group, which take 8 seeds at least." in text
    assert "| activation | tanh | relu | calibration error | worse | +0.099" in text
    assert "| shift/rotation_15/error_pct | 14.50 | 14.50 |" in text
    table = pd.read_csv(made.path.parent / "outcomes.csv")
    assert len(table) == len(SECONDARY)
    assert table.loc[table["metric"] == "test/ece", ["group", "verdict"]].values.tolist() == [
        ["calibration", "worse"]
    ]


def test_it_follows_from_the_store_and_from_its_own_runs(filled, tmp_path):
    home = report(tmp_path).path.parent
    assert "follow from the store" in check("s", Store(), folder=tmp_path)
    filled.rows.pop()
    assert "follow from its runs.csv" in check("s", Store(), folder=tmp_path)
    path = home / "outcomes.csv"
    path.write_text(path.read_text().replace("worse", "better", 1))
    with pytest.raises(DoesNotFollow, match=r"outcomes\.csv, line 3"):
        check("s", Store(), folder=tmp_path)


def test_other_pictures_are_no_pairs(store, tmp_path):
    for seed, activation in product(range(SEEDS), ("relu", "tanh")):
        other = seed < 2 and activation == "tanh"
        tags = TAGS | ({"rejection_sha256": "other letters"} if other else {})
        add(store, seed, activation, 5.0, planted(seed, activation), tags=tags)
    n = {group.name: set(group.effects["n"]) for group in report(tmp_path).analysis.secondary}
    assert n == {"calibration": {SEEDS}, "shift": {SEEDS}, "rejection": {SEEDS - 2}}


def test_what_a_head_does_not_give_is_not_compared(store, tmp_path):
    for seed, activation in product(range(SEEDS), ("relu", "tanh")):
        metrics = planted(seed, activation)
        if activation == "tanh":
            del metrics["test/nll"]
        add(store, seed, activation, 5.0, metrics)
    made = report(tmp_path)
    assert made.analysis.secondary[0].effects["metric"].tolist() == ["test/brier", "test/ece"]
    assert (
        "2 comparisons of this group, which take 7 seeds at least. 1 comparison without any pair"
        in section(made)
    )


def test_runs_of_before_are_left_out_of_it(store, tmp_path):
    for seed, activation in product(range(SEEDS), ("relu", "tanh")):
        old = seed < 3
        add(
            store, seed, activation, 5.0, None if old else planted(seed, activation), tags={} if old else TAGS
        )
    made = report(tmp_path)
    assert set(made.analysis.effects["n"]) == {SEEDS}
    assert all(set(group.effects["n"]) == {SEEDS - 3} for group in made.analysis.secondary)


def test_an_outcome_that_is_asked_for_is_not_secondary(filled, tmp_path):
    request = Request(metric="test/ece")
    analysis = report(tmp_path, request=request).analysis
    assert analysis.effects["verdict"].tolist() == ["worse"]
    assert "test/ece" not in analysis.secondary[0].effects["metric"].tolist()


DESIGNS = {
    "grid": {"design": "grid"},
    "blocks": {"design": "grid", "blocks": "fold"},
    "unpaired": {"design": "grid", "unpaired": True},
    "fraction": {"design": "fraction", "brings": {}},
    "ladder": {
        "design": "ladder",
        "steps": {"activation": ("relu", "tanh"), "pool": ("max", "avg")},
    },
}


@pytest.mark.slow  # many seconds; .ci/run has it
@pytest.mark.parametrize("name", DESIGNS)
def test_every_design(store, tmp_path, name):
    base = {"activation": "relu", "pool": "max"}
    study = Study("s", tuple(base), base, "test/error_pct", 0.1, tuned_on="val/accuracy", **DESIGNS[name])
    store.keep(study)
    for seed, activation, pool, fold in product(range(8), ("relu", "tanh"), ("max", "avg"), "ab"):
        if fold == "a" or name == "blocks":
            metrics = planted(seed, activation, **{"test/ece": -0.1})
            add(
                store,
                seed,
                activation,
                5 + seed / 8,
                metrics,
                pool=pool,
                factors="activation,pool",
                fold=fold,
            )
    made = report(tmp_path)
    main = made.analysis.effects["factors"].map(len) == 1
    joint = made.analysis.effects["factors"].map(len) > 1
    each = int(main.sum()) + (int(joint.sum()) if name == "ladder" else 0)
    for group in made.analysis.secondary:
        assert len(group.effects) == each * len(GROUPS[group.name])
    assert "## Other outcomes" in made.path.read_text("utf-8")
    assert "follow from the store" in check("s", Store(), folder=tmp_path)


# The figure


def test_a_column_for_each_outcome_and_a_line_for_each_choice(filled, tmp_path):
    group = report(tmp_path).analysis.secondary[0]
    from ablations.report.tables import in_words

    outcomes = {
        name: (each.noun, each.difference, each.smaller) for name, each in GROUPS["calibration"].items()
    }
    outcomes["rejection/auroc"] = ("never measured here", "", False)
    figure = forests(in_words(group.effects), outcomes)
    assert [axes.get_title() for axes in figure.axes] == [
        "Brier score",
        "calibration error",
        "negative log-likelihood",
    ]
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert names == ["activation, against relu", "tanh"]
    for axes, mean in zip(figure.axes, group.effects["mean_diff"], strict=True):
        marks = [line for line in axes.lines if line.get_marker() in "o^v" and len(line.get_xdata()) == 1]
        assert [(*map(float, line.get_xdata()), *line.get_ydata()) for line in marks] == [
            (pytest.approx(mean), 1)
        ]
    shown = {text.get_text() for text in figure.legends[0].get_texts()}
    assert shown == {"worse", "inconclusive"}


def test_no_figure_of_single_seeds(store, tmp_path):
    from ablations.report.drawings import _secondary

    for seeds in (1, 2):
        for activation in ("relu", "tanh"):
            add(store, seeds - 1, activation, 5.0, planted(seeds, activation))
        drawn = list(_secondary(report(tmp_path).analysis))
        assert [each.draw is not None for each in drawn] == [seeds == 2] * len(GROUPS)
    assert all(each.draw().axes for each in drawn)
