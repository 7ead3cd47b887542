"""Addresses of stores without the user and password that may be in them, and the way back within one command.

Only the shown form is kept, logged, printed and compared. The whole address is known to the process that was given it
and, by a variable of the environment, to the workers that it starts.
"""

import os

from ablations.errors import HIDDEN, InputError, masked

WHOLE = "ABLATIONS_STORE"
"""The variable with the whole address of the store that a command works on."""

_known: dict[str, str] = {}


def hide(uri: str) -> str:
    """The address as it may be shown; `whole` finds the other in this process."""
    shown = masked(uri)
    if shown != uri:
        _known[shown] = uri
    return shown


def tell_workers(uri: str) -> str:
    """The same, where workers of this process are to find it, too."""
    shown = hide(uri)
    if shown != uri:
        os.environ[WHOLE] = uri
    return shown


def whole(shown: str) -> str:
    """The address itself. Raises InputError where its user and password are not known here."""
    if HIDDEN not in shown:
        return shown
    for uri in (_known.get(shown), os.environ.get(WHOLE), os.environ.get("MLFLOW_TRACKING_URI")):
        if uri and masked(uri) == shown:
            return uri
    raise InputError(
        f"the store {shown}: its user and password are kept nowhere; accepted: the whole address, also in "
        "MLFLOW_TRACKING_URI"
    )
