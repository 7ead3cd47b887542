"""SIGINT, SIGTERM, SIGHUP and SIGKILL, sent to real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from project import PATIENCE_S, wait_until

from ablations.commands.signals import Terminated, exit_code, stoppable
from ablations.ground.paths import ROOT

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
QUIET = "interrupted: that is all\n"

HEAD = """
import sys, time
from pathlib import Path
from ablations.commands import signals
from ablations.commands import one_line_errors

def say(line):
    print(line, flush=True)

"""


def start(body: str, *arguments: object, before: str = "") -> subprocess.Popen[str]:
    """Run a script whose `body` is inside the context that every command has; returns once it says "ready"."""
    code = before + HEAD + 'with one_line_errors("interrupted: that is all"):\n'
    code += "".join(f"    {line}\n" for line in body.strip().splitlines())
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that starts a job in the background has it ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def group_is_gone(process: subprocess.Popen[str]) -> bool:
    def gone() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(gone, "the end of all that the process started")
    return True


@pytest.mark.parametrize("number", CODES)
def test_one_quiet_line_and_the_shells_exit_code(number):
    process = start('say("ready"); time.sleep(60)')
    process.send_signal(number)
    assert end(process) == (CODES[number], "", QUIET)


@pytest.mark.parametrize("number", CODES)
def test_what_must_be_whole_is(number):
    process = start("""
with signals.undisturbed():
    say("ready")
    time.sleep(0.5)
    say("whole")
time.sleep(60)
""")
    process.send_signal(number)
    assert end(process) == (CODES[number], "whole\n", QUIET)


def test_further_signals_do_not_disturb_who_puts_things_in_order():
    process = start("""
try:
    say("ready")
    time.sleep(60)
finally:
    say("begins")
    time.sleep(0.5)
    say("in order")
""")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "begins\n"
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert end(process) == (143, "in order\n", QUIET)


def test_an_exception_that_was_ignored_is_raised_again():
    """Python ignores what is raised in a finalizer or in the callback of a weak reference."""
    process = start("""
class Lossy:
    def __del__(self):
        say("ready")
        time.sleep(0.5)
        say("not reached")

Lossy()
time.sleep(60)
""")
    process.send_signal(signal.SIGTERM)
    assert end(process) == (143, "", QUIET)


def test_an_exception_that_was_caught_is_raised_again():
    process = start("""
try:
    say("ready")
    time.sleep(60)
except BaseException:
    say("caught")
while True:
    signals.stop_if_told()
""")
    process.send_signal(signal.SIGTERM)
    assert end(process) == (143, "caught\n", QUIET)


def test_other_exceptions_that_are_ignored_are_shown():
    process = start("""
class Broken:
    def __del__(self):
        raise RuntimeError("broken")

Broken()
say("ready")
""")
    code, _, err = end(process)
    assert code == 0
    assert "RuntimeError: broken" in err


def test_putting_in_order_that_hangs_is_cut_off():
    process = start("""
signals.GRACE_S = 0.3
try:
    say("ready")
    time.sleep(60)
finally:
    time.sleep(60)
""")
    process.send_signal(signal.SIGTERM)
    assert end(process) == (143, "", "")


def test_a_call_that_does_not_return_is_cut_off_too(tmp_path):
    process = start(
        """
import sqlite3
signals.GRACE_S = 0.3
first, second = (sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None) for _ in range(2))
first.execute("BEGIN IMMEDIATE")
say("ready")
second.execute("BEGIN IMMEDIATE")
""",
        tmp_path / "locked.db",
    )
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert end(process) == (143, "", "")


def test_what_nohup_started_outlives_its_terminal():
    process = start(
        """
say("ready")
time.sleep(0.3)
say("done")
""",
        before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)",
    )
    process.send_signal(signal.SIGHUP)
    assert end(process) == (0, "done\n", "")


WORKERS = """
from joblib import Parallel, delayed

def job(folder, number):
    with signals.stoppable():
        (folder / f"{number} begun").touch()
        try:
            for _ in range(6000):
                signals.stop_if_told()
                time.sleep(0.01)
        except KeyboardInterrupt:
            time.sleep(0.3 + number)  # the second is still at it when the first has left
            (folder / f"{number} in order").touch()
            raise

