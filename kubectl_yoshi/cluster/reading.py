"""Reading what a plan needs to know, side by side, keeping "is not there" apart from "may not be read"."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from kubectl_yoshi.cluster.api import Api
from kubectl_yoshi.cluster.errors import ClusterError, Forbidden, NotAnswering, NotFound, NotServed
from kubectl_yoshi.cluster.permissions import may, missing_right
from kubectl_yoshi.model.access import Access
from kubectl_yoshi.model.facts import Read, Unknown
from kubectl_yoshi.model.lean import lean_of
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, Resource, name_of
from kubectl_yoshi.model.vm import VM

PARALLEL = 8
MANY = 50
"""From so many objects of one kind and namespace on, one list is cheaper than a request each…"""
OTHERS = 20
"""… unless for each of them it has more objects than this."""

OURS = (NETWORKWIZARD, ADDRESSBLOCK)
"""Where these are not served `kubectl yoshi install` was not run, which is no reason to find nothing."""

CORE = (NETWORKWIZARD.group, VM.group)
"""The API server serves these itself: where they do not answer nothing does, and a moment later all is known."""

Answer = tuple[Json, ...] | Unknown


def read(api: Api, reads: Iterable[Read], lean: bool = False) -> dict[Read, Answer]:
    """The answer to each wish.

    Args:
        api: the cluster.
        reads: what is wanted.
        lean: nothing will be written: of lists, only what is looked at need be kept (see model.lean).

    Returns:
        What was found: () where it is not there, or its kind is not served; Unknown with one line of why where the
        right to read it is missing or the aggregated API that serves it does not answer.

    Raises:
        NotServed: this program's own kinds are not there.
        NotAnswering: these, or KubeVirt's, cannot be read for the moment.
        ClusterError: anything else.
    """
    wanted = list(dict.fromkeys(reads))
    crowds = {place: crowd for place, crowd in _crowds(wanted).items() if _worth_a_list(api, *place, len(crowd))}
    in_crowds = {one for crowd in crowds.values() for one in crowd}
    answers: dict[Read, Answer] = {}

    lists = [Read(resource, namespace) for resource, namespace in crowds]
    alone = [one for one in wanted if one not in in_crowds and one not in lists]
    answers.update(_side_by_side(api, lists + alone, lean))

    refused: list[Read] = []
    for (resource, namespace), crowd in crowds.items():
        listed = answers[Read(resource, namespace)]
        if isinstance(listed, Unknown):  # who may not list may still get
            refused += crowd
        else:
            by_name = {name_of(obj): obj for obj in listed}
            answers.update({one: (by_name[one.name],) if one.name in by_name else () for one in crowd})
    answers.update(_side_by_side(api, refused, lean))
    return {one: answers[one] for one in wanted}


def _crowds(wanted: list[Read]) -> dict[tuple[Resource, str | None], list[Read]]:
    """Objects wanted by name, where there are MANY of one kind and namespace."""
    by_place: dict[tuple[Resource, str | None], list[Read]] = defaultdict(list)
    for one in wanted:
        if one.name and not one.verb and (one.namespace or not one.resource.namespaced):
            by_place[(one.resource, one.namespace)].append(one)
    return {place: crowd for place, crowd in by_place.items() if len(crowd) >= MANY}


def _worth_a_list(api: Api, resource: Resource, namespace: str | None, wanted: int) -> bool:
    try:
        return api.count(resource, namespace) <= OTHERS * wanted
    except ClusterError:  # the list will say what is wrong
        return True


def _side_by_side(api: Api, wanted: list[Read], lean: bool) -> dict[Read, Answer]:
    if len(wanted) <= 1:
        return {one: _read_one(api, one, lean) for one in wanted}
    with ThreadPoolExecutor(min(PARALLEL, len(wanted))) as pool:
        return dict(zip(wanted, pool.map(lambda one: _read_one(api, one, lean), wanted), strict=True))


def _read_one(api: Api, one: Read, lean: bool) -> Answer:
    if one.verb:
        access = Access(one.verb, one.resource, one.namespace, one.name)
        return () if may(api, access) else ({"forbidden": missing_right(access)},)
    try:
        if one.name:
            return (api.get(one.resource.ref(one.name, one.namespace)),)
        if one.as_table:
            return api.table(one.resource, one.namespace, label_selector=one.label_selector)
        keep = lean_of(one.resource) if lean else None
        return api.list(one.resource, one.namespace, label_selector=one.label_selector, keep=keep)
    except NotFound:
        return ()
    except NotServed:
        if one.resource in OURS:
            raise
        return ()
    except Forbidden as error:
        return Unknown(error.missing)
    except NotAnswering as error:
        if one.resource.group in CORE:
            raise
        return Unknown(error.message)
