"""Settings written as a config again, every setting in it, so that loading it gives them back."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from balancer.config.cross_checks import HTTP_ONLY
from balancer.config.pool_settings import Backend, Health
from balancer.config.settings import Admin, Settings
from balancer.config.tls_settings import Certificate
from balancer.config.values import Read
from balancer.config.variables import escaped

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHOW_ON_ONE_LINE = 3


def effective_toml(settings: Settings) -> str:
    """The whole config. What has no value (such as a probe's own port) is left out."""
    return "\n".join(_table(settings, "")).strip("\n") + "\n"


def as_json(settings: Settings) -> str:
    """The whole config with seconds and bytes as numbers, for programs."""
    return json.dumps(settings.model_dump(mode="json"), indent=2, ensure_ascii=False)


def written(field: FieldInfo, value: Any) -> object:
    """A value as a config holds it: durations and sizes with their units."""
    read = _read_of(field)
    return value if value is None or read is None or read.write is None else read.write(value)


def quoted(text: str) -> str:
    """A TOML string. JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _table(table: BaseModel, header: str) -> Iterator[str]:
    """Its own settings first: what follows a [header] belongs to that table."""
    below: list[str] = []
    connects_only = isinstance(table, Health) and table.type == "tcp"
    for name, field in type(table).model_fields.items():
        if connects_only and name in HTTP_ONLY:
            continue
        value = getattr(table, name)
        place = f"{header}.{name}" if header else name
        if isinstance(value, BaseModel):
            below += ["", f"[{place}]", *_table(value, place)]
        elif name == "pools":
            for pool_name, pool in value.items():
                pool_place = f"{place}.{_key(pool_name)}"
                below += ["", f"[{pool_place}]", *_table(pool, pool_place)]
        elif name in ("listeners", "routes"):
            for each in value:
                below += ["", f"[[{place}]]", *_table(each, place)]
        elif isinstance(table, Admin) and not value and name in ("socket", "state"):
            # An absent state means the default place, "" means none; no socket is the default one.
            yield from ['state = ""'] if name == "state" else []
        elif value is not None:
            yield f"{name} = {_value(written(field, value))}"
    yield from below


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(escaped(value))
        case Backend(weight=1):
            return quoted(escaped(value.address))
        case Backend():
            return f"{{ address = {quoted(escaped(value.address))}, weight = {value.weight} }}"
        case Certificate():
            named = {"certificate": value.certificate, "key": value.key}
            return _value({key: each for key, each in named.items() if each is not None})
        case dict():
            pairs = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case tuple():
            return _list(_value(each) for each in value)
        case _:
            return repr(value)


def _list(values: Iterable[str]) -> str:
    each = list(values)
    if len(each) <= _SHOW_ON_ONE_LINE:
        return f"[{', '.join(each)}]"
    return "[\n" + "".join(f"  {one},\n" for one in each) + "]"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else quoted(key)


def _read_of(field: FieldInfo) -> Read | None:
    """The reader of a field, also where the field is optional."""
    marks = [*field.metadata]
    for each in get_args(field.annotation):
        marks += getattr(each, "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, Read)), None)
