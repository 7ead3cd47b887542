"""Windows as far as Linux can play it, for whichever Python process finds this in PYTHONPATH, and its children.

To the project's own modules `os.name` is `nt`, and what Windows has not is missing from `os` and `signal`, cannot be
imported, or raises what it raises there. No file that any such process has open can be moved or deleted. Other
packages are left as they are: they have their own ways on Windows.
"""

import builtins
import contextlib
import errno
import fcntl
import os
import shutil
import signal
import stat
import struct
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path

MARK = "AS_WINDOWS"
os.environ[MARK] = "1"

ABSENT = {
    "os": {
        *(
            "O_DIRECTORY",
            "O_NOFOLLOW",
            "set_blocking",
            "get_blocking",
            "killpg",
            "getpgid",
            "getpgrp",
            "setsid",
        ),
        *("fork", "getloadavg", "getuid", "geteuid", "getgid", "mkfifo", "sysconf", "sched_getaffinity"),
        *("statvfs", "uname", "wait3", "wait4"),
    },
    "signal": {
        *("SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGPIPE"),
        *("pthread_sigmask", "sigwait", "alarm"),
    },
}
NO_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"}


# Files


def _opened(process: Path) -> Iterator[str]:
    """What a process has open, if it is one of ours."""
    with contextlib.suppress(OSError):  # it has ended
        ours = process.name == str(os.getpid()) or f"{MARK}=1".encode() in (process / "environ").read_bytes()
        for each in list((process / "fd").iterdir()) if ours else ():
            with contextlib.suppress(OSError):  # it was closed just now
                yield os.readlink(each)


def _is_open(path: os.PathLike | str) -> bool:
    """Whether such a process has the file, or something in the folder, open."""
    whole = os.path.realpath(path)
    return any(
        each == whole or each.startswith(f"{whole}/")
        for process in Path("/proc").glob("[0-9]*")
        for each in _opened(process)
    )


def _refusing(call):
    def checked(*paths, **options):
        for path in paths[:2]:
            if isinstance(path, (str, bytes, os.PathLike)) and os.path.lexists(path) and _is_open(path):
                raise PermissionError(errno.EACCES, "The process cannot access the file", os.fspath(path))
        return call(*paths, **options)

    return checked


def _open(path, flags, *arguments, _real=os.open, **options):
    if options.get("dir_fd") is None and stat.S_ISDIR(os.stat(path).st_mode if os.path.exists(path) else 0):
        raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
    return _real(path, flags, *arguments, **options)


def _rename(source, target, *, _real=os.rename):
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", target)
    return _real(source, target)


_rename = _refusing(_rename)
os.rename, os.replace = _rename, _refusing(os.replace)
os.unlink, os.remove, os.rmdir = (_refusing(call) for call in (os.unlink, os.remove, os.rmdir))
shutil._use_fd_functions = False  # as where files are not named from open folders


# Locks, as of handles, and of bytes that nobody else can read meanwhile


def _locking(descriptor: int, mode: int, count: int) -> None:
    kind = fcntl.F_UNLCK if mode == msvcrt.LK_UNLCK else fcntl.F_WRLCK
    start = os.lseek(descriptor, 0, os.SEEK_CUR)
    asked = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, count, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, asked)
    except OSError as error:
        raise PermissionError(errno.EACCES, "Permission denied") from error


msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_UNLCK, msvcrt.LK_LOCK, msvcrt.LK_NBLCK = 0, 1, 2
msvcrt.locking = _locking

colorama = types.ModuleType("colorama")
colorama.just_fix_windows_console = lambda: None

subprocess.CREATE_NEW_PROCESS_GROUP = 0


# What the project's modules see


def _no_wakeup(descriptor: int, **_: object) -> int:
    raise ValueError(f"file descriptor {descriptor} is no socket")


def _seen(module: types.ModuleType, **other: object) -> types.ModuleType:
    facade = types.ModuleType(module.__name__)
    absent = ABSENT[module.__name__]
    vars(facade).update({name: value for name, value in vars(module).items() if name not in absent}, **other)
    return facade


class _Signals:
    """Those that Windows has, by name."""

    def __init__(self) -> None:
        self.there = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}

    def __getitem__(self, name: str) -> signal.Signals:
        return self.there[name]

    def __call__(self, number: int) -> signal.Signals:
        return signal.Signals(number)


def _kill(process: int, number: int) -> None:
    raise AssertionError("os.kill ends processes on Windows, whatever the signal")


MODULES = {
    "os": _seen(os, name="nt", open=_open, kill=_kill),
    "signal": _seen(signal, set_wakeup_fd=_no_wakeup, Signals=_Signals()),
    "msvcrt": msvcrt,
    "colorama": colorama,
}
_import = builtins.__import__


def _imported(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if importer.partition(".")[0] in ("ablations", "hydra_plugins", "getpass"):
        if name in NO_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}")
        if name in MODULES and importer != "getpass":
            return MODULES[name]
    return _import(name, globals, locals, fromlist, level)


builtins.__import__ = _imported
with contextlib.suppress(AttributeError):
    del os.O_DIRECTORY  # of tempfile and shutil, too: they do without
