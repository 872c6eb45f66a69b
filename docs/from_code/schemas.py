"""The JSON Schemas as tables: one for the document, and one for each part of it that is described once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_scylla.experiment.schemas import schema_directory

from .wording import cell, literal, prose

Schema = Mapping[str, Any]

_HEAD = ("| property | type | | what it is |", "|---|---|---|---|")


def names() -> list[str]:
    """The names of the schemas, such as "run-result"."""
    return sorted(path.name.removesuffix(".schema.json") for path in schema_directory().glob("*.schema.json"))


def tables(name: str) -> str:
    """The schema ``name``: what it is about, its tables, and an example."""
    schema: Schema = json.loads((schema_directory() / f"{name}.schema.json").read_text("utf-8"))
    return "\n".join(_document(name, _inlined(schema, schema.get("$defs", {}))))


def _inlined(part: Any, parts: Mapping[str, Schema]) -> Any:
    """``part`` with the references to ``parts`` that have no properties, and so no table, replaced by those."""
    if isinstance(part, list):
        return [_inlined(value, parts) for value in part]
    if not isinstance(part, dict):
        return part
    target = parts.get(str(part.get("$ref", "")).rpartition("/")[2])
    if target is not None and "properties" not in target:
        part = {**target, **{key: value for key, value in part.items() if key != "$ref"}}
    return {key: _inlined(value, parts) for key, value in part.items()}


def _document(name: str, schema: Schema) -> Iterator[str]:
    yield f"(schema-{name})=\n## {schema['title']}\n"
    yield f"{prose(schema['description'])} Its schema is `{name}.schema.json`.\n"
    yield from _table(schema)
    example = json.dumps(schema["examples"][0], indent=2, ensure_ascii=False)
    yield f"<details><summary>An example</summary>\n\n```json\n{example}\n```\n\n</details>\n"
    for part, definition in schema.get("$defs", {}).items():
        if "properties" in definition:
            yield f"### {part}\n"
            yield f"{prose(definition['description'])}\n"
            yield from _table(definition)


def _table(schema: Schema) -> Iterator[str]:
    rows = list(_rows(schema, ""))
    yield from _HEAD
    yield from rows
    yield ""


def _rows(schema: Schema, above: str) -> Iterator[str]:
    """A row for every property, and below it those of what it holds; ``above`` is the path to it."""
    required = schema.get("required", ())
    for name, value in schema.get("properties", {}).items():
        yield from _row(value, f"{above}{name}", "required" if name in required else "")
    further = schema.get("additionalProperties")
    if isinstance(further, dict):
        yield from _row(further, f"{above}<key>", "")


def _row(schema: Schema, path: str, required: str) -> Iterator[str]:
    cells = (literal(path), _kind(schema), required, prose(schema.get("description", "")))
    yield f"| {' | '.join(map(cell, cells))} |"
    yield from _rows(schema, f"{path}.")
    items = schema.get("items")
    if isinstance(items, dict) and ("properties" in items or isinstance(items.get("additionalProperties"), dict)):
        yield from _rows(items, f"{path}[].")


def _kind(schema: Schema) -> str:
    """The type of a value with what bounds it, in words."""
    if "$ref" in schema:
        return f"*{schema['$ref'].rpartition('/')[2]}*"
    if "const" in schema:
        return literal(json.dumps(schema["const"]))
    if "enum" in schema:
        return ", ".join(literal(json.dumps(value)) for value in schema["enum"])
    for choice in ("anyOf", "oneOf"):
        if choice in schema and "type" not in schema:
            return " or ".join(_kind(option) for option in schema[choice])
    kinds = schema.get("type", "any")
    told = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    items = schema.get("items")
    if isinstance(items, dict):
        told = told.replace("array", f"array of {_kind(items)}")
    return told + _bounds(schema)


def _bounds(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f", {least} to {most}"
    return f", at least {least}" if least is not None else f", at most {most}" if most is not None else ""
