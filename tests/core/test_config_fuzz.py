"""Whatever the bytes: settings, or errors with a place; nothing else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.config.advice import expectations, warnings_about
from balancer.config.errors import ConfigErrors
from balancer.config.load import load_text, read_file, read_text
from balancer.config.show import effective_toml

CONFIGS = [
    path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
]
PIECES = [
    *sorted({word for text in CONFIGS for word in text.split()}),
    "[",
    "]]",
    "{",
    '"',
    "'''",
    "\n",
    " = ",
    "nan",
    "-1",
    "1e400",
    "1979-05-27",
    "true",
    "[[]]",
    "${X}",
    "${",
    '"\\u0000"',
    "\x1b",
    "é",
    "[pools.web.health.headers]\n",
    "[[pools]]\n",
    "9" * 5000,
]


def judge(text: str) -> None:
    try:
        loaded = read_text(text, "x.toml", {"X": "\udc80\n"})
    except ConfigErrors as refusal:
        for error in refusal.errors:
            assert str(error).isprintable()
            assert error.line is not None
            assert 1 <= error.line <= text.count("\n") + 1
        return
    assert load_text(effective_toml(loaded.settings), "shown", {}) == loaded.settings
    list(expectations(loaded.settings))
    loaded.placed(warnings_about(loaded.settings))


@st.composite
def damaged(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(CONFIGS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 30))
        text = text[:start] + draw(st.sampled_from(PIECES) | st.text(max_size=4)) + text[end:]
    return text


@st.composite
def misplaced(draw: st.DrawFn) -> str:
    """Lines of configs in an order of their own: mostly TOML, seldom a config."""
    lines = draw(st.sampled_from(CONFIGS)).splitlines()
    return "\n".join(draw(st.lists(st.sampled_from(lines), max_size=12)))


@st.composite
def with_odd_values(draw: st.DrawFn) -> str:
    """Valid TOML with a value of another kind at some keys."""
    values = ["1", "-1", "0.5", "nan", "true", '"x"', '""', "[]", "[1]", "{}", "{ x = 1 }", "[[]]"]
    lines = draw(st.sampled_from(CONFIGS)).splitlines()
    for at, line in enumerate(lines):
        if " = " in line and not draw(st.integers(0, 9)):
            lines[at] = f"{line.split(' = ')[0]} = {draw(st.sampled_from(values))}"
    return "\n".join(lines)


@given(damaged())
def test_a_damaged_config_is_loaded_or_refused(text: str) -> None:
    judge(text)


@given(misplaced())
def test_a_config_out_of_order_is_loaded_or_refused(text: str) -> None:
    judge(text)


@given(with_odd_values())
def test_a_config_with_odd_values_is_loaded_or_refused(text: str) -> None:
    judge(text)


@given(st.text())
def test_any_text_is_loaded_or_refused(text: str) -> None:
    judge(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(content=st.binary(max_size=60))
def test_any_bytes_are_loaded_or_refused(folder: Path, content: bytes) -> None:
    (folder / "x.toml").write_bytes(content)
    with pytest.raises(ConfigErrors) as refusal:  # sixty bytes hold no config
        read_file(folder / "x.toml", {})
    assert all(line.isprintable() for line in str(refusal.value).split("\n"))
