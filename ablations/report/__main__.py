"""The command `python -m ablations.report`."""

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.commands import about, command_parser, many, module_command, one_line_errors
from ablations.errors import InputError, printable
from ablations.report.compile import Report, compile_report, home_of
from ablations.report.console import coloured
from ablations.report.gate import failing, held_up_by
from ablations.report.request import Request
from ablations.report.sources import Shape, in_csv
from ablations.report.stored import keep_in_store
from ablations.tracking.store import Store

if TYPE_CHECKING:
    from ablations.tracking.results import Results

EXAMPLES = """\
examples:
  python -m ablations.report                      the last sweep
  python -m ablations.report activation-pool      the sweep of that name
  python -m ablations.report --check NAME         recompute a report's numbers from the store, or from its runs.csv
  python -m ablations.report --index              what all published reports found: reports/README.md
  python -m ablations.report --check --all        recompute all published reports and that page

  MLflow runs of any other program:
  python -m ablations.report --tracking-uri http://127.0.0.1:5000 --experiment NAME \\
      --factors lr,arch --metric val_acc --seed-param seed --baseline lr=0.1

  a table of results, one row per run, or wide: one row per seed and a column for each level:
  python -m ablations.report --csv results.csv --factors arch --metric acc --seed-param seed
  python -m ablations.report --csv wide.csv --wide levels --factors arch --metric acc --seed-param seed
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile or check a report."""
    options = parser().parse_args(arguments)
    with one_line_errors():
        store, fail_if = Store(options.tracking_uri), failing(options.fail_if, options.non_inferiority)
        if fail_if and (options.again or options.check):
            raise InputError(
                "--fail-if: with a report that is compiled from the store, without --check and --again"
            )
        if options.index or options.all:
            _on_published(options)
            return
        if options.again:
            from ablations.report.again import compile_again

            print(f"report: {printable(compile_again(_home(options, '--again')))}")
            return
        if options.check:
            from ablations.report.check import check

            print(check(options.name, store, home=options.out))
            return
        words = sys.argv[1:] if arguments is None else arguments
        again = [module_command("report", *(word for word in words if word != "--replace"))]
        source, request = _source(options, _request(options))
        usual = request == Request() and options.out is None and not options.figures
        report = compile_report(
            options.name,
            store,
            request=request,
            again=None if usual else again,
            out=options.out,
            formats=options.figures,
            replace=options.replace,
            source=source,
            html=options.html,
        )
        print(coloured(report.summary))
        if report.failed:
            print(f"\n{many(report.failed, 'run')} without a result: the report names them.")
        print(f"\nreport: {printable(report.path)}")
        if report.remark:
            print(report.remark)
        if (
            report.of_sweep
            and request == Request()
            and (problem := keep_in_store(report, store, update=True))
        ):
            print(f"the report in the store stays as it was: {problem}", file=sys.stderr)
        if report.of_sweep:
            print(f"runs:   {module_command('ui', *about(report.name, store.option))}")
        _gate(report, fail_if, options.non_inferiority)


def _on_published(options: argparse.Namespace) -> None:
    """Write the page of all published reports, or check all of them and that page."""
    words = {"index"} if options.index else {"check", "all"}
    usual = vars(parser().parse_args([]))
    others = [name for name, value in vars(options).items() if name not in words and value != usual[name]]
    if others:
        given = "NAME" if others == ["name"] else "--" + others[-1].replace("_", "-")
        of = "--index" if options.index else "--check --all"
        raise InputError(f"{of}: of all published reports, without {given}")
    if options.index:
        from ablations.report.index import write_index

        print(f"index: {printable(write_index())}")
        return
    if not options.check:
        raise InputError("--all: with --check, which then checks every published report")
    from ablations.report.check import check_all

    for line in check_all():
        print(line, flush=True)


