"""Comparing from Python: `ablations.compare`, for notebooks and scripts."""

import io
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ablations.commands import module_command
from ablations.errors import InputError, printable
from ablations.report.request import Request
from ablations.report.sources import Shape, in_csv, in_frame

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ablations.report.analysis import Analysis
    from ablations.report.compile import Compiled
    from ablations.report.drawings import Drawing

Names = str | Sequence[str]
Runs: TypeAlias = "pd.DataFrame | str | os.PathLike[str] | Sequence[str]"

TABLE = "table"
"""What the report of a data frame is called unless somebody says it."""
TABLES = (".csv", ".tsv")
"""What ends so is the path of a table, also where there is none."""
OPTIONS = re.compile(
    r"--(average-over|baseline|better|blocks|experiment|factors|ignore|looks|margin|measured|metric|nuisance|step|"
    r"seed-param|tracking-uri|tuned-better|tuned-on|unpaired|value|where|wide)\b"
)
"""Of the command line, which messages name; here they are arguments."""


class Compared:
    """What a comparison came to. A notebook shows the answer, the figure of all differences and the verdicts.

    Attributes:
        analysis: all numbers behind it.
    """

    def __init__(
        self,
        analysis: "Analysis",
        drawings: "Iterator[Drawing]",
        again: Sequence[str],
        request: Request,
        home: Path | None = None,
    ) -> None:
        """`drawings` are drawn one by one, as they are asked for; `home` has the pictures of those that are kept."""
        self.analysis = analysis
        self._left, self._drawn = drawings, {}
        self._again, self._request, self._home = again, request, home

    @property
    def answer(self) -> list[str]:
        """The answer in at most five sentences, as plain text."""
        from ablations.report.answer import answer
        from ablations.report.escaping import unmarked

        return [unmarked(sentence) for sentence in answer(self.analysis)]

    @property
    def verdicts(self) -> "pd.DataFrame":
        """One row per comparison, with the columns of effects.csv: differences are variant − baseline in the metric's
        own unit, `verdict` is one of the six words."""
        from ablations.report.files import effects

        return effects(self.analysis).reset_index(drop=True)

    @property
    def runs(self) -> "pd.DataFrame":
        """The runs that were compared, with the columns of `mlflow.search_runs`, and `value`, that of the metric."""
        return self.analysis.runs.copy()

    @property
    def figures(self) -> list[str]:
        """The names of the figures that these runs allow, for `figure`."""
        return [drawing.stem for drawing in self._all() if drawing.draw is not None]

    def figure(self, name: str) -> "Figure":
        """A figure by its name, such as `seed_slopes`. Raises InputError where these runs allow none, and why."""
        found = self._drawing(name)
        if found is not None and found.draw is not None:
            return _shown(found.draw())
        from ablations.report.escaping import unmarked

        said = f": {unmarked(found.caption)}" if found is not None and not found.kept else ""
        there = ", ".join(self.figures) or "none"
        raise InputError(f"no figure {name}{said.removesuffix('.')}; there are: {there}")

    def forest(self) -> "Figure":
        """The difference of each variant to its baseline, with its interval and its verdict."""
        return self.figure("forest")

    def curves(self) -> "Figure":
        """The metrics by epoch. Raises InputError where none were logged."""
        return self.figure("learning_curves")

    def save(self, folder: "str | os.PathLike[str]", html: bool = False, figures: Names = ()) -> Path:
        """Write the whole report to a folder, as the command does, and return its README.md.

        Args:
            folder: made where it is not there; a report in it is replaced.
            html: whether to write it as one page, too.
            figures: `svg` and `pdf` for vector graphics beside the PNGs.

        Raises:
            InputError: a folder that holds something else, or that cannot be written.
        """
        from ablations.report.compile import empty_or_report, vector_formats, write

        home = empty_or_report(Path(folder))
        try:
            for drawing in self._all():
                self._take_over(drawing, home)
            write(home, self._compiled(home), vector_formats(figures), html)
        except OSError as error:
            raise InputError(f"cannot write the report to {home}: {error.strerror or error}") from error
        return home / "README.md"

    def __repr__(self) -> str:
        """The text that the command prints."""
        from ablations.report.console import console

        return console(self.analysis)

    def _repr_html_(self) -> str:
        from ablations.report.answer import answer
        from ablations.report.escaping import listed, md, table
        from ablations.report.page import fragment
        from ablations.report.tables import IN_SHORT, verdict_rows

        parts = [listed(answer(self.analysis))]
        forest = self._drawing("forest")
        picture = None if forest is None else self._picture(forest)
        if picture is not None:
            parts.append(md("![{}](forest.png)", forest.heading))
        if len(self.analysis.effects):
            parts.append(table(*verdict_rows(self.analysis, IN_SHORT), numeric=2))
        text = md("\n\n").join(parts)
        return f"<div>\n{fragment(text, lambda _: picture)}</div>"

    def _picture(self, drawing: "Drawing") -> bytes | None:
        """A figure as PNG; None where it is not drawn."""
        if drawing.draw is not None:
            return _png(drawing.draw())
        kept = None if self._home is None else self._home / "figures" / f"{drawing.stem}.png"
        return kept.read_bytes() if drawing.kept and kept is not None and kept.is_file() else None

    def _take_over(self, drawing: "Drawing", home: Path) -> None:
        """The picture of a figure that is kept, from where it is kept."""
        name = Path("figures") / f"{drawing.stem}.png"
        if drawing.kept and self._home is not None and home.resolve() != self._home.resolve():
            (home / "figures").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._home / name, home / name)

    def _compiled(self, home: Path) -> "Compiled":
        from ablations.report.compile import assembled

        again = self._again or [module_command("report", "--again", "--out", str(home))]
        return assembled(self.analysis, list(self._all()), again, self._request)

    def _drawing(self, name: str) -> "Drawing | None":
        while name not in self._drawn and self._one_more():
            pass
        return self._drawn.get(name)

    def _all(self) -> "list[Drawing]":
        while self._one_more():
            pass
        return list(self._drawn.values())

    def _one_more(self) -> bool:
        """Draw the next figure, if there is one."""
        drawing = next(self._left, None)
        if drawing is not None:
            self._drawn[drawing.stem] = drawing
        return drawing is not None


