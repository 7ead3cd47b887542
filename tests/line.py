"""Stores that fail: a line to a server, and a lock."""

import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from project import PATIENCE_S

from ablations.tracking import Store


@contextmanager
def locked(store: Store) -> Iterator[None]:
    with closing(sqlite3.connect(store.path, timeout=10)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield


class Line:
    """A proxy that passes requests on to a server, unless told to fail in one way or in any."""

    FAULTS = ("drop", "error", "lose", "stall")
    DECKS: ClassVar = {
        "flaky": {"good": 33, "drop": 5, "error": 6, "lose": 5, "stall": 1},
        "mixed": {"good": 320, "lose": 60, "drop": 5, "error": 6, "twice": 4, "slow": 4, "late": 1},
    }
    """How many of so many requests fail in which way; `mixed`: 15 % of the answers are lost, 5 % of anything."""

    def __init__(self, port: int) -> None:
        self.upstream = port
        self.mode, self.only = "good", ""
        self.seed, self._deck = 0, []
        self.slow_s: list[float] = []  # how long the next ones take that are `slow`
        self.counts: dict[str, int] = {}
        self._lock = threading.Lock()
        line = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = line.choose(self.path)
                self.close_connection = fault != "good"
                if fault == "drop":
                    return
                if fault == "error":
                    self.answer(500, b"<html>out of order</html>", "text/html")
                    return
                if fault == "stall":  # longer than anybody waits; then it arrives after all
                    time.sleep(1.3)
                if fault == "slow":
                    time.sleep(line.slow_s.pop(0) if line.slow_s else 0.1)
                answer = self.forward(body)
                if fault == "twice":
                    threading.Timer(0.05, self.forward, [body]).start()
                if fault == "late":  # it arrives at once, its answer when nobody waits any more
                    time.sleep(1.3)
                if fault in ("good", "slow", "twice", "late"):
                    self.answer(*answer)

            def forward(self, body: bytes) -> tuple[int, bytes, str]:
                upstream = HTTPConnection("127.0.0.1", line.upstream, timeout=PATIENCE_S)
                headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
                upstream.request(self.command, self.path, body, headers)
                response = upstream.getresponse()
                data = response.read()
                upstream.close()
                return response.status, data, response.headers.get("Content-Type", "")

            def answer(self, status: int, data: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # who asked has gone

        self._open = lambda port: Server(("127.0.0.1", port), Handler)
        self.server = self._open(0)
        self.port = self.server.server_port
        self.store = Store(f"http://127.0.0.1:{self.port}")
        self._serve()

    def _serve(self) -> None:
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def set(self, mode: str, only: str = "") -> None:
        """Fail from now on in this way, for addresses with `only` in them; `refuse`: no connection at all."""
        if self.mode == "refuse":
            self.server = self._open(self.port)
            self._serve()
        self.mode, self.only = mode, only
        self._deck.clear()
        self.counts.clear()
        if mode == "refuse":
            self.server.shutdown()
            self.server.server_close()

    def choose(self, path: str) -> str:
        with self._lock:
            fault = self.mode if self.only in path else "good"
            if fault in self.DECKS:
                if not self._deck:
                    cards = self.DECKS[fault]
                    self._deck = random.Random(self.seed).sample(
                        list(cards), sum(cards.values()), counts=list(cards.values())
                    )
                    self.seed += 1000
                fault = self._deck.pop()
            self.counts[fault] = self.counts.get(fault, 0) + 1
            return fault
