"""The fixtures that a conftest.py may override, with their contracts."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

from pytest_scylla import fixtures


def names() -> list[str]:
    """The names of the fixtures, in the order in which a repair comes to ask for them."""
    return [name for name in vars(fixtures) if name.startswith("scylla_")]


def contracts() -> str:
    """Every fixture under a heading, with its docstring."""
    return "\n".join(line for name in names() for line in _contract(name))


def _contract(name: str) -> Iterator[str]:
    text = inspect.getdoc(getattr(fixtures, name))
    assert text, name
    yield f"({name})=\n## {name}\n"
    yield f"```{{eval-rst}}\n.. py:function:: {name}\n   :no-index-entry:\n\n{textwrap.indent(text, '   ')}\n```\n"
