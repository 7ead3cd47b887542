"""What determines a result is hashed whole, so that no change of it leaves an old result standing."""

import re
import shutil
from pathlib import Path

import pytest
from project import Project

from ablations.experiment.provenance import DETERMINING, code_hash
from ablations.ground.paths import CONF, ROOT

PACKAGE = ROOT / "ablations"
FILES = [
    path.relative_to(PACKAGE)
    for room in DETERMINING
    for path in sorted((PACKAGE / room).rglob("*"))
    if path.is_file() and path.suffix != ".pyc"
]


def copied(folder: Path, *names: str) -> Path:
    for name in names:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def hashed(package: Path) -> str:
    return code_hash.__wrapped__(package)  # not the one that was remembered


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    return copied(tmp_path_factory.mktemp("copy"), "ablations") / "ablations"


def test_a_copy_has_the_same_hash_whatever_else_is_in_it(package):
    (package / "report.py").write_text("anything")
    compiled = package / "nn" / "__pycache__" / "network.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"anything")
    assert hashed(package) == code_hash()


@pytest.mark.parametrize("file", FILES, ids=str)
def test_one_byte_of_any_file_changes_the_hash(file, package):
    content = (package / file).read_bytes()
    (package / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        assert hashed(package) != code_hash()
    finally:
        (package / file).write_bytes(content)


def test_a_new_file_changes_the_hash(package):
    new = package / "training" / "momentum.py"
    new.write_text("")
    try:
        assert hashed(package) != code_hash()
    finally:
        new.unlink()


def test_all_that_a_configuration_names_is_hashed():
    """A part that is added somewhere else would change results without changing code_hash."""
    named = re.compile(r"_target_: ablations\.(\w+)")
    rooms = {room for file in CONF.rglob("*.yaml") for room in named.findall(file.read_text("utf-8"))}
    assert rooms - {"sweep"} == set(DETERMINING)


@pytest.mark.slow  # many seconds; .ci/run has it
def test_after_a_change_nothing_counts_as_finished(tmp_path):
    """Not even of the name of a random stream, which once stood in a file that was not hashed."""
    project = Project(tmp_path)

    def command(*overrides: str) -> str:
        done = project.run("trainer.epochs=2", *overrides)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = command()
    assert "already finished" not in first
    again = command()
    assert "already finished" in again
    assert "1 of them finished already" in command("dry_run=true", "-m")
    recipe = project.root / "ablations" / "training" / "recipe.py"
    recipe.write_text(recipe.read_text("utf-8").replace('"init/{layer}"', '"first/{layer}"'), "utf-8")
    assert "0 of them finished already" in command("dry_run=true", "-m")
    changed = command()
    assert "already finished" not in changed
    accuracy = re.compile(r"test accuracy (\S+)%")
    assert accuracy.search(changed)[1] != accuracy.search(first)[1]
