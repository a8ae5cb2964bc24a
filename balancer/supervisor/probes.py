"""From the settings of a pool to the probes and plans that the monitor runs."""

from typing import NamedTuple

from balancer.config.pool_settings import Health, Pool
from balancer.core.address import parse_address
from balancer.wire.proxy_protocol import own_header
from healthcheck.core.schedule import ProbePlan
from healthcheck.probing import Probe
from healthcheck.probing.http import HttpCheck, http_probe
from healthcheck.probing.place import Place
from healthcheck.probing.tcp import tcp_probe


class Checks(NamedTuple):
    """All that makes up the probes of a pool's backends.

    `greeting` is sent before anything else, where the backends want something of the kind.
    """

    health: Health
    greeting: bytes = b""


def checks_of(pool: Pool) -> Checks | None:
    """How the backends of a pool are probed, if they are.

    A port of its own for probes is another service, which is told no PROXY header.
    """
    if pool.health is None:
        return None
    if pool.proxy_protocol == "off" or pool.health.port is not None:
        return Checks(pool.health)
    return Checks(pool.health, own_header(pool.proxy_protocol))


def plan_of(health: Health) -> ProbePlan:
    return ProbePlan(
        interval_s=health.interval,
        transition_interval_s=health.transition_pace,
        timeout_s=health.timeout,
        jitter=health.jitter,
    )


def probe_of(checks: Checks, address: str) -> Probe:
    """The probe of one backend."""
    health, parsed = checks.health, parse_address(address)
    place = Place(
        host=parsed.host,
        port=health.port or parsed.port,
        path=parsed.path,
        greeting=checks.greeting,
    )
    if health.type == "tcp":
        return tcp_probe(place)
    return http_probe(_check_of(health), place)


def _check_of(health: Health) -> HttpCheck:
    return HttpCheck(
        method=health.method,
        path=health.path,
        host=health.host,
        port=health.port,
        headers=dict(health.headers),
        status=tuple(_range_of(text) for text in health.status),
        body_contains=health.body_contains,
        body_matches=health.body_matches,
        body_limit=health.body_limit,
        tls=health.tls,
        verify=health.verify,
    )


def _range_of(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high or low)
