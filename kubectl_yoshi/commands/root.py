"""The root of the command line: `kubectl yoshi`, and the table of everything below it."""

from __future__ import annotations

import click

from kubectl_yoshi.commands.lazy import Entry, LazyGroup

network = LazyGroup(
    "network",
    "Make, show and delete networks.",
    {
        "create": Entry("network:create", "Make a network from a CIDR, or from files"),
        "list": Entry("network:list_networks", "Show the networks of a namespace, or of all"),
        "describe": Entry("network:describe", "Show everything about one network"),
        "delete": Entry("network:delete", "Delete networks that nobody holds an address of"),
    },
)

vm = LazyGroup(
    "vm",
    "Give VMs networks and addresses, or take them away.",
    {
        "attach": Entry("vm:attach", "Give VMs an address of a network that stays theirs"),
        "detach": Entry("vm:detach", "Take a network and its address away from VMs"),
        "list": Entry("vm:list_vms", "Show VMs with their networks, addresses and what is missing"),
    },
)

ips = LazyGroup(
    "ips",
    "Show, reserve, check and clean up addresses.",
    {
        "list": Entry("ips:list_ips", "Show addresses, who holds them, and whether that is true"),
        "who": Entry("ips:who", "Tell who holds an address, and who had it before"),
        "reserve": Entry("ips:reserve", "Keep addresses of a network out of everybody's reach"),
        "release": Entry("ips:release", "Give reserved addresses back, and addresses whose VM does not use them"),
        "move": Entry("ips:move", "Give a VM's public address to another VM"),
        "check": Entry("ips:check", "Compare what is recorded with what is true; exit 1 if they differ"),
        "gc": Entry("ips:gc", "Give back addresses that nothing uses any more"),
        "import": Entry("importing:import_ips", "Adopt addresses that VMs have already"),
        "rebuild": Entry("recovery:rebuild", "Write the ledger anew from what VMs, Services and Calico have"),
    },
)

completion = LazyGroup(
    "completion",
    "Complete commands and names by TAB in bash, zsh or fish.",
    {
        "install": Entry("completion:install", "Complete `kubectl yoshi` and kubectl-yoshi in every new shell"),
        "bash": Entry("completion:bash", "Print bash's completion of kubectl-yoshi"),
        "zsh": Entry("completion:zsh", "Print zsh's completion of kubectl-yoshi"),
        "fish": Entry("completion:fish", "Print fish's completion of kubectl-yoshi"),
    },
)

cli = LazyGroup(
    "kubectl yoshi",
    "Give KubeVirt VMs networks, and addresses that stay theirs.",
    {
        "install": Entry("install:install", "Make or update the CRDs and roles that yoshi needs"),
        "uninstall": Entry("uninstall:uninstall", "Remove the CRDs and roles again"),
        "network": network,
        "vm": vm,
        "ips": ips,
        "sync": Entry("sync:sync", "Make true what networks and VM annotations ask for"),
        "diff": Entry("diff:diff", "Show what a command would change; exit 1 if anything"),
        "completion": completion,
        "help": Entry("helping:show_help", "Show the help of a command"),
        "options": Entry("options_help:options", "Show the flags of kubectl that every command takes"),
        "version": Entry("version:version", "Show the version of this program, and of the server if asked"),
    },
    aliases={"networks": "network", "nw": "network", "vms": "vm", "ip": "ips"},
)


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from kubectl_yoshi.commands.version import client_version

        click.echo(client_version())
        ctx.exit()


cli.params.append(
    click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_version,
        help="Show the version of this program.",
    )
)
