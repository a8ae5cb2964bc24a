"""What became of a backend's attempts, and which of them is news to whoever judges it."""

from dataclasses import dataclass

from healthcheck.core.verdict import Evidence


@dataclass(slots=True)
class Tally:
    """Counts of one backend, and whether its next success is news.

    `failed_began`: when its latest failure began. A success that began no earlier settles it; the
    judge may find an older one too old.
    """

    requests: int = 0
    failures: int = 0
    failed_began: float | None = None

    def count(self, evidence: Evidence, *, began: float, on_trial: bool) -> bool:
        """Count an attempt that began then and has ended; whether the judge must hear of it.

        Every failure is news; a success only after one or on trial, so that a healthy backend's
        traffic costs the judge nothing.
        """
        self.requests += 1
        if evidence is Evidence.FAILURE:
            self.failures += 1
            self.failed_began = began
            return True
        if evidence is not Evidence.SUCCESS:
            return False
        unsettled = self.failed_began is not None
        if self.failed_began is not None and began >= self.failed_began:
            self.failed_began = None
        return unsettled or on_trial
