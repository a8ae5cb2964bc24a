"""The plain exchange, flat: what is ordinary, with the fewest steps there can be.

Serves a stranger's request whose head is plain and whose body has come with it, over a connection
at rest, answered with a Content-Length. Whatever is not so is handed over where it stands. Decides
nothing of its own: routes, picks, evidence and heads come from `core` and `wire` as everywhere.

One long function on purpose: at 50 µs for an exchange, every call that names a step costs a
hundredth of it. A compiled lane may take its place; what it needs is in the arguments.
"""

from collections.abc import Callable, Generator

from balancer.core import outcome
from balancer.core.retry import rest_limit
from balancer.proxy.answer import HEAD_BYTES_MAX
from balancer.proxy.exchange_state import NO_EXCHANGE, UnderWay
from balancer.proxy.handover import ANSWERED, AnswerBegun, Begun, Handover, Short, Unread
from balancer.proxy.idle import UpstreamConnection
from balancer.telemetry.record import AttemptRecord, ExchangeRecord
from balancer.wire.h11_heads import FIELDS_MAX
from balancer.wire.lane import Watch
from balancer.wire.splice import SinkBroke, SourceBroke, Stand, splice_between
from balancer.wire.streams import READ_BYTES_MAX
from balancer.wire.strict_heads import (
    forwarded_request,
    forwarded_response,
    plain_request,
    plain_response,
)
from balancer.wire.tls_socket import WantsTurn
from balancer.wire.waiting import Interrupted, TimedOut
from healthcheck.core.verdict import Evidence

# More of a body, where the kernel cannot move it, is passed on in a task of its own.
BODY_BYTES_MAX = 64 * 1024


class PlainClient(UnderWay):
    """What the plain exchange needs to know of a client connection.

    `begun` is what has been handed over and is still to be taken. `hop_lines` are
    `forwarding_lines`; `gate` says which hosts are served on this connection, None: all; `hsts` goes
    with every answer; `tls` is the version of it that is spoken, if any. `pending` is what has come of
    requests still to be served; `now` is trio's clock without the way to it; a request that begins at
    `leaves_at` or later is the last one.
    """

    __slots__ = (
        "address", "begun", "gate", "hop_lines", "hsts", "leaves_at", "now", "pending", "tls",
    )  # fmt: skip

    address: str
    begun: Begun | None
    now: Callable[[], float]
    hop_lines: bytes
    leaves_at: float
    gate: Callable[[str], bool] | None
    hsts: bytes
    pending: bytes
    tls: str


