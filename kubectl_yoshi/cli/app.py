"""The root of the command line: `kubectl yoshi`, and the table of everything below it."""

from __future__ import annotations

import click

from kubectl_yoshi.cli.group import CommandEntry, LazyGroup

network = LazyGroup(
    "network",
    "Make, show and delete networks.",
    {
        "create": CommandEntry("network.create:create", "Make a network from a CIDR, or from files"),
        "list": CommandEntry("network.list:list_networks", "Show the networks of a namespace, or of all"),
        "describe": CommandEntry("network.describe:describe", "Show everything about one network"),
        "delete": CommandEntry("network.delete:delete", "Delete networks that nobody holds an address of"),
    },
)

vm = LazyGroup(
    "vm",
    "Give VMs networks and addresses, or take them away.",
    {
        "attach": CommandEntry("vm.attach:attach", "Give VMs an address of a network that stays theirs"),
        "detach": CommandEntry("vm.detach:detach", "Take a network and its address away from VMs"),
        "list": CommandEntry("vm.list:list_vms", "Show VMs with their networks, addresses and what is missing"),
    },
)

ips = LazyGroup(
    "ips",
    "Show, reserve, check and clean up addresses.",
    {
        "list": CommandEntry("ips.list:list_ips", "Show addresses, who holds them, and whether that is true"),
        "who": CommandEntry("ips.who:who", "Tell who holds an address, and who had it before"),
        "reserve": CommandEntry("ips.reserve:reserve", "Keep addresses of a network out of everybody's reach"),
        "release": CommandEntry(
            "ips.release:release", "Give reserved addresses back, and addresses whose VM does not use them"
        ),
        "move": CommandEntry("ips.move:move", "Give a VM's public address to another VM"),
        "check": CommandEntry("ips.check:check", "Compare what is recorded with what is true; exit 1 if they differ"),
        "gc": CommandEntry("ips.gc:gc", "Give back addresses that nothing uses any more"),
        "import": CommandEntry("ips.import_:import_ips", "Adopt addresses that VMs have already"),
        "rebuild": CommandEntry("ips.rebuild:rebuild", "Write the ledger anew from what VMs, Services and Calico have"),
    },
)

completion = LazyGroup(
    "completion",
    "Complete commands and names by TAB in bash, zsh or fish.",
    {
        "install": CommandEntry(
            "completion.install:install", "Complete `kubectl yoshi` and kubectl-yoshi in every new shell"
        ),
        "bash": CommandEntry("completion.scripts:bash", "Print bash's completion of kubectl-yoshi"),
        "zsh": CommandEntry("completion.scripts:zsh", "Print zsh's completion of kubectl-yoshi"),
        "fish": CommandEntry("completion.scripts:fish", "Print fish's completion of kubectl-yoshi"),
    },
)

cli = LazyGroup(
    "kubectl yoshi",
    "Give KubeVirt VMs networks, and addresses that stay theirs.",
    {
        "install": CommandEntry("install:install", "Make or update the CRDs and roles that yoshi needs"),
        "uninstall": CommandEntry("uninstall:uninstall", "Remove the CRDs and roles again"),
        "network": network,
        "vm": vm,
        "ips": ips,
        "sync": CommandEntry("sync:sync", "Make true what networks and VM annotations ask for"),
        "diff": CommandEntry("diff:diff", "Show what a command would change; exit 1 if anything"),
        "completion": completion,
        "help": CommandEntry("help:show_help", "Show the help of a command"),
        "options": CommandEntry("help:options", "Show the flags of kubectl that every command takes"),
        "version": CommandEntry("version:version", "Show the version of this program, and of the server if asked"),
    },
    aliases={"networks": "network", "nw": "network", "vms": "vm", "ip": "ips"},
)


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from kubectl_yoshi.cli.version import client_version

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
