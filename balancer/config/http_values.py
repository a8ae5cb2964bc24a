"""The kinds of value that speak of HTTP: hosts, paths, methods, fields, statuses, body patterns.

As in `values`, every refusal says what would be right.
"""

import ipaddress
import re
import warnings
from typing import Annotated, TypeAlias

from balancer.config.errors import Unfit
from balancer.config.values import Read, text
from balancer.config.wording import did_you_mean, shown
from balancer.core.field_names import is_written_anew, passes_anyway, read_as
from balancer.core.upgrades import may_be_tunnelled

_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*"
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_FIELD_VALUE = re.compile(r"[!-~\x80-\U0010ffff]([\t -~\x80-\U0010ffff]*[!-~\x80-\U0010ffff])?|")
_STATUS = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_URL_PATH = re.compile(r"/[!-~]*")


def route_host_of(value: str) -> str:
    """A host name in lower case, without its trailing dot; `*.` in front covers what is below."""
    name = value.lower().removesuffix(".")
    if _HOST.fullmatch(name.removeprefix("*.")) or _is_ip(name):
        return name
    hint = ""
    if re.fullmatch(r"(https?://)?[^:/\[\]]+(:[0-9]+)?/?", name):
        bare = re.sub(r"^https?://|:[0-9]+/?$|/$", "", name)
        fits = _HOST.fullmatch(bare.removeprefix("*.")) and bare != name
        hint = f'; only the name counts here: "{bare}"' if fits else ""
    raise Unfit(
        f'expected a host name such as "example.com" or "*.example.com", got {shown(value)}{hint}'
    )


def probe_host_of(value: str) -> str:
    if _TOKEN.fullmatch(value.replace(":", "").replace("[", "").replace("]", "")):
        return value
    raise Unfit(f'expected a host such as "example.com", got {shown(value)}')


def server_name_of(value: str) -> str:
    """A name, or an address, that a certificate can be for."""
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,39}", value):
        return value
    raise Unfit(
        f'expected a name such as "backend.example.com", without a port, got {shown(value)}'
    )


def url_path_of(value: str) -> str:
    if _URL_PATH.fullmatch(value) and "#" not in value:
        return value
    if not value.startswith("/"):
        raise Unfit(f'expected a path that starts with "/", got {shown(value)}')
    raise Unfit(f"{shown(value)} has a character that must be percent-encoded in a path, or a '#'")


def route_path_of(value: str) -> str:
    if "?" in url_path_of(value):
        raise Unfit(f"{shown(value)} has a query; routes look at the path only")
    return value


def method_of(value: str) -> str:
    if _TOKEN.fullmatch(value) and value == value.upper() and value != "CONNECT":
        return value
    known = ("GET", "HEAD", "OPTIONS", "POST")
    hint = (
        f"; did you mean '{value.upper()}'?"
        if value.upper() in known
        else did_you_mean(value, known)
    )
    raise Unfit(f'expected an HTTP method such as "GET" or "HEAD", got {shown(value)}{hint}')


def upgrade_protocol_of(value: str) -> str:
    """RFC 9110 7.8: a name, with or without a version; in lower case, as they are compared."""
    name, slash, version = value.partition("/")
    if not _TOKEN.fullmatch(name) or (slash and not _TOKEN.fullmatch(version)):
        raise Unfit(f'expected the name of a protocol such as "websocket", got {shown(value)}')
    if not may_be_tunnelled(value):
        raise Unfit(
            f"{shown(value)} is never tunnelled: requests in it would pass every rule here unseen"
        )
    return value.lower()


def header_name_of(value: str) -> str:
    if _TOKEN.fullmatch(value):
        return value
    raise Unfit(f"{shown(value)} is no header name; letters, digits and '-' make one")


def dropped_field_of(value: str) -> str:
    """The name of a field that is dropped unless somebody says otherwise, in lower case."""
    name = header_name_of(value).lower()
    if is_written_anew(name):
        raise Unfit(
            f"{shown(value)} cannot be allowed: some backends take it for '{read_as(name)}',"
            " which the balancer writes itself"
        )
    if passes_anyway(name):
        raise Unfit(f"{shown(value)} is never dropped; remove it")
    return name


def header_value_of(value: str) -> str:
    if _FIELD_VALUE.fullmatch(value):
        return value
    # The value may be a secret, so it is not shown.
    raise Unfit(
        "a header value cannot hold line breaks or control characters, nor begin or end with a space"
    )


def regex_of(value: str) -> str:
    """A pattern that compiles for text and for bytes alike."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(value)
            re.compile(value.encode(errors="replace"))
    except (re.error, OverflowError, RecursionError, ValueError) as exc:
        raise Unfit(f"{shown(value)} is no valid regular expression: {exc}") from None
    return value


def status_range_of(value: object) -> str:
    """`"200-299"` or `"204"`; a bare number is as good."""
    written = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    found = _STATUS.fullmatch(written) if isinstance(written, str) else None
    if found is None:
        hint = ""
        if isinstance(value, str) and re.fullmatch(r"[1-5]xx", value.lower()):
            hint = f'; did you mean "{value[0]}00-{value[0]}99"?'
        raise Unfit(
            f'expected a status such as "200" or a range such as "200-299", within 100 to 599, got {shown(value)}{hint}'
        )
    if found[2] and found[2] < found[1]:
        raise Unfit(f'{shown(value)} runs backwards; did you mean "{found[2]}-{found[1]}"?')
    return found.group()


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


_STATUS_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": f"^{_STATUS.pattern}$"},
        {"type": "integer", "minimum": 100, "maximum": 599},
    ]
}
RouteHost: TypeAlias = Annotated[str, text(route_host_of)]
RoutePath: TypeAlias = Annotated[str, text(route_path_of)]
ServerName: TypeAlias = Annotated[str, text(server_name_of)]
ProbeHost: TypeAlias = Annotated[str, text(probe_host_of)]
UrlPath: TypeAlias = Annotated[str, text(url_path_of)]
Method: TypeAlias = Annotated[str, text(method_of)]
UpgradeProtocol: TypeAlias = Annotated[str, text(upgrade_protocol_of)]
HeaderName: TypeAlias = Annotated[str, text(header_name_of)]
DroppedField: TypeAlias = Annotated[str, text(dropped_field_of)]
HeaderValue: TypeAlias = Annotated[str, text(header_value_of)]
Regex: TypeAlias = Annotated[str, text(regex_of)]
StatusRange: TypeAlias = Annotated[str, Read(status_range_of, _STATUS_SCHEMA)]
