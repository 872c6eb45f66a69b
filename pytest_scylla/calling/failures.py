"""The four ways in which a call may give no answer, whoever was called."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

Scope = Literal["slot", "model", "all"]
"""What a call that can never succeed says about others: nothing; that this model's cannot; that no call can."""


class CallFailed(Exception):
    """A call that gave no answer; ``str()`` says why, in one line.

    ``cost_usd`` is what it cost all the same, ``None`` where that is not known. ``stdout`` and ``stderr`` are what a
    command line printed.
    """

    made = True
    """Whether there was a call at all, which may have cost something."""

    def __init__(self, reason: str, *, cost_usd: float | None = None, stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(reason)
        self.cost_usd = cost_usd
        self.stdout = stdout
        self.stderr = stderr

    @property
    def of_the_place(self) -> bool:
        """Whether nothing was asked about the one item, for a reason that lies elsewhere."""
        return False


class CallLimit(CallFailed):
    """A limit is reached; ``reset_at`` is when it ends (with a time zone), ``None`` where that is not known."""

    of_the_place = True

    def __init__(self, reason: str, reset_at: datetime | None = None, **rest: Any) -> None:
        super().__init__(reason, **rest)
        self.reset_at = reset_at


class CallTransient(CallFailed):
    """The service or the way to it failed, and may work again in a moment."""

    of_the_place = True


class CallTimeout(CallFailed):
    """No answer came in time."""


class CallPermanent(CallFailed):
    """No call like this will ever work; ``scope`` says which others will not either.

    It was not even ``made`` where the command is not there, for one.
    """

    def __init__(self, reason: str, scope: Scope = "slot", *, made: bool = True, **rest: Any) -> None:
        super().__init__(reason, **rest)
        self.scope = scope
        self.made = made

    @property
    def of_the_place(self) -> bool:
        """Whether the reason lies elsewhere than with the one item."""
        return self.scope != "slot"