def compare(
    runs: Runs,
    factors: Names | None = None,
    metric: str | None = None,
    seed: str | None = None,
    baseline: Mapping[str, object] | str | None = None,
    margin: float | None = None,
    better: Literal["higher", "lower"] | None = None,
    *,
    name: str | None = None,
    tracking_uri: str | None = None,
    wide: Literal["levels", "seeds"] | None = None,
    measured: Names = (),
    step: str | None = None,
    blocks: str | None = None,
    average_over: Names | None = None,
    nuisance: Names | None = None,
    tuned_on: str | None = None,
    tuned_better: Literal["higher", "lower"] | None = None,
    ignore: Names | None = None,
    looks: Sequence[int] | None = None,
    unpaired: bool | None = None,
    value: str | None = None,
    where: str | None = None,
) -> Compared:
    """Compare runs, seed by seed, and say how sure one can be.

    `compare(frame, factors="arch", metric="acc", seed="seed", baseline={"arch": "resnet"}, better="higher")`

    Args:
        runs: a data frame or the path of a CSV file, with one row per run; the name of an MLflow experiment, or
            several, or without factors of a sweep; or the folder of a report, with no other argument.
        factors: the params or columns that are compared.
        metric: the outcome.
        seed: the param or column that pairs runs; `seed` by default.
        baseline: by factor the level that others are compared with, or that of the one factor; by default the first.
        margin: the largest difference that does not matter, in the metric's unit.
        better: which values of the metric are; by default as its name says, where that leaves no doubt.
        name: of the report.
        tracking_uri: of the MLflow store; by default MLFLOW_TRACKING_URI, else the project's own.
        wide: of a table whose columns are the `levels` of the one factor, or the `seeds`.
        measured: of a table: columns besides the metric that are no settings.
        step: of a table: the column that counts epochs, where a run has several rows.
        blocks: the param or column with the data sets or folds within which variants are compared.
        average_over: what was varied besides: a seed's value is the mean over it.
        nuisance: what each variant gets its own best value of.
        tuned_on: the metric that chooses it.
        tuned_better: which values of that metric are.
        ignore: what only names a run, and may differ between the two sides of a comparison.
        looks: at how many seeds you looked before, and look now.
        unpaired: whether runs without seeds are compared group by group.
        value: of a metric logged several times: `best`, `last`, `mean-of-last-N`.
        where: only runs that this filter of MLflow's finds.

    Raises:
        InputError: runs that cannot be compared so; one line that says what to do.
    """
    given = locals().copy()
    with _arguments_named():
        return _compared(**given)


