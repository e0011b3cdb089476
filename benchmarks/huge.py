"""Images too large to decode whole: what `tiler split` takes against reading and encoding alone,
whole processes.

    python benchmarks/huge.py [--side 20000] [--kinds jpg,png,tif-strips,tif-tiles,bigtiff]
    [--format jpg] [--keep DIR]

One image of each kind is made in bounded memory and measured: side x side px, as BigTIFF 2 side x
1.5 side.

    a  reads it as the reader for large images does (top to bottom in strips of 512 rows, TIFF by
    rasterio,
       others by pyvips 64 rows at a time), and keeps nothing
    b  has its first 640 rows in memory and encodes and writes as many tiles as it has (Pillow,
    threads on all cores) c  is `tiler split`, with 1000 labels

c should take little more than a and b together, and at most 500 MB. The extra `big` must be
installed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
import measure
import split

if TYPE_CHECKING:
    import pyvips

LABELS = 1000
STRIP, FETCH = 512, 64  # rows
GOAL = 500  # MB
# three bytes a pixel: it comes again beyond the 32 KiB in which deflate finds repetitions
PATCH = (11_264, 1_024)

DEFLATE = {"compression": "deflate", "predictor": "horizontal"}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {  # suffix, pyvips' saver, its options
    "jpg": ("jpg", "jpegsave", {"Q": 92, "subsample_mode": "on"}),
    # its level 1 leaves it half as large again
    "png": ("png", "pngsave", {"compression": 2, "filter": "all"}),
    "tif-strips": ("tif", "tiffsave", DEFLATE),
    "tif-tiles": (
        "tif",
        "tiffsave",
        {**DEFLATE, "tile": True, "tile_width": 256, "tile_height": 256},
    ),
    "bigtiff": (
        "tif",
        "tiffsave",
        {**DEFLATE, "tile": True, "tile_width": 256, "tile_height": 256, "bigtiff": True},
    ),
}


def size(kind: str, side: int) -> tuple[int, int]:
    """Width and height."""
    return (2 * side, side * 3 // 2) if kind == "bigtiff" else (side, side)


def make(root: Path, kind: str, side: int) -> None:
    """A dataset of one image, and beside it the image's first rows without compression."""
    import numpy as np

    suffix, saver, options = KINDS[kind]
    image = striped(*size(kind, side))
    (root / "images/train").mkdir(parents=True)
    getattr(image, saver)(str(root / f"images/train/000.{suffix}"), **options)
    image.crop(0, 0, image.width, split.TILE).tiffsave(str(root / "strip.tif"), compression="none")
    split.write_labels(root, [split.boxes(np.random.default_rng(0), LABELS)])


def striped(width: int, height: int) -> pyvips.Image:
    """A mosaic of one patch under light that changes slowly; computed while it is written, so never
    whole in memory.
    """
    import numpy as np
    import pyvips

    rng = np.random.default_rng(0)
    patch = pyvips.Image.new_from_array(np.asarray(split.textured(rng, *PATCH)))
    coarse = rng.integers(-40, 40, (height // 1000 + 2, width // 1000 + 2, 3)).astype(np.float32)
    light = (
        pyvips.Image.new_from_array(coarse).resize(1000, kernel="cubic").crop(0, 0, width, height)
    )
    mosaic = patch.replicate(-(-width // PATCH[0]), -(-height // PATCH[1])).crop(
        0, 0, width, height
    )
    return (mosaic + light).cast("uchar").copy(interpretation="srgb")


def read(path: Path) -> None:
    """What the reader's library does for the windows of an image, without the windows."""
    if path.suffix == ".tif":
        read_tiff(path)
    else:
        read_other(path)


def read_tiff(path: Path) -> None:
    import os

    os.environ["GDAL_CACHEMAX"] = "64"
    import rasterio
    from rasterio.windows import Window

    with rasterio.open(path) as image:
        for y in range(0, image.height, STRIP):
            image.read(window=Window(0, y, image.width, min(STRIP, image.height - y)))


def read_other(path: Path) -> None:
    import numpy as np
    import pyvips

    image = pyvips.Image.new_from_file(str(path), access="sequential")
    region = pyvips.Region.new(image)
    strip = np.empty((STRIP, image.width, image.bands), np.uint8)
    for y in range(0, image.height, FETCH):
        rows = min(FETCH, image.height - y)
        fetched = np.frombuffer(region.fetch(0, y, image.width, rows), np.uint8)
        strip[y % STRIP :][:rows] = fetched.reshape(rows, image.width, image.bands)


def encode(path: Path, out: Path, height: int, suffix: str, subsampling: str) -> None:
    """Tiles of a strip of pixels, as many as an image of this height has."""
    strip = split.load(path)
    options = split.TILES[suffix] | ({"subsampling": subsampling} if suffix == "jpg" else {})
    out.mkdir(parents=True)

    def one(corner: tuple[int, int]) -> None:
        x, y = corner
        split.save(
            strip.crop((x, 0, x + split.TILE, split.TILE)), out / f"{x}_{y}.{suffix}", options
        )

    with ThreadPoolExecutor(measure.cores()) as pool:
        list(pool.map(one, split.corners(strip.width, height)))


def runs(root: Path, kind: str, height: int, out: Path, suffix: str) -> split.Runs:
    """The commands a, b and c."""
    subsampling = "4:2:0" if kind == "jpg" else "4:4:4"  # tiler follows the image's
    path = root / f"images/train/000.{KINDS[kind][0]}"
    return {
        "a: reader's pass": [sys.executable, __file__, "--read", str(path)],
        "b: encodes": [
            sys.executable,
            __file__,
            "--encode",
            str(root / "strip.tif"),
            str(out),
            str(height),
            suffix,
            subsampling,
        ],
        "c: tiler split": split.ours(root, out, "--format", suffix, "--quiet"),
    }


def rows(root: Path, kind: str, side: int, out: Path, suffix: str) -> None:
    """Measure one image and print it."""
    width, height = size(kind, side)
    tiles = len(split.corners(width, height))
    commands = runs(root, kind, height, out, suffix)
    path = next((root / "images/train").iterdir())
    bits = 8 * path.stat().st_size / (width * height)
    print(
        f"\n{kind}: {width} x {height}, {path.stat().st_size / 1e6:.0f} MB, {bits:.2f} bits a "
        f"pixel, {tiles} tiles",
        flush=True,
    )

    def check(name: str, result: measure.Measured) -> str | None:
        return None if name.startswith("a") else split.problem(out, tiles, result)

    results = measure.compare(
        commands, 1, lambda name: shutil.rmtree(out, ignore_errors=True), check=check
    )
    shutil.rmtree(out, ignore_errors=True)
    measure.print_table(results)
    print(verdict(*results.values()), flush=True)


def verdict(
    a: measure.Measured | measure.Failed,
    b: measure.Measured | measure.Failed,
    c: measure.Measured | measure.Failed,
) -> str:
    """How c stands to a and b, and its memory to the goal."""
    if isinstance(c, measure.Failed):
        return "c / (a + b): -"
    ratios = "-"
    if isinstance(a, measure.Measured) and isinstance(b, measure.Measured):
        ratios = f"wall {c.wall / (a.wall + b.wall):.2f}, CPU {c.cpu / (a.cpu + b.cpu):.2f}"
    pss, anon = ("yes" if mib * 1.048576 <= GOAL else "NO" for mib in (c.peak, c.anon))
    return f"c / (a + b): {ratios}; peak <= {GOAL} MB: PSS {pss}, anon {anon}"


def made(work: Path, kind: str, side: int) -> Path:
    """The dataset; one that is there already is taken as it is.

    Raises:
        measure.Failed: it cannot be made.
    """
    import pyvips

    root = work / f"{kind}-{side}"
    if not root.exists():
        with tempfile.TemporaryDirectory(dir=work) as unfinished:
            try:
                make(Path(unfinished) / "root", kind, side)
            except (pyvips.Error, OSError) as error:
                raise measure.Failed(str(error)) from None
            (Path(unfinished) / "root").rename(root)
    return root


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--kinds", type=split.listed(list(KINDS)), default=list(KINDS))
    parser.add_argument("--format", choices=list(split.TILES), default="jpg", help="of the tiles")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="leave the images there, and use those that are there",
    )
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--encode", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        read(args.read)
        return
    if args.encode:
        path, out, height, suffix, subsampling = args.encode
        encode(Path(path), Path(out), int(height), suffix, subsampling)
        return
    if find_spec("pyvips") is None:
        parser.error(
            "pyvips makes the images and reads them; it is not installed in this interpreter"
        )
    if args.side < split.TILE:
        parser.error(f"--side {args.side}: expected {split.TILE} or more")
    with measure.folder(args.keep) as work, tempfile.TemporaryDirectory(dir=work) as scratch:
        for kind in args.kinds:
            try:
                root = made(work, kind, args.side)
            except measure.Failed as failure:
                print(f"\n{kind}: not made: {failure.why}")
                continue
            rows(root, kind, args.side, Path(scratch) / "out", args.format)
            if args.keep is None:
                shutil.rmtree(root)
    print(
        f"\n{measure.MEMORY}\n{measure.machine('pillow', 'pyvips', 'pyvips-binary', 'imagecodecs')}"
    )


if __name__ == "__main__":
    main()
