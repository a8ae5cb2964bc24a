"""The body of an answer on its way down: moved by the kernel where it can be, else copied.

Never holds more than one read, or one pipe, of it. What breaks is told apart by side: the backend's
fault is BODY_CUT or BODY_STALLED, the client's is CLIENT_LEFT or CLIENT_STALLED.
"""

from balancer.core.fields import trailer_bytes
from balancer.core.framing import BodyKind, Framing
from balancer.core.message import BadMessage
from balancer.core.outcome import Failure
from balancer.proxy.exchange_state import Exchange
from balancer.proxy.faults import AttemptFailed, ended_behind, ended_by
from balancer.proxy.idle import UpstreamConnection
from balancer.wire.chunks import ChunkReader, chunk
from balancer.wire.splice import UNTIL_END, SinkBroke, SourceBroke, Splice, finish, splice_between
from balancer.wire.streams import cut, receive, taken
from balancer.wire.waiting import Interrupted


async def pass_body(
    exchange: Exchange,
    connection: UpstreamConnection,
    out: bytes,
    framing: Framing,
    down: Framing,
) -> None:
    """Send the head `out` and then the body, the head with what has come of the body already."""
    try:
        if framing.kind is BodyKind.CHUNKED:
            await _pass_chunks(exchange, connection, out, down)
        elif framing.kind is BodyKind.UNTIL_CLOSE:
            await _pass_until_close(exchange, connection, out, down)
        else:
            await _pass_length(exchange, connection, out, framing.length)
    except BaseException:
        if down.kind is BodyKind.UNTIL_CLOSE and exchange.answer_begun:
            # Only a reset tells this client that what it has is not the whole.
            cut(exchange.sock)
        raise


async def _pass_length(
    exchange: Exchange, connection: UpstreamConnection, out: bytes, left: int
) -> None:
    buffer = connection.buffer
    piece = taken(buffer, left)
    left -= len(piece)
    await to_client(exchange, out + piece, len(piece))
    left = await _splice_down(exchange, connection, left)
    while left:
        piece = await _from_backend(exchange, connection)
        if not piece:
            raise AttemptFailed(Failure.BODY_CUT)
        if len(piece) > left:
            buffer += piece[left:]
            piece = piece[:left]
        left -= len(piece)
        await to_client(exchange, piece, len(piece))


async def _pass_chunks(
    exchange: Exchange, connection: UpstreamConnection, out: bytes, down: Framing
) -> None:
    reader = ChunkReader()
    chunked = down.kind is BodyKind.CHUNKED
    while True:
        try:
            piece = reader.take(connection.buffer)
        except BadMessage as exc:
            # Nothing of it shown yet: still to be hidden behind another backend's answer.
            failure = Failure.BODY_CUT if exchange.answer_begun else Failure.BAD_ANSWER
            raise AttemptFailed(failure, exc.sentence) from exc
        if piece:
            out += chunk(piece) if chunked else piece
        if reader.done and chunked:
            out += trailer_bytes(reader.trailers)
        if out:
            await to_client(exchange, out, len(piece))
            out = b""
        if reader.done:
            return
        if not reader.hungry:
            continue
        arrived = await _from_backend(exchange, connection)
        if not arrived:
            raise AttemptFailed(Failure.BODY_CUT)
        connection.buffer += arrived


async def _pass_until_close(
    exchange: Exchange, connection: UpstreamConnection, out: bytes, down: Framing
) -> None:
    chunked = down.kind is BodyKind.CHUNKED
    if piece := taken(connection.buffer, len(connection.buffer)):
        out += chunk(piece) if chunked else piece
    await to_client(exchange, out, len(piece))
    if not chunked:
        await _splice_down(exchange, connection, UNTIL_END)
    while piece := await _from_backend(exchange, connection):
        await to_client(exchange, chunk(piece) if chunked else piece, len(piece))
    if chunked:
        await to_client(exchange, trailer_bytes(()))


async def _splice_down(exchange: Exchange, connection: UpstreamConnection, left: int) -> int:
    """Let the kernel move `left` bytes; how many the caller still has to look for."""
    network, count = exchange.service.network, exchange.record.count_down
    splice = splice_between(network, connection.sock, exchange.sock, left, count)
    return left if splice is None else await finish_down(exchange, splice)


async def finish_down(exchange: Exchange, splice: Splice) -> int:
    """Let a transfer to the client come to its end; how many bytes the caller has to look for."""
    waiter, record, taking = exchange.waiter, exchange.record, exchange.taking
    told = record.bytes_down

    async def client_ready() -> None:
        nonlocal told
        passed, told = record.bytes_down - told, record.bytes_down
        taking.pace.moved(passed)
        await taking.writable(waiter)

    try:
        return await finish(
            splice,
            waiter,
            source_ready=lambda: waiter.readable(splice.source, exchange.answer_deadline()),
            sink_ready=client_ready,
        )
    except SourceBroke as exc:
        failed = ended_behind(exc.cause, timed_out=Failure.BODY_STALLED, broken=Failure.BODY_CUT)
        raise failed from exc
    except SinkBroke as exc:
        raise ended_behind(
            exc.cause,
            timed_out=Failure.CLIENT_STALLED,
            broken=Failure.CLIENT_LEFT,
            detail=exchange.service.limits.takes_too_slowly(),
        ) from exc


async def _from_backend(exchange: Exchange, connection: UpstreamConnection) -> bytes:
    try:
        return await receive(connection.sock, exchange.waiter, exchange.answer_deadline())
    except Interrupted as exc:
        raise ended_by(exc, Failure.BODY_STALLED) from exc
    except OSError as exc:
        raise AttemptFailed(Failure.BODY_CUT) from exc


async def to_client(exchange: Exchange, data: bytes, content: int = 0) -> None:
    await send_to_client(exchange, data)
    exchange.record.bytes_down += content


async def send_to_client(exchange: Exchange, data: bytes, *, interim: bool = False) -> None:
    try:
        await exchange.send(data, interim=interim)
    except Interrupted as exc:
        slow = exchange.service.limits.takes_too_slowly()
        raise ended_by(exc, Failure.CLIENT_STALLED, slow) from exc
    except OSError as exc:
        raise AttemptFailed(Failure.CLIENT_LEFT) from exc
