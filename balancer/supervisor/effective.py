"""The config in force: the file, with what operators changed at runtime laid over it."""

from balancer.config.pool_settings import Backend
from balancer.config.settings import Settings
from balancer.config.show import effective_toml
from balancer.core.ledger import Ledger


def toml_in_force(settings: Settings, ledger: Ledger) -> str:
    """As TOML that loads; admin states, which no file holds, are told in comments above it."""
    pools = {}
    told = []
    for name, pool in settings.pools.items():
        backends = []
        for entry in ledger.entries(name):
            backends.append(Backend(address=entry.address, weight=entry.weight))
            if not entry.admin.serves:
                told.append(f"# pools.{name}: {entry.address} is in {entry.admin} by the operator")
        pools[name] = pool.model_copy(update={"backends": tuple(backends)})
    text = effective_toml(settings.model_copy(update={"pools": pools}))
    return "\n".join([*told, text])
