"""The page of all published reports: byte for byte, by which rules its sentences are chosen, and that a changed number
is found. After a change that is meant: ABLATIONS_GOLDEN=write, as in test_report_golden."""

import json
import os
import re
import shutil
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import pandas as pd
import pytest
from fake_store import Store
from test_report_golden import GOLDEN

from ablations.comparison.confounds import Differing, Found
from ablations.comparison.verdicts import Verdict
from ablations.errors import InputError
from ablations.ground.paths import ROOT
from ablations.report import compile_report
from ablations.report.__main__ import main
from ablations.report.again import analysed, compile_again, kept
from ablations.report.check import DoesNotFollow, check_all
from ablations.report.findings import (
    MOST,
    MOST_OF_REPORT,
    QUOTA,
    Finding,
    Kind,
    _chosen,
    _interactions,
    _of_report,
    findings,
    spread,
)
from ablations.report.index import BLOCK, index, pages, write_index
from ablations.report.numbers import Form
from ablations.report.settled import elsewhere, of_own_runs
from ablations.report.shelf import Shelved, homes, shelved
from ablations.tracking.study import Study

CLAIM = {"factor": "activation", "variant": "relu", "baseline": "tanh", "source": "A & B (1998), 3"}
CLAIMS = (
    {"text": "ReLU is there sooner than tanh.", "metric": "epochs_to_target", **CLAIM},
    {"text": "ReLU is better | than tanh.", **CLAIM},
    {"text": "GELU is better.", **CLAIM, "variant": "gelu", "baseline": "relu"},
)
OWN_BLOCK = "# Mine\n<!-- findings -->\nold\n<!-- /findings -->\nrest\n"


def a_study(name: str, baseline: dict[str, str], **other: object) -> Study:
    usual = {"design": "grid", "tuned_on": "val/accuracy", "question": f"What of {name}?"}
    usual["command"] = f"python run.py -m name={name}"
    return Study(name, tuple(baseline), baseline, "test/error_pct", 0.25, **usual | other)


def planted(store, study: Study, reached, metrics=lambda *_: None, **more) -> None:
    """Runs of a study: by levels of its factors its error, in eighths, beside what a seed adds to all."""
    store.keep(study)
    for seed, levels in product(range(10), reached):
        error = reached[levels](seed) if callable(reached[levels]) else reached[levels]
        store.add(
            error + seed % 3 / 4,
            sweep=study.name,
            factors=",".join(study.factors),
            seed=seed,
            metrics=metrics(seed, *levels),
            tags={"shift_sha256": "ab", "rejection_sha256": "cd"},
            **dict(zip(study.factors, levels, strict=True)),
            **more,
        )


def published(store, folder: Path, study: Study, *args, **more) -> Path:
    planted(store, study, *args, **more)
    home = compile_report(study.name, folder=folder).path.parent
    (home / "PUBLISHED").write_text("")
    return home


