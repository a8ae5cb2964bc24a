"""What clients are allowed: the `[client]` table. Durations are seconds and sizes bytes here."""

from typing import Annotated

from pydantic import Field

from balancer.config.http_values import DroppedField
from balancer.config.model import Table
from balancer.config.values import Items, duration, size

KIB = 1024


class Client(Table):
    header_timeout: Annotated[float, duration()] = Field(
        default=30.0,
        description="A client has this long to send a whole request head, else 408;"
        " and a new one as long for the first byte of it.",
    )
    idle_timeout: Annotated[float, duration()] = Field(
        default=75.0, description="A kept-alive connection may rest this long between two requests."
    )
    body_timeout: Annotated[float, duration()] = Field(
        default=60.0,
        description="A client may fall behind the rates below by this much;"
        " so no pause within a body is longer.",
    )
    min_upload_rate: Annotated[int, size(least="0B", most="1MiB")] = Field(
        default=100,
        description="Bytes per second that a client must send of a body, on average; else 408. 0: any.",
    )
    min_download_rate: Annotated[int, size(least="0B", most="1MiB")] = Field(
        default=100,
        description="Bytes per second that a client must take of an answer; else it is cut. 0: any.",
    )
    max_header: Annotated[int, size(least="1KiB", most="1MiB")] = Field(
        default=64 * KIB, description="Largest request head; larger ones are answered 431."
    )
    max_fields: int = Field(
        default=128, ge=1, le=1000, description="Most header lines of a request; more get 431."
    )
    max_target: Annotated[int, size(least="256B", most="1MiB")] = Field(
        default=8 * KIB,
        description="Longest target (path and query) of a request; longer ones get 414.",
    )
    max_body: Annotated[int, size(least="0B", most="1048576GiB")] = Field(
        default=KIB**3, description="Largest body of a request; larger ones get 413; 0: no limit."
    )
    max_connections_per_address: int = Field(
        default=0,
        ge=0,
        description="More connections than these of one address (of IPv6: a /64) get 429;"
        " counted by each worker; 0: no limit.",
    )
    max_requests: int = Field(
        default=10_000,
        ge=0,
        description="A connection is closed after so many requests; 0: no limit.",
    )
    max_age: Annotated[float, duration(least="0s", most="7d")] = Field(
        default=3600.0,
        description="A connection older than this is closed after its next answer; 0: no limit.",
    )
    allow_fields: Items[DroppedField] = Field(
        default=(),
        description='Fields that go to backends though they are dropped by default, such as "api_key".',
    )
