"""How foreign text and unknown names read."""

from balancer.core.wording import did_you_mean, shown


def test_foreign_text_is_shown_printable_and_short() -> None:
    assert shown("a\x1b[2J") == r"'a\x1b[2J'"
    assert len(shown("x" * 100_000)) < 100


def test_the_nearest_name_is_suggested() -> None:
    assert did_you_mean("wbe", ["api", "web"], "there is") == "; did you mean 'web'?"


def test_without_a_near_name_the_first_few_are_listed() -> None:
    assert did_you_mean("q", ["api", "web"], "there is") == "; there is api, web"
    assert did_you_mean("q", list("abcdefg"), "there is") == "; there is a, b, c, d, e and 2 more"
    assert did_you_mean("q", [], "there is") == "; there is none"
