"""Every setting there is: name, kind, default, and what it does, in an operator's words.

The models hold one config that is right; they are frozen and refuse unknown keys. What concerns
two settings at once is checked in `cross_checks`. Durations are seconds and sizes bytes here.
"""

from typing import Annotated, Literal

from pydantic import Field

from balancer.config import http_values as http
from balancer.config.client_settings import Client
from balancer.config.model import Table
from balancer.config.pool_settings import Pool
from balancer.config.tls_settings import ListenerTls
from balancer.config.values import (
    BindAddress,
    FilePath,
    HealthBind,
    Items,
    SocketPath,
    TrustedNetwork,
    Workers,
    duration,
)

PoolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
KIB = 1024


class Listener(Table):
    bind: BindAddress = Field(
        description='Where to accept clients: "0.0.0.0:8080", "[::]:8080" or "unix:/run/x.sock".'
    )
    max_connections: int = Field(
        default=0,
        ge=0,
        description="More clients than these wait in the kernel's queue until one leaves;"
        " 0: as many as descriptors allow.",
    )
    proxy_protocol: Literal["off", "required"] = Field(
        default="off",
        description='"required": each connection begins with a PROXY header, of version 1 or 2.',
    )
    proxy_protocol_from: Items[TrustedNetwork] | None = Field(
        default=None,
        description="Networks that may send PROXY headers; others are turned away."
        " Default: trusted_proxies.",
    )
    https_redirect: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Every request is answered with a 308 to https at this port. Default: it is served.",
    )
    tls: ListenerTls | None = Field(
        default=None, description="How TLS is spoken with clients; without it, it is not."
    )


class Admin(Table):
    socket: SocketPath = Field(
        default="",
        description="Unix socket (mode 0600) that commands talk to."
        " Default: /run/balancer for root, else in a private folder.",
    )
    state: FilePath | None = Field(
        default=None,
        description='What survives a restart; "" keeps nothing.'
        " Default: in /var/lib/balancer for root, else in ~/.local/state.",
    )
    health: HealthBind | None = Field(
        default=None,
        description="TCP address for /livez, /readyz and /metrics. Default: admin socket only.",
    )
    health_hosts: Items[http.RouteHost] = Field(
        default=(), description="Public names it may be asked by, besides IPs and private names."
    )


class Log(Table):
    access: FilePath = Field(
        default="stdout",
        description='Where each exchange is noted: "stdout", "off" or a file\'s path.',
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description='"json", "console", or "auto": console on a terminal, else json.',
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important events that are still logged."
    )


class Route(Table):
    host: http.RouteHost | None = Field(
        default=None,
        description='"example.com", or "*.example.com" for all below it. Default: any host.',
    )
    path: http.RoutePath = Field(default="/", description="Prefix of the path, in whole segments.")
    pool: str = Field(description="The pool that takes these requests.")


class Settings(Table):
    workers: Workers = Field(
        default="auto", description='Worker processes: a number, or "auto" for one per processor.'
    )
    shutdown_timeout: Annotated[float, duration(least="0s")] = Field(
        default=10.0, description="After TERM, running exchanges have this long to finish."
    )
    readiness_delay: Annotated[float, duration(least="0s")] = Field(
        default=0.0, description="After TERM, /readyz says no for this long before listeners close."
    )
    orphan_timeout: Annotated[float, duration(most="7d")] = Field(
        default=600.0,
        description="Workers whose supervisor was killed serve on for this long, then drain.",
    )
    start_timeout: Annotated[float, duration(least="0s")] = Field(
        default=5.0,
        description="Accept clients after this long even if first probes are still out.",
    )
    max_in_flight: int = Field(
        default=0,
        ge=0,
        description="More requests than these at backends at one time, over all workers, get 503;"
        " 0: no limit.",
    )
    trusted_proxies: Items[TrustedNetwork] = Field(
        default=(),
        description='Networks whose word on the client is believed; "unix:" is all unix sockets.',
    )
    listeners: Items[Listener] = Field(min_length=1, description="Where clients connect.")
    client: Client = Field(default=Client(), description="What clients are allowed.")
    admin: Admin = Field(default=Admin(), description="How operators reach this instance.")
    log: Log = Field(default=Log(), description="What is logged, and how.")
    pools: dict[PoolName, Pool] = Field(min_length=1, description="Groups of backends, by name.")
    routes: Items[Route] = Field(
        default=(), description="Which requests go to which pool; the first match wins."
    )

    @property
    def routes_in_effect(self) -> tuple[Route, ...]:
        """The routes; with one pool and none written, the one that sends everything to it."""
        return self.routes or tuple(Route(pool=name) for name in self.pools)
