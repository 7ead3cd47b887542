"""Which run of the store is meant, by its id, its name, or as the best one."""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablations.errors import InputError, printable
from ablations.tracking.columns import column, metric, param, tag, text
from ablations.tracking.reader import Reader
from ablations.tracking.study import is_aside

if TYPE_CHECKING:
    import pandas as pd

    from ablations.predict.model import Model

BEST = "best"
JUDGED_BY = "val/accuracy"
PREFERRED = ("mnist", "images")
LAST = ("digits", "fashion_mnist")
"""By what a network was trained on, the best is chosen first: on pictures as people have them before any other, and
after all others on what is small and coarse, or shows no digits. Accuracies of different data compare nothing."""
SHOWN = 8  # names or ids in an error message


def choose(runs: "pd.DataFrame", wanted: str) -> "pd.Series":
    """The run that `wanted` means, a row of `Reader.runs()`; the command's `--help` says what it may be.

    The best is chosen by its data set first (`PREFERRED`, `LAST`), then by its validation accuracy; of several the
    one with the lower validation loss, then the older one, is taken. Raises InputError for none, with the names
    that come nearest, and for several.
    """
    if wanted == BEST or wanted.startswith(f"{BEST}:"):
        return _best(runs, wanted.partition(":")[2] if ":" in wanted else None)
    for found in (
        runs[runs["run_id"] == wanted],
        runs[runs["run_name"] == wanted],
        runs[runs["run_id"].str.startswith(wanted)],
    ):
        if len(found) == 1:
            return found.iloc[0]
        if len(found) > 1:
            ids = _some(found["run_id"].tolist()[::-1])
            raise InputError(f"{len(found)} runs are meant by {wanted!r}; give the id of one: {ids}")
    near = difflib.get_close_matches(wanted, [BEST, *runs["run_name"].unique()], n=SHOWN, cutoff=0.5)
    near = near or runs["run_name"].drop_duplicates(keep="last").tolist()[::-1]
    raise InputError(f"no run {wanted!r}; there are, for example: {_some(near) or 'none yet'}")


def _best(runs: "pd.DataFrame", group: str | None) -> "pd.Series":
    judged, loss = metric(JUDGED_BY), metric("val/loss")
    if group is not None:
        names = [column(runs, tag(kind)) for kind in ("sweep", "study")]
        known = {name for each in names for name in each.dropna()}
        if group not in known:
            near = difflib.get_close_matches(group, known, n=SHOWN, cutoff=0.5) or sorted(known)
            raise InputError(f"no sweep or study {group!r}; there are: {_some(near) or 'none yet'}")
        runs = runs[(names[0] == group) | (names[1] == group)]
    runs = runs[(runs["status"] == "FINISHED") & column(runs, judged).notna()]
    if runs.empty:
        raise InputError(f"no finished run with the metric {JUDGED_BY}{f' in {group}' if group else ''}")
    if group is None:  # what trials trained, or what nobody chose in the end, was not to be used
        runs = runs[~column(runs, tag("sweep")).map(is_aside)]
    ranks = column(runs, param("dataset")).map(_rank)
    runs = runs[ranks == ranks.min()]
    order = [judged, loss] if loss in runs else [judged]
    return runs.sort_values(order, ascending=[key != judged for key in order], kind="stable").iloc[0]


def _rank(dataset: object) -> int:
    order = [*PREFERRED, None, *LAST]
    return order.index(dataset if dataset in order else None)


def described(run: "pd.Series") -> str:
    """A run by its name and id, with its data set and its validation accuracy where they are known."""
    words = f"{printable(run['run_name'])}, run {run['run_id']}"
    if dataset := text(run.get(param("dataset"))):
        words += f", trained on {printable(dataset)}"
        accuracy = run.get(metric(JUDGED_BY), -1)
        if accuracy >= 0:  # not where it is missing
            words += f" ({accuracy:.2%} of its validation images right)"
    return words


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(map(printable, names[:SHOWN])) + (f" and {more} more" if more > 0 else "")


def load(reader: Reader, run: "pd.Series") -> "Model":
    """The network of a run. Raises InputError where it has none, or a damaged one."""
    from ablations.predict.model import NETWORK, Model

    folder = reader.artifact(run["run_id"], NETWORK)
    if folder is None:
        why = "" if run["status"] == "FINISHED" else f", it is {run['status']}"
        raise InputError(f"the run {printable(run['run_name'])} ({run['run_id']}) has no model{why}")
    return Model.load(folder)
