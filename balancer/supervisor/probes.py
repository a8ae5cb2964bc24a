"""From health settings to the probes and plans that the monitor runs."""

from balancer.config.pool_settings import Health
from balancer.core.address import parse_address
from healthcheck.core.schedule import ProbePlan
from healthcheck.probing import Probe
from healthcheck.probing.http import HttpCheck, http_probe
from healthcheck.probing.place import Place
from healthcheck.probing.tcp import tcp_probe


def plan_of(health: Health) -> ProbePlan:
    return ProbePlan(
        interval_s=health.interval,
        transition_interval_s=health.transition_pace,
        timeout_s=health.timeout,
        jitter=health.jitter,
    )


def probe_of(health: Health, address: str) -> Probe:
    """The probe of one backend."""
    parsed = parse_address(address)
    place = Place(host=parsed.host, port=health.port or parsed.port, path=parsed.path)
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
