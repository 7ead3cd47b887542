"""Ctrl-C, SIGTERM and a closed terminal: stop soon, leave everything in order, and take the workers along."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from types import FrameType
from typing import Any

import psutil

from ablations import ground
from ablations.commands import guard
from ablations.ground import STOPS

GRACE_S = 4.5
"""How long a process may take to put things in order before it is cut off."""

WORKER_GRACE_S = 3.0
"""The same for a worker, whose parent waits for it."""


PARENT = "ABLATIONS_PARENT"
"""The variable that tells workers the id of the process that they work for, which may end before they have begun."""

LOOK_S = 0.5
"""How often a worker looks whether that process lives."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, SIGHUP as of a terminal that was closed, or Ctrl-Break; to be treated as Ctrl-C is."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


class _Process:
    """What this process knows of being stopped."""

    signal: int | None = None  # the one that told it to stop
    listening = False  # for signals
    busy = False  # something wants to be told by an exception
    undisturbed = False  # but not now
    handled = 0  # how many signals came
    excused = 0  # so many of them were dealt with
    lost = False  # the exception was raised where nothing can be raised, as in a finalizer


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn SIGINT into KeyboardInterrupt, the others of STOPS into Terminated, once; further ones change nothing.

    Workers that were started meanwhile are told first and waited for, so that none outlives this process; should it
    be killed, they notice. What takes longer than `GRACE_S` to be put in order is cut off. Contexts may be nested:
    the outermost counts. A worker itself ends with the signal's exit code (128 + its number) instead of reporting
    to a parent that is leaving.
    """
    if _Process.busy or threading.current_thread() is not threading.main_thread():
        stop_if_told()
        yield
        return
    ignore = _listen()
    _Process.busy = True
    try:
        stop_if_told()
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
        elif not _is_worker():
            for number in STOPS:  # else Python, while it ends, lets the next one kill it
                signal.signal(number, signal.SIG_IGN)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals wait until the end of the block, which must be short; it may be nested."""
    before, _Process.undisturbed = _Process.undisturbed, True
    try:
        yield
    finally:
        _Process.undisturbed = before
    if not before:
        stop_if_told()


@contextmanager
def last_words() -> Iterator[None]:
    """Once Ctrl-C has stopped what was going on, time for what is to be done before the end, however long it takes;
    the next signal ends that at once."""
    number, _Process.signal = _Process.signal, None
    _Process.lost, _Process.excused = False, _Process.handled
    try:
        yield
    finally:
        _Process.signal = _Process.signal or number


def stop_if_told() -> None:
    """To be called often by what takes long: raise where this process is to stop.

    It makes up for an exception that somebody caught.
    """
    if _Process.signal is not None:
        raise _exception(_Process.signal)


def exit_code(error: KeyboardInterrupt) -> int:
    """The shell's convention for a process that a signal ended: 128 + its number."""
    return 128 + (error.signal if isinstance(error, Terminated) else signal.SIGINT)


def watch_workers() -> None:
    """Have joblib's workers listen to signals, and for the end of this process, from their start on.

    By themselves they wait for five minutes for work that nobody will send, and Ctrl-C, which reaches all of a
    terminal, would have each of them that has not begun to listen print a traceback. Of workers that are told to stop
    joblib would kill the others as soon as the first has left.
    """
    from joblib.externals.loky.process_executor import _ExecutorManagerThread as Manager
    from joblib.parallel import LokyBackend, register_parallel_backend

    class Listening(LokyBackend):
        def configure(self, *arguments: Any, **options: Any) -> int:
            return super().configure(*arguments, initializer=_begin_to_work, **options)

    register_parallel_backend("loky", Listening)
    if not hasattr(Manager.kill_workers, "__wrapped__"):
        Manager.kill_workers = _unless_stopping(Manager.kill_workers)
    if ground.WINDOWS:  # where a process cannot be started with signals held back
        return
    from joblib.externals.loky.backend import fork_exec as starting
    from joblib.externals.loky.backend import resource_tracker

    with _held_back(signal.SIGHUP):  # it has to outlive us, and ignores the other signals by itself
        resource_tracker.ensure_running()
    if not hasattr(starting.fork_exec, "__wrapped__"):
        starting.fork_exec = _holding_back_ctrl_c(starting.fork_exec)


def _unless_stopping(kill: Callable[..., None]) -> Callable[..., None]:
    """Leave workers to `_stop_children` once this process is told to stop."""

    @wraps(kill)
    def killed(*arguments: Any, **options: Any) -> None:
        if _Process.signal is None:
            kill(*arguments, **options)

    return killed


