"""Draw the labels of a YOLO dataset on its images, to look at what a split made.

python examples/draw.py tiles/images/train OUT      every tile with its labels
python examples/draw.py --sheet tiles OUT.jpg       one source with its grid, and some of its tiles
"""

from __future__ import annotations

import argparse
import colorsys
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw


def colour(class_id: int) -> tuple[int, int, int]:
    r, g, b = colorsys.hsv_to_rgb(class_id * 0.618 % 1, 0.9, 1)
    return int(r * 255), int(g * 255), int(b * 255)


def labelled(path: Path, thick: int = 1, pose: bool = False) -> Image.Image:
    """The image with the boxes or outlines of its label file (of pose sets the boxes)."""
    image = Image.open(path).convert("RGB")
    label = Path("/labels/".join(str(path.absolute()).rsplit("/images/", 1))).with_suffix(".txt")
    draw = ImageDraw.Draw(image)
    for line in label.read_text().splitlines() if label.exists() else []:
        class_id, *values = map(float, line.split())
        if len(values) > 4 and len(values) % 2 == 0 and not pose:
            points = [
                (x * image.width, y * image.height)
                for x, y in zip(values[::2], values[1::2], strict=True)
            ]
            draw.polygon(points, outline=colour(int(class_id)), width=thick)
            continue
        x, y, w, h = values[:4]
        left, top = (x - w / 2) * image.width, (y - h / 2) * image.height
        right, bottom = left + w * image.width, top + h * image.height
        draw.rectangle(
            [left - thick, top - thick, right, bottom], outline=colour(int(class_id)), width=thick
        )
    return image


def entry_of(tiles: Path, source: Path) -> dict[str, Any]:
    """What the manifest says of a source image."""
    entries = [json.loads(line) for line in (tiles / "tiles.jsonl").read_text().splitlines()[1:]]
    for entry in entries:
        if source.as_posix().endswith(entry["source"]):
            return entry
    known = ", ".join(entry["source"] for entry in entries[:3])
    raise SystemExit(
        f"{tiles} was not cut from {source}: say --source, the path of an image that was "
        f"({known}, ...)"
    )


def sheet(tiles: Path, source: Path) -> Image.Image:
    """A source image with the windows of its grid, and beside it the six tiles with most labels."""
    entry = entry_of(tiles, source)
    image = labelled(source, 3)
    draw = ImageDraw.Draw(image)
    for tile in entry["tiles"]:
        corners = [tile["x"], tile["y"], tile["x"] + tile["w"] - 1, tile["y"] + tile["h"] - 1]
        draw.rectangle(corners, outline=(255, 255, 255), width=3)
    side = 300
    image = image.resize(
        (round(image.width * 2 * side / image.height), 2 * side), Image.Resampling.LANCZOS
    )
    result = Image.new("RGB", (image.width + 3 * (side + 8), 2 * side + 8), "white")
    result.paste(image, (0, 4))
    full = sorted(entry["tiles"], key=lambda tile: -len(tile["rows"]))[:6]
    for i, tile in enumerate(full):
        (path,) = (tiles / "images" / entry["split"]).glob(f"{tile['name']}.*")
        small = labelled(path, 2).resize((side, side), Image.Resampling.LANCZOS)
        result.paste(small, (image.width + 8 + i % 3 * (side + 8), i // 3 * (side + 8)))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sheet", action="store_true")
    parser.add_argument(
        "--source", type=Path, default=Path("examples/scenes/images/val/val_00002.jpg")
    )
    parser.add_argument("what", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    if args.sheet:
        sheet(args.what, args.source).save(args.out, quality=80)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(args.what.iterdir()):
        labelled(path).save(args.out / f"{path.stem}.png")


if __name__ == "__main__":
    main()
