"""Import the parts of the official client that this program uses, without the rest of it.

`import kubernetes` executes all modules of the client: aiohttp for its informers, pydantic for its thousand typed
models, requests and oauthlib for OIDC; urllib3 imports importlib.metadata, for HTTP/2 only. This program uses only the
kubeconfig loader and the REST layer, and each import delays the start of every run. Measured with Python 3.11, files in
the page cache (full is kubernetes.client.ApiClient and kubernetes.config, slim is import_client_modules()):

    client 37.0.2, idle machine              full 0.19 s    slim 0.08 s
    client 37.0.2, both cores busy           full 0.42 s    slim 0.10 s   (urllib3, ssl and yaml alone 0.09 s)
    client 31.0.0, both cores busy           full 0.30 s    slim 0.08 s   (urllib3, ssl and yaml alone 0.06 s)

During the import, `sys.modules` holds empty packages in place of `kubernetes`, `kubernetes.client` and
`kubernetes.utils` (their folders are searched, their `__init__` is not run) and lazy modules in place of oauthlib,
requests, google.auth and importlib.metadata. Afterwards `sys.modules` is restored, so a later `import kubernetes` gets
all of it. A lazy module imports the real one when it is first used: OIDC tokens are renewed as usual, without the
models. If the client has another layout and this fails, it is imported as a whole.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

_DEFERRED = {
    "oauthlib": (),
    "oauthlib.oauth2": (),
    "requests": (),
    "requests.utils": ("should_bypass_proxies",),
    "requests_oauthlib": ("OAuth2Session",),
    "google": (),
    "google.auth": (),
    "google.auth.transport": (),
    "google.auth.transport.requests": (),
    "importlib.metadata": ("version",),
}
"""Module -> the callables that the client or urllib3 imports from it by `from … import …`."""

_lock = threading.Lock()
_modules: ClientModules | None = None


@dataclass(frozen=True)
class ClientModules:
    """Modules of the official client.

    Attributes:
        kube_config: kubernetes.config.kube_config
        exec_provider: kubernetes.config.exec_provider
        incluster_config: kubernetes.config.incluster_config
        configuration: kubernetes.client.configuration
        rest: kubernetes.client.rest
        slim: whether the rest of the client was not imported.
    """

    kube_config: Any
    exec_provider: Any
    incluster_config: Any
    configuration: Any
    rest: Any
    slim: bool


def import_client_modules() -> ClientModules:
    """Return the client's modules, imported once per process, with as little of the rest as its layout allows.

    Raises:
        ImportError: the `kubernetes` package is not installed.
    """
    global _modules
    with _lock:
        if _modules is None:
            _modules = _import_full() if "kubernetes" in sys.modules else _import_slim_or_full()
        return _modules


def _import_slim_or_full() -> ClientModules:
    before = set(sys.modules)
    try:
        return _import_slim()
    except Exception:  # any error with another layout; the full import raises the real one
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "kubernetes":
                del sys.modules[name]
        return _import_full()


def _import_full() -> ClientModules:
    return _import(slim=False)


def _import_slim() -> ClientModules:
    spec = importlib.util.find_spec("kubernetes")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("kubernetes is not a package")
    folder = Path(next(iter(spec.submodule_search_locations)))

    placeholders: dict[str, ModuleType] = {"kubernetes": _empty_package("kubernetes", folder)}
    for name in ("client", "utils"):
        placeholders[f"kubernetes.{name}"] = _empty_package(f"kubernetes.{name}", folder / name)
    placeholders["kubernetes.client"] = _ClientPackage("kubernetes.client", placeholders["kubernetes.client"])
    placeholders |= _lazy_modules()

    before = dict(sys.modules)
    sys.modules.update(placeholders)
    try:
        return _import(slim=True)
    finally:
        for name in list(sys.modules):
            if name in placeholders or name.partition(".")[0] == "kubernetes":
                del sys.modules[name]
                if name in before:
                    sys.modules[name] = before[name]


def _import(*, slim: bool) -> ClientModules:
    load = importlib.import_module
    return ClientModules(
        configuration=load("kubernetes.client.configuration"),
        rest=load("kubernetes.client.rest"),
        kube_config=load("kubernetes.config.kube_config"),
        exec_provider=load("kubernetes.config.exec_provider"),
        incluster_config=load("kubernetes.config.incluster_config"),
        slim=slim,
    )


def _empty_package(name: str, folder: Path) -> ModuleType:
    """Return a package whose modules can be imported and whose own __init__ is not run."""
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    return package


class _ClientPackage(ModuleType):
    """kubernetes.client with the two names that the kubeconfig loader uses."""

    def __init__(self, name: str, package: ModuleType) -> None:
        super().__init__(name)
        self.__path__ = package.__path__
        self.ApiClient = _ApiClient

    def __getattr__(self, name: str) -> Any:
        if name == "Configuration":
            return importlib.import_module("kubernetes.client.configuration").Configuration
        raise AttributeError(name)


class _ApiClient:
    """The part of kubernetes.client.ApiClient that OIDC renewal needs; the real module imports all typed models."""

    def __init__(self, configuration: Any) -> None:
        self._rest = import_client_modules().rest.RESTClientObject(configuration)

    def call_api(self, method: str, url: str, **more: Any) -> Any:
        """Send a request and return the client's RESTResponse."""
        return self._rest.request(method, url, **more)

    request = call_api  # the name that older clients use


class _LazyModule(ModuleType):
    """A module that is imported when an attribute of it is first used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or sys.modules.get(self.__name__) is self:
            raise AttributeError(name)
        module = importlib.import_module(self.__name__)
        return getattr(module, name, None) or importlib.import_module(f"{self.__name__}.{name}")


def _lazy_modules() -> dict[str, ModuleType]:
    """Return a lazy module for each deferred module that is installed and not imported yet."""
    lazy_modules: dict[str, ModuleType] = {}
    for name, calls in _DEFERRED.items():
        top = next(
            (top for top in ("google.auth", "importlib.metadata") if name.startswith(top)), name.partition(".")[0]
        )
        if top in sys.modules or not _is_installed(top):
            continue
        lazy_modules[name] = module = _LazyModule(name)
        module.__path__ = []
        for call in calls:
            setattr(module, call, _lazy_callable(name, call))
    return lazy_modules


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def _lazy_callable(module: str, name: str) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    call.__name__ = name
    return call
