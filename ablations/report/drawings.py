"""The figures of a report, each with what to see in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ablations import figure_data, plots, statistics
from ablations import markdown as md
from ablations.report.analysis import Analysis
from ablations.report.words import variant_label
from ablations.tracking.reader import Reader
from ablations.verdicts import BETWEEN, Contrast

CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
GRID_LEVELS = 24
SEEDS_COMPARED = 20  # of a variant, whose readings of the test images are looked at
UNREADABLE = (OSError, ValueError, KeyError, EOFError, BadZipFile)

# Everything that a report can draw: what it no longer has is taken away, what others put beside it stays.
STEMS = (
    "forest",
    "main_effects",
    "interactions",
    "seed_slopes",
    "value_by_variant",
    "learning_curves",
    "value_grid",
    "value_against_time",
    "confusion_matrix",
    "disagreements",
    "inside",
)


@dataclass(frozen=True)
class Drawing:
    """A figure with what to say about it; not `drawn` where only the reason for its absence is said."""

    stem: str
    heading: str
    caption: str
    figure: Figure | None = None


def drawings(reader: Reader, analysis: Analysis, histories: pd.DataFrame) -> Iterator[Drawing]:
    """The figures that these runs allow, in the order of the report."""
    study, runs, table = analysis.study, analysis.runs, analysis.variants
    label = md.plain(study.label)
    best = statistics.best_run(runs, label, study.smaller)
    if best is None:
        return
    done = runs[runs["finished"]]
    labels = [_values(row, study.factors) or "all runs" for row in table.to_dict("records")]
    title = ", ".join(map(md.plain, study.factors))
    without = int((table["n"] == 0).sum())
    note = f" {md.many(without, 'variant')} without a finished run cannot be shown." if without else ""

    yield from _effects(analysis, label)
    yield _values_by_variant(done, labels, title, label, len(table), study.smaller, note)
    yield _curves(histories, runs, labels, title, label, len(table), note)
    if len(study.factors) >= 2:
        yield _grid(table, study.factors, label)
    yield _against_time(done, labels, title, label, study.smaller)
    yield _confusion(reader, *best)
    yield from _disagreements(reader, analysis, labels)
    yield from _inside(reader, *best)


def _effects(analysis: Analysis, label: str) -> Iterator[Drawing]:
    study = analysis.study
    table = analysis.effects[analysis.effects["metric"] == study.metric]
    if table.empty:
        return
    caption = (
        "Each point is a mean paired difference to the baseline, the bar its 95 % interval. Right or "
        "left of 0 with the "
        "whole bar: a difference that chance does not explain"
    )
    caption += "; all within the band: one too small to matter." if study.margin else "."
    if not np.isfinite(table["ci_low"]).all():
        caption += " Dashed: with fewer than six seeds there is no finite interval."
    figure = plots.forest(table, study.noun, study.unit, study.margin, study.smaller)
    yield Drawing("forest", "Differences to the baseline", caption, figure)

    runs = analysis.runs
    if len(study.factors) > 1:
        means = figure_data.marginal_means(runs, study.factors)
        if means["n"].any():
            caption = (
                "The mean at each level of a factor, averaged over the settings of the others; the bar "
                "reaches from the lowest "
                "to the highest seed. The steeper the line, the more the factor matters."
            )
            yield Drawing("main_effects", "Main effects", caption, plots.main_effects(means, label))
        means = figure_data.interaction_means(runs, study.factors)
        if len(means) and means["n"].any():
            caption = (
                "Parallel lines: the two factors act independently. Lines that converge or cross: what "
                "the one is worth depends on the other."
            )
            yield Drawing("interactions", "Interactions", caption, plots.interactions(means, label))

    slope = _steepest(analysis)
    if slope is not None:
        pairs = figure_data.seed_pairs(runs, slope)
        said = f"{md.escaped(slope.factor)}: {md.escaped(slope.variant)} against {md.escaped(slope.baseline)}"
        caption = (
            f"{said}, the clearest of the comparisons. Each thin line is one seed, both ends trained on "
            "the same split in the "
            "same order; when nearly all lines lean the same way the difference is no accident of the seed."
        )
        figure = plots.seed_slopes(pairs, slope.baseline, slope.variant, label, study.smaller)
        yield Drawing("seed_slopes", "Seed by seed", caption, figure)


def _steepest(analysis: Analysis) -> Contrast | None:
    """The main effect with the smallest p-value, of those the largest."""
    rows = analysis.effects.assign(at=range(len(analysis.effects)))
    rows = rows[
        (rows["metric"] == analysis.study.metric)
        & ~rows["factor"].str.contains(BETWEEN, regex=False)
        & (rows["n"] > 1)
    ]
    if rows.empty:
        return None
    order = rows.assign(size=-rows["effect_size"].abs()).sort_values(["p", "size", "at"], kind="stable")
    return analysis.contrasts[int(order["at"].iloc[0])]


def _values_by_variant(
    done: pd.DataFrame, labels: Sequence[str], title: str, label: str, many: int, smaller: bool, note: str
) -> Drawing:
    what = md.escaped(label[:1].upper() + label[1:])
    heading = f"{what} by {'variant' if many > 1 else 'run'}"
    caption = (
        f"Each point is one run, the bar their mean; further {'left' if smaller else 'right'} is better. "
    )
    caption += (
        "Where the points of two variants overlap, the seed moves the result as much as the choice does."
    )
    if many == 1:
        caption = "Each point is one run, the bar their mean: how far the seed alone moves it."
    if many > plots.SHOWN_VARIANTS:
        caption += f" The best {plots.SHOWN_VARIANTS} of {many} variants."
    figure = plots.values_by_variant(done, labels, label, title)
    return Drawing("value_by_variant", heading, caption + note, figure)


def _curves(
    histories: pd.DataFrame,
    runs: pd.DataFrame,
    labels: Sequence[str],
    title: str,
    label: str,
    many: int,
    note: str,
) -> Drawing:
    ours = histories[histories["metric"].isin(CURVES)]
    curves = statistics.curves(ours if len(ours) else histories, runs)
    if curves.empty or curves["step"].nunique() < 2:
        return Drawing("learning_curves", "Learning curves", "No metrics by epoch were logged.")
    what = "A line is a variant's mean over its seeds, the band reaches from the lowest to the highest seed"
    what = what if (curves["n"] > 1).any() else "A line is one run: with one seed there is no band"
    who = (
        ""
        if many <= plots.HIGHLIGHTED
        else f" In colour the {plots.HIGHLIGHTED} variants with the best mean {md.escaped(label)}."
    )
    measured = set(curves["metric"])
    part = " A gap that opens between the two sides is overfitting." if "val/loss" in measured else ""
    part = part or (" No validation metrics were logged." if measured & set(CURVES) else "")
    figure = plots.sweep_curves(curves, labels, title)
    return Drawing("learning_curves", "Learning curves", f"{what}.{who}{part}{note}", figure)


def _grid(table: pd.DataFrame, factors: Sequence[str], label: str) -> Drawing:
    levels = max(table[f"params.{key}"].nunique() for key in factors[:2])
    if levels > GRID_LEVELS:
        which = " × ".join(md.escaped(key) for key in factors[:2])
        return Drawing("value_grid", f"Means over {which}", f"Not drawn: {levels} levels in one factor.")
    grids = statistics.grids(table, factors)
    faceted = "" not in grids
    drawn = factors[: 3 if faceted else 2]
    heading = f"Mean {md.escaped(label)} over {' × '.join(md.escaped(key) for key in drawn)}"
    caption = (
        "Each cell is a mean over seeds. Where the step from row to row is the same in every column, "
        "the two choices act "
        "independently of each other. Grey: no finished run."
    )
    if len(drawn) < len(factors):
        caption += f" Averaged over {', '.join(md.escaped(key) for key in factors[len(drawn) :])}."
    rows, columns, *facet = (md.plain(key) for key in drawn)
    return Drawing(
        "value_grid", heading, caption, plots.value_grids(grids, f"mean {label}", rows, columns, *facet)
    )


def _against_time(
    done: pd.DataFrame, labels: Sequence[str], title: str, label: str, smaller: bool
) -> Drawing:
    heading = f"{md.escaped(label[:1].upper() + label[1:])} against training time"
    timed = done[done["train_s"].notna()]
    if timed.empty:
        return Drawing("value_against_time", heading, "No times by epoch were logged.")
    caption = (
        f"Each point is one run; {'lower' if smaller else 'upper'} left is better and quicker. Time is "
        "the sum over the run's "
        "epochs, on a machine that may have done other work."
    )
    return Drawing(
        "value_against_time", heading, caption, plots.value_against_time(timed, labels, label, title)
    )


def _confusion(reader: Reader, best: pd.Series, how: str) -> Drawing:
    """The best run's confusion matrix, or why there is none."""
    heading = "Confusion matrix of the best run"
    who = f"{md.escaped(best['run_name'])}, chosen by {md.escaped(how)}"
    try:
        saved = _arrays(reader, best["run_id"], "predictions.npz")
        if saved is None:
            return Drawing("confusion_matrix", heading, f"The run ({who}) has no `predictions.npz`.")
        labels, predictions = saved["labels"], saved["predictions"]
        classes = _classes(saved) or [str(i) for i in range(1 + int(max(labels.max(), predictions.max())))]
        figure = plots.confusion_matrix(labels, predictions, classes)
    except UNREADABLE:
        return Drawing(
            "confusion_matrix", heading, f"The `predictions.npz` of the run ({who}) cannot be read."
        )
    wrong = int((labels != predictions).sum())
    caption = (
        f"{who}: {wrong:,} of {len(labels):,} test images misread. Rows are the true classes, columns "
        "what was read; numbers "
        "count images, the colour is their share of the true class. Off the diagonal: mistakes."
    )
    return Drawing("confusion_matrix", heading, caption, figure)


