"""Connections to the server, or an error in time."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubectl_yoshi.kube import connection as connection_module
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions, HttpRequest, RequestNotSentError
from kubectl_yoshi.kube.errors import ClusterError, UnreachableError
from tests.unit.kube.fault_server import FaultServer, hangs, says

LATE_SECONDS = 25
"""Sooner than anything is given up whose limit is not kept, and late enough for a busy machine."""


def version(url: str, **options: object) -> object:
    return Api(Connection.open(ConnectionOptions(server=url, **options))).raw("/version")  # type: ignore[arg-type]


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def full() -> Iterator[str]:
    """A server whose queue is full: connecting to it neither works nor fails."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        yield f"127.0.0.1:{address[1]}"
        for filler in fillers:
            filler.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def tls_url(certificate: Path) -> Iterator[str]:
    """A TLS server that answers every connection with an empty object."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(raw, server_side=True) as spoken:
                    spoken.recv(65536)
                    spoken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            except OSError:
                raw.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_connect_timeout_is_enforced(full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "CONNECT_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(RequestNotSentError, match="no answer in time") as caught:
        version(f"http://{full}")
    assert time.monotonic() - start < LATE_SECONDS
    assert full in str(caught.value)


def test_tls_handshake_timeout_is_enforced(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "CONNECT_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(ClusterError):
        version(f"https://{silent}", request_timeout=1.0)
    assert time.monotonic() - start < LATE_SECONDS


def test_unknown_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> object:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(RequestNotSentError, match=r"https://api\.example: Name or service not known"):
        version("https://api.example")


def test_untrusted_certificate_is_reported(tls_url: str) -> None:
    with pytest.raises(RequestNotSentError, match="certificate") as caught:
        version(tls_url)
    assert "certificate-authority" in caught.value.hint
    assert len(str(caught.value).splitlines()) <= 5


def test_certificate_authority_flag_is_trusted(tls_url: str, certificate: Path) -> None:
    assert version(tls_url, certificate_authority=str(certificate)) == {}


def test_connections_load_the_certificates_once(
    tls_url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = ssl.SSLContext.load_verify_locations

    def count(context: ssl.SSLContext, *args: object, **kwargs: object) -> None:
        loaded.append(args)
        load(context, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", count)
    options = ConnectionOptions(server=tls_url, certificate_authority=str(certificate))
    with closing(Connection.open(options)) as connection:
        for _ in range(3):  # the server closes each connection
            assert connection.send(HttpRequest("GET", "/version", {})).status == 200
    assert len(loaded) == 1


def test_invalid_certificates_in_the_kubeconfig_are_reported(tls_url: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no PEM at all")
    with pytest.raises(RequestNotSentError, match="certificate"):
        version(tls_url, certificate_authority=str(broken))
    with pytest.raises(ClusterError) as caught:
        version(tls_url, insecure_skip_tls_verify=True, client_certificate=str(broken), client_key=str(broken))
    assert "client-certificate" in str(caught.value)


def test_certificate_for_another_name_is_reported(tls_url: str, certificate: Path) -> None:
    url = tls_url.replace("127.0.0.1", "localhost")
    with pytest.raises(RequestNotSentError, match="localhost"):
        version(url, certificate_authority=str(certificate))
    assert version(url, certificate_authority=str(certificate), tls_server_name="127.0.0.1") == {}


def test_insecure_skip_tls_verify_prints_no_warning(tls_url: str) -> None:
    assert version(tls_url, insecure_skip_tls_verify=True) == {}


def test_https_to_a_plain_http_server_is_reported(server: FaultServer) -> None:
    server.then(says(200, {}))
    with pytest.raises(UnreachableError, match="TLS"):
        version(server.url.replace("http://", "https://"))


def test_unreachable_proxy_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(RequestNotSentError, match="proxy") as caught:
            version("https://10.0.0.1:6443")
    assert "HTTPS_PROXY" in caught.value.hint


def test_request_timeout_sets_the_read_timeout(server: FaultServer) -> None:
    assert Connection.open(ConnectionOptions(server=server.url, request_timeout=0.0)).read_seconds is None
    assert Connection.open(ConnectionOptions(server=server.url)).read_seconds == connection_module.READ_SECONDS
    server.then(hangs(60))
    start = time.monotonic()
    with pytest.raises(ClusterError):
        version(server.url, request_timeout=0.1)
    assert time.monotonic() - start < LATE_SECONDS