@contextmanager
def _held_back(number: int) -> Iterator[None]:
    """Have a signal wait; processes that are started meanwhile inherit that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _holding_back_ctrl_c(start: Callable[..., int]) -> Callable[..., int]:
    """Start processes in which SIGINT waits until `_begin_to_work`."""

    @wraps(start)
    def started(*arguments: Any, **options: Any) -> int:
        with _held_back(signal.SIGINT):
            return start(*arguments, **options)

    return started


def _begin_to_work() -> None:
    _listen()
    if not ground.WINDOWS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    try:
        psutil.Process().memory_info()
    except (psutil.Error, OSError):  # there is no /proc, where joblib would look after each run
        from joblib.externals.loky import process_executor

        process_executor._USE_PSUTIL = False


def _listen() -> Callable[[], None]:
    """Have signals come to `_stop`, and to `_cut_off`; return what undoes it."""
    if _Process.listening:
        return lambda: None
    _Process.listening, _Process.handled, _Process.excused = True, 0, 0
    if _is_worker():
        threading.Thread(target=_follow_parent, daemon=True).start()
    else:
        os.environ[PARENT] = str(os.getpid())
    # What `nohup` has started does not mind a terminal that is closed.
    numbers = [n for n in STOPS if n.name != "SIGHUP" or signal.getsignal(n) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, _stop) for number in numbers}
    deaf = _cut_off_later()
    hook, sys.unraisablehook = sys.unraisablehook, _raise_later

    def ignore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        deaf()
        sys.unraisablehook = hook
        os.environ.pop(PARENT, None)
        _Process.listening = False

    return ignore


def _cut_off_later() -> Callable[[], None]:
    """Have a thread hear of signals at once, which cuts the process off some time after; return what undoes it.

    Windows has nothing that a thread could hear them by: there `_stop` starts the clock.
    """
    if ground.WINDOWS:
        return lambda: None
    heard, told = os.pipe()
    os.set_blocking(told, False)
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_hear, args=[heard], daemon=True).start()

    def deaf() -> None:
        signal.set_wakeup_fd(before)
        os.close(told)

    return deaf


def _stop(number: int, frame: FrameType | None) -> None:
    _Process.handled += 1
    if _Process.signal is not None:
        if _Process.lost and not _Process.undisturbed:
            _Process.lost = False
            raise _exception(number)
        return
    _Process.signal = number
    if ground.WINDOWS:
        threading.Thread(target=_cut_off, args=[number, _Process.handled], daemon=True).start()
    if _is_worker() and not _Process.busy:
        _leave(number)
    _stop_children(_patience(WORKER_GRACE_S) + 0.5)
    if not _Process.undisturbed:
        raise _exception(number)


def _raise_later(lost: "sys.UnraisableHookArgs") -> None:
    """Where the exception that is to stop this process was ignored, quietly have it raised again."""
    if _Process.signal is None or not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    _Process.lost = True
    again = threading.Timer(0.02, ground.tell_self, [_Process.signal])
    again.daemon = True
    again.start()


def _follow_parent() -> None:
    """End this worker, in order, as soon as the process that it works for is gone."""
    parent_lives = ground.parent(int(os.environ.get(PARENT, os.getppid())))
    while parent_lives():
        time.sleep(LOOK_S)
    ground.tell_self(signal.SIGTERM)


def _hear(heard: int) -> None:
    """Cut the process off after a signal, also where the main thread is inside a call, as to a locked database, that
    does not return so soon: Python handles signals between two of its own instructions."""
    heard_of = 0
    with open(heard, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] in STOPS:
                heard_of += 1
                threading.Thread(target=_cut_off, args=[number[0], heard_of], daemon=True).start()


def _cut_off(number: int, place: int) -> None:
    """End the process some time after a signal, the `place`-th, unless that was dealt with."""
    time.sleep(_patience(WORKER_GRACE_S if _is_worker() else GRACE_S))
    if place > _Process.excused:
        os._exit(128 + number)


def _patience(seconds: float) -> float:
    """So many seconds of a machine that has a processor for everybody; up to ten times as many of a busier one."""
    waiting = ground.demand() / (os.cpu_count() or 1)
    return seconds * min(max(1.0, waiting), 10.0)


def _exception(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


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
        with suppress(psutil.NoSuchProcess):
            ground.tell_to_stop(child)
    until = time.monotonic() + seconds
    while children and time.monotonic() < until:
        time.sleep(0.02)
        children &= _children()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def _children() -> set[Any]:
    """The children that run; but multiprocessing's trackers, which ignore signals and end by themselves, and guards,
    whom who started them ends."""
    try:
        found = psutil.Process().children()
    except (psutil.Error, OSError):  # there is no /proc
        return set(multiprocessing.active_children())
    children = set()
    for child in found:
        with suppress(psutil.Error):  # it has ended
            command = " ".join(child.cmdline())
            if command and "resource_tracker" not in command and guard.__file__ not in command:
                children.add(child)
    return children