def measured(seed: int, activation: str) -> dict[str, float]:
    """Tanh reads moved images worse, and is calibrated better."""
    tanh = activation == "tanh"
    return {
        "test/ece": 0.5 + seed / 64 - tanh / 4,
        "shift/geometry/error_pct": 10.0 + seed + 2 * tanh,
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Five published reports, one that is not, and a README.md beside them that quotes."""
    home = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        store = Store(home / "artifacts")
        patch.setattr("ablations.tracking.reader.Reader", lambda _: store)
        patch.setattr("ablations.report.drawings.drawings", lambda *_: iter(()))
        fill(store, home / "reports")
    (home / "README.md").write_text(OWN_BLOCK)
    return home


@pytest.fixture(scope="module")
def reports(made) -> list[Shelved]:
    return [shelved(home) for home in homes(made / "reports")]


@pytest.fixture(scope="module")
def text(reports) -> str:
    return index(reports, findings(reports))


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """The same once more, to be changed."""
    shutil.copytree(made / "reports", tmp_path / "reports")
    shutil.copy(made / "README.md", tmp_path)
    return tmp_path / "reports"


def fill(store: Store, reports: Path) -> None:
    one, two = {"activation": "relu"}, {"activation": "relu", "pool": "max"}
    errors = {("relu",): 4.0, ("tanh",): 5.0, ("gelu",): lambda seed: 4 + seed % 2 / 8}
    target = {"metric": "val/accuracy", "value": 0.93}
    chosen = a_study("choices", one, claims=CLAIMS, target=target)
    published(store, reports, chosen, errors, metrics=measured, epochs=6)
    published(store, reports, a_study("once_more", {"activation": "tanh"}), {("relu",): 2.0, ("tanh",): 2.5})
    other = a_study("otherwise", one, question=None)
    published(store, reports, other, {("relu",): 2.0, ("gelu",): 3.0})
    both = {
        pair: 4.0 + (pair in {("tanh", "max"), ("relu", "avg")})
        for pair in product(("relu", "tanh"), ("max", "avg"))
    }
    published(store, reports, a_study("together", two), both)
    steps = {"c3": ("sparse", "full"), "pool": ("avg", "max")}
    ladder = a_study("history", {"c3": "sparse", "pool": "avg"}, design="ladder", steps=steps)
    climbed = {
        ("sparse", "avg"): 6.0,
        ("full", "avg"): lambda seed: 6 + (seed % 5 - 2) / 2,
        ("full", "max"): 3.0,
    }
    home = published(store, reports, ladder, climbed)
    draw(home, "ladder", "Step by step", "Each step keeps the changes before it.")
    planted(store, a_study("local", one), {("relu",): 1.0, ("tanh",): 99.0})
    compile_report("local", folder=reports)


def draw(home: Path, stem: str, heading: str, caption: str) -> None:
    """Give a report a figure, as far as its files say."""
    (home / "figures").mkdir(exist_ok=True)
    (home / "figures" / f"{stem}.png").write_bytes(b"")
    about = json.loads((home / "report.json").read_text())
    about["figures"][stem] = [heading, caption, True]
    (home / "report.json").write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    compile_again(home)


def sentences(text: str) -> list[str]:
    return re.findall(r"^- (.*)", text.split("\n## ")[0], re.MULTILINE)


def test_the_page_byte_for_byte(folder):
    write_index(folder)
    written = {"README.md": folder / "README.md", "quoted.md": folder.parent / "README.md"}
    for name, path in written.items():
        kept = GOLDEN / "index" / name
        if os.environ.get("ABLATIONS_GOLDEN") == "write":
            kept.parent.mkdir(exist_ok=True)
            shutil.copy(path, kept)
        assert path.read_text("utf-8") == kept.read_text("utf-8"), name
    assert str(folder.parent) not in (folder / "README.md").read_text("utf-8")
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "drafts are gone"
    before = {path: path.read_bytes() for path in written.values()}
    write_index(folder)
    assert {path: path.read_bytes() for path in written.values()} == before


def test_sentences_are_those_that_the_numbers_give(text):
    said = sentences(text)
    by = "lowers the test error by 3.00 percentage points (95 % interval"
    assert any(each.startswith(f"**Taking all steps of the ladder** instead of none {by}") for each in said)
    (tanh,) = (each for each in said if each.startswith("**activation=tanh** instead of relu raises"))
    assert "by 1.00 percentage points (95 % interval 1.00 to 1.00)" in tanh
    assert (
        "; so too in [once_more](once_more/README.md); depending on another choice in [together](together/README.md))."
        in tanh
    )
    assert not any("**activation=relu** instead of tanh lowers the test error" in each for each in said)
    assert any("is better in calibration error, but worse in test error" in each for each in said)
    assert any(
        "“ReLU is there sooner than tanh” (A &amp; B (1998), 3) is **supported**" in each for each in said
    )
    assert any(
        re.match(r"What \*\*\S+\*\* instead of \w+ does to the test error depends on", each) for each in said
    )
    (left,) = (each for each in said if each.startswith("Not settled"))
    assert re.search(r"what \*\*c3=full\*\* instead of sparse .* seeds in all would settle it", left)
    assert not any("local" in each or "94.00" in each or "98.00" in each for each in said)


def test_a_choice_that_two_reports_settle_otherwise_is_said_once_with_both(reports):
    found = findings(reports)
    gelu = [
        each for each in found if "gelu" in each.text and each.kind in (Kind.DIFFERENCE, Kind.NO_DIFFERENCE)
    ]
    assert [(each.kind, each.report.name) for each in gelu] == [(Kind.DIFFERENCE, "otherwise")]
    assert [each.name for each in gelu[0].otherwise] == ["choices"]
    assert gelu[0].said().endswith("; otherwise in [choices](choices/README.md)).")


def test_an_interaction_is_said_where_no_level_answers_in_its_place(reports):
    (found,) = _interactions(reports[-1], Form(2, "percentage points"))
    assert found.text == (
        "**activation and pool depend on each other**: activation=tanh together with pool=avg makes the test error "
        "2.00 percentage points lower than the two alone let one expect"
    )


@pytest.mark.parametrize("verdict", [each for each in Verdict if not each.settled])
def test_nothing_is_found_where_a_comparison_is_not_settled(reports, verdict):
    report = next(each for each in reports if each.name == "once_more")
    effects = report.analysis.effects.assign(verdict=verdict)
    left = replace(report, analysis=replace(report.analysis, effects=effects))
    assert findings([report])
    assert not findings([left])
    asked = replace(left.analysis, effects=effects.assign(seeds_needed=30, seeds_needed_at_least=20))
    said = [each.said() for each in findings([replace(left, analysis=asked)])]
    expected = [
        "Not settled: what **activation=relu** instead of tanh does to the test error; about 20 to 30 seeds in all "
        "would settle it ([once_more](once_more/README.md), 10 seeds, 2 epochs of digits)."
    ]
    assert said == ([] if verdict == Verdict.CONFOUNDED else expected)


def named(reports, name: str) -> Shelved:
    return next(each for each in reports if each.name == name)


def test_a_trade_off_names_the_reports_that_say_more_of_its_test_error(reports):
    (said,) = (each.said() for each in findings(reports) if each.kind == Kind.TRADE_OFF)
    assert (
        "training ended: tanh and relu; test error so too in [once_more](once_more/README.md); test error "
        in said
    )
    assert said.endswith("depending on another choice in [together](together/README.md)).")


def test_a_report_of_the_same_runs_does_not_say_so_too(reports):
    once = named(reports, "once_more")
    alias = replace(once, name="alias")
    (tanh,) = (
        each
        for each in findings([*reports, alias])
        if each.text.startswith("**activation=tanh** instead of relu raises")
    )
    assert [each.name for each in tanh.same] == ["once_more"]
    (relu,) = findings([once, alias])
    assert relu.same == ()


def test_what_another_sweep_adopted_is_the_same_training(reports):
    """It has a run of its own there, with the same hashes."""
    once = named(reports, "once_more")
    runs = once.analysis.runs
    hashed = runs.assign(**{"tags.config_hash": [f"c{i}" for i in range(len(runs))], "tags.code_hash": "k"})

    def under(name: str, hashes, **other) -> Shelved:
        ids = {run_id: f"{name}-{run_id}" for run_id in runs["run_id"]}
        of = [
            replace(each, run_ids=tuple(tuple(ids[run] for run in pair) for pair in each.run_ids))
            for each in once.analysis.comparisons
        ]
        own = hashes.assign(run_id=hashes["run_id"].map(ids), **other)
        return replace(once, name=name, analysis=replace(once.analysis, runs=own, comparisons=tuple(of)))

    first = under("first", hashed)
    (alone,) = findings([first, under("adopted", hashed)])
    assert alone.same == ()
    (together,) = findings([first, under("trained", hashed, **{"tags.code_hash": "other"})])
    assert [each.name for each in together.same] == ["trained"]


def test_reports_that_share_a_training_are_named_once(reports):
    first, second, third = reports[:3]
    said = [(first, frozenset("ab")), (second, frozenset("bc")), (third, frozenset("cd"))]
    assert of_own_runs(said) == [first, third]
    assert of_own_runs([]) == []


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ({"relu": 0.0, "tanh": 0.0}, ""),
        ({"relu": 0.0, "tanh": 0.004}, ", still improving when training ended: tanh"),
        ({"relu": 0.004, "tanh": -0.004}, ", still improving when training ended: relu"),
        ({"relu": 0.004, "tanh": 0.004}, ", still improving when training ended: relu and tanh"),
    ],
)
def test_a_sentence_says_what_longer_training_would_have_brought_further(reports, gains, said):
    report = named(reports, "once_more")
    runs = report.analysis.runs
    runs = runs.assign(late_gain=runs["params.activation"].map(gains))
    (found,) = findings([replace(report, analysis=replace(report.analysis, runs=runs))])
    assert found.text.startswith("**activation=relu** instead of tanh lowers")
    assert found.basis == f"10 seeds, 2 epochs of digits{said}"


@pytest.mark.parametrize(
    ("edges", "said"),
    [
        ({"relu": (), "tanh": ()}, ""),
        ({"relu": ("optimizer.lr",), "tanh": ()}, ", optimizer.lr at the edge of what was tried: relu"),
        (
            {"relu": ("optimizer.lr",), "tanh": ("optimizer.lr",)},
            ", optimizer.lr at the edge of what was tried: relu and tanh",
        ),
    ],
)
def test_a_sentence_says_where_a_better_value_may_lie_beyond(reports, edges, said):
    report = named(reports, "once_more")
    of = pd.DataFrame([{"params.activation": level, "edge": edge} for level, edge in edges.items()])
    study = replace(report.analysis.study, nuisance=("optimizer.lr",))
    (found,) = findings([replace(report, analysis=replace(report.analysis, study=study, tuned=of))])
    assert found.basis == f"10 seeds, 2 epochs of digits{said}"


def test_other_reports_of_what_answers_a_claim_are_of_its_comparison(reports):
    report = named(reports, "once_more")
    (found,) = findings([report])
    claim = replace(found, kind=Kind.CLAIM, same=(named(reports, "choices"),))
    assert claim.said().endswith("; the comparison so too in [choices](choices/README.md)).")


def test_a_ladder_as_a_whole_ends_with_its_last_step(reports):
    report = named(reports, "history")
    runs = report.analysis.runs.assign(late_gain=0.004, validated_epochs=9.0, best_epoch=8.0)
    found = _of_report(replace(report, analysis=replace(report.analysis, runs=runs)), {})
    (whole,) = (each for each in found if "all steps" in each.text)
    assert whole.basis.endswith(", still improving when training ended: the last step and the start")


def with_batch_size(report: Shelved) -> Shelved:
    """A report of whose first comparison the variant brings a batch size, too."""
    along = Differing("trainer.batch_size", ("8",), ("32",), ("0",))
    own = Differing("activation.slope", ("1",), ("2",), ("0",))
    inside = Differing("network.macs", ("1",), ("2",), ("0",))
    first, *others = report.analysis.comparisons
    first = replace(first, differing=Found(varied_with=(own, along, inside)))
    return replace(report, analysis=replace(report.analysis, comparisons=(first, *others)))


def test_what_is_chosen_along_with_a_choice_is_named_and_makes_it_another_one(reports):
    changed = with_batch_size(named(reports, "once_more"))
    (said,) = findings([changed])
    assert said.text.startswith("**activation=relu** instead of tanh (with trainer.batch_size=8) lowers the")
    assert "| activation: relu (with trainer.batch_size=8) | tanh | better |" in index([changed], [])
    both = findings([named(reports, "choices"), changed])
    assert not any("once_more" in each.said() for each in both if "tanh** instead of relu" in each.text)


def test_no_average_answers_a_claim_where_the_levels_of_another_choice_do(made):
    there = kept(made / "reports" / "together")
    claim = {
        "text": "Tanh is worse.",
        **CLAIM,
        "variant": "tanh",
        "baseline": "relu",
        "direction": "not_worse",
    }
    analysis = analysed(replace(there, study=replace(there.study, claims=(claim,))))
    assert [(each.finding, each.row["verdict"]) for each in analysis.answers] == [
        ("depends", Verdict.NO_DIFFERENCE)
    ]
    report = Shelved("together", there.home, analysis, {})
    assert not any(each.kind == Kind.CLAIM for each in findings([report]))
    assert "| Tanh is worse. | A &amp; B (1998), 3 | depends |" in index([report], [])


def test_a_claim_that_holds_at_every_level_is_told_by_the_levels(made):
    """Their average, 1.00 lower, is what no variant does."""
    there = kept(made / "reports" / "together")
    lower = (there.runs["params.activation"] == "tanh") & (there.runs["params.pool"] == "avg")
    error = 5 - 2.0 * lower + there.runs["params.seed"].astype(float) / 8
    runs = there.runs.assign(**{"metrics.test/error_pct": error})
    claim = {"text": "…", **CLAIM, "variant": "tanh", "baseline": "relu", "direction": "not_worse"}
    analysis = analysed(replace(there, runs=runs, study=replace(there.study, claims=(claim,))))
    of_report = _of_report(Shelved("together", there.home, analysis, {}), {})
    (said,) = (each.text for each in of_report if each.kind == Kind.CLAIM)
    assert said.endswith(
        "is **supported**: what **activation=tanh** instead of relu does to the test error depends on pool (in "
        "percentage points, with 95 % intervals): with avg it lowers it by 2.00 (2.00 to 2.00); with max it changes "
        "it by less than 0.28 percentage points"
    )


def test_quotations_from_memory_come_last(made):
    there = kept(made / "reports" / "together")
    said = [
        {
            "text": f"{source}.",
            **CLAIM,
            "source": source,
            "variant": "tanh",
            "baseline": "relu",
            "direction": way,
        }
        for source, way in (("A (from memory)", "worse"), ("B", "better"), ("C", "worse"))
    ]
    error = (there.runs["params.activation"] == "tanh") + there.runs["params.seed"].astype(float) / 8
    runs = there.runs.assign(**{"metrics.test/error_pct": error})
    analysis = analysed(replace(there, runs=runs, study=replace(there.study, claims=tuple(said))))
    found = [
        each
        for each in _of_report(Shelved("together", there.home, analysis, {}), {})
        if each.kind == Kind.CLAIM
    ]
    ordered = sorted(found, key=lambda each: each.rank)
    assert [each.text[1] for each in ordered] == ["B", "C", "A"]  # refuted, supported, from memory


def test_a_claim_on_an_average_says_so(made):
    there = kept(made / "reports" / "together")
    error = (there.runs["params.activation"] == "tanh") + (there.runs["params.pool"] == "avg") * 2.0
    runs = there.runs.assign(
        **{"metrics.test/error_pct": error + there.runs["params.seed"].astype(float) / 8}
    )
    claim = {"text": "Tanh is worse.", **CLAIM, "variant": "tanh", "baseline": "relu", "direction": "worse"}
    analysis = analysed(replace(there, runs=runs, study=replace(there.study, claims=(claim,))))
    of_report = _of_report(Shelved("together", there.home, analysis, {}), {})
    (said,) = (each.text for each in of_report if each.kind == Kind.CLAIM)
    assert said.endswith("by 1.00 percentage points (95 % interval 1.00 to 1.00), on average over pool")


def test_tables_have_every_comparison_and_claim_with_a_link(text):
    worth = text.partition("## What each choice is worth")[2].partition("\n## ")[0]
    rows = [line for line in worth.splitlines() if line.startswith("| [")]
    # 2, 1, 1, 3 of the ladder, and of the grid two averages, an interaction and each average at two levels.
    assert len(rows) == 2 + 1 + 1 + 3 + 3 + 4
    assert all("/README.md)" in row for row in rows)
    (tanh,) = (row for row in rows if "[choices]" in row and "tanh" in row)
    assert r"| worse | +1.00 \[+1.00, +1.00\] | 10 | -0.25, better | +2.00, worse |  | 1.5 / 1.5 |" in tanh
    claims = text.partition("## Claims of others")[2].partition("\n## ")[0]
    assert claims.count("[choices](choices/README.md)") == len(CLAIMS)
    (gelu,) = (line for line in claims.splitlines() if "GELU is better" in line)
    assert gelu.endswith("| [choices](choices/README.md); otherwise in [otherwise](otherwise/README.md) |")
    assert r"ReLU is better \| than tanh." in claims


def test_a_report_of_earlier_editions_has_empty_cells(folder):
    """Without outcomes.csv, looks, images and remarks, as in the first that were published."""
    home = folder / "once_more"
    about = json.loads((home / "report.json").read_text())
    for name in ("looks", "images"):
        del about[name]
    (home / "report.json").write_text(json.dumps(about))
    (home / "outcomes.csv").unlink(missing_ok=True)
    text = index([shelved(home)], [])
    assert re.search(r"\| activation: relu \| tanh \| better \|.*\|  \|  \|  \| 1\.5 / 1\.5 \|", text)
    assert "Nothing is settled in these reports yet." in text


# Which sentences are chosen

HERE = [Shelved(f"r{i}", Path(), None, {}) for i in range(12)]


def of(kind: Kind, report: int, about: object = None, rank: float = 0) -> Finding:
    return Finding(kind, HERE[report], about or object(), (rank,), kind)


def test_kinds_have_their_quota_where_all_have_enough_to_say():
    every = [of(kind, i) for kind in Kind for i in range(12)]
    chosen = _chosen(every)
    assert len(chosen) == MOST == sum(QUOTA.values())
    assert {kind: sum(each.kind == kind for each in chosen) for kind in Kind} == QUOTA
    assert max(sum(each.report is report for each in chosen) for report in HERE) == 2


def test_one_report_alone_says_no_more_than_a_few():
    assert len(_chosen([of(Kind.DIFFERENCE, 0) for _ in range(9)])) == MOST_OF_REPORT


def test_nothing_is_said_twice_and_what_is_open_fills_no_room():
    same = [of(Kind.DIFFERENCE, 0, "pool"), of(Kind.CLAIM, 1, "pool")]
    left = [of(Kind.OPEN, i) for i in range(2, 9)]
    assert _chosen([*same, *left]) == [same[0], left[0]]


def test_what_the_readme_quotes_is_of_different_kinds_and_reports():
    found = [
        of(Kind.DIFFERENCE, 0),
        of(Kind.DIFFERENCE, 1),
        of(Kind.NO_DIFFERENCE, 0),
        of(Kind.NO_DIFFERENCE, 2),
    ]
    found.append(of(Kind.CLAIM, 3))
    assert spread(found, 3) == [found[0], found[3], found[4]]
    assert spread(found[:1], 3) == found[:1]


# Bad input


def test_folders_without_reports_and_damaged_ones_are_one_line(two, tmp_path):
    for empty in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(
            InputError, match="no published report; a report is published by a file PUBLISHED"
        ):
            write_index(empty)
    before = (two / "README.md").read_bytes()
    for damage, said in (("{", ".*; compile the report again"), (None, "no such file")):
        path = two / "once_more" / "report.json"
        path.unlink() if damage is None else path.write_text(damage)
        with pytest.raises(InputError, match=rf"once_more.report\.json: {said}"):
            write_index(two)
    assert (two / "README.md").read_bytes() == before


@pytest.mark.parametrize("text", ["", "run_id,status\n"])
def test_a_damaged_table_is_said_with_its_report(two, text):
    (two / "once_more" / "runs.csv").write_text(text)
    with pytest.raises(InputError, match=r"^once_more: .*runs\.csv: "):
        write_index(two)


def test_a_run_that_stands_there_twice_is_one_line(two):
    path = two / "once_more" / "runs.csv"
    *_, last = path.read_text().splitlines()
    path.write_text(f"{path.read_text()}{last}\n")
    said = f"runs.csv: run_id {last.partition(',')[0]}: more than once"
    with pytest.raises(InputError, match=f"^once_more: {said}$"):
        write_index(two)
    checks = check_all(two)
    assert "follow from its runs.csv" in next(checks)
    assert next(checks) == f"once_more: {said}"


def test_a_page_to_be_mailed_that_cannot_be_read_is_one_line(two):
    (two / "once_more" / "report.html").write_bytes(b"\xff")
    assert re.fullmatch(r"once_more: .*report\.html: cannot be read: .*", list(islice(check_all(two), 2))[1])


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_folder_whose_name_is_no_text_has_an_address(reports):
    report = replace(reports[0], name=os.fsdecode(b"bad\xff"))
    assert report.link() == "[bad](bad%FF/README.md)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--all"], "--all: with --check, which then checks every published report"),
        (["--check", "--all", "pool"], "--check --all: of all published reports, without NAME"),
        (["--check", "--all", "--html"], "--check --all: of all published reports, without --html"),
        (["--index", "pool"], "--index: of all published reports, without NAME"),
        (["--index", "--out", "x"], "--index: of all published reports, without --out"),
        (["--index", "--check", "--all"], "--index: of all published reports, without --"),
        (["--index"], "no published report"),
        (["--check", "--all"], "no published report"),
    ],
)
def test_what_the_command_cannot_use(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("ablations.ground.paths.REPORTS", tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1


# --check --all


def test_all_are_checked_from_their_own_runs_and_so_is_the_page(folder, capsys, monkeypatch):
    monkeypatch.setattr("ablations.ground.paths.REPORTS", folder)
    monkeypatch.setattr("ablations.report.check.Reader", None)  # a fresh clone has no store
    main(["--index"])
    main(["--check", "--all"])
    lines = capsys.readouterr().out.splitlines()[1:]
    names = ["choices", "history", "once_more", "otherwise", "together", "reports/README.md", "README.md"]
    assert [line.partition(":")[0] for line in lines] == names
    assert all("follow from its runs.csv: " in line for line in lines[:5])
    assert lines[5:] == [f"{name}: follows from 5 published reports" for name in names[5:]]


@pytest.fixture
def two(folder) -> Path:
    """The same with two reports alone, which are read sooner."""
    for home in set(homes(folder)) - {folder / "history", folder / "once_more"}:
        shutil.rmtree(home)
    write_index(folder)
    return folder


def test_a_changed_number_ends_the_check_of_all_with_2_after_the_others(two, capsys, monkeypatch):
    monkeypatch.setattr("ablations.ground.paths.REPORTS", two)
    path = two / "history" / "effects.csv"
    path.write_text(path.read_text().replace("-3.0", "-3.5", 1))
    with pytest.raises(SystemExit) as stop:
        main(["--check", "--all"])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert re.search(r"^history: .*effects\.csv, line \d+: -3\.5 does not follow; recomputed: -3\.0$", first)
    assert second.startswith("once_more: README.md, runs.csv")
    assert err == "error: 1 of 2 published reports does not follow, as said above\n"


def test_pages_that_no_longer_follow_are_found(two):
    page, readme = two / "README.md", two.parent / "README.md"
    for path in (readme, page):
        path.write_text(path.read_text("utf-8").replace("by 0.50", "by 0.51", 1), "utf-8")
        said = r"README\.md, line \d+: 0\.51 does not follow; recomputed: 0\.50; .* --index writes it anew"
        with pytest.raises(DoesNotFollow, match=re.escape(str(path.parent)) + "." + said):
            list(check_all(two))
    page.unlink()
    with pytest.raises(DoesNotFollow, match=r"README\.md: missing; python -m ablations\.report --index"):
        list(check_all(two))


def test_a_readme_without_the_block_stays_as_it_is(two, reports):
    readme = two.parent / "README.md"
    readme.write_text("mine\n")
    write_index(two)
    assert readme.read_text() == "mine\n"
    readme.unlink()
    assert list(pages(reports, two)) == [two / "README.md"]


# What is published


def block_of(name: str) -> str:
    return BLOCK.search((ROOT / name).read_text("utf-8"))[0]


def points(text: str) -> list[str]:
    return re.findall(r"^- (.*)", text, re.MULTILINE)


def test_the_readme_quotes_the_page():
    page = points((ROOT / "reports" / "README.md").read_text("utf-8"))
    quoted = points(block_of("README.md"))
    assert quoted
    for sentence in quoted:
        assert sentence.replace("](reports/", "](") in page


def test_the_chinese_readme_has_the_same_numbers_links_and_figure():
    ours, theirs = map(block_of, ("README.md", "README.zh.md"))
    assert [sorted(numbers(each)) for each in points(ours)] == [
        sorted(numbers(each)) for each in points(theirs)
    ]
    links = [re.findall(r"\]\((.*?)\)", each) for each in (ours, theirs)]
    assert links[0] == links[1]


def numbers(sentence: str) -> list[str]:
    return re.findall(r"\d+(?:[.,]\d+)*", re.sub(r"\]\(.*?\)", "]", sentence))


def test_what_variants_choose_for_themselves_is_not_what_comes_along(reports):
    """A learning rate of its own is told where the tuning is."""
    report = with_batch_size(named(reports, "once_more"))
    study = replace(report.analysis.study, nuisance=("trainer.batch_size",))
    tuned = replace(report, analysis=replace(report.analysis, study=study))
    assert any("with trainer.batch_size" in each.said() for each in findings([report]))
    assert not any("with trainer.batch_size" in each.said() for each in findings([tuned]))


@pytest.mark.parametrize(("verdict", "said"), [(Verdict.BETTER, ["choices"]), (Verdict.WORSE, [])])
def test_a_secondary_outcome_settles_what_another_report_claims(reports, verdict, said):
    """In `choices` tanh has the smaller calibration error."""
    once = named(reports, "once_more")
    compared, *_ = once.analysis.comparisons
    compared = replace(compared, metric="test/ece")
    asked = replace(once, analysis=replace(once.analysis, comparisons=(*once.analysis.comparisons, compared)))
    row = once.analysis.effects.iloc[0].to_dict() | {"metric": "test/ece", "verdict": verdict}
    assert (row["variant"], row["baseline"]) == (("relu",), ("tanh",))
    otherwise = elsewhere([named(reports, "choices"), asked])
    assert [each.name for each in otherwise(asked, row)] == said
