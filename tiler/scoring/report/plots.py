"""Plots of the numbers: curves, size bins, seams, confusion; as PNG files or as SVG in a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.plotting import BLUE, COLOURS, INK, PAPER, QUIET, RED, saved, short, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tiler.evaluation.seams import SeamRow
    from tiler.scoring.metrics import Metrics
    from tiler.types import Floats, Ints

SIZE = (6.0, 3.9)  # inches
NAMED = 2  # classes at either end that a crowded figure names
CONFUSED = 20  # classes that a matrix shows at most


def figures(metrics: Metrics) -> dict[str, bytes]:
    """PNG files by name; without what was not measured.

    Raises:
        TilerError: matplotlib is not installed.
    """
    files = {}
    for name, figure in _drawn(metrics):
        files[f"{name}.png"] = saved(figure, "png", {"Software": None})
    return files


def svg(metrics: Metrics) -> dict[str, str]:
    """The same as SVG elements for a page, by name without a suffix. The same numbers give the same
    text.

    Raises:
        TilerError: matplotlib is not installed.
    """
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    elements = {}
    for name, figure in _drawn(metrics):
        elements[name] = _inline(name, saved(figure, "svg", nothing).decode())
    return elements


def confused(matrix: Ints, most: int = CONFUSED) -> list[int]:
    """The classes of a confusion matrix to show: all, or those that take part in most mistakes,
    background last.

    >>> confused(np.array([[5, 0, 0, 0], [0, 0, 2, 0], [0, 1, 3, 0], [4, 0, 0, 0]]), most=2)
    [1, 2, 3]
    """
    classes = len(matrix) - 1
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    among_classes = wrong[:-1, :-1]
    mixed_up = among_classes.sum(axis=0) + among_classes.sum(axis=1)
    missed = wrong[-1, :-1]
    false = wrong[:-1, -1]
    by_mistakes = np.lexsort((np.arange(classes), -(missed + false), -mixed_up))
    worst = by_mistakes[:most].tolist()
    return [*sorted(worst), classes]


# --- the seven figures


def _drawn(metrics: Metrics) -> Iterator[tuple[str, Figure]]:
    """Each figure, while matplotlib has the settings it needs, whatever the user's own are."""
    with styled() as new:
        for name, curves in _curves_of(metrics).items():
            figure = new(SIZE)
            _plot_curves(figure.add_subplot(), curves)
            yield name, figure
        if metrics.confusion is not None:
            shown = confused(metrics.confusion)
            side = 3.2 + 0.22 * len(shown)
            figure = new((side + 0.6, side))
            names = [*map(short, metrics.names), "background"]
            _plot_matrix(figure.add_subplot(), metrics.confusion, names, shown)
            yield "confusion_matrix", figure
        figure = new(SIZE)
        _plot_sizes(figure.add_subplot(), metrics)
        yield "sizes", figure
        if metrics.seams is not None:
            figure = new(SIZE)
            _plot_seams(figure.add_subplot(), metrics.seams.table)
            yield "seams", figure


# --- curves


@dataclass(frozen=True, slots=True, eq=False)
class _CurvePlot:
    """A curve of each class.

    Attributes:
        axes: what x and y are.
        x: `(1000,)`.
        y: `(n, 1000)`.
        values: `(n,)` the number beside each name, by which those to be named are chosen.
        conf: the confidence of the best mean F1, where x is one.
    """

    axes: tuple[str, str]
    names: Sequence[str]
    x: Floats
    y: Floats
    values: Floats
    conf: float | None = None


def _curves_of(metrics: Metrics) -> dict[str, _CurvePlot]:
    box = metrics.box
    x = box.px
    conf = float(box.conf)
    names = [short(metrics.names[k]) for k in box.ap_class_index]
    return {
        "pr_curve": _CurvePlot(("recall", "precision"), names, x, box.prec_values, box.ap50),
        "f1_curve": _CurvePlot(("confidence", "F1"), names, x, box.f1_curve, box.f1, conf),
        "p_curve": _CurvePlot(("confidence", "precision"), names, x, box.p_curve, box.p, conf),
        "r_curve": _CurvePlot(("confidence", "recall"), names, x, box.r_curve, box.r, conf),
    }


def _plot_curves(axes: Axes, curves: _CurvePlot) -> None:
    """One line a class and their mean; of many classes only the best and the worst have colours and
    names.
    """
    order = np.argsort(-curves.values, kind="stable").tolist()
    if len(order) > len(COLOURS):
        named = [*order[:NAMED], *order[-NAMED:]]
        colours = dict(zip(named, COLOURS, strict=False))
        for i in order:
            axes.plot(curves.x[::4], curves.y[i, ::4], color=PAPER, linewidth=0.6, alpha=0.7)
    else:
        named = order
        colours = dict(enumerate(COLOURS))
    for i in named:
        label = f"{curves.names[i]} {curves.values[i]:.3f}"
        axes.plot(curves.x, curves.y[i], color=colours[i], linewidth=1.3, label=label)
    if len(order) != 1:
        _plot_mean(axes, curves)
    if curves.conf is not None:
        _mark_conf(axes, curves.conf)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=curves.axes[0], ylabel=curves.axes[1])
    if curves.conf is None:
        _legend_beside(axes, "AP at IoU 0.5")
    else:
        _legend_beside(axes, f"at confidence {curves.conf:.3f}")