def _disagreements(reader: Reader, analysis: Analysis, labels: Sequence[str]) -> Iterator[Drawing]:
    """What the baseline and the best other variant read differently; nothing where predictions are not
    at hand."""
    study, table = analysis.study, analysis.variants
    if not study.baseline:
        return
    keys = [f"params.{key}" for key in study.baseline]
    base = table[(table[keys] == list(study.baseline.values())).all(axis=1) & (table["n"] > 0)]
    others = table[(table["n"] > 0) & ~table.index.isin(base.index)]
    if base.empty or others.empty:
        return
    pair = (int(base.index[0]), int(others.index[0]))
    read: list[list[Mapping[str, np.ndarray]]] = []
    for variant in pair:
        ids = analysis.runs.loc[(analysis.runs["variant"] == variant) & analysis.runs["finished"], "run_id"]
        try:
            found = [_arrays(reader, run_id, "predictions.npz") for run_id in ids.head(SEEDS_COMPARED)]
        except UNREADABLE:
            return
        read.append([saved for saved in found if saved is not None and "misread_images" in saved])
    if not all(read):
        return
    try:
        found = figure_data.disagreement(*read)
    except (ValueError, KeyError):  # other test images, or none kept
        return
    names = tuple(_values(table.loc[variant].to_dict(), study.factors, 24) for variant in pair)
    full = [md.escaped(variant_label(table.loc[variant].to_dict(), study.factors)) for variant in pair]
    counts = (
        f"A is the baseline {full[0]}, B the best other variant {full[1]}. Of {found.total:,} test "
        "images A reads "
        f"{found.better[0]:,} more reliably over its seeds, B {found.better[1]:,}"
    )
    heading = "Where two variants disagree"
    if not len(found.images):
        yield Drawing("disagreements", heading, f"{counts}.")
        return
    caption = (
        f"{counts}. The clearest cases are drawn, each with its true class, what most runs of A and of B "
        "read, and how "
        "many of them read it rightly. Look for what they have in common: thin strokes, open loops, slant."
    )
    figure = plots.disagreements(
        found.images, found.pixels, found.runs, found.better, names, _classes(read[0][0])
    )
    yield Drawing("disagreements", heading, caption, figure)


