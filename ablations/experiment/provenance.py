"""What a run was made with: code, machine, versions."""

import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ablations.ground import processor
from ablations.ground.paths import CLONE, PACKAGE, ROOT

DISTRIBUTION = "lenet5-ablations"
DETERMINING = ("datasets", "nn", "training")
"""The rooms that, with the configuration and the data, determine the result of a run."""


@cache
def provenance() -> dict[str, str]:
    """Tags that say what this process runs: `code`, `machine`, `versions`."""
    return {
        "code": _commit(),
        "machine": f"{processor()}, {platform.system()} {platform.machine()}",
        "versions": versions(),
    }


@cache
def versions() -> str:
    """Of Python and the packages that a run is made with, as its tag says them."""
    packages = ("numpy", "scipy", "scikit-learn", "hydra-core", "mlflow")
    return ", ".join(
        [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]
    )


@cache
def code_hash(package: Path = PACKAGE) -> str:
    """Sixteen hexadecimal digits that agree exactly where the code that determines a run's result agrees.

    That is every file of `DETERMINING`, and the versions of numpy and scipy; not the git commit, which changes
    with every word of documentation.
    """
    digest = hashlib.sha256(f"numpy {version('numpy')}, scipy {version('scipy')}".encode())
    for file in (file for room in DETERMINING for file in sorted((package / room).rglob("*"))):
        if file.is_file() and file.parent.name != "__pycache__":
            digest.update(f"\n{file.relative_to(package).as_posix()}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _commit() -> str:
    """The git commit, with `-dirty` where tracked files differ from it; the version of an installed package, which may
    lie in somebody else's checkout; `unknown` outside a checkout."""
    if not CLONE:
        return f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
