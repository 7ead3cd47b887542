"""Downloads that go on where they broke off, and the per-user cache that they fill."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from ablations.datasets.idx import CHUNK, MAX_BYTES
from ablations.errors import printable

TIMEOUT_S = 30


def cache_folder(name: str) -> Path:
    """Where downloads of one data set are kept: under XDG_CACHE_HOME, else under ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the XDG specification says to ignore it then
        base = Path.home() / ".cache"
    return base / "lenet5-ablations" / name


def claim_partial(target: Path) -> Path:
    """A file of this process alone to download into, holding what an earlier download left behind, if any.

    Renaming is atomic: of several processes one gets the left-over, the others begin anew. A download that
    failed leaves `NAME.part`; one that was killed leaves `NAME.ID.part`, which is free once nothing was
    written to it for two timeouts.
    """
    own = target.with_suffix(f".{uuid4().hex}.part")
    released = target.with_suffix(".part")
    abandoned = time.time() - 2 * TIMEOUT_S
    for left in target.parent.glob(f"{target.stem}*.part"):
        with suppress(OSError):
            if left == released or left.stat().st_mtime < abandoned:
                os.rename(left, own)
                os.utime(own)
                break
    return own


def open_url(url: str, start: int) -> Any:
    """The HTTP response to a request for the bytes from `start` on: status 206 for those, 200 for all."""
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class OnlyHttps(HTTPRedirectHandler):
        def redirect_request(self, *request: Any) -> Request | None:
            if not (address := request[-1]).startswith("https://"):
                raise OSError(f"redirected to {printable(address)}, which is not https")
            return super().redirect_request(*request)

    headers = {"Range": f"bytes={start}-"} if start else {}
    return build_opener(OnlyHttps).open(Request(url, headers=headers), timeout=TIMEOUT_S)


def fetch(url: str, partial: Path) -> bool:
    """Download into `partial`, after what it already holds; true if that was kept.

    Raises OSError or HTTPException; what has arrived by then stays in the file.
    """
    from urllib.error import HTTPError

    from tqdm import tqdm

    start = partial.stat().st_size if partial.exists() else 0
    try:
        response = open_url(url, start)
    except HTTPError as error:
        if error.code != 416:  # 416: there is nothing from `start` on, so what is there is not a beginning
            raise
        start = 0
        response = open_url(url, start)
    with response:
        resumed = start > 0 and response.status == 206
        start = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        done = start
        with (
            partial.open("ab" if resumed else "wb") as file,
            tqdm(
                desc=partial.name.partition(".")[0],
                total=total,
                initial=start,
                unit="B",
                unit_scale=True,
                disable=None,  # unless stderr is a terminal
            ) as bar,
        ):
            while chunk := response.read(CHUNK):
                done += len(chunk)
                if done > MAX_BYTES:
                    raise OSError("sends more than the 1 GiB allowed")
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and done < total:
        raise OSError(f"the connection broke after {done} of {total} bytes")
    return resumed
