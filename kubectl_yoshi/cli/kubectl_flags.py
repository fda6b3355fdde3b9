"""kubectl's common flags, which are accepted at every level of the command line, and the syntax of its flag parser.

click and pflag (https://pkg.go.dev/github.com/spf13/pflag) differ in a few cases: `-n=prod`, `--wait=false`, and an
optional value, which pflag accepts only after "=". `normalize_args` rewrites a command line from pflag's syntax into
click's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from kubectl_yoshi.cli.help_format import GroupedOption
from kubectl_yoshi.cli.param_types import NameKind, NameType
from kubectl_yoshi.model.durations import parse_duration
from kubectl_yoshi.model.errors import UsageError

META_KEY = "kubectl_yoshi.kubectl_flags"
HELP_NAMES = ["-h", "--help"]

TRUE_VALUES = {"true", "t", "1"}
FALSE_VALUES = {"false", "f", "0"}


class Seconds(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A Go duration ("30s", "1m30s", "500ms") or a number of seconds, as a float of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return parse_duration(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class KubectlFlag(click.Option):
    """A flag whose value is stored in the context's `meta`, where a later value overrides an earlier one.

    Args:
        names: its names on the command line.
        field: its name in `get_kubectl_flags`. click stores it under another name, so that a command's own option can
            have this one.
    """

    def __init__(self, *names: str, field: str = "", **settings: Any) -> None:
        self.field = field or names[-1].lstrip("-").replace("-", "_")
        names = (*names, f"kubectl_{self.field}")
        super().__init__(list(names), expose_value=False, hidden=True, callback=self.store, **settings)

    def store(self, ctx: click.Context, _param: click.Parameter, value: Any) -> None:
        """Store the value from this level of the command line."""
        if value is None or value == ():
            return
        stored = ctx.meta.setdefault(META_KEY, {})
        stored[self.field] = stored.get(self.field, ()) + value if self.multiple else value


class OptionalValue(GroupedOption):
    """An option with an optional value (default `bare_value`), which must follow "=", as in kubectl."""

    def __init__(self, *args: Any, bare_value: str, group: str, **settings: Any) -> None:
        super().__init__(*args, group=group, **settings)
        self.bare_value = bare_value


KUBECTL_FLAGS: list[click.Parameter] = [
    KubectlFlag("--as", field="as_user", metavar="USER", help="Username to impersonate for the operation."),
    KubectlFlag(
        "--as-group", field="as_groups", metavar="GROUP", multiple=True, help="Group to impersonate, repeatable."
    ),
    KubectlFlag("--as-uid", metavar="UID", help="UID to impersonate for the operation."),
    KubectlFlag(
        "--cache-dir", type=NameType(NameKind.FOLDER), metavar="DIR", help="Accepted and ignored: nothing is cached."
    ),
    KubectlFlag(
        "--certificate-authority",
        type=NameType(NameKind.FILE),
        metavar="FILE",
        help="Path to a cert file for the certificate authority.",
    ),
    KubectlFlag(
        "--client-certificate",
        type=NameType(NameKind.FILE),
        metavar="FILE",
        help="Path to a client certificate file for TLS.",
    ),
    KubectlFlag(
        "--client-key", type=NameType(NameKind.FILE), metavar="FILE", help="Path to a client key file for TLS."
    ),
    KubectlFlag(
        "--cluster", type=NameType(NameKind.CLUSTER), metavar="NAME", help="The name of the kubeconfig cluster to use."
    ),
    KubectlFlag(
        "--context", type=NameType(NameKind.CONTEXT), metavar="NAME", help="The name of the kubeconfig context to use."
    ),
    KubectlFlag(
        "--insecure-skip-tls-verify",
        is_flag=True,
        default=None,
        help="If true, the server's certificate is not checked. This makes your HTTPS connections insecure.",
    ),
    KubectlFlag(
        "--kubeconfig", type=NameType(NameKind.FILE), metavar="FILE", help="Path to the kubeconfig file to use."
    ),
    KubectlFlag(
        "-n",
        "--namespace",
        type=NameType(NameKind.NAMESPACE),
        metavar="NAME",
        help="If present, the namespace scope for this request.",
    ),
    KubectlFlag(
        "--request-timeout",
        type=Seconds(),
        metavar="DURATION",
        help="The length of time to wait before giving up on a single request, such as 1s, 2m or 3h; zero means no "
        "timeout.",
    ),
    KubectlFlag("-s", "--server", metavar="URL", help="The address and port of the Kubernetes API server."),
    KubectlFlag("--tls-server-name", metavar="NAME", help="Server name to use for server certificate validation."),
    KubectlFlag("--token", metavar="TOKEN", help="Bearer token for authentication to the API server."),
    KubectlFlag("--user", type=NameType(NameKind.USER), metavar="NAME", help="The name of the kubeconfig user to use."),
    KubectlFlag(
        "-v",
        "--v",
        field="verbosity",
        type=click.IntRange(0),
        metavar="LEVEL",
        help="Log level on stderr: 6 for requests, 8 also for their bodies, 9 also for tracebacks.",
    ),
]


def get_kubectl_flags(ctx: click.Context) -> dict[str, Any]:
    """Return the common flags that are on the command line, by name."""
    return dict(ctx.meta.get(META_KEY, {}))


def normalize_args(
    args: Sequence[str], params: Sequence[click.Parameter], stop_at_first_word: bool = False
) -> list[str]:
    """Rewrite arguments from pflag's syntax into click's.

    Args:
        args: the arguments of one command.
        params: the command's parameters.
        stop_at_first_word: whether the command is a group, where the arguments after the subcommand's name belong to
            the subcommand.
    """
    options = {name: param for param in params if isinstance(param, click.Option) for name in param.opts}
    result: list[str] = []
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        if arg == "--" or (stop_at_first_word and not arg.startswith("-")):
            return [*result, arg, *rest]
        name, equals, value = arg.partition("=")
        option = options.get(name)
        if option is None:
            result.append(arg)
        elif option.is_flag:
            result += _normalize_flag(arg, name, value if equals else "true", option.secondary_opts)
        elif isinstance(option, OptionalValue):
            result.append(arg if equals else f"{name}={option.bare_value}")
        elif equals:
            result += [arg] if name.startswith("--") else [name, value]
        else:
            result += [arg, *rest[:1]]
            del rest[:1]
    return result


def _normalize_flag(arg: str, name: str, value: str, negative_names: list[str]) -> list[str]:
    """Rewrite a boolean flag: `--wait=true` is `--wait`; `--wait=false` its negative form, or nothing without one."""
    if value.lower() in TRUE_VALUES:
        return [name]
    if value.lower() in FALSE_VALUES:
        return negative_names[:1]
    return [arg]
