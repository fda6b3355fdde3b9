"""The objects that commands print in machine-readable formats and that no API server has.

They have the form of Kubernetes objects. docs/reference/output.schema.json is their JSON Schema, which describes the
fields. Commands that create objects of the API server print these, and those that delete some print references.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.errors import print_error
from kubectl_yoshi.model.errors import YoshiError

if TYPE_CHECKING:
    from kubectl_yoshi.cli.session import Session
    from kubectl_yoshi.engine.loop import RunResult
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.objects import Json, NamespacedName, ObjectRef
    from kubectl_yoshi.model.plan import Change
    from kubectl_yoshi.output.format_option import OutputFormat

API_VERSION = "cli.plumber.k8s.pf9.io/v1alpha1"

NETWORK = "NetworkWizard"
"""As the API server has it."""
REFERENCE = "references"
"""Of objects of any kind; see reference_object."""

ATTACHMENT = "Attachment"
"""A VM and a network."""
ADDRESS = "Address"
"""An address of a network, with its holder."""
FREE_ADDRESSES = "FreeAddresses"
"""A range of free addresses."""
ADDRESS_MAP = "AddressMap"
"""The address space of a network, or a part of it."""
FINDING = "Finding"
"""What a rule of `doctor` reports about an object."""
DIAGNOSIS = "Diagnosis"
"""All findings of `doctor`, and what it could not check."""
POLICY_STATUS = "PolicyStatus"
"""An admission policy in the cluster."""
POLICY_EXPLANATION = "PolicyExplanation"
"""What the admission policies decide about an address."""
PREFLIGHT = "Preflight"
"""Whether a VM keeps an address; see `doctor --preflight`."""
STATUS = "Status"
"""The state of the cluster on one screen."""
TRACE = "Trace"
"""The way of an address, hop by hop."""
VERSION = "Version"
"""The versions of this program, the CRDs and the API server."""


@contextmanager
def printed_objects(session: Session, output: OutputFormat, *, single: bool = False) -> Iterator[list[Json]]:
    """Print the objects that the block appends, also if it fails after some of them.

    Nothing is printed in human-readable output and under `diff`.

    Args:
        session: where to print.
        output: the value of -o.
        single: the command line names a single object: it is printed alone, not in a List.
    """
    objects: list[Json] = []
    if output.is_human_readable or session.is_diff:
        yield objects
        return
    from kubectl_yoshi.output.formats import print_objects

    try:
        yield objects
    except (YoshiError, click.exceptions.Exit):
        if objects:
            try:
                print_objects(objects, session.out, output, single=single)
            except YoshiError as error:  # of the template; the exit code is that of the command
                print_error(error.in_one_line, session.err)
        session.out.flush()
        raise
    print_objects(objects, session.out, output, single=single)


def attachment_object(vm: NamespacedName, network: str, status: Json) -> Json:
    """Return an Attachment of a network, "namespace/name"; "" for none."""
    return {
        "apiVersion": API_VERSION,
        "kind": ATTACHMENT,
        "metadata": {"name": vm[1], "namespace": vm[0]},
        "spec": {"vm": vm[1], "network": network},
        "status": status,
    }


def attachment_result(result: RunResult, vm: NamespacedName, network: str, state: AddressState) -> Json:
    """Return the Attachment of a VM after a run, or with the error if the run failed for the VM.

    Args:
        result: of the run.
        vm: its namespace and name.
        network: "namespace/name"; "" if only the result has it.
        state: of a VM that the run found complete.
    """
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.plan import AttachmentResult

    owner = "/".join(vm)
    address = result.results.get(owner, "")
    attachment = result.attachments.get(owner, AttachmentResult(network, address, state=state))
    status = {
        "address": attachment.address,
        "mac": attachment.mac,
        "state": attachment.state.value,
        "changed": is_changed(result, owner, attachment.address),
    }
    if error := result.errors.get(owner):
        status |= {"address": "", "mac": "", "state": AddressState.UNKNOWN.value, "error": error.in_one_line}
    return attachment_object(vm, network or attachment.network, status)


def is_changed(result: RunResult, owner: str, address: str) -> bool:
    """Return whether a run changed a VM ("namespace/name"), or its record in a patch shared with other VMs."""
    return result.has_changed(owner) or address in result.shared_records


def address_object(network: NamespacedName, address: str, status: Json) -> Json:
    """Return an Address of a network."""
    return {
        "apiVersion": API_VERSION,
        "kind": ADDRESS,
        "metadata": {"name": address, "namespace": network[0]},
        "spec": {"network": network[1], "address": address},
        "status": status,
    }


def network_of_record(change: Change) -> NamespacedName | None:
    """Return the network whose records a change may change; None for another object."""
    from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
    from kubectl_yoshi.model.objects import dig

    namespace = change.ref.namespace or ""
    if change.ref.resource == NETWORKWIZARD:
        return namespace, change.ref.name
    if change.ref.resource == ADDRESSBLOCK:
        return namespace, str(dig(change.before, "spec", "network", default=""))
    return None


def released_addresses(changes: Iterable[Change]) -> list[Json]:
    """Return an Address for each address whose record these changes remove or replace by a reservation."""
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.allocations import parse_allocation
    from kubectl_yoshi.plan.records import written_records
    from kubectl_yoshi.plan.release import find_released_records

    found: dict[tuple[NamespacedName, str], Json] = {}
    for change in changes:
        if network := network_of_record(change):
            reservations = written_records(change)
            for address, record in find_released_records([change], network[0]).items():
                status = {"state": AddressState.RELEASED.value, "previousHolder": record.holder, "changed": True}
                if address in reservations:
                    holder = parse_allocation(reservations[address], network[0]).holder
                    status |= {"state": AddressState.RESERVED.value, "holder": holder}
                found[(network, address)] = address_object(network, address, status)
    return [*found.values()]


def deleted_objects(changes: Iterable[Change]) -> list[Json]:
    """Return references to the objects that these changes delete."""
    from kubectl_yoshi.model.plan import Verb

    return [reference_object(ref) for ref in dict.fromkeys(c.ref for c in changes if c.verb is Verb.DELETE)]


def reference_object(ref: ObjectRef) -> Json:
    """Return apiVersion, kind, namespace and name of an object, which may no longer exist."""
    namespace = {"namespace": ref.namespace} if ref.namespace else {}
    return {
        "apiVersion": ref.resource.api_version,
        "kind": ref.resource.kind,
        "metadata": {"name": ref.name, **namespace},
    }
