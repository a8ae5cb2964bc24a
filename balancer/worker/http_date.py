"""The date of an HTTP message (RFC 9110 5.6.7), made once a second."""

import time
from collections.abc import Callable

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class HttpDate:
    """Call it for the date now; `wall` says the seconds since 1970."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._second = -1
        self._text = b""

    def __call__(self) -> bytes:
        second = int(self._wall())
        if second != self._second:
            self._second, self._text = second, _written(second)
        return self._text


def _written(second: int) -> bytes:
    at = time.gmtime(second)
    # Not strftime: its names follow the locale.
    day, month = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1]
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{day}, {at.tm_mday:02} {month} {at.tm_year:04} {clock} GMT".encode("ascii")