def plain_exchange(  # noqa: C901, PLR0911, PLR0912, PLR0915 - see above: flat on purpose
    client: PlainClient, data: bytes, came: tuple[float, float] | None = None, *, waits: bool = True
) -> Generator[Watch | None, None, Handover | Short | None]:
    """Answer the request at the start of `data`; None: it is answered, the client may ask again.

    What is left of `data` is in `client.pending` afterwards. `came`: when its first byte had come, and
    when its head; now, otherwise. `waits`: hand over a little body that is still to come as Short.
    Crashes of ours before the pick are raised. Closed while it waits, it returns what it took and is
    written down.
    """
    service = client.service
    allowed = service.limits
    request = plain_request(data, allowed.head_bytes_max, service.fields.allowed)
    if (
        request is None
        or request.length > allowed.body_bytes_max
        or len(request.target) > allowed.target_bytes_max
        or (
            allowed.fields_max < FIELDS_MAX
            and allowed.too_many_fields(data.count(b"\r\n", 0, request.size))
        )
        or service.trusts(client.address)
    ):
        return Unread(data)
    if client.gate is not None and not client.gate(request.host):
        return Unread(data)
    end = request.size + request.length
    if len(data) < end and waits and request.length <= BODY_BYTES_MAX:
        return Short(data, end)
    found = service.routes.match(request.host, request.target)
    if not isinstance(found, str):
        return Unread(data)
    pool = service.pools[found]
    request_id = service.new_request_id()
    sent_head = forwarded_request(request, client.hop_lines, request_id)
    view = pool.pick(avoid=(), unrepeatable=not request.idempotent)
    if view is None:
        return Unread(data)

    # ---- counted in flight: from here on it is handed over or ended -----------------------------
    now = client.now
    backend = view.id
    address = backend.address
    began = now()
    first_at, head_at = came or (began, began)
    number = service.exchanges = service.exchanges + 1
    attempt = AttemptRecord(address, began, True)
    record = ExchangeRecord(
        number, request_id.decode("ascii"), client.address, first_at, head_at, client.tls
    )
    record.method, record.target, record.host = request.method, request.target, request.host
    record.pool = found
    record.bytes_up = min(request.length, len(data) - request.size)
    record.attempts.append(attempt)
    client.record, client.backend = record, view
    if len(data) > end:
        client.pending = data[end:]
    service.running[number] = client
    waiter = client.waiter
    so_far = request, data, sent_head, request_id, record, attempt, pool, view
    connection: UpstreamConnection | None = None
    evidence, reason = Evidence.IGNORED, "cancelled"
    handover: Begun | None = None
    try:
        first = sent_head + data[request.size : end] if request.length else sent_head

        # ---- the request goes up ----------------------------------------------------------------
        yield None
        connection = service.idle.take(backend, began, rest_limit(request.idempotent))
        if connection is not None:
            connection.requests += 1
        if connection is None or len(data) < end:
            handover = Begun(*so_far, connection, first, written=False)
            return handover
        watch = connection.watch
        if watch is None:
            watch = connection.watch = service.lane.watch(connection.sock)
        # It was empty a moment ago, so there is nothing to look for before the wait.
        watch.ready = False
        try:
            sent = connection.sock.send(first)
        except BlockingIOError:
            sent = 0
        except OSError:
            handover = Begun(*so_far, connection, first, written=False)
            return handover
        if sent < len(first):
            handover = Begun(*so_far, connection, first[sent:])
            return handover

        # ---- the answer's head ------------------------------------------------------------------
        limits = pool.limits
        due = began + limits.response_s
        while True:
            waiter.move_deadline(due)
            try:
                yield watch
                answer = connection.sock.recv(READ_BYTES_MAX)
                break
            except WantsTurn:
                handover = Begun(*so_far, connection)
                return handover
            except BlockingIOError:
                continue
            except (Interrupted, OSError) as exc:
                # A passed deadline passes again, and a broken connection is at its end.
                if isinstance(exc, Interrupted) and not isinstance(exc, TimedOut):
                    waiter.interrupt(exc)
                handover = Begun(*so_far, connection)
                return handover
        response = plain_response(answer, request.method, HEAD_BYTES_MAX)
        arrived_at = now()
        if response is None or outcome.refuses_reuse(
            response.status, reused=True, closes=not response.keep_alive, after_s=arrived_at - began
        ):
            connection.buffer += answer
            handover = Begun(*so_far, connection)
            return handover

        # ---- the answer goes down ---------------------------------------------------------------
        keep_alive = request.keep_alive and not service.draining and began < client.leaves_at
        out = forwarded_response(
            response,
            request_id,
            connection=None if keep_alive else b"close",
            panic=pool.snapshot.panic,
            date=None if response.dated else service.http_date(),
            hsts=client.hsts,
        )
        record.status = response.status
        left = response.length
        arrived = len(answer) - response.size
        splice = splice_between(
            service.network, connection.sock, client.sock, left - arrived, record.count_down
        )
        if response.chunked or arrived > left or (left > BODY_BYTES_MAX and splice is None):
            connection.buffer += answer[response.size :]
            handover = Begun(
                *so_far,
                connection,
                answer=AnswerBegun(head=response, out=out, content=0, left=left),
            )
            return handover
        if arrived:
            out += answer[response.size :]
            left -= arrived
        yield None
        took = len(answer)
        while True:
            try:
                sent = client.sock.send(out)
            except OSError:
                sent = 0
            if sent:
                record.answer_at = arrived_at
            if sent < len(out):
                going = AnswerBegun(head=response, out=out[sent:], content=arrived, left=left)
                handover = Begun(*so_far, connection, answer=going)
                return handover
            record.bytes_down += arrived
            if not left:
                break
            if splice is not None:
                out, arrived = b"", 0
                try:
                    stand = splice.go_on()
                except (SourceBroke, SinkBroke):
                    stand = None  # it breaks again where it is taken over
                left = splice.left
                if stand is Stand.OVER and not left:
                    break
                if stand is Stand.TURN_IS_UP and not waiter.interrupted:
                    yield None
                    continue
                if stand is not Stand.SOURCE_PAUSES:
                    going = AnswerBegun(head=response, out=b"", content=0, left=left, splice=splice)
                    handover = Begun(*so_far, connection, answer=going)
                    return handover
            elif took == READ_BYTES_MAX:
                watch.ready = True
            waiter.move_deadline(now() + limits.idle_s)
            try:
                yield watch
                if splice is not None:
                    continue
                out = connection.sock.recv(READ_BYTES_MAX)
            except WantsTurn:
                out = b""
            except BlockingIOError:
                out, arrived, took = b"", 0, 0
                continue
            except Interrupted as exc:
                waiter.interrupt(exc)
                out = b""
            except OSError:
                out = b""
            arrived = took = len(out)
            if not 0 < arrived <= left:
                connection.buffer += out
                handover = Begun(
                    *so_far,
                    connection,
                    answer=AnswerBegun(head=response, out=b"", content=0, left=left),
                )
                return handover
            left -= arrived

        evidence, reason = outcome.evidence_of_status(response.status), f"status {response.status}"
        if response.keep_alive and pool.keeps_idle(address):
            service.idle.give(connection, limits, now())
            connection = None
        return None if keep_alive else ANSWERED
    except Exception as exc:  # noqa: BLE001 - told where every crash is told
        handover = Begun(*so_far, connection, crash=exc)
        return handover
    finally:
        if handover is None:
            if connection is not None:
                connection.sock.close()
            client.backend = None
            client.record = NO_EXCHANGE
            waiter.calm()
            attempt.outcome = reason
            attempt.ended = record.ended = now()
            try:
                try:
                    pool.record(backend, evidence, reason, began)
                finally:
                    pool.end(address, began)
                    del service.running[number]
                service.access(record)
            except Exception as exc:  # noqa: BLE001 - the client has its answer all the same
                service.crashed(record.request_id, exc)
        else:
            client.begun = handover
