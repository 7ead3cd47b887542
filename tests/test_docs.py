"""README and docs/: commands work, links lead somewhere, worked examples are followed to the letter, numbers are right.

Commands that can be run cheaply are run, in a copy of the project; of all others the overrides are composed and the
options looked up in --help.
"""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from project import PATIENCE_S

from ablations.comparison.verdicts import can_reach
from ablations.describe import compose_network
from ablations.ground.paths import CONF, ROOT
from ablations.tracking import Reader, Store
from hydra_plugins.ablations_sweeper import COMPLETION

PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN_HERE = {"README.md", "cli.md", "quickstart.md", "reading_a_report.md"}
"""Pages whose commands are run; those of extending.md are in a test of their own."""

PUBLISHED = "needs published reports; test_index has some"
TRAINS = "trains for long; composed, and test_cli runs its like"
SERVES = "serves until Ctrl-C; test_ui does it"
STORE = "needs a store of other programs; test_foreign_runs has one"
INSTALLS = "would install what runs this"
NOT_RUN = {  # command: why
    "python -m pip install -e .": INSTALLS,
    "python -m pip install -e .[test]": INSTALLS,
    "python -m pytest": "it is this",
    "python -m ablations.ui": SERVES,
    "python -m ablations.ui activation-pool": SERVES,
    "python -m ablations.ui --port 0": SERVES,
    "mlflow models serve -m mlruns/artifacts/RUN_ID/artifacts/model --env-manager local": SERVES,
    "python -m ablations.sync --tracking-uri http://127.0.0.1:5000": "needs a server; test_outbox has one",
    "python -m ablations.report --tracking-uri http://127.0.0.1:5000 --experiment NAME --factors lr,arch "
    "--metric val_acc --seed-param seed --baseline lr=0.1": STORE,
    "python -m ablations.report --experiment nightly --factors model --metric val_acc --baseline model=main --fail-if "
    "worse,confounded": "needs a store of other programs; test_gate has one",
    "python -m ablations.report --experiment nightly --factors model --metric val_acc --baseline model=main --fail-if "
    "worse,inconclusive,confounded --non-inferiority 0.005": "needs a store of other programs; test_gate has one",
    "python -m ablations.report --index": PUBLISHED,
    "python -m ablations.report --check --all": PUBLISHED,
    "python -m ablations.export_images mnist /tmp/mnist": "may download MNIST",
    "python -m ablations.export_images mnist /tmp/mnist dataset.root=FOLDER": "needs MNIST",
    "python run.py -m activation=relu,tanh pool=max,avg": "made here with one epoch",
    "python run.py -m activation=relu,tanh pool=max,avg 'seed=range(8)' hydra/launcher=joblib": TRAINS,
    "python run.py -m activation=relu,tanh 'seed=range(8)'": TRAINS,
    "python run.py -m 'activation=glob(*)'": TRAINS,
    "python run.py -m optimizer=sgd,adam 'seed=range(8)'": TRAINS,
    "python run.py -m optimizer.lr=0.001,0.003 hydra/launcher=joblib": TRAINS,
    "python run.py -m pool=max,avg hydra/launcher=joblib hydra.launcher.n_jobs=2": TRAINS,
    "python run.py +study=activation": TRAINS,
    "python run.py +study=activation_x_pool until=settled budget=30m hydra/launcher=joblib": TRAINS,
    "python run.py +study=activation_x_pool until=settled budget=30m": TRAINS,
    "python run.py +study=activation_x_pool hydra/launcher=joblib": TRAINS,
    "python run.py -m activation=relu,tanh pool=max,avg until=settled budget=30m hydra/launcher=joblib": TRAINS,
    "python run.py +study=learning_rate_tuned": TRAINS,
    "python run.py +study=activation hydra/launcher=joblib": TRAINS,
    "python run.py +study=activation activation=relu,tanh trainer.epochs=5": TRAINS,
    "python run.py +study=reproductions": TRAINS,
    "python run.py +experiment=lenet5_1998": TRAINS,
    "python run.py +experiment=textbook_adam dataset.root=FOLDER": TRAINS,
    "python run.py dataset=mnist trainer.epochs=3": TRAINS,
    "python run.py dataset=images dataset.root=FOLDER": TRAINS,
}

