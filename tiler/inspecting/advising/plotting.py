"""The settings in a figure: how large the small objects become, and what keeping them costs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tiler.errors import TilerError
from tiler.formats.text_files import reason
from tiler.inspecting.advising.report import PlannedSetting, PlanReport
from tiler.plotting import BLUE, COLOURS, INK, PAPER, QUIET, RED, saved, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (10.0, 4.2)  # inches
DASHES = (0, (4, 3))


def require(path: Path) -> None:
    """Check that a figure can be made, before anything is counted.

    Raises:
        TilerError: matplotlib is not installed, or there is such a file already.
    """
    with styled():
        pass
    if os.path.lexists(path):
        raise TilerError(f"{path}: exists; remove it, or name another file")


def write(report: PlanReport, path: Path) -> None:
    """Draw a report into a new PNG file.

    Raises:
        TilerError: matplotlib is not installed, or the file cannot be made.
    """
    with styled() as new:
        figure = new(SIZE)
        left, right = figure.subplots(1, 2)
        _plot_sizes(left, report)
        _plot_cost(right, report)
        content = saved(figure, "png", {"Software": None})
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise TilerError(f"{path}: cannot be written: {reason(error)}") from None


def _plot_sizes(axes: Axes, report: PlanReport) -> None:
    """The sides of the small objects in a tile of each size: the middle 80 %, and the median."""
    by_tile = {setting.tile: setting for setting in report.settings}
    for place, setting in enumerate(by_tile.values()):
        chosen = report.choice is not None and setting.tile == report.choice.tile
        colour = RED if chosen else BLUE
        px = setting.small_px
        axes.plot([px.p10, px.p90], [place, place], color=colour, linewidth=5, alpha=0.35)
        axes.plot([px.p50], [place], "o", color=colour)
        axes.annotate(
            f"{px.p50:.1f}", (px.p50, place), (0, 7), textcoords="offset points", ha="center"
        )
    axes.axvline(report.min_px, color=QUIET, linestyle=DASHES, linewidth=1)
    axes.set_yticks(range(len(by_tile)), [_name(setting) for setting in by_tile.values()])
    axes.set_ylim(-0.6, len(by_tile) - 0.3)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(f"side of small objects at imgsz {report.imgsz}, px (median, 10–90 %)")


def _name(setting: PlannedSetting) -> str:
    return "no tiles" if setting.tile is None else f"tile {setting.tile}"


def _plot_cost(axes: Axes, report: PlanReport) -> None:
    """The small objects that are whole, over the pixels of all tiles for one of the images."""
    pixels = max(1, report.settings[0].pixels)
    by_tile: dict[int | None, list[PlannedSetting]] = {}
    for setting in report.settings:
        by_tile.setdefault(setting.tile, []).append(setting)
    for number, settings in enumerate(by_tile.values()):
        settings = sorted(settings, key=lambda setting: setting.pixels)
        x = [setting.pixels / pixels for setting in settings]
        y = [_kept(report, setting) for setting in settings]
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(x, y, "o-", color=colour, markersize=5, linewidth=1, label=_name(settings[0]))
    if report.choice is not None:
        place = (report.choice.pixels / pixels, _kept(report, report.choice))
        axes.plot(*place, "o", markersize=13, markerfacecolor="none", color=INK)
        axes.annotate(
            "recommended", place, (8, -14), textcoords="offset points", color=INK, fontsize=9
        )
    axes.axhline(report.keep, color=QUIET, linestyle=DASHES, linewidth=1)
    axes.set_xlabel("tile pixels for one pixel of the images")
    axes.set_ylabel("small objects whole, %")
    axes.legend(loc="lower right", edgecolor=PAPER)


def _kept(report: PlanReport, setting: PlannedSetting) -> float:
    return 100 * setting.small_whole / max(1, report.small)
