"""One admin connection: bytes to requests and replies to bytes, every wait with a deadline.

Knows the limits of a request and nothing of what it asks. Heads are read by `balancer.wire`.
"""

from http import HTTPStatus

import trio

from balancer.admin.messages import AdminReply, AdminRequest, error_reply
from balancer.core.framing import BodyKind, request_framing, wants_keep_alive
from balancer.core.message import BadMessage, RequestHead
from balancer.wire.h11_heads import parse_request_head
from balancer.wire.network import Network, Sock

# Commands are small; larger heads and bodies are no operator's.
HEAD_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 64 * 1024
READ_BYTES = 16 * 1024
# From the first byte of a request to its last, and before the first one: a person's tool needs
# milliseconds.
REQUEST_S = 10.0
# A scraper comes every 15 s or 30 s and may keep its connection.
REST_S = 75.0
# A whole reply, or one piece of a stream: enough for megabytes over a slow line, and an end to a
# reader that takes a byte now and then.
REPLY_S = 30.0
LEAVING_POLL_S = 1.0
NEVER = float("inf")


class AdminConnection:
    """Reads requests from one socket and writes replies to it, in turn.

    Everything happens inside `scope`, whose deadline it moves. `waiting_since`: from when on the
    other end is waited for; `NEVER` while it is ourselves who take the time.
    """

    def __init__(self, sock: Sock, network: Network) -> None:
        self._sock = sock
        self._network = network
        self._received = bytearray()
        self._midway = False
        self._first = True
        self._pushed_out = False
        self.scope = trio.CancelScope()
        self.waiting_since = trio.current_time()
        self.following = False

    async def next_request(self) -> tuple[AdminRequest, bool] | None:
        """The next request and whether another may follow; None when the client has ended.

        Raises BadMessage for what cannot be accepted; the connection must then end.
        """
        self._allow(REQUEST_S if self._first else REST_S)
        if not self._received and not await self._receive():
            return None
        self._first = False
        self._allow(REQUEST_S)
        self._midway = True
        head = await self._head()
        if head is None:
            return None
        body = await self._body(head)
        if body is None:
            return None
        # One that always has the next request ready lets others have their turn all the same.
        await trio.lowlevel.checkpoint()
        self._midway = False
        # The client has done its part; how long an answer may take is its giver's to bound.
        self._allow(NEVER)
        path, _, query = head.target.partition("?")
        request = AdminRequest(
            method=head.method,
            path=path,
            query=query,
            headers={
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in head.fields
            },
            body=body,
        )
        return request, wants_keep_alive(head.minor, head.fields)

    async def reply(self, reply: AdminReply, *, head_only: bool, close: bool) -> None:
        """Send a reply whole; a stream until its end or until the reader leaves."""
        head = _head_bytes(reply, close=close)
        if reply.stream is None:
            await self._send(head if head_only else head + reply.body)
            return
        self.following = True
        await self._send(head)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._leaving, nursery.cancel_scope)
            await self._stream(reply)
            nursery.cancel_scope.cancel()

    def end_early(self) -> None:
        """End now, because somebody else needs the place."""
        self._pushed_out = True
        self.scope.cancel()

    def say_why_cut(self) -> None:
        """Tell a client whose request had begun to arrive why no more of it is read."""
        if not self._midway:
            return
        if self._pushed_out:
            self.say_at_once(error_reply(503, "others needed the place of this slow request"))
        else:
            self.say_at_once(error_reply(408, "the request took too long to arrive"))

    def say_at_once(self, reply: AdminReply) -> None:
        """Send what fits without waiting: a last word on a connection that ends anyway."""
        try:
            self._sock.send(_head_bytes(reply, close=True) + reply.body)
        except OSError:
            return

    async def _stream(self, reply: AdminReply) -> None:
        assert reply.stream is not None
        piece = b"start"
        while piece:
            self._allow(NEVER)  # the next change ends this wait, or the reader
            piece = await reply.stream.next_piece()
            await self._send(b"%x\r\n%b\r\n" % (len(piece), piece))

    async def _leaving(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the reader has left; one that only closed its half still listens."""
        while await self._receive_some():
            # A reader of a stream has nothing to say, and is not to keep us busy with it.
            await trio.lowlevel.checkpoint()
        while not self._network.has_left(self._sock):  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(LEAVING_POLL_S)
        scope.cancel()

    async def _head(self) -> RequestHead | None:
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if len(self._received) > HEAD_BYTES_MAX:
                raise BadMessage(431, f"the head of a request ends within {HEAD_BYTES_MAX} bytes")
            if not await self._receive():
                return None
        raw = bytes(self._received[: end + 4])
        del self._received[: end + 4]
        if len(raw) > HEAD_BYTES_MAX:
            raise BadMessage(431, f"the head of a request ends within {HEAD_BYTES_MAX} bytes")
        return parse_request_head(raw)

    async def _body(self, head: RequestHead) -> bytes | None:
        framing = request_framing(head)
        if framing.kind is BodyKind.CHUNKED:
            raise BadMessage(411, "send a Content-Length; chunks are not read here")
        if framing.length > BODY_BYTES_MAX:
            raise BadMessage(413, f"a body here has at most {BODY_BYTES_MAX} bytes")
        if head.values(b"expect") and framing.length > len(self._received):
            await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._allow(REQUEST_S)
        while len(self._received) < framing.length:
            if not await self._receive():
                return None
        body = bytes(self._received[: framing.length])
        del self._received[: framing.length]
        return body

    async def _receive(self) -> bool:
        data = await self._receive_some()
        self._received += data
        return bool(data)

    async def _receive_some(self) -> bytes:
        while True:
            try:
                return self._sock.recv(READ_BYTES)
            except BlockingIOError:
                await self._network.wait_readable(self._sock)

    async def _send(self, data: bytes) -> None:
        left = memoryview(data)
        self._allow(REPLY_S)
        while left:
            try:
                left = left[self._sock.send(left) :]
            except BlockingIOError:
                await self._network.wait_writable(self._sock)

    def _allow(self, seconds: float) -> None:
        """Give the other end so long from now on; NEVER: it is not its turn."""
        now = trio.current_time()
        self.scope.deadline = now + seconds
        self.waiting_since = NEVER if seconds == NEVER else now


def refusal_of(error: BadMessage) -> AdminReply:
    return error_reply(error.status, error.sentence)


def _head_bytes(reply: AdminReply, *, close: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
        f"Content-Type: {reply.content_type}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
    ]
    if reply.stream is None:
        lines.append(f"Content-Length: {len(reply.body)}")
    else:
        lines.append("Transfer-Encoding: chunked")
    if reply.allow:
        lines.append("Allow: " + ", ".join(reply.allow))
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
