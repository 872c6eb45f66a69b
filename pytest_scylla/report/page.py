"""The report as one HTML file that needs nothing else: no network, no server, no other file.

What it shows came from files that anybody may have written. So every text is made printable first, escaped by the
templates, and the page's policy lets nothing run but the script that ships with it.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from . import charts
from .figures import RUN_WORDS, cleaned, figures
from .page_data import LETTERS, embedded, page_data
from .quantities import signed
from .templating import environment, rendered

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='3' fill='%230072B2'/%3E"
    "%3Cpath d='M4 8.5l3 3 5-7' fill='none' stroke='white' stroke-width='2'/%3E%3C/svg%3E"
)


def render(report: dict[str, Any]) -> str:
    """Return the page of a JSON report, as :func:`.json_file.make` makes it.

    The page is complete: style, script and data are in it, and it may be sent as UTF-8.
    """
    clean = cleaned(report)
    parts = [figures(experiment, number) for number, experiment in enumerate(clean["experiments"], 1)]
    style, script = _asset("page.css"), _asset("page.js")
    return rendered(
        _environment(),
        "page.html",
        clean,
        parts,
        # The policy names what the browser may run by its hash: there is no other way to run anything.
        policy="; ".join(
            (
                "default-src 'none'",
                f"style-src '{_hash(style)}'",
                f"script-src '{_hash(script)}'",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
                "require-trusted-types-for 'script'",
                "trusted-types 'none'",
            )
        ),
        icon=_ICON,
        # Of our own making, or escaped for where it stands; nothing else goes into the page unescaped.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        data=Markup(embedded(page_data(clean["experiments"], parts))),  # noqa: S704
    )


@cache
def _environment() -> Environment:
    made = environment()
    made.globals |= {"charts": charts, "letters": LETTERS, "run_words": RUN_WORDS}
    made.filters |= {"count": "{:,}".format, "signed": signed}
    return made


@cache
def _asset(name: str) -> str:
    templates = _environment()
    assert templates.loader is not None
    source, _, _ = templates.loader.get_source(templates, name)
    return source


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
