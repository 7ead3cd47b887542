"""Designs and command lines as runs, against runs written down by hand."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from ablations.errors import InputError
from ablations.sweep.overrides import Given, override_value, quoted, read_overrides
from ablations.sweep.plan import Plan, plan


def a_study(**said: object) -> dict:
    defaults = {"design": "grid", "factors": {}, "baseline": {}, "seeds": None, "nuisance": []}
    defaults |= {"where": None, "start": {}}
    return defaults | said


def swept(*values: str, prefix: str = "", line: str = "") -> Given:
    return Given(values, True, prefix, line)


def held(line: str) -> Given:
    key, _, value = line.partition("=")
    return Given((value,), False, key[: len(key) - len(key.lstrip("+"))], line)


def jobs(planned: Plan) -> list[str]:
    return [" ".join(job) for job in planned.runs]


# Designs


def test_a_grid_is_every_combination_seed_by_seed():
    planned = plan(a_study(factors={"a": ["x", "y"], "b": [1, 2]}, seeds=2), {})
    assert jobs(planned) == [
        *("a=x b=1 seed=0", "a=x b=2 seed=0", "a=y b=1 seed=0", "a=y b=2 seed=0"),
        *("a=x b=1 seed=1", "a=x b=2 seed=1", "a=y b=1 seed=1", "a=y b=2 seed=1"),
    ]
    assert planned.factors == planned.varied == ("a", "b")
    assert planned.nuisance == ()


def test_one_at_a_time_is_the_baseline_and_each_other_level_alone():
    study = a_study(
        design="one_at_a_time", factors={"a": ["x", "y", "z"], "b": [1, 2]}, baseline={"a": "y", "b": 2}
    )
    assert jobs(plan(study, {})) == ["a=y b=2", "a=x b=2", "a=z b=2", "a=y b=1"]


def test_without_a_baseline_one_at_a_time_starts_from_the_first_levels():
    study = a_study(design="one_at_a_time", factors={"a": ["x", "y"], "b": [1, 2]})
    assert jobs(plan(study, {})) == ["a=x b=1", "a=y b=1", "a=x b=2"]


def test_a_baseline_that_the_command_line_took_away_is_replaced_by_the_first_level():
    study = a_study(design="one_at_a_time", factors={"a": ["x", "y"]}, baseline={"a": "x"})
    assert jobs(plan(study, {"a": swept("z", "y")})) == ["a=z", "a=y"]


def test_nothing_varied_is_one_run_for_each_seed():
    planned = plan(a_study(seeds=[3, 5]), {})
    assert jobs(planned) == ["seed=3", "seed=5"]
    assert planned.factors == ()


@given(st.lists(st.integers(1, 4), max_size=4), st.integers(1, 3))
def test_designs_have_as_many_runs_as_they_should_and_none_twice(sizes, seeds):
    factors = {f"f{i}": [f"l{j}" for j in range(size)] for i, size in enumerate(sizes)}
    grid = plan(a_study(factors=factors, seeds=seeds), {}).runs
    alone = plan(a_study(factors=factors, seeds=seeds, design="one_at_a_time"), {}).runs
    product = 1
    for size in sizes:
        product *= size
    assert len(grid) == len(set(grid)) == product * seeds
    assert len(alone) == len(set(alone)) == (1 + sum(size - 1 for size in sizes)) * seeds
    assert set(alone) <= set(grid)


# Levels with settings of their own, and nuisance factors


def test_a_level_brings_its_settings_and_a_list_of_values_multiplies_its_runs():
    study = a_study(
        factors={"optimizer": {"adam": {"optimizer.lr": [0.001, 0.01], "clip": None}, "sgd": None}},
        nuisance=["optimizer.lr"],
    )
    planned = plan(study, {})
    assert jobs(planned) == [
        "optimizer=adam optimizer.lr=0.001 clip=null",
        "optimizer=adam optimizer.lr=0.01 clip=null",
        "optimizer=sgd",
    ]
    assert planned.factors == ("optimizer",)
    assert planned.nuisance == ("optimizer.lr",)
    assert planned.varied == ("optimizer", "optimizer.lr")


def test_several_lists_of_a_level_are_combined():
    study = a_study(factors={"a": {"x": {"b": [1, 2], "c": [True, False]}}})
    assert jobs(plan(study, {})) == ["a=x b=1 c=true", "a=x b=1 c=false", "a=x b=2 c=true", "a=x b=2 c=false"]


def test_a_factor_that_is_a_nuisance_is_varied_but_not_compared():
    study = a_study(factors={"a": ["x", "y"], "lr": [0.1, 1]}, nuisance=["lr"])
    planned = plan(study, {})
    assert planned.factors == ("a",)
    assert planned.nuisance == ("lr",)
    assert jobs(planned) == ["a=x lr=0.1", "a=x lr=1", "a=y lr=0.1", "a=y lr=1"]


def test_the_command_line_holds_what_levels_would_bring():
    study = a_study(
        factors={"optimizer": {"adam": {"lr": [0.001, 0.01]}, "sgd": {"lr": [0.1, 1]}}}, nuisance=["lr"]
    )
    planned = plan(study, {"lr": held("lr=0.5")})
    assert jobs(planned) == ["optimizer=adam lr=0.5", "optimizer=sgd lr=0.5"]
    assert planned.nuisance == ()
    swept_rates = plan(study, {"lr": swept("0.5", "0.7")})
    assert jobs(swept_rates) == [
        *("optimizer=adam lr=0.5", "optimizer=adam lr=0.7", "optimizer=sgd lr=0.5", "optimizer=sgd lr=0.7")
    ]
    assert swept_rates.nuisance == ("lr",)
    assert swept_rates.factors == ("optimizer",)


def test_several_values_of_a_levels_own_setting_are_a_factor_unless_each_variant_gets_its_best():
    study = a_study(factors={"a": {"x": {"b": [1, 2]}, "y": {}}})
    assert plan(study, {}).factors == ("a", "b")
    assert plan(study | {"nuisance": ["b"]}, {}).factors == ("a",)


# Seeds


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [(1, ["seed=0"]), (3, ["seed=0", "seed=1", "seed=2"]), ([7, 2], ["seed=7", "seed=2"])],
)
def test_seeds_are_how_many_or_which(seeds, expected):
    assert jobs(plan(a_study(seeds=seeds), {})) == expected


def test_without_seeds_the_configuration_has_its_own():
    assert plan(a_study(factors={"a": ["x"]}), {}).runs == (("a=x",),)


def test_seeds_of_the_command_line_win_and_are_no_factor():
    study = a_study(factors={"a": ["x", "y"]}, seeds=8)
    planned = plan(study, {"seed": swept("2", "4")})
    assert jobs(planned) == ["a=x seed=2", "a=y seed=2", "a=x seed=4", "a=y seed=4"]
    assert planned.factors == ("a",)
    assert jobs(plan(study, {"seed": held("seed=5")})) == ["a=x seed=5", "a=y seed=5"]


# The command line


def test_a_swept_key_is_a_factor_and_replaces_or_thins_the_studys():
    assert plan(a_study(), {"a": swept("x", "y")}).factors == ("a",)
    study = a_study(factors={"a": {"x": {"b": 1}, "y": {"b": 2}}, "c": ["p", "q"]})
    planned = plan(study, {"a": swept("y", "z"), "d": swept("1")})
    assert planned.factors == ("a", "c", "d")
    assert jobs(planned) == ["a=y c=p d=1 b=2", "a=y c=q d=1 b=2", "a=z c=p d=1", "a=z c=q d=1"]


def test_a_key_with_one_value_is_held_and_no_factor_but_brings_its_settings():
    study = a_study(factors={"a": {"x": {"b": 1}, "y": {"b": 2}}, "c": ["p", "q"]})
    planned = plan(study, {"a": held("a=y"), "trainer.epochs": held("trainer.epochs=2")})
    assert planned.factors == ("c",)
    assert jobs(planned) == ["c=p b=2 a=y trainer.epochs=2", "c=q b=2 a=y trainer.epochs=2"]


def test_prefixes_add_keys_and_are_no_part_of_their_names():
    planned = plan(a_study(factors={"+experiment": ["one", "two"]}, baseline={"experiment": "two"}), {})
    assert planned.factors == ("experiment",)
    assert jobs(planned) == ["+experiment=one", "+experiment=two"]
    assert jobs(plan(a_study(), {"x": swept("1", "2", prefix="++")})) == ["++x=1", "++x=2"]
    fixed = plan(a_study(factors={"+experiment": ["one", "two"]}), {"experiment": held("+experiment=one")})
    assert jobs(fixed) == ["+experiment=one"]
    assert fixed.factors == ()


def test_formats_of_figures_are_given_at_once_and_no_factor():
    given = read_overrides(None, ["pool=max,avg", "figures.format=svg,pdf"])
    assert [given[key].swept for key in ("pool", "figures.format")] == [True, False]
    assert given["figures.format"].line == "figures.format=[svg,pdf]"


def test_a_deleted_key_is_deleted_in_every_run():
    planned = plan(a_study(factors={"a": ["x", "y"]}), {"b": Given(("",), False, "", "~b")})
    assert jobs(planned) == ["a=x ~b", "a=y ~b"]


def test_levels_have_the_quotes_that_hydra_needs():
    planned = plan(a_study(factors={"a": ["two words", "it's", "a,b", "back\\slash"]}), {})
    assert jobs(planned) == ["a='two words'", r"a='it\'s'", "a='a,b'", r"a='back\slash'"]


TEXTS = st.text(st.sampled_from("\\'\"a ,"), min_size=1, max_size=8) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20
)


@given(TEXTS)
def test_hydra_reads_a_quoted_text_as_it_was(text):
    override = OverridesParser.create().parse_override(f"key={quoted(text)}")
    assert override.value() == text


@given(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(-1e300, 1e300)
    | st.sampled_from("abc")
)
def test_hydra_reads_a_value_as_yaml_meant_it(value):
    assert OverridesParser.create().parse_override(f"key={override_value(value)}").value() == value


@pytest.mark.parametrize("text", ["relu", "scaled_tanh", "café", "1998's", "a=b", "-1", "", "${x}"])
def test_hydra_reads_a_text_as_yaml_meant_it(text):
    assert str(OverridesParser.create().parse_override(f"key={override_value(text)}").value()) == text


def test_lists_and_mappings_have_hydras_form():
    assert override_value([1, "a b", None]) == "[1,'a b',null]"
    assert override_value({"a": True, "b": [0.5]}) == "{a:true,b:[0.5]}"


# What makes no sense


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"design": "star"},
            "study.design: must be grid, one_at_a_time, add_one_in, ladder or fraction, got star",
        ),
        ({"seeds": 0}, "study.seeds: must be how many, or a list of them; got 0"),
        ({"seeds": []}, r"study.seeds: must be how many, or a list of them; got \[\]"),
        ({"seeds": True}, "study.seeds: must be how many, or a list of them; got True"),
        ({"seeds": "range(3)"}, r"study.seeds: must be how many, or a list of them; got 'range\(3\)'"),
        ({"factors": {"a": []}}, "study.factors.a: no levels"),
        ({"factors": {"a": "x"}}, "study.factors.a: a list of levels is expected, .* got 'x'"),
        (
            {"factors": {"a": [{"b": 1}, {"b": 2}]}},
            "study.factors.a: sections cannot be levels; accepted: names or single values, .*",
        ),
        ({"factors": {"a": 3}}, "study.factors.a: a list of levels is expected, .* got 3"),
        (
            {"factors": {"a": ["x", "y"]}, "baseline": {"a": "z"}},
            "study.baseline.a: z is no level of the factor: x, y",
        ),
    ],
)
def test_a_study_that_makes_no_sense_is_one_clear_line(said, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        plan(a_study(**said), {})
