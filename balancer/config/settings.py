"""Every setting there is: name, kind, default, and what it does, in an operator's words.

The models hold one config that is right; they are frozen and refuse unknown keys. What concerns
two settings at once is checked in `cross_checks`. Durations are seconds and sizes bytes here.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from balancer.config import http_values as http
from balancer.config.client_settings import Client
from balancer.config.model import Table
from balancer.config.values import (
    BackendAddress,
    BindAddress,
    Cidr,
    FilePath,
    HealthBind,
    Items,
    SocketPath,
    Workers,
    duration,
    size,
)

PoolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
KIB = 1024


class Listener(Table):
    bind: BindAddress = Field(
        description='Where to accept clients: "0.0.0.0:8080", "[::]:8080" or "unix:/run/x.sock".'
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


class Backend(Table):
    address: BackendAddress = Field(
        description='"10.0.0.1:8080", "[2001:db8::1]:8080", "name:8080" or "unix:/run/x.sock".'
    )
    weight: int = Field(
        default=1, ge=0, le=1000, description="Its share of the work; 0 takes no new requests."
    )

    @model_validator(mode="before")
    @classmethod
    def _a_bare_address_is_a_backend(cls, data: object) -> object:
        return {"address": data} if isinstance(data, str) else data


class Health(Table):
    type: Literal["http", "tcp"] = Field(
        default="http", description='"http" asks for an answer, "tcp" is content with a connection.'
    )
    interval: Annotated[float, duration(least="10ms")] = Field(
        default=10.0, description="Time from one probe of a backend to the next."
    )
    transition_interval: Annotated[float, duration(least="10ms")] | None = Field(
        default=None,
        description="Interval while probes contradict the state. Default: a fifth of interval.",
    )
    jitter: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="Share of the interval by which it varies, either way.",
    )
    timeout: Annotated[float, duration(most="5m")] = Field(
        default=2.0, description="A probe that has no answer after this long has failed."
    )
    fails: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="Failed probes in a row that take a healthy backend out.",
    )
    passes: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="Passed probes in a row that bring an unhealthy one back.",
    )
    path: http.UrlPath = Field(default="/", description="What is asked for, with its query if any.")
    method: http.Method = Field(default="GET", description="The method of the probe's request.")
    headers: dict[http.HeaderName, http.HeaderValue] = Field(
        default={}, description="Fields added to the probe's request."
    )
    host: http.ProbeHost | None = Field(
        default=None,
        description="The Host that the probe asks for. Default: the backend's address.",
    )
    port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Probe this port. Default: the port of the backend.",
    )
    status: Items[http.StatusRange] = Field(
        default=("200-299",),
        min_length=1,
        description="The statuses that pass: single ones or ranges.",
    )
    body_contains: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Text that the answer's body must contain. Default: any body passes.",
    )
    body_matches: http.Regex | None = Field(
        default=None,
        description="Regular expression that must be found in the body. Default: any body passes.",
    )
    body_limit: Annotated[int, size(least="1B", most="16MiB")] = Field(
        default=64 * KIB, description="How much of the body is read to find it."
    )
    tls: bool = Field(default=False, description="Probe with https.")
    verify: bool = Field(
        default=True, description="With tls: refuse certificates that are not trusted."
    )

    @property
    def transition_pace(self) -> float:
        """The interval in transition: what the config says, else a fifth of the steady one."""
        return self.interval / 5 if self.transition_interval is None else self.transition_interval


class Passive(Table):
    enabled: bool = Field(
        default=True, description="Judge backends also by the requests they serve."
    )
    consecutive_failures: int = Field(
        default=5, ge=1, le=1000, description="Failed requests in a row that eject a backend."
    )
    base_ejection: Annotated[float, duration(most="1d")] = Field(
        default=10.0,
        description="How long the first ejection lasts; the n-th in a row n times as long.",
    )
    max_ejection: Annotated[float, duration(most="1d")] = Field(
        default=300.0, description="No ejection lasts longer than this."
    )
    max_ejected_ratio: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Never eject more than this share of a pool (0.5 is one of two or three).",
    )
    end_on_pass: bool = Field(default=True, description="A passed probe ends an ejection early.")


class Timeouts(Table):
    connect: Annotated[float, duration()] = Field(
        default=1.0, description="A backend has this long to accept a connection."
    )
    response: Annotated[float, duration(most="1d")] = Field(
        default=30.0, description="A backend has this long to begin its answer."
    )
    idle: Annotated[float, duration(most="1d")] = Field(
        default=60.0, description="Longest pause between bytes of a backend's answer."
    )


class Connections(Table):
    idle_max: int = Field(
        default=64,
        ge=0,
        le=10_000,
        description="Resting connections kept for reuse, per backend; 0: none.",
    )
    idle_timeout: Annotated[float, duration()] = Field(
        default=30.0, description="A resting connection is closed after this long."
    )
    max_age: Annotated[float, duration(most="7d")] = Field(
        default=600.0, description="A connection older than this is not used again."
    )
    max_requests: int = Field(
        default=0, ge=0, description="A connection is closed after this many requests; 0: no limit."
    )


class Pool(Table):
    policy: Literal["least-connections", "weighted-round-robin"] = Field(
        default="least-connections", description="How the backend of a request is chosen."
    )
    panic_below: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Ignore health when less than this share of the pool is available;"
        " 0: when none is.",
    )
    backends: Items[Backend] = Field(
        default=(),
        description='The backends: addresses, or tables such as { address = "…", weight = 2 }.',
    )
    health: Health | None = Field(
        default=None, description="Active checks. Default: none, every backend counts as healthy."
    )
    passive: Passive = Field(
        default=Passive(), description="Ejection of backends that fail requests."
    )
    timeouts: Timeouts = Field(default=Timeouts(), description="How long a backend may take.")
    connections: Connections = Field(
        default=Connections(), description="Reuse of connections to backends."
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
    trusted_proxies: Items[Cidr] = Field(
        default=(), description="Networks whose X-Forwarded-* and X-Request-ID fields are believed."
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
