"""The shipped JSON Schemas, compiled.

Two validators read the same schema files. ``jsonschema-rs`` (some microseconds a document) answers whether a document
is valid; only for those that are not, ``jsonschema``, the reference implementation, is asked where and why. Neither
ever fetches a ``$ref``: every schema is complete in itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .records import Blob, Problem, Record
from .strict_json import Json, MalformedJSON, parse_object
from .wording import describe, printable

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

Kind = Literal[
    "agent-reply",
    "agent-result",
    "agent-timing",
    "attempt",
    "checkpoint",
    "command-log",
    "config-manifest",
    "consensus",
    "experiment",
    "experiment-report",
    "experiment-result",
    "journal-entry",
    "judge-slot-timing",
    "judge-timing",
    "judgment",
    "ledger-entry",
    "pause",
    "report",
    "run-report",
    "run-result",
    "subtest-report",
    "tier-best-subtest",
    "tier-comparison",
    "tier-report",
    "tier-result",
]
"""A kind of document; its schema is ``<kind>.schema.json``."""

MOST_PROBLEMS = 5

_SECRETIVE: frozenset[Kind] = frozenset({"command-log"})
"""Kinds of documents of which no value is ever shown: a command line and its environment hold secrets."""


def schema_directory() -> Path:
    """Where the schema files lie: inside the installed package, or beside it in a source tree."""
    package = Path(__file__).parent.parent
    installed = package / "schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


@cache
def load_schema(kind: Kind) -> dict[str, Any]:
    """Return the schema of ``kind`` as a dictionary. It is shared: do not change it."""
    schema: dict[str, Any] = json.loads((schema_directory() / f"{kind}.schema.json").read_text("utf-8"))
    return schema


@cache
def _fast_validator(kind: Kind) -> Any:
    import jsonschema_rs  # 30 ms, which a session without an experiment does not pay

    return jsonschema_rs.validator_for(load_schema(kind))


@cache
def _reference_validator(kind: Kind) -> Any:
    import jsonschema  # 65 ms, and only a document that is not valid needs it

    return jsonschema.Draft202012Validator(load_schema(kind))


def is_valid(kind: Kind, document: Json) -> bool:
    """Whether ``document`` is valid against the schema of ``kind``."""
    try:
        return bool(_fast_validator(kind).is_valid(document))
    except UnicodeEncodeError:  # a lone surrogate, which Rust has no text for
        return bool(_reference_validator(kind).is_valid(document))


def problems(kind: Kind, document: Json) -> tuple[Problem, ...]:
    """Say what makes ``document`` invalid: at most five problems, by pointer; none if it is valid."""
    errors = _innermost(_reference_validator(kind).iter_errors(document))
    found = {_problem(error, secret=kind in _SECRETIVE) for error in errors}
    return tuple(sorted(found, key=lambda problem: (problem.pointer, problem.message))[:MOST_PROBLEMS])


def as_record(blob: Blob, kind: Kind) -> Record:
    """Judge a file that was read: parse it strictly, then hold it to the schema of ``kind``."""
    if blob.state != "sound":
        problem = (Problem("", blob.reason),) if blob.reason else ()
        return Record(blob.file, blob.state, {}, problem, too_large=blob.too_large)
    try:
        document = parse_object(blob.data)
    except MalformedJSON as error:
        message = error.discreet if kind in _SECRETIVE else str(error)
        return Record(blob.file, "malformed", {}, (Problem("", message),), blob.data)
    if is_valid(kind, document):
        return Record(blob.file, "sound", document, (), blob.data)
    return Record(blob.file, "invalid", {}, problems(kind, document), blob.data)


def _innermost(errors: Iterator[ValidationError]) -> Iterator[ValidationError]:
    # "Is not valid under any of the given schemas" helps nobody: name what its closest branch lacks.
    for error in errors:
        if error.context:
            from jsonschema.exceptions import best_match

            yield best_match(error.context) or error
        else:
            yield error


def _problem(error: ValidationError, *, secret: bool) -> Problem:
    path = [str(step) for step in error.absolute_path]
    value: Any = error.validator_value
    keyword = str(error.validator)
    found = describe(error.instance, secret=secret)
    if keyword == "required" and isinstance(error.instance, Mapping):
        missing = next((name for name in value if name not in error.instance), "")
        path.append(missing)
        message = "expected this key, found it absent"
    elif keyword == "type":
        message = f"expected {_either(value)}, found {found}"
    elif keyword == "enum":
        message = f"expected one of {', '.join(describe(choice) for choice in value)}, found {found}"
    elif keyword == "minimum":
        message = f"expected at least {value}, found {found}"
    elif keyword == "maximum":
        message = f"expected at most {value}, found {found}"
    elif keyword in ("minItems", "minLength", "minProperties"):
        message = f"expected at least {value} of it, found {found}"
    elif keyword in ("maxItems", "maxLength", "maxProperties"):
        message = f"expected at most {value} of it, found {found}"
    elif keyword == "const":
        message = f"expected {describe(value)}, found {found}"
    elif keyword == "uniqueItems":
        message = f"expected every item once, found one of them twice in {found}"
    elif keyword == "pattern":
        message = f"expected text that begins like {printable(str(value))}, found {found}"
    elif secret:
        message = f"expected what its schema says, found {found}"
    else:
        message = f"expected what its schema says: {printable(error.message, 160)}"
    if secret and "env_vars" in path:
        path = path[: path.index("env_vars") + 1]  # a key below it may be somebody's secret, misplaced
    pointer = "".join("/" + printable(step.replace("~", "~0").replace("/", "~1"), 80) for step in path)
    return Problem(pointer, message, keyword)


def _either(types: str | list[str]) -> str:
    return types if isinstance(types, str) else " or ".join(types)
