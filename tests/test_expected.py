"""The rows of expected.py: one for each choice, and what is said where one is missing."""

import pytest
from expected import TABLES

from ablations.ground.paths import CONF


@pytest.mark.parametrize("group", TABLES)
def test_every_choice_has_its_row_and_every_row_its_choice(group):
    assert set(TABLES[group]) == {path.stem for path in (CONF / group).glob("*.yaml")}


def test_a_choice_without_its_row_says_what_to_add(expected):
    with pytest.raises(
        pytest.fail.Exception, match=r"conf/pool/lp\.yaml has no row in tests/expected\.py: add"
    ):
        expected("pool", "lp")
