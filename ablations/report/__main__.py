"""The command `python -m ablations.report`."""

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ablations.commands import about, many, module_command, one_line_errors
from ablations.errors import InputError, printable
from ablations.report.compile import compile_report
from ablations.report.console import coloured
from ablations.report.request import Request
from ablations.tracking.store import Store

EXAMPLES = """\
examples:
  python -m ablations.report                      the last sweep
  python -m ablations.report activation-pool      the sweep of that name
  python -m ablations.report --check NAME         recompute a report's numbers from the store, or from its runs.csv

  MLflow runs of any other program:
  python -m ablations.report --tracking-uri http://127.0.0.1:5000 --experiment NAME \\
      --factors lr,arch --metric val_acc --seed-param seed --baseline lr=0.1
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile or check a report."""
    options = _parser().parse_args(arguments)
    with one_line_errors():
        store = Store(options.tracking_uri)
        if options.check:
            from ablations.report.check import check

            print(check(options.name, store, home=options.out))
            return
        words = sys.argv[1:] if arguments is None else arguments
        again = [module_command("report", *(word for word in words if word != "--replace"))]
        request = _request(options)
        usual = request == Request() and options.out is None and not options.figures
        report = compile_report(
            options.name,
            store,
            request=request,
            again=None if usual else again,
            out=options.out,
            formats=options.figures,
            replace=options.replace,
        )
        print(coloured(report.summary))
        if report.failed:
            print(f"\n{many(report.failed, 'run')} without a result: the report names them.")
        print(f"\nreport: {printable(report.path)}")
        if report.remark:
            print(report.remark)
        if report.of_sweep:
            print(f"runs:   {module_command('ui', *about(report.name, store.option))}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ablations.report",
        description="Compile a report (reports/NAME/: README.md, figures, tables) from the runs in an MLflow store.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="the sweep's name (default: the last sweep)")
    add("--check", action="store_true", help="compile nothing: recompute the report that is there")
    add(
        "--replace", action="store_true", help="take the place of a published report, or of one of other runs"
    )
    store = "the MLflow store (default: MLFLOW_TRACKING_URI, else the project's own)"
    add("--tracking-uri", metavar="URI", help=store)
    add("--out", metavar="FOLDER", type=Path, help="the report's folder (default: reports/NAME)")
    add("--figures", metavar="svg,pdf", default="", help="figures as vector graphics, too, beside the PNGs")
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
    return parser


def _request(options: argparse.Namespace) -> Request:
    if options.metric is not None and not (options.experiment or options.factors or options.name):
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
    )


def _list(texts: Sequence[str] | None) -> tuple[str, ...] | None:
    """Names parted by commas; quotes keep a comma in a name: `'"a,b",c'`."""
    if texts is None:
        return None
    names = (name.strip() for line in csv.reader(texts, skipinitialspace=True) for name in line)
    return tuple(dict.fromkeys(name for name in names if name))


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