def _plot_mean(axes: Axes, curves: _CurvePlot) -> None:
    """The mean over the classes, or a line at 0 where none has labels."""
    classes = len(curves.values)
    mean = np.zeros(len(curves.x))
    label = "no class has labels"
    if classes:
        mean = curves.y.mean(axis=0)
        label = f"mean of {classes} {curves.values.mean():.3f}"
    axes.plot(curves.x, mean, color=INK, linewidth=2.6, label=label)


def _mark_conf(axes: Axes, conf: float) -> None:
    axes.axvline(conf, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)))
    side, gap = ("left", 4) if conf < 0.7 else ("right", -4)
    axes.annotate(
        f"best mean F1 at {conf:.3f}",
        xy=(conf, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(gap, 0),
        textcoords="offset points",
        ha=side,
        color=QUIET,
        fontsize=9,
    )


def _legend_beside(axes: Axes, title: str) -> None:
    axes.legend(
        title=title,
        title_fontsize=8,
        fontsize=9,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        alignment="left",
    )


# --- confusion


def _plot_matrix(axes: Axes, matrix: Ints, names: Sequence[str], shown: Sequence[int]) -> None:
    """Shares of each true class, with counts where they can be read."""
    part = matrix[np.ix_(shown, shown)]
    share = shares(matrix)[np.ix_(shown, shown)]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if len(shown) <= CONFUSED + 1:
        _write_counts(axes, part, share)
    labels = [names[k] for k in shown]
    crowded = max(map(len, labels)) * len(labels) > 50
    axes.set_xticks(range(len(shown)), labels, rotation=90 if crowded else 0)
    axes.set_yticks(range(len(shown)), labels)
    axes.set(xlabel="true", ylabel="predicted")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _write_counts(axes: Axes, part: Ints, share: Floats) -> None:
    """On dark ground in white."""
    size = 9 if len(part) < 12 else 6.5
    for row, column in np.argwhere(part > 0).tolist():
        colour = "white" if share[row, column] > 0.55 else INK
        count = str(int(part[row, column]))
        axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=size)


def shares(matrix: Ints) -> Floats:
    """What part of its column each count is; 0 in empty columns.

    >>> shares(np.array([[3, 0], [1, 0]])).tolist()
    [[0.75, 0.0], [0.25, 0.0]]
    """
    return np.asarray(matrix / np.maximum(matrix.sum(axis=0), 1))


# --- sizes and seams


def _plot_sizes(axes: Axes, metrics: Metrics) -> None:
    """AP of each size bin, with its interval where that is known."""
    ticks = []
    for i, (name, row) in enumerate(metrics.bins["sizes"].items()):
        ap = row["AP"]
        low, high = row.get("interval", (np.nan, np.nan))
        if np.isfinite(low) and np.isfinite(high):
            below = max(ap - low, 0)
            above = max(high - ap, 0)
            axes.errorbar([i], [ap], [[below], [above]], color=BLUE, capsize=5)
        axes.plot([i], [ap], "o", color=BLUE, markersize=5)
        if np.isfinite(ap):
            axes.annotate(
                f"{ap:.3f}",
                (i, ap),
                xytext=(9, 0),
                textcoords="offset points",
                va="center",
                color=INK,
            )
        ticks.append(f"{name}\n{between(row)}\n{row['labels']}")
    _set_ticks(axes, ticks, "size bin, sides in px, labels")
    axes.set_ylabel("AP")


def between(row: Mapping[str, Any]) -> str:
    """The sides of a size bin, px."""
    if row["high"] is None:
        return f"from {row['low']:g}"
    return f"{row['low']:g} to {row['high']:g}"


def _plot_seams(axes: Axes, rows: Sequence[SeamRow]) -> None:
    """Recall by how far inside a tile labels lie."""
    x = range(len(rows))
    at_half = [row.recall50 for row in rows]
    mean = [row.recall for row in rows]
    line = partial(axes.plot, x, linewidth=1.5)
    line(at_half, "o-", color=BLUE, dashes=(None, None), label="at IoU 0.5")
    line(mean, "o-", color=RED, dashes=(4, 2), label="mean of 0.5 to 0.95")
    ticks = []
    for row in rows:
        words = row.margin.replace(" by ", " by\n").replace(" inside", "\ninside")
        ticks.append(f"{words}\n{row.labels}")
    _set_ticks(axes, ticks, "how far inside a tile, labels")
    axes.set_ylabel("recall")
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(loc="lower right", fontsize=9)


def _set_ticks(axes: Axes, names: Sequence[str], label: str) -> None:
    """A tick for each bin."""
    axes.set_xticks(range(len(names)), names)
    axes.set(xlim=(-0.5, len(names) - 0.4), ylim=(0, 1.05), xlabel=label)
    axes.grid(False, axis="x")


# --- in a page


def _inline(name: str, text: str) -> str:
    """The element alone; its ids are the page's only ones, its style touches nothing else there."""

    def with_own_ids(tag: re.Match[str]) -> str:
        return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag[0])

    element = text[text.index("<svg") :]
    element = re.sub(r"<style.*?</style>", "", element, count=1, flags=re.DOTALL)
    element = re.sub(r"<[^>]*>", with_own_ids, element)
    element = element.replace("<svg ", '<svg role="img" style="stroke-linejoin: round" ', 1)
    return element.strip()
