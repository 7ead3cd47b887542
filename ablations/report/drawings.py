"""The figures of a report, each with what to see in it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ablations.commands import many
from ablations.comparison.pairs import Comparison
from ablations.comparison.sizes import is_size
from ablations.comparison.variants import best_run
from ablations.plots.curves import curves, sweep_curves
from ablations.plots.disagreements import disagreement, disagreements
from ablations.plots.effects import forest, seed_pairs, seed_slopes
from ablations.plots.factors import interaction_means, interactions, main_effects, marginal_means
from ablations.plots.ladder import ladder, rungs
from ablations.plots.ranks import critical_difference
from ablations.plots.run import confusion_matrix, kernels_and_maps
from ablations.plots.secondary import forests
from ablations.plots.style import HIGHLIGHTED
from ablations.plots.tuning import best_by_trial, verdicts_by_trials
from ablations.plots.values import SHOWN_VARIANTS, grids, value_against_time, value_grids, values_by_variant
from ablations.report import blocks
from ablations.report.analysis import FRACTION, GRID, Analysis, steps_of
from ablations.report.escaping import BETWEEN, Markdown, md
from ablations.report.naming import levels, short_name, title, variant_name
from ablations.report.readings import MOST_CLASSES, arrays, predictions
from ablations.report.sizes import BySize
from ablations.report.tables import in_words
from ablations.tracking.arrays import Unreadable
from ablations.tracking.columns import column, param
from ablations.tracking.reader import Reader
from ablations.tracking.secondary import GROUPS
from ablations.tracking.study import Study, label

CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
GRID_LEVELS = 24
FEWEST_PAIRS = 6  # with a finite interval
SEEDS_COMPARED = 20  # of a variant, whose readings of the test images are looked at
MOST_LAYERS, MOST_VALUE = 32, 1e30
"""Of what is drawn; a file that says more is a damaged one."""

# What to see in a figure.
CAPTIONS = {
    "forest": "Each point is a mean{} difference to the {}, the bar its 95 % interval. Right or left of 0 "
    "with the whole bar: a difference that chance does not explain{}{}.",
    "main_effects": "The mean at each level of a factor, {}; the bar reaches from the lowest to the highest seed. The "
    "steeper the line, the more the factor matters.",
    "ladder": "Each step keeps the changes before it. Small points are seeds; {} The verdicts compare step with step, "
    "seed by seed, and are more certain than these bars look.",
    "ladder_interval": "the bar is the 95 % interval of the mean.",
    "ladder_range": "the bar reaches from the lowest to the highest: fewer than six have no finite interval.",
    "interactions": "Parallel lines: the two factors act independently. Lines that converge or cross: what the one is "
    "worth depends on the other.",
    "seed_slopes": "{}: {} against {}, the clearest of the comparisons. Each thin line is one seed, {}; when nearly "
    "all lines lean the same way the difference is no accident of the seed.",
    "ranks": "Further left is better. A thick bar joins variants whose mean ranks are not further apart than the "
    "critical difference: by the ranks alone they cannot be told apart over these values of {}.",
    "one_variant": "Each point is one run, the bar their mean: how far the seed alone moves it.",
    "value_by_variant": "Each point is one run, the bar their mean; further {} is better. Where the points of two "
    "variants overlap, the seed moves the result as much as the choice does.",
    "band": "A line is a variant's mean over its seeds, the band reaches from the lowest to the highest seed.",
    "no_band": "A line is one run: with one seed there is no band.",
    "value_grid": "Each cell is a mean over seeds. Where the step from row to row is the same in every column, the "
    "two choices act independently of each other.{}",
    "value_against_time": "Each point is one run; {} left is better and quicker. Time is the sum over the run's "
    "epochs, on a machine that may have done other work.",
    "confusion_matrix": "{}: {} of {} test images misread. Rows are the true classes, columns what was read; numbers "
    "count images, the colour is their share of the true class, logarithmic, so that few mistakes are seen. Off the "
    "diagonal: mistakes.",
    "agreement": "A is {}, with which the others are compared, B the best other variant, {}. Of {} test images A reads "
    "{} more reliably over its seeds, B {}.",
    "disagreements": "{} The clearest cases are drawn, each with its true class, what most runs of A and of B read, "
    "and how many of them read it rightly. Look for what they have in common: thin strokes, open loops, slant.",
    "calibration": "*Brier score*: squared distance of the shares that a network gives to the truth. *Calibration "
    "error*: how far its confidence is from how often it is right (15 bins of equal width of the largest share). "
    "*Negative log-likelihood*: −log of the true class's probability; a head without probabilities has none.",
    "shift": "Error on the test images, of many always the same 1,000, after small changes: *moved and bent* "
    "(translation, rotation, scaling, shear), *other strokes* (thicker, thinner), *blurred and noisy*, *inverted*. "
    "Each is the mean of its changes, which stand below one by one.",
    "rejection": "*Rejected for 0.5 % error*: the share of test images to be left to a person so that at most 0.5 % of "
    "the others are misread. Non-digits are letters, turned digits, patches and noise. *AUROC*: the probability that a "
    "digit looks surer than one of these; *accepted*: their share where 95 % of the digits are.",
    "tuning": "A line is the best mean over the seeds of the tuning so far, a point the mean of one trial. A line that "
    "still rises at its right end: more trials may find a better setting yet.",
    "tuning_verdicts": "Each column of points is the study as it would be had every variant stopped after so many "
    "trials: its difference to the baseline, the 95 % interval, and the verdict. Where marks change from left to right "
    "the verdict is one on how long was tuned.",
    "inside": "{}: the kernels of C1, and what each layer makes of the first test image. Early maps still look like "
    "the digit; from C5 on only codes are left.",
}


CANNOT_BE_READ = "The `{}` of the run ({}) cannot be read."


@dataclass(frozen=True)
class Drawing:
    """A figure with what to say about it, drawn when it is asked for; without one where only the reason for its absence
    is said, or where it is `kept`: it lies in the report's folder."""

    stem: str
    heading: Markdown
    caption: Markdown
    draw: Callable[[], Figure] | None = None
    kept: bool = False

    @property
    def shown(self) -> bool:
        """Whether there is a picture."""
        return self.kept or self.draw is not None


