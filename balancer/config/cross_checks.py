"""What two settings say together that neither says alone.

Looks at the data as the file has it, not at finished settings, so that these errors are reported
beside those of single values; what has not the right shape is passed over, the models refuse it.
"""

from collections.abc import Callable, Iterator, Mapping

from balancer.config.durations import parse_duration
from balancer.config.errors import Finding, Place, Unfit
from balancer.config.values import address_of, bind_of
from balancer.config.wording import did_you_mean, dotted, one_of, shown

# A connection has no path, no status and no body.
HTTP_ONLY = (
    "path",
    "method",
    "headers",
    "host",
    "status",
    "body_contains",
    "body_matches",
    "body_limit",
    "tls",
    "verify",
)


def cross_checks(data: object) -> Iterator[Finding]:
    """Every contradiction within one config."""
    top = _table(data)
    yield from _listeners_differ(top)
    yield from _somebody_may_introduce(top)
    yield from _tls_agrees(top)
    pools = _table(top.get("pools"))
    for name, pool in pools.items():
        path = ("pools", name)
        yield from _backends_differ(_table(pool), path)
        yield from _health_agrees(_table(_table(pool).get("health")), (*path, "health"))
        yield from _keys_have_certificates(_table(_table(pool).get("tls")), (*path, "tls"))
        yield from _ejections_agree(_table(_table(pool).get("passive")), (*path, "passive"))
    yield from _routes_lead_somewhere(top, pools)


def _listeners_differ(top: Mapping[str, object]) -> Iterator[Finding]:
    places: list[tuple[Place, object]] = [
        (("listeners", at, "bind"), _table(listener).get("bind"))
        for at, listener in enumerate(_list(top.get("listeners")))
    ]
    admin = _table(top.get("admin"))
    places.append((("admin", "health"), admin.get("health")))
    if isinstance(admin.get("socket"), str):
        places.append((("admin", "socket"), f"unix:{admin['socket']}"))
    yield from _repeated(places, bind_of)


def _somebody_may_introduce(top: Mapping[str, object]) -> Iterator[Finding]:
    for at, listener in enumerate(map(_table, _list(top.get("listeners")))):
        believed = listener.get("proxy_protocol_from", top.get("trusted_proxies", []))
        if listener.get("proxy_protocol") == "required" and believed == []:
            message = (
                "PROXY headers are required and nobody may send them, so nobody could connect;"
                " name the networks of your proxies in 'proxy_protocol_from'"
            )
            yield Finding(path=("listeners", at, "proxy_protocol"), message=message)


def _tls_agrees(top: Mapping[str, object]) -> Iterator[Finding]:
    for at, listener in enumerate(map(_table, _list(top.get("listeners")))):
        tls, path = _table(listener.get("tls")), ("listeners", at, "tls")
        asks = tls.get("client_auth", "off") in ("optional", "required")
        if asks and "client_ca" not in tls:
            message = (
                "clients are to show a certificate, and nobody is said to vouch for one;"
                " name the file of its authorities in 'client_ca'"
            )
            yield Finding(path=(*path, "client_auth"), message=message)
        if tls.get("hsts_subdomains") is True and "hsts" not in tls:
            message = "means nothing without 'hsts', which says for how long"
            yield Finding(path=(*path, "hsts_subdomains"), message=message)


def _backends_differ(pool: Mapping[str, object], path: Place) -> Iterator[Finding]:
    places: list[tuple[Place, object]] = []
    for at, backend in enumerate(_list(pool.get("backends"))):
        place = (*path, "backends", at)
        places.append((place, backend))
        if isinstance(backend, dict):
            places[-1] = ((*place, "address"), backend.get("address"))
    yield from _repeated(places, address_of)


def _repeated(
    places: list[tuple[Place, object]], canonical: Callable[[str], str]
) -> Iterator[Finding]:
    first: dict[str, Place] = {}
    for path, written in places:
        try:
            place = canonical(written) if isinstance(written, str) else None
        except Unfit:
            continue
        if place is None or place.endswith(":0"):  # port 0 is another port each time
            continue
        if place in first:
            message = f"{shown(place)} is there twice; {dotted(first[place])} has it already"
            yield Finding(path=path, message=message, first=first[place])
        first.setdefault(place, path)


def _health_agrees(health: Mapping[str, object], path: Place) -> Iterator[Finding]:
    if health.get("type") == "tcp":
        for key in HTTP_ONLY:
            if key in health:
                message = (
                    f"'{key}' means nothing to a probe of type \"tcp\", which only connects;"
                    ' remove it, or use type = "http"'
                )
                yield Finding(path=(*path, key), message=message)
    elif "body_contains" in health and "body_matches" in health:
        message = "'body_contains' and 'body_matches' exclude each other; keep one of them"
        yield Finding(path=(*path, "body_matches"), message=message, first=(*path, "body_contains"))
    for key in ("body_contains", "body_matches"):
        if key in health and health.get("method") == "HEAD":
            message = f"an answer to HEAD has no body, so '{key}' can never be met; use GET"
            yield Finding(path=(*path, key), message=message)


def _keys_have_certificates(tls: Mapping[str, object], path: Place) -> Iterator[Finding]:
    if "key" in tls and "certificate" not in tls:
        message = "a key is of no use without 'certificate'; add it, or remove the key"
        yield Finding(path=(*path, "key"), message=message)
    if tls.get("verify") is False and "ca" in tls:
        message = (
            "with verify = false nobody is asked whom this file believes; remove one of the two"
        )
        yield Finding(path=(*path, "ca"), message=message, first=(*path, "verify"))


def _ejections_agree(passive: Mapping[str, object], path: Place) -> Iterator[Finding]:
    base, most = passive.get("base_ejection"), passive.get("max_ejection")
    try:
        shorter = (
            base is not None and most is not None and parse_duration(most) < parse_duration(base)
        )
    except Unfit:
        return
    if shorter:
        message = "'max_ejection' is shorter than 'base_ejection'; no ejection could last that long"
        yield Finding(path=(*path, "max_ejection"), message=message, first=(*path, "base_ejection"))


def _routes_lead_somewhere(
    top: Mapping[str, object], pools: Mapping[str, object]
) -> Iterator[Finding]:
    routes = _list(top.get("routes"))
    for at, route in enumerate(routes):
        name = _table(route).get("pool")
        if isinstance(name, str) and name not in pools:
            hint = did_you_mean(name, pools)
            known = f"; the pools are {one_of(tuple(pools))}" if pools and not hint else hint
            message = f"there is no pool {shown(name)}{known}"
            yield Finding(path=("routes", at, "pool"), message=message)
    if len(pools) > 1 and top.get("routes", []) == []:
        second = tuple(pools)[1]
        message = (
            f"there are {len(pools)} pools and no [[routes]], so nothing says which requests go"
            f' where; add one for each, such as path = "/" and pool = {shown(second)}'
        )
        yield Finding(path=("pools", second), message=message)


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
