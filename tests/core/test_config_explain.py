"""Nothing that pydantic says reaches a person: every type of error that can occur has our words."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time

import pytest
from pydantic import ValidationError

from balancer.config.errors import Place
from balancer.config.explain import WORDING, findings_of
from balancer.config.settings import Settings
from balancer.config.tables import ANY, TABLES

# One value of each TOML kind, and the corners of some.
KINDS: list[object] = [
    "",
    "x",
    "\udcff",
    "10",
    "true",
    0,
    -1,
    10**30,
    0.5,
    -0.5,
    float("nan"),
    float("inf"),
    True,
    [],
    [1],
    [[]],
    [{}],
    {},
    {"x": 1},
    {"": {}},
    date(2020, 1, 1),
    datetime(2020, 1, 1, tzinfo=UTC),
    time(1),
]
THEIR_WORDS = ("Input should", "Extra inputs", "Field required", "valid integer", "type=")


def places() -> Iterator[Place]:
    yield ()
    for shape, model in TABLES.items():
        table = tuple(
            "web" if at == 1 and shape[0] == "pools" else part for at, part in enumerate(shape)
        )
        yield from ((*table, name) for name in (*model.model_fields, "unknown"))
        if shape[-1:] == (ANY,):
            yield table


def with_value(place: Place, value: object) -> object:
    """A config in which nothing is there but what leads to the place."""
    for part in reversed(place):
        value = [value] if part == ANY else {part: value}
    return value


def error_types(data: object) -> set[str]:
    try:
        Settings.model_validate(data)
    except ValidationError as error:
        found = findings_of(error, data)
        for finding in found:
            assert finding.message.isprintable()
            assert not any(theirs in finding.message for theirs in THEIR_WORDS), finding
        return {each["type"] for each in error.errors()}
    return set()


@pytest.mark.parametrize("place", list(places()), ids=str)
def test_every_error_that_a_place_can_have_has_its_wording(place: Place) -> None:
    seen = set().union(*(error_types(with_value(place, value)) for value in KINDS))
    assert seen - {"extra_forbidden"} <= WORDING.keys()


def test_every_wording_is_for_an_error_that_occurs() -> None:
    seen = set().union(
        *(error_types(with_value(place, value)) for place in places() for value in KINDS)
    )
    assert WORDING.keys() <= seen


def test_an_error_without_wording_still_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a new version of pydantic say something new."""
    monkeypatch.delitem(WORDING, "int_type")
    data = {"listeners": [{"bind": "127.0.0.1:1"}], "pools": {"web": {"health": {"fails": "3"}}}}
    with pytest.raises(ValidationError) as refusal:
        Settings.model_validate(data)
    (finding,) = findings_of(refusal.value, data)
    assert finding.message == (
        "cannot use '3' here; it is: Failed probes in a row that take a healthy backend out."
    )