@dataclass(frozen=True)
class _Shown:
    """What several figures need: the finished runs, and how variants and values are called in them."""

    study: Study
    done: pd.DataFrame
    table: pd.DataFrame
    names: Sequence[str]
    title: str
    note: Markdown
    heading: str


def drawings(reader: Reader, analysis: Analysis, histories: pd.DataFrame) -> Iterator[Drawing]:
    """The figures that these runs allow, in the order of the report."""
    study, runs, table = analysis.study, analysis.runs, analysis.variants
    best = best_run(runs, study.smaller)
    if best is None:
        return
    names = [short_name(row, study) for row in table.to_dict("records")]
    without = int((table["n"] == 0).sum())
    note = md(" {} without a finished run cannot be shown.", many(without, "variant")) if without else md("")
    heading = study.label[:1].upper() + study.label[1:]
    shown = _Shown(study, runs[runs["finished"]], table, names, title(study), note, heading)
    run, by_validation = best
    by_outcome = f"the best {study.label} (no validation accuracy was logged)"
    how = "the highest validation accuracy" if by_validation else by_outcome
    chosen = md("{}, chosen by {}", run["run_name"], how)

    yield from _effects(analysis)
    yield from _ranks(analysis)
    yield _values_by_variant(shown)
    yield _curves(shown, histories, runs)
    if len(study.factors) >= 2 and study.design in (GRID, FRACTION):
        yield _grid(table, study)
    yield _against_time(shown)
    yield _confusion(reader, run, chosen)
    yield from _disagreements(reader, analysis)
    yield from _inside(reader, run, chosen)
    yield from _secondary(analysis)
    yield from _tuning(analysis)


