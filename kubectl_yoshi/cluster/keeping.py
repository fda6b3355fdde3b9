"""`sync --watch`: a pass over everything, then one over whatever changes, until it is told to end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from random import Random

from kubectl_yoshi.cluster.api import Api, Listing
from kubectl_yoshi.cluster.attention import Attention
from kubectl_yoshi.cluster.errors import Forbidden, NotServed
from kubectl_yoshi.cluster.following import Broken, Follower, Listed, Lost, News, pause_after
from kubectl_yoshi.cluster.syncing import Report
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Resource
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.syncing import Scope

LONGEST_SLEEP = 60.0


@dataclass(frozen=True)
class Voice:
    """How the program tells what it does.

    Attributes:
        say: a line on what goes well.
        complain: a line on what does not.
        report: told of each pass; shows what it came to.
    """

    say: Callable[[str], None]
    complain: Callable[[str], None]
    report: Callable[[Report], None]


class Keeper:
    """Keeps true what networks and VM annotations ask for.

    Args:
        api: the cluster.
        whole: what is watched over.
        backends: by plugin.
        sync: makes a pass over a part of it.
        voice: see Voice.
    """

    def __init__(
        self, api: Api, whole: Scope, backends: Mapping[str, Backend], sync: Callable[[Scope], Report], voice: Voice
    ) -> None:
        self._api, self._whole, self._backends, self._sync, self._voice = api, whole, backends, sync, voice
        self._news: SimpleQueue[News] = SimpleQueue()
        self._ending = threading.Event()
        self._chance = Random()
        self._failures = 0
        self._lost: set[Resource] = set()

    @property
    def is_ending(self) -> bool:
        """Whether it was told to end."""
        return self._ending.is_set()

    def end(self) -> None:
        """Lets it end as soon as what it is doing is complete. May be called by a signal handler."""
        self._ending.set()
        self._news.put(None)

    def run(self) -> None:
        """Keeps on until told to end.

        Raises:
            YoshiError: it could not even begin: nothing can be read.
        """
        attention = Attention(self._whole, self._backends, self._api.clock.now())
        lists = {resource: self._first_list(resource) for resource in (NETWORKWIZARD, VM)}
        for resource, listing in lists.items():
            attention.know(listing.items if listing else (), resource.kind)
        report = self._sync(self._whole)
        attention.settle(self._whole, report, self._api.clock.now())
        self._voice.report(report)
        followers = [
            Follower(self._api, resource, self._whole.namespace, self._news, listing)
            for resource, listing in lists.items()
        ]
        for follower in followers:
            follower.start()
        self._voice.say(
            f"watching {report.agenda.networks} networks, and {report.agenda.vms} VMs that ask for something"
        )
        try:
            while not self.is_ending:
                self._listen(attention)
                scope = attention.due(self._api.clock.now())
                if scope is not None and not self.is_ending:
                    self._pass_over(scope, attention)
        finally:
            for follower in followers:
                follower.end()
        self._voice.say("ended")

    def _first_list(self, resource: Resource) -> Listing | None:
        """What there is, or None where that kind is not served or may not be seen (yet)."""
        try:
            return self._api.listing(resource, self._whole.namespace)
        except (NotServed, Forbidden):
            return None

    def _listen(self, attention: Attention) -> None:
        """Waits for news, as long as there is nothing to do, and takes all that there is."""
        left = min(max(attention.seconds_left(self._api.clock.now()), 0.0), LONGEST_SLEEP)
        try:
            self._take(self._news.get(timeout=left), attention)
            while True:
                self._take(self._news.get_nowait(), attention)
        except Empty:
            return

    def _take(self, news: News, attention: Attention) -> None:
        if isinstance(news, Broken):
            raise news.error
        if isinstance(news, Lost):
            self._lose(news)
        elif news is not None:
            if isinstance(news, Listed):
                self._found(news.resource)
            attention.hear(news, self._api.clock.now())

    def _lose(self, news: Lost) -> None:
        if isinstance(news.error, Forbidden):
            self._voice.complain(f"{news.error.message} It is looked at again now and then.")
            return
        if not self._in_trouble:
            self._voice.complain(f"{news.error.message} It is tried again until that is over.")
        self._lost.add(news.resource)

    def _found(self, resource: Resource) -> None:
        if resource in self._lost:
            self._lost.discard(resource)
            if not self._in_trouble:
                self._voice.say("the API server answers again")

    @property
    def _in_trouble(self) -> bool:
        return bool(self._lost or self._failures)

    def _pass_over(self, scope: Scope, attention: Attention) -> None:
        if scope.is_whole:
            self._api.rediscover()  # a back-end may have been installed meanwhile
        try:
            report = self._sync(scope)
        except YoshiError as error:
            if not self._in_trouble:
                self._voice.complain(f"{error.message} It is tried again until that is over.")
            self._failures += 1
            attention.put_back(scope, self._api.clock.now(), pause_after(self._failures, self._chance))
            return
        if self._failures:
            self._failures = 0
            if not self._in_trouble:
                self._voice.say("the API server answers again")
        attention.settle(scope, report, self._api.clock.now())
        self._voice.report(report)
