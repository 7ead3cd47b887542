"""The command `python -m ablations.report`."""

import argparse
import shlex
import sys
from collections.abc import Sequence

from ablations.commands import as_argument, many, one_line_errors
from ablations.errors import InputError
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

            print(check(options.name, store))
            return
        words = sys.argv[1:] if arguments is None else arguments
        again = [shlex.join(["python", "-m", "ablations.report", *words])]
        request = _request(options)
        report = compile_report(
            options.name, store, request=request, again=again if request != Request() else None
        )
        print(coloured(report.summary))
        if report.failed:
            print(f"\n{many(report.failed, 'run')} without a result: the report names them.")
        print(f"\nreport: {report.path}")
        if not request.of_others:
            print(f"runs:   python -m ablations.ui {as_argument(report.name)}")


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
    store = "the MLflow store (default: MLFLOW_TRACKING_URI, else the project's own)"
    add("--tracking-uri", metavar="URI", help=store)
    add = parser.add_argument_group("anybody's runs, or another view of a sweep").add_argument
    add("--experiment", metavar="NAME", help="the MLflow experiment (default: any)")
    add("--factors", metavar="A,B", help="the params that are compared")
    add("--metric", help="the outcome")
    add("--baseline", metavar="A=X,B=Y", help="the levels that others are compared with")
    add("--seed-param", metavar="KEY", help="the param that pairs runs (default: seed)")
    add("--margin", type=float, help="largest difference that does not matter (default: 0)")
    better = "which values of the metric are (default: told by its name)"
    add("--better", choices=("lower", "higher"), help=better)
    add("--nuisance", metavar="A,B", help="params of which each variant gets its own best value")
    add("--tuned-on", metavar="METRIC", help="the metric that chooses it (default: val/accuracy)")
    return parser


def _request(options: argparse.Namespace) -> Request:
    if options.metric is not None and {options.experiment, options.factors, options.name} == {None}:
        raise InputError("--metric: say of which runs, with NAME, or with --experiment and --factors")
    same = ("experiment", "metric", "margin", "seed_param", "tuned_on")
    return Request(
        **{name: getattr(options, name) for name in same},
        factors=_list(options.factors),
        baseline=_pairs(options.baseline),
        smaller_is_better=None if options.better is None else options.better == "lower",
        nuisance=_list(options.nuisance),
    )


def _list(text: str | None) -> tuple[str, ...] | None:
    keys = (key.strip() for key in (text or "").split(","))
    return None if text is None else tuple(dict.fromkeys(key for key in keys if key))


def _pairs(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = [item.partition("=") for item in text.split(",")]
    wrong = next((key for key, equals, _ in pairs if not equals or not key.strip()), None)
    if wrong is not None:
        raise InputError(f"--baseline: levels as factor=level,factor=level are expected, got {text!r}")
    return {key.strip(): level.strip() for key, _, level in pairs}


if __name__ == "__main__":
    main()
