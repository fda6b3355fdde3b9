"""Rules about security: 5xxx."""

from __future__ import annotations

from collections.abc import Iterator

from kubectl_yoshi import __version__
from kubectl_yoshi.diagnosis import remedies
from kubectl_yoshi.diagnosis.facts import Facts
from kubectl_yoshi.diagnosis.finding import Observation, Severity
from kubectl_yoshi.diagnosis.rule import rule
from kubectl_yoshi.model.network import VERSION_ANNOTATION, is_older
from kubectl_yoshi.model.objects import POLICY, POLICY_BINDING, annotations_of, dig, name_of
from kubectl_yoshi.plan.address_policies import ADDRESS_USE_POLICIES, binding_name, list_unbound_namespaces

ENFORCE = ("kubectl yoshi install --policy enforce",)


@rule("5501", Severity.INFO, "No admission policy protects addresses")
def no_policy(facts: Facts) -> Iterator[Observation]:
    """Users who can write VMs or the status of networks can take addresses that belong to other namespaces.

    The admission policies of yoshi refuse that: `kubectl yoshi install --policy enforce`. They need Kubernetes 1.30 or
    newer, which serves ValidatingAdmissionPolicy.
    """
    if not facts.is_served(POLICY_BINDING):
        message = f"the API server does not serve {POLICY.full_name}, so nothing protects addresses"
    elif facts.objects(POLICY_BINDING) or facts.objects(POLICY):
        return
    else:
        message = "the admission policies of yoshi are not installed"
    yield Observation(POLICY.ref("yoshi"), message, commands=ENFORCE)


@rule("5502", Severity.WARNING, "An admission policy does not refuse anything, or is of an older version")
def ineffective_policy(facts: Facts) -> Iterator[Observation]:
    """A policy without a binding has no effect; one that only warns and audits lets requests pass.

    The bindings were deleted, or the policies were installed for a test (audit). A policy of an older version may lack
    rules. `kubectl yoshi install --policy enforce` installs those of this version.
    """
    if not facts.is_served(POLICY_BINDING):
        return
    bindings, policies = facts.objects(POLICY_BINDING), facts.objects(POLICY)
    for policy in policies:
        name = name_of(policy)
        own = [binding for binding in bindings if dig(binding, "spec", "policyName") == name]
        actions = sorted({action for one in own for action in dig(one, "spec", "validationActions", default=[])})
        version = annotations_of(policy).get(VERSION_ANNOTATION, "")
        if not own:
            message = f"policy {name} has no binding"
        elif "Deny" not in actions:
            message = f"policy {name} does not refuse requests, its validationActions are {', '.join(actions)}"
        elif is_older(version):
            message = f"policy {name} is of {version or 'an unknown version'}, and this is {__version__}"
        else:
            continue
        yield Observation(POLICY.ref(name), message, field="spec", commands=ENFORCE)
    names = {name_of(policy) for policy in policies}
    for binding in bindings:
        if (missing := str(dig(binding, "spec", "policyName"))) not in names:
            message = f"binding {name_of(binding)} is of policy {missing}, which does not exist"
            yield Observation(POLICY_BINDING.ref(name_of(binding)), message, "spec.policyName", commands=ENFORCE)


@rule("5503", Severity.WARNING, "Objects of other namespaces are not compared with the networks of a namespace")
def unbound_namespace(facts: Facts) -> Iterator[Observation]:
    """Users of other namespaces can take addresses of the networks, although the policies are installed.

    Each namespace with networks needs bindings of its own for the policies yoshi-address-use and
    yoshi-address-use-blocks. They are cluster-scoped, and not all users who can create networks can create them.
    `kubectl yoshi sync` by an administrator of the cluster does.
    """
    if not facts.is_served(POLICY_BINDING):
        return
    networks = {network.namespace: network for network in reversed(facts.networks)}
    for namespace in list_unbound_namespaces(facts.objects(POLICY_BINDING), networks):
        network = networks[namespace]
        message = f"only objects of namespace {namespace} are compared with the networks in it"
        ref = POLICY_BINDING.ref(binding_name(ADDRESS_USE_POLICIES[0], namespace))
        yield Observation(ref, message, commands=(remedies.sync(network),), network=(network.namespace, network.name))
