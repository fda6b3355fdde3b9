"""The lab's certificates are accepted by a strict client, and its keys are private."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from lab.pki import make_authority, make_signing_key


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_server_certificate_is_accepted_by_name_and_address(tmp_path: Path, host: str) -> None:
    authority = make_authority(tmp_path, "test-ca")
    pair = authority.issue(tmp_path, "server", "test-server", ["127.0.0.1", "localhost"])
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pair.certificate, pair.key)
    trusting = ssl.create_default_context(cafile=str(authority.file))
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with serving.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)

        server = threading.Thread(target=serve)
        server.start()
        with (
            socket.create_connection(listener.getsockname()) as plain,
            trusting.wrap_socket(plain, server_hostname=host) as secured,
        ):
            assert secured.version() == "TLSv1.3"
        server.join(10)


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "test-ca")
    keys = [authority.issue(tmp_path, "server", "test-server").key, make_signing_key(tmp_path, "tokens").key]
    assert [key.stat().st_mode & 0o777 for key in keys] == [0o600, 0o600]


def test_two_authorities_differ(tmp_path: Path) -> None:
    assert make_authority(tmp_path, "a").pem != make_authority(tmp_path, "a").pem
