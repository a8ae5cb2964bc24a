"""Who ends TLS at which listener: made from the plan, kept as long as the plan says the same."""

from collections.abc import Iterable, Mapping

from balancer.proxy.service import ListenerRules
from balancer.wire.tls_contexts import Terminator


def terminators_of(
    listeners: Iterable[ListenerRules], before: Mapping[str, Terminator]
) -> dict[str, Terminator]:
    """One for each listener with TLS; sessions are resumed by those that stay."""
    made: dict[str, Terminator] = {}
    for listener in listeners:
        if listener.tls is None:
            continue
        known = before.get(listener.bind)
        same = known is not None and known.rules == listener.tls
        made[listener.bind] = known if known is not None and same else Terminator(listener.tls)
    return made
