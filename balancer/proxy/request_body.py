"""The client's body on its way up: streamed, and kept for a repeat while it is small."""

from balancer.core.client_limits import ClientLimits
from balancer.core.framing import BodyKind, Framing
from balancer.core.message import BadMessage, Fields
from balancer.core.outcome import Failure, failure_of_body
from balancer.proxy.faults import AttemptFailed, ended_by
from balancer.wire.chunks import ChunkReader, chunk
from balancer.wire.pacing import Paced
from balancer.wire.streams import taken
from balancer.wire.waiting import Interrupted, Waiter

# Form posts and API calls fit; Pingora keeps as much.
KEPT_BYTES_MAX = 64 * 1024


class RequestBody:
    """Reads a body out of the client's connection, once; `restart` reads what was kept again.

    `waited_s`: how long the client has kept us waiting for it before anybody was there to take it.
    """

    def __init__(self, buffer: bytearray, framing: Framing, limits: ClientLimits) -> None:
        self._buffer = buffer
        self._limits = limits
        self.framing = framing
        self._chunks = ChunkReader() if framing.kind is BodyKind.CHUNKED else None
        self._left = framing.length
        self._kept = bytearray()
        self.replayable = True
        self.bytes_taken = 0
        self.waited_s = 0.0
        self.complete = framing.kind is BodyKind.NONE or (
            framing.kind is BodyKind.LENGTH and not framing.length
        )

    @property
    def trailers(self) -> Fields:
        return self._chunks.trailers if self._chunks is not None else ()

    @property
    def chunked(self) -> bool:
        return self._chunks is not None

    def take_arrived(self) -> None:
        """Take what has already come with the head. BadMessage."""
        if not self.complete and (piece := self._take()[0]):
            self._kept += piece

    def restart(self) -> bytes:
        """Everything taken so far, from the start; only while `replayable`."""
        assert self.replayable, "bytes of the body are gone"
        return bytes(self._kept)

    async def next(self, source: Paced, waiter: Waiter, *, grace_s: float) -> bytes:
        """The next piece, b"" at the end; `grace_s` of a wait for the client are not its own.

        AttemptFailed with a failure of the client's.
        """
        while not self.complete:
            try:
                piece, ended = self._take()
                if piece:
                    self._keep(piece)
                    return piece
                if ended:
                    break
                if self._chunks is not None and not self._chunks.hungry:
                    continue
                arrived = await source.receive(waiter, grace_s=grace_s)
            except BadMessage as exc:
                raise AttemptFailed(failure_of_body(exc.status), exc.sentence) from exc
            except OSError as exc:
                raise AttemptFailed(Failure.CLIENT_LEFT) from exc
            except Interrupted as exc:
                slow = self._limits.sends_too_slowly()
                raise ended_by(exc, Failure.CLIENT_STALLED, slow) from exc
            if not arrived:
                raise AttemptFailed(Failure.CLIENT_BAD, "the body ended before its end")
            self._buffer += arrived
        return b""

    @property
    def unkept(self) -> int:
        """How many bytes are still to come that may pass unread: the rest of what is not kept.

        A body that is too long to be kept is let go when half of what could be kept is here: the
        next piece would be the last one kept.
        """
        long = self._left > KEPT_BYTES_MAX - len(self._kept)
        going = not self.replayable or (long and len(self._kept) >= KEPT_BYTES_MAX // 2)
        return self._left if going and self._chunks is None and not self._buffer else 0

    def passed_by(self, left: int) -> None:
        """The body has moved on without coming through here; `left` bytes of it are to come."""
        if left < self._left:
            self._let_go()
        self.bytes_taken += self._left - left
        self._left = left
        self.complete = not left

    def encoded(self, piece: bytes) -> bytes:
        """A piece as it goes on the wire; nothing for nothing."""
        return chunk(piece) if self._chunks is not None and piece else piece

    def _take(self) -> tuple[bytes, bool]:
        if self._chunks is not None:
            piece = self._chunks.take(self._buffer)
            self.complete = self._chunks.done
        else:
            piece = taken(self._buffer, self._left)
            self._left -= len(piece)
            self.complete = not self._left
        self.bytes_taken += len(piece)
        self._limits.check_body(self.bytes_taken)
        return piece, self.complete

    def _keep(self, piece: bytes) -> None:
        if len(self._kept) + len(piece) > KEPT_BYTES_MAX:
            self._let_go()
        elif self.replayable:
            self._kept += piece

    def _let_go(self) -> None:
        self.replayable = False
        self._kept.clear()
