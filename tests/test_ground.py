"""What systems have differently, each way of it as far as this machine can play it."""

import ast
import fcntl
import nturl2path
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from project import PATIENCE_S, Project

from ablations import ground
from ablations.ground.lock import FAR, Lock
from ablations.ground.paths import ROOT
from ablations.report.compile import home_of

AS_WINDOWS = ROOT / "tests" / "as_windows"


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(ground, "WINDOWS", True)
    monkeypatch.setattr("urllib.request.url2pathname", nturl2path.url2pathname)


# Files


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///C:/Users/M%C3%BCller/my%20runs", r"C:\Users\Müller\my runs"),
        ("file://server/share/runs", r"\\server\share\runs"),
        (r"C:\runs", r"C:\runs"),
        ("runs", "runs"),
    ],
)
def test_addresses_of_windows(windows, address, path):
    assert str(ground.local_path(address)) == path


@pytest.mark.parametrize("address", ["s3://bucket/a", "mlflow-artifacts:/1/a", "https://host/a", ""])
def test_what_is_elsewhere_has_no_path(address):
    assert ground.local_path(address) is None


def test_paths_become_addresses_and_paths_again(tmp_path):
    for name in ("plain", "ä b", "50%25", "a?b#c"):
        assert ground.local_path((tmp_path / name).as_uri()) == tmp_path / name


def test_a_file_that_a_scanner_has_open_is_moved_a_little_later(windows, monkeypatch, tmp_path):
    tries, move = [], os.replace

    def refused_twice(source, target):
        tries.append(target)
        if len(tries) < 3:
            raise PermissionError(13, "used by another process")
        move(source, target)

    monkeypatch.setattr(os, "replace", refused_twice)
    monkeypatch.setattr(ground, "PAUSE_S", 0)
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    ground.replace(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "new"
    assert len(tries) == 3
    monkeypatch.setattr(os, "replace", lambda *_: refused_twice(*[tries.clear()] * 2))
    with pytest.raises(PermissionError, match="used by"):
        ground.replace(tmp_path / "old", tmp_path / "new")


def test_macos_is_asked_for_the_disk_itself(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(ground, "MACOS", True)
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda file, what: asked.append(what))
    monkeypatch.setattr(os, "fsync", lambda _: asked.append("fsync"))
    with open(tmp_path / "file", "wb") as file:
        ground.sync(file)
        assert asked == [51]

        def no_such_call(file, what):
            raise OSError(25, "Inappropriate ioctl")

        monkeypatch.setattr(fcntl, "fcntl", no_such_call)
        ground.sync(file)
        assert asked == [51, "fsync"]


def test_a_long_path_is_too_long_where_long_ones_are_off(windows, monkeypatch):
    room = ground.LONGEST_ON_WINDOWS - ground.LONGEST_BELOW
    monkeypatch.setattr(ground, "_has_long_paths", lambda: False)
    assert ground.is_too_long(Path("C" * (room + 1)))
    assert not ground.is_too_long(Path("C" * room))
    monkeypatch.setattr(ground, "_has_long_paths", lambda: True)
    assert not ground.is_too_long(Path("C" * 1000))


def test_what_lies_below_a_project_fits(swept):
    """The longest path that a sweep leaves, which LONGEST_BELOW makes room for."""
    root = swept.path.parent
    longest = max((path.relative_to(root).as_posix() for path in root.rglob("*")), key=len)
    assert len(f"mlruns/{longest}") < ground.LONGEST_BELOW, longest


# Processes


@pytest.mark.parametrize(
    ("told", "average", "demand"),
    [("0.50 1.00 2.00 7/300 1234\n", 0.5, 7.0), ("9.00 1.00 2.00 1/300 1234\n", 9.0, 9.0), ("?", 2.0, 2.0)],
)
def test_a_machine_is_as_busy_as_it_is_now_or_was(monkeypatch, told, average, demand):
    """The average of a minute does not know yet of what has just begun."""
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: told)
    monkeypatch.setattr(ground, "load", lambda: average)
    assert ground.demand() == demand


# Locks


def test_a_lock_is_had_by_one_and_names_its_holder(tmp_path):
    path = tmp_path / "lock"
    lock = Lock.take(path)
    lock.name_holder("somebody with a long name")
    lock.name_holder("somebody")
    assert Lock.holder(path) == "somebody"
    assert Lock.is_held(path)
    assert Lock.take(path) is None
    lock.close()
    assert not Lock.is_held(path)
    assert path.stat().st_size < FAR


def test_who_waited_for_a_lock_that_is_gone_is_told(tmp_path):
    folder = tmp_path / "folder"
    with pytest.raises(FileNotFoundError):
        Lock.take(folder / "lock")
    folder.mkdir()
    (folder / "beside").touch()
    lock = Lock.take(folder / "lock")
    waiting = open(folder / "lock", "rb")  # noqa: SIM115
    lock.remove_folder()
    waiting.close()
    assert not folder.exists()


# Names


@pytest.mark.parametrize(("there", "asked"), [("A", "a"), ("a", "A"), ("grö\u00dfe", "GRÖ\u00dfE")])
def test_names_that_differ_in_case_alone_have_folders_that_do_not(tmp_path, there, asked):
    """Windows and macOS would write both reports into one."""
    first = home_of(there, tmp_path)
    first.mkdir()
    second = home_of(asked, tmp_path)
    assert first.name == there
    assert second.name.casefold() != there.casefold()
    second.mkdir()
    assert home_of(there, tmp_path) == first
    first.rmdir()
    assert home_of(asked, tmp_path) == second  # its place does not move


