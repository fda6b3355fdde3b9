"""A connection to an API server: its address, the credentials, and single requests.

The official client configures it (certificates, proxies, credentials), and the client's connection pool sends the
requests. Nothing is retried here; errors are distinguished by whether the request may have reached the server.
"""

from __future__ import annotations

import logging
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kubectl_yoshi.kube.errors import (
    AmbiguousWriteError,
    KubeconfigError,
    TimedOutError,
    UnreachableError,
    one_line,
)
from kubectl_yoshi.kube.kubeconfig import CHECK_CONFIG_HINT, ConnectionOptions, LoadedConfig, load
from kubectl_yoshi.kube.slim_import import import_client_modules

CONNECT_SECONDS = 5.0
"""Maximum time in seconds to connect to one address of the server."""
READ_SECONDS = 30.0
"""How long, in seconds, the server may be silent (default of --request-timeout)."""
POOL_SIZE = 32
"""Number of connections kept: enough for the parallel requests of a bulk change."""
IDLE_SECONDS = 60.0
"""Idle time in seconds after which connections are not reused.

Load balancers and firewalls drop idle connections, some of them silently, and a write over such a connection may or may
not have been applied.
"""

__all__ = ["Connection", "ConnectionOptions", "HttpRequest", "RequestNotSentError"]


class RequestNotSentError(UnreachableError):
    """The request cannot have reached the server. `is_transient`: a retry may succeed."""

    is_transient = False


@dataclass(frozen=True)
class HttpRequest:
    """A request to the API server.

    Attributes:
        method: the HTTP method.
        path: URL path and query, relative to the server's URL.
        headers: without credentials, which the connection adds.
        body: None for none.
        stream: return the response as soon as its headers have arrived, before its body is read.
        read_seconds: how long the server may be silent; None for the connection's limit.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None = None
    stream: bool = False
    read_seconds: float | None = None


class Connection:
    """One API server and one identity. Thread-safe.

    Attributes:
        namespace: the namespace of commands without -n.
        server: the API server's URL.
        user: the user's name in the kubeconfig; "" if it has none.
        read_seconds: how long the server may be silent; None for no limit.
    """

    def __init__(self, loaded: LoadedConfig, *, read_seconds: float | None = READ_SECONDS, reload: Any = None) -> None:
        self._reload: Callable[[], LoadedConfig] | None = reload
        self._lock = threading.Lock()
        self._last_request_at = time.monotonic()
        self.read_seconds = read_seconds
        self.namespace = loaded.namespace
        self.user = loaded.user
        self.server = str(loaded.configuration.host).rstrip("/")
        self._apply_config(loaded)

    @classmethod
    def open(cls, options: ConnectionOptions | None = None) -> Connection:
        """Return the connection that kubectl would use with these flags. Nothing is sent yet.

        Raises:
            KubeconfigError: the configuration cannot be used.
        """
        options = options or ConnectionOptions()
        seconds = READ_SECONDS if options.request_timeout is None else options.request_timeout
        return cls(load(options), read_seconds=seconds or None, reload=lambda: load(options))

    def _apply_config(self, loaded: LoadedConfig) -> None:
        configuration = loaded.configuration
        configuration.connection_pool_maxsize = POOL_SIZE
        configuration.retries = False
        logging.getLogger("urllib3").addHandler(logging.NullHandler())
        try:
            self._pool = import_client_modules().rest.RESTClientObject(configuration).pool_manager
        except (OSError, ValueError, ImportError) as error:  # a SOCKS proxy needs a package that may not be installed
            raise KubeconfigError(
                f"the kubeconfig's certificates or proxy cannot be used: {one_line(str(error))}", CHECK_CONFIG_HINT
            ) from error
        if configuration.verify_ssl and not configuration.proxy:
            _share_tls_context(self._pool.connection_pool_kw)
        self._loaded = loaded
        if configuration.verify_ssl is False:
            import warnings

            import urllib3

            # kubectl prints no warning either with verification disabled.
            warnings.filterwarnings("ignore", category=urllib3.exceptions.InsecureRequestWarning)

    @property
    def credentials(self) -> object:
        """Return the current credentials, as an argument for `renew_credentials`."""
        return self._loaded

    def renew_credentials(self, rejected: object) -> bool:
        """Load the credentials again after a 401; return False if that cannot yield other ones.

        Args:
            rejected: the credentials of the rejected request; nothing is loaded if another thread has renewed them.
        """
        if self._reload is None or not self._loaded.renewable:
            return False
        with self._lock:
            if self._loaded is rejected:
                self._apply_config(self._reload())
        return True

    def close(self) -> None:
        """Close the connections that are kept; a later request opens a new one."""
        self._pool.clear()

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._last_request_at = time.monotonic() - self._last_request_at, time.monotonic()
        if idle > IDLE_SECONDS:
            self._pool.clear()

    def _headers(self, headers: Mapping[str, str]) -> Any:
        from urllib3._collections import HTTPHeaderDict  # urllib3 2 has it at the top, 1.26 only here

        result = HTTPHeaderDict(headers)
        token = self._loaded.configuration.auth_settings().get("BearerToken")
        if token and token["value"]:
            result["Authorization"] = _encode_header_value(str(token["value"]).strip())
        for name, value in self._loaded.headers:
            result.add(name, _encode_header_value(value))
        return result

    def send(self, request: HttpRequest) -> Any:
        """Send one request, once.

        Returns:
            urllib3's response, with any status. Redirects are not followed.

        Raises:
            RequestNotSentError: the server cannot have received it.
            AmbiguousWriteError: the response to a write never came.
            UnreachableError: the response to a read never came.
            TimedOutError: a read was not answered in time.
        """
        import urllib3

        self._drop_idle()
        connect_seconds = min(CONNECT_SECONDS, self.read_seconds or CONNECT_SECONDS)
        timeout = urllib3.Timeout(connect=connect_seconds, read=request.read_seconds or self.read_seconds)
        with self.translate_errors(is_write=request.method != "GET"):
            while True:
                try:
                    return self._pool.request(
                        request.method,
                        self.server + request.path,
                        body=request.body,
                        headers=self._headers(request.headers),
                        timeout=timeout,
                        retries=False,
                        redirect=False,
                        preload_content=not request.stream,
                    )
                except urllib3.exceptions.ClosedPoolError:
                    continue  # another thread has called `close` before this one took a connection

    @contextmanager
    def translate_errors(self, *, is_write: bool) -> Iterator[None]:
        """Translate urllib3's errors into those of kube.errors; also while a streamed body is read."""
        from urllib3 import exceptions

        try:
            yield
        except (exceptions.NewConnectionError, exceptions.ConnectTimeoutError, exceptions.LocationParseError) as error:
            not_sent = RequestNotSentError(
                f"cannot reach the API server {self.server}: {_innermost_reason(error)}", self._connection_hint
            )
            not_sent.is_transient = isinstance(error.__cause__ or error.__context__, ConnectionError)
            raise not_sent from error
        except exceptions.ProxyError as error:
            hint = "Check the proxy: proxy-url in the kubeconfig, HTTPS_PROXY and NO_PROXY."
            raise RequestNotSentError(
                f"cannot reach the API server {self.server} through its proxy: {_innermost_reason(error)}", hint
            ) from error
        except exceptions.SSLError as error:
            raise self._tls_error(error, is_write) from error
        except exceptions.TimeoutError as error:
            if is_write:
                raise self._ambiguous_error("did not answer in time") from error
            raise TimedOutError(
                f"the API server {self.server} did not answer in time",
                f"Check that {self.server} can be reached from here, and try again; --request-timeout=2m waits longer.",
            ) from error
        except (exceptions.HTTPError, OSError) as error:
            if is_write:
                raise self._ambiguous_error("ended the connection before it had answered") from error
            raise UnreachableError(
                f"the API server {self.server} ended the connection before it had answered: {_innermost_reason(error)}",
                self._connection_hint,
            ) from error

    def _ambiguous_error(self, what: str) -> AmbiguousWriteError:
        return AmbiguousWriteError(
            f"the API server {self.server} {what}: the change may or may not have been made",
            "Run the same command again: it completes what is incomplete and repeats nothing.",
        )

    def _tls_error(self, error: Exception, is_write: bool) -> UnreachableError:
        text = _innermost_reason(error)
        if "certificate" in text.lower() or "doesn't match" in text:
            hint = "Check certificate-authority and server in the kubeconfig, or --tls-server-name."
            return RequestNotSentError(f"the certificate of the API server {self.server} is not trusted: {text}", hint)
        if "PEM lib" in text:
            hint = "Check client-certificate and client-key in the kubeconfig."
            return RequestNotSentError(f"the kubeconfig's client-certificate or client-key is broken: {text}", hint)
        # TLS can also fail after the request was sent.
        if is_write and "wrong version number" not in text:
            return self._ambiguous_error("ended the connection before it had answered")
        return UnreachableError(
            f"cannot establish TLS with the API server {self.server}: {text}", self._connection_hint
        )

    @property
    def _connection_hint(self) -> str:
        return (
            f"Check that {self.server} is right (kubeconfig, --context) and can be reached from here (VPN, firewall)."
        )