say("ready")
signals.watch_workers()
Parallel(n_jobs=int(sys.argv[2]))(delayed(job)(Path(sys.argv[1]), number) for number in range(int(sys.argv[3])))
"""


def workers(folder: Path, count: int = 2, jobs: int = 6) -> subprocess.Popen[str]:
    process = start(WORKERS, folder, count, jobs)
    expected = min(count, jobs)
    wait_until(lambda: len(list(folder.glob("* begun"))) == expected, "the beginning of the workers")
    return process


@pytest.mark.slow  # many seconds; .ci/run has it
@pytest.mark.parametrize(
    ("number", "to_all"), [(signal.SIGTERM, False), (signal.SIGINT, True)], ids=["kill", "Ctrl-C"]
)
def test_workers_are_stopped_too_and_begin_nothing_more(number, to_all, tmp_path):
    """`kill` tells the parent alone, Ctrl-C in a terminal all."""
    process = workers(tmp_path)
    if to_all:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert end(process) == (CODES[number], "", QUIET)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{n} {s}" for n in "01" for s in ("begun", "in order")
    }
    assert group_is_gone(process)


@pytest.mark.slow  # many seconds; .ci/run has it
def test_workers_do_not_outlive_a_parent_that_was_killed(tmp_path):
    process = workers(tmp_path)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    assert group_is_gone(process)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{n} {s}" for n in "01" for s in ("begun", "in order")
    }


@pytest.mark.slow  # many seconds; .ci/run has it
def test_nor_do_those_that_have_nothing_to_do(tmp_path):
    """joblib's workers wait for more for five minutes; three of these have never had anything."""
    process = workers(tmp_path, count=4, jobs=1)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    assert group_is_gone(process)


def test_nor_do_those_that_begin_when_their_parent_is_gone_already(tmp_path):
    process = start(WORKERS, tmp_path, 2, 6)
    while len(psutil.Process(process.pid).children()) < 3:  # one is the tracker
        time.sleep(0.001)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    assert group_is_gone(process)


@pytest.mark.slow  # many seconds; .ci/run has it
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["Ctrl-C", "a closed terminal"])
@pytest.mark.parametrize("wait_s", [0.0, 0.1])
def test_what_reaches_all_while_workers_begin_is_one_quiet_line(number, wait_s, tmp_path):
    """It reaches them, too, where Python itself would still show a traceback, and joblib's tracker of resources."""
    process = start(WORKERS, tmp_path, 2, 6)
    wait_until(lambda: len(psutil.Process(process.pid).children()) >= 3, "the workers and their tracker")
    time.sleep(wait_s)
    os.killpg(process.pid, number)
    assert end(process) == (CODES[number], "", QUIET)
    assert group_is_gone(process)


def test_afterwards_signals_do_what_they_did():
    before = [signal.getsignal(number) for number in CODES]
    with stoppable(), stoppable():
        assert [signal.getsignal(number) for number in CODES] != before
    assert [signal.getsignal(number) for number in CODES] == before


def test_in_another_thread_nothing_is_changed():
    seen = []

    def look() -> None:
        with stoppable():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_exit_codes():
    assert exit_code(KeyboardInterrupt()) == 130
    assert exit_code(Terminated()) == 143
    assert exit_code(Terminated(signal.SIGHUP)) == 129


LAST_WORDS = """
signals.GRACE_S = 0.3
try:
    say("ready"); time.sleep(60)
except KeyboardInterrupt:
    with signals.last_words():
        say("begun")
        {what}
        say("said")
    raise
"""


def test_after_ctrl_c_there_is_time_for_last_words():
    process = start(LAST_WORDS.format(what="time.sleep(1.5)"))
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "begun\nsaid\n", QUIET)


@pytest.mark.parametrize("what", ["time.sleep(60)", "import select; select.poll().poll(1000)"])
def test_the_next_signal_ends_last_words(what):
    process = start(LAST_WORDS.format(what=what))
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "", QUIET)


def test_what_hangs_in_its_last_words_is_cut_off():
    process = start(LAST_WORDS.format(what="ctypes.CDLL(None).sleep(60)"), before="import ctypes\n")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    code, out, _ = end(process)
    assert (code, out) == (130, "")
