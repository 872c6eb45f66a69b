"""What makes an experiment impossible to audit."""

from __future__ import annotations

from .wording import printable


class ExperimentGone(OSError):
    """An experiment that was loaded can no longer be opened, or a directory of it no longer be listed."""


class ExperimentError(Exception):
    """An experiment cannot be audited at all. ``str()`` is one line: file, pointer, what is wrong, and the remedy."""

    def __init__(self, place: str, message: str, remedy: str, pointer: str = "") -> None:
        where = printable(place) + (f" {pointer}" if pointer else "")
        super().__init__(f"{where}: {message}. {remedy}")
