"""On a terminal: a bar over the whole sweep, lines above it, colours where they are wanted. Elsewhere: neither."""

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from project import PATIENCE_S

from ablations.commands import shortened
from ablations.experiment.progress import seconds_left
from ablations.ground.paths import ROOT
from ablations.report.console import coloured

SWEEP = """
import sys, time
from pathlib import Path
from ablations.experiment.progress import DONE, sweep_bar
from ablations.commands import say
from ablations.report.console import coloured
folder = Path({folder!r})
drawn, write = [], sys.stderr.write
sys.stderr.write = lambda text: drawn.append(text) or write(text)
with sweep_bar(folder, 4):
    for i in range(4):
        (folder / str(i)).mkdir()
        (folder / str(i) / DONE).write_text("1.5" if i else "")
        say(f"run {{i}} ended")
        while sys.stderr.isatty() and f"{{i + 1}}/4" not in "".join(drawn):
            time.sleep(0.01)
print(coloured("worse, no difference that matters, better"))
"""


def on_a_terminal(code: str, **environment: str) -> str:
    """What a person sees of a program, escape sequences and all."""
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 80))
    done = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=side, stderr=side, cwd=ROOT, env=done | environment
    )
    os.close(side)
    seen = b""
    while True:
        try:
            seen += os.read(main, 4096)
        except OSError:  # the other side was closed
            break
    assert process.wait(timeout=PATIENCE_S) == 0, seen
    os.close(main)
    return seen.decode()


def test_a_sweep_has_a_bar_with_the_time_that_is_left(tmp_path):
    seen = on_a_terminal(SWEEP.format(folder=str(tmp_path)), NO_COLOR="1")
    assert "sweep:" in seen
    assert re.search(r"1/4 \[\d\d:\d\d\]", seen)  # it had its result already
    assert re.search(r"3/4 \[\d\d:\d\d, \d\d:\d\d left\]", seen)
    for i in range(4):
        assert f"\r\x1b[Krun {i} ended\r\n" in seen
    assert "worse, no difference that matters, better" in seen


RUN = """
import logging, time
from ablations.experiment.progress import ProgressBar
from ablations.commands import LineHandler
from ablations.training.loop import Step
import sys
logging.basicConfig(handlers=[LineHandler(sys.stdout)])
with ProgressBar("activation=scaled_tanh pool=subsample trainer.epochs=20 seed=0", 200, True) as bar:
    for i in range(1, 201):
        bar(Step(i, 0.25, 0.875, 3.0))
        time.sleep(0.002)
        if i == 100:
            logging.warning("the store is away")
"""


def test_the_bar_of_a_run_shows_loss_and_accuracy_in_80_columns():
    seen = on_a_terminal(RUN)
    drawn = [text for text in re.split(r"[\r\n]|\x1b\[A", seen) if "accuracy" in text]
    assert drawn
    assert {text.partition(":")[0] for text in drawn} == {"activation=s…hs=20 seed=0"}
    assert all(text.endswith(" left, loss 0.250, accuracy 87.5%") and len(text) <= 80 for text in drawn)
    assert "\r\x1b[KWARNING:root:the store is away\r\n" in seen


@pytest.mark.parametrize(
    ("waiting", "ages", "ended", "workers", "left"),
    [
        (3, [1.0], [], 1, None),
        (3, [], [(10.0, 0.0)], 1, None),  # had its result: nothing is known of a training
        (3, [2.0], [(10.0, 10.0)], 1, 3 * 10 + 8),
        (2, [1.0], [(10.0, 10.0), (15.0, 4.0)], 1, 2 * 5 + 4),  # the first imports; what lies between counts
        (2, [3.0, 1.0], [(8.0, 8.0), (8.0, 8.0)], 2, (2 * 8 + 5 + 7) / 2),
        (0, [1.0, 7.0], [(8.0, 8.0), (8.0, 8.0)], 2, 7.0),  # until the last one ends
        (4, [], [(0.1, 0.0), (0.2, 0.0), (4.2, 4.0)], 1, 4 * 4),
        (
            6,
            [],
            [(4.0, 4.0), (4.25, 0.0), (4.5, 0.0), (8.5, 4.0)],
            1,
            6 / 3 * 4,
        ),  # two of three have a result
        (0, [20.0], [(4.0, 4.0)], 1, 0.0),
    ],
)
def test_the_time_that_is_left(waiting, ages, ended, workers, left):
    assert seconds_left(waiting, ages, ended, workers) == (left if left is None else pytest.approx(left))


def test_names_are_cut_in_their_middle():
    assert shortened("activation", 10) == "activation"
    assert [shortened("activation=relu seed=7", width) for width in (12, 7)] == ["activa…eed=7", "act…d=7"]


def test_verdicts_have_colours_on_a_terminal_only(monkeypatch, tmp_path):
    code = "from ablations.report.console import coloured; print(coloured('worse, nothing betters'))"
    assert on_a_terminal(code).strip() == "\x1b[33;1mworse\x1b[0m, nothing betters"
    assert coloured("worse") == "worse"


def test_a_new_store_is_announced_on_a_terminal(tmp_path):
    code = f"from ablations.tracking import Store; Store('sqlite:///{tmp_path}/mlflow.db').prepare('a')"
    assert on_a_terminal(code) == f"\r\x1b[Kmaking the store {tmp_path}/mlflow.db, once …\r\n"
    assert on_a_terminal(code) == ""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_pipe_gets_plain_lines(stream, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", SWEEP.format(folder=str(tmp_path))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert "\x1b" not in getattr(done, stream)
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "run 0 ended"
