"""What an operator may want to know about a config that is valid: likely slips, and what to expect.

Advice only; nothing here refuses a config.
"""

from collections.abc import Iterator

from balancer.config.durations import format_duration
from balancer.config.errors import Finding, Place
from balancer.config.pool_settings import Health, Pool
from balancer.config.settings import Listener, Route, Settings
from balancer.config.wording import dotted


def warnings_about(settings: Settings) -> Iterator[Finding]:
    """What is allowed and yet seldom meant."""
    for at, listener in enumerate(settings.listeners):
        yield from _about_listener(listener, ("listeners", at))
    routed = {route.pool for route in settings.routes_in_effect}
    for name, pool in settings.pools.items():
        place = ("pools", name)
        if name not in routed:
            yield Finding(path=place, message="no route leads to this pool")
        yield from _about_backends(pool, place)
        if pool.health is not None:
            yield from _about_health(pool.health, (*place, "health"), tls=pool.probes_speak_tls)
    yield from _never_reached(settings.routes)


def _about_listener(listener: Listener, place: Place) -> Iterator[Finding]:
    tls = listener.tls
    if tls is not None and tls.client_auth == "off" and tls.client_ca is not None:
        message = "means nothing while 'client_auth' is \"off\""
        yield Finding(path=(*place, "tls", "client_ca"), message=message)
    if listener.proxy_protocol == "off" and listener.proxy_protocol_from is not None:
        message = "means nothing while 'proxy_protocol' is \"off\""
        yield Finding(path=(*place, "proxy_protocol_from"), message=message)
    port = listener.bind.rpartition(":")[2]
    if listener.https_redirect is not None and port == str(listener.https_redirect):
        message = "is the port of this listener, so clients would be sent here again and again"
        yield Finding(path=(*place, "https_redirect"), message=message)


def _about_backends(pool: Pool, place: Place) -> Iterator[Finding]:
    if not pool.backends:
        message = "has no backends; its requests are answered 503 until one is added"
        yield Finding(path=place, message=message)
    elif not any(backend.weight for backend in pool.backends):
        message = "every backend has weight 0, so none takes requests"
        yield Finding(path=place, message=message)
    if pool.health is None:
        only = "only failing requests show" if pool.passive.enabled else "nothing shows"
        message = f"has no active checks (health); {only} that a backend is down"
        yield Finding(path=place, message=message)


def _about_health(health: Health, place: Place, *, tls: bool) -> Iterator[Finding]:
    interval = format_duration(health.interval)
    if health.timeout > health.interval:
        message = (
            f"{format_duration(health.timeout)} is longer than the interval ({interval}),"
            " so a backend that hangs is noticed later than the interval suggests"
        )
        yield Finding(path=(*place, "timeout"), message=message)
    if health.transition_pace > health.interval:
        message = f"is longer than the interval ({interval}); it is meant to be shorter"
        yield Finding(path=(*place, "transition_interval"), message=message)
    if health.verify is not None and not tls:
        yield Finding(path=(*place, "verify"), message="means nothing without tls = true")


def _never_reached(routes: tuple[Route, ...]) -> Iterator[Finding]:
    for at, route in enumerate(routes):
        for before, earlier in enumerate(routes[:at]):
            if _covers(earlier, route):
                message = f"is never reached; {dotted(('routes', before))} takes all it matches"
                yield Finding(path=("routes", at), message=message, first=("routes", before))
                break


def _covers(earlier: Route, later: Route) -> bool:
    hosts = earlier.host is None or later.host == earlier.host
    if earlier.host is not None and earlier.host.startswith("*.") and later.host is not None:
        hosts = hosts or later.host.endswith(earlier.host[1:])
    prefix = earlier.path.rstrip("/") + "/"
    return hosts and f"{later.path}/".startswith(prefix)


def expectations(settings: Settings) -> Iterator[str]:
    """One line a pool: how soon probes notice that a backend dies, and that it is back."""
    for name, pool in settings.pools.items():
        if pool.health is not None:
            yield f"pool {name}: {_detection(pool.health)}"


def _detection(health: Health) -> str:
    out = _span(health, health.fails)
    back = _span(health, health.passes)
    return (
        f"probes take a dead backend out after {out}"
        f" (up to {health.timeout:g} s more if it hangs), and bring it back after {back}"
    )


def _span(health: Health, verdicts: int) -> str:
    """The first verdict comes within one interval; the others follow at the pace of transition."""
    least = (verdicts - 1) * health.transition_pace
    return f"{least:.3g} to {least + health.interval:.3g} s"
