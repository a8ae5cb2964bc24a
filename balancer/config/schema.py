"""The JSON Schema of a config, for editors.

Kept to what old validators understand: `definitions`, `$ref` alone in its place, no null (TOML has
none), defaults as a config writes them. What it lets through, `balancer check` still judges.
"""

import json
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from balancer.config.settings import Settings
from balancer.config.show import written
from balancer.config.tables import TABLES

Schema: TypeAlias = dict[str, Any]


def schema_text() -> str:
    """The schema as the file that is shipped."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> Schema:
    generated = Settings.model_json_schema(ref_template="#/definitions/{model}")
    definitions = generated.pop("$defs")
    for model in TABLES.values():
        _edit(model, generated if model is Settings else definitions[model.__name__])
    backends = definitions["Pool"]["properties"]["backends"]
    backends["items"] = {"anyOf": [{"type": "string"}, backends["items"]]}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of balancer",
        **{key: value for key, value in generated.items() if key != "title"},
        "definitions": definitions,
    }


def _edit(model: type[BaseModel], described: Schema) -> None:
    described.pop("title", None)
    properties: dict[str, Schema] = described["properties"]
    for name, field in model.model_fields.items():
        properties[name] = _property(field, properties[name])


def _property(field: FieldInfo, generated: Schema) -> Schema:
    edited = {key: value for key, value in generated.items() if key not in ("title", "default")}
    kinds = [kind for kind in edited.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del edited["anyOf"]
        edited |= kinds[0]
    elif kinds:
        edited["anyOf"] = kinds
    if "$ref" in edited:
        edited["allOf"] = [{"$ref": edited.pop("$ref")}]
    default = field.default
    plain = default is not None and not isinstance(default, BaseModel) and default != ""
    if plain and default is not PydanticUndefined:
        value = written(field, default)
        edited["default"] = list(value) if isinstance(value, tuple) else value
    return edited
