"""The tables beside a report's text, for other programs and for papers, and the way back from them."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ablations.errors import InputError
from ablations.report.analysis import Analysis
from ablations.report.numbers import p_value
from ablations.report.words import forms
from ablations.study import Study
from ablations.verdicts import COLUMNS

# Tags of a run that a report's text rests on.
TAGS = ("sweep_id", "study", "command", "failure", "failure_reason", "stream", "data_sha256", "config_hash")
TAGS += ("code", "machine", "versions")
FIRST = ("run_id", "run_name", "status")
DERIVED = ("epoch_s", "train_s")
TIMES = ("start_time", "end_time")


def runs_csv(analysis: Analysis) -> tuple[str, dict[str, str]]:
    """One row per run in full precision, and for each column of a metric the metric's name.

    First what `runs.csv` promises to other programs; then, under the names of the store's reader, everything else
    that the report's text was made from, so that it can be recomputed.
    """
    runs, study = analysis.everything, analysis.study
    runs = runs.assign(rank=runs["run_id"].map(analysis.runs.set_index("run_id")["variant"]))
    runs = runs.sort_values(["rank", "start_time", "run_id"], kind="stable")
    metrics = sorted(name for name in runs if name.startswith("metrics.") and runs[name].notna().any())
    factors = {f"params.{key}": key for key in study.varied}
    named: dict[str, str] = {}
    for name in metrics:
        short = name.removeprefix("metrics.").replace("/", "_")
        # `lr` may be a param and a metric, and `val/acc` and `val_acc` two of them.
        taken = short in {*FIRST, *factors.values(), "seed", "seconds", *named.values()}
        named[name] = name if taken else short
    promised = {
        **{name: name for name in FIRST},
        **factors,
        "params.seed": "seed",
        **named,
        "seconds": "seconds",
    }
    kept = [name for name in (*TIMES, *DERIVED) if name in runs]
    kept += sorted(name for name in runs if name.startswith("params.") and name not in promised)
    kept += [f"tags.{name}" for name in TAGS if f"tags.{name}" in runs]
    kept = [name for name in kept if runs[name].notna().any()]
    frame = runs.reindex(columns=[*promised, *kept]).rename(columns=promised)
    for name in TIMES:
        if name in frame:
            frame[name] = frame[name].map(lambda time: "" if pd.isna(time) else time.isoformat())
    return frame.to_csv(index=False, lineterminator="\n"), {column: name for name, column in named.items()}


def runs_from_csv(text: str, study: Study, metrics: Mapping[str, str]) -> pd.DataFrame:
    """The runs as the reader gave them, from what `runs_csv` wrote. Raises InputError for another table."""
    try:
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except ValueError as error:
        raise InputError(f"runs.csv: {' '.join(str(error).split())}") from None
    names = {key: f"params.{key}" for key in study.varied} | {"seed": "params.seed"} | dict(metrics)
    lacking = {"run_id", "status", *study.varied, *metrics} - set(frame)
    if lacking:
        raise InputError(f"runs.csv: the columns {', '.join(sorted(lacking))} are missing")
    frame = frame.rename(columns=names)
    frame = frame.where(frame != "", None)
    frame = frame.assign(**{name: None for name in DERIVED if name not in frame})
    numeric = [name for name in frame if name.startswith("metrics.") or name in (*DERIVED, "seconds")]
    for name in numeric:
        try:
            frame[name] = frame[name].astype(float)
        except ValueError as error:
            raise InputError(f"runs.csv: column {name.removeprefix('metrics.')}: {error}") from None
    for name in TIMES:
        frame[name] = pd.to_datetime(frame.get(name, None), utc=True, format="ISO8601")
    return frame


def effects_csv(analysis: Analysis) -> str:
    """One row per comparison in full precision, columns `verdicts.COLUMNS`."""
    return analysis.effects[list(COLUMNS)].to_csv(index=False, lineterminator="\n")


def about_json(
    analysis: Analysis,
    metrics: Mapping[str, str],
    figures: Mapping[str, tuple[str, str, bool]],
    again: Sequence[str],
    request: Mapping[str, Any],
) -> str:
    """What a check needs besides the runs: the question, the names of the metrics by column of `runs.csv`, of each
    figure by its stem the heading, the caption and whether it was drawn, the commands that compile it again, and
    what was requested besides the question that the store has."""
    said: dict[str, Any] = {
        "study": json.loads(analysis.study.to_json()),
        "metrics": dict(metrics),
        "left_out": list(analysis.left_out),
        "figures": {stem: list(texts) for stem, texts in figures.items()},
        "again": list(again),
        "request": {name: value for name, value in request.items() if value is not None},
    }
    return json.dumps(said, ensure_ascii=False, indent=1) + "\n"


def verdicts_tex(analysis: Analysis) -> str:
    """The verdict table as LaTeX, for `\\usepackage{booktabs}`."""
    form = forms(analysis)
    lines = [
        r"\begin{tabular}{lllrrrrl}",
        r"\toprule",
        r"factor & variant & baseline & $n$ & difference & 95\,\% interval & $p_\mathrm{Holm}$ & verdict \\",
        r"\midrule",
    ]
    for row in analysis.effects.to_dict("records"):
        shown = form[row["metric"]]
        number = shown.difference(row["mean_diff"]).replace("-", "$-$")
        interval = shown.interval(row["ci_low"], row["ci_high"]).replace("-", "$-$")
        p = p_value(row["p_holm"]).replace("< ", "$<$\\,")
        words = [_tex(row[name]) for name in ("factor", "variant", "baseline")]
        lines.append(" & ".join([*words, str(row["n"]), number, interval, p, _tex(row["verdict"])]) + r" \\")
    study = analysis.study
    return "\n".join(
        [
            f"% {_tex(study.name)}: variant - baseline, {_tex(study.label)}, paired by seed; sign-flip test, Holm",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _tex(text: object) -> str:
    """Text from outside, to be read as it is."""
    marks = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "×": r"$\times$",
        "–": "--",
    }
    marks |= {each: f"\\{each}" for each in "&%$#_{}"}
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return "".join(marks.get(each, each) for each in line)
