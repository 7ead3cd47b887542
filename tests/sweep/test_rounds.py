"""Until settled: which runs each round asks for, what ends a study, and what kills leave of it."""

import random
import time
from collections import Counter
from dataclasses import replace

import pytest
from fake_studies import FakeStudy, Killed
from omegaconf import OmegaConf

from ablations.comparison.prospects import Standing
from ablations.errors import InputError
from ablations.report.analysis import analyse
from ablations.report.console import standings
from ablations.report.progress import head, prospects_of
from ablations.sweep.overrides import Given
from ablations.sweep.rounds import Course, End, Goal, Round, goal_of, next_round, seconds_of
from ablations.tracking.study import Study

NO_BUDGET = Goal(8, 18)
POOLS = {"pool": ["max", "avg", "stride"]}
SLOWLY = {("avg",): 3.0, ("stride",): 0.4}
"""With a noise of 0.4 and these seeds the one is settled at 8 seeds, the other at 27."""


def verdicts(analysis) -> dict[str, str]:
    return {" ".join(row["variant"]): row["verdict"] for row in analysis.effects.to_dict("records")}


# The goal


def config(**changed) -> OmegaConf:
    usual = {
        "until": "settled",
        "budget": None,
        "seeds_at_least": 8,
        "seeds_at_most": 40,
        "sweep": {"id": None},
    }
    return OmegaConf.create(usual | changed)


def given(*lines: str) -> dict[str, Given]:
    return {line.partition("=")[0]: Given((line.partition("=")[2],), False, "", line) for line in lines}


