"""The access line: one canonical line for an exchange, everything that is known of it.

JSON for machines, one readable line for a terminal. Whatever a client controls is escaped: a line
never holds a control byte, so nobody writes lines or colours of their own into the log.
"""

import json
from collections.abc import Callable

from balancer.telemetry.record import AttemptRecord, ExchangeRecord

Render = Callable[[ExchangeRecord, str], bytes]
"""An access line, line end included, from a record and the wall time as ISO 8601."""


def render_json(record: ExchangeRecord, at: str) -> bytes:
    """One JSON object; times in milliseconds, `null` for a phase that was not reached."""
    line = {
        "event": "access",
        "at": at,
        "id": record.request_id,
        "client": record.client,
        "method": record.method,
        "host": record.host,
        "path": record.target,
        "status": record.status,
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "pool": record.pool,
        "backend": record.attempts[-1].backend if record.attempts else None,
        "attempts": [_attempt(attempt) for attempt in record.attempts],
        "head_ms": _ms(record.head_at - record.began),
        "answer_ms": None if record.answer_at is None else _ms(record.answer_at - record.head_at),
        "total_ms": _ms(record.ended - record.began),
        "fault": record.fault,
    }
    text = json.dumps(line, separators=(",", ":"))
    # JSON lets DEL stand as it is; a terminal does not.
    return text.replace("\x7f", "\\u007f").encode("ascii") + b"\n"


def _attempt(attempt: AttemptRecord) -> dict[str, object]:
    connected = attempt.connected
    return {
        "backend": attempt.backend,
        "outcome": attempt.outcome,
        "reused": attempt.reused,
        "connect_ms": None if connected is None else _ms(connected - attempt.began),
        "ms": _ms(attempt.ended - attempt.began),
    }


def render_console(record: ExchangeRecord, at: str) -> bytes:
    """Time, client, request, status, size, who answered in how long, and what went wrong."""
    tries = ", ".join(
        f"{attempt.backend} {attempt.outcome} {_ms(attempt.ended - attempt.began)} ms"
        for attempt in record.attempts
    )
    parts = [
        at,
        _printable(record.client),
        f'"{_printable(f"{record.method} {record.target}")}"',
        str(record.status),
        f"{record.bytes_down} B",
        f"{_ms(record.ended - record.began)} ms",
        f"pool={_printable(record.pool) or '-'}",
        f"[{_printable(tries)}]",
        f"id={_printable(record.request_id)}",
    ]
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
