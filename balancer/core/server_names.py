"""Which of several certificates is for a name, and which names one of them is for.

Decides by the names in the certificates alone. What a connection that asks for an unknown name is
given is not decided here.
"""

from collections.abc import Sequence


class ServerNames:
    """The names of certificates, in order; of two for the same name the first counts."""

    def __init__(self, certificates: Sequence[Sequence[str]]) -> None:
        self._names = [frozenset(map(plain_name, names)) for names in certificates]
        self._first: dict[str, int] = {}
        for at, names in enumerate(self._names):
            for name in names:
                self._first.setdefault(name, at)

    def find(self, name: str) -> int | None:
        """The certificate for this name: one that says it, else one that covers it; None: none."""
        name = plain_name(name)
        found = self._first.get(name)
        return self._first.get(covering(name)) if found is None else found

    def covers(self, at: int, name: str) -> bool:
        """Whether that certificate is for this name, whichever would be chosen."""
        name = plain_name(name)
        return name in self._names[at] or covering(name) in self._names[at]


def with_same_names(certificates: Sequence[Sequence[str]]) -> list[list[int]]:
    """By their positions, those that belong together, because they are for the same names."""
    together: dict[frozenset[str], list[int]] = {}
    for at, names in enumerate(certificates):
        together.setdefault(frozenset(map(plain_name, names)), []).append(at)
    return list(together.values())


def plain_name(name: str) -> str:
    """One spelling for one name; of an IPv6 address without its brackets."""
    return name.lower().removesuffix(".").removeprefix("[").removesuffix("]")


def covering(name: str) -> str:
    """The wildcard that stands for it: for one label, and never for an address (RFC 9525 6.3)."""
    _, dot, rest = name.partition(".")
    return f"*.{rest}" if dot and rest and not name.replace(".", "").isdigit() else ""


def host_of(authority: str) -> str:
    """A Host without its port."""
    host, colon, port = authority.rpartition(":")
    return host if colon and (port.isdigit() or not port) else authority
