"""`${VAR}` and `${VAR:-default}` in the strings of a config; `$${` stands for a literal `${`.

Values only, never keys, and one pass: what a variable holds is not searched again.
"""

import re
from collections.abc import Mapping

from balancer.config.errors import Finding, Place
from balancer.config.locate import PATH_DEPTH_MAX
from balancer.config.wording import shown

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?", re.DOTALL)


def expand(data: object, env: Mapping[str, str]) -> tuple[object, list[Finding]]:
    """A copy of the data with every reference replaced, and what could not be."""
    findings: list[Finding] = []
    return _expanded(data, (), env, findings), findings


def escaped(text: str) -> str:
    """The text so that `expand` gives it back as it is."""
    return text.replace("${", "$${")


def _expanded(
    value: object, path: Place, env: Mapping[str, str], findings: list[Finding]
) -> object:
    if len(path) >= PATH_DEPTH_MAX:
        findings.append(Finding(path=path[:1], message="nested too deeply; no setting is so deep"))
        return None
    if isinstance(value, dict):
        return {key: _expanded(each, (*path, key), env, findings) for key, each in value.items()}
    if isinstance(value, list):
        return [_expanded(each, (*path, at), env, findings) for at, each in enumerate(value)]
    return _filled(value, path, env, findings) if isinstance(value, str) else value


def _filled(text: str, path: Place, env: Mapping[str, str], findings: list[Finding]) -> str:
    def fill(found: re.Match[str]) -> str:
        if found.group() == "$${":
            return "${"
        inside = _INSIDE.fullmatch(found[1])
        if not found[2] or inside is None:
            message = f"cannot read {shown(found.group())}: expected '${{NAME}}' or "
            message += "'${NAME:-default}'; a literal '${' is written '$${'"
            findings.append(Finding(path=path, message=message))
            return ""
        name, has_default, default = inside.groups()
        # As in a shell: with a default, a variable that is set but empty counts as unset.
        if has_default:
            return env.get(name) or str(default)
        if name not in env:
            message = f"the environment variable {name} is not set; "
            message += f"set it, or give a default: '${{{name}:-…}}'"
            findings.append(Finding(path=path, message=message))
        return env.get(name, "")

    return _REFERENCE.sub(fill, text)
