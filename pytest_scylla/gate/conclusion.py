"""What a session concludes of one experiment beside its items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .waivers import WaiverUse

if TYPE_CHECKING:
    from .baseline import Comparison
    from .requirements import Measured


@dataclass(frozen=True, slots=True)
class Ratchet:
    """Whether nothing is worse than it was: ``worse`` items are. ``refused`` says why that cannot be told."""

    worse: int
    refused: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing is."""
        return not self.refused and not self.worse

    def __str__(self) -> str:
        if self.refused:
            return f"ratchet: refused, {self.refused}"
        if self.holds:
            return "ratchet: nothing is worse: holds"
        return f"ratchet: {self.worse} item{'s are' if self.worse > 1 else ' is'} worse: does not hold"

    def as_data(self) -> dict[str, Any]:
        """The same under the names of the report; ``holds`` is ``None`` where it was refused."""
        return {"holds": None if self.refused else self.holds, "reason": self.refused or None}


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Requirements, waivers and a comparison, as far as they were asked for."""

    measured: tuple[Measured, ...] = ()
    waivers: tuple[WaiverUse, ...] = ()
    compared: Comparison | None = None
    ratchet: Ratchet | None = None

    @property
    def holds(self) -> bool:
        """Whether none of it fails the session."""
        kept = all(measured.holds for measured in self.measured) and (self.ratchet is None or self.ratchet.holds)
        return kept and not any(use.fault for use in self.waivers)

    def as_data(self) -> dict[str, Any]:
        """The same under the names of the report, which holds only what was asked for."""
        data: dict[str, Any] = {}
        if self.measured:
            data["requirements"] = [measured.as_data() for measured in self.measured]
        if self.waivers:
            data["waivers"] = [use.as_data() for use in self.waivers]
        if self.compared is not None:
            ratchet = self.ratchet and self.ratchet.as_data()
            data["compared"] = {**self.compared.as_data(), "ratchet": ratchet}
        return data
