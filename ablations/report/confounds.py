"""What a report says of the two sides of its comparisons: what they differ in, what was checked, what nobody knows."""

import textwrap
from collections.abc import Iterator, Sequence

from ablations.commands import many
from ablations.comparison.confounds import Differing, follows
from ablations.comparison.pairs import Comparison
from ablations.report.analysis import Analysis, at_level
from ablations.report.escaping import Markdown, crossed, listed, md, plain
from ablations.tracking.study import Study

MOST_NAMED = 6
MOST_LINES = 10
MOST_VALUES = 3

CONFOUNDED = (
    "**Confounded**: the two sides differ in more than the factor, so that nobody can tell which of them made the "
    "difference. Run them again with these settings equal, or name what only names a run with `--ignore KEY`:\n\n{}"
)
VARIED_WITH = "Varied with the factor by design: {}."
VARIED_WITHS = "Varied with the factor by design:\n\n{}"
NOTED = "Differ, and only name or place the runs: {}."
UNKNOWN = "Logged on one side only, so that nobody can tell whether they differ: {}."
UNRECORDED = "Not recorded, so unknown whether equal on both sides: {}."
CHECKED = (
    "In everything{} that both sides logged (params, tags, code, versions, digests of data) they are equal."
)
KINDS = {"code": "the code (commit)", "versions": "versions of packages", "data": "the data (a digest)"}


def named_comparison(comparison: Comparison) -> str:
    """`activation: tanh against relu`, with the data set or fold where it is within one."""
    factor, variant, baseline = map(crossed, (comparison.factors, comparison.variant, comparison.baseline))
    within = "" if comparison.block is None else f" ({comparison.block})"
    return f"{factor}: {variant} against {baseline}{within}"


def keys_and_values(found: Sequence[Differing]) -> str:
    """`batch_size (64 against 32), lr (0.1 against 0.01, in seeds 3, 5)`."""
    shown = ", ".join(map(_differing, found[:MOST_NAMED]))
    return f"{shown} and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else shown


def _differing(each: Differing) -> str:
    return f"{plain(each.key)} ({_values(each.variant)} against {_values(each.baseline)})"


def _values(values: Sequence[str]) -> str:
    shown = " or ".join(textwrap.shorten(plain(value), 40, placeholder="…") for value in values[:MOST_VALUES])
    return f"{shown} or {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else shown or "nothing"


def _seeds(comparison: Comparison, found: Sequence[Differing]) -> str:
    """In which seeds it is so, where not in all."""
    affected = [seed for seed in comparison.seeds if any(seed in each.seeds for each in found)]
    if len(affected) == len(comparison.seeds):
        return ""
    shown = ", ".join(map(plain, affected[:MOST_NAMED])) + (", …" if len(affected) > MOST_NAMED else "")
    return f", in {'seed' if len(affected) == 1 else 'seeds'} {shown} of {len(comparison.seeds)}"


def reason(comparison: Comparison) -> str:
    """What confounds a comparison: keys, values, and the seeds where these are not all."""
    found = comparison.differing.confounds
    return f"{keys_and_values(found)}{_seeds(comparison, found)}"


def differing(analysis: Analysis) -> Iterator[Markdown]:
    """Paragraphs under the verdicts: what confounds, what is varied by design, what was checked and what is unknown."""
    confounded = [each for each in analysis.comparisons if each.confounded]
    if confounded:
        lines = [md("**{}**: {}", named_comparison(each), reason(each)) for each in confounded[:MOST_LINES]]
        if len(confounded) > MOST_LINES:
            lines.append(md("… and {}", many(len(confounded) - MOST_LINES, "more comparison")))
        yield md(CONFOUNDED, listed(lines))
    paired = [each for each in analysis.comparisons if each.seeds or all(each.groups or [()])]
    if paired:
        by_design = _by_design(paired)
        if by_design:
            yield by_design
        yield md(" ").join(_checked(paired, bool(by_design)))


def _checked(paired: Sequence[Comparison], by_design: bool) -> Iterator[Markdown]:
    others = by_design or any(each.confounded or each.differing.noted for each in paired)
    yield md(CHECKED, md(" else") if others else "")
    for template, name in ((NOTED, "noted"), (UNKNOWN, "unknown")):
        keys = sorted({key for each in paired for key in getattr(each.differing, name)})
        if keys:
            yield md(template, _some(keys))
    unrecorded = {kind for each in paired for kind in each.differing.unrecorded}
    if unrecorded:
        yield md(UNRECORDED, ", ".join(words for kind, words in KINDS.items() if kind in unrecorded))


def _by_design(paired: Sequence[Comparison]) -> Markdown:
    """`sdlm against adam: trainer.batch_size (1 against 32)`, each once; '' where nothing is."""
    lines = {
        f"{crossed(each.variant)} against {crossed(each.baseline)}": keys_and_values(
            each.differing.varied_with
        )
        for each in paired
        if each.differing.varied_with and len(each.factors) == 1
    }
    shown = [md("{}: {}", names, keys) for names, keys in sorted(lines.items())[:MOST_LINES]]
    if len(shown) == 1:
        return md(VARIED_WITH, shown[0])
    more = [md("… and {} more", len(lines) - MOST_LINES)] if len(lines) > MOST_LINES else []
    return md(VARIED_WITHS, listed([*shown, *more])) if shown else md("")


def brought(comparison: Comparison, study: Study) -> str:
    """What comes along with the variant of one factor by design, `pool=avg`; '' where that is nothing but what follows
    from the factor itself, what the network is composed of and what variants choose for themselves."""
    if len(comparison.factors) > 1:
        return ""
    (factor,) = comparison.factors
    along = [
        each
        for each in comparison.differing.varied_with
        if not (follows(each.key, factor) or each.key.startswith("network.") or each.key in study.chosen)
    ]
    shown = [f"{plain(each.key)}={_values(each.variant)}" for each in along[:MOST_NAMED]]
    if more := len(along) - len(shown):
        shown.append(f"{more} more")
    return ", ".join(shown)


def circumstances(comparison: Comparison, study: Study) -> str:
    """Where a comparison holds, for brackets after its name: with what is chosen along, at which level of another
    factor, in which data set or fold; '' where there is nothing to say."""
    along, at = brought(comparison, study), at_level(comparison)
    return "; ".join(filter(None, (along and f"with {along}", at and f"at {at}", comparison.block)))


def _some(keys: Sequence[str], most: int = 12) -> str:
    more = f", … ({len(keys)} in all)" if len(keys) > most else ""
    return ", ".join(map(plain, keys[:most])) + more
