"""The report as Markdown: for a job's summary, a ticket, a mail.

Texts from files stand in code spans only, or as entities where a code span could be left; so they are no markup, no
link, no mention and no command, wherever the Markdown is shown.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from .figures import Figures, cleaned, figures
from .templating import environment, rendered

LONGEST = 1_000_000
"""Bytes that the file has at most."""

_EXAMPLES = (50, 10, 3, 0)
"""How many items a finding is told of, as many as there is room for."""
_CUT = "\n\nThe rest had no room here: it is in the JSON report.\n"


def render(report: dict[str, Any]) -> str:
    """Return the Markdown of a JSON report, as :func:`.json_file.make` makes it; at most :data:`LONGEST` bytes."""
    clean = cleaned(report)
    parts = [figures(experiment, number) for number, experiment in enumerate(clean["experiments"], 1)]
    text = ""
    for examples in _EXAMPLES:
        text = _rendered(clean, parts, examples)
        if len(text.encode()) <= LONGEST:
            return text
    whole_lines = text.encode()[: LONGEST - len(_CUT)].decode(errors="ignore").rpartition("\n")[0]
    return whole_lines + _CUT


def code(text: str) -> Markup:
    r"""Return a printable ``text`` as a code span for a table's cell or a line.

    A bar would end a cell even in a code span, and a backtick the span; such a text is written as entities.

    >>> print(code("T0/00/run_01"), code("a|b"))
    `T0/00/run_01` <code>a&#124;b</code>
    """
    if not text.strip():
        return Markup("")
    if set(text) & set("|`"):
        entities = re.sub(r"[^A-Za-z0-9 ]", lambda found: f"&#{ord(found[0])};", text)
        return Markup("<code>%s</code>") % Markup(entities)  # noqa: S704
    return Markup(f"`{text}`")  # noqa: S704


def _rendered(clean: dict[str, Any], parts: list[Figures], examples: int) -> str:
    text = rendered(_environment(), "page.md", clean, parts, examples=examples)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


@cache
def _environment() -> Environment:
    made = environment(_only_escaped)
    made.filters |= {
        "code": code,
        "count": lambda number: Markup(f"{number:,}"),  # noqa: S704
        "plain": Markup,
    }
    return made


def _only_escaped(value: object) -> object:
    """Let nothing into the text that no filter made fit for it.

    :raises TypeError: the template names a value without a filter.
    """
    if not isinstance(value, Markup):
        raise TypeError(f"not escaped for Markdown: {value!r}")
    return value
