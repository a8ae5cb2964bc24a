"""What a supervisor and its successor say to each other, and the handles that pass between them.

The two are not the same program, so fields have names and defaults: what one of them does not know it
passes over. Who says what when is in `succession` (the one that goes) and `heritage` (the one that
comes).
"""

from typing import Any, TypeAlias

import msgspec

from balancer.worker.channel import DESCRIPTORS_MAX, SocketChannel
from balancer.worker.messages import SHARED

# The descriptors of the channel and of the real standard error: "3,4".
VARIABLE = "BALANCER_SUCCEEDS"

# Kinds of handles, and what the name of one means.
BOARD = "board"
LISTENER = "listener"  # the bind of the configuration
ADMIN = "admin"  # the path of the socket
HEALTH = "health"  # the bind of the configuration
LOCK = "lock"  # the path of the lock file


class Handle(msgspec.Struct, frozen=True):
    """What a descriptor is; `slot`: the worker slot that a listening socket is for."""

    kind: str
    name: str = ""
    slot: int = SHARED


class Handles(msgspec.Struct, frozen=True, tag=True):
    """Descriptors, in this order; more may follow."""

    which: tuple[Handle, ...] = ()


class Estate(msgspec.Struct, frozen=True, tag=True):
    """All handles have been sent; the rest of what is needed to begin.

    `document` is that of the state file. `rows`: of the board, those that the workers of the old one
    write. `in_order`: the places whose sockets began to listen in the order of their slots.
    """

    pid: int
    document: dict[str, Any]
    rows: tuple[int, ...] = ()
    in_order: tuple[str, ...] = ()


class Prepared(msgspec.Struct, frozen=True, tag=True):
    """The new one could take over now."""

    version: str = ""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The new one will not take over."""

    why: str


class TakeOver(msgspec.Struct, frozen=True, tag=True):
    """Take over now. The state document as it is at last, and the log of changes."""

    document: dict[str, Any]
    last_event: int = 0
    events: tuple[dict[str, Any], ...] = ()


class TookOver(msgspec.Struct, frozen=True, tag=True):
    """The new one serves. From here on nobody goes back."""


Said: TypeAlias = Handles | Estate | Prepared | Failed | TakeOver | TookOver
Channel: TypeAlias = SocketChannel[Said]

_decoder: msgspec.msgpack.Decoder[Said] = msgspec.msgpack.Decoder(Said)


def said(data: bytes) -> Said:
    """What the bytes say; ValueError where it is nothing that is known here."""
    return _decoder.decode(data)


def send_handles(channel: Channel, handles: list[tuple[Handle, object]]) -> None:
    """Send them all, in as many messages as the kernel needs."""
    for start in range(0, len(handles), DESCRIPTORS_MAX):
        some = handles[start : start + DESCRIPTORS_MAX]
        channel.send(Handles(tuple(which for which, _ in some)), [handle for _, handle in some])