def _effects(analysis: Analysis) -> Iterator[Drawing]:
    study, runs, label = analysis.study, analysis.runs, analysis.study.label
    table = analysis.effects[analysis.effects["metric"] == study.metric]
    if table.empty:
        return
    band = "; all within the band: one too small to matter" if analysis.margin else ""
    alone = " in a comparison by itself, while the verdict counts all of them" if len(table) > 1 else ""
    paired = md("" if study.unpaired else " paired")
    other = md("step before" if steps_of(study) else "baseline")
    caption = [md(CAPTIONS["forest"], paired, other, md(alone), md(band))]
    if not np.isfinite(table["ci_low"]).all():
        caption.append(md("Dashed: with fewer than six seeds there is no finite interval."))
    every, counted = analysis.all_effects, "runs" if study.unpaired else "pairs"
    drawn = in_words(every[every["metric"] == study.metric])
    figure = partial(forest, drawn, study.noun, study.unit, analysis.margin, study.smaller, counted)
    yield Drawing("forest", md("Differences to the {}", other), md(" ").join(caption), figure)

    yield from _by_size(analysis)
    yield from _levels(analysis)
    slope = _steepest(analysis)
    if slope is not None:
        (factor,), (variant,), (baseline,) = slope.factors, slope.variant, slope.baseline
        ends = "both ends trained on the same split in the same order"
        ends = "both ends trained on images of the same split" if is_size(factor) else ends
        ends = ends if slope.fingerprinted else "its two ends paired by its number alone"
        caption = md(CAPTIONS["seed_slopes"], factor, variant, baseline, ends)
        figure = partial(seed_slopes, seed_pairs(runs, slope), baseline, variant, label, study.smaller)
        yield Drawing("seed_slopes", md("Seed by seed"), caption, figure)


def _levels(analysis: Analysis) -> Iterator[Drawing]:
    """What each level reaches: along a ladder step by step, else averaged over the settings of the other factors."""
    study, runs, label = analysis.study, analysis.runs, analysis.study.label
    if steps := steps_of(study):
        reached = rungs(runs, steps)
        bar = CAPTIONS["ladder_interval" if reached["n"].min() >= FEWEST_PAIRS else "ladder_range"]
        yield Drawing(
            "ladder", md("Step by step"), md(CAPTIONS["ladder"], md(bar)), partial(ladder, reached, label)
        )
        return
    factors = study.factors if len(study.factors) > 1 else ()
    means = marginal_means(runs, factors, everywhere=study.design == FRACTION)
    crossed = study.design in (GRID, FRACTION)
    others = "averaged over the settings of the others" if crossed else "the others at the baseline"
    if means["n"].any():
        yield Drawing(
            "main_effects",
            md("Main effects"),
            md(CAPTIONS["main_effects"], others),
            partial(main_effects, means, label),
        )
    means = interaction_means(runs, factors)
    if means["n"].any():
        yield Drawing(
            "interactions",
            md("Interactions"),
            md(CAPTIONS["interactions"]),
            partial(interactions, means, label),
        )


def _by_size(analysis: Analysis) -> Iterator[Drawing]:
    """The outcome against the size of the training set, where that is a factor."""
    if found := BySize.of(analysis):
        names = [
            levels(dict(zip(map(param, found.others), each, strict=True)), found.others)
            for each in found.settings
        ]
        study = analysis.study
        heading = md("{} against {}", study.label[:1].upper() + study.label[1:], found.factor)
        yield Drawing("value_by_size", heading, found.caption, partial(found.figure, names))


def _ranks(analysis: Analysis) -> Iterator[Drawing]:
    """The critical-difference diagram of three variants or more."""
    ranks = analysis.ranks
    if ranks is None or len(ranks.variants) < 3:
        return
    names = blocks.names(analysis, list(ranks.ranks.index))
    figure = partial(critical_difference, list(ranks.ranks), names, ranks.critical, ranks.cliques)
    heading = md("Mean ranks over {}", analysis.study.blocks)
    yield Drawing("ranks", heading, md(CAPTIONS["ranks"], analysis.study.blocks), figure)


