"""What a user types, before Hydra reads it."""

import shlex
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from ablations.errors import InputError
from ablations.sweep import command_line
from ablations.sweep.command_line import command_lines


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "activation=relu,tanh", "seed=range(8)", "hydra/launcher=joblib"],
        ["name='激活函数'", "~distortion"],
        ["--cfg", "job", "-p", "optimizer"],
        ["-sc", "query=bash"],
        ["optimizer.lr=[0.1,0.01]", "+trainer={x:1}"],
        ["-m", "optimizer=sgd,adam", "optimizer.lr=0.1"],
        [],
    ],
)
def test_what_hydra_reads_is_left_as_it_is(words):
    assert command_lines(words) == [words]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("name=激活函数", ["激活函数"]),
        ("dataset.root=/data/数据", ["/data/数据"]),
        ("dataset.root=/data/Größe 2", ["/data/Größe 2"]),
        ("dataset.root=/data/数据,/b,'c d'", ["/data/数据", "/b", "c d"]),
    ],
)
def test_letters_of_every_script_are_letters(word, values):
    ((_, given),) = command_lines(["-m", word])
    override = OverridesParser.create().parse_override(given)
    value = override.value()
    assert (
        list(map(str, getattr(value, "list", [value]))) == values
        or [each.text if hasattr(each, "text") else each for each in value.list] == values
    )


@pytest.mark.parametrize(
    "text", ["/data/My Data (1)", "/data/a=b", "/data/数据 (1)", "it's", "[x", "$HOME (1)", "a\\b(c"]
)
def test_what_needs_quotes_is_shown_in_those_that_work(text):
    with pytest.raises(InputError) as raised:
        command_lines([f"dataset.root={text}"])
    message = str(raised.value)
    assert message.startswith(f"dataset.root={text}: ")
    (typed,) = shlex.split(message.partition("as one text: ")[2])
    assert OverridesParser.create().parse_override(typed).value() == text
    assert command_lines([typed]) == [[typed]]


@pytest.mark.parametrize("key", ["name", "tracking.experiment"])
def test_what_the_store_cannot_keep_is_refused(key):
    odd = b"caf\xe9".decode("utf-8", "surrogateescape")
    with pytest.raises(InputError, match=r"^\S+caf\\udce9'?: .*UTF-8"):
        command_lines(["-m", "activation=relu,tanh", f"{key}={odd}"])
    assert len(command_lines([f"dataset.root=/data/{odd}"])) == 1


def test_what_is_no_override_says_what_is_accepted():
    with pytest.raises(InputError, match=r"^a b=3: .*; accepted: key=value, as in trainer.epochs=5$"):
        command_lines(["a b=3"])


def test_several_values_without_m():
    with pytest.raises(
        InputError, match=r"^pool=max,avg: several values make a sweep, which takes -m; one text"
    ):
        command_lines(["pool=max,avg"])
    assert command_lines(["+study=pool", "pool=max,avg"]) == [["+study=pool", "pool=max,avg"]]


def test_several_studies_run_one_after_the_other():
    assert command_lines(["-m", "+study=activation,pool", "dry_run=true"]) == [
        ["-m", "+study=activation", "dry_run=true"],
        ["-m", "+study=pool", "dry_run=true"],
    ]
    with pytest.raises(InputError, match=r"^study=pol: there is no such choice; accepted: activation, "):
        command_lines(["+study=activation,pol"])
    with pytest.raises(InputError, match=r"^name: each of several studies has a name of its own"):
        command_lines(["+study=activation,pool", "name=both"])


def test_a_key_that_a_swept_choice_lacks_is_left_to_the_sweeper():
    assert command_lines(["-m", "optimizer=momentum,sgd", "optimizer.momentum=0.8"]) == [
        ["-m", "optimizer=momentum,sgd", "optimizer.momentum=choice(0.8)"]
    ]
    assert command_lines(["+study=optimizer", "optimizer.momentum=0.8"]) == [
        ["+study=optimizer", "optimizer.momentum=choice(0.8)"]
    ]


def test_without_assertions_there_is_one_line(monkeypatch):
    class Optimized:
        optimize = 1

    monkeypatch.setattr("sys.flags", Optimized)
    with pytest.raises(InputError, match=r"^PYTHONOPTIMIZE, python -O: "):
        command_lines([])


def test_a_study_that_is_named_twice_is_refused_before_anything_runs():
    with pytest.raises(InputError, match=r"^study=pool: it is named twice; each study is run once$"):
        command_lines(["-m", "+study=pool,activation,pool"])


def test_of_several_studies_one_that_fails_leaves_the_others_and_the_last_lines_name_all_reports(
    monkeypatch, capsys
):
    ran = []

    def main():
        ran.append(sys.argv[1:])
        study = sys.argv[2].partition("=")[2]
        if study == "pool":
            raise InputError("no such thing")
        command_line.REPORTS.append(f"/reports/{study}/README.md")
        if study == "c3":
            raise SystemExit(1)

    monkeypatch.setattr(command_line, "REPORTS", [])
    monkeypatch.setattr("sys.argv", ["run.py", "-m", "+study=pool,c3,activation", "seed=3"])
    with pytest.raises(SystemExit) as ended:
        command_line.for_each_study(main)
    assert ended.value.code == 1
    assert ran == [["-m", f"+study={study}", "seed=3"] for study in ("pool", "c3", "activation")]
    said, errors = capsys.readouterr()
    assert said.splitlines() == ["report: /reports/c3/README.md", "report: /reports/activation/README.md"]
    assert errors.splitlines() == ["error: no such thing", "2 of 3 studies failed"]


def test_one_study_alone_fails_as_it_always_did(monkeypatch, capsys):
    def main():
        raise SystemExit(3)

    monkeypatch.setattr("sys.argv", ["run.py", "+study=pool"])
    with pytest.raises(SystemExit) as ended:
        command_line.for_each_study(main)
    assert ended.value.code == 3
    assert capsys.readouterr() == ("", "")
