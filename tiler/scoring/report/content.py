"""What the report shows: the numbers as the JSON has them, and the figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tiler.errors import TilerError
from tiler.scoring.metrics import Metrics
from tiler.scoring.report import plots
from tiler.scoring.report.elements import figure

COUNTED = ("images", "labels", "detections", "classes", "task", "similarity")


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What the report shows.

    Attributes:
        plain: what the JSON holds.
        figures: SVG elements by name; without matplotlib none.
        problem: why there are none.
    """

    metrics: Metrics
    plain: Mapping[str, Any]
    figures: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @classmethod
    def of(cls, metrics: Metrics) -> Self:
        """Of what `score` returned."""
        plain = metrics.plain()
        try:
            return cls(metrics, plain, plots.svg(metrics))
        except TilerError as error:
            return cls(metrics, plain, problem=str(error))

    @property
    def card(self) -> Mapping[str, Any]:
        card: Mapping[str, Any] = self.plain["card"]
        return card

    @property
    def protocols(self) -> Mapping[str, str]:
        """What each protocol is, by its name."""
        protocols: Mapping[str, str] = self.card["protocols"]
        return protocols

    @property
    def intervals(self) -> Mapping[str, Any]:
        """By the name of the number."""
        return self.plain["intervals"] or {}

    @property
    def title(self) -> str:
        title = self.card["data"]
        if self.card["split"]:
            title += f", {self.card['split']}"
        return f"{title}: detections against labels"

    @property
    def counts(self) -> str:
        """How much was scored, of what."""
        names = ("images", "labels", "detections", "classes")
        counts = ", ".join(f"{self.card[name]} {name}" for name in names)
        return f"{counts}; {self.card['task']}, {self.card['similarity']}"

    def figure(self, name: str, caption: str) -> str:
        """The figure of that name, or nothing where it was not drawn."""
        if name not in self.figures:
            return ""
        return figure(self.figures[name], caption)
