"""Adopting addresses that VMs have already: by the protocol of an attachment, whose planner does all that is written.

What is refused, besides what an attachment would refuse: an address that anything else in the cluster uses, and a VM
for which two addresses of one network are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kubectl_yoshi.model.backend import Backend, How, Uses
from kubectl_yoshi.model.change import Plan
from kubectl_yoshi.model.errors import Refused, YoshiError
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.objects import Name
from kubectl_yoshi.plan.attachments import AttachRequest, plan_attachments
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import network_read, open_network
from kubectl_yoshi.plan.desk import Given
from kubectl_yoshi.plan.serving import backend_of, must_be_served


@dataclass(frozen=True)
class ImportRequest:
    """What is to be adopted into one network.

    Attributes:
        network: its namespace and name.
        given: who has which address.
    """

    network: Name
    given: tuple[Given, ...]


def plan_import(request: ImportRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that record these addresses for the VMs that have them, and pin them there.

    The plan's `answers` has each VM's address, its `refusals` why one is not adopted; see plan_attachments.

    Raises:
        NeedMore: more must be read first.
        Refused, UsageMistake: none can be adopted (no such network, the network cannot be used).
    """
    facts.ask(network_read(*request.network))
    network = open_network(*request.network, facts)
    backend = backend_of(network, backends)
    must_be_served(network, backend, facts)
    seen = Uses(backend.survey(network, None, facts))
    several, single = _several(request.given)
    refused: dict[str, YoshiError] = {
        f"{vm[0]}/{vm[1]}": Refused(
            f"{' and '.join(texts)} are both said to be the VM's on network {network.full_name}",
            "A VM has one address of a network: name it in a file (-f).",
        )
        for vm, texts in several.items()
    }
    for given, others in _of_several_vms(single).items():
        if any(use.is_of(*given.vm) for use in seen.at(int(given.address))):
            continue  # the others are not alone
        refused[_subject(given)] = Refused(
            f"{given.address} is said to be {' and '.join(others)}'s too",
            "An address has one owner: settle whose it is.",
        )
    for given in single:
        in_the_way = [
            use for use in seen.at(int(given.address)) if not use.is_of(*given.vm) and use.how is not How.LENT
        ]
        if in_the_way and given.address in network:
            refused[_subject(given)] = Refused(
                f"{given.address} is not the VM's alone: {in_the_way[0].ref} uses it",
                "See `kubectl yoshi ips rebuild --dry-run=client`, which tells who keeps it and why.",
            )
    attach = AttachRequest(
        request.network, tuple(dict.fromkeys(given.vm for given in request.given)), given=tuple(single)
    )
    late = {subject: error for subject, error in refused.items() if subject not in attempt.failed}
    plan = plan_attachments(attach, backends, facts, replace(attempt, failed={**attempt.failed, **late}))
    return replace(plan, refusals={**plan.refusals, **refused})


def _subject(given: Given) -> str:
    return "/".join(given.vm)


def _several(all_given: Iterable[Given]) -> tuple[dict[Name, list[str]], list[Given]]:
    """The addresses of VMs for which several are named, and what is left."""
    of_vms: dict[Name, dict[str, Given]] = {}
    for given in all_given:
        of_vms.setdefault(given.vm, {}).setdefault(str(given.address), given)
    several = {vm: [*mine] for vm, mine in of_vms.items() if len(mine) > 1}
    return several, [given for vm, mine in of_vms.items() if vm not in several for given in mine.values()]


def _of_several_vms(single: Iterable[Given]) -> dict[Given, list[str]]:
    """What is named for several VMs, and for which others."""
    single = list(single)
    counts = Counter(given.address for given in single)
    return {
        given: [_subject(other) for other in single if other.address == given.address and other.vm != given.vm]
        for given in single
        if counts[given.address] > 1
    }