def _inside(reader: Reader, best: pd.Series, how: str) -> Iterator[Drawing]:
    """The best run's first kernels and what its layers make of a test image; nothing where they were
    not kept."""
    try:
        model = _arrays(reader, best["run_id"], "model.npz")
        layers = _arrays(reader, best["run_id"], "features.npz")
        if model is None or layers is None:
            return
        image, probabilities = layers.pop("image"), layers.pop("probabilities")
        layers["output"] = probabilities
        classes = _classes(_arrays(reader, best["run_id"], "predictions.npz") or {})
        figure = plots.kernels_and_maps(image, model["C1.weight"], layers, classes)
    except UNREADABLE:
        return
    caption = (
        f"{md.escaped(best['run_name'])}, chosen by {md.escaped(how)}: the kernels of C1, and what each "
        "layer makes of the first "
        "test image. Early maps still look like the digit; from C5 on only codes are left."
    )
    yield Drawing("inside", "Inside the best run", caption, figure)


def _arrays(reader: Reader, run_id: str, name: str) -> dict[str, np.ndarray] | None:
    """The arrays of an artifact; None where the run has none of that name."""
    path: Path | None = reader.artifact(run_id, name)
    if path is None:
        return None
    with np.load(path, allow_pickle=False) as saved:
        return dict(saved)


def _classes(predictions: Mapping[str, np.ndarray]) -> list[str] | None:
    """The names of the classes; None where they are digits, and in runs of before names were kept."""
    names = predictions["classes"].tolist() if "classes" in predictions else []
    return names if names != list(map(str, range(len(names)))) else None


def _values(row: Mapping[str, object], factors: Sequence[str], width: int = 32) -> str:
    """A variant's levels for a figure; each is cut to its share of the width."""
    share = max(width // max(len(factors), 1) - 2, 5)
    texts = [md.plain(row[f"params.{key}"]) for key in factors]
    return ", ".join(text if len(text) <= share else text[: share - 1] + "…" for text in texts)
