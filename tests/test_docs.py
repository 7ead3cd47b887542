"""README and docs/: every command works or is known to the program, every link leads somewhere, every example is followed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from ablations.errors import InputError
from ablations.paths import CONF, ROOT
from ablations.tracking import Reader

PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_SERVICES = {"clusters.md", "server.md"}
"""Pages on machines and servers that are not here: of their commands the overrides and options are checked."""

# What is not run as it stands, with the reason; its overrides are composed and its options looked up all the same.
NOT_RUN = {
    "python -m pip install -e .": "installs",
    "python -m pip install -e .[test]": "installs",
    "python -m pytest": "it is what runs this",
    "python run.py -m activation=relu,tanh pool=max,avg": "test_cli runs it; here it is made with two epochs",
    "python run.py": "20 epochs; test_cli runs single trainings",
    "python -m ablations.ui": "serves until Ctrl-C; test_ui does it",
    "python -m ablations.ui activation-pool": "serves until Ctrl-C; test_ui does it",
    "python -m ablations.ui --port 0": "serves until Ctrl-C; test_ui does it",
    "mlflow models serve -m mlruns/artifacts/EXPERIMENT/models/MODEL/artifacts --env-manager local": "serves",
}
TRAINS = "a training of its own, in test_cli and elsewhere"
READS_ANYBODY = "needs a server or a store of other programs; test_foreign_runs has one"

DRIVER = """
import contextlib, io, json, logging, os, runpy, sys, time
from hydra.core.global_hydra import GlobalHydra
import ablations.signals
handlers = None
for line in sys.stdin:
    argv = json.loads(line)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if argv[0] == "-m":
                sys.argv = argv[1:]
                runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
            else:
                sys.argv = argv
                runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    GlobalHydra.instance().clear()
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""
