"""What workers are told: the settings, the snapshots and the sockets, as plans and news.

Plain: everything comes in, and nothing is sent here.
"""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from balancer.config.client_settings import Client
from balancer.config.pool_settings import Pool as PoolSettings
from balancer.config.settings import Listener, Log, Settings
from balancer.config.tls_settings import ListenerTls
from balancer.core.client_limits import NO_LIMIT, ClientLimits
from balancer.core.field_names import FieldRules
from balancer.core.places import share
from balancer.core.snapshot import PoolSnapshot
from balancer.core.tunnels import TunnelLimits
from balancer.proxy.pool import PoolLimits
from balancer.proxy.service import ListenerRules
from balancer.supervisor.certificate_files import NOTHING, Loaded
from balancer.supervisor.slots import Slot
from balancer.wire.tls_contexts import TlsRules
from balancer.worker.messages import LogPlan, Plan, PoolNews, PoolPlan, RoutePlan, SocketKey


class Alike(NamedTuple):
    """What is the same for every worker of an instance, beside its settings."""

    workers: int
    pseudonym: bytes
    log: LogPlan
    certificates: Loaded


def plan_of(
    settings: Settings,
    snapshots: Mapping[str, PoolSnapshot],
    *,
    number: int,
    slot: Slot,
    sockets: Collection[SocketKey],
    leaving: Collection[SocketKey],
    alike: Alike,
) -> Plan:
    """All that one worker is to be."""
    return Plan(
        number=number,
        slot=slot.number,
        row=slot.row,
        limits=client_limits(settings.client),
        in_flight_max=settings.max_in_flight,
        listeners=tuple(
            _rules_of(
                listener, settings, alike.workers, alike.certificates.rules.get(listener.bind)
            )
            for listener in settings.listeners
        ),
        trusted_proxies=settings.trusted_proxies,
        fields=FieldRules(
            pseudonym=alike.pseudonym,
            allowed=frozenset(name.encode("ascii") for name in settings.client.allow_fields),
        ),
        routes=tuple(
            RoutePlan(route.host, route.path, route.pool) for route in settings.routes_in_effect
        ),
        pools=tuple(
            PoolPlan(
                news=pool_news(number, snapshot),
                limits=limits_of(settings.pools[name], alike.certificates),
                base_ejection_s=settings.pools[name].passive.base_ejection,
            )
            for name, snapshot in snapshots.items()
        ),
        sockets=tuple(sockets),
        leaving=tuple(leaving),
        accept=slot.accepts,
        log=alike.log,
        orphan_s=settings.orphan_timeout,
        shutdown_s=settings.shutdown_timeout,
    )


def _rules_of(
    listener: Listener, settings: Settings, workers: int, tls: TlsRules | None
) -> ListenerRules:
    believed = listener.proxy_protocol_from
    return ListenerRules(
        bind=listener.bind,
        connections_max=share(listener.max_connections, workers) or NO_LIMIT,
        proxy_protocol=listener.proxy_protocol == "required",
        proxy_protocol_from=settings.trusted_proxies if believed is None else believed,
        tls=tls,
        https_port=listener.https_redirect,
        hsts=b"" if listener.tls is None else _hsts_of(listener.tls),
    )


def client_limits(client: Client) -> ClientLimits:
    """What clients are allowed on the data path."""
    return ClientLimits(
        header_s=client.header_timeout,
        idle_s=client.idle_timeout,
        body_s=client.body_timeout,
        head_bytes_max=client.max_header,
        fields_max=client.max_fields,
        target_bytes_max=client.max_target,
        body_bytes_max=client.max_body or NO_LIMIT,
        upload_rate_min=client.min_upload_rate,
        download_rate_min=client.min_download_rate,
        requests_max=client.max_requests or NO_LIMIT,
        age_max_s=client.max_age or math.inf,
        per_address_max=client.max_connections_per_address or NO_LIMIT,
    )


def _hsts_of(tls: ListenerTls) -> bytes:
    if tls.hsts is None:
        return b""
    return b"max-age=%d%b" % (tls.hsts, b"; includeSubDomains" if tls.hsts_subdomains else b"")


def pool_news(number: int, after: PoolSnapshot, before: PoolSnapshot | None = None) -> PoolNews:
    """A pool as it is now; where others are known from `before`, only the backends that differ."""
    views, whole = after.backends, True
    if before is not None and len(before.backends) == len(after.backends):
        pairs = list(zip(before.backends, after.backends, strict=True))
        if all(old.id == new.id for old, new in pairs):
            views = tuple(new for old, new in pairs if new is not old)
            whole = False
    return PoolNews(
        number=number,
        name=after.name,
        policy=after.policy,
        views=views,
        whole=whole,
        pending=tuple(after.pending),
        panic=after.panic,
        numbers=after.numbers,
        eject_after=after.eject_after,
        ejectable=after.ejectable,
    )


def limits_of(pool: PoolSettings, certificates: Loaded = NOTHING) -> PoolLimits:
    """The limits of one pool on the data path."""
    return PoolLimits(
        connect_s=pool.timeouts.connect,
        response_s=pool.timeouts.response,
        idle_s=pool.timeouts.idle,
        idle_max=pool.connections.idle_max,
        idle_timeout_s=pool.connections.idle_timeout,
        age_max_s=pool.connections.max_age,
        requests_max=pool.connections.max_requests,
        retry_after_s=max(1, round(pool.health.interval)) if pool.health else 5,
        proxy_protocol=None if pool.proxy_protocol == "off" else pool.proxy_protocol,
        tunnels=TunnelLimits(
            protocols=pool.tunnels.protocols,
            idle_s=pool.tunnels.idle_timeout,
            age_max_s=pool.tunnels.max_age,
            drain_s=pool.tunnels.drain_timeout,
        ),
        tls=certificates.backend_rules(pool.tls),
    )


def log_plan(log: Log, *, stdout_terminal: bool, stderr_terminal: bool) -> LogPlan:
    """How workers write: for a person where one looks on, unless the config says otherwise."""

    def as_json(terminal: bool) -> bool:
        return {"json": True, "console": False}.get(log.format, not terminal)

    return LogPlan(
        access=log.access,
        access_json=as_json(log.access == "stdout" and stdout_terminal),
        json=as_json(stderr_terminal),
        colours=stderr_terminal,
        level=log.level,
    )
