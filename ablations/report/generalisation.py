"""What a report says of other test images than those at hand."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ablations.commands import many
from ablations.comparison.images import POINTS
from ablations.comparison.verdicts import Verdict
from ablations.report.analysis import Analysis
from ablations.report.escaping import Markdown, md, table
from ablations.report.numbers import Form, forms
from ablations.report.tables import in_words

MOST_ROWS = 40

ABOUT = (
    "The verdicts are about {} test images, the same for all runs: they say what to expect of other seeds. On other "
    "images of the same kind a difference moves further; the interval over seeds and images takes both for drawn anew "
    "(crossed random effects, 95 %). That over seeds leaves room for further looks, so that it can be the wider one "
    "where the images hardly matter."
)
UNKNOWN = (
    "The verdicts are about these test images. Which of them each run read rightly is not known, so that nothing is "
    "said of other images."
)
LEGEND = (
    "*From seeds, images, both*: where the uncertainty comes from, as shares of the mean's variance (*both*: which "
    "seed reads which image). More seeds take away the first and the last, more test images the other two. *With any "
    "number of seeds*: half the width that would be left."
)
IMAGES = (
    "**More test images, not more seeds**: {} most of what is uncertain beyond these images would be left with any "
    "number of seeds ({})."
)
SEEDS = (
    "**More seeds still help**: {} they could take away most of what is uncertain beyond these images ({})."
)
ONLY_HERE = (
    "Settled on these images alone: {}. On others the difference may as well be 0, or lean the other way."
)
HEAD = (
    "comparison",
    "difference",
    "over seeds",
    "over seeds and images",
    "from seeds",
    "from images",
    "from both",
)


def on_other_images(analysis: Analysis) -> Iterator[Markdown]:
    """The intervals over seeds and images, and whether more seeds or more images would narrow them; of a metric that
    counts test images that these are not known."""
    effects = in_words(analysis.all_effects)
    known = effects[effects["wide_low"].notna()]
    unknown = effects["metric"].isin(POINTS) & (effects["n"] > 1) & effects["wide_low"].isna()
    if known.empty:
        if unknown.any() and not analysis.study.published:
            yield md(UNKNOWN)
        return
    sizes = sorted({int(images) for images in known["images"]})
    yield md("### On other test images")
    yield md(ABOUT, " or ".join(f"{size:,}" for size in sizes))
    form = forms(analysis)
    rows = [_row(row, form[row["metric"]]) for row in known.head(MOST_ROWS).to_dict("records")]
    yield table((*HEAD, "with any number of seeds"), rows, numeric=7)
    texts = [md(LEGEND)]
    if len(known) > len(rows):
        texts.append(md("The other {} are in effects.csv.", many(len(known) - len(rows), "comparison")))
    if lacking := int(unknown.sum()):
        texts.append(
            md(
                "Of {} the predictions of a run are missing or of another result.",
                many(lacking, "comparison"),
            )
        )
    yield md(" ").join(texts)
    yield from _what_helps(known)


def _row(row: Mapping[str, Any], form: Form) -> tuple[str, ...]:
    shares = (f"{100 * row[name]:.0f} %" for name in ("share_seeds", "share_images", "share_both"))
    ends = (form.interval(row[f"{kind}_low"], row[f"{kind}_high"]) for kind in ("ci", "wide"))
    return named_row(row), form.difference(row["mean_diff"]), *ends, *shares, f"±{form.value(row['floor'])}"


def named_row(row: Mapping[str, Any]) -> str:
    """A comparison in a cell: `pool: avg against max (activation=relu)`."""
    where = f" ({row['at']})" if row["at"] else ""
    return f"{row['factor']}: {row['variant']} against {row['baseline']}{where}"


def _what_helps(known: pd.DataFrame) -> Iterator[Markdown]:
    """Whether more seeds or more images would narrow the intervals, and what is settled on these images alone."""
    uncertain = known[known["wide_low"] < known["wide_high"]]
    by_images = uncertain["share_images"] > 0.5
    for text, chosen in ((IMAGES, by_images), (SEEDS, ~by_images)):
        if found := int(chosen.sum()):
            share = uncertain.loc[chosen, "share_images"]
            rest = share if text is IMAGES else 1 - share
            low, high = (f"{100 * each:.0f}" for each in (rest.min(), rest.max()))
            span = f"{low} %" if low == high else f"{low} to {high} %"
            of = "in" if len(uncertain) == 1 else f"in {found} of" if found < len(uncertain) else "in all"
            yield md(text, f"{of} {many(len(uncertain), 'comparison')}", span)
    lost = known[
        known["verdict"].isin((Verdict.BETTER, Verdict.WORSE))
        & (known["wide_low"] <= 0)
        & (known["wide_high"] >= 0)
    ]
    if len(lost):
        names = [named_row(row) for row in lost.head(6).to_dict("records")]
        more = [f"{len(lost) - 6} more"] if len(lost) > 6 else []
        yield md(ONLY_HERE, "; ".join([*names, *more]))
