"""Merging of kubeconfig files and flags, by kubectl's rules."""

from __future__ import annotations

import base64
import stat
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions
from kubectl_yoshi.kube.errors import KubeconfigError
from kubectl_yoshi.kube.kubeconfig import load
from kubectl_yoshi.kube.slim_import import import_client_modules
from tests.unit.kube.fault_server import FaultServer, refuses, says

CONFIG: dict[str, Any] = {
    "clusters": [
        {"name": "one", "cluster": {"server": "https://one:6443/", "insecure-skip-tls-verify": True}},
        {"name": "two", "cluster": {"server": "http://two:8080"}},
    ],
    "users": [{"name": "ann", "user": {"token": "t-ann"}}, {"name": "bob", "user": {"token": "t-bob"}}],
    "contexts": [
        {"name": "prod", "context": {"cluster": "one", "user": "ann", "namespace": "web"}},
        {"name": "test", "context": {"cluster": "two", "user": "bob"}},
    ],
    "current-context": "prod",
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(CONFIG))
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


def changed(file: Path, **fields: Any) -> None:
    file.write_text(yaml.safe_dump({**CONFIG, **fields}))


def with_user(file: Path, **user: Any) -> None:
    changed(file, users=[{"name": "ann", "user": user}])


def header(options: ConnectionOptions, name: str = "Authorization") -> Any:
    return Connection.open(options)._headers({}).get(name)


def plugin(tmp_path: Path, program: str) -> str:
    path = tmp_path / "plugin"
    path.write_text(f"#!{sys.executable}\nimport json, os, sys\n{program}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def gives(status: str, count_in: Path | None = None) -> str:
    counting = f"open({str(count_in)!r}, 'a').write('x')\n" if count_in else ""
    body = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": STATUS}'
    return f"{counting}print(json.dumps({body.replace('STATUS', status)}))"


def exec_user(command: str, **more: Any) -> dict[str, Any]:
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command, **more}}


def test_current_context_sets_server_user_and_namespace(file: Path) -> None:
    connection = Connection.open()
    assert (connection.server, connection.user, connection.namespace) == ("https://one:6443", "ann", "web")
    assert header(ConnectionOptions()) == "Bearer t-ann"


def test_context_without_a_namespace_uses_default(file: Path) -> None:
    assert Connection.open(ConnectionOptions(context="test")).namespace == "default"
    assert Connection.open(ConnectionOptions(context="test", namespace="other")).namespace == "other"


def test_flags_override_parts_of_the_context(file: Path) -> None:
    options = ConnectionOptions(cluster="two", user="bob")
    connection = Connection.open(options)
    assert (connection.server, connection.namespace) == ("http://two:8080", "web")
    assert header(options) == "Bearer t-bob"
    assert Connection.open(ConnectionOptions(server="https://three")).server == "https://three"
    assert header(ConnectionOptions(token="t-flag")) == "Bearer t-flag"