def _secondary(analysis: Analysis) -> Iterator[Drawing]:
    """Of each group of other outcomes the differences to the baseline, where there is an interval to any of them."""
    for group in analysis.secondary:
        outcomes = {
            name: (each.noun, each.difference, each.smaller) for name, each in GROUPS[group.name].items()
        }
        figure = (
            partial(forests, in_words(group.effects), outcomes) if (group.effects["n"] > 1).any() else None
        )
        yield Drawing(group.name, md("Differences in {}", group.name), md(CAPTIONS[group.name]), figure)


def _tuning(analysis: Analysis) -> Iterator[Drawing]:
    """How the best value of each variant moved with its trials, and the verdicts after so many of them."""
    study, found = analysis.study, analysis.trials
    if found is None or found.trials.empty:
        return
    keys = [param(key) for key in study.factors]
    order = {tuple(row[key] for key in keys): rank for rank, row in analysis.variants[keys].iterrows()}
    settings = zip(*(found.trials[key] for key in keys), strict=True) if keys else [()] * len(found.trials)
    trials = found.trials.assign(variant=[order.get(each, len(order)) for each in settings])
    names = [short_name(row, study) for row in analysis.variants.to_dict("records")]
    names.append("not evaluated")
    measured, most = label(study.tuned_on), study.tuning["trials"]
    accuracy = study.tuned_on.endswith("accuracy") and bool(trials["value"].dropna().between(0, 1).all())
    if trials["best"].notna().any():
        heading = md("{} by trial", measured[:1].upper() + measured[1:])
        figure = partial(best_by_trial, trials, names, f"best {measured}", title(study), most, accuracy)
        yield Drawing("tuning", heading, md(CAPTIONS["tuning"]), figure)
    rows = in_words(found.verdicts)
    if len(rows) and rows["after"].nunique() > 1:
        figure = partial(verdicts_by_trials, rows, study.noun, study.unit, analysis.margin, study.smaller)
        heading = md("The verdicts after fewer trials")
        yield Drawing("tuning_verdicts", heading, md(CAPTIONS["tuning_verdicts"]), figure)


def _steepest(analysis: Analysis) -> Comparison | None:
    """The main effect with the smallest p-value, of those the largest."""
    rows = analysis.effects.assign(at=range(len(analysis.effects)))
    seeded = np.array([bool(each.seeds) for each in analysis.comparisons], bool)
    rows = rows[
        seeded & (rows["metric"] == analysis.study.metric) & (rows["factors"].map(len) == 1) & (rows["n"] > 1)
    ]
    order = rows.assign(size=-rows["effect_size"].abs()).sort_values(["p", "size", "at"], kind="stable")
    return None if order.empty else analysis.comparisons[int(order["at"].iloc[0])]


def _values_by_variant(shown: _Shown) -> Drawing:
    study, variants = shown.study, len(shown.table)
    caption = [md(CAPTIONS["one_variant"])]
    if variants > 1:
        caption = [md(CAPTIONS["value_by_variant"], "left" if study.smaller else "right")]
    if variants > SHOWN_VARIANTS:
        caption.append(md("The best {} of {} variants.", SHOWN_VARIANTS, variants))
    heading = md("{} by {}", shown.heading, "variant" if variants > 1 else "run")
    figure = partial(values_by_variant, shown.done, shown.names, study.label, shown.title)
    return Drawing("value_by_variant", heading, md("{}{}", md(" ").join(caption), shown.note), figure)


def _curves(shown: _Shown, histories: pd.DataFrame, runs: pd.DataFrame) -> Drawing:
    heading = md("Learning curves")
    lines, ours = curves(histories, runs), histories["metric"].isin(CURVES).any()
    lines = lines[lines["metric"].isin(CURVES)] if ours else lines
    if lines.empty or lines["step"].nunique() < 2:
        why = "One epoch: nothing to draw." if ours else "No metrics by epoch were logged."
        return Drawing("learning_curves", heading, md("{}", why))
    caption = [md(CAPTIONS["band" if (lines["n"] > 1).any() else "no_band"])]
    if len(shown.table) > HIGHLIGHTED:
        best = md("In colour the {} variants with the best mean {}.", HIGHLIGHTED, shown.study.label)
        caption.append(best)
    lines, without = _without_rare_validation(lines)
    measured = set(lines["metric"])
    if without:
        caption.append(md("Not drawn: validation metrics, which {} of {} variants have.", *without))
    elif "val/loss" in measured:
        caption.append(md("A gap that opens between the two sides is overfitting."))
    elif measured & set(CURVES):
        caption.append(md("No validation metrics were logged."))
    if measured & {"train/loss", "val/loss"} and column(runs, param("head")).nunique() > 1:
        caption.append(md("Losses of different heads are different quantities; compare them within a head."))
    figure = partial(sweep_curves, lines, shown.names, shown.title)
    return Drawing("learning_curves", heading, md("{}{}", md(" ").join(caption), shown.note), figure)


