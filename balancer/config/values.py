"""The kinds of value that settings are made of: what each accepts, and how a schema describes it.

Strict: no text is taken for a number, no number for a text, true for nothing but true. Every
refusal is an `Unfit` whose text an operator can act on.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, Strict
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from balancer.config.durations import format_duration, format_size, parse_duration, parse_size
from balancer.config.errors import Unfit
from balancer.config.wording import shown
from balancer.core.address import (
    ADDRESS_CHARS_MAX,
    AddressError,
    parse_address,
    why_no_socket_path,
)
from balancer.core.board import WORKERS_MAX
from balancer.core.trust import UNIX_NETWORK

# The type of every error that carries its own words.
OWN_WORDS = "unfit"

# sockaddr_un.sun_path holds 108 bytes, the last of them zero.
_UNIX_PATH_BYTES_MAX = 107

T = TypeVar("T")
# TOML has lists only; settings keep what nobody can change.
Items = Annotated[tuple[T, ...], Strict(False)]


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """Turns what the file holds into the setting with one function; that is the whole check."""

    read: Callable[[Any], object]
    schema: dict[str, Any]
    # How the value is written in a config; None: as it is.
    write: Callable[[Any], object] | None = None

    def __get_pydantic_core_schema__(self, _: object, __: GetCoreSchemaHandler) -> CoreSchema:
        def validate(value: object) -> object:
            try:
                return self.read(value)
            except Unfit as exc:
                raise PydanticCustomError(OWN_WORDS, "{words}", {"words": str(exc)}) from None

        return core_schema.no_info_plain_validator_function(validate)

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(self.schema)


def duration(*, least: str = "1ms", most: str = "1h") -> Read:
    def read(value: object) -> float:
        seconds = parse_duration(value)
        if not parse_duration(least) <= seconds <= parse_duration(most):
            raise Unfit(f"expected a duration from {least} to {most}, got {shown(value)}")
        return seconds

    one = r"[0-9]+(\.[0-9]+)?"
    pattern = "".join(f"({one}{unit})?" for unit in ("d", "h", "m", "s", "ms"))
    schema = {
        "anyOf": [
            {"type": "string", "pattern": f"^{pattern}$|\\$\\{{"},
            {"type": "number", "minimum": 0},
        ]
    }
    return Read(read, schema, format_duration)


def size(*, least: str, most: str) -> Read:
    def read(value: object) -> int:
        octets = parse_size(value)
        if not parse_size(least) <= octets <= parse_size(most):
            raise Unfit(f"expected a size from {least} to {most}, got {shown(value)}")
        return octets

    text = {"type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)$|\\$\\{"}
    return Read(read, {"anyOf": [text, {"type": "integer", "minimum": 0}]}, format_size)


def text(read: Callable[[str], str]) -> Read:
    """A setting that is text and stays text."""

    def read_text(value: object) -> str:
        if not isinstance(value, str):
            raise Unfit(f'expected text in quotes ("…"), got {shown(value)}')
        if not value.isascii() and any("\ud800" <= ch <= "\udfff" for ch in value):
            raise Unfit("holds bytes that are no UTF-8 text")  # from a variable: a file cannot
        return read(value)

    return Read(read_text, {"type": "string"})


def workers_of(value: object) -> int | str:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value == "auto" or (whole and isinstance(value, int) and 1 <= value <= WORKERS_MAX):
        return value
    raise Unfit(f'expected "auto" or a whole number from 1 to {WORKERS_MAX}, got {shown(value)}')


def address_of(value: str, *, any_port: bool = False) -> str:
    """The canonical address; messages of the parser quote it whole, so it must bear quoting."""
    if not value.isprintable() or len(value) > ADDRESS_CHARS_MAX:
        raise Unfit(f'expected an address such as "10.0.0.1:8080", got {shown(value)}')
    try:
        return str(parse_address(value, any_port=any_port))
    except AddressError as exc:
        raise Unfit(str(exc)) from None


def bind_of(value: str) -> str:
    """A place to listen on: an IP address with a port (0: any free one), or a unix socket."""
    port = value.rpartition(":")[2]
    if port.isascii() and port.isdigit() and value in (port, f":{port}", f"*:{port}"):
        both = f'"0.0.0.0:{port}" (IPv4) or "[::]:{port}" (IPv6)'
        raise Unfit(f"{shown(value)} does not say on which address; write {both}")
    bind = address_of(value, any_port=True)
    if parse_address(bind, any_port=True).is_name:
        here = "127.0.0.1" if "localhost" in bind else "0.0.0.0"  # noqa: S104 - a hint
        raise Unfit(f'expected an IP address such as "{here}:{port}", got the name {shown(value)}')
    return bind


def health_bind_of(value: str) -> str:
    if value.startswith("unix:"):
        raise Unfit(
            "expected an IP address and port; the admin socket already serves the same pages"
        )
    return bind_of(value)


def file_path_of(value: str) -> str:
    if not value or not value.isprintable():
        raise Unfit(f"expected the path of a file, got {shown(value)}")
    return value


def socket_path_of(value: str) -> str:
    why = why_no_socket_path(value)
    if why is not None:
        raise Unfit(why)
    used = len(file_path_of(value).encode(errors="replace"))
    if used > _UNIX_PATH_BYTES_MAX:
        raise Unfit(
            f"a socket path holds at most {_UNIX_PATH_BYTES_MAX} bytes, this one has {used}"
        )
    return value


def trusted_network_of(value: str) -> str:
    if value == UNIX_NETWORK:
        return value
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise Unfit(
            f'expected a network such as "10.0.0.0/8" or "fd00::/8", or "unix:", got {shown(value)}'
        ) from None
    raise Unfit(f'{shown(value)} has bits set beyond its prefix; did you mean "{network}"?')


_WORKERS_SCHEMA = {
    "anyOf": [
        {"type": "string", "enum": ["auto"]},
        {"type": "integer", "minimum": 1, "maximum": WORKERS_MAX},
    ]
}

Workers: TypeAlias = Annotated[Literal["auto"] | int, Read(workers_of, _WORKERS_SCHEMA)]
BackendAddress: TypeAlias = Annotated[str, text(address_of)]
BindAddress: TypeAlias = Annotated[str, text(bind_of)]
HealthBind: TypeAlias = Annotated[str, text(health_bind_of)]
FilePath: TypeAlias = Annotated[str, text(file_path_of)]
SocketPath: TypeAlias = Annotated[str, text(socket_path_of)]
TrustedNetwork: TypeAlias = Annotated[str, text(trusted_network_of)]
