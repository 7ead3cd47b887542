"""The files beside a report's text, for other programs and for papers, and the way back from them."""

import io
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from ablations.comparison.confounds import known_columns
from ablations.comparison.images import BESIDE_WIDE, WIDE
from ablations.comparison.lengths import LENGTHS
from ablations.comparison.verdicts import COLUMNS
from ablations.errors import InputError, printable
from ablations.report.analysis import Analysis
from ablations.report.escaping import Tex, tex
from ablations.report.numbers import forms, p_value
from ablations.report.secondary import outcomes_table
from ablations.report.tables import in_words
from ablations.tracking.columns import (
    METRIC,
    OFFERED,
    TRIAL,
    TUNING,
    column,
    metrics_in,
    number,
    param,
    params_in,
    tag,
)
from ablations.tracking.columns import metric as metric_column
from ablations.tracking.secondary import PICTURES
from ablations.tracking.study import Study

# Tags of a run that a report's text rests on.
TAGS = (
    "sweep_id",
    "first_sweep_id",
    "study",
    "command",
    "failure",
    "failure_reason",
    "stream",
    "data_sha256",
)
TAGS += ("config_hash", "code", "code_hash", "machine", "versions", "did_not_learn", TUNING, TRIAL, OFFERED)
TAGS += tuple(PICTURES.values())
FIRST = ("run_id", "run_name", "status")
DERIVED = ("epoch_s", "train_s", *LENGTHS)
TIMES = ("start_time", "end_time")
HEAD = r"factor & variant & baseline & $n$ & difference & 95\,\% interval & $p_\mathrm{Holm}$ & verdict \\"
EFFECTS = ("factor", *COLUMNS[1:], "at", *WIDE)
"""The columns of effects.csv, which other programs read."""
PLAIN = re.compile(r"[0-9A-Za-z][ -~]*")
"""Most cells: neither a formula nor with a character without glyph."""
FORMULA = tuple("=+-@＝＋－＠")
"""What a spreadsheet takes for the beginning of a formula, in the wide forms of East Asian keyboards, too."""


def runs_csv(analysis: Analysis) -> tuple[str, dict[str, str]]:
    """The table of all runs, the best variant's first, and for each column of a metric the metric's name."""
    runs = analysis.everything
    runs = runs.assign(rank=runs["run_id"].map(analysis.runs.set_index("run_id")["variant"]))
    return table_of_runs(runs.sort_values(["rank", "start_time", "run_id"], kind="stable"), analysis.study)


def table_of_runs(runs: pd.DataFrame, study: Study) -> tuple[str, dict[str, str]]:
    """One row per run in full precision, and for each column of a metric the metric's name.

    First what `runs.csv` promises to other programs; then, under the names of the store's reader, everything else
    that the report's text was made from, so that it can be recomputed.
    """
    told = dict.fromkeys((*study.varied, *study.chosen))
    promised = {name: name for name in FIRST} | {param(key): key for key in told}
    promised[param("seed")] = "seed"
    named: dict[str, str] = {}
    for key in sorted(metrics_in(runs)):
        name, short = metric_column(key), key.replace("/", "_")
        # `lr` may be a param and a metric, and `val/acc` and `val_acc` two of them.
        taken = short in {*promised.values(), "seconds", *named.values()}
        if runs[name].notna().any():
            named[name] = name if taken else short
    promised |= {**named, "seconds": "seconds"}
    kept = [*TIMES, *DERIVED, *sorted({*map(param, params_in(runs))} - set(promised)), *map(tag, TAGS)]
    kept += [name for name in known_columns(runs) if name not in {*promised, *kept}]
    kept = [name for name in kept if name in runs and runs[name].notna().any()]
    frame = runs.reindex(columns=[*promised, *kept]).rename(columns=promised)
    for name in TIMES:
        if name in frame:
            frame[name] = frame[name].map(lambda time: "" if pd.isna(time) else time.isoformat())
    return _csv(frame), {column: name for name, column in named.items()}


def runs_from_csv(
    text: str, study: Study, metrics: Mapping[str, str], name: str = "runs.csv"
) -> pd.DataFrame:
    """The runs as the reader gave them, from what `table_of_runs` wrote. Raises InputError for another table."""
    try:
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except ValueError as error:
        raise InputError(f"{name}: {' '.join(str(error).split())}") from None
    frame = _cells(frame, original)
    told = dict.fromkeys((*study.varied, *study.chosen))
    names = {key: param(key) for key in told} | {"seed": param("seed")} | dict(metrics)
    lacking = {"run_id", "status", *study.varied, *metrics} - set(frame)
    if lacking:
        raise InputError(f"{name}: the columns {', '.join(sorted(lacking))} are missing")
    if twice := sorted(set(frame["run_id"][frame["run_id"].duplicated()])):
        raise InputError(f"{name}: run_id {printable(twice[0])}: more than once")
    frame = frame.rename(columns=names)
    frame = frame.where(frame != "", None)
    frame = frame.assign(**{each: None for each in DERIVED if each not in frame})
    for each in {*map(metric_column, metrics_in(frame)), *DERIVED, "seconds"} & set(frame):
        try:
            frame[each] = frame[each].astype(float)
        except ValueError as error:
            raise InputError(f"{name}: column {each.removeprefix(METRIC)}: {error}") from None
    for each in TIMES:
        try:
            frame[each] = pd.to_datetime(column(frame, each), utc=True, format="ISO8601")
        except (ValueError, OverflowError) as error:
            raise InputError(f"{name}: column {each}: {printable(error)}") from None
    return frame


