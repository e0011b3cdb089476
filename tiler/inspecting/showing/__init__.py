"""`tiler show`: labels and detections drawn on images, for people to look at before they trust."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tiler.inspecting.showing.output import write
from tiler.inspecting.showing.selection import Showing, prepared
from tiler.options import ShowOptions
from tiler.options.signatures import takes
from tiler.options.values import path
from tiler.run import notes

if TYPE_CHECKING:
    from typing import Unpack

    from PIL import Image

    from tiler.options.arguments import ShowArguments

__all__ = ["Showing", "prepared", "show"]


@takes(ShowOptions)
def show(
    what: str | Path,
    image: str | None = None,
    *,
    out: str | Path | None = None,
    images: str | Path | None = None,
    data: str | Path | None = None,
    tiles: str | Path | None = None,
    **options: Unpack[ShowArguments],
) -> Image.Image:
    """Labels or detections drawn on images, with their densest places enlarged: one sheet, which a
    notebook shows.

    Args:
        what: a dataset, the output of tiler split or of tiler merge, or predictions.
        image: the one image to show, by its path or name. Default: `n` images are chosen.
        out: a PNG to write the sheet to, or a folder for one PNG of each image.
        images: the folder of the images, of a COCO JSON or of merged detections.
        data: the dataset of detections, whose labels are drawn too.
        tiles: the output of tiler split, whose windows are drawn on full images.
        options: any of `ShowOptions` (n, conf, task, max_pixels, overwrite, and how a dataset is
            read).

    Raises:
        TilerError: there is nothing to show, or `out` holds something else.

    >>> tiler.show("examples/scenes", n=2).mode  # doctest: +SKIP
    'RGB'
    """
    showing = prepared(what, image, images=images, data=data, tiles=tiles, **options)
    if out is not None:
        write(showing, path(out, "out"))
    sheet = showing.sheet()
    notes.finished("show", [showing.title()], showing.findings)
    return sheet
