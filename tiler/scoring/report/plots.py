"""Plots of the numbers: curves, size bins, seams, confusion; as PNG files or as SVG in a page."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tiler.scoring.metrics import Metrics
    from tiler.types import Floats, Ints

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
SIZE = (6.0, 3.9)  # inches
DPI = 160
NAMED = 2  # classes at either end that a crowded figure names
CONFUSED = 20  # classes that a matrix shows at most


def figures(metrics: Metrics) -> dict[str, bytes]:
    """PNG files by name; without what was not measured.

    Raises:
        TilerError: matplotlib is not there.
    """
    return {
        f"{name}.png": _saved(figure, "png", {"Software": None}) for name, figure in _drawn(metrics)
    }


def svg(metrics: Metrics) -> dict[str, str]:
    """The same as SVG elements for a page, by name without a suffix. The same numbers give the same
    text.

    Raises:
        TilerError: matplotlib is not there.
    """
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    return {
        name: _inline(name, _saved(figure, "svg", nothing).decode())
        for name, figure in _drawn(metrics)
    }


def confused(matrix: Ints, most: int = CONFUSED) -> list[int]:
    """The classes of a confusion matrix to show: all, or those that take part in most mistakes,
    background last.

    >>> confused(np.array([[5, 0, 0, 0], [0, 0, 2, 0], [0, 1, 3, 0], [4, 0, 0, 0]]), most=2)
    [1, 2, 3]
    """
    classes = len(matrix) - 1
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    between = wrong[:-1, :-1].sum(axis=0) + wrong[:-1, :-1].sum(axis=1)
    missed = wrong[-1, :-1] + wrong[:-1, -1]
    worst = np.lexsort((np.arange(classes), -missed, -between))[:most]
    return [*sorted(worst.tolist()), classes]


# --- the seven figures


def _drawn(metrics: Metrics) -> Iterator[tuple[str, Figure]]:
    """Each figure, while matplotlib has the settings it needs, whatever the user's own are."""
    with _styled() as new:
        box = metrics.box
        names = [short(metrics.names[k]) for k in box.ap_class_index]
        best = float(box.conf)
        for name, x, y, ends, axes, at in (
            ("pr_curve", box.px, box.prec_values, box.ap50, ("recall", "precision"), None),
            ("f1_curve", box.px, box.f1_curve, box.f1, ("confidence", "F1"), best),
            ("p_curve", box.px, box.p_curve, box.p, ("confidence", "precision"), best),
            ("r_curve", box.px, box.r_curve, box.r, ("confidence", "recall"), best),
        ):
            figure = new(SIZE)
            _curves(figure.add_subplot(), x, y, names, ends, axes, at)
            yield name, figure
        if metrics.confusion is not None:
            shown = confused(metrics.confusion)
            side = 3.2 + 0.22 * len(shown)
            figure = new((side + 0.6, side))
            _matrix(
                figure.add_subplot(),
                metrics.confusion,
                [*map(short, metrics.names), "background"],
                shown,
            )
            yield "confusion_matrix", figure
        figure = new(SIZE)
        _sizes(figure.add_subplot(), metrics)
        yield "sizes", figure
        if metrics.seams is not None:
            figure = new(SIZE)
            _seams(figure.add_subplot(), metrics)
            yield "seams", figure


def _curves(
    axes: Axes,
    x: Floats,
    y: Floats,
    names: Sequence[str],
    values: Floats,
    labels: tuple[str, str],
    at: float | None,
) -> None:
    """One line a class and their mean; a crowd is grey, and only its ends have names.

    Args:
        x: `(1000,)`.
        y: `(n, 1000)`.
        values: `(n,)` the number beside each name, by which the ends are chosen.
        at: the confidence of the best mean F1.
    """
    order = np.argsort(-values, kind="stable").tolist()
    crowd = len(order) > len(COLOURS)
    named = [*order[:NAMED], *order[-NAMED:]] if crowd else order
    for i in order if crowd else []:
        axes.plot(x[::4], y[i, ::4], color=PAPER, linewidth=0.6, alpha=0.7)
    for place, i in enumerate(named):
        colour = COLOURS[place if crowd else i]
        axes.plot(x, y[i], color=colour, linewidth=1.3, label=f"{names[i]} {values[i]:.3f}")
    if len(order) != 1:
        mean = y.mean(axis=0) if len(order) else np.zeros(len(x))
        text = f"mean of {len(order)} {values.mean():.3f}" if len(order) else "no class has labels"
        axes.plot(x, mean, color=INK, linewidth=2.6, label=text)
    if at is not None:
        axes.axvline(at, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)))
        side, gap = ("left", 4) if at < 0.7 else ("right", -4)
        where: dict[str, Any] = {
            "xy": (at, 0.02),
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
        }
        axes.annotate(
            f"best mean F1 at {at:.3f}", xytext=(gap, 0), ha=side, color=QUIET, fontsize=9, **where
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=labels[0], ylabel=labels[1])
    title = "AP at IoU 0.5" if at is None else f"at confidence {at:.3f}"
    axes.legend(
        title=title,
        title_fontsize=8,
        fontsize=9,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        alignment="left",
    )


