"""From the settings of a pool to the probes and plans that the monitor runs."""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from balancer.config.pool_settings import Health, Pool
from balancer.core.address import parse_address
from balancer.wire.backend_tls import BackendTlsRules, backend_context
from balancer.wire.proxy_protocol import own_header
from healthcheck.core.schedule import ProbePlan
from healthcheck.probing import Probe
from healthcheck.probing.http import HttpCheck, http_probe
from healthcheck.probing.place import Place
from healthcheck.probing.tcp import tcp_probe


class Checks(NamedTuple):
    """All that makes up the probes of a pool's backends.

    `greeting` is sent before anything else, where the backends want something of the kind. `tls`:
    probes ask over https, by these rules.
    """

    health: Health
    greeting: bytes = b""
    tls: BackendTlsRules | None = None


def checks_of(pool: Pool, tls: BackendTlsRules | None = None) -> Checks | None:
    """How the backends of a pool are probed, if they are; `tls`: as requests speak it.

    A port of its own for probes is another service, which is told no PROXY header.
    """
    if pool.health is None:
        return None
    greeting = b""
    if pool.proxy_protocol != "off" and pool.health.port is None:
        greeting = own_header(pool.proxy_protocol)
    return Checks(pool.health, greeting, _tls_of(pool, pool.health, tls))


def _tls_of(pool: Pool, health: Health, tls: BackendTlsRules | None) -> BackendTlsRules | None:
    """As requests speak it, unless the probes' own settings say otherwise."""
    if not pool.probes_speak_tls:
        return None
    rules = tls or BackendTlsRules()
    return rules if health.verify is None else replace(rules, verify=health.verify)


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
    return http_probe(_check_of(health, checks.tls), place)


def _check_of(health: Health, tls: BackendTlsRules | None) -> HttpCheck:
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
        tls=tls is not None,
        tls_context=None if tls is None else _context_of(tls),
        server_name=None if tls is None else tls.server_name,
    )


# Reading the system's authorities takes the time of many probes; one context is for all of a pool.
_context_of = lru_cache(maxsize=64)(backend_context)


def _range_of(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high or low)
