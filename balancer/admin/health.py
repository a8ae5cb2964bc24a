"""The three read-only paths that anyone may ask: alive, ready, and the figures.

They are all there is on the TCP health address, and also on the admin socket. What can be reached
by TCP can be reached by a web browser, so there a web page is told apart from a monitor.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import trio

from balancer.admin.messages import (
    AdminReply,
    AdminRequest,
    error_reply,
    text_reply,
    wrong_method,
)
from balancer.core.asked_name import may_be_asked
from balancer.core.wording import shown
from balancer.telemetry.metrics import CONTENT_TYPE

# Strangers may ask as often as they like: the figures of a thousand backends take 7 ms to write.
FIGURES_S = 0.25


class Told(Protocol):
    """The part of a `Control` that anyone may hear."""

    def readiness(self) -> tuple[bool, list[str]]: ...
    def metrics(self) -> bytes: ...


class PublicSide:
    """Answers at the TCP health address: nothing there changes or tells more.

    `names`: the public names under which it may be asked. The figures are up to FIGURES_S old.
    """

    def __init__(self, told: Told, names: Callable[[], Collection[str]]) -> None:
        self._told = told
        self._names = names
        self._figures = b""
        self._fresh_until = -math.inf

    async def answer(self, request: AdminRequest) -> AdminReply:
        reply = _refused_page(request, self._names()) or answer_health(request, self)
        return reply or error_reply(
            404, f"there is no {shown(request.path)}", paths=sorted(HEALTH_PATHS)
        )

    def readiness(self) -> tuple[bool, list[str]]:
        return self._told.readiness()

    def metrics(self) -> bytes:
        now = trio.current_time()
        if now >= self._fresh_until:
            self._figures, self._fresh_until = self._told.metrics(), now + FIGURES_S
        return self._figures


def _refused_page(request: AdminRequest, names: Collection[str]) -> AdminReply | None:
    """The refusal of a request that a web page may have sent; None for every other."""
    if "origin" in request.headers:
        return error_reply(403, "a web page (Origin) is told nothing here")
    # HTTP/1.0 has no Host, and every browser sends one.
    host = request.headers.get("host", "")
    if may_be_asked(host, names):
        return None
    return error_reply(
        421,
        f"Host {shown(host)} may be anybody's; ask by IP address, or add the name to"
        " admin.health_hosts",
    )


def answer_health(request: AdminRequest, told: Told) -> AdminReply | None:
    """The reply of a health path; None for every other path."""
    path = HEALTH_PATHS.get(request.path)
    if path is None:
        return None
    if request.method not in ("GET", "HEAD"):
        return wrong_method(f"{request.path} is read by GET or HEAD only", ("GET", "HEAD"))
    return path(told)


def _livez(_told: Told) -> AdminReply:
    return text_reply(200, "ok\n")


def _readyz(told: Told) -> AdminReply:
    ready, reasons = told.readiness()
    status, word = (200, "ok") if ready else (503, "not ready")
    return text_reply(status, "\n".join([word, *reasons]) + "\n")


def _metrics(told: Told) -> AdminReply:
    return AdminReply(status=200, content_type=CONTENT_TYPE, body=told.metrics())


HEALTH_PATHS: Mapping[str, Callable[[Told], AdminReply]] = {
    "/livez": _livez,
    "/readyz": _readyz,
    "/metrics": _metrics,
}
