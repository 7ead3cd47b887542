"""On a terminal: a bar over the whole sweep, colours where they are wanted. Elsewhere: neither."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from ablations.paths import ROOT
from ablations.report.console import coloured

SWEEP = """
import time
from pathlib import Path
from ablations.experiment.progress import DONE, say, sweep_bar
from ablations.report.console import coloured
folder = Path({folder!r})
with sweep_bar(folder, 4):
    for i in range(4):
        (folder / str(i)).mkdir()
        (folder / str(i) / DONE).touch()
        say(f"run {{i}} ended")
        time.sleep(0.8)
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
    assert process.wait(timeout=30) == 0, seen
    os.close(main)
    return seen.decode()


def test_a_sweep_has_a_bar_with_the_time_that_is_left(tmp_path):
    seen = on_a_terminal(SWEEP.format(folder=str(tmp_path)), NO_COLOR="1")
    assert "sweep:" in seen
    assert "3/4 [" in seen
    assert "run 3 ended" in seen
    assert "worse, no difference that matters, better" in seen


def test_verdicts_have_colours_on_a_terminal_only(monkeypatch, tmp_path):
    code = "from ablations.report.console import coloured; print(coloured('worse, nothing betters'))"
    assert on_a_terminal(code).strip() == "\x1b[33;1mworse\x1b[0m, nothing betters"
    assert coloured("worse") == "worse"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_pipe_gets_plain_lines(stream, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", SWEEP.format(folder=str(tmp_path))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "\x1b" not in getattr(done, stream)
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "run 0 ended"
