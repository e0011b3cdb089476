"""`tiler show`."""

from __future__ import annotations

import os
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiler.cli.parameters import Quiet, Verbose, with_options
from tiler.cli.printing import emit, findings, progress, tell
from tiler.options import ShowOptions

if TYPE_CHECKING:
    from tiler.inspecting.showing import Showing

What = Annotated[
    Path,
    typer.Argument(
        metavar="WHAT", help="A dataset, the output of tiler split or tiler merge, or predictions."
    ),
]
OneImage = Annotated[
    str | None,
    typer.Argument(metavar="IMAGE", help="Show this one, by its path or name.", show_default=False),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="PNG|DIR",
        help="One sheet (.png), or a folder for a large page of each image.",
        show_default="WHAT-show.png, in the working directory",
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Folder of the images of annotations, or of merged detections.",
        show_default=False,
    ),
]
ShownData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Dataset of the detections: its labels are drawn too.",
        show_default=False,
    ),
]
ShownTiles = Annotated[
    Path | None,
    typer.Option(
        "--tiles",
        metavar="DIR",
        help="Output of tiler split: its windows are drawn on full images.",
        show_default="as in the merge",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print what is shown as JSON.")]


@with_options(ShowOptions)
def command(
    what: What,
    image: OneImage = None,
    out: Out = None,
    images: Images = None,
    data: ShownData = None,
    tiles: ShownTiles = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: Any,
) -> None:
    """Draw labels or detections on images, with their densest places enlarged, to look at."""
    from tiler.inspecting.showing import prepared
    from tiler.inspecting.showing.output import default, write

    showing = prepared(what, image, images=images, data=data, tiles=tiles, **options)
    with progress("drawn", quiet or json) as show:
        path = write(showing, out or default(what), show)
    if json:
        emit(dumps({"out": str(path), **showing.plain()}, indent=1) + "\n")
    elif not quiet:
        _summary(showing, path)
    root = str(showing.collection.root)
    findings(showing.findings, root, verbose, quiet, "with --verbose")
    raise typer.Exit(showing.exit_code())


def _summary(showing: Showing, path: Path) -> None:
    tell(showing.title())
    tell(os.fspath(path))
