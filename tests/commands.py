"""Commands, each in a process of its own that has imported what others have made already.

Importing mlflow, pandas and matplotlib takes longer than most commands do. One process per pytest worker imports them
and is forked for each command; nothing of this project is imported before.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
"""As `ablations.tracking.store.tame` has it, before mlflow is imported."""

SERVER = """
import atexit, gc, json, os, runpy, sys, threading, traceback

import hydra.main, joblib, matplotlib.backends.backend_agg, mlflow.pyfunc, pandas, PIL.Image, scipy.stats
import mlflow.store.tracking.sqlalchemy_store, sklearn.datasets, sklearn.metrics, statsmodels.stats.multitest, tqdm

assert "ablations" not in sys.modules
gc.freeze()
for line in sys.stdin:
    if (child := os.fork()) == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()

wanted = json.loads(line)
os.chdir(wanted["folder"])
os.environ.clear()
os.environ.update(wanted["environment"])
for number, path in enumerate((os.devnull, *wanted["streams"])):
    opened = os.open(path, os.O_RDWR)
    os.dup2(opened, number)
    os.close(opened)
sys.argv = wanted["words"]
sys.path[:1] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
code = 0
try:
    match sys.argv:
        case ["-m", module, *_]:
            del sys.argv[0]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", text, *_]:
            del sys.argv[1]
            exec(compile(text, "<string>", "exec"), {"__name__": "__main__"})
        case [script, *_]:
            sys.path[0] = os.path.dirname(script)
            runpy.run_path(script, run_name="__main__")
except SystemExit as stop:
    code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    if code and not isinstance(stop.code, int):
        print(stop.code, file=sys.stderr)
except BaseException:
    code = 1
    traceback.print_exc()
threading._shutdown()  # as Python ends, but for taking apart all that was imported
atexit._run_exitfuncs()
for stream in (sys.stdout, sys.stderr):
    stream.flush()
os._exit(code)
"""

_one_at_a_time = threading.Lock()


@cache
def _server() -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment | ENVIRONMENT,
        text=True,
    )


def run(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], patience_s: float
) -> subprocess.CompletedProcess[str]:
    """`python WORDS` in a folder: what `subprocess.run` would give, but sooner."""
    server = _server()
    with _one_at_a_time, tempfile.TemporaryDirectory() as place:
        streams = [Path(place, name) for name in ("out", "err")]
        for path in streams:
            path.touch()
        wanted = {"words": list(words), "folder": str(folder), "environment": dict(environment)}
        print(json.dumps(wanted | {"streams": [*map(str, streams)]}), file=server.stdin, flush=True)
        if not select.select([server.stdout], [], [], patience_s)[0]:
            raise subprocess.TimeoutExpired(words, patience_s)
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(words, code, *(path.read_text("utf-8") for path in streams))