@pytest.mark.parametrize(
    ("budget", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1h30m5s", 5405)]
)
def test_a_budget_is_a_time(budget, seconds):
    assert goal_of(config(budget=budget), {}) == Goal(8, 40, seconds)


@pytest.mark.parametrize("budget", ["30", 30, "0m", "m", "30m2h", "-5m", "1.5h", "tonight", ""])
def test_any_other_budget_is_one_line(budget):
    with pytest.raises(InputError, match=r"^budget: a time is expected as 90s, 30m, 2h or 1h30m, got "):
        seconds_of(budget)


@pytest.mark.parametrize(
    ("changed", "words", "line"),
    [
        ({"until": "bored"}, [], "until: must be settled, got bored"),
        (
            {"until": None},
            ["budget=30m"],
            "budget: it is for a study that runs until it is settled; add until=settled",
        ),
        ({}, ["seed=3"], "seed=3: until=settled decides which seeds are run; leave it out"),
        ({}, ["study.seeds=20"], "study.seeds=20: until=settled decides which seeds are run; leave it out"),
        ({"sweep": {"id": "1"}}, [], "sweep.id: until=settled has one for each of its rounds; leave it out"),
        ({"seeds_at_most": 0}, [], "seeds_at_most: a number of seeds up to 1000 is expected, got 0"),
        ({"seeds_at_least": "few"}, [], "seeds_at_least: a number of seeds up to 1000 is expected, got few"),
        ({"seeds_at_least": 50}, [], "seeds_at_least: must be at most seeds_at_most=40, got 50"),
    ],
)
def test_what_cannot_be_a_goal_is_one_line(changed, words, line):
    with pytest.raises(InputError) as error:
        goal_of(config(**changed), given(*words))
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_a_sweep_over_given_seeds_has_no_goal():
    assert goal_of(config(until=None), given("seed=3")) is None


# Rounds


def test_what_is_settled_gets_no_more_runs():
    study = FakeStudy(POOLS, SLOWLY, noise=0.4, seed=6)
    analysis, end = study.command(Goal(8, 40))
    assert end == End("done")
    assert study.seeds()[("avg",)] == 8
    assert study.seeds()[("stride",)] == study.seeds()[("max",)] == 27
    assert verdicts(analysis) == {"avg": "worse", "stride": "worse"}
    assert analysis.effects["settled_at"].tolist() == [1, len(study.looks)]


def test_everything_settled_at_once_is_one_round():
    study = FakeStudy(POOLS, {("avg",): 3.0, ("stride",): -3.0})
    assert study.command(Goal(8, 40))[1] == End("done")
    assert set(study.seeds().values()) == {8}
    assert len(study.looks) == 1


def test_what_the_most_seeds_would_not_settle_is_given_up():
    study = FakeStudy(POOLS, {("avg",): 3.0}, noise=0.5, margin=0.01, seed=2)
    analysis, end = study.command(Goal(8, 40))
    assert end == End("done")
    stride = next(each for each in prospects_of(analysis, 8, 40) if each.comparison.variant == ("stride",))
    assert stride.standing is Standing.GIVEN_UP
    assert stride.spare
    assert stride.chance < 0.1


def test_no_difference_that_matters_is_settled_as_well():
    study = FakeStudy(POOLS, {("avg",): 3.0}, noise=0.05, margin=0.5)
    assert verdicts(study.command(Goal(8, 40))[0])["stride"] == "no difference that matters"
    assert set(study.seeds().values()) == {8}


def test_no_seed_beyond_the_most_is_run():
    study = FakeStudy(POOLS, SLOWLY, noise=0.4, seed=6)
    analysis, _ = study.command(Goal(8, 26))
    assert study.seeds() == {("max",): 26, ("avg",): 8, ("stride",): 26}
    last = prospects_of(analysis, 8, 26)[1]
    assert not last.spare


def test_a_main_effect_of_a_grid_needs_the_cells_of_its_two_levels():
    """Of a, y is settled and z is open; of b nothing is open: y's cells get no more runs, and its pairs stay."""
    levels = {"a": ["x", "y", "z"], "b": ["p", "q"]}
    study = FakeStudy(levels, {("y",): 4.0, ("q",): 4.0, ("z",): 0.33}, noise=0.3, margin=0.6, seed=3)
    first = study.command(Goal(8, 8))[0]
    analysis, _ = study.command(Goal(8, 40))
    seeds = study.seeds()
    assert seeds["y", "p"] == seeds["y", "q"] == 8
    assert seeds["x", "p"] == seeds["x", "q"] == seeds["z", "p"] == seeds["z", "q"] > 8
    rows = {(row["factors"], row["variant"]): row for row in analysis.effects.to_dict("records")}
    before = {(row["factors"], row["variant"]): row for row in first.effects.to_dict("records")}
    for key in ((("a",), ("y",)), (("b",), ("q",))):
        for name in ("n", "mean_diff", "ci_low", "ci_high", "p", "verdict", "looks", "settled_at"):
            assert rows[key][name] == before[key][name], name
    assert rows[("a",), ("z",)]["n"] == seeds["z", "p"]


def test_a_side_that_never_gives_a_result_is_left_alone():
    study = FakeStudy(POOLS, {("avg",): 3.0}, fails=[("stride",)])
    assert study.command(Goal(8, 40))[1] == End("done")
    assert study.seeds()[("stride",)] == 8


def test_a_level_that_is_new_begins_with_the_first_round():
    study = FakeStudy({"pool": ["max", "avg"]}, {("avg",): 3.0})
    study.command(Goal(8, 40))
    wider = FakeStudy(POOLS, {("avg",): 3.0, ("stride",): 3.0})
    wider.rows, wider.looks, wider.invocation = study.rows, study.looks, study.invocation
    analysis, _ = wider.command(Goal(8, 40))
    assert verdicts(analysis) == {"avg": "worse", "stride": "worse"}
    assert set(wider.seeds().values()) == {8}
    assert max(wider.trained.values()) == 1
    assert sum(wider.trained.values()) == 8


def test_seeds_of_an_earlier_sweep_are_the_start():
    study = FakeStudy(POOLS, {("avg",): 3.0, ("stride",): 3.0})
    study.make([(setting, str(seed)) for seed in range(5) for setting in study.settings])
    study.look()
    analysis, _ = study.command(Goal(8, 40))
    assert set(study.seeds().values()) == {8}
    assert analysis.effects["looks"].tolist() == [1, 1]  # at five nothing could be settled


# Budget


def course(study: FakeStudy, goal: Goal, ago: float = 0.0, workers: int = 1) -> Course:
    return Course(goal, dict.fromkeys(study.settings, 1), workers, time.monotonic() - ago)


def test_a_round_that_would_go_beyond_the_budget_is_not_begun():
    study = FakeStudy(POOLS, SLOWLY, noise=0.4, seed=6)
    goal = Goal(8, 40, budget_s=100.0)
    way = course(study, goal)
    study.make(way.first(None, None, seconds=1.0))
    way.took(24, 48.0)  # two seconds each
    numbers = study.numbers()
    assert isinstance(way.next(numbers, numbers), Round)
    late = course(study, goal, ago=90.0)
    late.took(24, 48.0)
    late.asked = {*study.rows}
    step = late.next(numbers, numbers)
    assert step == End("budget", 8, 16.0)  # four seeds of stride and of max
    assert late.told(step) == {
        **{"seeds_at_least": 8, "seeds_at_most": 40},
        **{"ended": "budget", "budget_s": 100.0, "next_s": 16.0},
    }


def test_workers_share_a_round():
    study = FakeStudy(POOLS, SLOWLY, noise=0.4, seed=6)
    way = course(study, Goal(8, 40), workers=3)
    study.make(way.first(None, None))
    way.took(24, 48.0)  # eight turns of six seconds
    numbers = study.numbers()
    step = way.next(numbers, numbers)
    assert (step.runs, step.seconds) == (8, 18.0)


def test_a_first_round_beyond_the_budget_is_one_line():
    way = course(FakeStudy(POOLS, {}), Goal(8, 40, budget_s=60.0))
    with pytest.raises(
        InputError, match=r"^budget: the first round, 24 runs, takes about 4 min 0 s; accepted: "
    ):
        way.first(None, None, seconds=10.0)


def test_runs_that_were_there_already_do_not_make_the_others_look_fast():
    study = FakeStudy(POOLS, SLOWLY, noise=0.4, seed=6)
    way = course(study, Goal(8, 40))
    study.make(way.first(None, None))
    way.took(24, 0.5)  # copied from another sweep; each was trained for a second
    numbers = study.numbers()
    step = way.next(numbers, numbers)
    assert step.seconds == step.runs == 8


def test_what_is_there_costs_nothing():
    prospects = []
    settings = {("max",): 1, ("avg",): 3}
    there = {(("avg",), "0"), (("max",), "1")}
    step = next_round(
        prospects,
        settings,
        there,
        (),
        Goal(2, 4),
        100.0,
        course(FakeStudy(POOLS, {}), NO_BUDGET)._pace(None, 2.0),
    )
    assert step.cells == ((("max",), "0"), (("avg",), "0"), (("max",), "1"), (("avg",), "1"))
    assert (step.runs, step.seconds) == (4, 8.0)  # one of max, three of avg


# Kills


def test_kills_at_random_moments_change_nothing():
    """The same runs, none of them twice, the same looks and the same verdicts as without."""
    goal, rng = Goal(8, 27), random.Random(0)
    for seed in (0, 1, 6):
        undisturbed = FakeStudy(POOLS, SLOWLY, noise=0.4, seed=seed)
        wanted, _ = undisturbed.command(goal)
        study, kills = FakeStudy(POOLS, SLOWLY, noise=0.4, seed=seed), 0
        while True:
            moments = [rng.choice([rng.randrange(24), -0.5, -1, float("inf")]) for _ in range(2)]
            try:
                found, _ = study.command(goal, kills=moments if kills < 12 else ())
                break
            except Killed:
                kills += 1
        assert set(study.trained.values()) == {1}
        assert study.trained == undisturbed.trained
        assert found.effects.drop(columns="settled_at").equals(wanted.effects.drop(columns="settled_at"))
        assert found.effects["settled_at"].tolist() == wanted.effects["settled_at"].tolist()
        assert [look.seeds for look in found.looks] == [look.seeds for look in wanted.looks]


def test_what_no_report_has_shown_decides_nothing():
    """Killed within its second round: the next command finishes that round, whatever its first runs would say."""
    study = FakeStudy(POOLS, SLOWLY, noise=0.4, seed=6)
    with pytest.raises(Killed):
        study.command(Goal(8, 40), kills=[float("inf"), 4])
    assert Counter(int(seed) for _, seed in study.rows)[9] == 2
    way = course(study, Goal(8, 40))
    cells = way.first(study.numbers(only_seen=True), study.numbers())
    new = {cell for cell in cells if cell not in study.rows}
    assert new == {((pool,), seed) for pool in ("max", "stride") for seed in ("10", "11")}


# What is said


def said(study: FakeStudy, **until) -> list[str]:
    asked = replace(study.study, until={"seeds_at_least": 8, "seeds_at_most": 40, **until})
    numbers = study.numbers()
    analysis = analyse(asked, numbers.everything.drop(columns="look"), (), False, study.looks)
    return [*map(str, head(analysis)), *standings(analysis)]


def test_the_head_says_how_far_it_is_and_what_ended_it():
    study = FakeStudy(POOLS, {("avg",): 3.0}, noise=0.5, margin=0.01, seed=2)
    study.command(Goal(8, 40))
    looks, seeds = len(study.looks), max(study.seeds().values())
    going = said(study)
    assert going[0] == (
        f"**In progress**, look {looks}: 1 of 2 comparisons settled, 1 given up, {seeds} seeds so far. The same "
        "command goes on from here."
    )
    assert going[-2].split()[:5] == ["pool", "avg", "max", "worse", "8"]
    assert going[-1].split()[:5] == ["pool", "stride", "max", "given", "up"]
    ended = said(study, ended="done")[0]
    assert (
        "pool: stride against max was given up: even 40 seeds would settle it with a probability of" in ended
    )
    late = said(study, ended="budget", budget_s=1800.0, next_s=200.0)[0]
    assert "Another round, of about 3 min 20 s, would have gone beyond the budget of 30 min 0 s" in late


def test_what_the_study_keeps_of_it_survives_the_store():
    study = replace(
        FakeStudy(POOLS, {}).study, until={"seeds_at_least": 8, "seeds_at_most": 40, "ended": "done"}
    )
    assert Study.from_json(study.to_json()) == study
    with pytest.raises(InputError, match="until"):
        Study.from_json(replace(study, until={"seeds_at_least": 8, "seeds_at_most": 1e9}).to_json())
