"""The recommendation in words: the command line, its reason, and what speaks against it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from pathlib import Path

from tiler.inspecting.advising.report import PlannedSetting, PlanReport
from tiler.inspecting.advising.settings import COCO_RULE, required
from tiler.options import SplitOptions

STEP = 32  # px; trainers round --imgsz up to a multiple of their coarsest stride
MANY = 0.5  # of the tiles: more background is worth a word
FEW = 0.01  # of the objects: so few small ones are worth one
OF_SETTING = ("tile", "overlap")


def command_line(
    data: Path, images: Path | None, options: SplitOptions, setting: PlannedSetting
) -> str:
    """The command that cuts so. `options`: of the split, but for tile and overlap."""
    words = ["tiler split", shlex.quote(str(data))]
    if images is not None:
        words.append(f"--images {shlex.quote(str(images))}")
    words.append(str(setting))
    words += [given for name, given in options.changed().items() if name not in OF_SETTING]
    return " ".join(words)


def reason(report: PlanReport) -> str:
    """Why a setting is recommended, or why none is."""
    if not report.sizes.objects:
        return "There are no objects to choose a tile by."
    choice = report.choice
    if choice is None:
        return _why_none(report)
    if choice.tile is None:
        return (
            f"No tiles are needed: resized to imgsz {report.imgsz}, the images as they are show "
            f"the small objects with a median side of {choice.small_px.p50:.1f} px, where "
            f"{report.min_px:g} px were asked for."
        )
    suitable = sum(setting.suits for setting in report.settings)
    scale = report.images.scale
    mark = "~" if scale > 1 else ""
    pixels = f"{mark}{choice.pixels * scale / 1e6:.1f} million"
    return (
        f"{suitable} of the {len(report.settings)} settings keep {report.keep:g} % of the small "
        f"objects whole and show them with a median side of {report.min_px:g} px at imgsz "
        f"{report.imgsz}; this one has the fewest tile pixels ({pixels}). It keeps "
        f"{_kept(report, choice)} whole, with a median side of {choice.small_px.p50:.1f} px."
    )


def _kept(report: PlanReport, setting: PlannedSetting) -> str:
    """297 of 300 (99.0 %); rounded down, so that what misses a limit does not seem to reach it."""
    share = math.floor(1000 * setting.small_whole / report.small) / 10
    return f"{setting.small_whole} of {report.small} ({share:.1f} %)"


def _why_none(report: PlanReport) -> str:
    settings = report.settings
    most = max(settings, key=lambda setting: setting.small_whole)
    largest = max(settings, key=lambda setting: setting.small_px.p50)
    if not most.keeps:
        return (
            f"No setting keeps {report.keep:g} % of the small objects whole: at most "
            f"{_kept(report, most)} are, with {most}."
        )
    side = f"a median side of {report.min_px:g} px at imgsz {report.imgsz}"
    if not largest.large_enough:
        return (
            f"No setting shows the small objects with {side}: at most "
            f"{largest.small_px.p50:.1f} px, with {largest}; there, imgsz "
            f"{_enough(report, largest)} would."
        )
    return (
        f"No setting keeps {report.keep:g} % of the small objects whole and shows them with {side}."
    )


def _enough(report: PlanReport, setting: PlannedSetting) -> int:
    """The imgsz at which the small objects would be large enough."""
    exact = report.imgsz * report.min_px / max(setting.small_px.p50, 1e-3)
    return math.ceil(exact / STEP) * STEP


def remarks(report: PlanReport) -> list[str]:
    """What else is to be known, and what speaks against the recommended setting."""
    result = [*_of_counting(report), *_of_small_objects(report)]
    if report.choice is not None and report.choice.tile is not None:
        result += _against(report, report.choice)
    return result


def _of_counting(report: PlanReport) -> Iterator[str]:
    images = report.images
    drawn = images.counted + images.rejected
    if drawn < images.total:
        yield (
            f"Counted on {drawn} of {images.total} images (--sample); numbers with ~ are scaled to "
            "all."
        )


def _of_small_objects(report: PlanReport) -> Iterator[str]:
    if not report.sizes.objects:
        return
    if report.small_rule != COCO_RULE:
        yield (
            f"No object has an {COCO_RULE}: {report.small_rule} (under "
            f"{math.sqrt(report.small_below):.1f}² px) stands for the small ones."
        )
    elif report.small < FEW * report.sizes.objects:
        yield f"Only {report.small} of {report.sizes.objects} objects are small ({COCO_RULE})."
    allowed = report.small - required(report.keep, report.small)
    if report.small_unlabelled > allowed:
        yield (
            f"{report.small_unlabelled} of {report.small} small objects get no label even where "
            "they are whole (too small, or taken for a duplicate): --keep must be lower."
        )


def _against(report: PlanReport, choice: PlannedSetting) -> Iterator[str]:
    if report.guaranteed_overlap > choice.overlap_px:
        yield (
            f"An overlap of {choice.overlap_px} px does for these labels as they lie; to keep "
            f"{report.keep:g} % of such objects whole wherever they lie takes "
            f"{report.guaranteed_overlap} px."
        )
    if choice.background > MANY * choice.tiles:
        share = choice.background / choice.tiles
        yield (
            f"{share:.0%} of its tiles are background: --background 0.1 keeps one for ten tiles "
            "with objects."
        )
    cut = choice.objects - choice.whole
    if cut:
        text = f"Whole in no tile: {cut} of {choice.objects} objects"
        if choice.longer:
            text += f", {choice.longer} of them longer than a tile (--scale 1,0.5 helps)"
        yield f"{text}. In no tile at all: {choice.lost}."
    if choice.tile is not None and choice.tile > report.imgsz:
        yield f"The trainer shrinks its tiles to imgsz {report.imgsz}, which takes pixels away."
