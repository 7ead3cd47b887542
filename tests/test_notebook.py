"""docs/notebook.ipynb from top to bottom, and training from Python."""

import json
import os
import re
import subprocess
import sys

import pytest
from project import PATIENCE_S

import ablations
from ablations.ground.paths import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
MOST_BYTES = 300_000
NUMBERS = re.compile(r"\d+(?:\.\d+)?|True|False")
"""What must be the same; words may have changed since."""


def cells(kind: str) -> list[dict]:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def test_the_notebook_is_small_whole_and_without_errors():
    assert NOTEBOOK.stat().st_size < MOST_BYTES
    outputs = [output for cell in cells("code") for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert all(cell["outputs"] for cell in cells("code"))
    shown = [text for output in outputs for text in output.get("data", {}).get("text/html", [])]
    assert any('src="data:image/png;base64,' in line for line in shown)


SHOWING = """
import ast, json, sys

names = {}
for source in json.load(sys.stdin):
    *body, last = ast.parse(source).body
    value = None
    if isinstance(last, ast.Expr):
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    else:
        exec(compile(ast.Module([*body, last], []), "cell", "exec"), names)
    print("=> " + repr(value).replace("\\n", " "))
"""


@pytest.mark.slow
def test_its_cells_run_in_order_and_give_what_it_shows(tmp_path):
    """Without a kernel, which would have to be installed; in a process and a project folder of its own."""
    sources = ["".join(cell["source"]) for cell in cells("code")]
    unset = {"MLFLOW_TRACKING_URI", "MPLBACKEND"}
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    done = subprocess.run(
        [sys.executable, "-c", SHOWING],
        input=json.dumps(sources),
        cwd=tmp_path,
        env=environment | {"ABLATIONS_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    given = [line.removeprefix("=> ") for line in done.stdout.splitlines() if line.startswith("=> ")]
    assert len(given) == len(sources)
    for cell, value in zip(cells("code"), given, strict=True):
        for output in cell["outputs"]:
            text = " ".join("".join(output.get("data", {}).get("text/plain", "")).split())
            if text.startswith(("['", "True", "('", "array")):  # sentences, lists, what the network read
                assert NUMBERS.findall(value) == NUMBERS.findall(text)
    assert (tmp_path / "mlruns" / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["-m", "activation=relu"], "train: -m: key=value is expected, one run at a time"),
        (["activation"], "train: activation: key=value is expected"),
    ],
)
def test_train_takes_one_configuration(overrides, said):
    with pytest.raises(ablations.InputError, match=said):
        ablations.train(overrides)


def test_what_a_training_says_last_is_the_error():
    with pytest.raises(ablations.InputError) as error:
        ablations.train("activation=cubic")
    assert str(error.value).startswith("train: activation=cubic: there is no such choice; accepted: gelu, ")
