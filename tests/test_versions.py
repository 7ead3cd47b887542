"""The versions that are tried: constraints and the workflow of public runners, held to pyproject.toml and the pages."""

import itertools
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from test_docs import commands

from ablations.ground.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
REQUIRED = {
    requirement.name: requirement.specifier
    for requirement in map(Requirement, PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"])
}
PYTHONS = [f"3.{n}" for n in range(30) if SpecifierSet(PROJECT["requires-python"]).contains(f"3.{n}.0")]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8"))


def pins(name: str) -> dict[str, str]:
    """The versions of a file of constraints, each of which allows exactly one."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def lower_bounds(specifiers: SpecifierSet) -> list[str]:
    return [each.version for each in specifiers if each.operator == ">="]


def test_the_lowest_versions_are_the_bounds_of_pyproject():
    assert {name: [version] for name, version in pins("constraints-lowest.txt").items()} == {
        name: lower_bounds(specifiers) for name, specifiers in REQUIRED.items()
    }


@pytest.mark.parametrize("name", REQUIRED)
def test_versions_tested_together_are_admitted(name):
    assert pins("constraints.txt")[name] in REQUIRED[name]


def test_the_package_is_built_with_what_the_tests_build_it_with():
    required = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    assert required == [f"setuptools{REQUIRED['setuptools']}"]


# The workflow of public runners


def combinations() -> list[dict[str, str]]:
    """What the matrix stands for; each of `include` differs in a value and is one more."""
    matrix = dict(WORKFLOW["jobs"]["tests"]["strategy"]["matrix"])
    more = matrix.pop("include")
    return [dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())] + more


def test_three_systems_all_pythons_lowest_and_newest_versions():
    product = itertools.product(("ubuntu-latest", "windows-latest", "macos-latest"), PYTHONS)
    assert {(c["system"], c["python"], c["versions"]) for c in combinations()} == {
        *((system, python, "-c constraints.txt") for system, python in product),
        ("ubuntu-latest", PYTHONS[0], "-c constraints-lowest.txt"),
        ("ubuntu-latest", PYTHONS[-1], "--upgrade"),
    }
    assert PYTHONS == ["3.11", "3.12", "3.13"]


def test_the_runners_do_what_the_pages_say():
    written = {
        " ".join(words) for name in ("README.md", "docs/install.md") for words in commands(ROOT / name)
    }
    done = set()
    for job in WORKFLOW["jobs"].values():
        for step in job["steps"]:
            for combination in combinations():
                command = step.get("run", "")
                for key, value in combination.items():
                    command = command.replace(f"${{{{ matrix.{key} }}}}", value)
                done.add(command.replace('"', ""))
    done.remove("")
    assert done <= written, done - written
    assert {"python run.py -m activation=relu,tanh pool=max,avg", "python -m pytest", "lint-imports"} <= done


def test_a_failure_stops_no_other_job_and_nothing_hangs():
    assert WORKFLOW["jobs"]["tests"]["strategy"]["fail-fast"] is False
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is True
    assert all(0 < job["timeout-minutes"] <= 60 for job in WORKFLOW["jobs"].values())
    used = {step["uses"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "uses" in step}
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)


def test_files_that_the_runners_name_exist():
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8")
    for name in re.findall(r"[\w*-]+\.txt", text):
        assert list(ROOT.glob(name)), name
