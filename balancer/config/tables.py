"""Which table of a config holds which settings, found from the models themselves."""

from collections.abc import Iterator, Mapping
from typing import get_args

from pydantic import BaseModel

from balancer.config.errors import Place
from balancer.config.settings import Settings

# The place of a table with every name and position replaced: ("pools", ANY, "backends", ANY).
ANY = "*"


def shape_of(path: Place) -> tuple[str, ...]:
    """The place without what differs from file to file: pool names and positions in lists."""
    shape: list[str] = []
    for part in path:
        shape.append(ANY if isinstance(part, int) or shape == ["pools"] else part)
    return tuple(shape)


def model_in(annotation: object) -> type[BaseModel] | None:
    """The model that a field holds, alone, in a tuple, as a dict's value, or optionally."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for each in get_args(annotation) if (model := model_in(each))), None)


def _tables_below(
    model: type[BaseModel], shape: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    yield shape, model
    for name, field in model.model_fields.items():
        held = model_in(field.annotation)
        if held is not None:
            many = getattr(field.annotation, "__origin__", None) in (tuple, dict)
            yield from _tables_below(held, (*shape, name, ANY) if many else (*shape, name))


TABLES: Mapping[tuple[str, ...], type[BaseModel]] = dict(_tables_below(Settings, ()))