def _compared(runs: Any, name: str | None, tracking_uri: str | None, **asked: Any) -> Compared:
    request, shape = _asked(**asked)
    if hasattr(runs, "columns"):
        return _of_table(*in_frame(runs, name or TABLE, request, shape), name or TABLE)
    several = isinstance(runs, Sequence) and all(isinstance(each, str) for each in runs)
    if not (isinstance(runs, os.PathLike) or several):
        raise InputError(
            f"runs: {printable(type(runs).__name__)}; accepted: a data frame, a CSV file, an experiment or several by "
            "name, the folder of a report"
        )
    path = Path(runs) if isinstance(runs, str | os.PathLike) else None
    if path is not None and (path.is_file() or path.suffix.lower() in TABLES):
        return _of_table(*in_csv(path, name or path.stem, request, shape), name or path.stem)
    if path is not None and (path / "report.json").is_file():
        if request != Request() or shape != Shape():
            raise InputError(f"{path}: a report says itself what it compares; leave out the other arguments")
        return _of_report(path)
    if isinstance(runs, os.PathLike):
        raise InputError(f"{path}: no table and no report is there")
    if shape != Shape():
        raise InputError("wide, measured, step: of a data frame or a CSV file")
    return _of_store(runs, request, name, tracking_uri)


def _asked(
    *,
    metric: str | None,
    seed: str | None,
    baseline: Mapping[str, object] | None,
    better: str | None,
    tuned_better: str | None,
    looks: Sequence[int] | None,
    wide: str | None,
    measured: Names,
    step: str | None,
    **others: Any,
) -> tuple[Request, Shape]:
    """What the arguments of `compare` say of the report, and of a table."""
    lists = ("factors", "nuisance", "ignore", "average_over")
    request = Request(
        metric=metric,
        seed_param=seed,
        baseline=_baseline(baseline, _names(others["factors"]) or ()),
        smaller_is_better=_smaller("better", better),
        tuned_smaller_is_better=_smaller("tuned_better", tuned_better),
        looks=None if looks is None else tuple(looks),
        **{key: _names(value) if key in lists else value for key, value in others.items()},
    )
    return request, Shape(wide, _names(measured) or (), step)


def _baseline(given: Any, factors: Sequence[str]) -> dict[str, str] | None:
    """By factor its baseline. Raises InputError for anything but a mapping, or a level where there is one factor."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {str(key): str(level) for key, level in given.items()}
    if len(factors) != 1:
        raise InputError(
            f"baseline: {printable(given)}; accepted: by factor a level, as {{'arch': 'resnet'}}"
        )
    return {factors[0]: str(given)}


def _of_table(source: Any, request: Request, name: str) -> Compared:
    from ablations.report.compile import answered
    from ablations.report.drawings import drawings

    found = answered(source, name, request)
    return Compared(found.analysis, drawings(source, found.analysis, found.histories), (), request)


def _of_store(runs: Any, request: Request, name: str | None, uri: str | None) -> Compared:
    """Of an experiment; of a sweep where no factors are named."""
    from dataclasses import replace

    from ablations.report.compile import answered, usual_again
    from ablations.report.drawings import drawings
    from ablations.tracking.reader import Reader
    from ablations.tracking.store import Store

    store = Store(uri)
    if request.factors is None:
        name = str(runs)
    else:
        request = replace(request, experiment=_names(runs))
    reader = Reader(store)
    found = answered(reader, name, request)
    again = () if request.of_others else usual_again(found.analysis.study.name, store.option)
    return Compared(found.analysis, drawings(reader, found.analysis, found.histories), again, request)


def _of_report(home: Path) -> Compared:
    from ablations.report.again import kept, redrawn

    old = kept(home)
    analysis, drawings = redrawn(old)
    return Compared(analysis, drawings, old.about["again"], old.request, home)


@contextmanager
def _arguments_named() -> Iterator[None]:
    """Messages name arguments as they are called here: `seed`, not `--seed-param`."""
    try:
        yield
    except InputError as error:
        text = OPTIONS.sub(lambda found: _argument(found[1]), str(error))
        raise type(error)(text).with_traceback(error.__traceback__) from None


def _argument(option: str) -> str:
    return "seed" if option == "seed-param" else option.replace("-", "_")


def _names(names: Names | None) -> tuple[str, ...] | None:
    if names is None or names == ():
        return None
    return (names,) if isinstance(names, str) else tuple(map(str, names))


def _smaller(argument: str, better: str | None) -> bool | None:
    if better not in (None, "higher", "lower"):
        raise InputError(f"{argument}={better!r}: 'higher' or 'lower' is expected")
    return None if better is None else better == "lower"


def _png(figure: "Figure") -> bytes:
    from ablations.plots.style import save

    written = io.BytesIO()
    save(figure, written, colours=256)
    return written.getvalue()


def _shown(figure: "Figure") -> "Figure":
    """The figure, which a notebook shows as it is: it was made without pyplot, which alone tells notebooks how."""
    figure._repr_png_ = lambda: _png(figure)
    return figure
