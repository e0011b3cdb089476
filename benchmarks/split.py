"""How near `tiler split` is to the codecs, and what others take: the same images and tiles, whole
processes.

    python benchmarks/split.py [--images 10] [--repeats 5] [--formats jpg,png,tif] [--peers PYTHON
    ...] [--keep DIR]

A floor decodes each image once, encodes every tile and writes it to a file, with threads on all
cores, and does nothing else: no labels, no checks. One is made of Pillow; another of imagecodecs,
where this interpreter has it (`tiler split` then uses it too, and is called fast).

`--peers` names Python interpreters in which SAHI, Ultralytics or yolo-tiling are installed; without
it those of this interpreter are taken, if there are any. They get the JPEGs. SAHI writes PNG unless
told otherwise, which takes it long: this is run once, when the formats include png.

The commands of a table run in turn, each into a folder that is not there; all must write the same
number of tiles.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
import measure

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Boxes = np.ndarray[Any, np.dtype[np.float64]]

WIDTH, HEIGHT, LABELS = 4000, 3000, 200
TILE, OVERLAP = 640, 128

PLUGINS = {"jpg": ("JPEG", "Jpeg"), "png": ("PNG", "Png"), "tif": ("TIFF", "Tiff")}
SOURCE: dict[str, dict[str, Any]] = {
    "jpg": {"quality": 92},
    "png": {"compress_level": 1},
    "tif": {"compression": "tiff_adobe_deflate"},
}
TILES: dict[str, dict[str, Any]] = {**SOURCE, "jpg": {"quality": 95, "subsampling": "4:2:0"}}

PILLOW, IMAGECODECS = "Pillow floor", "imagecodecs floor"
FAST = find_spec("imagecodecs") is not None
OURS = "tiler split (fast)" if FAST else "tiler split"
AGAIN = f"{OURS} again"


def make(roots: dict[str, Path], count: int) -> None:
    """The same images in each format, in datasets with the same labels; that of JPEGs in the peers'
    layouts too.
    """
    import numpy as np

    labels = [boxes(np.random.default_rng((1, i)), LABELS) for i in range(count)]
    for root in roots.values():
        (root / "images/train").mkdir(parents=True)
        write_labels(root, labels)

    def one(i: int) -> None:
        image = textured(np.random.default_rng((0, i)), WIDTH, HEIGHT)
        for suffix, root in roots.items():
            image.save(root / f"images/train/{i:03}.{suffix}", **SOURCE[suffix])

    with ThreadPoolExecutor(min(4, measure.cores())) as pool:  # each holds 0.2 GB
        list(pool.map(one, range(count)))
    if "jpg" in roots:
        add_coco(roots["jpg"], labels)
        add_dota(roots["jpg"], labels)
        add_yolo_tiler(roots["jpg"], count)


def textured(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Coloured blots under grain: as JPEG of quality 92 about 2.4 bits a pixel, which a drone's
    images have.
    """
    from statistics import NormalDist

    import numpy as np
    from PIL import Image, ImageFilter

    coarse = rng.integers(0, 255, (-(-height // 40), -(-width // 40), 3)).astype(np.uint8)
    base = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    normal = bytes(round(NormalDist(128, 32).inv_cdf((k + 0.5) / 256)) for k in range(256))
    grain = Image.frombytes("L", (width, height), rng.bytes(width * height).translate(normal))
    return Image.blend(base, grain.filter(ImageFilter.BoxBlur(0.4)).convert("RGB"), 0.5)


def boxes(rng: np.random.Generator, count: int) -> Boxes:
    """`(count, 4)`, cxcywhn."""
    import numpy as np

    found = np.concatenate(
        [rng.uniform(0, 0.97, (count, 2)), rng.uniform(0.003, 0.02, (count, 2))], axis=1
    )
    found[:, :2] += found[:, 2:] / 2
    return found


def write_labels(root: Path, labels: Sequence[Boxes]) -> None:
    """YOLO's label files and the dataset.yaml."""
    (root / "labels/train").mkdir(parents=True)
    for i, rows in enumerate(labels):
        (root / f"labels/train/{i:03}.txt").write_text(
            "".join(f"0 {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for x, y, w, h in rows)
        )
    (root / "dataset.yaml").write_text("train: images/train\nnames: [car]\n")


def add_coco(root: Path, labels: Sequence[Boxes]) -> None:
    """What SAHI reads."""
    coco: dict[str, list[object]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 0, "name": "car"}],
    }
    for i, rows in enumerate(labels):
        coco["images"].append(
            {"id": i, "file_name": f"{i:03}.jpg", "width": WIDTH, "height": HEIGHT}
        )
        for x, y, w, h in rows:
            xywh = [(x - w / 2) * WIDTH, (y - h / 2) * HEIGHT, w * WIDTH, h * HEIGHT]
            row = {
                "id": len(coco["annotations"]),
                "image_id": i,
                "category_id": 0,
                "bbox": xywh,
                "area": xywh[2] * xywh[3],
            }
            coco["annotations"].append(row | {"iscrowd": 0, "segmentation": []})
    (root / "coco.json").write_text(json.dumps(coco))


def add_dota(root: Path, labels: Sequence[Boxes]) -> None:
    """What Ultralytics reads: four corners a row."""
    import numpy as np

    for part in ("images/train", "labels/train", "images/val", "labels/val"):
        (root / "dota" / part).mkdir(parents=True)
    for i, rows in enumerate(labels):
        low, high = rows[:, :2] - rows[:, 2:] / 2, rows[:, :2] + rows[:, 2:] / 2
        quads = np.concatenate(
            [low, high[:, :1], low[:, 1:], high, low[:, :1], high[:, 1:]], axis=1
        )
        text = "".join("0 " + " ".join(f"{v:.6f}" for v in quad) + "\n" for quad in quads)
        (root / f"dota/labels/train/{i:03}.txt").write_text(text)
        (root / f"dota/images/train/{i:03}.jpg").hardlink_to(root / f"images/train/{i:03}.jpg")


def add_yolo_tiler(root: Path, count: int) -> None:
    """What yolo_tiler reads: the split's folder above."""
    for split, kind in product(("train", "valid", "test"), ("images", "labels")):
        (root / "yolo" / split / kind).mkdir(parents=True)
    for i, (kind, suffix) in product(range(count), (("images", "jpg"), ("labels", "txt"))):
        (root / f"yolo/train/{kind}/{i:03}.{suffix}").hardlink_to(
            root / f"{kind}/train/{i:03}.{suffix}"
        )


def starts(length: int) -> list[int]:
    """Where the tiles of a row begin; the last is shifted inward."""
    stride = TILE - OVERLAP
    return [min(stride * k, length - TILE) for k in range(-(-(length - OVERLAP) // stride))]


def corners(width: int, height: int) -> list[tuple[int, int]]:
    """The tiles' upper left ones, row by row."""
    return [(x, y) for y in starts(height) for x in starts(width)]


def floor(library: str, source: Path, out: Path, suffix: str) -> None:
    """Decode, crop, encode, write: what cannot be left out."""
    out.mkdir(parents=True)
    one = {PILLOW: pillow_floor, IMAGECODECS: imagecodecs_floor}[library](out, suffix)
    with ThreadPoolExecutor(measure.cores()) as pool:
        list(pool.map(one, sorted(source.iterdir())))


def pillow_floor(out: Path, suffix: str) -> Callable[[Path], None]:
    def one(path: Path) -> None:
        image = load(path)
        for x, y in corners(*image.size):
            save(
                image.crop((x, y, x + TILE, y + TILE)),
                out / f"{path.stem}_{x}_{y}.{suffix}",
                TILES[suffix],
            )

    return one


def load(path: Path) -> Image.Image:
    """The image, decoded with Pillow, of whose plugins only one is imported."""
    from PIL import Image

    name, plugin = PLUGINS[path.suffix[1:]]
    import_module(f"PIL.{plugin}ImagePlugin")
    image = Image.open(path, formats=[name])
    image.load()
    return image


def save(tile: Image.Image, path: Path, options: dict[str, Any]) -> None:
    """Encode into an open file: Pillow then works without the interpreter's lock."""
    name, plugin = PLUGINS[path.suffix[1:]]
    import_module(f"PIL.{plugin}ImagePlugin")
    with open(path, "w+b") as file:
        tile.save(file, name, **options)


def imagecodecs_floor(out: Path, suffix: str) -> Callable[[Path], None]:
    import imagecodecs

    decoders = {".jpg": imagecodecs.jpeg8_decode, ".png": imagecodecs.png_decode}
    encode, options = {
        "jpg": (imagecodecs.jpeg8_encode, {"level": 95, "subsampling": "420"}),
        "png": (imagecodecs.png_encode, {"level": 1}),
    }[suffix]

    def one(path: Path) -> None:
        with open(path, "rb") as file:
            image = decoders[path.suffix](file.read())
        for x, y in corners(image.shape[1], image.shape[0]):
            with open(out / f"{path.stem}_{x}_{y}.{suffix}", "wb") as file:
                file.write(encode(image[y : y + TILE, x : x + TILE], **options))

    return one


SAHI = """
import sys
from sahi.slicing import slice_coco
slice_coco(sys.argv[1] + "/coco.json", sys.argv[1] + "/images/train", "out", output_dir=sys.argv[2],
           slice_height=640, slice_width=640, overlap_height_ratio=0.2, overlap_width_ratio=0.2,
           out_ext=sys.argv[3] or None)
"""
ULTRALYTICS = """
import sys
from ultralytics.data.split_dota import split_images_and_labels
split_images_and_labels(sys.argv[1] + "/dota", sys.argv[2], "train", crop_sizes=(640,), gaps=(128,))
"""
YOLO_TILER = """
import sys
from yolo_tiler import TileConfig, YoloTiler
config = TileConfig(slice_wh=(640, 640), overlap_wh=(0.2, 0.2),
                    annotation_type="object_detection", output_ext=".jpg",
                    compression=95, train_ratio=1.0, valid_ratio=0.0, test_ratio=0.0)
YoloTiler(sys.argv[1] + "/yolo", sys.argv[2], config, show_processing_status=False).run()
"""
PEERS = (  # name, module, script, what it is given after the folders
    ("SAHI slice_coco, jpg (q75)", "sahi.slicing", SAHI, [".jpg"]),
    ("Ultralytics split_dota (q95)", "ultralytics.data.split_dota", ULTRALYTICS, []),
    ("yolo_tiler (q95)", "yolo_tiler", YOLO_TILER, []),
)
PNG_PEERS = (("SAHI slice_coco, png (level 6)", "sahi.slicing", SAHI, [""]),)
# Ultralytics would look for a network when it is imported, and wait for it
OFFLINE = {"YOLO_OFFLINE": "true"}

Runs = dict[str, list[str]]


def peers(
    wanted: Sequence[tuple[str, str, str, list[str]]], pythons: Sequence[str], root: Path, out: Path
) -> Runs:
    """The commands of those that are installed."""
    found = {
        name: (measure.python_with(module, pythons), script, more)
        for name, module, script, more in wanted
    }
    return {
        name: [python, "-c", script, str(root), str(out), *more]
        for name, (python, script, more) in found.items()
        if python
    }


def floors(root: Path, out: Path, suffix: str) -> Runs:
    """The commands of the floors that can write tiles of this format."""
    names = [PILLOW, IMAGECODECS] if FAST and suffix != "tif" else [PILLOW]
    return {
        name: [
            sys.executable,
            __file__,
            "--floor",
            name,
            str(root / "images/train"),
            str(out),
            suffix,
        ]
        for name in names
    }


def ours(root: Path, out: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "tiler",
        "split",
        str(root),
        "--overlap",
        str(OVERLAP),
        "--out",
        str(out),
        *more,
    ]


def to_same(root: Path, out: Path, suffix: str, pythons: Sequence[str]) -> tuple[Runs, list[str]]:
    """The commands of a table of tiles in the images' format, and what their walls are divided
    by.
    """
    runs = floors(root, out, suffix)
    bases = [*runs, OURS]
    runs |= {OURS: ours(root, out), AGAIN: ours(root, out)}
    return runs | (peers(PEERS, pythons, root, out) if suffix == "jpg" else {}), bases


def to_png(root: Path, out: Path, pythons: Sequence[str]) -> tuple[Runs, list[str]]:
    """The same of JPEGs cut into PNG tiles, which is what SAHI makes of them; and ours left to
    itself, too.
    """
    runs = floors(root, out, "png")
    png = f"{OURS} to png"
    bases = [*runs, png, OURS]
    runs |= {png: ours(root, out, "--format", "png"), OURS: ours(root, out)}
    return runs | peers(PNG_PEERS, pythons, root, out), bases


def problem(out: Path, tiles: int, result: measure.Measured) -> str | None:
    """What is wrong with the output of a run, if it has not the right number of tiles."""
    found = sum(path.suffix in (".jpg", ".png", ".tif") for path in out.rglob("*"))
    return (
        None
        if found == tiles
        else f"wrote {found} of {tiles} tiles; {measure.last_line(result.output)}"
    )


def table(
    title: str, runs: Runs, bases: Sequence[str], repeats: int, out: Path, tiles: int
) -> None:
    """Run and print."""

    before = out.with_name("before")
    before.mkdir()

    def clean(name: str) -> None:
        """Put away, not deleted: for minutes ext4 searches around inodes that were deleted, at 0.1
        ms for each new file.
        """
        if name != AGAIN and out.exists():
            out.rename(before / str(len(list(before.iterdir()))))

    def check(name: str, result: measure.Measured) -> str | None:
        return problem(out, tiles, result)

    print(
        f"\n{title}, medians of {repeats}:" if repeats > 1 else f"\n{title}, one run:", flush=True
    )
    measure.print_table(measure.compare(runs, repeats, clean, OFFLINE, check), *bases)
    shutil.rmtree(before)
    sys.stdout.flush()


def inputs(work: Path, count: int, formats: Sequence[str]) -> dict[str, Path]:
    """The datasets, by format; those that are there already are taken as they are."""
    roots = {suffix: work / f"{suffix}-{count}" for suffix in formats}
    missing = [suffix for suffix, root in roots.items() if not root.exists()]
    if missing:
        print(
            f"making {count} images of {WIDTH} x {HEIGHT} with {LABELS} labels each: "
            f"{', '.join(missing)}",
            flush=True,
        )
        with tempfile.TemporaryDirectory(dir=work) as unfinished:
            made = {suffix: Path(unfinished) / suffix for suffix in missing}
            make(made, count)
            for suffix, path in made.items():
                path.rename(roots[suffix])
    for suffix, root in roots.items():
        size = sum(path.stat().st_size for path in (root / "images/train").iterdir())
        print(
            f"{suffix}: {size / 1e6:.0f} MB, {8 * size / (count * WIDTH * HEIGHT):.2f} bits a pixel"
        )
    return roots


def listed(known: Sequence[str]) -> Callable[[str], list[str]]:
    """For argparse: words with commas between them."""

    def parse(text: str) -> list[str]:
        words = [word for word in text.split(",") if word]
        if unknown := set(words) - set(known):
            raise argparse.ArgumentTypeError(
                f"{', '.join(sorted(unknown))}; expected some of {','.join(known)}"
            )
        return words

    return parse


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--formats",
        type=listed(list(SOURCE)),
        default=["jpg"],
        help="of the images, a table each: jpg,png,tif",
    )
    parser.add_argument("--peers", nargs="*", default=[sys.executable], metavar="PYTHON")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="leave the images there, and use those that are there",
    )
    parser.add_argument("--floor", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.floor:
        library, source, out, suffix = args.floor
        floor(library, Path(source), Path(out), suffix)
        return
    tiles = args.images * len(corners(WIDTH, HEIGHT))
    with measure.folder(args.keep) as work, tempfile.TemporaryDirectory(dir=work) as scratch:
        out = Path(scratch) / "out"
        roots = inputs(
            work, args.images, [*args.formats, *(["jpg"] if "png" in args.formats else [])]
        )
        for suffix in args.formats:
            table(
                f"{suffix} to {suffix}",
                *to_same(roots[suffix], out, suffix, args.peers),
                args.repeats,
                out,
                tiles,
            )
        if "png" in args.formats:
            table("jpg to png", *to_png(roots["jpg"], out, args.peers), 1, out, tiles)
    print(f"\n{measure.MEMORY}\n{measure.machine('pillow', 'imagecodecs')}")


if __name__ == "__main__":
    main()
