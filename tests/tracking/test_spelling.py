"""Texts that are the same number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.tracking.spelling import exact, is_number, respelled, same


@pytest.mark.parametrize(
    "spellings",
    [
        ("1", "1.0", "1e0", "01", "+1", "1.", "10E-1"),
        ("0.1", "0.10", ".1", "1e-1", "10e-2"),
        ("0", "-0", "0.000", "0e7"),
    ],
)
def test_equal_numbers_are_equal(spellings):
    assert len({exact(text) for text in spellings}) == 1
    assert all(same(spellings[0], text) for text in spellings)
    assert set(respelled(spellings).values()) == {spellings[0]}


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("9007199254740992", "9007199254740993"),  # one in double precision
        ("0.1", "0.1000000000000000000000000000001"),
        ("1e5", "1e6"),
        ("nan", "NaN"),
        ("inf", "Infinity"),
        ("1_000", "1000"),
        ("a1", "a01"),
        ("True", "1"),
        ("0x10", "16"),
        ("", "0"),
        ("١", "1"),
    ],
)
def test_others_are_not(text, other):
    assert not same(text, other)
    assert respelled([text, other]) == {}


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        (("0.01", "1e-2"), "0.01"),
        (("1e-10", "0.0000000001"), "0.0000000001"),
        (("1e30", "1" + 30 * "0"), "1e30"),
    ],
)
def test_the_shortest_spelling_stands_for_all(texts, chosen):
    assert respelled((*texts, "7", "x")) == dict.fromkeys(texts, chosen)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_one(value):
    assert is_number(repr(value))
    assert same(repr(value), f"{value:.17e}") == (
        float(f"{value:.17e}") == value and exact(repr(value)) == exact(f"{value:.17e}")
    )


def test_an_exponent_without_end_is_text():
    assert not is_number("1e9999999999")
