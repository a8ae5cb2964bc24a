import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.config.durations import format_duration, format_size, parse_duration, parse_size
from balancer.config.errors import Unfit


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("250ms", 0.25),
        ("10s", 10.0),
        ("1m30s", 90.0),
        ("2h", 7200.0),
        ("1d12h", 129600.0),
        ("1.5s", 1.5),
        ("0s", 0.0),
        (3, 3.0),
        (0.1, 0.1),
    ],
)
def test_a_duration_is_read_as_seconds(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("10", '"10s"'),
        ("10 s", 'did you mean "10s"?'),
        ("10 seconds", 'did you mean "10s"?'),
        ("5min", 'did you mean "5m"?'),
        ("2 hours", 'did you mean "2h"?'),
        ("10S", 'did you mean "10s"?'),
        ("-1s", "negative"),
        ("30s1m", "largest first"),
        ("1s1s", "each unit once"),
        ("", "the units are"),
        ("1w", "the units are"),
        ("9" * 350 + "s", "too many digits"),
        ("9" * 500 + "s", "too many digits"),
        ("\u0661s", "the units are"),
        (True, "got true"),
        (None, "got None"),
        (-1, "from 0 up"),
        (math.nan, "from 0 up"),
        (math.inf, "from 0 up"),
        (10**400, "from 0 up"),
        ([], "got a list"),
    ],
)
def test_what_is_no_duration_is_refused_with_what_would_be_right(
    written: object, hint: str
) -> None:
    with pytest.raises(Unfit) as refusal:
        parse_duration(written)
    assert hint in str(refusal.value)


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_a_duration_written_and_read_again_is_the_same(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 10**9))
def test_whole_milliseconds_are_written_with_their_units(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "written"), [(90.0, "1m30s"), (0.25, "250ms"), (0.0, "0s"), (129600.0, "36h")]
)
def test_a_duration_is_written_as_an_operator_would(seconds: float, written: str) -> None:
    assert format_duration(seconds) == written


@pytest.mark.parametrize(
    ("written", "octets"),
    [
        ("512B", 512),
        ("64KiB", 65536),
        ("1MiB", 1 << 20),
        ("2GiB", 2 << 30),
        ("1 KiB", 1024),
        (7, 7),
    ],
)
def test_a_size_is_read_as_bytes(written: object, octets: int) -> None:
    assert parse_size(written) == octets


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("64KB", 'did you mean "64KiB"?'),
        ("64k", 'did you mean "64KiB"?'),
        ("1m", 'did you mean "1MiB"?'),
        ("64", '"64B"'),
        ("1.5MiB", "got '1.5MiB'"),
        ("1XB", "the units are"),
        ("", "expected a size"),
        (1.5, "got 1.5"),
        (-1, "from 0 up"),
        (False, "got false"),
    ],
)
def test_what_is_no_size_is_refused_with_what_would_be_right(written: object, hint: str) -> None:
    with pytest.raises(Unfit) as refusal:
        parse_size(written)
    assert hint in str(refusal.value)


@given(st.integers(0, 2**50))
def test_a_size_written_and_read_again_is_the_same(octets: int) -> None:
    assert parse_size(format_size(octets)) == octets


@given(st.text())
def test_any_text_is_either_read_or_refused(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            assert parse(text) >= 0
        except Unfit as refusal:
            assert str(refusal).isprintable()  # noqa: PT017 - both ends are fine