def test_a_report_stays_where_it_is_beside_one_that_was_there_before(tmp_path):
    for name in ("A", "a"):
        (tmp_path / name).mkdir()
        assert home_of(name, tmp_path) == tmp_path / name


def test_a_name_is_found_however_its_accents_are_stored(tmp_path):
    """macOS may list `é` as `e` and an accent."""
    (tmp_path / "e\u0301te\u0301").mkdir()
    assert home_of("\u00e9t\u00e9", tmp_path).name == "\u00e9t\u00e9"


# One place


def test_no_other_module_asks_for_the_system():
    absent = {"fcntl", "msvcrt", "resource", "pwd", "grp", "termios", "pty"}
    calls = {"os.name", "os.fork", "os.killpg", "os.setsid", "os.getloadavg", "os.uname", "os.O_DIRECTORY"}
    calls |= {"sys.platform", "os.fsync", "os.replace", "os.kill", "os.rename", "platform.processor"}
    for module in (ROOT / "ablations").rglob("*.py"):
        if module.parent.name == "ground":
            continue
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            match node:
                case ast.Import(names=names):
                    assert not {each.name for each in names} & absent, module
                case ast.ImportFrom(module=name):
                    assert name not in absent, module
                case ast.Attribute() if ast.unparse(node) in calls:
                    pytest.fail(f"{module}:{node.lineno}: {ast.unparse(node)} belongs to ablations/ground")


# As Windows: see tests/as_windows/sitecustomize.py


def environment(project: Path) -> dict[str, str]:
    known = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    known["AS_WINDOWS"] = "1"  # by which it is known to the others, as what is set later is not
    return known | {"PYTHONPATH": os.pathsep.join(map(str, (AS_WINDOWS, project)))}


def as_windows(*command: str, cwd: Path = ROOT, project: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # The played locks do not see real ones: it would remove what other tests keep in the common folder.
    with tempfile.TemporaryDirectory() as own:
        return subprocess.run(
            [sys.executable, *command],
            cwd=cwd,
            env=environment(project) | {"TMPDIR": own},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )


def test_the_played_windows_refuses_what_windows_refuses(tmp_path):
    code = (
        "import os, shutil\n"
        "from ablations import ground\n"
        "os.mkdir('a'); held = open('a/file', 'w')\n"
        "for call in (lambda: os.unlink('a/file'), lambda: os.rename('a', 'b'), lambda: os.replace('a', 'b'),\n"
        "             lambda: shutil.rmtree('a'), lambda: os.rmdir('a'), lambda: ground.os.open('a', 0)):\n"
        "    try: call()\n"
        "    except PermissionError: print('refused')\n"
        "held.close(); shutil.rmtree('a'); print(ground.WINDOWS, [each.name for each in ground.STOPS])\n"
        "exec(compile('import fcntl', 'x', 'exec'), {'__name__': 'ablations.x'})\n"
    )
    done = as_windows("-c", code, cwd=tmp_path)
    assert done.stdout.splitlines() == ["refused"] * 6 + ["True ['SIGINT', 'SIGTERM']"]
    assert done.stderr.endswith("No module named 'fcntl'\n")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "ui", "predict", "describe", "sync", "export_images"])
def test_commands_can_be_asked_for_help_there(command):
    done = as_windows("-m", f"ablations.{command}", "--help")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_sweep_its_report_and_its_pictures_are_made_there(tmp_path):
    project = Project(tmp_path)

    def command(*words: str) -> str:
        done = as_windows(*words, cwd=project.root, project=project.root)
        assert done.returncode == 0, done.stderr
        return done.stdout

    sweep = "run.py", "-m", "activation=relu,tanh", "trainer.epochs=1", "hydra/launcher=joblib", "name=A"
    assert "too few seeds" in command(*sweep)
    assert command(*sweep).count("already finished") == 2
    command("-m", "ablations.report", "--check", "A")
    (project.root / "pictures").mkdir()  # an empty one, onto which nothing can be moved there
    command("-m", "ablations.export_images", "digits", "pictures", "--limit", "2")
    assert len(list((project.root / "pictures").rglob("*.png"))) == 4
    assert "nothing waits" in command("-m", "ablations.sync")
    assert not list((project.root / "mlruns" / "checkpoints").glob("*"))


@pytest.mark.slow
def test_ctrl_c_ends_the_server_of_the_ui_there(swept, tmp_path):
    """It reaches the command alone, which there cannot tell anybody to stop."""
    command = [sys.executable, "-m", "ablations.ui", "--tracking-uri", swept.uri, "--port", "0"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(ROOT) | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    shown = ""
    while not shown.endswith("Ctrl-C ends the server\n"):
        line = process.stdout.readline()
        assert line
        shown += line
    server = re.search(r"http://([0-9.]+):([0-9]+)/", shown)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server[1], int(server[2])), timeout=5).close()


@pytest.mark.slow
def test_checkpoints_the_outbox_and_drafts_do_there_what_they_do_here():
    """Their own quick tests, but for the one that removes what its own process has open."""
    tests = ("test_checkpoints.py", "test_paths.py", "tracking/test_outbox.py")
    removing = "not removed_before_it_is_locked"
    done = as_windows(
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-k",
        removing,
        "--rootdir",
        str(ROOT),
        *(str(ROOT / "tests" / name) for name in tests),
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout
