"""Where drawings are written: a sheet, or a folder with a page for each image."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, PngImagePlugin

from tiler.errors import TilerError
from tiler.formats.text_files import read_bytes
from tiler.run.folders import Folder
from tiler.run.output_folder import HINT, changed, content, occupied, resolved
from tiler.run.staging import Staging, writing
from tiler.run.transaction import produced

if TYPE_CHECKING:
    from tiler.inspecting.showing.selection import Showing

NAME = "show.json"  # what a folder of pages shows
SUFFIX = ".png"
MOST = 1 << 30  # bytes of a sheet
MAKER = "tiler show"  # in each PNG, by which it is known as ours

Progress = Callable[[int, int], None]


def default(what: Path) -> Path:
    """`<WHAT>-show.png` in the working directory.

    >>> default(Path("data/cars/dataset.yaml")).as_posix()
    'cars-show.png'
    """
    place = Path(os.path.abspath(what))
    if place.is_file() or place.suffix in (".yaml", ".yml"):
        place = place.with_suffix("") if place.suffix == ".json" else place.parent
    return Path(f"{place.name or 'images'}-show{SUFFIX}")


def write(showing: Showing, out: Path, progress: Progress | None = None) -> Path:
    """Write a sheet to a PNG, or pages to a folder; complete or not at all.

    Raises:
        TilerError: something else is there.
        Unfinished: a full disk, or another run on the same folder.
    """
    if out.suffix.lower() == SUFFIX:
        return _write_sheet(showing, out, progress)
    if out.suffix:
        raise TilerError(f"--out {out}: expected a .png, or a folder")
    return _write_pages(showing, out, progress)


def _write_sheet(showing: Showing, out: Path, progress: Progress | None) -> Path:
    overwrite = showing.options.overwrite
    target = Path(os.path.abspath(out))
    if not target.parent.is_dir():
        raise TilerError(f"--out {out}: no such folder: {target.parent}")
    before = _ours(target)
    if before is None and os.path.lexists(target):
        raise TilerError(f"--out {out}: it is not made by tiler show; choose another name")
    data = encoded(showing.sheet(progress))
    if before == data:
        return target
    if before is not None and not overwrite:
        raise TilerError(f"--out {out}: holds another sheet; {HINT}")
    with writing(), Folder(target.parent) as folder:
        temporary = f".{target.name}.partial"
        folder.write(temporary, data)
        folder.move(temporary, folder, target.name)
    return target


def _ours(path: Path) -> bytes | None:
    """The content of a PNG that this verb made; None of anything else."""
    try:
        data = read_bytes(path, MOST)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            made_here = image.info.get("Software") == MAKER
    except Exception:  # whatever a decoder says of it
        return None
    if os.path.islink(path) or not made_here:
        return None
    return data


def encoded(image: Image.Image) -> bytes:
    """A PNG."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", MAKER)
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=info)
    return file.getvalue()


def _write_pages(showing: Showing, out: Path, progress: Progress | None) -> Path:
    target = resolved(out)
    _require_apart(target, showing)

    def files() -> dict[str, bytes]:
        pages = {name: encoded(page) for name, page in showing.pages(progress)}
        if not pages:
            raise showing.nothing()
        listed = {"files": sorted(pages), **showing.plain()}
        pages[NAME] = json.dumps(listed, indent=1).encode() + b"\n"
        return pages

    def unchanged() -> None:
        with Folder(target) as folder:
            for name, data in files().items():
                if content(folder, name) != data:
                    raise changed(target, f"holds other images ({name} differs)")

    def build(staging: Staging) -> None:
        staging.begin(None)
        with writing():
            for name, data in files().items():
                staging.tree.write(name, data)

    overwrite = showing.options.overwrite
    produced(target, lambda: occupied(target, NAME, overwrite, _owned_in), unchanged, build)
    return target


def _require_apart(target: Path, showing: Showing) -> None:
    """Raises:
    TilerError: pages would be taken for images of what is shown.
    """
    for image in (image for image, _ in showing.shown):
        folder = Path(os.path.realpath(image.path)).parent
        if target == folder or folder in target.parents or target in folder.parents:
            raise TilerError(
                f"--out {target}: it holds the images, or lies among them; choose another folder"
            )


def _owned_in(folder: Folder) -> Callable[[str], bool]:
    """A test whether a path in an output is that of one of its files."""
    try:
        listed = json.loads(content(folder, NAME))["files"]
        names = {NAME, *map(str, listed)}
    except (ValueError, KeyError, TypeError) as error:
        raise TilerError(f"{folder.path / NAME}: not what tiler show writes: {error}") from None
    return names.__contains__
