"""How much a certificate's end concerns an operator."""

from enum import StrEnum

DAY_S = 86400.0
SOON_S = 30 * DAY_S
URGENT_S = 7 * DAY_S


class Concern(StrEnum):
    """From none to the worst."""

    NONE = "ok"
    SOON = "expires soon"
    URGENT = "expires within days"
    EXPIRED = "expired"

    @property
    def rank(self) -> int:
        return list(Concern).index(self)


def concern(left_s: float) -> Concern:
    """Of a certificate that is valid for so many seconds more."""
    if left_s <= 0:
        return Concern.EXPIRED
    if left_s <= URGENT_S:
        return Concern.URGENT
    return Concern.SOON if left_s <= SOON_S else Concern.NONE


def left_in_words(left_s: float) -> str:
    """When it ends or ended, to the day; within two days to the hour."""
    whole = abs(left_s)
    if whole >= 2 * DAY_S:
        span = f"{whole / DAY_S:.0f} days"
    else:
        hours = round(whole / 3600)
        span = f"{hours} hour{'' if hours == 1 else 's'}"
    return f"expires in {span}" if left_s > 0 else f"expired {span} ago"
