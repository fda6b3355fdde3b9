"""The work queue of `sync --watch`: what has changed, what failed and is retried, and a periodic full pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubectl_yoshi.engine.reflector import ObjectChanged, ObjectsListed
from kubectl_yoshi.engine.sync import SyncReport
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import UsageError, YoshiError
from kubectl_yoshi.model.network import parse_network_name
from kubectl_yoshi.model.objects import Json, NamespacedName, dig, metadata, name_of, namespace_of, uid_of
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.restart import START_AGAIN_ANNOTATION
from kubectl_yoshi.plan.sync.planner import SyncScope

DEBOUNCE_SECONDS = 0.1
"""Changes are collected until there is none for this long, in seconds…"""
MAX_DELAY = 0.5
"""… but no longer than this."""
FULL_SYNC_SECONDS = 600.0
DEFERRED_SECONDS = 2.0
MIN_RETRY_DELAY, MAX_RETRY_DELAY = 10.0, 300.0


@dataclass
class _Retry:
    """A failed item: when it is retried, and the delay since its previous attempt, in seconds."""

    due_at: float
    delay: float


@dataclass
class WorkQueue:
    """The items to reconcile. Times are seconds of a monotonic clock.

    Args:
        full_scope: everything that is watched.
        backends: by plugin.
        now: the time.
    """

    full_scope: SyncScope
    backends: Mapping[str, Backend]
    now: float
    networks: set[NamespacedName] = field(default_factory=set)
    vms: set[NamespacedName] = field(default_factory=set)
    include_orphans: bool = False
    _fingerprints: dict[tuple[str, NamespacedName], Any] = field(default_factory=dict)
    _requested_networks: dict[NamespacedName, frozenset[NamespacedName]] = field(default_factory=dict)
    _networks_failed: dict[NamespacedName, _Retry] = field(default_factory=dict)
    _vms_failed: dict[NamespacedName, _Retry] = field(default_factory=dict)
    _first_event_at: float = 0.0
    _last_event_at: float = 0.0
    _paused_until: float = 0.0

    def __post_init__(self) -> None:
        self._full_sync_due = self.now + FULL_SYNC_SECONDS

    # -- events -------------------------------------------------------------------------------------------------------

    def mark_known(self, objects: Iterable[Json], resource_kind: str) -> None:
        """Register existing objects, which are reconciled without an event."""
        for obj in objects:
            self._update_fingerprint(resource_kind, obj)

    def add_event(self, event: ObjectChanged | ObjectsListed, now: float) -> None:
        """Add an event: relevant changes are reconciled soon."""
        kind = event.resource.kind
        before = self._size()
        if isinstance(event, ObjectChanged):
            self._handle_deleted(kind, _name(event.obj)) if event.deleted else self._handle_present(kind, event.obj)
        else:
            present = {_name(obj) for obj in event.objects}
            for obj in event.objects:
                self._handle_present(kind, obj)
            for name in [name for known, name in self._fingerprints if known == kind and name not in present]:
                self._handle_deleted(kind, name)
        if self._size() != before:
            self._first_event_at = now if not before else self._first_event_at
            self._last_event_at = now

    def _size(self) -> int:
        return len(self.networks) + len(self.vms) + self.include_orphans

    def _handle_present(self, kind: str, obj: Json) -> None:
        name = _name(obj)
        before = self._fingerprints.get((kind, name))
        after = self._update_fingerprint(kind, obj)
        if before == after:
            return
        if kind == VM.kind:
            if self._requested_networks.get(name) or START_AGAIN_ANNOTATION in Vm(obj).annotations:
                self.vms.add(name)
            else:
                self._vms_failed.pop(name, None)
            return
        if before is None or before[:-1] != after[:-1]:
            self.networks.add(name)
            self._requeue_failed_vms(name)
        elif before[-1].keys() - after[-1].keys():
            self._requeue_failed_vms(name)  # addresses were released

    def _requeue_failed_vms(self, network: NamespacedName) -> None:
        """Requeue VMs that could not be attached to a network, as it may accept them now."""
        self.vms |= {vm for vm in self._vms_failed if network in self._requested_networks.get(vm, ())}

    def _handle_deleted(self, kind: str, name: NamespacedName) -> None:
        self._fingerprints.pop((kind, name), None)
        if kind == VM.kind:
            self._requested_networks.pop(name, None)
            self._vms_failed.pop(name, None)
            self.vms.discard(name)
            return
        self.networks.discard(name)
        self._networks_failed.pop(name, None)
        self.include_orphans = True
        self.networks |= self._networks_failed.keys()  # it may have conflicted with them
        self.vms |= {vm for vm, requested in self._requested_networks.items() if name in requested}

    def _update_fingerprint(self, kind: str, obj: Json) -> Any:
        """Store and return the relevant part of an object; other changes of it are ignored."""
        name = _name(obj)
        meta = metadata(obj)
        fingerprint: tuple[Any, ...] = (uid_of(obj), meta.get("generation"), meta.get("deletionTimestamp"))
        if kind == VM.kind:
            vm = Vm(obj)
            self._requested_networks[name] = _requested_networks(vm, self.backends)
            state = dig(obj, "status", "printableStatus") if START_AGAIN_ANNOTATION in vm.annotations else None
            fingerprint = (*fingerprint, dict(vm.annotations), state)
        else:
            fingerprint = (*fingerprint, dig(obj, "status", "allocations", default={}))
        self._fingerprints[(kind, name)] = fingerprint
        return fingerprint

    # -- scheduling ---------------------------------------------------------------------------------------------------

    def pop_due(self, now: float) -> SyncScope | None:
        """Return what to reconcile now, and remove it from the queue; None if nothing is due."""
        if self.seconds_until_due(now) > 0:
            return None
        if now >= self._full_sync_due:
            self._full_sync_due = now + FULL_SYNC_SECONDS
            self._clear()
            return self.full_scope
        networks = self.networks | {name for name, retry in self._networks_failed.items() if retry.due_at <= now}
        vms = self.vms | {name for name, retry in self._vms_failed.items() if retry.due_at <= now}
        include_orphans = self.include_orphans
        self._clear()
        full_scope = self.full_scope
        return SyncScope(full_scope.namespace, frozenset(networks), frozenset(vms), include_orphans, full_scope.restart)

    def seconds_until_due(self, now: float) -> float:
        """Return the seconds until something is due, if no event arrives."""
        times = [self._full_sync_due, *(t.due_at for t in self._networks_failed.values())]
        times += [retry.due_at for retry in self._vms_failed.values()]
        if self._size():
            times.append(min(self._last_event_at + DEBOUNCE_SECONDS, self._first_event_at + MAX_DELAY))
        return max(min(times), self._paused_until) - now

    def _clear(self) -> None:
        self.networks, self.vms, self.include_orphans = set(), set(), False

    def finish(self, scope: SyncScope, report: SyncReport, now: float) -> None:
        """Process the result of a pass: its failures are retried, with increasing delays."""
        recovered = _update_retries(self._networks_failed, report.network_errors, scope.networks, now)
        _update_retries(self._vms_failed, report.vm_errors, scope.vms, now)
        for network in recovered:
            self._requeue_failed_vms(network)
        for name in report.sync_plan.deferred:
            self._vms_failed[name] = _Retry(now + DEFERRED_SECONDS, MIN_RETRY_DELAY / 2)

    def requeue(self, scope: SyncScope, now: float, seconds: float) -> None:
        """Requeue a pass that failed as a whole; nothing is due for this number of seconds, then all of it."""
        self._paused_until = now + seconds
        self._last_event_at = self._first_event_at = now
        if scope.networks is None or scope.vms is None:
            self._full_sync_due = now
            return
        self.networks |= scope.networks
        self.vms |= scope.vms
        self.include_orphans = self.include_orphans or scope.include_orphans


def _name(obj: Json) -> NamespacedName:
    return namespace_of(obj), name_of(obj)


def _requested_networks(vm: Vm, backends: Mapping[str, Backend]) -> frozenset[NamespacedName]:
    """Return the networks that a VM's annotations name.

    An entry with an empty name stands for requests that name no network or cannot be parsed, so that the VM counts as
    requesting.
    """
    names: set[NamespacedName] = set()
    for backend in backends.values():
        try:
            requested_networks = backend.requested_networks(vm)
            names |= {parse_network_name(text, vm.namespace) for text in requested_networks.networks}
        except UsageError:
            names.add((vm.namespace, ""))
            continue
        if requested_networks.addresses:
            names.add((vm.namespace, ""))
    return frozenset(names)


def _update_retries(
    retries: dict[NamespacedName, _Retry],
    failed: Mapping[NamespacedName, YoshiError],
    synced: frozenset[NamespacedName] | None,
    now: float,
) -> list[NamespacedName]:
    """Schedule retries of failed items; return those that failed before and have recovered."""
    recovered = [name for name in retries if name not in failed and (synced is None or name in synced)]
    for name in recovered:
        del retries[name]
    for name in failed:
        delay = min(retries[name].delay * 2, MAX_RETRY_DELAY) if name in retries else MIN_RETRY_DELAY
        retries[name] = _Retry(now + delay, delay)
    return recovered