def test_first_of_several_files_wins(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = file.with_name("other")
    clusters = [
        {"name": "one", "cluster": {"server": "http://other-one"}},
        {"name": "x", "cluster": {"server": "http://x"}},
    ]
    other.write_text(yaml.safe_dump({"clusters": clusters, "current-context": "nothing"}))
    empty = file.with_name("empty")
    empty.write_text("")
    monkeypatch.setenv("KUBECONFIG", f"{empty}:{file}:{file.with_name('missing')}:{other}")
    assert Connection.open().server == "https://one:6443"
    assert Connection.open(ConnectionOptions(cluster="x")).server == "http://x"


def test_certificate_paths_are_relative_to_their_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pki"
    folder.mkdir()
    (folder / "ca.crt").write_text("x")
    second = folder / "config"
    clusters = [{"name": "far", "cluster": {"server": "https://far", "certificate-authority": "ca.crt"}}]
    second.write_text(yaml.safe_dump({"clusters": clusters}))
    monkeypatch.setenv("KUBECONFIG", f"{file}:{second}")
    assert load(ConnectionOptions(cluster="far")).configuration.ssl_ca_cert == str(folder / "ca.crt")


def test_plugin_token_is_used_and_renewed_when_refused(file: Path, tmp_path: Path, server: FaultServer) -> None:
    runs = tmp_path / "runs"
    command = plugin(tmp_path, gives('{"token": "run-" + str(len(open("' + str(runs) + '").read()))}', runs))
    changed(
        file,
        users=[{"name": "ann", "user": exec_user(Path(command).name and f"./{Path(command).name}")}],
        clusters=[{"name": "one", "cluster": {"server": server.url}}],
    )
    server.then(refuses(401, "Unauthorized", "Unauthorized"), says(200, {}))
    Api(Connection.open()).raw("/version")
    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer run-1", "Bearer run-2"]


def test_plugin_gets_the_cluster_and_its_environment(file: Path, tmp_path: Path) -> None:
    if "cluster" not in signature(import_client_modules().exec_provider.ExecProvider).parameters:
        pytest.skip("this old client cannot tell a plugin of the cluster")
    status = (
        '{"token": os.environ["WHO"] + json.loads(os.environ["KUBERNETES_EXEC_INFO"])["spec"]["cluster"]["server"]}'
    )
    env = [{"name": "WHO", "value": "ann@"}]
    with_user(file, **exec_user(plugin(tmp_path, gives(status)), env=env, provideClusterInfo=True))
    assert header(ConnectionOptions()) == "Bearer ann@https://one:6443/"


def test_plugin_certificate_is_used(file: Path, tmp_path: Path) -> None:
    status = '{"clientCertificateData": "CERT", "clientKeyData": "KEY"}'
    with_user(file, **exec_user(plugin(tmp_path, gives(status))))
    configuration = load(ConnectionOptions()).configuration
    assert (Path(configuration.cert_file).read_text(), Path(configuration.key_file).read_text()) == ("CERT", "KEY")


@pytest.mark.parametrize(
    ("program", "says_"),
    [
        ("sys.exit('please log in first')", "please log in first"),
        ("print('not json')", "failed"),
        (gives("{}"), "neither a token nor a certificate"),
    ],
)
def test_failing_plugin_is_named_with_its_output(file: Path, tmp_path: Path, program: str, says_: str) -> None:
    command = plugin(tmp_path, program)
    with_user(file, **exec_user(command))
    with pytest.raises(KubeconfigError, match=says_) as caught:
        Connection.open()
    assert command in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


def test_missing_plugin_is_named_with_its_install_hint(file: Path) -> None:
    with_user(file, **exec_user("no-such-plugin", installHint="Get it\nfrom the intranet."))
    with pytest.raises(KubeconfigError, match="no-such-plugin") as caught:
        Connection.open()
    assert caught.value.hint == "Get it from the intranet."


def test_token_flag_skips_the_plugin(file: Path) -> None:
    with_user(file, **exec_user("no-such-plugin"))
    assert header(ConnectionOptions(token="t")) == "Bearer t"


def test_token_file_takes_precedence_over_token(file: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file")
    with_user(file, token="old", tokenFile="token")
    assert header(ConnectionOptions()) == "Bearer from-file"


def test_basic_auth_is_sent(file: Path) -> None:
    with_user(file, username="ann", password="secret")
    assert header(ConnectionOptions()) == "Basic " + base64.b64encode(b"ann:secret").decode()


def test_impersonation_is_sent_as_headers(file: Path) -> None:
    options = ConnectionOptions(as_user="carl", as_groups=("ops", "dev"), as_uid="u1")
    headers = Connection.open(options)._headers({})
    assert headers["Impersonate-User"] == "carl"
    assert headers.getlist("Impersonate-Group") == ["ops", "dev"]
    assert headers["Impersonate-Uid"] == "u1"


def test_impersonation_in_the_file_is_sent_too(file: Path) -> None:
    with_user(file, token="t", **{"as": "carl", "as-groups": ["ops"], "as-user-extra": {"a/b": ["1", "2"]}})
    headers = Connection.open()._headers({})
    assert headers["Impersonate-User"] == "carl"
    assert headers.getlist("Impersonate-Extra-a%2Fb") == ["1", "2"]


def test_non_ascii_names_are_sent_as_utf8(file: Path, server: FaultServer) -> None:
    server.then(says(200, {}))
    Api(Connection.open(ConnectionOptions(server=server.url, as_user="zoë-日"))).raw("/version")
    assert server.requests[0].headers["Impersonate-User"].encode("latin-1").decode() == "zoë-日"


@pytest.mark.parametrize("options", [ConnectionOptions(token="a\nb"), ConnectionOptions(as_user="a\r\nX: y")])
def test_line_break_in_a_header_value_is_refused(file: Path, options: ConnectionOptions) -> None:
    with pytest.raises(KubeconfigError, match="line break"):
        header(options)


def test_server_without_a_scheme_is_parsed_as_by_kubectl(file: Path) -> None:
    assert Connection.open(ConnectionOptions(server="three:8080", cluster="two")).server == "http://three:8080"
    assert Connection.open(ConnectionOptions(server="three:6443")).server == "https://three:6443"


@pytest.mark.parametrize("url", ["https://", "ftp://x", "https://x:99999", "https://[::1", "https://x:0", "unix:///s"])
def test_invalid_server_url_is_reported(file: Path, url: str) -> None:
    with pytest.raises(KubeconfigError) as caught:
        Connection.open(ConnectionOptions(server=url))
    assert url in caught.value.message


def test_as_group_without_as_is_refused(file: Path) -> None:
    with pytest.raises(KubeconfigError, match="--as"):
        Connection.open(ConnectionOptions(as_groups=("ops",)))


def test_proxies_come_from_the_file_or_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://env-proxy:3128")
    assert str(Connection.open()._pool.proxy) == "http://env-proxy:3128"
    monkeypatch.setenv("NO_PROXY", "one")
    assert getattr(Connection.open()._pool, "proxy", None) is None
    monkeypatch.delenv("NO_PROXY")
    changed(file, clusters=[{"name": "one", "cluster": {"server": "https://one", "proxy-url": "http://its-own:1"}}])
    assert str(Connection.open()._pool.proxy) == "http://its-own:1"


def test_service_account_is_used_inside_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubectl_yoshi.kube import kubeconfig

    parts = kubeconfig.import_client_modules()
    for name, text in (("token", "sa-token"), ("ca.crt", "CA"), ("namespace", "inside")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(parts.incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(parts.incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(kubeconfig, "_NAMESPACE_FILE", tmp_path / "namespace")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    loaded = load(ConnectionOptions())
    assert loaded.configuration.host == "https://[fd00::1]:443"
    assert loaded.configuration.auth_settings()["BearerToken"]["value"] == "bearer sa-token"
    assert (loaded.namespace, loaded.renewable) == ("inside", True)


@pytest.mark.parametrize(
    ("text", "says_"),
    [
        ("a: [", "cannot be read"),
        ("just words", "kubeconfig"),
        ("[1, 2]", "kubeconfig"),
        ("clusters: 5", "kubeconfig"),
        ("\x00\x01", "kubeconfig"),
        ("clusters: [{}]\ncontexts: [{}]\ncurrent-context: x", "kubeconfig"),
        (yaml.safe_dump({**CONFIG, "current-context": ""}), "no current context"),
        (yaml.safe_dump({**CONFIG, "current-context": "gone"}), 'no context "gone"'),
        (yaml.safe_dump({**CONFIG, "clusters": []}), 'no cluster "one"'),
        (yaml.safe_dump({**CONFIG, "clusters": [{"name": "one", "cluster": {}}]}), "no server"),
        (
            yaml.safe_dump(
                {
                    **CONFIG,
                    "clusters": [
                        {"name": "one", "cluster": {"server": "https://a", "certificate-authority": "gone.crt"}}
                    ],
                }
            ),
            "gone.crt",
        ),
    ],
)
def test_invalid_file_is_reported(file: Path, text: str, says_: str) -> None:
    file.write_text(text)
    with pytest.raises(KubeconfigError, match=says_) as caught:
        Connection.open()
    assert len(str(caught.value).splitlines()) <= 5
    assert caught.value.hint


@pytest.mark.parametrize(
    ("options", "says_", "hint"),
    [
        (ConnectionOptions(context="prodd"), 'no context "prodd"', 'Did you mean "prod"?'),
        (ConnectionOptions(cluster="zzz"), 'no cluster "zzz"', "It has: one, two."),
        (ConnectionOptions(user="zzz"), 'no user "zzz"', "It has: ann, bob."),
        (ConnectionOptions(kubeconfig="/no/such/file"), "/no/such/file", "--kubeconfig"),
        (ConnectionOptions(certificate_authority="/no/ca"), "/no/ca", "kubectl config view"),
    ],
)
def test_flag_with_an_unknown_name_is_reported(file: Path, options: ConnectionOptions, says_: str, hint: str) -> None:
    with pytest.raises(KubeconfigError, match=says_) as caught:
        Connection.open(options)
    assert hint in caught.value.hint


def test_missing_kubeconfig_names_the_searched_path() -> None:
    with pytest.raises(KubeconfigError, match=r"~/\.kube/config") as caught:
        Connection.open()
    assert "KUBECONFIG" in caught.value.hint