DRIVER = """
import contextlib, io, json, runpy, sys
from hydra.core.global_hydra import GlobalHydra

for line in sys.stdin:  # one process for many commands: importing mlflow takes longer than most of them
    sys.argv, (out, err), code = json.loads(line), (io.StringIO(), io.StringIO()), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if sys.argv[0] == "-m":
                del sys.argv[0]
                runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    GlobalHydra.instance().clear()
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=sys.__stdout__, flush=True)
"""


def blocks(page: Path, language: str = "sh") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)


def commands(page: Path) -> list[list[str]]:
    """The words of each command in the page's shell blocks, variables set before it left away."""
    lines = "".join(blocks(page)).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        for part in re.split(r"\s&&\s", line):
            words = shlex.split(part, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            if words:
                found.append(words)
    return found


def everywhere() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        yield from ((page.name, words) for words in commands(page))


class Copy:
    """A copy of the project and one process that runs commands in it."""

    def __init__(self, root: Path, *names: str) -> None:
        self.root = root
        for name in ("conf", "ablations", "hydra_plugins", *names):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "run.py", root)
        shutil.copy(ROOT / "pyproject.toml", root)

    def run(self, wanted: list[list[str]]) -> list[tuple[int, str, str]]:
        """Exit code, output and errors of each command."""
        unset = {"MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR", "ABLATIONS_OUTBOX"}
        environment = {key: value for key, value in os.environ.items() if key not in unset}
        done = subprocess.run(
            [sys.executable, "-c", DRIVER],
            input="".join(json.dumps(words[1:]) + "\n" for words in wanted),
            cwd=self.root,
            env=environment | {"PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        results = [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]
        assert len(results) == len(wanted), f"{wanted[len(results)]}: {done.stderr}"
        return results


# Commands


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What each command that is run gave: exit code, output, errors."""
    folder = tmp_path_factory.mktemp("docs")
    copy = Copy(folder / "project")
    digit = np.full((60, 60), 255, np.uint8)
    digit[10:50, 28:33] = 0
    (copy.root / "scans").mkdir()
    for name in ("seven.png", "scans/one.jpg"):
        Image.fromarray(digit).save(copy.root / name)
    rows = (
        f"{arch},{seed},{gain + seed / 100}" for seed in range(8) for arch, gain in (("a", 0), ("b", 0.1))
    )
    (copy.root / "results.csv").write_text("\n".join(["arch,seed,acc", *rows]))
    wanted = {
        shlex.join(words): words
        for page in PAGES
        if page.name in RUN_HERE
        for words in commands(page)
        if words[0] == "python" and shlex.join(words) not in not_run()
    }
    first = "python run.py -m activation=relu,tanh pool=max,avg"  # what many others look at
    wanted = {first: first.split()} | wanted

    def here(word: str) -> str:
        """As the shell would, and without leaving the folder."""
        return word.replace("*", "one").replace("/tmp/", f"{folder}/")

    results = copy.run([[*map(here, words)] for words in wanted.values()])
    return copy, dict(zip(wanted, results, strict=True))


@cache
def not_run() -> dict[str, str]:
    return {shlex.join(shlex.split(command)): why for command, why in NOT_RUN.items()}


@pytest.mark.slow
def test_commands_that_can_be_run_succeed(ran):
    _, results = ran
    failed = {command: errors for command, (code, _, errors) in results.items() if code}
    assert not failed
    assert len(results) >= 20


@pytest.mark.slow
def test_what_is_not_run_stands_on_a_page_and_everything_else_is_run(ran):
    written = {shlex.join(words) for page in PAGES if page.name in RUN_HERE for words in commands(page)}
    assert not set(not_run()) - written, "no page has it any more"
    others = written - set(not_run()) - set(ran[1])
    assert others == {shlex.join(["eval", "$(python run.py -sc install=bash)"])}


@pytest.mark.slow
def test_they_do_what_the_pages_say(ran):
    copy, results = ran
    said = {command: out for command, (_, out, _) in results.items()}
    # four are those of the card, at the same settings
    planned = said["python run.py +study=activation_x_pool dry_run=true"]
    assert "48 runs planned, 4 of them finished" in planned
    assert "_target_: ablations.training.optimizers.Adam\n" in said["python run.py --cfg job -p optimizer"]
    assert "c3/sparse" not in said["python run.py --info defaults"]
    assert "follow from the store" in said["python -m ablations.report --check activation-pool"]
    assert "nothing waits" in said["python -m ablations.sync"]
    best = json.loads(said["python -m ablations.predict best:activation-pool 'scans/*.jpg' --json"])
    assert [sum(file["probabilities"]) for file in best["files"]] == [pytest.approx(1)]
    assert Image.open(copy.root / "seen.png").size[0] > 100
    assert len(list((copy.root.parent / "some" / "train").iterdir())) == 100
    assert len(list((copy.root.parent / "digits" / "test").iterdir())) == 360
    model = copy.root / "mlruns" / "artifacts" / best["run_id"] / "artifacts" / "model" / "MLmodel"
    assert model.exists(), "where the page says that `mlflow models serve` finds it"


@pytest.fixture(scope="module")
def composed(compose):
    """composed(overrides): compose them, those of a sweep value by value."""

    @cache
    def override(text: str) -> tuple[str, ...]:
        (parsed,) = OverridesParser.create().parse_overrides([text])
        if not parsed.is_sweep_override():
            return (text,)
        if "glob(" in text:
            return ()
        key = parsed.get_key_element()
        return tuple(f"{key}={value}" for value in parsed.sweep_string_iterator())

    def composed(overrides: list[str]) -> None:
        held = []
        for text in overrides:
            launcher = text.removeprefix("hydra/launcher=")
            if launcher != text:
                assert launcher in {"basic", "joblib", *(f.stem for f in (CONF / "hydra/launcher").iterdir())}
            elif not text.startswith("hydra"):
                held.append(override(text))
        compose(*(texts[0] for texts in held if texts))
        for texts in held:
            for text in texts[1:]:
                needed = [t[0] for t in held if t and t is not texts and t[0].startswith("+")]
                compose(*needed, text)

    return composed


RUN_FLAGS = {"-m", "--multirun", "--help", "--hydra-help", "--cfg", "--info", "-p", "-sc"}


def test_overrides_compose(composed):
    """Of every page, but for the choices that extending.md adds itself."""
    added = ("leaky_relu", "adamax", "my_idx", "npz", "batch_size dry", "+study=batch_size")
    for page, words in everywhere():
        text = " ".join(words)
        if words[:2] != ["python", "run.py"] or any(name in text for name in added):
            continue
        arguments = words[2:]
        flags = [word for word in arguments if word.startswith("-")]
        assert set(flags) <= RUN_FLAGS, f"{page}: {text}"
        if "--cfg" not in flags and "--info" not in flags and "-sc" not in flags:
            composed([word for word in arguments if not word.startswith("-")])


def test_options_exist(capsys):
    """Every option of `python -m ablations.…` is in that command's --help."""
    helps = {}
    for page, words in everywhere():
        if words[:2] != ["python", "-m"] or not words[2].startswith("ablations"):
            continue
        module = words[2]
        if module not in helps:
            name = f"{module}.__main__" if (ROOT / module.replace(".", "/")).is_dir() else module
            with pytest.raises(SystemExit, match="0"):
                importlib.import_module(name).main(["--help"])
            helps[module] = capsys.readouterr().out
            assert f"python -m {module}" in helps[module].split("examples:")[1]
        for option in (word.split("=")[0] for word in words[3:] if word.startswith("--")):
            assert re.search(rf"{option}\b", helps[module]), f"{page}: {shlex.join(words)}"
    assert len(helps) >= 6


def test_tab_completion_is_installed_as_the_page_says():
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert 'eval "$(python run.py -sc install=bash)"' in page  # what `python run.py --help` says, too
    assert "${completion_command:}" in (CONF / "hydra" / "help" / "ablations.yaml").read_text("utf-8")
    assert COMPLETION == 'eval "$(python run.py -sc install=bash)"'


# Links, figures, tables


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = {Path(link).name for link in links if not (page.parent / link.partition("#")[0]).exists()}
    assert not missing


def test_every_page_is_reached_from_the_readme():
    linked = set(re.findall(r"\]\(docs/([^)#]+\.md)\)", PAGES[0].read_text("utf-8")))
    assert {page.name for page in PAGES[2:]} <= linked


def test_choices_of_the_readme_are_all_choices():
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGES[0].read_text("utf-8"), re.M)
    assert len(rows) == 12
    for group, said in rows:
        outside = re.sub(r"\([^)]*\)", "", said)
        assert set(re.findall(r"`(\w+)`", outside)) == {f.stem for f in (CONF / group).glob("*.yaml")}


def test_layers_in_numbers():
    rows = re.findall(
        r"^\| (\w+) \| ([\w ×]+) \| ([\d@×]+) \| ([\d,]+) \| ([\d,]+) \|$",
        (ROOT / "docs" / "layers.md").read_text("utf-8"),
        re.M,
    )
    layers = compose_network([]).layers
    assert [row[0] for row in rows] == list(layers)
    for (_, kind, shape, parameters, connections), layer in zip(rows, layers.values(), strict=True):
        summary = layer.summary()
        assert kind == summary.kind
        assert tuple(map(int, re.split("[@×]", shape))) == summary.shape
        assert int(parameters.replace(",", "")) == layer.size
        assert int(connections.replace(",", "")) == summary.connections


def test_widths_in_numbers():
    """The page's second table: maps and units in its first cell, or C1's alone."""
    keys = ("C1.maps", "C3.maps", "C5.units", "F6.units")
    rows = re.findall(
        r"^\| ([^|]*\d[^|]*|\*\*as it is\*\*) \| ([\d,*]+) \| ([\d,*]+) \|$",
        (ROOT / "docs" / "width.md").read_text("utf-8"),
        re.M,
    )
    assert len(rows) == 5
    for said, parameters, macs in rows:
        sizes = re.findall(r"\b\d+\b", said)
        overrides = (f"network.layers.{key}={size}" for key, size in zip(keys, sizes, strict=False))
        network = compose_network(list(overrides))
        assert network.values.size == int(parameters.strip("*").replace(",", ""))
        counted = sum(layer.summary().macs for layer in network.layers.values())
        assert counted == int(macs.strip("*").replace(",", ""))


def test_the_report_that_is_read_says_what_is_quoted():
    quoted = re.findall(r"^> (.+)$", (ROOT / "docs" / "reading_a_report.md").read_text("utf-8"), re.M)
    report = (ROOT / "reports" / "activation_x_pool" / "README.md").read_text("utf-8")
    assert len(quoted) == 3
    for sentence in quoted:
        assert sentence in report


# The Chinese translation


def numbers(text: str) -> list[str]:
    """In order within a section; a comma between thousands does not part them."""
    return sorted(re.findall(r"\d+(?:[.,]\d+)*(?:e-\d+)?", text))


def test_the_translation_is_in_step():
    english, chinese = (page.read_text("utf-8") for page in PAGES[:2])
    assert [commands(page) for page in PAGES[:1]] == [commands(page) for page in PAGES[1:2]]
    levels = [re.findall(r"^(#+) ", text, re.M) for text in (english, chinese)]
    assert levels[0] == levels[1]
    of_language = ("README.md", "README.zh.md")
    links = [
        [link for link in re.findall(r"\]\(([^)]+)\)", t) if link not in of_language]
        for t in (english, chinese)
    ]
    assert links[0] == links[1]
    rows = [re.findall(r"^\|", text, re.M) for text in (english, chinese)]
    assert rows[0] == rows[1]
    parts = [re.split(r"^#+ .*$", text, flags=re.M) for text in (english, chinese)]
    for ours, theirs in zip(*parts, strict=True):
        assert numbers(ours) == numbers(theirs)
    code = [re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", t, flags=re.S)) for t in (english, chinese)]
    assert sorted(code[0]) == sorted(code[1])


# The worked examples


EXTENDING = ROOT / "docs" / "extending.md"
EDIT = re.compile(
    r"^`([^`\n]+)`, (new|before `[^`\n]+`|first row of `\w+`)(?:[^\n]|\n(?!\n))*:\n\n```\w+\n(.*?)^```$",
    re.S | re.M,
)


def follow(page: str, root: Path) -> list[str]:
    """Make the changes that the page describes; which files."""
    changed = []
    for name, where, block in EDIT.findall(page):
        file = root / name
        if where == "new":
            assert not file.exists(), name
            file.write_text(block, "utf-8")
        else:
            text, anchor = file.read_text("utf-8"), re.search("`(.+)`", where)[1]
            before = where.startswith("before")
            found = re.search(rf"^{re.escape(anchor)}{'' if before else ' = {.*' + chr(10)}", text, re.M)
            assert found, f"{name} has no {anchor}"
            at = found.start() if before else found.end()
            file.write_text(text[:at] + block + text[at:], "utf-8")
        changed.append(name)
    return changed


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the project with everything that extending.md adds, and what its commands gave."""
    copy = Copy(tmp_path_factory.mktemp("extended") / "project", "tests")
    page = EXTENDING.read_text("utf-8")
    changed = follow(page, copy.root)
    assert len(changed) == len(re.findall(r"^```(?!sh)\w", page, re.M)), "a block does not say where it goes"
    wanted = commands(EXTENDING)
    pytests = [words for words in wanted if "pytest" in words]
    others = [words for words in wanted if "pytest" not in words]
    alone = ["-n", "0", "-p", "no:cacheprovider", "-q"]

    def fewer(words: list[str]) -> list[str]:
        """Of the combinations with the new activation one C3, one precision and two poolings."""
        return [
            "leaky_relu and not (sparse or subsample or float32)" if w == "leaky_relu" else w for w in words
        ]

    results = copy.run([*others, *([*fewer(words), *alone] for words in pytests)])
    return copy, dict(zip(map(shlex.join, [*others, *pytests]), results, strict=True))


@pytest.mark.slow  # half a minute; .ci/run has them
def test_the_worked_examples_work(extended):
    _, results = extended
    assert not {command: out + errors for command, (code, out, errors) in results.items() if code}
    for command, (_, out, _) in results.items():
        if "pytest" in command:
            assert re.search(r"^[1-9]\d* passed", out.splitlines()[-1]), out


@pytest.mark.slow
def test_the_worked_examples_do_what_the_page_says(extended):
    copy, results = extended
    runs = Reader(Store(f"sqlite:///{copy.root / 'mlruns' / 'mlflow.db'}")).runs()
    assert set(runs["status"]) == {"FINISHED"}
    assert "leaky_relu" in set(runs["params.activation"])
    assert "adamax" in set(runs["params.optimizer"])
    both = runs[runs["params.dataset"].isin(["my_idx", "npz"])]
    assert len(both) == 2
    assert both["tags.data_sha256"].nunique() == both["metrics.test/error_pct"].nunique() == 1
    _, preview, _ = results["python run.py +study=batch_size dry_run=true"]
    assert "24 runs planned" in preview
    report = (copy.root / "reports" / "batch_size,trainer.epochs=1" / "README.md").read_text("utf-8")
    assert "Does it matter how many images make a step?" in report
    assert "too few seeds" in report


@pytest.mark.parametrize(
    ("section", "package", "choice"),
    [
        ("An activation", "ablations/nn/activations.py", "conf/activation/leaky_relu.yaml"),
        ("An optimizer", "ablations/training/optimizers.py", "conf/optimizer/adamax.yaml"),
    ],
)
def test_a_variant_is_one_class_one_yaml_and_one_row(section, package, choice):
    page = EXTENDING.read_text("utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    assert [name for name, *_ in EDIT.findall(page)] == [package, choice, "tests/expected.py"]


def test_the_examples_are_written_as_the_project_is(tmp_path):
    """Formatted, annotated and documented: what is copied from the page passes the checks."""
    copy = Copy(tmp_path / "project", "tests")
    changed = [name for name in follow(EXTENDING.read_text("utf-8"), copy.root) if name.endswith(".py")]
    package = sorted({name for name in changed if name.startswith("ablations")})
    for arguments in (["check", *package], ["format", "--check", *sorted(set(changed))]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments], cwd=copy.root, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("comparisons", "least"), [(1, 6), (5, 8), (20, 10)])
def test_the_faq_counts_seeds_as_the_verdicts_do(comparisons, least):
    assert can_reach(least, comparisons)
    assert not can_reach(least, comparisons + 1) or comparisons == 1
    assert not can_reach(5, 1)
    assert not can_reach(least - 1, comparisons)
