"""The network as a table."""

import re

import pytest

from ablations.describe import compose_network, main, table
from ablations.errors import InputError


def rows(text: str) -> dict[str, list[str]]:
    """The cells after the first of each row."""
    lines = [line for line in text.splitlines() if not line.startswith("─")]
    return {cells[0]: cells[1:] for cells in (re.split(r"\s{2,}", line) for line in lines)}


def test_the_modern_network_in_numbers():
    text = table(compose_network([]))
    found = rows(text)
    assert found.pop("layer") == ["kind", "output", "parameters", "connections", "MACs"]
    note = next(key for key in found if key.startswith("of the"))
    assert note == "of the 61,706 parameters 61,470 are weights and 236 biases"
    del found[note]
    assert found == {
        "C1": ["5×5 convolution", "6@28×28", "156", "122,304", "117,600"],
        "S2": ["max pooling", "6@14×14", "0", "4,704", "0"],
        "C3": ["5×5 convolution", "16@10×10", "2,416", "241,600", "240,000"],
        "S4": ["max pooling", "16@5×5", "0", "1,600", "0"],
        "C5": ["fully connected", "120", "48,120", "48,120", "48,000"],
        "F6": ["fully connected", "84", "10,164", "10,164", "10,080"],
        "output": ["fully connected", "10", "850", "850", "840"],
        "total": ["61,706", "429,342", "416,520"],
    }


def test_the_sparse_network_in_numbers():
    found = rows(table(compose_network(["c3=sparse", "pool=avg", "head=mse"])))
    assert found["C3"] == ["5×5 convolution", "16@10×10", "1,516", "151,600", "150,000"]
    assert found["S2"] == ["average pooling", "6@14×14", "0", "4,704", "0"]
    assert found["total"] == ["60,806", "339,342", "326,520"]
    assert "of the 60,806 parameters 60,570 are weights and 236 biases" in found


def test_columns_stand_under_each_other():
    header, rule, *body, _, total, _note = table(compose_network([])).splitlines()
    assert set(rule) == {"─"}
    assert len(header) == len(rule) == len(total)
    assert {len(line) for line in body} == {len(rule)}
    for word in ("parameters", "connections", "MACs"):
        end = header.index(word) + len(word)
        assert all(line[end - 1].isdigit() for line in [*body, total])


def test_command_prints_the_table(capsys):
    main(["c3=sparse"])
    out, err = capsys.readouterr()
    assert out == table(compose_network(["c3=sparse"])) + "\n"
    assert err == ""


def test_network_that_cannot_be_built_is_refused():
    with pytest.raises(InputError, match=r"^C1: convolution: "):
        compose_network(["network.layers.C1.kernel=4"])
