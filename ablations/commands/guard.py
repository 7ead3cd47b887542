"""`python guard.py COMMAND…`: a command that ends, with all that it started, when stdin does.

Whoever holds the other end of stdin need not be able to end it: the command is gone however its starter ends.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import psutil

WAIT_S = 2.5
"""How long a command may take to end by itself: less than who tells us to stop waits for us."""


def end(process: psutil.Process | subprocess.Popen[bytes], wait_s: float = WAIT_S) -> None:
    """Ask a process and all that it started to stop, and kill what has not after a while."""
    with suppress(psutil.Error, OSError):
        whole = psutil.Process(process.pid)
        family = [*whole.children(recursive=True), whole]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.terminate()
        _, left = psutil.wait_procs(family, timeout=wait_s)
        for member in left:
            with suppress(psutil.NoSuchProcess):
                member.kill()


def main() -> int:
    """Start the command; its exit code."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    guarded = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def until_alone() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        end(guarded, wait_s=0.0)

    threading.Thread(target=until_alone, daemon=True).start()
    try:
        return guarded.wait()
    finally:
        end(guarded)


if __name__ == "__main__":
    sys.exit(main())
