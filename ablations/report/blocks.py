"""What a report says of variants over data sets or folds: a table for each, mean ranks, and which differ in them."""

from collections.abc import Iterator, Sequence

from ablations.commands import many
from ablations.comparison.blocks import Ranks
from ablations.comparison.tests import ALPHA
from ablations.report.analysis import Analysis
from ablations.report.escaping import Markdown, Tex, md, plain, table, tex
from ablations.report.numbers import NO_SPREAD, Form, number, p_value

FRIEDMAN = (
    "Friedman's test that all {} variants are equal over these {} {}: χ² = {}, {}. Two variants differ where their "
    "mean ranks are more than {} apart (Nemenyi, 5 %; Demšar 2006)."
)
UNTOLD = "{} has the better mean rank over {}; Wilcoxon's test cannot tell the two apart (p {})."
TWO = "With two variants there is no more to compare by rank than the test in the table."
LEGEND = (
    "Values are means{} over the seeds that all variants of a column have, the best of a column in bold. Mean ranks: "
    "1 is best, ties shared, over the {} {} that all variants have{}. *p*: Wilcoxon's signed-rank test against {} over "
    "these, *p (Holm)* after Holm's correction. Values of different columns are compared by rank alone."
)
UNDECIDED = (
    "Some comparisons are confounded (see above): the ranks describe what was run, not what the factor does."
)
NO_SEEDS = "Each variant has one run for each {}, so that nothing can be said within one."


def over_blocks(analysis: Analysis) -> Iterator[Markdown]:
    """The section of the ranks; nothing without blocks."""
    study, ranks = analysis.study, analysis.ranks
    if study.blocks is None:
        return
    yield md("## Over {}", study.blocks)
    if ranks is None:
        yield md(
            "Fewer than two variants or values of {} have results, so that there is nothing to rank.",
            study.blocks,
        )
        return
    head, rows = block_rows(analysis)
    yield table(head, rows, numeric=len(head) - 1)
    yield _legend(analysis, ranks)
    if confounded(analysis):
        yield md(UNDECIDED)
    if len(ranks.variants) == 2:
        yield md(TWO)
    else:
        statistic, p = ranks.friedman
        shown = f"p {_with_sign(p)}"
        counted = len(ranks.variants), len(ranks.blocks), f"values of {study.blocks}"
        yield md(FRIEDMAN, *counted, number(statistic, 2), shown, number(ranks.critical, 2))
    if (ranks.seeds < 2).all():
        yield md(NO_SEEDS, study.blocks)


def in_one_sentence(analysis: Analysis, ranks: Ranks) -> Markdown:
    """What the ranks say, for the answer."""
    if confounded(analysis):
        return md(
            "Over the values of {} the ranks mix the factor with something else.", analysis.study.blocks
        )
    first = md("**{}**", names(analysis, [int(ranks.ranks.index[0])])[0])
    over = md("{} of {}", many(len(ranks.blocks), "value"), analysis.study.blocks)
    if len(ranks.variants) == 2:
        p = ranks.wilcoxon["p"].iloc[0]
        differ = "differ" if p < ALPHA else "cannot be told apart"
        return md(
            "Over {} the two variants {} by rank ({}, Wilcoxon's p {}).", over, differ, first, _with_sign(p)
        )
    apart = ranks.ranks.iloc[1:] - ranks.ranks.iloc[0] > ranks.critical
    worse = [int(i) for i in apart[apart].index]
    if ranks.friedman[1] >= ALPHA or ranks.friedman[1] != ranks.friedman[1] or not worse:
        return md(
            "{} has the best mean rank over {}; by rank it cannot be told apart from the others.", first, over
        )
    than = ", ".join(names(analysis, worse))
    return md("{} has the best mean rank over {}, significantly better than that of {}.", first, over, than)


def _with_sign(p: float) -> str:
    return p_value(p) if p_value(p).startswith("<") else f"= {p_value(p)}"


def _legend(analysis: Analysis, ranks: Ranks) -> Markdown:
    study = analysis.study
    spread = md(" ± standard deviations" if ranks.sds.notna().any(axis=None) else "")
    without = [name for name in ranks.means.columns if name not in ranks.blocks]
    lacking = (
        f" (without {', '.join(map(plain, without[:6]))}{', …' if len(without) > 6 else ''})"
        if without
        else ""
    )
    base = " ".join(f"{key}={level}" for key, level in study.baseline.items())
    noun = f"values of {study.blocks}"
    return md(LEGEND, spread, len(ranks.blocks), noun, lacking, base)