def _without_rare_validation(lines: pd.DataFrame) -> tuple[pd.DataFrame, tuple[int, ...]]:
    """The curves without those of validation where fewer than half of the variants have them, and of those how many
    have them and how many variants there are; panels for them would be all but empty."""
    validation = lines["metric"].isin([name for name in CURVES if name.startswith("val/")])
    have, variants = lines["variant"][validation].nunique(), lines["variant"].nunique()
    return (lines[~validation], (have, variants)) if 0 < have < variants / 2 else (lines, ())


def _grid(table: pd.DataFrame, study: Study) -> Drawing:
    factors = study.factors
    levels = max(table[param(key)].nunique() for key in factors[:2])
    if levels > GRID_LEVELS:
        heading = md("Means over {}", BETWEEN.join(factors[:2]))
        return Drawing("value_grid", heading, md("Not drawn: {} levels in one factor.", levels))
    means = grids(table, factors)
    drawn = factors[: 2 if "" in means else 3]
    gaps = any(grid.isna().any(axis=None) for grid in means.values())
    caption = [md(CAPTIONS["value_grid"], md(" Hatched: no finished run." if gaps else ""))]
    if len(drawn) < len(factors):
        caption.append(md("Averaged over {}.", ", ".join(factors[len(drawn) :])))
    heading = md("Mean {} over {}", study.label, BETWEEN.join(drawn))
    figure = partial(value_grids, means, f"mean {study.label}", *drawn)
    return Drawing("value_grid", heading, md(" ").join(caption), figure)


def _against_time(shown: _Shown) -> Drawing:
    stem, heading = "value_against_time", md("{} against training time", shown.heading)
    timed = shown.done[shown.done["train_s"].notna()]
    if timed.empty:
        return Drawing(stem, heading, md("No times by epoch were logged."))
    caption = md(CAPTIONS[stem], "lower" if shown.study.smaller else "upper")
    figure = partial(value_against_time, timed, shown.names, shown.study.label, shown.title)
    return Drawing(stem, heading, caption, figure)


def _confusion(reader: Reader, run: pd.Series, chosen: Markdown) -> Drawing:
    """The best run's confusion matrix, or why there is none."""
    stem, heading = "confusion_matrix", md("Confusion matrix of the best run")
    try:
        saved = predictions(reader, run["run_id"])
    except Unreadable:
        return Drawing(stem, heading, md(CANNOT_BE_READ, "predictions.npz", chosen))
    if saved is None:
        return Drawing(stem, heading, md("The run ({}) has no `predictions.npz`.", chosen))
    labels, read = saved["labels"], saved["predictions"]
    figure = partial(confusion_matrix, labels, read, named_classes(saved))
    wrong = int((labels != read).sum())
    return Drawing(stem, heading, md(CAPTIONS[stem], chosen, f"{wrong:,}", f"{len(labels):,}"), figure)


