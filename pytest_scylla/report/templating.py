"""The templates that reports are made of: they escape what they are given, and stumble over what they are not."""

from __future__ import annotations

from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined

from .figures import FEWEST_PAIRS, MOST_WORSE
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
    made.globals |= {"fewest_pairs": FEWEST_PAIRS, "most_worse": MOST_WORSE, "percent": percent}
    made.filters |= {"decimal": decimal, "duration": duration, "usd": usd}
    return made
