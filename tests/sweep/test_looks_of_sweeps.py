"""Looks as a sweep leaves them in the store: commands as they are typed, one after the other in this process."""

import pytest

from ablations.report import compile_report
from ablations.report.check import check

EVEN, MORE = "seed=0,1", "seed=0,1,2"


@pytest.mark.slow
def test_looks_from_the_first_command_to_a_copy(commands):
    commands.sweep("grows", EVEN)
    assert (commands.looks("grows"), commands.kept()) == ([["0", "1"]], 1)
    (first,) = set(commands.first("grows").values())

    commands.sweep("grows", EVEN)  # again, without a new run
    assert (commands.looks("grows"), commands.kept()) == ([["0", "1"]], 2)
    assert set(commands.first("grows").values()) == {first}

    commands.sweep("grows", MORE)
    assert commands.looks("grows") == [["0", "1"], ["2"]]
    by_seed = commands.first("grows")
    assert by_seed["0"] == by_seed["1"] == first < by_seed["2"]

    before = commands.files("grows")
    compile_report("grows", commands.store)
    assert commands.files("grows") == before
    assert "follow from the store" in check("grows", commands.store, commands.reports)

    commands.sweep("copies", MORE)
    assert commands.first("copies") == commands.first("grows")
    assert commands.looks("copies") == [["0", "1"], ["2"]]


def test_an_invocation_that_was_interrupted_is_no_look(commands, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ablations.sweep.sweep._report", interrupted)
        with pytest.raises(SystemExit):
            commands.sweep("stops", EVEN)
    assert commands.kept() == 0
    commands.sweep("stops", MORE)
    assert (commands.looks("stops"), commands.kept()) == ([["0", "1", "2"]], 1)
    assert len(set(commands.first("stops").values())) == 2
