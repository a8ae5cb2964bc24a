"""The locator against tomllib: each value is a mark that occurs once, so its line is known."""

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.config.errors import Place
from balancer.config.locate import locate, unclosed


def leaves(value: object, path: Place = ()) -> Iterator[tuple[Place, object]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, (*path, key))
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from leaves(each, (*path, at))
    else:
        yield path, value


class Writer:
    """Writes a random TOML text in which every leaf is a text that stands nowhere else."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.marks = 0
        self.keys = 0

    def document(self) -> str:
        lines = [*self.noise(), *self.pairs()]
        for _ in range(self.draw(st.integers(0, 4))):
            lines += self.table()
        return self.draw(st.sampled_from(["\n", "\r\n"])).join(lines)

    def noise(self) -> list[str]:
        lines = ["", "# a = [1", "  # ' \"", "\t", '# """']
        return [self.draw(st.sampled_from(lines)) for _ in range(self.draw(st.integers(0, 2)))]

    def pairs(self) -> list[str]:
        lines: list[str] = []
        for _ in range(self.draw(st.integers(0, 3))):
            comment = self.draw(st.sampled_from(["", " # c = 'x", "\t#]"]))
            lines += [f"{self.key()} = {self.value(3)}{comment}", *self.noise()]
        return lines

    def table(self) -> list[str]:
        name = self.key()
        if self.draw(st.booleans()):
            return [f" [ {name} ] # [x]", *self.pairs()]
        lines: list[str] = []
        for _ in range(self.draw(st.integers(1, 3))):
            lines += [f"[[{name}]]", *self.pairs()]
            if self.draw(st.booleans()):
                lines += [f"[{name}.{self.key()}]", *self.pairs()]
            if self.draw(st.booleans()):
                under = self.key()
                lines += [
                    f"[[{name}.{under}]]",
                    *self.pairs(),
                    f"[[{name}.{under}]]",
                    *self.pairs(),
                ]
        return lines

    def key(self) -> str:
        """New each time, so that no document is refused; bare, quoted or dotted."""
        self.keys += 1
        forms = ["k{}", "7-{}", '"k {} # ="', "'k.{}]'", '"\\u00e9{}"', "d{}.e", "d{} . 'f g'.h"]
        return self.draw(st.sampled_from(forms)).format(self.keys)

    def value(self, depth: int) -> str:
        kind = self.draw(st.integers(0, 6 if depth else 3))
        if kind == 4:
            each = [self.value(depth - 1) for _ in range(self.draw(st.integers(0, 3)))]
            between = self.draw(st.sampled_from([", ", ",\n  ", " , # ], {\n"]))
            opening, end = self.draw(
                st.sampled_from([("[", "]"), ("[\n# [\n", "\n]"), ("[ ", " ]")])
            )
            comma = "," if self.draw(st.booleans()) and each else ""
            return opening + between.join(each) + comma + end
        if kind >= 5:
            pairs = [f"{self.key()} = {self.value(0)}" for _ in range(self.draw(st.integers(0, 3)))]
            return "{ " + ", ".join(pairs) + " }"
        self.marks += 1
        mark = f"mark{self.marks}!"
        forms = [f'"{mark} \\" # = ["', f"'{mark} \\'", f'"""{mark}\n " "" = [\n\\"""""']
        return [*forms, f"'''{mark}\n'' ]''''"][kind]


@st.composite
def documents(draw: st.DrawFn) -> str:
    return Writer(draw).document()


@given(documents())
def test_every_leaf_has_the_line_it_stands_on(text: str) -> None:
    by_path = locate(text).by_path
    for path, value in leaves(tomllib.loads(text)):
        mark = str(value).split("!")[0] + "!"
        assert by_path[path] == text[: text.index(mark)].count("\n") + 1


def test_values_that_are_no_strings_are_found_too() -> None:
    text = "a = 1.5\nb.c = 2020-01-01 10:00:00.5Z\nd = [\n  -inf, # x\n  0x1F,\n  true]\n"
    lines = locate(text)
    assert {path: lines.of(path) for path, _ in leaves(tomllib.loads(text))} == {
        ("a",): 1,
        ("b", "c"): 2,
        ("d", 0): 4,
        ("d", 1): 5,
        ("d", 2): 6,
    }


def test_a_table_is_where_its_header_is() -> None:
    text = "[a.b]\nx = 1\n[a]\ny = 2\n[[l]]\n[[l]]\n[l.m]\nz = 3\n"
    lines = locate(text)
    places: list[Place] = [("a",), ("a", "b"), ("l",), ("l", 0), ("l", 1), ("l", 1, "m")]
    assert [lines.of(path) for path in places] == [3, 1, 5, 5, 6, 7]


def test_an_unknown_place_has_the_line_of_what_is_around_it() -> None:
    lines = locate("\n[a]\nb = 1\n")
    assert lines.of(("a", "nothing", 3)) == 2
    assert lines.of(("nothing",)) == 1
    assert lines.of(()) == 1


def test_keys_of_endless_depth_cost_no_endless_memory() -> None:
    lines = locate("a" + ".a" * 20_000 + " = 1")
    assert len(lines.by_path) < 100


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nb = [1,\n2", 2),
        ("a = '''\nx\n", 1),
        ("a = 1\nb = { c = 'x", 2),
        ("a = [\n[1]\n", 1),
        ("a = 1", None),
        ("a = ]", None),
    ],
)
def test_what_is_never_closed_is_found_where_it_begins(text: str, line: int | None) -> None:
    assert unclosed(text) == line


@given(st.text(alphabet="ab=.[]{}'\"\\#,\n\r \t\x00é"))
def test_any_text_can_be_searched_for_what_is_unclosed(text: str) -> None:
    assert unclosed(text) is None or 1 <= (unclosed(text) or 0) <= text.count("\n") + 1


@given(st.text(alphabet="ab=.[]{}'\"\\#,\n\r \t1é"))
def test_whatever_tomllib_reads_is_located(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    by_path = locate(text).by_path
    assert all(path in by_path for path, _ in leaves(data))
