"""The access line: one canonical line for an exchange, everything that is known of it.

JSON for machines, one readable line for a terminal. Whatever a client controls is escaped: a line
never holds a control byte, so nobody writes lines or colours of their own into the log.

The JSON line is written for every request, so it is filled into a template, and text is escaped only
where it has to be; a tenth of what json.dumps takes, and the same to whoever reads it.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from json.encoder import encode_basestring_ascii

from balancer.telemetry.record import AttemptRecord, ExchangeRecord

Render = Callable[[ExchangeRecord, float], bytes]
"""An access line, line end included, from a record and the wall time in seconds since 1970."""


def render_json(record: ExchangeRecord, wall: float) -> bytes:
    """One JSON object; times in milliseconds, `null` for a phase that was not reached."""
    began, head_at, answer_at = record.began, record.head_at, record.answer_at
    method, target, host = record.method, record.target, record.host
    request_id, client, fault, pool = record.request_id, record.client, record.fault, record.pool
    if not _plain(f"{request_id}{client}{method}{host}{target}{pool}{fault}"):
        method, target, host = _escaped(method), _escaped(target), _escaped(host)
        request_id, client = _escaped(request_id), _escaped(client)
        fault, pool = _escaped(fault), _escaped(pool)
    backend, attempts = _attempts(record.attempts)
    answer = "null" if answer_at is None else f"{(answer_at - head_at) * 1000:.3f}"
    return (
        f'{{"event":"access","at":"{_at(wall)}","id":"{request_id}","client":"{client}",'
        f'"method":"{method}","host":"{host}","path":"{target}","tls":"{record.tls}",'
        f'"status":{record.status},'
        f'"bytes_up":{record.bytes_up},"bytes_down":{record.bytes_down},'
        f'"pool":"{pool}","backend":{backend},"attempts":[{attempts}],'
        f'"head_ms":{(head_at - began) * 1000:.3f},"answer_ms":{answer},'
        f'"total_ms":{(record.ended - began) * 1000:.3f},"fault":"{fault}"}}\n'
    ).encode("ascii")


def _attempts(attempts: list[AttemptRecord]) -> tuple[str, str]:
    """The last attempt's backend, and all attempts, as JSON."""
    if not attempts:
        return "null", ""
    if len(attempts) == 1:
        return _attempt(attempts[0])
    told = [_attempt(attempt) for attempt in attempts]
    return told[-1][0], ",".join(text for _, text in told)


def _attempt(attempt: AttemptRecord) -> tuple[str, str]:
    backend, outcome, connected = attempt.backend, attempt.outcome, attempt.connected
    if not _plain(f"{backend}{outcome}"):
        backend, outcome = _escaped(backend), _escaped(outcome)
    connect = "null" if connected is None else f"{(connected - attempt.began) * 1000:.3f}"
    return f'"{backend}"', (
        f'{{"backend":"{backend}","outcome":"{outcome}",'
        f'"reused":{"true" if attempt.reused else "false"},"connect_ms":{connect},'
        f'"ms":{(attempt.ended - attempt.began) * 1000:.3f}}}'
    )


def _plain(text: str) -> bool:
    """Whether it may stand in JSON as it is: printable ASCII, without quotes and backslashes."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _escaped(text: str) -> str:
    # JSON lets DEL stand as it is; a terminal does not.
    return encode_basestring_ascii(text)[1:-1].replace("\x7f", "\\u007f")


def render_console(record: ExchangeRecord, wall: float) -> bytes:
    """Time, client, request, status, size, who answered in how long, and what went wrong."""
    tries = ", ".join(
        f"{attempt.backend} {attempt.outcome} {_ms(attempt.ended - attempt.began)} ms"
        for attempt in record.attempts
    )
    parts = [
        _at(wall),
        _printable(record.client),
        f'"{_printable(f"{record.method} {record.target}")}"',
        str(record.status),
        f"{record.bytes_down} B",
        f"{_ms(record.ended - record.began)} ms",
        f"pool={_printable(record.pool) or '-'}",
        f"[{_printable(tries)}]",
        f"id={_printable(record.request_id)}",
    ]
    if record.tls:
        parts.append(record.tls)
    if record.fault:
        parts.append(f"fault: {_printable(record.fault)}")
    return " ".join(parts).encode("ascii") + b"\n"


def _printable(text: str) -> str:
    """Printable ASCII; everything else, quotes and backslashes included, as nginx writes it."""
    return "".join(
        char if " " <= char <= "~" and char not in '"\\' else f"\\x{ord(char):02x}" for char in text
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _at(wall: float) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return _millisecond(int(wall * 1000))


@lru_cache(maxsize=2)  # under load, many lines have one millisecond
def _millisecond(number: int) -> str:
    second, rest = divmod(number, 1000)
    return f"{_second(second)}.{rest:03d}Z"


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
