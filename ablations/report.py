"""A sweep's runs, read from the store, as a folder that a person likes to read: `reports/<name>/`.

The README is written last and every file is complete when it appears, so a report that fails half-way leaves
the one before it in place. The same store gives the same bytes.
"""

import argparse
import hashlib
import os
import re
import shlex
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations import markdown as md
from ablations import paths
from ablations.errors import InputError, one_line_errors
from ablations.reproductions import published

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ablations.statistics import Comparison
    from ablations.tracking.reader import Reader

CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
# Everything that a report can write: what it no longer has is taken away, what others put beside it stays.
FIGURES = ("learning_curves", "error_by_variant", "error_grid", "confusion_matrix", "error_against_time")
COMPONENTS = ("dataset", "activation", "pool", "c3", "head", "optimizer", "init", "normalization")
GRID_LEVELS = 24
CONSOLE_WIDTH = 100
CONSOLE_ROWS = 40
FOLDED_FROM = 30
# What the table per variant gives: its name in the report, and in the narrower console.
MEASURES = {
    "n": "n",
    "test accuracy (%)": "accuracy (%)",
    "test error (%)": "error (%)",
    "best error (%)": "best (%)",
    "seconds/epoch": "s/epoch",
    "parameters": "parameters",
}


@dataclass(frozen=True)
class Report:
    """A compiled report.

    Attributes:
        name: the sweep's name.
        path: its README.md.
        summary: the table per variant as plain text, at most 100 columns wide.
        failed: how many of the covered runs have no result.
    """

    name: str
    path: Path
    summary: str
    failed: int


@dataclass(frozen=True)
class _Drawing:
    """A figure with what to say about it; `figure` is None where only the reason for its absence is said."""

    stem: str
    heading: str
    caption: str
    figure: "Figure | None" = None


def compile_report(name: str | None = None, uri: str | None = None, folder: Path | None = None) -> Report:
    """Compile the report of a sweep from the tracked runs.

    Args:
        name: the sweep's name; the last sweep where it is None.
        uri: the store's address; the project's own (or MLFLOW_TRACKING_URI) where it is None.
        folder: where reports are kept, `reports/` of the project by default; this one gets a folder in there,
            named after the sweep.

    Raises:
        InputError: no such sweep, no runs at all, or a folder that cannot be written.
    """
    from ablations import statistics
    from ablations.tracking.reader import Reader
    from ablations.tracking.store import tracking_uri

    reader = Reader(tracking_uri(uri))
    name, runs = _sweep(reader, name)
    comparison = statistics.select(runs)
    factors = comparison.factors
    finished = comparison.runs.loc[comparison.runs["status"] == "FINISHED", "run_id"]
    histories = reader.histories(list(finished), [*CURVES, statistics.EPOCH_TIME])
    runs = statistics.ranked(statistics.with_times(comparison.runs, histories), factors)
    table = statistics.variants(runs, factors)

    drawings = list(_drawings(reader, runs, table, histories, factors))
    text = "\n\n".join(_readme(name, comparison, runs, table, drawings)) + "\n"
    home = (paths.REPORTS if folder is None else Path(folder)) / folder_name(name)
    try:
        _write(home, text, _runs_table(runs, factors), drawings)
    except OSError as error:
        raise InputError(f"cannot write the report to {home}: {error.strerror or error}") from error
    failed = int((~runs["finished"]).sum())
    return Report(name, home / "README.md", _summary(table, factors), failed)


