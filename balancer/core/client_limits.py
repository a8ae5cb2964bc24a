"""What clients are allowed, and what one is told who wants more: each limit by its name in the config.

Decides what is too much; who counts and who waits is told here how much there is.
"""

import sys
from dataclasses import dataclass

from balancer.core.message import BadMessage
from balancer.core.pace import Pace

NO_LIMIT = sys.maxsize
_LINE_END = b"\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """Times in seconds, sizes in bytes, rates in bytes a second (0: none is demanded).

    `idle_s` is the rest between two requests; who has not made one yet has `header_s`. `fields_max`
    is of field lines. `requests_max` and `age_max_s` are of a connection;
    `per_address_max` is of connections to one worker.
    """

    header_s: float
    idle_s: float
    body_s: float
    head_bytes_max: int
    fields_max: int = NO_LIMIT
    target_bytes_max: int = NO_LIMIT
    body_bytes_max: int = NO_LIMIT
    upload_rate_min: int = 0
    download_rate_min: int = 0
    requests_max: int = NO_LIMIT
    age_max_s: float = float("inf")
    per_address_max: int = NO_LIMIT

    def check_fields(self, head: bytes) -> None:
        """BadMessage 431."""
        if self.too_many_fields(head.count(_LINE_END)):
            raise BadMessage(431, f"more than {self.fields_max} header lines (client.max_fields)")

    def too_many_fields(self, line_ends: int) -> bool:
        """Of a head with so many: that of its first line and its empty line are among them."""
        return line_ends - 2 > self.fields_max

    def check_target(self, target: str) -> None:
        """BadMessage 414."""
        if len(target) > self.target_bytes_max:
            raise BadMessage(
                414,
                f"the request target is longer than {self.target_bytes_max} bytes (client.max_target)",
            )

    def check_body(self, size: int) -> None:
        """BadMessage 413: of a size that is announced, or counted so far."""
        if size > self.body_bytes_max:
            raise BadMessage(
                413, f"the body is larger than {self.body_bytes_max} bytes (client.max_body)"
            )

    def head_too_large(self, first_line: int) -> BadMessage:
        """For one whose first line has so many bytes; -1: more than have come."""
        limit = f"{self.head_bytes_max} bytes (client.max_header)"
        if not 0 <= first_line <= self.head_bytes_max:
            return BadMessage(414, f"the request line is longer than {limit}")
        return BadMessage(431, f"the head is longer than {limit}")

    def rest_s(self, requests: int) -> float:
        """How long to wait for another request to begin: the first one is owed, others are not."""
        return self.idle_s if requests else self.header_s

    def head_too_late(self) -> BadMessage:
        return BadMessage(
            408, f"no whole request head within {self.header_s:g} s (client.header_timeout)"
        )

    def upload_pace(self) -> Pace:
        """How slowly a client may send a body."""
        return Pace(self.upload_rate_min, self.body_s)

    def download_pace(self) -> Pace:
        """How slowly a client may take its answers."""
        return Pace(self.download_rate_min, self.body_s)

    def sends_too_slowly(self) -> str:
        return self._too_slow("sent its body", self.upload_rate_min, "min_upload_rate")

    def takes_too_slowly(self) -> str:
        return self._too_slow("took its answer", self.download_rate_min, "min_download_rate")

    def _too_slow(self, did: str, rate: int, key: str) -> str:
        waited = f"kept us waiting for {self.body_s:g} s (client.body_timeout)"
        if not rate:
            return waited
        return f"{waited} while it {did} at less than {rate} bytes a second (client.{key})"
