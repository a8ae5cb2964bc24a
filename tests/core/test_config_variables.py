import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.config.variables import escaped, expand

ENV = {"HOST": "h1", "EMPTY": "", "LIKE": "${HOST}", "_x9": "y"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${HOST}:80", "h1:80"),
        ("a${HOST}b${_x9}", "ah1by"),
        ("${NOT:-x}", "x"),
        ("${NOT:-}", ""),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("${NOT:-a:-b c}", "a:-b c"),
        ("${LIKE}", "${HOST}"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$${HOST}"),
        ("$HOST $ {} $$", "$HOST $ {} $$"),
    ],
)
def test_references_are_filled_in_once(text: str, filled: str) -> None:
    assert expand(text, ENV) == (filled, [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("${NOT}", "the environment variable NOT is not set"),
        ("${HOST", "expected '${NAME}'"),
        ("${}", "expected '${NAME}'"),
        ("${1x}", "expected '${NAME}'"),
        ("${HOST-x}", "expected '${NAME}'"),
    ],
)
def test_a_reference_that_cannot_be_filled_in_is_told(text: str, says: str) -> None:
    _, (finding,) = expand({"a": [1, text]}, ENV)
    assert says in finding.message
    assert finding.path == ("a", 1)


def test_only_values_are_searched() -> None:
    data = {"${HOST}": [{"x": "${HOST}"}, 1, True]}
    assert expand(data, ENV) == ({"${HOST}": [{"x": "h1"}, 1, True]}, [])


@given(st.text(alphabet="${}AB:- "))
def test_an_escaped_text_comes_back_as_it_was(text: str) -> None:
    assert expand(escaped(text), {}) == (text, [])