def _share_tls_context(pool_arguments: dict[str, Any]) -> None:
    """Replace the certificates in a pool's arguments by one TLS context that has loaded them.

    Otherwise each connection loads them again: 2 ms of CPU, and a command that reads in parallel opens several. Broken
    files are left in the arguments, so that the first request reports them.

    Args:
        pool_arguments: as in `urllib3.PoolManager.connection_pool_kw`; changed in place.
    """
    from urllib3.util.ssl_ import create_urllib3_context

    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    files = {name: pool_arguments.get(name) for name in ("ca_certs", "ca_cert_data", "cert_file", "key_file")}
    try:
        if files["ca_certs"] or files["ca_cert_data"]:
            context.load_verify_locations(files["ca_certs"], cadata=files["ca_cert_data"])
        else:
            context.load_default_certs()
        if files["cert_file"]:
            context.load_cert_chain(files["cert_file"], files["key_file"])
    except OSError:
        return
    for name in files:
        pool_arguments.pop(name, None)
    pool_arguments["ssl_context"] = context


def _encode_header_value(value: str) -> str:
    """Encode a header's value as UTF-8, as Go does; http.client encodes str as Latin-1."""
    if not value.isprintable():
        raise KubeconfigError(
            "a token or the name of a user or group contains a line break or control character", CHECK_CONFIG_HINT
        )
    return value.encode().decode("latin-1")


def _innermost_reason(error: BaseException) -> str:
    """Return the innermost reason in words, without urllib3's object representations."""
    reason: Any = error
    while True:
        inner = reason.__cause__ or reason.__context__ or getattr(reason, "reason", None)
        if not isinstance(inner, BaseException) or inner is reason:
            break
        reason = inner
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError) and reason.strerror:
        return one_line(re.sub(r"\s*\(_ssl\.c:\d+\)|\[SSL: (\w+)\] ", "", reason.strerror))
    text = re.sub(r"<[^>]*>:?\s*|\(_ssl\.c:\d+\)", "", str(reason))
    return one_line(text).rstrip(".") or type(reason).__name__