def _gate(report: Report, fail_if: Sequence[str], margin: float | None) -> None:
    """End with exit code 3 where a comparison of the study's metric is what it must not be."""
    study, effects = report.analysis.study, report.analysis.all_effects
    found = held_up_by(effects[effects["metric"] == study.metric], study.smaller, fail_if, margin)
    for line in found:
        print(f"gate: {printable(line)}", file=sys.stderr)
    if found:
        sys.exit(3)


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    found = command_parser(
        "report",
        "Compile a report (reports/NAME/: README.md, figures, tables) from the runs in an MLflow store.",
        EXAMPLES,
    )
    add = found.add_argument
    add("name", nargs="?", metavar="NAME", help="the sweep's name (default: the last sweep)")
    add("--check", action="store_true", help="compile nothing: recompute the report that is there")
    add("--all", action="store_true", help="with --check: every published report, and reports/README.md")
    findings = "compile reports/README.md: what all published reports found"
    add("--index", action="store_true", help=findings)
    csv_alone = "compile the report that is there again from its own runs.csv, where the store is not at hand"
    add("--again", action="store_true", help=csv_alone)
    add(
        "--replace", action="store_true", help="take the place of a published report, or of one of other runs"
    )
    store = "the MLflow store (default: MLFLOW_TRACKING_URI, else the project's own)"
    add("--tracking-uri", metavar="URI", help=store)
    add("--out", metavar="FOLDER", type=Path, help="the report's folder (default: reports/NAME)")
    add("--figures", metavar="svg,pdf", default="", help="figures as vector graphics, too, beside the PNGs")
    page = "also write it as one page to be mailed, report.html in its folder"
    add("--html", action="store_true", help=page)
    _add_table(found)
    _add_questions(found)
    _add_gate(found)
    return found


