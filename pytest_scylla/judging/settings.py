"""What a person sets of their judge."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JudgeSettings:
    """Who judges, and how. ``command`` is a template of the user's own, in the place of the command line ``name``.

    ``environment`` names variables that it gets beside the usual ones; ``system_prompt`` is the user's, if they have
    one. ``timeout`` and ``backoff`` are in seconds.
    """

    name: str
    command: tuple[str, ...]
    environment: tuple[str, ...]
    system_prompt: str | None
    timeout: float
    backoff: float
    fallback: bool
