"""What became of a backend's attempts, and which of them is news to whoever judges it."""

from dataclasses import dataclass

from healthcheck.core.verdict import Evidence


@dataclass(slots=True)
class Tally:
    """Counts of one backend. `unsettled`: it failed, so its next success is news."""

    requests: int = 0
    failures: int = 0
    unsettled: bool = False

    def count(self, evidence: Evidence, *, on_trial: bool) -> bool:
        """Count an attempt that ended; whether the judge must hear of it.

        Every failure is news; a success only after one or on trial, so that a healthy backend's
        traffic costs the judge nothing.
        """
        self.requests += 1
        if evidence is Evidence.FAILURE:
            self.failures += 1
            self.unsettled = True
            return True
        news = (self.unsettled or on_trial) and evidence is Evidence.SUCCESS
        if news:
            self.unsettled = False
        return news
