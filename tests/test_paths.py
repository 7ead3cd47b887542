"""Folders for what is not finished: gone with their owner, or with the next one where that was killed."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from ablations.ground import lock
from ablations.ground.lock import Lock
from ablations.ground.paths import ROOT, draft_folder
from ablations.report.compile import compile_report
from ablations.tracking import Store

HOLD = """
import sys, time
from pathlib import Path
from ablations.ground.paths import draft_folder

with draft_folder(Path(sys.argv[1]), sys.argv[2]) as folder:
    (folder / "half").write_text("half")
    print(folder.parent.name, flush=True)
    time.sleep(60)
"""


def holder(place: Path, prefix: str) -> tuple[subprocess.Popen[str], Path]:
    """A process that has such a folder, and the folder."""
    command = [sys.executable, "-c", HOLD, str(place), prefix]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return process, place / process.stdout.readline().strip()


def killed(place: Path, prefix: str) -> Path:
    """What a killed process leaves."""
    process, folder = holder(place, prefix)
    process.kill()
    process.communicate()
    assert (folder / "draft" / "half").exists()
    return folder


def test_that_of_a_killed_process_goes_with_the_next_and_that_of_a_living_one_stays(tmp_path):
    left = killed(tmp_path, ".draft-")
    process, living = holder(tmp_path, ".draft-")
    try:
        assert not left.exists()
        others = [tmp_path / ".draft-notes", tmp_path / ".other-abcdefgh"]
        for other in others:
            other.mkdir()
        with draft_folder(tmp_path, ".draft-") as own:
            assert {*tmp_path.iterdir()} == {own.parent, living, *others}
        assert {*tmp_path.iterdir()} == {living, *others}
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("when", ["before it is opened", "before it is locked"])
def test_one_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch, when):
    """The moment between its making and its locking, in which it looks like a dead process's."""
    made, locked = [], lock._locked
    take = Lock.take

    def taken(path: Path, wait: bool = False) -> Lock | None:
        made.append(path.parent)
        if len(made) == 1 and when == "before it is opened":
            made[0].rmdir()
        return take(path, wait)

    def late(file: BinaryIO, wait: bool) -> bool:
        if len(made) == 1:
            shutil.rmtree(made[0])
        return locked(file, wait)

    monkeypatch.setattr(Lock, "take", taken)
    monkeypatch.setattr(lock, "_locked", late)
    with draft_folder(tmp_path, ".draft-") as own:
        assert own.parent == made[1] != made[0]
        assert own.is_dir()


def test_where_there_are_no_locks_it_is_gone_after_the_block_all_the_same(tmp_path, monkeypatch):
    def no_locks(file: BinaryIO, wait: bool) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_locked", no_locks)
    with draft_folder(tmp_path, ".draft-") as own:
        with draft_folder(tmp_path, ".draft-") as other:
            assert own != other
        assert own.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_store_and_a_report_clear_what_killed_ones_left(swept, tmp_path):
    left = [killed(swept.path.parent, ".creating-"), killed(tmp_path, ".older.")]
    Store(swept.uri).prepare("lenet5")
    compile_report("older", swept, tmp_path)
    assert not any(folder.exists() for folder in left)
    assert {path.name for path in tmp_path.iterdir()} == {"older"}