def effects_csv(analysis: Analysis) -> str:
    """One row per comparison, simple effects last, columns `EFFECTS`; floats have 12 significant digits."""
    return _csv(effects(analysis))


def effects(analysis: Analysis) -> pd.DataFrame:
    """The table of effects.csv: one row per comparison, columns `EFFECTS`, and `block` where there are blocks."""
    table = in_words(analysis.all_effects)
    return table[[*EFFECTS, *(["block"] if "block" in table else [])]]


def outcomes_csv(analysis: Analysis) -> str:
    """One row per comparison of an outcome beside the study's own: its group, and the columns of a verdict table, but
    for the seeds that nobody advises."""
    told = (name for name in COLUMNS[1:] if not name.startswith("seeds_needed"))
    return _csv(outcomes_table(analysis, ("factor", *told)))


def harmless(text: str) -> str:
    r"""A cell that no spreadsheet takes for a formula and that moves no terminal; `original` is the way back.

    Text that begins as a formula does gets `'` before it, and so does text with characters that have no glyph,
    which become escapes (`\u00001b`). Everything else, numbers above all, stays as it is.
    """
    if PLAIN.fullmatch(text):
        return text
    core = text.lstrip("' ")
    formula = core.startswith((*FORMULA, "\n")) and math.isnan(number(core))
    unclear = any(map(_has_no_glyph, text)) or (text.startswith("'") and "\\" in text)
    return f"'{''.join(map(_escaped, text))}" if formula or unclear else text


def original(cell: str) -> str:
    """The text of a cell that `harmless` made."""
    if not cell.startswith("'"):
        return cell
    text = re.sub(r"\\(\\|u[0-9a-f]{6})", _unescaped, cell[1:])
    return text if harmless(text) == cell else cell


def _has_no_glyph(character: str) -> bool:
    return not character.isprintable() and character != "\n"


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    return f"\\u{ord(character):06x}" if _has_no_glyph(character) else character


def _unescaped(found: re.Match[str]) -> str:
    return "\\" if found[1] == "\\" else chr(min(int(found[1][1:], 16), sys.maxunicode))


def _cells(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with its texts and headings changed."""
    frame = frame.copy()
    for i, (_, cells) in enumerate(frame.items()):
        if not pd.api.types.is_numeric_dtype(cells):
            there = cells.to_numpy(dtype=object).tolist()
            texts = [change(cell) if isinstance(cell, str) else cell for cell in there]
            frame.isetitem(i, pd.Series(texts, cells.index, cells.dtype))
    return frame.rename(columns=change)


def _csv(frame: pd.DataFrame) -> str:
    return _cells(frame, harmless).to_csv(index=False, lineterminator="\n")


def about_json(analysis: Analysis, metrics: Mapping[str, str], **kept: Any) -> str:
    """What a check needs besides the runs: the question, the names of the metrics by column of `runs.csv`, what was
    left out, and what else is to be kept."""
    about = {"study": json.loads(analysis.study.to_json()), "metrics": metrics, "left_out": analysis.left_out}
    about["looks"] = [asdict(look) for look in analysis.looks]
    wide = analysis.images.dropna(subset="wide_low").astype(object)
    about["images"] = {str(i): row for i, row in wide.to_dict("index").items()}
    about |= {"remarks": analysis.remarks} if analysis.remarks else {}
    text = json.dumps({**about, **kept}, ensure_ascii=False, indent=1)
    return re.sub("[\x7f-\x9f\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def images_from_json(kept: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """The intervals over seeds and images as `about_json` kept them. Raises ValueError for other ones."""
    names = [*WIDE, *BESIDE_WIDE]
    table = pd.DataFrame({int(i): [float(row[name]) for name in names] for i, row in kept.items()}, names).T
    if not np.isfinite(table.to_numpy(dtype=float)).all():
        raise ValueError("a number is missing")
    return table.reindex(range(max(table.index, default=-1) + 1))


def verdicts_tex(analysis: Analysis) -> Tex:
    """The verdict table as LaTeX, for `\\usepackage{booktabs}`."""
    study, form = analysis.study, forms(analysis)
    comment = "% {}: variant - baseline, {}, paired by seed; sign-flip test, Holm"
    begin = (r"\begin{tabular}{lllrrrrl}", r"\toprule", HEAD, r"\midrule")
    lines = [tex(comment, study.name, study.label), *map(Tex, begin)]
    for row in in_words(analysis.all_effects).to_dict("records"):
        shown = form[row["metric"]]
        numbers = shown.difference(row["mean_diff"]), shown.interval(row["ci_low"], row["ci_high"])
        sign, _, value = p_value(row["p_holm"]).rpartition(" ")
        cells = [
            row["factor"] + (f" ({row['at']})" if row["at"] else ""),
            *(row[name] for name in ("variant", "baseline", "n")),
            *(Tex(number.replace("-", "$-$")) for number in numbers),
            Tex(rf"$<$\,{value}" if sign else value),
            row["verdict"],
        ]
        lines.append(tex(r"{} \\", Tex(" & ").join(cells)))
    return Tex("\n").join([*lines, Tex(r"\bottomrule"), Tex(r"\end{tabular}"), Tex("")])
