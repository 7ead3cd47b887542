"""`python -m ablations.sync`: deliver what runs could not send to their store while it was away."""

import argparse
import sys
from collections.abc import Sequence

from ablations.commands import command_parser, one_line_errors
from ablations.errors import printable
from ablations.tracking.journal import outbox_folder
from ablations.tracking.outbox import deliver
from ablations.tracking.store import Store

EXAMPLES = """examples:
  python -m ablations.sync                                          all that waits
  python -m ablations.sync --tracking-uri http://127.0.0.1:5000     what waits for this store

Runs wait in mlruns/outbox, or in the folder that ABLATIONS_OUTBOX names, one folder each. The start of any run
delivers them, too. To give one up, delete its folder.
"""


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    found = command_parser(
        "sync", "Deliver what runs could not send to their store while it was away.", EXAMPLES
    )
    found.add_argument("--tracking-uri", help="deliver to this store alone; default: each run to its own")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Deliver and say what was delivered; exit code 1 where something is left."""
    options = parser().parse_args(arguments)
    with one_line_errors():
        runs = deliver(Store(options.tracking_uri) if options.tracking_uri else None)
        for run in runs:
            if run.dropped:
                print(f"dropped {run.name!r}: its run {run.run_id} was deleted from {run.store.shown}")
            elif run.problem is None:
                print(f"delivered {run.name!r}: run {run.run_id} in {run.store.shown}")
            else:
                print(
                    f"not delivered {run.name!r}, kept in {run.folder}: {printable(run.problem)}",
                    file=sys.stderr,
                )
        if not runs:
            print(f"nothing waits in {outbox_folder()}")
    sys.exit(any(run.problem for run in runs))


if __name__ == "__main__":
    main()
