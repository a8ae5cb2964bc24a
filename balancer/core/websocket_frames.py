"""Where WebSocket frames begin and end (RFC 6455 5.2), read in passing, and the frame that closes.

Judges nothing: what a frame means, and whether it is right, is between the two ends. Only a close
frame is told apart, because nothing may follow it.
"""

_CLOSE = 0x8
_OPCODE, _MASKED, _LENGTH = 0x0F, 0x80, 0x7F
_LENGTH_IN_2, _LENGTH_IN_8 = 126, 127
# Two bytes, a length of eight, a mask of four.
_HEADER_BYTES_MAX = 14
# RFC 6455 7.4.1: going away.
_GOING_AWAY = (1001).to_bytes(2)


def going_away(mask: bytes | None) -> bytes:
    """A close frame 1001; towards a backend with a mask of four bytes, as a client's must have."""
    if mask is None:
        return bytes([0x80 | _CLOSE, len(_GOING_AWAY)]) + _GOING_AWAY
    masked = bytes(octet ^ mask[at] for at, octet in enumerate(_GOING_AWAY))
    return bytes([0x80 | _CLOSE, _MASKED | len(_GOING_AWAY)]) + mask + masked


class FrameScanner:
    """Follows one direction of a WebSocket from its first byte on.

    `left`: bytes of the frame under way that are still to come, as far as its header is known.
    `closed`: a close frame has passed whole. `frames`: headers read so far.
    """

    __slots__ = ("_closes", "_header", "closed", "frames", "left")

    def __init__(self) -> None:
        self._header = b""
        self._closes = False
        self.left = 0
        self.closed = False
        self.frames = 0

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte begins a frame."""
        return not self.left and not self._header

    def passed(self, size: int) -> None:
        """So many bytes of the frame under way have passed by without being looked at."""
        self.left -= size
        if not self.left:
            self._frame_ends()

    def feed(self, data: bytes, *, to_boundary: bool = False) -> int:
        """Read on; how many bytes were read: all of them, or those up to the next boundary."""
        at, end = 0, len(data)
        while at < end and not (to_boundary and self.at_boundary):
            if self.left:
                step = min(self.left, end - at)
                at += step
                self.passed(step)
            else:
                at = self._read_header(data, at)
        return at

    def _read_header(self, data: bytes, at: int) -> int:
        known = len(self._header)
        header = self._header + data[at : at + _HEADER_BYTES_MAX - known]
        size = _header_bytes(header)
        if len(header) < size:
            self._header = header
            return len(data)
        self._header = b""
        self.frames += 1
        self._closes = header[0] & _OPCODE == _CLOSE
        self.left = _payload_bytes(header)
        if not self.left:
            self._frame_ends()
        return at + size - known

    def _frame_ends(self) -> None:
        self.closed = self.closed or self._closes


def _header_bytes(header: bytes) -> int:
    """How long a header is that begins so."""
    if len(header) < 2:
        return 2
    length = header[1] & _LENGTH
    of_length = {_LENGTH_IN_2: 2, _LENGTH_IN_8: 8}.get(length, 0)
    return 2 + of_length + (4 if header[1] & _MASKED else 0)


def _payload_bytes(header: bytes) -> int:
    length = header[1] & _LENGTH
    if length == _LENGTH_IN_2:
        return int.from_bytes(header[2:4])
    if length == _LENGTH_IN_8:
        return int.from_bytes(header[2:10])
    return length
