"""The settings of one pool: its backends, how they are chosen, probed, judged and talked to.

As in `settings`: name, kind, default, and what each does, in an operator's words.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from balancer.config import http_values as http
from balancer.config.model import Table
from balancer.config.tls_settings import BackendTls
from balancer.config.values import BackendAddress, Items, duration, size

KIB = 1024


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
    tls: bool | None = Field(
        default=None, description="Probe with https. Default: where the pool has a tls table."
    )
    verify: bool | None = Field(
        default=None,
        description="With tls: refuse certificates that are not trusted. Default: as the pool, else true.",
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


class Tunnels(Table):
    protocols: Items[http.UpgradeProtocol] = Field(
        default=("websocket",),
        description='What clients may upgrade to; [] nothing. HTTP itself ("h2c") never.',
    )
    idle_timeout: Annotated[float, duration(most="7d")] = Field(
        default=3600.0, description="A tunnel in which nothing moves is closed after this long."
    )
    max_age: Annotated[float, duration(least="0s", most="30d")] = Field(
        default=0.0, description="A tunnel is closed after this long, busy or not; 0: no limit."
    )
    drain_timeout: Annotated[float, duration(least="0s", most="7d")] = Field(
        default=300.0,
        description="While its backend or this instance leaves, a tunnel may go on for this long.",
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
    tls: BackendTls | None = Field(
        default=None, description="Speak TLS with backends. Default: none, plain HTTP."
    )
    proxy_protocol: Literal["off", "v1", "v2"] = Field(
        default="off",
        description="Tell backends of the client in a PROXY header; each connection has one client.",
    )
    tunnels: Tunnels = Field(
        default=Tunnels(), description="What may be spoken instead of HTTP, and for how long."
    )

    @property
    def probes_speak_tls(self) -> bool:
        """Whether probes ask over https: as their own table says, else as requests do."""
        asked = self.health.tls if self.health is not None else None
        return self.tls is not None if asked is None else asked
