"""A run's own two figures, which are drawn when somebody looks at the run."""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from ablations.ground.paths import draft_folder
from ablations.report.drawings import CURVES, named_classes
from ablations.report.readings import predictions
from ablations.tracking.arrays import Unreadable
from ablations.tracking.sending import send

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ablations.tracking.reader import Reader
    from ablations.tracking.store import Store

LEARNING, CONFUSION = "learning_curves.png", "confusion_matrix.png"


def add_pictures(store: "Store", reader: "Reader", run_id: str) -> list[str]:
    """Draw `learning_curves.png` and `confusion_matrix.png` into the artifacts of a finished run where it has none.

    Returns:
        The names of those that are new. Raises InputError where they cannot be written.
    """
    missing = [name for name in (LEARNING, CONFUSION) if reader.artifact(run_id, name) is None]
    drawn = dict(pictures(reader, run_id, missing)) if missing else {}
    if drawn:
        from ablations.plots.style import save

        store.settle()  # of a copied project the pictures belong to the copy
        with draft_folder() as folder:
            for name, figure in drawn.items():
                save(figure, folder / name)
            # Not kept until a store can be written to: they can be drawn again.
            send(store, run_id, {"do": "files"}, folder)
    return list(drawn)


def pictures(reader: "Reader", run_id: str, names: Collection[str]) -> "Iterator[tuple[str, Figure]]":
    """Those figures of these names that what a run left behind allows, by the name of their file."""
    from ablations.plots.run import confusion_matrix, learning_curves

    try:
        saved = predictions(reader, run_id)
    except Unreadable:
        saved = None
    if saved is None:  # not one of ours, or without a result
        return
    if LEARNING in names and len(points := reader.histories([run_id], CURVES)):
        curves = points.pivot_table("value", "step", "metric", aggfunc="last")
        yield LEARNING, learning_curves(curves.rename_axis("epoch").reset_index())
    if CONFUSION in names:
        labels, read = saved["labels"], saved["predictions"]
        yield CONFUSION, confusion_matrix(labels, read, named_classes(saved))
