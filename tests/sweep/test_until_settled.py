"""Until settled as it is typed: rounds, looks, a kill between two steps, and the same command again."""

import json

import pytest

from ablations.commands.signals import Terminated
from ablations.errors import InputError
from ablations.report.check import check
from ablations.sweep.command_line import hand_on
from ablations.tracking import Reader

COMMAND = ("until=settled", "seeds_at_least=5", "seeds_at_most=6", "activation=relu,sigmoid")
"""Five seeds cannot settle one comparison, six can, and a sigmoid is far behind after one epoch."""


def runs_of(commands) -> int:
    runs = Reader(commands.store).runs(tags={"sweep": "s"})
    assert set(runs["status"]) == {"FINISHED"}
    assert not runs.duplicated(["params.activation", "params.seed"]).any()
    return len(runs)


@pytest.mark.slow
def test_rounds_from_the_first_command_to_the_last(commands, monkeypatch, capsys):
    def killed(*_: object) -> None:
        raise Terminated

    with monkeypatch.context() as patched:  # after the first round's report, before it counts as a look
        patched.setattr("ablations.sweep.sweep.look_tag", killed)
        with pytest.raises(SystemExit) as stopped:
            commands.sweep("s", *COMMAND)
    assert stopped.value.code == 143
    assert (runs_of(commands), commands.kept()) == (10, 0)
    page = (commands.reports / "s" / "README.md").read_text("utf-8")
    assert "**In progress**, look 1: 0 of 1 comparison settled, 5 seeds so far." in page
    capsys.readouterr()

    commands.sweep("s", *COMMAND)
    said = capsys.readouterr().out
    assert (runs_of(commands), commands.kept()) == (12, 2)
    assert commands.looks("s") == [["0", "1", "2", "3", "4"], ["5"]]
    assert len(list((commands.folder / "logs").glob("[0-9]*"))) == 12  # each round goes on counting
    assert "In progress, look 1: 0 of 1 comparison settled, 5 seeds so far." in said
    assert "next: 2 runs, about" in said
    (line,) = [line for line in said.splitlines() if line.startswith("activation  sigmoid  relu     open")]
    assert line.split()[4] == "5"
    assert said.count("already finished") == 10
    page = (commands.reports / "s" / "README.md").read_text("utf-8")
    assert "**Run until settled**, 2 looks, up to 6 seeds each: 1 of 1 comparison settled." in page
    about = json.loads((commands.reports / "s" / "report.json").read_text("utf-8"))
    assert about["study"]["until"] == {"seeds_at_least": 5, "seeds_at_most": 6, "ended": "done"}
    assert "follow from the store" in check("s", commands.store, commands.reports)

    commands.sweep(
        "s", "seed=range(6)", "activation=relu,sigmoid"
    )  # with given seeds: the same study, the same runs
    assert runs_of(commands) == 12
    assert "settled**" not in (commands.reports / "s" / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_ctrl_c_leaves_the_report_of_what_is_there(commands, monkeypatch, capsys):
    from ablations.sweep import sweep

    launched = sweep._launched

    def some(launcher, runs, *about):
        launched(launcher, runs[:6], *about)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ablations.sweep.sweep._launched", some)
        with pytest.raises(SystemExit) as stopped:
            commands.sweep("s", *COMMAND)
    assert stopped.value.code == 130
    assert (commands.looks("s"), commands.kept()) == ([["0", "1", "2"]], 1)
    said = capsys.readouterr()
    assert "In progress, look 1: 0 of 1 comparison settled, 3 seeds so far." in said.out
    assert "interrupted: the same command goes on from here" in said.err
    page = (commands.reports / "s" / "README.md").read_text("utf-8")
    assert "**In progress**, look 1" in page
    assert "## Add the seeds" not in page


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["until=settled", "activation=relu"], "until=settled: there is one variant only"),
        (
            ["until=settled", "activation=relu,tanh", "seed=0,1"],
            "seed=0,1: until=settled decides which seeds",
        ),
        (["activation=relu,tanh", "budget=30m"], "budget: it is for a study that runs until it is settled"),
        (
            ["until=settled", "activation=relu,tanh", "budget=1s"],
            "budget: the first round, 16 runs, takes about",
        ),
        (["until=settled,bored", "activation=relu"], "until: it does not change what a run is"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(commands, capsys, overrides, line):
    with pytest.raises(SystemExit) as stopped:
        commands.sweep("s", *overrides)
    assert stopped.value.code == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {line}")
    with pytest.raises(InputError):
        Reader(commands.store).runs(tags={"sweep": "s"})["run_id"][0]


def test_one_run_is_no_study():
    from ablations.sweep.overrides import compose

    with pytest.raises(InputError, match=r"^until=settled: one run has nothing to be compared with"):
        hand_on(compose("until=settled"))


def test_a_dry_run_says_the_first_round_and_the_most(commands, capsys):
    commands.sweep("s", "until=settled", "activation=relu,tanh", "dry_run=true")
    said = capsys.readouterr().out
    assert "16 runs planned, 0 of them finished already" in said
    assert "if nothing is ever settled, all of them make 80 runs, about" in said
