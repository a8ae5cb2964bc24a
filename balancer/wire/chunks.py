"""The chunked coding (RFC 9112 7.1), read strictly and written in one canonical form.

Extensions are dropped, sizes are written anew, trailers are kept apart for the rules on fields.
"""

import re

from balancer.core.field_names import REFUSED_IN_TRAILERS
from balancer.core.message import TOKEN, BadMessage, Fields
from balancer.wire.h11_heads import FIELDS_MAX, parse_trailer_line

# RFC 9110 5.6.4; so a quote that stays open is no extension, and reaches over no line end.
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
# RFC 9112 7.1.1, blanks where it says BWS. 16 hexadecimal digits would overflow a signed 64-bit
# size; 15 are 2^60 bytes.
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})((?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+)*+)\Z"
    % (TOKEN, TOKEN, _QUOTED)
)
SIZE_LINE_BYTES_MAX = 1024
# CVE-2023-39326: extensions may cost more than the data. Each chunk may have as many bytes of them
# as of data and a few more; what goes beyond that adds up to this at most.
EXTENSION_BYTES_MAX = 16 * 1024
EXTENSION_BYTES_FREE = 16
# Chunks of one byte cost a microsecond each: so many at a time, and others get their turn.
CHUNKS_AT_ONCE = 256
TRAILER_BYTES_MAX = 16 * 1024

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class ChunkReader:
    """Takes chunk by chunk out of a buffer that grows at its end.

    `done` turns true at the end of the body; what follows in the buffer is left there. `hungry`:
    the buffer holds nothing more to take, so more must be read.
    """

    __slots__ = (
        "_extension_bytes",
        "_left",
        "_state",
        "_trailer_bytes",
        "_trailers",
        "done",
        "hungry",
    )

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self._trailers: list[tuple[bytes, bytes]] = []
        self.done = False
        self.hungry = True

    @property
    def trailers(self) -> Fields:
        return tuple(self._trailers)

    def take(self, buffer: bytearray) -> bytes:
        """Payload that `buffer` holds, removed from it; b"" when it needs more or is done.

        At most CHUNKS_AT_ONCE chunks; `hungry` says whether the buffer had no more. Raises BadMessage(400) at the first byte that is not the coding.
        """
        out: list[bytes] = []
        self.hungry = True
        while self._state != _DONE and buffer:
            if len(out) >= CHUNKS_AT_ONCE:
                self.hungry = False
                break
            if self._state == _DATA:
                piece = bytes(buffer[: self._left])
                del buffer[: len(piece)]
                self._left -= len(piece)
                out.append(piece)
                if self._left:
                    break
                self._state = _DATA_END
            elif self._state == _DATA_END:
                if not b"\r\n".startswith(buffer[:2]):
                    raise BadMessage(400, "chunk data is longer than its size says")
                if len(buffer) < 2:
                    break
                del buffer[:2]
                self._state = _SIZE
            elif not self._take_line(buffer):
                break
        return b"".join(out)

    def _take_line(self, buffer: bytearray) -> bool:
        end = buffer.find(b"\n")
        trailer = self._state == _TRAILERS
        limit = TRAILER_BYTES_MAX if trailer else SIZE_LINE_BYTES_MAX
        if (len(buffer) if end < 0 else end) > limit:
            raise BadMessage(400, f"a line of the chunked coding is longer than {limit} bytes")
        if end < 0:
            return False
        if end == 0 or buffer[end - 1] != 0x0D:
            raise BadMessage(400, "a line of the chunked coding does not end in CRLF")
        line = bytes(buffer[: end - 1])
        del buffer[: end + 1]
        if trailer:
            self._take_trailer(line)
        else:
            self._take_size(line)
        return True

    def _take_size(self, line: bytes) -> None:
        match = _SIZE_LINE.match(line)
        if match is None:
            raise BadMessage(
                400,
                "a chunk does not begin with: hexadecimal size, extensions that are well-formed",
            )
        self._left = int(match[1], 16)
        beyond = len(match[2]) - self._left - EXTENSION_BYTES_FREE
        self._extension_bytes = max(self._extension_bytes + beyond, 0)
        if self._extension_bytes > EXTENSION_BYTES_MAX:
            raise BadMessage(400, "far more bytes of chunk extensions than of data")
        self._state = _DATA if self._left else _TRAILERS

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self._state = _DONE
            self.done = True
            return
        self._trailer_bytes += len(line)
        if self._trailer_bytes > TRAILER_BYTES_MAX:
            raise BadMessage(400, f"more than {TRAILER_BYTES_MAX} bytes of trailers")
        if len(self._trailers) == FIELDS_MAX:
            raise BadMessage(400, f"more than {FIELDS_MAX} trailers")
        name, value = parse_trailer_line(line)
        if name.lower() in REFUSED_IN_TRAILERS:
            raise BadMessage(400, f"{name.decode()} is no trailer")
        self._trailers.append((name, value))


def chunk(payload: bytes) -> bytes:
    """One chunk; `payload` must not be empty, since an empty chunk ends the body."""
    assert payload, "an empty chunk would end the body"
    return b"%x\r\n%s\r\n" % (len(payload), payload)
