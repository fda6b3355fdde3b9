"""The rules, a module for each family: allocations 0xxx, VMs 1xxx, public addresses 2xxx, capacity 3xxx, nodes and
Layer 2 4xxx, security 5xxx.

A new rule is a function with the decorator `rule` in the module of its family, and a test.
"""

from __future__ import annotations

from kubectl_yoshi.diagnosis.rule import Rule
from kubectl_yoshi.diagnosis.rules import allocations, capacity, nodes, public_addresses, security, vms

FAMILIES = (allocations, vms, public_addresses, capacity, nodes, security)

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (value for family in FAMILIES for value in vars(family).values() if isinstance(value, Rule)),
        key=lambda rule: rule.number,
    )
)
"""All rules, by number."""

VM_RULES = tuple(rule for rule in RULES if rule.number[0] not in "35")
"""The rules that may report a VM; the others are about networks and the cluster."""

ALLOCATION_RULES = (*(rule for rule in RULES if rule.number.startswith("0")), vms.restart_needed)
"""The rules of `ips check`: the addresses are used as they are recorded."""
