"""The directive ``from-code``: a part of a page that is made when the site is built.

In a page::

    ```{from-code} findings error
    ```
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from . import calls, findings, fixtures, options, schemas, statuses

PARTS: dict[str, Callable[..., str]] = {
    "calls": calls.failures,
    "findings": findings.codes,
    "fixtures": fixtures.contracts,
    "markers": options.markers,
    "options": options.group,
    "schema": schemas.tables,
    "statuses": statuses.table,
}
"""The parts by name; what else stands in the directive's line is their arguments."""


class FromCode(SphinxDirective):
    """Puts a part that is made from the code into a page, with its headings."""

    required_arguments = 1
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Make the part and parse it as the page itself is."""
        text = PARTS[self.arguments[0]](*self.arguments[1:])
        place, lines = nodes.Element(), StringList(text.splitlines(), source=self.arguments[0])
        self.state.nested_parse(lines, self.content_offset, place, match_titles=True)
        return list(place.children)


def setup(app: Sphinx) -> dict[str, Any]:
    """Declare the directive. Pages are read anew in each build: nobody tells Sphinx when the code has changed."""
    app.add_directive("from-code", FromCode)
    app.connect("env-get-outdated", lambda app, env, added, changed, removed: list(env.found_docs))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
