"""Lines that lead to systemd's journal say there how much they matter: sd-daemon(3).

Decides whether they lead there, and nothing about what they say.
"""

import os
from collections.abc import Mapping

# syslog's numbers; the journal cuts them off.
PRIORITY_OF = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>", "critical": "<2>"}


def leads_to_journal(env: Mapping[str, str], descriptor: int) -> bool:
    """Whether that descriptor is the one that the service manager has connected with the journal."""
    place = os.fstat(descriptor)
    return env.get("JOURNAL_STREAM") == f"{place.st_dev}:{place.st_ino}"
