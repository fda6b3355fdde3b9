"""Resolve kubectl's connection flags and kubeconfig files into a configuration of the official client.

The rules are kubectl's (client-go's clientcmd): the first file of KUBECONFIG that sets a value takes precedence, flags
override files, a flag for a credential replaces the file's credential of that kind, and without any file the pod's
service account is used. The official client reads the files and obtains the credentials.
"""

from __future__ import annotations

import base64
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies

from kubectl_yoshi.kube.errors import KubeconfigError, one_line
from kubectl_yoshi.kube.slim_import import ClientModules, import_client_modules
from kubectl_yoshi.model.objects import Json

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_ENTRY_NAME = "kubectl-yoshi"


@dataclass(frozen=True)
class ConnectionOptions:
    """kubectl's connection flags; an empty value means that the flag is not set.

    Attributes:
        request_timeout: in seconds; 0 for no limit, None for this program's default.
    """

    kubeconfig: str = ""
    context: str = ""
    cluster: str = ""
    user: str = ""
    server: str = ""
    token: str = ""
    namespace: str = ""
    as_user: str = ""
    as_groups: tuple[str, ...] = ()
    as_uid: str = ""
    certificate_authority: str = ""
    client_certificate: str = ""
    client_key: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    request_timeout: float | None = None


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration that can be used to connect.

    Attributes:
        configuration: kubernetes.client.Configuration.
        namespace: the namespace of commands without -n.
        user: the user's name in the kubeconfig; "" if there is none.
        headers: impersonation headers (a name may occur more than once).
        renewable: loading again may yield other credentials: a plugin, a token file, OIDC.
    """

    configuration: Any
    namespace: str
    user: str
    headers: tuple[tuple[str, str], ...]
    renewable: bool


def load(options: ConnectionOptions) -> LoadedConfig:
    """Read the files, and run the credential plugin if there is one.

    Raises:
        KubeconfigError: a file, context, cluster, user or credential is missing or broken.
    """
    modules = import_client_modules()
    try:
        return _load(options, modules)
    except KubeconfigError:
        raise
    except modules.kube_config.ConfigException as error:
        raise KubeconfigError(f"the kubeconfig cannot be used: {one_line(str(error))}", CHECK_CONFIG_HINT) from error
    except OSError as error:
        raise KubeconfigError(
            f"the kubeconfig cannot be used: {error.filename or ''}: {error.strerror or error}", CHECK_CONFIG_HINT
        ) from error
    except Exception as error:
        if isinstance(error, UnicodeError) or type(error).__module__.startswith("yaml"):  # the text names the file
            raise KubeconfigError(
                f"the kubeconfig cannot be read: {one_line(str(error))}", CHECK_CONFIG_HINT
            ) from error
        # Any other error of the client on a file with an unexpected structure.
        raise KubeconfigError(f"{_kubeconfig_source(options)} is not a valid kubeconfig", CHECK_CONFIG_HINT) from error


CHECK_CONFIG_HINT = "Check it with: kubectl config view"


def _kubeconfig_source(options: ConnectionOptions) -> str:
    return options.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"


def _load(options: ConnectionOptions, modules: ClientModules) -> LoadedConfig:
    merger = _read_files(options, modules)
    if merger is None and not options.server:
        return _load_in_cluster(options, modules)
    node = merger.config if merger else modules.kube_config.ConfigNode("flags", {})
    value: Json = node.value
    for key in ("clusters", "contexts", "users"):
        value.setdefault(key, [])

    context_name, context = _select_context(options, value, merger)
    cluster_name = options.cluster or str(context.get("cluster") or "")
    user_name = options.user or str(context.get("user") or "")
    cluster, cluster_file = _find_entry(value["clusters"], "cluster", cluster_name, required=not options.server)
    user, user_file = _find_entry(value["users"], "user", user_name, required=bool(options.user))
    _override_cluster(cluster, options)
    _override_user(user, options)
    if not cluster.get("server"):
        raise KubeconfigError(f'cluster "{cluster_name}" of the kubeconfig has no server', CHECK_CONFIG_HINT)
    as_headers = _impersonation_headers(options, user)
    renewable = bool({"exec", "auth-provider", "tokenFile"} & user.keys())

    def config_node(key: str, content: Json, file: str | None) -> Any:
        return modules.kube_config.ConfigNode(_ENTRY_NAME, {"name": _ENTRY_NAME, key: content}, file)

    if "exec" in user and not ({"token", "tokenFile"} & user.keys()):
        _run_plugin(user, config_node("user", user, user_file), config_node("cluster", cluster, cluster_file), modules)
    value["clusters"].append(config_node("cluster", cluster, cluster_file))
    value["users"].append(config_node("user", user, user_file))
    value["contexts"].append(config_node("context", {"cluster": _ENTRY_NAME, "user": _ENTRY_NAME}, cluster_file))

    configuration = modules.configuration.Configuration()
    loader = modules.kube_config.KubeConfigLoader(
        config_dict=node,
        active_context=_ENTRY_NAME,
        config_base_path=None,
        config_persister=_config_persister(merger),
    )
    loader.load_and_set(configuration)
    configuration.proxy = cluster.get("proxy-url") or configuration.proxy  # older clients do not read it
    _apply_proxy_environment(configuration)
    if not options.namespace and not context and not context_name:
        namespace = _pod_namespace() or "default"
    else:
        namespace = options.namespace or str(context.get("namespace") or "default")
    return LoadedConfig(configuration, namespace, user_name, as_headers, renewable)


def list_kubeconfig_files(kubeconfig: str = "") -> list[str]:
    """Return the kubeconfig files that exist and are not empty, in order of precedence.

    Args:
        kubeconfig: the value of --kubeconfig; "" if it is not set.

    Raises:
        KubeconfigError: --kubeconfig names a file that does not exist.
    """
    if kubeconfig:
        path = Path(kubeconfig).expanduser()
        if not path.is_file():
            raise KubeconfigError(f"kubeconfig file {kubeconfig} not found", "Check --kubeconfig.")
        paths = [str(path)]
    else:
        variable = os.environ.get("KUBECONFIG", "")
        paths = [p for p in variable.split(os.pathsep) if p] if variable else ["~/.kube/config"]
        paths = [str(Path(p).expanduser()) for p in paths]
    return [p for p in dict.fromkeys(paths) if Path(p).exists() and Path(p).read_text(encoding="utf-8").strip()]


def _read_files(options: ConnectionOptions, modules: ClientModules) -> Any:
    """Return a KubeConfigMerger of the files that exist; None if there are none."""
    paths = list_kubeconfig_files(options.kubeconfig)
    if not paths:
        return None
    merger = modules.kube_config.KubeConfigMerger(os.pathsep.join(paths))
    return merger if merger.config is not None else None


def _select_context(options: ConnectionOptions, value: Json, merger: Any) -> tuple[str, Json]:
    files = list(merger.config_files.values()) if merger else []
    current = next((str(f["current-context"]) for f in files if f.get("current-context")), "")
    name = options.context or current
    if not name:
        if options.server or options.cluster:
            return "", {}
        raise KubeconfigError(
            "the kubeconfig has no current context", "Choose one: kubectl config use-context NAME, or --context NAME."
        )
    context, _ = _find_entry(value["contexts"], "context", name, required=True)
    return name, context


def _find_entry(entries: list[Any], kind: str, name: str, *, required: bool) -> tuple[Json, str | None]:
    """Return a copy of the named cluster, context or user without its empty fields, and the file that it is from."""
    names = []
    for node in entries:
        content = node.value
        names.append(str(content["name"]))
        if content["name"] == name:
            fields = content.get(kind) or {}
            return {key: item for key, item in fields.items() if item not in (None, "", [], {})}, node.path
    if required:
        import difflib

        close = difflib.get_close_matches(name, names, 1)
        suggestion = f'Did you mean "{close[0]}"?' if close else f"It has: {', '.join(names[:10]) or 'none'}."
        raise KubeconfigError(f'the kubeconfig has no {kind} "{name}"', suggestion)
    return {}, None


def _override_cluster(cluster: Json, options: ConnectionOptions) -> None:
    if options.server:
        cluster["server"] = options.server
    if options.certificate_authority:
        cluster.pop("certificate-authority-data", None)
        cluster["certificate-authority"] = str(Path(options.certificate_authority).absolute())
        cluster.pop("insecure-skip-tls-verify", None)
    if options.insecure_skip_tls_verify:
        cluster["insecure-skip-tls-verify"] = True
        cluster.pop("certificate-authority-data", None)
        cluster.pop("certificate-authority", None)
    if options.tls_server_name:
        cluster["tls-server-name"] = options.tls_server_name
    if "://" not in str(cluster.get("server") or "://"):
        secure = {"certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify"} & cluster.keys()
        cluster["server"] = f"{'https' if secure else 'http'}://{cluster['server']}"
    if cluster.get("server"):
        _check_url(str(cluster["server"]))


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port, or an unclosed bracket
        usable = False
    if not usable:
        raise KubeconfigError(
            f'"{one_line(url)}" is not a URL of an API server', "It looks like https://10.0.0.1:6443."
        )


def _override_user(user: Json, options: ConnectionOptions) -> None:
    if options.token:
        for key in ("exec", "auth-provider", "tokenFile", "username", "password"):
            user.pop(key, None)
        user["token"] = options.token
    if options.client_certificate:
        user.pop("client-certificate-data", None)
        user["client-certificate"] = str(Path(options.client_certificate).absolute())
    if options.client_key:
        user.pop("client-key-data", None)
        user["client-key"] = str(Path(options.client_key).absolute())
    if "tokenFile" in user:
        user.pop("token", None)  # client-go: the file takes precedence


def _run_plugin(user: Json, user_node: Any, cluster_node: Any, modules: ClientModules) -> None:
    """Run the credential plugin and store its result in the user.

    The client's loader would run it as well, but only logs failures and continues as anonymous.
    """
    command = str(user["exec"].get("command", ""))
    folder = str(Path(user_node.path).absolute().parent) if user_node.path else ""
    try:
        status = _create_exec_provider(modules, user_node["user"]["exec"], folder, cluster_node["cluster"]).run()
    except FileNotFoundError as error:
        hint = one_line(str(user["exec"].get("installHint") or "")) or f"Install {command}, or check PATH."
        raise KubeconfigError(f'the kubeconfig\'s credential plugin "{command}" is not installed', hint) from error
    except (OSError, modules.kube_config.ConfigException) as error:
        raise KubeconfigError(
            f'the kubeconfig\'s credential plugin "{command}" failed: {one_line(str(error))}', f"Run {command} by hand."
        ) from error
    del user["exec"]
    if status.get("token"):
        user["token"] = status["token"]
    if status.get("clientCertificateData") and status.get("clientKeyData"):
        for user_key, status_key in (("client-certificate", "clientCertificateData"), ("client-key", "clientKeyData")):
            user.pop(user_key, None)
            user[f"{user_key}-data"] = base64.b64encode(status[status_key].encode()).decode()
    elif not status.get("token"):
        raise KubeconfigError(
            f'the kubeconfig\'s credential plugin "{command}" returned neither a token nor a certificate',
            f"Run {command} by hand.",
        )


def _create_exec_provider(modules: ClientModules, exec_config: Any, folder: str, cluster: Any) -> Any:
    try:
        return modules.exec_provider.ExecProvider(exec_config, folder, cluster)
    except TypeError:  # older clients do not pass the cluster to the plugin
        return modules.exec_provider.ExecProvider(exec_config, folder)


def _config_persister(merger: Any) -> Any:
    """Return a function that persists renewed OIDC tokens, if the file is writable; a failure to write is ignored."""

    def persist() -> None:
        with contextlib.suppress(OSError):
            merger.save_changes()

    return persist if merger else None


def _load_in_cluster(options: ConnectionOptions, modules: ClientModules) -> LoadedConfig:
    configuration = modules.configuration.Configuration()
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        raise KubeconfigError(
            f"no kubeconfig: {_kubeconfig_source(options)} does not exist or is empty, and this is not a pod",
            "Set KUBECONFIG, or give --kubeconfig FILE.",
        )
    modules.incluster_config.load_incluster_config(client_configuration=configuration)
    _apply_proxy_environment(configuration)
    namespace = options.namespace or _pod_namespace() or "default"
    return LoadedConfig(configuration, namespace, "", _impersonation_headers(options, {}), renewable=True)


def _apply_proxy_environment(configuration: Any) -> None:
    """Apply HTTPS_PROXY and NO_PROXY, which older clients do not read."""
    if not configuration.proxy:
        proxies = getproxies()
        configuration.proxy = proxies.get(urlsplit(configuration.host).scheme) or proxies.get("all")
        configuration.no_proxy = configuration.no_proxy or proxies.get("no")


def _pod_namespace() -> str:
    with contextlib.suppress(OSError):
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    return ""


def _impersonation_headers(options: ConnectionOptions, user: Json) -> tuple[tuple[str, str], ...]:
    """Return Impersonate-* headers (https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/)."""
    name = options.as_user or str(user.get("as") or "")
    uid = options.as_uid or str(user.get("as-uid") or "")
    groups = options.as_groups or tuple(user.get("as-groups") or ())
    extra: Json = user.get("as-user-extra") or {}
    if not name:
        if uid or groups or extra:
            raise KubeconfigError("--as-group and --as-uid need --as", "Specify the user to impersonate: --as USER.")
        return ()
    headers = [("Impersonate-User", name)]
    headers += [("Impersonate-Group", str(group)) for group in groups]
    headers += [("Impersonate-Uid", uid)] if uid else []
    headers += [(f"Impersonate-Extra-{quote(key, safe='')}", str(v)) for key, values in extra.items() for v in values]
    return tuple(headers)