def _matrix(axes: Axes, matrix: Ints, names: Sequence[str], shown: Sequence[int]) -> None:
    """Shares of each true class, with counts where they can be read."""
    part = matrix[np.ix_(shown, shown)]
    share = shares(matrix)[np.ix_(shown, shown)]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for row, column in np.argwhere(part > 0).tolist() if len(shown) <= CONFUSED + 1 else []:
        dark = share[row, column] > 0.55
        count = int(part[row, column])
        size = 9 if len(shown) < 12 else 6.5
        axes.text(
            column,
            row,
            str(count),
            ha="center",
            va="center",
            color="white" if dark else INK,
            fontsize=size,
        )
    given = [names[k] for k in shown]
    axes.set_xticks(
        range(len(shown)), given, rotation=90 if max(map(len, given)) * len(given) > 50 else 0
    )
    axes.set_yticks(range(len(shown)), given)
    axes.set(xlabel="true", ylabel="predicted")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def shares(matrix: Ints) -> Floats:
    """What part of its column each count is; 0 in empty columns.

    >>> shares(np.array([[3, 0], [1, 0]])).tolist()
    [[0.75, 0.0], [0.25, 0.0]]
    """
    return np.asarray(matrix / np.maximum(matrix.sum(axis=0), 1))


def _sizes(axes: Axes, metrics: Metrics) -> None:
    """AP of each size bin, with its interval where that is known."""
    rows = metrics.bins["sizes"]
    for i, row in enumerate(rows.values()):
        low, high = row.get("interval", (np.nan, np.nan))
        if np.isfinite(low) and np.isfinite(high):
            axes.errorbar(
                [i],
                [row["AP"]],
                [[max(row["AP"] - low, 0)], [max(high - row["AP"], 0)]],
                color=BLUE,
                capsize=5,
            )
        axes.plot([i], [row["AP"]], "o", color=BLUE, markersize=5)
        beside: dict[str, Any] = {
            "xytext": (9, 0),
            "textcoords": "offset points",
            "va": "center",
            "color": INK,
        }
        if np.isfinite(row["AP"]):
            axes.annotate(f"{row['AP']:.3f}", (i, row["AP"]), **beside)
    _bins(
        axes,
        [f"{name}\n{between(row)}\n{row['labels']}" for name, row in rows.items()],
        "size bin, sides in px, labels",
    )
    axes.set_ylabel("AP")


def between(row: Mapping[str, Any]) -> str:
    """The sides of a size bin, px."""
    return f"from {row['low']:g}" if row["high"] is None else f"{row['low']:g} to {row['high']:g}"


def _seams(axes: Axes, metrics: Metrics) -> None:
    """Recall by how far inside a tile labels lie."""
    assert metrics.seams is not None
    rows = metrics.seams.table
    for label, values, colour, dashes in (
        ("at IoU 0.5", [row.recall50 for row in rows], BLUE, (None, None)),
        ("mean of 0.5 to 0.95", [row.recall for row in rows], RED, (4, 2)),
    ):
        axes.plot(
            range(len(values)),
            values,
            "o-",
            color=colour,
            dashes=dashes,
            linewidth=1.5,
            label=label,
        )
    words = [row.margin.replace(" by ", " by\n").replace(" inside", "\ninside") for row in rows]
    _bins(
        axes,
        [f"{word}\n{row.labels}" for word, row in zip(words, rows, strict=True)],
        "how far inside a tile, labels",
    )
    axes.set_ylabel("recall")
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(loc="lower right", fontsize=9)


def _bins(axes: Axes, names: Sequence[str], label: str) -> None:
    axes.set_xticks(range(len(names)), names)
    axes.set(xlim=(-0.5, len(names) - 0.4), ylim=(0, 1.05), xlabel=label)
    axes.grid(False, axis="x")


# --- matplotlib, without its global state


@contextmanager
def _styled() -> Iterator[Callable[[tuple[float, float]], Figure]]:
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


def _saved(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=DPI, metadata=metadata)
    return file.getvalue()


def _inline(name: str, text: str) -> str:
    """The element alone; its ids are the page's only ones, its style touches nothing else there."""
    text = re.sub(r"<style.*?</style>", "", text[text.index("<svg") :], count=1, flags=re.DOTALL)

    def own(tag: re.Match[str]) -> str:
        return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag[0])

    return (
        re.sub(r"<[^>]*>", own, text)
        .replace("<svg ", '<svg role="img" style="stroke-linejoin: round" ', 1)
        .strip()
    )


def short(name: str) -> str:
    """A name on one line of a figure."""
    shown = printable(name)
    return shown if len(shown) <= 20 else shown[:19] + "…"
