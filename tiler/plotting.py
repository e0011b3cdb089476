"""Matplotlib, without its global state: one style for all figures."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tiler.errors import TilerError, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, QUIET, PAPER = "#222222", "#6b6b6b", "#b8bec4"
BLUE, RED = "#0072b2", "#d55e00"
# Okabe and Ito: told apart by the colour-blind too
COLOURS = (BLUE, RED, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLE: Any = {  # of matplotlib's settings
    "axes.edgecolor": PAPER,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib's own
    "font.size": 10.0,
    "grid.color": "#e6e8ea",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "tiler",  # ids of the same figure are the same each time
    "text.parse_math": False,  # names of classes are no formulas
    "xtick.color": QUIET,
    "ytick.color": QUIET,
}
DPI = 160


@contextmanager
def styled() -> Iterator[Callable[[tuple[float, float]], Figure]]:
    """Makes figures of a width and height in inches, by the settings of `STYLE`, whatever the
    user's own are.

    Raises:
        TilerError: matplotlib is not installed.
    """
    backend = os.environ.pop("MPLBACKEND", None)  # may name one that is not there; none is needed
    try:
        import matplotlib
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise TilerError("plots need matplotlib: pip install 'tilestitch[plot]'") from None
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend

    def new(size: tuple[float, float]) -> Figure:
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        return figure

    with warnings.catch_warnings(), style.context("default"), matplotlib.rc_context(STYLE):
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # names may be in any script
        yield new


def saved(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    """The file of a figure."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=DPI, metadata=metadata)
    return file.getvalue()


def short(name: str) -> str:
    """A name on one line of a figure."""
    shown = printable(name)
    if len(shown) > 20:
        return shown[:19] + "…"
    return shown
