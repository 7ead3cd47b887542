"""Downloads over https alone, and the per-user cache that they fill."""

import os
from pathlib import Path
from typing import Any

from ablations.datasets.idx import CHUNK, MAX_BYTES
from ablations.errors import printable

TIMEOUT_S = 30


def cache_folder(name: str) -> Path:
    """Where downloads of one data set are kept: under XDG_CACHE_HOME, else under ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the XDG specification says to ignore it then
        base = Path.home() / ".cache"
    return base / "lenet5-ablations" / name


def open_url(url: str) -> Any:
    """The HTTP response. Raises OSError before a redirect away from https is followed."""
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class OnlyHttps(HTTPRedirectHandler):
        def redirect_request(self, *request: Any) -> Request | None:
            if not (address := request[-1]).startswith("https://"):
                raise OSError(f"redirected to {printable(address)}, which is not https")
            return super().redirect_request(*request)

    return build_opener(OnlyHttps).open(url, timeout=TIMEOUT_S)


def fetch(url: str, target: Path) -> None:
    """Download into the file `target`. Raises OSError or HTTPException."""
    from tqdm import tqdm

    with open_url(url) as response, target.open("wb") as file:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        name = target.name.partition(".")[0]
        # A bar on stderr, unless that is no terminal.
        with tqdm(desc=name, total=total, unit="B", unit_scale=True, disable=None) as bar:
            while chunk := response.read(CHUNK):
                bar.update(file.write(chunk))
                if file.tell() > MAX_BYTES:
                    raise OSError("sends more than the 1 GiB allowed")
        if total is not None and file.tell() < total:
            raise OSError(f"the connection broke after {file.tell()} of {total} bytes")
