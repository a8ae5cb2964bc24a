"""What an operator may want to know about certificates that can be used. Refuses none."""

from collections.abc import Iterator

from balancer.config.errors import Finding
from balancer.core.expiry import Concern, concern, left_in_words
from balancer.core.server_names import plain_name, with_same_names
from balancer.supervisor.certificate_files import Loaded, readable_by_all
from balancer.supervisor.certificate_reading import Held


def warnings_about(loaded: Loaded, now: float) -> Iterator[Finding]:
    """`now` is wall time in seconds."""
    taken: dict[tuple[str, str], Held] = {}
    for held in loaded.held:
        facts = held.facts
        if concern(facts.not_after_s - now) is not Concern.NONE:
            yield _about(held, left_in_words(facts.not_after_s - now))
        if facts.not_before_s > now:
            yield _about(held, "is not valid yet")
        if readable_by_all(held.key_path):
            yield _about(held, "its key can be read by everybody; chmod 600 it")
        if held.of_client:
            continue
        if not facts.names:
            yield _about(held, "names no host, so no client takes it for one")
        first = [taken.setdefault((held.owner, plain_name(name)), held) for name in facts.names]
        if first and not any(_are_together(each, held) for each in first):
            yield _about(held, _never_chosen(held, first[0]))


def _are_together(one: Held, other: Held) -> bool:
    return len(with_same_names((one.facts.names, other.facts.names))) == 1


def _never_chosen(held: Held, first: Held) -> str:
    why = f"is never chosen; {first.path} has all of its names"
    if held.facts.key != first.facts.key:
        why += f"; to be shown to who cannot use a key of {first.facts.key}, it would need just the same"
    return why


def _about(held: Held, what: str) -> Finding:
    return Finding(path=held.place, message=f"{held.path}: {what}")
