"""What the models refuse, in words that say what would be right.

No message of pydantic's own is passed on: each type of error has its wording here, and what has
none still gets a sentence made from the setting's description.
"""

import re
from collections.abc import Callable, Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from balancer.config.errors import Finding, Place
from balancer.config.tables import TABLES, shape_of
from balancer.config.values import OWN_WORDS
from balancer.config.wording import did_you_mean, dotted, shown

# What others call our settings.
_OTHER_NAMES = {
    "algorithm": "policy",
    "balance": "policy",
    "fall": "fails",
    "listen": "bind",
    "lb_policy": "policy",
    "members": "backends",
    "nodes": "backends",
    "rise": "passes",
    "server": "address",
    "servers": "backends",
    "targets": "backends",
    "upstream": "pool",
    "uri": "path",
    "url": "address",
}
_EXAMPLES: Mapping[tuple[str, ...], str] = {
    ("listeners",): 'there must be at least one, such as bind = "0.0.0.0:8080" below [[listeners]]',
    (
        "pools",
    ): 'there must be at least one, such as backends = ["127.0.0.1:9001"] below [pools.web]',
}


def findings_of(error: ValidationError, data: object) -> list[Finding]:
    """Each refusal with the place in the file that it is about."""
    found = error.errors(include_url=False, include_context=True)
    return [_finding(each, data) for each in found if not _only_follows(each)]


def _only_follows(error: ErrorDetails) -> bool:
    """A list is too short for pydantic also when each element of it was refused."""
    return error["type"] == "too_short" and len(error["input"]) > 0


def _finding(error: ErrorDetails, data: object) -> Finding:
    path = _within(data, error["loc"])
    if error["type"] == "extra_forbidden":
        return Finding(path=path, message=_unknown_key(path))
    say = WORDING.get(error["type"], _cannot_use)
    return Finding(path=path, message=say(error))


def _within(data: object, loc: Place) -> Place:
    """As much of the place as the file has: a bare address has no key 'address' to point at."""
    path: list[str | int] = []
    for part in loc:
        match data, part:
            case dict(), _ if part in data:
                data = data[part]
            case list(), int() if part < len(data):
                data = data[part]
            case _:
                break
        path.append(part)
    return tuple(path)


def _unknown_key(path: Place) -> str:
    *around, last = path
    key, shape = str(last), shape_of(tuple(around))
    known = TABLES[shape].model_fields
    other_name = _OTHER_NAMES.get(key.lower(), "")
    if other_name in known:
        return f"unknown key {shown(key)}; did you mean '{other_name}'?"
    hint = did_you_mean(key, known) or _belongs_elsewhere(key, shape)
    if not hint and other_name:
        hint = _belongs_elsewhere(other_name, shape).replace("it", f"'{other_name}'", 1)
    return f"unknown key {shown(key)}" + (hint or f"; known here: {', '.join(known)}")


def _belongs_elsewhere(key: str, shape: tuple[str, ...]) -> str:
    homes = [each for each, model in TABLES.items() if key in model.model_fields]
    homes.sort(key=lambda each: each[: len(shape)] != shape)  # below this table first
    if not homes:
        return ""
    if homes[0]:
        return f"; it belongs in {_written(homes[0])}"
    return "; it belongs at the top of the file, before the first [table]"


def _written(shape: tuple[str, ...]) -> str:
    """`[pools.NAME.health]`, `[[routes]]`: a table as its header is written."""
    if (shape[-1] == "*" and shape[0] != "pools") or shape[-2:] == ("backends", "*"):
        return f"[[{'.'.join(shape[:-1])}]]".replace("*", "NAME")
    return f"[{'.'.join(shape)}]".replace("*", "NAME")


def _own_words(error: ErrorDetails) -> str:
    return str(error["ctx"]["words"])


def _missing(error: ErrorDetails) -> str:
    *around, last = error["loc"]
    example = _EXAMPLES.get(shape_of(error["loc"]))
    if example:
        return f"missing {_headed(str(last))}: {example}"
    description = TABLES[shape_of(tuple(around))].model_fields[str(last)].description
    return f"missing '{last}': {description}"


def _too_few(error: ErrorDetails) -> str:
    example = _EXAMPLES.get(shape_of(error["loc"]), "expected at least one element")
    return f"is empty: {example}"


def _headed(name: str) -> str:
    return f"[[{name}]]" if name == "listeners" else f"[{name}.NAME]"


def _expected(what: str) -> Callable[[ErrorDetails], str]:
    return lambda error: f"expected {what}, got {shown(error['input'])}{_type_hint(error)}"


def _type_hint(error: ErrorDetails) -> str:
    given, kind = error["input"], error["type"]
    if isinstance(given, str):
        number = kind in ("int_type", "float_type") and re.fullmatch(r"-?[0-9.]+", given)
        if number or (kind == "bool_type" and given in ("true", "false")):
            return "; leave out the quotes"
        if kind == "bool_type" and given.lower() in ("yes", "on", "no", "off"):
            return f"; write {'true' if given.lower() in ('yes', 'on') else 'false'}"
    header = dotted(tuple(part for part in error["loc"] if isinstance(part, str)))
    if kind == "tuple_type":
        table = isinstance(given, dict)
        return (
            f"; write [[{header}]] in double brackets" if table else "; write it in brackets: […]"
        )
    if kind in ("model_type", "dict_type") and isinstance(given, list):
        return f"; write [{header}] in single brackets"
    return ""


def _model(error: ErrorDetails) -> str:
    if shape_of(error["loc"])[-2:-1] == ("backends",):
        what = 'an address in quotes or a table such as { address = "…", weight = 2 }'
        return _expected(what)(error)
    return _expected("a table")(error)


def _bound(word: str, key: str) -> Callable[[ErrorDetails], str]:
    return lambda error: f"expected {error['ctx'][key]:g} {word}, got {shown(error['input'])}"


def _literal(error: ErrorDetails) -> str:
    given, expected = error["input"], str(error["ctx"]["expected"])
    near = did_you_mean(given, re.findall(r"'([^']*)'", expected)) if isinstance(given, str) else ""
    return f"expected {expected}, got {shown(given)}{near}"


def _pool_name(error: ErrorDetails) -> str:
    return (
        "a pool's name begins with a letter or digit and has letters, digits, '-', '_' and '.',"
        f" at most 63; got {shown(error['input'])}"
    )


def _cannot_use(error: ErrorDetails) -> str:
    """For what no wording was foreseen: the setting's description says what would be right."""
    *around, last = error["loc"] or ("",)
    model = TABLES.get(shape_of(tuple(around)))
    field = model.model_fields.get(str(last)) if model else None
    hint = f"; it is: {field.description}" if field else ""
    return f"cannot use {shown(error['input'])} here{hint}"


WORDING: Mapping[str, Callable[[ErrorDetails], str]] = {
    OWN_WORDS: _own_words,
    "missing": _missing,
    "too_short": _too_few,
    "string_type": _expected('text in quotes ("…")'),
    "string_unicode": lambda _: "holds bytes that are no UTF-8 text",
    "string_too_short": lambda _: "cannot be empty",
    "string_pattern_mismatch": _pool_name,
    "int_type": _expected("a whole number"),
    "float_type": _expected("a number"),
    "finite_number": _expected("an ordinary number"),
    "bool_type": _expected("true or false"),
    "literal_error": _literal,
    "tuple_type": _expected("a list"),
    "dict_type": _expected("a table"),
    "model_type": _model,
    "greater_than_equal": _bound("or more", "ge"),
    "less_than_equal": _bound("or less", "le"),
}
