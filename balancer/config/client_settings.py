"""What clients are allowed: the `[client]` table. Durations are seconds and sizes bytes here."""

from typing import Annotated

from pydantic import Field

from balancer.config.model import Table
from balancer.config.values import duration, size

KIB = 1024


class Client(Table):
    header_timeout: Annotated[float, duration()] = Field(
        default=30.0, description="A client has this long to send a whole request head."
    )
    idle_timeout: Annotated[float, duration()] = Field(
        default=75.0, description="A kept-alive connection may rest this long between two requests."
    )
    body_timeout: Annotated[float, duration()] = Field(
        default=60.0, description="Longest pause between bytes of a body, to or from the client."
    )
    max_header: Annotated[int, size(least="1KiB", most="1MiB")] = Field(
        default=64 * KIB, description="Largest request head; larger ones are answered 431."
    )
