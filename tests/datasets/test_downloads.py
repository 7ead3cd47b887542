"""Downloads from a real https server on this machine: encrypted, redirected, killed, several at once."""

import gzip
import hashlib
import http.server
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest
from project import PATIENCE_S

from ablations.datasets import IDX_PARTS, IdxFiles, idx_header
from ablations.errors import InputError
from ablations.ground.paths import ROOT

ARRAYS = {
    part: np.random.default_rng(0).integers(0, 256 if len(shape) == 3 else 10, shape, np.uint8)
    for part, shape in zip(IDX_PARTS, [(1000, 28, 28), (1000,), (20, 28, 28), (20,)], strict=True)
}
CONTENT = {part: idx_header(array) + array.tobytes() for part, array in ARRAYS.items()}
FILES = {f"/data/{part}.gz": gzip.compress(content) for part, content in CONTENT.items()}
FIRST = f"/data/{IDX_PARTS[0]}.gz"
SHA256 = hashlib.sha256(b"".join(CONTENT.values())).hexdigest()
COMPLETE = sorted(f"{part}.gz" for part in IDX_PARTS)


class Server(http.server.ThreadingHTTPServer):
    """Serves FILES over TLS where it has a certificate. While `gate` is closed, half of each file comes."""

    daemon_threads = True

    def __init__(self, certificate: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.redirects: dict[str, str] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.half_sent = threading.Event()
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: object) -> None:
        """A client that was killed, or does not trust the certificate, is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[self.path])
            self.end_headers()
            return
        content = FILES[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        self.server.half_sent.set()
        self.server.gate.wait(PATIENCE_S)
        self.wfile.write(content[half:])

    def log_message(self, *_: object) -> None:
        pass


def serving(server: Server) -> Iterator[Server]:
    with server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.gate.set()
        server.shutdown()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """For 127.0.0.1, signed by itself; key and certificate in one PEM file."""
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography makes the server's certificate")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mirror")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "mirror.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def server(certificate, monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield from serving(Server(certificate))


@pytest.fixture
def plain_server() -> Iterator[Server]:
    yield from serving(Server(None))


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "lenet5-ablations" / "small"
    folder.mkdir(parents=True)
    return folder


def fields(server: Server) -> dict[str, object]:
    return {
        "name": "small",
        "root": None,
        "val_fraction": 0.2,
        "classes": list("0123456789"),
        "mirrors": [f"https://127.0.0.1:{server.server_port}/data/"],
        "checksums": {
            part: f"sha256:{hashlib.sha256(content).hexdigest()}" for part, content in CONTENT.items()
        },
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_redirect_within_https_is_followed(server, cache):
    server.redirects = {path.replace("/data/", "/moved/"): path for path in FILES}
    moved = fields(server) | {"mirrors": [f"https://127.0.0.1:{server.server_port}/moved/"]}
    assert IdxFiles(**moved).load().sha256 == SHA256


@pytest.mark.parametrize("scheme", ["http", "ftp", "file"])
def test_a_redirect_away_from_https_is_refused_before_it_is_asked(server, plain_server, cache, scheme):
    target = f"{scheme}://127.0.0.1:{plain_server.server_port}{FIRST}"
    server.redirects[FIRST] = target
    with pytest.raises(InputError, match=rf"(?i)redirect.* to .*{target}.* is not (https|allowed)"):
        IdxFiles(**fields(server)).load()
    assert plain_server.asked == []
    assert names(cache) == []


def test_a_server_without_a_valid_certificate_is_refused(server, cache, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(InputError, match="CERTIFICATE_VERIFY_FAILED"):
        IdxFiles(**fields(server)).load()
    assert server.asked == []


LOAD = """
import json, sys
from ablations.datasets import IdxFiles
print(IdxFiles(**json.load(sys.stdin)).load().sha256)
"""


def test_killed_in_the_middle_then_several_processes_at_once(server, cache):
    def start() -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", LOAD], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        process.stdin.write(json.dumps(fields(server)))
        process.stdin.close()
        return process

    half = len(FILES[FIRST]) // 2
    server.gate.clear()
    with start() as killed:
        assert server.half_sent.wait(PATIENCE_S)
        while not any(
            path.stat().st_size for path in cache.glob(".downloading-*/draft/*")
        ):  # on the disk, too
            assert killed.poll() is None
        killed.kill()
    (left,) = cache.glob("*/draft/*")
    assert 0 < left.stat().st_size <= half
    server.gate.set()

    processes = [start() for _ in range(3)]
    assert [process.stdout.read().strip() for process in processes] == [SHA256] * 3
    for process in processes:
        process.stdout.close()
        assert process.wait() == 0
    assert names(cache) == sorted(COMPLETE)
