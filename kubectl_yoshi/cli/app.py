"""The root group, `kubectl yoshi`, with the table of all commands and groups."""

from __future__ import annotations

import click

from kubectl_yoshi.cli.group import CommandEntry, LazyGroup

network = LazyGroup(
    "network",
    "Create, list, describe, change and delete networks.",
    {
        "create": CommandEntry("network.create:create", "Create a network from a CIDR, or from files"),
        "list": CommandEntry("network.list:list_networks", "List the networks of a namespace, or of all namespaces"),
        "describe": CommandEntry("network.describe:describe", "Show the details of a network and its allocations"),
        "update": CommandEntry("network.update:update", "Change the settings of a network"),
        "delete": CommandEntry("network.delete:delete", "Delete networks that have no allocations"),
    },
    suggestions={
        "network list": ("get", "ls", "status"),
        "network describe": ("show",),
        "network create": ("add", "allocate"),
        "network create -f FILE": ("apply",),
        "network update": ("edit", "set", "patch"),
        "network delete": ("rm", "remove"),
        "vm attach": ("assign", "associate"),
        "vm detach": ("unassign",),
        "doctor": ("doctor", "health"),
        "ips gc": ("prune",),
        "ips rebuild": ("restore", "recover"),
    },
)

vm = LazyGroup(
    "vm",
    "Attach VMs to networks, detach them, and list them.",
    {
        "attach": CommandEntry("vm.attach:attach", "Attach VMs to networks and assign each a permanent address"),
        "detach": CommandEntry("vm.detach:detach", "Detach VMs from networks and release their addresses"),
        "list": CommandEntry("vm.list:list_vms", "List VMs with their networks, addresses and states"),
    },
    suggestions={
        "vm list": ("get", "ls", "show", "describe", "status"),
        "vm attach": ("add", "allocate", "assign", "associate", "apply"),
        "vm attach --replace": ("edit",),
        "vm detach": ("unassign", "rm", "remove"),
        "doctor": ("doctor", "health"),
        "ips gc": ("prune",),
        "ips rebuild": ("restore", "recover"),
    },
)

ips = LazyGroup(
    "ips",
    "List, reserve, release and check addresses.",
    {
        "list": CommandEntry("ips.list:list_ips", "List allocated addresses with holder and state, or free addresses"),
        "show": CommandEntry("ips.show:show", "Show the holder of an address, and its previous holders"),
        "map": CommandEntry("ips.map:map_ips", "Draw the address space of a network"),
        "reserve": CommandEntry("ips.reserve:reserve", "Reserve addresses, so that they are not assigned to VMs"),
        "release": CommandEntry(
            "ips.release:release", "Release reserved addresses, and addresses that their VMs do not use"
        ),
        "move": CommandEntry("ips.move:move", "Move a public address to another VM"),
        "check": CommandEntry("ips.check:check", "Compare allocations with the cluster; exit 1 if they differ"),
        "gc": CommandEntry("ips.gc:gc", "Release addresses that nothing uses any more"),
        "import": CommandEntry("ips.import_:import_ips", "Import addresses that VMs already have"),
        "rebuild": CommandEntry("ips.rebuild:rebuild", "Rebuild allocations from VMs, Services and Calico IPAM"),
    },
    aliases={"who": "show"},
    suggestions={
        "ips list": ("get", "ls"),
        "ips show": ("describe",),
        "ips reserve, or vm attach for a VM": ("add", "allocate"),
        "vm attach --ip": ("assign", "associate"),
        "vm detach": ("unassign",),
        "ips release": ("rm", "remove"),
        "ips reserve or ips release": ("apply", "edit"),
        "ips check, or doctor": ("status", "doctor", "health"),
        "ips gc": ("prune",),
        "ips rebuild": ("restore", "recover"),
    },
)

policy = LazyGroup(
    "policy",
    "Show the admission policies that protect allocations.",
    {
        "status": CommandEntry("policy.status:status", "Show the admission policies and whether they are in effect"),
        "explain": CommandEntry(
            "policy.explain:explain", "Show which VM can use an address, or which addresses a VM can use"
        ),
        "print": CommandEntry("policy.print:print_policies", "Print the admission policies as YAML"),
    },
    suggestions={
        "policy status": ("get", "ls", "list", "show"),
        "install --policy": ("install", "apply", "enable", "disable", "set"),
    },
)

completion = LazyGroup(
    "completion",
    "Complete commands and names with TAB in bash, zsh or fish.",
    {
        "install": CommandEntry(
            "completion.install:install", "Install completion of `kubectl yoshi` and kubectl-yoshi for new shells"
        ),
        "bash": CommandEntry("completion.install:bash", "Print the completion script of kubectl-yoshi for bash"),
        "zsh": CommandEntry("completion.install:zsh", "Print the completion script of kubectl-yoshi for zsh"),
        "fish": CommandEntry("completion.install:fish", "Print the completion script of kubectl-yoshi for fish"),
    },
)

cli = LazyGroup(
    "kubectl yoshi",
    "Create networks for KubeVirt VMs and assign each VM permanent addresses.",
    {
        "install": CommandEntry(
            "install:install", "Create or update the CRDs, roles and admission policies that yoshi needs"
        ),
        "uninstall": CommandEntry("uninstall:uninstall", "Remove the CRDs, roles and policies that `install` created"),
        "network": network,
        "vm": vm,
        "ips": ips,
        "status": CommandEntry("status:status", "Show versions, networks, VMs, and the number of findings"),
        "doctor": CommandEntry("doctor:doctor", "Find out what is wrong, and what repairs it"),
        "report": CommandEntry("report:report", "Write an archive of status, findings, objects and events"),
        "trace": CommandEntry("trace:trace", "Follow an address hop by hop, and explain the first break"),
        "sync": CommandEntry("sync:sync", "Reconcile networks, and VMs with their network annotations"),
        "diff": CommandEntry("diff:diff", "Show what a command would change; exit 1 if there are changes"),
        "policy": policy,
        "completion": completion,
        "help": CommandEntry("help:show_help", "Show the help of a command"),
        "options": CommandEntry("help:options", "Show the flags of kubectl that every command takes"),
        "version": CommandEntry("version:version", "Show the versions of this program, the CRDs and the API server"),
    },
    aliases={"networks": "network", "net": "network", "nw": "network", "vms": "vm", "ip": "ips"},
    suggestions={
        "network list, vm list or ips list": ("get", "ls", "list"),
        "network describe or ips show": ("show", "describe"),
        "network create": ("add", "apply"),
        "network update": ("edit", "update", "set"),
        "vm attach for a VM, or ips reserve": ("allocate",),
        "vm attach": ("assign", "associate", "attach"),
        "vm detach": ("unassign", "detach"),
        "network delete, vm detach or ips release": ("rm", "remove", "delete"),
        "doctor": ("health", "check"),
        "ips gc": ("prune",),
        "ips rebuild": ("restore", "recover"),
    },
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
