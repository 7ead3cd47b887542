"""What values that come from JSON are, before anything is done with them."""

from collections.abc import Callable, Mapping
from typing import Any

MOST_SEEDS = 1000


def is_text(value: Any) -> bool:
    """Whether it is a text that is not empty."""
    return isinstance(value, str) and value != ""


def is_number(value: Any) -> bool:
    """Whether it is a number that can be computed with."""
    return type(value) in (int, float) and abs(value) < 1e300


def is_seeds(value: Any) -> bool:
    """Whether it is how many seeds somebody may ask for."""
    return type(value) is int and 0 < value <= MOST_SEEDS


def is_level(value: Any) -> bool:
    """Whether it can be the level of a factor."""
    return isinstance(value, str | bool) or is_number(value)


def or_none(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Accepts None, too."""
    return lambda value: value is None or accepts(value)


def list_of(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Accepts lists of what is accepted."""
    return lambda value: isinstance(value, list) and all(map(accepts, value))


def by_name(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Accepts objects of what is accepted, by any names."""
    return lambda value: isinstance(value, dict) and all(map(accepts, value.values()))


def with_keys(must: Mapping[str, Callable], may: Mapping[str, Callable]) -> Callable[[Any], bool]:
    """Accepts what has all keys of the first and any of the second, each as it should be."""
    return lambda value: (
        isinstance(value, dict)
        and must.keys() <= value.keys()
        and all(accepts(value[key]) for key, accepts in {**must, **may}.items() if key in value)
    )
