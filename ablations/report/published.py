"""Published figures beside ours: the part of a report whose study, a YAML file, has any."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ablations import markdown as md
from ablations.study import Study

if TYPE_CHECKING:
    import pandas as pd

# How a metric is shown: in which words, times what, with how many decimals.
SHOWN = {
    "test/error_pct": ("test error (%)", 1, 2),
    "test/accuracy": ("test accuracy (%)", 100, 2),
    "val/accuracy": ("validation accuracy (%)", 100, 2),
    "test/softmax_loss": ("loss of a softmax over the outputs", 1, 3),
    "test/softmax_confidence": ("confidence of that softmax (%)", 100, 1),
    "test/loss": ("test loss", 1, 3),
    "test/confidence": ("confidence (%)", 100, 1),
}


def published(runs: "pd.DataFrame", study: Study) -> Iterator[str]:
    """Paragraphs that set the study's published figures beside those of its runs, one experiment after the other.

    Nothing for a study without published figures. `runs` are as the report ranked them, with the columns `finished`,
    `epoch_s` and `train_s`.
    """
    if not study.published:
        return
    figures, times, reasons = [], [], []
    for experiment, entry in study.published.items():
        mine = runs[(runs["params.experiment"] == experiment) & runs["finished"]]
        for metric, figure in entry["figures"].items():
            figures.append((entry["system"], *_beside(mine, metric, figure)))
        for metric in entry.get("shown", []):
            figures.append((entry["system"], *_beside(mine, metric, None)))
        then = entry.get("seconds_per_epoch")
        times.append(
            (
                entry["system"],
                md.NO_SPREAD if then is None else str(then),
                md.number(mine["epoch_s"].min()),
                md.number(mine["train_s"].min() / 60, 1),
            )
        )
        if why := entry.get("why"):
            reasons.append(f"- **{md.escaped(entry['system'])}**: {md.escaped(why)}")

    yield "## Published and ours"
    head = ("system", "figure", "published", "ours: mean", "lowest to highest", "seeds", "ours − published")
    yield md.table(head, figures, numeric=5)
    yield "### Why they differ where they do"
    yield "\n".join(reasons)
    yield "### Seconds per epoch, then and now"
    yield md.table(("system", "then", "now", "minutes of a whole training now"), times, numeric=3)
    yield (
        f"Then: as published, on its author's machine; {md.NO_SPREAD} where nothing was. "
        "Now: the least disturbed seed, its median epoch and its whole training, on the machine below, one thread "
        "for each run."
    )
    for heading, text in study.sections.items():
        yield f"### {md.escaped(heading)}"
        yield md.escaped(text)


def _beside(runs: "pd.DataFrame", metric: str, figure: float | None) -> tuple[str, ...]:
    words, times, decimals = SHOWN[metric]
    ours = runs.get(f"metrics.{metric}")
    if ours is None or ours.dropna().empty:
        said = md.NO_SPREAD if figure is None else f"{times * figure:.{decimals}f}"
        return (words, said, md.NO_SPREAD, md.NO_SPREAD, "0", md.NO_SPREAD)
    ours = times * ours.dropna()
    mean = ours.mean()
    return (
        words,
        md.NO_SPREAD if figure is None else f"{times * figure:.{decimals}f}",
        f"{mean:.{decimals}f}",
        f"{ours.min():.{decimals}f} to {ours.max():.{decimals}f}",
        str(len(ours)),
        md.NO_SPREAD if figure is None else f"{mean - times * figure:+.{decimals}f}",
    )
