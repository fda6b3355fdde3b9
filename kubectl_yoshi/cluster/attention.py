"""What `sync --watch` has to look at next: what changed, what failed and is to be tried again, and all now and then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubectl_yoshi.cluster.following import Happened, Listed
from kubectl_yoshi.cluster.syncing import Report
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import UsageMistake, YoshiError
from kubectl_yoshi.model.network import parse_network_name
from kubectl_yoshi.model.objects import Json, Name, dig, metadata, name_of, namespace_of, uid_of
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.restarts import START_AGAIN
from kubectl_yoshi.plan.syncing import Scope

QUIET_SECONDS = 0.1
"""What changes together is looked at together: until nothing more comes for so long …"""
LONGEST_DELAY = 0.5
"""… but no longer than this."""
EVERYTHING_SECONDS = 600.0
LATER_SECONDS = 2.0
FIRST_RETRY, LAST_RETRY = 10.0, 300.0


@dataclass
class _Trial:
    """Something that failed: when it is tried again, and how long after the last time that is."""

    due: float
    delay: float


@dataclass
class Attention:
    """What is to be looked at. Times are seconds that only go forward.

    Args:
        whole: everything that is watched over.
        backends: by plugin.
        now: the time.
    """

    whole: Scope
    backends: Mapping[str, Backend]
    now: float
    networks: set[Name] = field(default_factory=set)
    vms: set[Name] = field(default_factory=set)
    leftovers: bool = False
    _seen: dict[tuple[str, Name], Any] = field(default_factory=dict)
    _asked_by: dict[Name, frozenset[Name]] = field(default_factory=dict)
    _networks_failed: dict[Name, _Trial] = field(default_factory=dict)
    _vms_failed: dict[Name, _Trial] = field(default_factory=dict)
    _first_news: float = 0.0
    _last_news: float = 0.0
    _held_until: float = 0.0

    def __post_init__(self) -> None:
        self._everything_due = self.now + EVERYTHING_SECONDS

    # -- what happens ----------------------------------------------------------------------------------------------

    def know(self, objects: Iterable[Json], resource_kind: str) -> None:
        """These are there, and were or will be looked at anyway."""
        for obj in objects:
            self._remember(resource_kind, obj)

    def hear(self, news: Happened | Listed, now: float) -> None:
        """Something happened: what of it matters is looked at soon."""
        kind = news.resource.kind
        before = self._size()
        if isinstance(news, Happened):
            self._gone(kind, _name(news.obj)) if news.deleted else self._there(kind, news.obj)
        else:
            present = {_name(obj) for obj in news.objects}
            for obj in news.objects:
                self._there(kind, obj)
            for name in [name for known, name in self._seen if known == kind and name not in present]:
                self._gone(kind, name)
        if self._size() != before:
            self._first_news = now if not before else self._first_news
            self._last_news = now

    def _size(self) -> int:
        return len(self.networks) + len(self.vms) + self.leftovers

    def _there(self, kind: str, obj: Json) -> None:
        name = _name(obj)
        before = self._seen.get((kind, name))
        after = self._remember(kind, obj)
        if before == after:
            return
        if kind == VM.kind:
            if self._asked_by.get(name) or START_AGAIN in Vm(obj).annotations:
                self.vms.add(name)
            else:
                self._vms_failed.pop(name, None)
            return
        if before is None or before[:-1] != after[:-1]:
            self.networks.add(name)
            self._try_again(name)
        elif before[-1].keys() - after[-1].keys():
            self._try_again(name)  # addresses were given back

    def _try_again(self, network: Name) -> None:
        """Whoever could not be attached to a network may be now."""
        self.vms |= {vm for vm in self._vms_failed if network in self._asked_by.get(vm, ())}

    def _gone(self, kind: str, name: Name) -> None:
        self._seen.pop((kind, name), None)
        if kind == VM.kind:
            self._asked_by.pop(name, None)
            self._vms_failed.pop(name, None)
            self.vms.discard(name)
            return
        self.networks.discard(name)
        self._networks_failed.pop(name, None)
        self.leftovers = True
        self.networks |= self._networks_failed.keys()  # it may have been in their way
        self.vms |= {vm for vm, asked in self._asked_by.items() if name in asked}

    def _remember(self, kind: str, obj: Json) -> Any:
        """What of an object matters here, so that a change of the rest is none."""
        name = _name(obj)
        meta = metadata(obj)
        mark: tuple[Any, ...] = (uid_of(obj), meta.get("generation"), meta.get("deletionTimestamp"))
        if kind == VM.kind:
            vm = Vm(obj)
            self._asked_by[name] = _asked_by(vm, self.backends)
            state = dig(obj, "status", "printableStatus") if START_AGAIN in vm.annotations else None
            mark = (*mark, dict(vm.annotations), state)
        else:
            mark = (*mark, dig(obj, "status", "allocations", default={}))
        self._seen[(kind, name)] = mark
        return mark

    # -- what to do ------------------------------------------------------------------------------------------------

    def due(self, now: float) -> Scope | None:
        """What is to be looked at now; None for nothing yet. It counts as looked at from here on."""
        if self.seconds_left(now) > 0:
            return None
        if now >= self._everything_due:
            self._everything_due = now + EVERYTHING_SECONDS
            self._forget()
            return self.whole
        networks = self.networks | {name for name, trial in self._networks_failed.items() if trial.due <= now}
        vms = self.vms | {name for name, trial in self._vms_failed.items() if trial.due <= now}
        leftovers = self.leftovers
        self._forget()
        whole = self.whole
        return Scope(whole.namespace, frozenset(networks), frozenset(vms), leftovers, whole.restart)

    def seconds_left(self, now: float) -> float:
        """How long there is nothing to do, if nothing happens."""
        times = [self._everything_due, *(t.due for t in self._networks_failed.values())]
        times += [trial.due for trial in self._vms_failed.values()]
        if self._size():
            times.append(min(self._last_news + QUIET_SECONDS, self._first_news + LONGEST_DELAY))
        return max(min(times), self._held_until) - now

    def _forget(self) -> None:
        self.networks, self.vms, self.leftovers = set(), set(), False

    def settle(self, scope: Scope, report: Report, now: float) -> None:
        """A pass is over: what it could not do is tried again, later each time."""
        mended = _settle(self._networks_failed, report.networks, scope.networks, now)
        _settle(self._vms_failed, report.vms, scope.vms, now)
        for network in mended:
            self._try_again(network)
        for name in report.agenda.later:
            self._vms_failed[name] = _Trial(now + LATER_SECONDS, FIRST_RETRY / 2)

    def put_back(self, scope: Scope, now: float, seconds: float) -> None:
        """A pass could not be done at all: nothing is done for so long, then all of it."""
        self._held_until = now + seconds
        self._last_news = self._first_news = now
        if scope.networks is None or scope.vms is None:
            self._everything_due = now
            return
        self.networks |= scope.networks
        self.vms |= scope.vms
        self.leftovers = self.leftovers or scope.leftovers


def _name(obj: Json) -> Name:
    return namespace_of(obj), name_of(obj)


def _asked_by(vm: Vm, backends: Mapping[str, Backend]) -> frozenset[Name]:
    """The networks that a VM's annotations name; itself where they cannot be told, so that it counts as asking."""
    names: set[Name] = set()
    for backend in backends.values():
        try:
            wishes = backend.wishes(vm)
            names |= {parse_network_name(text, vm.namespace) for text in wishes.networks}
        except UsageMistake:
            names.add((vm.namespace, ""))
            continue
        if wishes.addresses:
            names.add((vm.namespace, ""))
    return frozenset(names)


def _settle(
    trials: dict[Name, _Trial], failed: Mapping[Name, YoshiError], looked_at: frozenset[Name] | None, now: float
) -> list[Name]:
    """Notes down when what failed is tried again; gives what had failed before and is well now."""
    mended = [name for name in trials if name not in failed and (looked_at is None or name in looked_at)]
    for name in mended:
        del trials[name]
    for name in failed:
        delay = min(trials[name].delay * 2, LAST_RETRY) if name in trials else FIRST_RETRY
        trials[name] = _Trial(now + delay, delay)
    return mended
