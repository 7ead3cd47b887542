"""The ground that all rooms stand on: what systems have differently, locks, and where the project folder is.

In come files, processes and signals, out goes the same behaviour on Linux, macOS and Windows. This room knows nobody
but `errors`. No other module asks which system it runs on, or imports what only one of them has.
"""

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

WINDOWS = os.name == "nt"
MACOS = sys.platform == "darwin"

STOPS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
"""What tells a process to stop, of what there is: Ctrl-C, a polite kill, a terminal that is closed, Ctrl-Break."""

TRIES, PAUSE_S = 20, 0.05
"""How often, and how long after each other, a file is moved that another process, such as a scanner, has open."""

LONGEST_ON_WINDOWS = 259
"""Characters of a path where long paths are not switched on."""

LONGEST_BELOW = 150
"""Of them, what lies below the project folder: a run's model, whose code has folders of its own."""


# Files


def sync(file: BinaryIO) -> None:
    """Have what was written to a file on the disk, also where macOS would leave it in the disk's own memory."""
    if MACOS:
        import fcntl

        with suppress(OSError):  # of a file system that has no such call
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
            return
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names of files in a folder on the disk; Windows, where no folder can be opened, does it by itself."""
    if WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Move a file to where there may be one, which is then the new one at once.

    Windows refuses it while somebody has either open: then it is tried for a second. Raises OSError.
    """
    for _ in range(TRIES if WINDOWS else 1):
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            refused = error
        time.sleep(PAUSE_S)
    raise refused


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or a copy where its file system knows no such thing. Raises OSError."""
    try:
        os.link(source, target)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target)


def local_path(address: str) -> Path | None:
    """The path that `file:///…`, or a plain path, names; None for any other address."""
    if WINDOWS and len(address) > 1 and address[1] == ":":  # C:\…, and no scheme
        return Path(address)
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "file":
        host = f"//{parts.netloc}" if WINDOWS and parts.netloc else ""
        return Path(urllib.request.url2pathname(host + parts.path))
    return None if parts.scheme or not address else Path(address)


def is_too_long(project: Path) -> bool:
    """Whether files below this project folder would have longer paths than the system takes."""
    return WINDOWS and not _has_long_paths() and len(str(project)) > LONGEST_ON_WINDOWS - LONGEST_BELOW


def _has_long_paths() -> bool:
    import ctypes

    with suppress(AttributeError, OSError):  # Windows before 10
        return bool(ctypes.windll.ntdll.RtlAreLongPathsEnabled())
    return False


# Processes


def apart() -> dict[str, Any]:
    """For subprocess.Popen: a process that a Ctrl-C in our terminal does not reach."""
    if WINDOWS:
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def tell_self(number: int) -> None:
    """Send this process a signal, from any of its threads; a call that the main thread waits in returns from it."""
    if WINDOWS:
        import _thread

        _thread.interrupt_main(number)  # os.kill would end the process
    else:
        os.kill(os.getpid(), number)


def tell_to_stop(child: Any) -> None:
    """Ask a child (psutil.Process) to stop. On Windows Ctrl-C and Ctrl-Break have reached it with its parent, and
    there is nothing else that it could hear."""
    if not WINDOWS:
        child.terminate()


def parent(number: int) -> Callable[[], bool]:
    """Whether the process that started this one, by its id, still runs; to be asked again and again."""
    if not WINDOWS:
        return lambda: os.getppid() == number
    import psutil

    try:
        return psutil.Process(number).is_running  # which another process of the same id does not answer
    except psutil.Error:
        return lambda: False


def load() -> float:
    """How many processes want a processor, on average over the last minute."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        import psutil

        return psutil.getloadavg()[0]


def demand() -> float:
    """How many processes want a processor now, as far as the system tells, or on average where those are more."""
    now = 0
    with suppress(OSError, ValueError, IndexError):
        now = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0])
    return max(load(), now)


def processor() -> str:
    """The name of the processor, as far as the system tells."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if MACOS:
        with suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            asked = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
            return asked.stdout.strip()
    return platform.processor() or "unknown processor"


# Terminals


def settle_terminal() -> None:
    """Have escape codes done, and not shown, where that has to be asked for."""
    if WINDOWS:
        from colorama import just_fix_windows_console

        just_fix_windows_console()
