"""The client is imported without the modules that are not used, and nothing that needs them is lost.

Each test has an interpreter of its own: what is imported once stays.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml

from tests.unit.kube.fault_server import FaultServer, says


def run(program: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_connection_imports_no_typed_models_and_no_async_client(server: FaultServer) -> None:
    server.then(says(200, {"gitVersion": "v1.36.0"}))
    heavy = "importlib.metadata aiohttp pydantic requests oauthlib requests_oauthlib google.auth websocket kubernetes"
    loaded = run(
        f"""
        import sys
        from kubectl_yoshi.kube.client import Api
        from kubectl_yoshi.kube.connection import Connection, ConnectionOptions
        from kubectl_yoshi.kube.slim_import import import_client_modules
        api = Api(Connection.open(ConnectionOptions(server="{server.url}")))
        assert api.raw("/version")["gitVersion"] == "v1.36.0"
        assert import_client_modules().slim
        print(*[name for name in "{heavy}".split() if name in sys.modules])
        """
    )
    assert loaded == ""


def test_whole_client_can_be_imported_afterwards() -> None:
    out = run(
        """
        from kubectl_yoshi.kube.slim_import import import_client_modules
        parts = import_client_modules()
        import kubernetes
        from kubernetes import client, config, watch
        configuration = client.Configuration(host="http://x")
        print(client.CoreV1Api(client.ApiClient(configuration)).api_client.configuration.host)
        import oauthlib.oauth2, requests_oauthlib
        print(oauthlib.__file__ is not None, import_client_modules() is parts)
        """
    )
    assert out.split("\n") == ["http://x", "True True"]


def test_imported_client_is_used() -> None:
    out = run(
        """
        import kubernetes
        from kubectl_yoshi.kube.slim_import import import_client_modules
        parts = import_client_modules()
        import kubernetes.client.rest
        print(parts.slim, parts.rest is kubernetes.client.rest)
        """
    )
    assert out == "False True"


def test_client_of_another_layout_is_imported_whole() -> None:
    out = run(
        """
        import sys
        from kubectl_yoshi.kube import slim_import
        def other_layout(*args): raise AttributeError("no such name in this version")
        slim_import._lazy_modules = other_layout
        parts = slim_import.import_client_modules()
        import kubernetes.client
        print(parts.slim, hasattr(kubernetes.client, "CoreV1Api"), parts.rest is sys.modules["kubernetes.client.rest"])
        """
    )
    assert out == "False True True"


def test_expired_oidc_token_is_renewed_and_stored(server: FaultServer, tmp_path: Path) -> None:
    def jwt(**claims: object) -> str:
        parts = [{"alg": "none"}, claims]
        encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        return ".".join([*encoded, "c2ln"])

    # The client refuses tokens whose payload would need three characters of padding, or has none to strip.
    new = jwt(exp=int(time.time()) + 3600, sub="new")
    server.by_path["/.well-known/openid-configuration"] = says(200, {"token_endpoint": f"{server.url}/token"})
    tokens = {"id_token": new, "refresh_token": "r2", "access_token": "a", "token_type": "bearer"}
    server.by_path["/token"] = says(200, tokens, Content_Type="application/json")
    provider = {
        "idp-issuer-url": server.url,
        "client-id": "yoshi",
        "client-secret": "s",
        "id-token": jwt(exp=1000, sub="old"),
        "refresh-token": "r1",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": server.url}}],
                "users": [{"name": "u", "user": {"auth-provider": {"name": "oidc", "config": provider}}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    server.then(says(200, {}))
    run(
        """
        from kubectl_yoshi.kube.client import Api
        from kubectl_yoshi.kube.connection import Connection
        from kubectl_yoshi.kube.slim_import import import_client_modules
        Api(Connection.open()).raw("/version")
        assert import_client_modules().slim
        import sys
        assert not [name for name in sys.modules if name.startswith("kubernetes")]
        """,
        KUBECONFIG=str(file),
        OAUTHLIB_INSECURE_TRANSPORT="1",
    )
    assert server.requests[-1].headers["Authorization"] == f"Bearer {new}"
    kept = yaml.safe_load(file.read_text())["users"][0]["user"]["auth-provider"]["config"]
    assert (kept["id-token"], kept["refresh-token"]) == (new, "r2")


@pytest.mark.parametrize(
    "module",
    ["kube.client", "kube.discovery", "engine.read", "engine.apply", "engine.wait", "kube.errors", "kube.kubeconfig"],
)
def test_kube_and_engine_modules_do_not_import_the_client(module: str) -> None:
    assert run(f"import sys, kubectl_yoshi.{module}; print('urllib3' in sys.modules)") == "False"
