"""The templates that reports are made of: they escape what they are given, and stumble over what they are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from .figures import FEWEST_PAIRS, MOST_WORSE, Figures, exit_words, headline
from .gate import MOST_WAIVERS
from .item import duration
from .quantities import decimal, percent, usd


def environment(finalize: Callable[[object], object] | None = None) -> Environment:
    """The environment of the package's templates, with what all of them use.

    :param finalize: is given every value before it goes into the text, and returns it or what to put there instead.
    """
    made = Environment(
        loader=PackageLoader("pytest_scylla.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    made.globals |= {
        "fewest_pairs": FEWEST_PAIRS,
        "most_waivers": MOST_WAIVERS,
        "most_worse": MOST_WORSE,
        "percent": percent,
    }
    made.filters |= {"decimal": decimal, "duration": duration, "usd": usd}
    return made


def rendered(
    templates: Environment, name: str, report: dict[str, Any], parts: Sequence[Figures], **more: object
) -> str:
    """The template ``name`` filled with a report whose texts are cleaned, its figures, and whatever ``more`` it takes.

    :param parts: the figures of each of the report's experiments.
    """
    tone, sentence = headline(report, parts)
    text: str = templates.get_template(name).render(
        report=report, parts=parts, tone=tone, sentence=sentence, exit_words=exit_words(report["exit_bits"]), **more
    )
    return text
