"""Designs: from the levels of some factors and a baseline to the settings that are run.

Each design is one function. A setting says the level of every factor, in their order.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from ablations.errors import InputError

DESIGNS = GRID, ONE_AT_A_TIME, ADD_ONE_IN, LADDER, FRACTION = (
    *("grid", "one_at_a_time", "add_one_in", "ladder", "fraction"),
)

Levels = Mapping[str, Sequence[str]]
Setting = dict[str, str]

GENERATORS = {
    4: ("abc",),
    5: ("abcd",),
    **{size: ("abc", "bcd", "acd", "abd")[: size - 4] for size in (6, 7, 8)},
    9: ("bcde", "acde", "abde", "abce"),
    10: ("abcd", "abce", "abde", "acde", "bcde"),
    **{
        size: ("abc", "bcd", "cde", "acd", "ade", "bde", "abd", "abe", "ace", "bce", "abcde")[: size - 5]
        for size in range(11, 17)
    },
}
"""By number of factors the products that the further factors take their levels from; a, b, c … are the first ones.

The smallest regular fractions of resolution IV and more: N runs hold at most N/2 factors. Source: G. E. P. Box, J. S.
Hunter, W. G. Hunter, Statistics for Experimenters, 2nd ed., table 6.22; beyond 11 factors every product of an odd
number of the first five does, as all words of the defining relation are then even, and none has two letters.
"""


def settings(design: str, levels: Levels, baseline: Setting, start: Mapping[str, str]) -> list[Setting]:
    """The settings of a design, none twice.

    Args:
        design: of `DESIGNS`.
        levels: of each factor.
        baseline: one of them for each factor.
        start: where `add_one_in` begins, for factors of which that is not clear.

    Raises:
        InputError: another design, or levels that it has no place for.
    """
    if design == GRID:
        return list(grid(levels))
    if design == ONE_AT_A_TIME:
        return list(each_alone(levels, baseline))
    if design == ADD_ONE_IN:
        return list(each_alone(levels, opposite(levels, baseline, start)))
    if design == LADDER:
        return list(ladder(levels, baseline))
    if design == FRACTION:
        return list(fraction(levels, baseline))
    raise InputError(f"study.design: must be {', '.join(DESIGNS[:-1])} or {DESIGNS[-1]}, got {design}")


def grid(levels: Levels) -> Iterator[Setting]:
    """Every combination."""
    for chosen in product(*levels.values()):
        yield dict(zip(levels, chosen, strict=True))


def each_alone(levels: Levels, base: Setting) -> Iterator[Setting]:
    """The base, and each other level alone."""
    yield dict(base)
    for key, of in levels.items():
        for level in of:
            if level != base[key]:
                yield base | {key: level}


def opposite(levels: Levels, baseline: Setting, start: Mapping[str, str]) -> Setting:
    """The corner opposite to the baseline: what is left when every choice of it is taken away.

    Raises:
        InputError: a factor of more than two levels of which `start` does not say what is left, or a level that is
            none, or the baseline's own.
    """
    corner = {}
    for key, of in levels.items():
        others = [level for level in of if level != baseline[key]]
        if key in start:
            if start[key] not in others:
                accepted = ", ".join(others) or "none"
                raise InputError(f"study.start.{key}: nothing starts from {start[key]}; accepted: {accepted}")
            corner[key] = start[key]
        elif len(others) <= 1:
            corner[key] = others[0] if others else baseline[key]
        else:
            raise InputError(
                f"study.design=add_one_in: {key} has {len(of)} levels, so that it is not clear what is left without "
                f"{baseline[key]}; say it with study.start.{key}: {' or '.join(others)}"
            )
    return corner


def in_order(levels: Levels, baseline: Setting) -> dict[str, list[str]]:
    """The levels of each factor, first the baseline's, then the others as they are listed."""
    return {key: [baseline[key], *(x for x in of if x != baseline[key])] for key, of in levels.items()}


def ladder(levels: Levels, baseline: Setting) -> Iterator[Setting]:
    """The baseline, then one change after the other, each on top of those before it."""
    step = dict(baseline)
    yield dict(step)
    for key, (_, *others) in in_order(levels, baseline).items():
        for level in others:
            step[key] = level
            yield dict(step)


def fraction(levels: Levels, baseline: Setting) -> Iterator[Setting]:
    """The smallest regular two-level fraction of resolution IV or more that holds the baseline.

    Levels count 0 for the baseline's and 1 for the other; a further factor takes the sum, modulo 2, of those that its
    generator names.

    Raises:
        InputError: a factor of another number of levels than two, fewer than 4 factors, or more than 16.
    """
    both = in_order(levels, baseline)
    if odd := [key for key, of in both.items() if len(of) != 2]:
        raise InputError(
            f"study.design=fraction: two levels for each factor are expected; {odd[0]} has {len(both[odd[0]])}"
        )
    if len(both) not in GENERATORS:
        few = "a grid of so few has no smaller fraction that tells them apart: study.design=grid"
        raise InputError(
            f"study.design=fraction: {min(GENERATORS)} to {max(GENERATORS)} factors are expected, got {len(both)}"
            + (f"; {few}" if len(both) < min(GENERATORS) else "")
        )
    words = GENERATORS[len(both)]
    for first in product((0, 1), repeat=len(both) - len(words)):
        further = (sum(first[ord(letter) - ord("a")] for letter in word) % 2 for word in words)
        yield {key: of[at] for (key, of), at in zip(both.items(), (*first, *further), strict=True)}