def _disagreements(reader: Reader, analysis: Analysis) -> Iterator[Drawing]:
    """What the baseline and the best other variant read differently; nothing without predictions of both."""
    study, table = analysis.study, analysis.variants
    if not study.baseline:
        return
    keys = [param(key) for key in study.baseline]
    base = table[(table[keys] == list(study.baseline.values())).all(axis=1) & (table["n"] > 0)]
    others = table[(table["n"] > 0) & ~table.index.isin(base.index)]
    if base.empty or others.empty:
        return
    pair = (int(base.index[0]), int(others.index[0]))
    done = analysis.runs[analysis.runs["finished"]]
    heading = md("Where two variants disagree")
    read: list[list[Mapping[str, np.ndarray]]] = [[], []]
    for variant, of_variant in zip(pair, read, strict=True):
        for _, run in done[done["variant"] == variant].head(SEEDS_COMPARED).iterrows():
            try:
                saved = predictions(reader, run["run_id"])
            except Unreadable:
                yield Drawing(
                    "disagreements", heading, md(CANNOT_BE_READ, "predictions.npz", run["run_name"])
                )
                return
            if saved is not None and "misread_images" in saved:
                of_variant.append(saved)
    try:
        found = disagreement(*read)
    except ValueError:  # other test images, or none kept
        return
    rows = [table.loc[variant].to_dict() for variant in pair]
    counts = (f"{count:,}" for count in (found.total, *found.better))
    caption = md(CAPTIONS["agreement"], *(variant_name(row, study) for row in rows), *counts)
    figure = None
    if len(found.images):
        caption = md(CAPTIONS["disagreements"], caption)
        names = [short_name(row, study) for row in rows]
        classes = _classes(read[0][0])
        last = found.images[["label", "first", "second"]].to_numpy().max()
        figure = partial(disagreements, found, names, classes if classes and last < len(classes) else None)
    yield Drawing("disagreements", heading, caption, figure)


def _inside(reader: Reader, run: pd.Series, chosen: Markdown) -> Iterator[Drawing]:
    """The best run's first kernels and what its layers make of a test image, where they were kept."""
    stem, heading = "inside", md("Inside the best run")
    found = {}
    for name in ("model.npz", "features.npz"):
        try:
            found[name] = arrays(reader, run["run_id"], name)
            if found[name] is None:
                return
            _require_layers(found[name], ["C1.weight"] if name == "model.npz" else ["image", "probabilities"])
        except Unreadable:
            yield Drawing(stem, heading, md(CANNOT_BE_READ, name, chosen))
            return
    layers = found["features.npz"]
    image, probabilities = layers.pop("image"), layers.pop("probabilities")
    layers["output"] = probabilities
    try:
        classes = _classes(predictions(reader, run["run_id"]) or {})
    except Unreadable:  # said above
        classes = None
    classes = classes if classes and len(classes) == len(probabilities) else None
    figure = partial(kernels_and_maps, image, found["model.npz"]["C1.weight"], layers, classes)
    yield Drawing(stem, heading, md(CAPTIONS["inside"], chosen), figure)


def _require_layers(saved: Mapping[str, np.ndarray], needed: Sequence[str]) -> None:
    """Raise Unreadable unless these are the arrays of layers, small enough to be drawn."""
    dimensions = {"image": (2,), "probabilities": (1,), "C1.weight": (3,)}
    drawn = {name: saved[name] for name in needed if name in saved}
    drawn |= saved if "C1.weight" not in needed else {}
    for name, array in drawn.items():
        fits = array.ndim in dimensions.get(name, (1, 3)) and array.size and array.dtype.kind in "iuf"
        if not fits or (np.abs(array[np.isfinite(array)].astype(float)) > MOST_VALUE).any():
            raise Unreadable(f"{name}: no layer of a network")
    lacking = set(needed) - set(drawn)
    if lacking or len(drawn) > MOST_LAYERS or drawn.get("probabilities", np.empty(0)).size > MOST_CLASSES:
        raise Unreadable("not what a network makes of an image")


def named_classes(saved: Mapping[str, np.ndarray]) -> list[str]:
    """The names of the classes that a run knew, or their numbers."""
    last = int(max(saved["labels"].max(), saved["predictions"].max()))
    return _classes(saved) or [str(i) for i in range(1 + last)]


def _classes(saved: Mapping[str, np.ndarray]) -> list[str] | None:
    """The names of the classes; None where they are digits, and in runs of before names were kept."""
    names = saved["classes"].tolist() if "classes" in saved else []
    return names if names != list(map(str, range(len(names)))) else None