def confounded(analysis: Analysis) -> bool:
    """Whether the ranks mix the factor with something else."""
    return any(each.confounded for each in analysis.comparisons)


def names(analysis: Analysis, order: Sequence[int]) -> list[str]:
    """The variants in words."""
    return [", ".join(map(plain, analysis.ranks.variants[i])) for i in order]


def _form(ranks: Ranks, block: str) -> Form:
    """As many decimals as the differences within a block deserve; the same for all blocks of about one scale."""
    ranges = ranks.means.max() - ranks.means.min()
    alike = ranges.max() <= ALIKE * ranges.median()
    return Form.fitting(ranges.tolist() if alike else [float(ranges[block])], "")


def block_rows(analysis: Analysis) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Head and rows of variants × blocks, the best ranks first."""
    ranks, smaller = analysis.ranks, analysis.study.smaller
    rows = []
    for i, rank in ranks.ranks.items():
        cells: list[object] = [", ".join(map(plain, ranks.variants[i]))]
        for block in ranks.means:
            cells.append(_cell(ranks, i, block, smaller))
        p = (
            ranks.wilcoxon.loc[i]
            if i in ranks.wilcoxon.index
            else {"p": float("nan"), "p_holm": float("nan")}
        )
        rows.append((*cells, number(rank, 2), *(p_value(p[name]) for name in ("p", "p_holm"))))
    blocks = map(plain, ranks.means)
    return (", ".join(analysis.study.factors), *blocks, "mean rank", "p", "p (Holm)"), rows


ALIKE = 20
"""Times the middle range of a block's values up to which all blocks are of one scale."""


def _cell(ranks: Ranks, variant: int, block: str, smaller: bool) -> Markdown:
    column, spread = ranks.means[block], ranks.sds[block]
    value = column[variant]
    if value != value:
        return md("{}", NO_SPREAD)
    form = _form(ranks, block)
    shown = form.spread(value, spread[variant]) if spread.notna().any() else form.value(value)
    best = column.min() if smaller else column.max()
    return md("**{}**", shown) if value == best else md("{}", shown)


def blocks_tex(analysis: Analysis) -> Tex:
    """The table of variants × blocks as LaTeX, for `\\usepackage{booktabs}`."""
    study, ranks = analysis.study, analysis.ranks
    lines = [
        tex("% {}: {} by {}; mean rank 1 is best", study.name, study.label, study.blocks),
        Tex(rf"\begin{{tabular}}{{l{'r' * (len(ranks.means.columns) + 1)}}}"),
        Tex(r"\toprule"),
        tex("{} & {} & mean rank \\\\", ", ".join(study.factors), Tex(" & ").join(map(plain, ranks.means))),
        Tex(r"\midrule"),
    ]
    for i, rank in ranks.ranks.items():
        cells = [_tex_cell(ranks, i, block, study.smaller) for block in ranks.means]
        name = ", ".join(map(plain, ranks.variants[i]))
        lines.append(tex("{} & {} & {} \\\\", name, Tex(" & ").join(cells), number(rank, 2)))
    return Tex("\n").join([*lines, Tex(r"\bottomrule"), Tex(r"\end{tabular}"), Tex("")])


def _tex_cell(ranks: Ranks, variant: int, block: str, smaller: bool) -> Tex:
    column, spread = ranks.means[block], ranks.sds[block]
    value, form = column[variant], _form(ranks, block)
    if value != value:
        return Tex("--")
    shown = Tex(form.value(value).replace("-", "$-$"))
    best = column.min() if smaller else column.max()
    shown = Tex(rf"\textbf{{{shown}}}") if value == best else shown
    sd = spread[variant]
    return Tex(rf"{shown} {{\scriptsize$\pm$\,{form.value(sd)}}}") if sd == sd else shown


def in_console(analysis: Analysis) -> Iterator[str]:
    """Mean ranks on one line, and which of them differ."""
    ranks = analysis.ranks
    if ranks is None:
        return
    shown = zip(names(analysis, list(ranks.ranks.index)), ranks.ranks, strict=True)
    listed = ", ".join(f"{name} {rank:.2f}" for name, rank in list(shown)[:10])
    apart = f"; {ranks.critical:.2f} apart is significant" if len(ranks.variants) > 2 else ""
    over = many(len(ranks.blocks), "value")
    yield f"mean rank over {over} of {plain(analysis.study.blocks)}: {listed}{apart}"
