"""Rules about VMs, their instances and pods: 1xxx."""

from __future__ import annotations

from collections.abc import Iterator

from kubectl_yoshi.diagnosis.facts import Facts
from kubectl_yoshi.diagnosis.finding import Observation, Severity
from kubectl_yoshi.diagnosis.rule import rule
from kubectl_yoshi.diagnosis.rules.allocations import observe_row
from kubectl_yoshi.model.address_state import AddressState


@rule("1101", Severity.WARNING, "A VM needs a restart to get, or to give up, its address")
def restart_needed(facts: Facts) -> Iterator[Observation]:
    """The template of a running VM was changed by an attachment or detachment.

    KubeVirt copies the template to the instance when the VM starts, so the address takes effect with a restart.
    """
    for rows in facts.rows.values():
        for row in rows:
            if row.state is AddressState.RESTART_NEEDED and not row.vm_problems:
                sentence = f"{row.holder} runs without its template's latest changes; it needs a restart"
                namespace, _, name = row.holder.partition("/")
                yield observe_row(row, sentence, f"virtctl restart {name} -n {namespace}")