def _add_table(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("a table of anybody's results in place of a store").add_argument
    add("--csv", metavar="FILE", type=Path, help="a row per run: its settings, its seed, what was measured")
    wide = "its columns are the levels of the factor, or the seeds (default: a row per run)"
    add("--wide", choices=("levels", "seeds"), help=wide)
    besides = "columns besides the metric that were measured; all others are settings"
    add("--measured", metavar="A,B", action="append", help=besides)
    add("--step", metavar="COLUMN", help="the column that counts epochs, where a run has several rows")


def _add_questions(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("anybody's runs, or another view of a sweep").add_argument
    several = "append"  # each may be given again, for another name
    anywhere = "the MLflow experiments (default: the sweep's, else all that have the factors)"
    add("--experiment", metavar="NAME,NAME", action=several, help=anywhere)
    add("--factors", metavar="A,B", action=several, help="the params that are compared")
    add("--metric", help="the outcome")
    add("--baseline", metavar="A=X,B=Y", action=several, help="the levels that others are compared with")
    add("--seed-param", metavar="KEY", help="the param that pairs runs (default: seed)")
    add("--margin", type=float, help="largest difference that does not matter (default: 0)")
    better = "which values of the metric are (default: as its name says, where that leaves no doubt)"
    looked = "at how many seeds you looked before and look now (default: as the sweep's own invocations did, else once)"
    add("--looks", metavar="N,N", action=several, help=looked)
    add("--better", choices=("lower", "higher"), help=better)
    add(
        "--nuisance",
        metavar="A,B",
        action=several,
        help="params of which each variant gets its own best value",
    )
    add("--tuned-on", metavar="METRIC", help="the metric that chooses it (default: val/accuracy)")
    add("--tuned-better", choices=("lower", "higher"), help="which values of that metric are")
    ignored = (
        "params and tags that only name a run, and may differ between the two sides (patterns: 'logger.*')"
    )
    add("--ignore", metavar="KEY,KEY", action=several, help=ignored)
    again = "params that were varied besides: a seed's value is the mean over theirs"
    add("--average-over", metavar="KEY,KEY", action=several, help=again)
    add(
        "--blocks",
        metavar="KEY",
        help="the param with the data sets or folds within which variants are compared",
    )
    add("--unpaired", action="store_true", default=None, help="runs without a seed: compare groups")
    values = "of a metric with several values: best, last or mean-of-last-N (default: last)"
    add("--value", metavar="WHICH", help=values)
    found = "only these runs, in MLflow's own filter grammar: \"params.lr = '0.1' and attributes.status = 'FINISHED'\""
    add("--where", metavar="FILTER", help=found)


def _add_gate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("a gate for continuous integration").add_argument
    wanted = "exit with 3 where a comparison is worse, inconclusive or confounded, as named"
    add("--fail-if", metavar="WORD,WORD", default="", help=wanted)
    shown = "let pass what is shown to be at most so much worse, in the metric's unit"
    add("--non-inferiority", metavar="MARGIN", type=float, help=shown)


def _home(options: argparse.Namespace, option: str) -> Path:
    """The folder of the report that is there."""
    if options.name is None and options.out is None:
        raise InputError(f"{option}: the name of a report is expected")
    return options.out or home_of(options.name)


def _source(options: argparse.Namespace, request: Request) -> "tuple[Results | None, Request]":
    """The table in place of the store, if there is one, and the request for it."""
    if options.csv is None:
        if options.wide or options.measured or options.step:
            raise InputError("--wide, --measured, --step: of a table of results, with --csv FILE")
        return None, request
    if options.experiment or options.tracking_uri:
        raise InputError("--csv: in place of a store, without --experiment and --tracking-uri")
    shape = Shape(options.wide, _list(options.measured) or (), options.step)
    return in_csv(options.csv, options.name or options.csv.stem, request, shape)


def _request(options: argparse.Namespace) -> Request:
    if options.metric is not None and not (
        options.experiment or options.factors or options.name or options.csv
    ):
        raise InputError("--metric: say of which runs, with NAME, or with --experiment and --factors")
    same = ("metric", "margin", "seed_param", "tuned_on", "blocks", "unpaired", "value", "where")
    return Request(
        **{name: getattr(options, name) for name in same},
        experiment=_list(options.experiment),
        factors=_list(options.factors),
        baseline=_pairs(options.baseline, _list(options.factors)),
        smaller_is_better=None if options.better is None else options.better == "lower",
        tuned_smaller_is_better=None if options.tuned_better is None else options.tuned_better == "lower",
        ignore=_list(options.ignore),
        average_over=_list(options.average_over),
        nuisance=_list(options.nuisance),
        looks=_numbers(options.looks),
    )


def _list(texts: Sequence[str] | None) -> tuple[str, ...] | None:
    """Names parted by commas; quotes keep a comma in a name: `'"a,b",c'`."""
    if texts is None:
        return None
    names = (name.strip() for line in csv.reader(texts, skipinitialspace=True) for name in line)
    return tuple(dict.fromkeys(name for name in names if name))


def _numbers(texts: Sequence[str] | None) -> tuple[int, ...] | None:
    names = _list(texts)
    try:
        return None if names is None else tuple(map(int, names))
    except ValueError:
        shown = ",".join(names)
        expected = "numbers of seeds that grow are expected, such as 8,12,18"
        raise InputError(f"--looks {shown}: {expected}") from None


def _pairs(texts: Sequence[str] | None, factors: Sequence[str] | None = None) -> dict[str, str] | None:
    """Levels by factor. Quotes keep commas and equals signs, around a level or the whole of `factor=level`.

    Without quotes a comma parts two levels only where a factor and an equals sign follow, or any name where the factors
    are not said.
    """
    if texts is None:
        return None
    pairs: dict[str, str] = {}
    for given in texts:
        key = ""
        for piece in re.findall(r'(?:"[^"]*"|[^,"]|"(?=[^"]*$))+', given):
            name, level = _parted(piece)
            if name and (not factors or name in factors or not key):
                key = name
                pairs[key] = level
            elif key and (factors or not name):
                pairs[key] += f",{_unquoted(piece)}"
            elif piece.strip():
                expected = "levels as factor=level,factor=level are expected"
                raise InputError(f"--baseline: {expected}, got {given!r}")
    return pairs


def _parted(piece: str) -> tuple[str, str]:
    """A factor and its level; no factor where there is no equals sign."""
    if whole := re.fullmatch(r'\s*"([^"]*)"\s*', piece):
        name, equals, level = whole[1].partition("=")
    else:
        name, equals, level = "", "", ""
        if found := re.fullmatch(r'\s*("[^"]+"|[^="]+?)\s*=(.*)', piece, re.DOTALL):
            name, equals, level = _unquoted(found[1]), "=", found[2]
    return (name.strip(), _unquoted(level)) if equals else ("", "")


def _unquoted(level: str) -> str:
    """A level without the quotes around it."""
    level = level.strip()
    return level[1:-1] if len(level) > 1 and level[0] == level[-1] == '"' else level


if __name__ == "__main__":
    main()