def folder_name(name: str) -> str:
    """A sweep's name as the name of one folder; different names stay different."""
    safe = re.sub(r"[^\w.=,+-]+", "-", name, flags=re.ASCII).strip("-.")[:80]
    return (
        name if safe == name != "" else f"{safe or 'sweep'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    )


def _sweep(reader: "Reader", name: str | None) -> tuple[str, "pd.DataFrame"]:
    """The sweep's name and all its runs."""
    from ablations.statistics import column

    if name is not None:
        runs = reader.runs(tags={"sweep": name})
        if not runs.empty:
            return name, runs
    runs = reader.runs()
    sweeps = column(runs, "tags.sweep").dropna()
    sweeps = sweeps[sweeps != ""]
    if sweeps.empty:
        found = "runs, but no sweep," if len(runs) else "no runs"
        raise InputError(f"the store has {found} yet: try `python run.py -m activation=relu,tanh`")
    if name is not None:
        existing = ", ".join(md.plain(each) for each in sorted(set(sweeps)))
        raise InputError(f"no sweep is named {name!r}; there are: {existing}")
    newest = runs.loc[sweeps.index].sort_values(["start_time", "run_id"]).iloc[-1]["tags.sweep"]
    return newest, runs[column(runs, "tags.sweep") == newest]


# What the figures show


def _drawings(
    reader: "Reader",
    runs: "pd.DataFrame",
    table: "pd.DataFrame",
    histories: "pd.DataFrame",
    factors: Sequence[str],
) -> Iterator[_Drawing]:
    """The figures that these runs allow, in the order of the report."""
    from ablations import plots, statistics

    best = statistics.best_run(runs)
    if best is None:
        return
    done = runs[runs["finished"]].rename(columns={"error": "value"})
    labels = [_values(row, factors) or "all runs" for row in table.to_dict("records")]
    title = ", ".join(map(md.plain, factors))
    several = len(table) > 1
    without = int((table["n"] == 0).sum())
    note = f" {md.many(without, 'variant')} without a finished run cannot be shown." if without else ""

    heading = "Test error by variant" if several else "Test error by run"
    shown = (
        f" The best {plots.SHOWN_VARIANTS} of {len(table)} variants."
        if len(table) > plots.SHOWN_VARIANTS
        else ""
    )
    caption = "Each point is one run on the test set, the bar their mean; further left is better. "
    caption += (
        "Where the points of two variants overlap, the seed moves the result as much as the choice does."
    )
    if not several:
        caption = (
            "Each point is one run on the test set, the bar their mean: how far the seed alone moves it."
        )
    figure = plots.values_by_variant(done, labels, "test error (%)", title)
    yield _Drawing("error_by_variant", heading, caption + shown + note, figure)

    curves = statistics.curves(histories[histories["metric"].isin(CURVES)], runs)
    if curves.empty:
        yield _Drawing("learning_curves", "Learning curves", "No metrics by epoch were logged.")
    else:
        what = (
            "A line is a variant's mean over its seeds, the band reaches from the lowest to the highest seed"
        )
        what = what if (curves["n"] > 1).any() else "A line is one run: with one seed there is no band"
        few = len(table) <= plots.HIGHLIGHTED
        who = "" if few else f" In colour the {plots.HIGHLIGHTED} variants with the lowest mean test error."
        part = (
            " A gap that opens between the two sides is overfitting."
            if "val/loss" in set(curves["metric"])
            else ""
        )
        part = part or " No validation metrics were logged."
        figure = plots.sweep_curves(curves, labels, title)
        yield _Drawing("learning_curves", "Learning curves", f"{what}.{who}{part}{note}", figure)

    if len(factors) >= 2:
        yield _grid(table, factors)

    yield _confusion(reader, *best)

    timed = done[done["train_s"].notna()]
    heading = "Test error against training time"
    if timed.empty:
        yield _Drawing("error_against_time", heading, "No times by epoch were logged.")
    else:
        caption = (
            "Each point is one run; lower left is better and quicker. Time is the sum over the run's epochs, "
        )
        caption += "on a machine that may have done other work."
        figure = plots.value_against_time(timed, labels, "test error (%)", title)
        yield _Drawing("error_against_time", heading, caption, figure)


def _grid(table: "pd.DataFrame", factors: Sequence[str]) -> _Drawing:
    from ablations import plots, statistics

    levels = max(table[f"params.{key}"].nunique() for key in factors[:2])
    if levels > GRID_LEVELS:
        which = " × ".join(md.escaped(key) for key in factors[:2])
        return _Drawing(
            "error_grid", f"Mean test error over {which}", f"Not drawn: {levels} levels in one factor."
        )
    grids = statistics.grids(table, factors)
    faceted = "" not in grids
    drawn = factors[: 3 if faceted else 2]
    heading = f"Mean test error over {' × '.join(md.escaped(key) for key in drawn)}"
    caption = (
        "Each cell is a mean over seeds, in percent. Where the step from row to row is the same in every "
    )
    caption += "column, the two choices act independently of each other. Grey: no finished run."
    if len(drawn) < len(factors):
        caption += f" Averaged over {', '.join(md.escaped(key) for key in factors[len(drawn) :])}."
    rows, columns, *facet = (md.plain(key) for key in drawn)
    figure = plots.value_grids(grids, "mean test error (%)", rows, columns, *facet)
    return _Drawing("error_grid", heading, caption, figure)


def _confusion(reader: "Reader", best: "pd.Series", how: str) -> _Drawing:
    """The best run's confusion matrix, or why there is none."""
    from zipfile import BadZipFile

    import numpy as np

    from ablations import plots

    heading = "Confusion matrix of the best run"
    who = f"{md.escaped(best['run_name'])}, chosen by {how}"
    path = reader.artifact(best["run_id"], "predictions.npz")
    if path is None:
        return _Drawing("confusion_matrix", heading, f"The run ({who}) has no `predictions.npz`.")
    try:
        with np.load(path, allow_pickle=False) as saved:
            labels, predictions = saved["labels"], saved["predictions"]
        classes = [str(i) for i in range(1 + int(max(labels.max(), predictions.max())))]
        figure = plots.confusion_matrix(labels, predictions, classes)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return _Drawing(
            "confusion_matrix", heading, f"The `predictions.npz` of the run ({who}) cannot be read."
        )
    wrong = int((labels != predictions).sum())
    caption = f"{who}: {wrong:,} of {len(labels):,} test images misread. Rows are the true classes, columns "
    caption += "what was read; numbers count images, the colour is their share of the true class. Off the "
    caption += "diagonal: mistakes."
    return _Drawing("confusion_matrix", heading, caption, figure)


# What the text says


def _readme(
    name: str,
    comparison: "Comparison",
    runs: "pd.DataFrame",
    table: "pd.DataFrame",
    drawings: Sequence[_Drawing],
) -> Iterator[str]:
    """The report's paragraphs."""
    factors = comparison.factors
    yield f"# {md.escaped(name)}"
    yield _answer(table, factors)
    failed = runs[~runs["finished"]]
    if len(failed):
        lost = int((table["n"] < table["planned"]).sum())
        yield (
            f"**{len(failed)} of {md.many(len(runs), 'run')} gave no result**, in {md.many(lost, 'variant')}; "
            "they are named under [Failed runs](#failed-runs). "
            "A mean over the seeds that survived can flatter a variant."
        )

    yield from published(runs)

    yield "## Results"
    yield md.table(*_variant_rows(table, factors), numeric=len(MEASURES))
    legend = "Sorted by mean test error. ± is the standard deviation over seeds"
    legend += f"; {md.NO_SPREAD} where one run leaves it unknown" if (table["n"] < 2).any() else ""
    yield f"{legend}. Best is the lowest error of one run. Seconds per epoch are means over the runs' median epochs."

    for drawing in drawings:
        yield f"### {drawing.heading}"
        if drawing.figure is not None:
            yield f"![{drawing.heading}](figures/{drawing.stem}.png)"
        yield drawing.caption

    yield "## What was run"
    yield md.table(("", ""), list(_facts(runs, factors)))
    if comparison.left_out:
        yield f"Left out: {md.escaped('; '.join(comparison.left_out))}."

    if len(failed):
        yield "## Failed runs"
        rows = [(md.plain(run["run_name"]), _seed(run), *_failure(run)) for run in failed.to_dict("records")]
        yield md.table(("run", "seed", "status", "reason"), rows)

    yield "## Runs"
    listed = [
        (md.plain(run["run_name"]), _seed(run), run["status"], md.number(run["error"]), run["run_id"])
        for run in runs.to_dict("records")
    ]
    listing = md.table(("run", "seed", "status", "test error (%)", "run id"), listed)
    if len(listed) > FOLDED_FROM:
        listing = f"<details><summary>All {len(listed)} runs</summary>\n\n{listing}\n\n</details>"
    yield listing
    yield "The same with every metric in full precision: [runs.csv](runs.csv)."

    yield "## Again"
    yield from _again(name, runs)


def _answer(table: "pd.DataFrame", factors: Sequence[str]) -> str:
    """The first paragraph: which variant is ahead, by how much, and how far that can be trusted."""
    done = table[table["n"] > 0].to_dict("records")
    if not done:
        return "No run finished, so there is nothing to compare yet."
    best = done[0]

    def reached(row: dict) -> str:
        if row["n"] == 1:
            return f"{row['error_mean']:.2f} % in its one run"
        return f"{row['error_mean']:.2f} ± {row['error_sd']:.2f} % (n = {row['n']} runs)"

    if len(table) == 1:
        return f"One variant was run; its test error is {reached(best)}. There is nothing to compare it with."
    sentences = [f"**{md.escaped(_label(best, factors))}** has the lowest mean test error: {reached(best)}."]
    if best["n"] < best["planned"]:
        sentences.append(f"Only {best['n']} of its {best['planned']} runs finished.")
    if len(done) > 1:
        gap = done[1]["error_mean"] - best["error_mean"]
        sentences.append(
            f"Next is {md.escaped(_label(done[1], factors))}, "
            f"{gap:.2f} percentage points behind: {reached(done[1])}."
        )
    else:
        sentences.append("No other variant has a finished run.")
    if max(row["n"] for row in done) == 1:
        sentences.append(
            "With one seed for each variant this is not yet a verdict: another seed may turn the order round."
        )
    else:
        sentences.append(
            "This describes the runs that were made; it is not yet a verdict on which choice is better, "
            "for the differences have not been tested and few seeds leave much to chance."
        )
    return " ".join(sentences)


def _variant_rows(
    table: "pd.DataFrame", factors: Sequence[str]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the table per variant, for markdown and console alike."""
    head = (
        *(md.plain(key) for key in factors),
        *MEASURES,
    )
    digits = 3 if table["epoch_s"].min() < 1 else 2
    rows = [
        (
            *(md.plain(row[f"params.{key}"]) for key in factors),
            f"{row['n']}" if row["n"] == row["planned"] else f"{row['n']} of {row['planned']}",
            md.mean_and_sd(row["accuracy_mean"], row["accuracy_sd"]) if row["n"] else "failed",
            md.mean_and_sd(row["error_mean"], row["error_sd"]) if row["n"] else "failed",
            md.number(row["error_best"]),
            md.number(row["epoch_s"], digits),
            f"{row['parameters']:,.0f}" if row["parameters"] == row["parameters"] else md.NO_SPREAD,
        )
        for row in table.to_dict("records")
    ]
    return head, rows


def _facts(runs: "pd.DataFrame", factors: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What was run, where and how long."""
    from ablations.statistics import column, natural

    def said(name: str, limit: int = 12) -> str:
        found = sorted({str(value) for value in column(runs, name).dropna()} - {""}, key=natural)
        return md.plain(
            ", ".join(found[:limit]) + (f", … ({len(found)} in all)" if len(found) > limit else "")
        )

    sizes = [(said(f"params.dataset.{part}_images"), part) for part in ("train", "val", "test")]
    names = {"train": "training", "val": "validation", "test": "test"}
    images = ", ".join(f"{md.grouped(size)} {names[part]}" for size, part in sizes if size)
    yield "data set", said("params.dataset") + (f": {images} images" if images else "")
    if data := ", ".join(value[:12] for value in said("tags.data_sha256").split(", ")):
        yield "data sha256", data
    for key in factors:
        yield f"varied: {md.plain(key)}", said(f"params.{key}", 40)
    fixed = [key for key in (*COMPONENTS[1:], "optimizer.lr", "trainer.batch_size") if key not in factors]
    held = [(key, said(f"params.{key}")) for key in fixed if column(runs, f"params.{key}").nunique() == 1]
    if held:
        yield "the same for all", ", ".join(f"{key}={value}" for key, value in held)
    yield "seeds", said("params.seed", 40)
    yield "epochs", said("params.trainer.epochs")
    yield "runs", f"{len(runs)}, of which {int(runs['finished'].sum())} finished"
    begun = runs.groupby(column(runs, "tags.sweep_id").fillna(""))
    wall = (begun["end_time"].max() - begun["start_time"].min()).dt.total_seconds().sum()
    yield (
        "wall time",
        f"{md.duration(wall)}; training alone {md.duration(runs['train_s'].sum())} over all runs",
    )
    for label, tag in (("machine", "machine"), ("commit", "code"), ("versions", "versions")):
        if value := said(f"tags.{tag}"):
            yield label, value


def _again(name: str, runs: "pd.DataFrame") -> Iterator[str]:
    """How to make the runs, the report and the view of the runs anew."""
    from ablations.statistics import column

    commands = column(runs.sort_values(["start_time", "run_id"]), "tags.command").dropna().unique()
    if len(commands):
        yield "The runs, with the commit, data and versions above:"
        yield md.code(*commands)
    yield "This report from the tracked runs, and the runs themselves in the MLflow UI:"
    yield md.code(
        f"python -m ablations.report {_argument(name)}", f"python -m ablations.ui {_argument(name)}"
    )


def _failure(run: dict) -> tuple[str, str]:
    """Status and reason of a run without a result."""
    kind, reason = (md.plain(run.get(f"tags.{tag}")) for tag in ("failure", "failure_reason"))
    if run["status"] in ("RUNNING", "SCHEDULED") and not kind:
        return run["status"], "still running, or killed before it could say why"
    if run["status"] == "FINISHED" and not kind:
        return run["status"], "no finite test/error_pct was logged"
    said = ": ".join(filter(None, (kind, reason))) or "no reason was logged"
    return run["status"], textwrap.shorten(said, 300, placeholder=" …")


# Numbers and names as text


def _values(row: dict, factors: Sequence[str], width: int = 32) -> str:
    """A variant's levels for a figure; each is cut to its share of the width."""
    share = max(width // max(len(factors), 1) - 2, 5)
    return ", ".join(_cut(md.plain(row[f"params.{key}"]), share) for key in factors)


def _label(row: dict, factors: Sequence[str]) -> str:
    return " ".join(f"{key}={md.plain(row[f'params.{key}'])}" for key in factors)


def _seed(run: dict) -> str:
    return md.plain(run.get("params.seed")) or md.NO_SPREAD


def _argument(name: str) -> str:
    return shlex.quote(md.plain(name))


def _summary(table: "pd.DataFrame", factors: Sequence[str]) -> str:
    """The table per variant for the console."""
    head, rows = _variant_rows(table, factors)
    lines = [(*head[: len(factors)], *MEASURES.values()), *rows[:CONSOLE_ROWS]]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    names = len(factors)
    while sum(widths) + 2 * (len(widths) - 1) > CONSOLE_WIDTH and names and max(widths[:names]) > 4:
        widths[widths.index(max(widths[:names]))] -= 1
    text = ["  ".join(_fit(cell, widths[i], i >= names) for i, cell in enumerate(line)) for line in lines]
    if len(rows) > CONSOLE_ROWS:
        text.append(f"… and {len(rows) - CONSOLE_ROWS} more variants in the report")
    return "\n".join(line.rstrip()[:CONSOLE_WIDTH] for line in text)


def _fit(cell: str, width: int, right: bool) -> str:
    return _cut(cell, width).rjust(width) if right else _cut(cell, width).ljust(width)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


# What is written


def _runs_table(runs: "pd.DataFrame", factors: Sequence[str]) -> str:
    """`runs.csv`: one row per run, every metric, in full precision."""
    metrics = sorted(name for name in runs if name.startswith("metrics.") and runs[name].notna().any())
    columns = {
        "run_id": "run_id",
        "run_name": "run_name",
        "status": "status",
        **{f"params.{key}": key for key in factors},
        "params.seed": "seed",
        **{name: name.removeprefix("metrics.").replace("/", "_") for name in metrics},
        "seconds": "seconds",
    }
    return (
        runs.reindex(columns=list(columns)).rename(columns=columns).to_csv(index=False, lineterminator="\n")
    )


def _write(home: Path, text: str, csv: str, drawings: Sequence[_Drawing]) -> None:
    """Replace the report file by file, each of them complete, the README after what it shows."""
    from ablations import plots

    (home / "figures").mkdir(parents=True, exist_ok=True)
    drawn = {drawing.stem: drawing.figure for drawing in drawings if drawing.figure is not None}
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=f".{home.name}.") as draft:
        new = Path(draft)
        (new / "figures").mkdir()
        for stem, figure in drawn.items():
            plots.save(figure, new / "figures" / f"{stem}.png", colours=256)
        (new / "runs.csv").write_text(csv, encoding="utf-8", newline="\n")
        (new / "README.md").write_text(text, encoding="utf-8", newline="\n")
        for path in (*(f"figures/{stem}.png" for stem in drawn), "runs.csv", "README.md"):
            os.replace(new / path, home / path)
    for stem in set(FIGURES) - set(drawn):
        (home / "figures" / f"{stem}.png").unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command `python -m ablations.report`."""
    parser = argparse.ArgumentParser(
        prog="python -m ablations.report",
        description="Compile a sweep's report (reports/NAME/README.md, figures, runs.csv) from its runs.",
        epilog="examples:\n"
        "  python -m ablations.report                      the last sweep\n"
        "  python -m ablations.report activation-pool      the sweep of that name\n"
        "  python -m ablations.report --tracking-uri http://127.0.0.1:5000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the sweep's name (default: the last sweep)")
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="the MLflow store (default: MLFLOW_TRACKING_URI, else the project's own)",
    )
    options = parser.parse_args(arguments)
    with one_line_errors():
        report = compile_report(options.name, options.tracking_uri)
        print(report.summary)
        if report.failed:
            print(f"\n{md.many(report.failed, 'run')} without a result: the report names them.")
        print(f"\nreport: {report.path}")
        print(f"runs:   python -m ablations.ui {_argument(report.name)}")


if __name__ == "__main__":
    main()
