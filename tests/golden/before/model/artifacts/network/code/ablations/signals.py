"""SIGINT and SIGTERM: stop soon, leave everything in order, and take the workers along."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

GRACE_S = 4.5
"""How long a process may take to put things in order before it is cut off."""

WORKER_GRACE_S = 3.0
"""The same for a worker, whose parent waits for it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which is to be treated as Ctrl-C is."""


class _Process:
    """What this process knows of being stopped."""

    signal: int | None = None  # the one that told it to stop
    listening = False  # for signals
    busy = False  # something wants to be told by an exception
    undisturbed = False  # but not now
    lost = False  # the exception was raised where nothing can be raised, as in a finalizer
    parent = os.getppid()


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn SIGINT into KeyboardInterrupt and SIGTERM into Terminated, once; further ones change nothing.

    Workers that were started meanwhile are told first and waited for, so that none outlives this process. What takes
    longer than `GRACE_S` to be put in order is cut off. Contexts may be nested: the outermost counts. A worker
    itself ends with the signal's exit code (128 + its number) instead of reporting to a parent that is leaving.
    """
    if _Process.busy or threading.current_thread() is not threading.main_thread():
        check()
        yield
        return
    ignore = _listen()
    _Process.busy = True
    try:
        check()
        yield
    except KeyboardInterrupt:
        if _is_worker():
            _leave(_Process.signal or signal.SIGTERM)
        raise
    finally:
        _Process.busy = False
        # A worker between two runs still leaves quietly, and who is leaving is not to be disturbed.
        if not _is_worker() and _Process.signal is None:
            ignore()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the end of the block, which must be short; it may be nested."""
    before, _Process.undisturbed = _Process.undisturbed, True
    try:
        yield
    finally:
        _Process.undisturbed = before
    if not before:
        check()


def check() -> None:
    """To be called often by what takes long: raise where this process is to stop.

    It makes up for an exception that somebody caught, and for a parent that was killed.
    """
    if _Process.signal is not None:
        raise _exception(_Process.signal)
    if _is_worker() and os.getppid() != _Process.parent:
        raise Terminated


def exit_code(error: KeyboardInterrupt) -> int:
    """The shell's convention for a process that a signal ended: 128 + its number."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def _listen() -> Callable[[], None]:
    """Have signals come to `_stop`, and to `_cut_off`; return what undoes it."""
    if _Process.listening:
        return lambda: None
    _Process.listening = True
    handlers = {number: signal.signal(number, _stop) for number in SIGNALS}
    heard, told = os.pipe()
    os.set_blocking(told, False)
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    hook, sys.unraisablehook = sys.unraisablehook, _raise_later
    threading.Thread(target=_cut_off, args=[heard], daemon=True).start()

    def ignore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        sys.unraisablehook = hook
        os.close(told)
        _Process.listening = False

    return ignore


def _stop(number: int, frame: FrameType | None) -> None:
    if _Process.signal is not None:
        if _Process.lost and not _Process.undisturbed:
            _Process.lost = False
            raise _exception(number)
        return
    _Process.signal = number
    if _is_worker() and not _Process.busy:
        _leave(number)
    _stop_children(WORKER_GRACE_S + 0.5)
    if not _Process.undisturbed:
        raise _exception(number)


def _raise_later(lost: "sys.UnraisableHookArgs") -> None:
    """Where the exception that is to stop this process was ignored, quietly have it raised again."""
    if _Process.signal is None or not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    _Process.lost = True
    again = threading.Timer(0.02, os.kill, [os.getpid(), _Process.signal])
    again.daemon = True
    again.start()


def _cut_off(heard: int) -> None:
    """End the process some time after a signal.

    `heard` says when one came, also where the main thread is inside a call, as to a locked database, that does not
    return so soon: Python handles signals between two of its own instructions.
    """
    with open(heard, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] in SIGNALS:
                time.sleep(WORKER_GRACE_S if _is_worker() else GRACE_S)
                os._exit(128 + number[0])


def _exception(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _leave(number: int) -> None:
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(128 + number)


def _is_worker() -> bool:
    return multiprocessing.current_process().name != "MainProcess"


def _stop_children(seconds: float) -> None:
    """Tell every child to stop, wait until they have, and kill those that have not."""
    children = _children()
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    until = time.monotonic() + seconds
    while children and time.monotonic() < until:
        time.sleep(0.02)
        children &= _children()
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _children() -> set[int]:
    """The children that run; but multiprocessing's trackers, which ignore signals and end by themselves."""
    return {child for child, command in _commands().items() if command and "resource_tracker" not in command}


def _commands() -> dict[int, str]:
    """The command of each child; that of one that has ended is empty."""
    try:
        listed = [(task / "children").read_text() for task in Path("/proc/self/task").iterdir()]
    except OSError:  # another system than Linux
        table = subprocess.run(["ps", "-A", "-o", "ppid=,pid=,args="], capture_output=True, text=True).stdout
        rows = [line.split(maxsplit=2) for line in table.splitlines()]
        return {int(row[1]): row[2] for row in rows if len(row) == 3 and int(row[0]) == os.getpid()}
    commands = {}
    for child in " ".join(listed).split():
        with suppress(OSError):
            commands[int(child)] = Path(f"/proc/{child}/cmdline").read_text()
    return commands
