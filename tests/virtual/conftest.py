"""What tests of exchanges share: the plain path and the general flow must be told apart by nobody."""

import pytest

from balancer.proxy import plain_exchange


@pytest.fixture(params=["plain", "general"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test as it is, and once more with every request called unusual."""
    if request.param == "general":
        monkeypatch.setattr(plain_exchange, "plain_request", lambda *_: None)
