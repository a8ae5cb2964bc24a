"""The plainest probe: a target that takes a connection is well."""

from healthcheck.core.verdict import Outcome, Verdict
from healthcheck.probing import Probe
from healthcheck.probing.faults import verdict_of
from healthcheck.probing.place import Place, connect


def tcp_probe(place: Place) -> Probe:
    """A probe that connects to `place` and closes the connection again."""

    async def probe() -> Verdict:
        try:
            sock = await connect(place)
        except OSError as error:
            return verdict_of(error, place.name) or Verdict(Outcome.FAIL, str(error))
        sock.close()
        return Verdict(Outcome.PASS, "connected")

    return probe
