"""Broken files of every kind that is read on the way back: only what the readers promise comes out,
in bounded time and memory.

    python -m tests.mutants [--files 20000] [--only KIND]

Each kind has a process of its own with a limit of memory, so that one that dies is told with the
file that it died of (left in a folder that is named). Exit 1 if there is any.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.predictions import read as read_predictions
from tests.predictions import test_detector_files, test_fuzz, writers
from tiler.datasets import index, tile_tables
from tiler.errors import TilerError
from tiler.formats import coco_ground_truth, manifest, provenance
from tiler.options.predictions import PredictionOptions
from tiler.predictions import class_map
from tiler.tiling import roi

SECONDS = 2.0  # of CPU for one file
MEMORY = 1_500_000_000  # bytes of address space that reading may add

ROWS = {"t": [(0, 10, 20, 40, 60, 0.5), (1, 5, 6, 30, 22, 0.25)]}
TABLE = "tile,image,x,y,w,h\na_0,a.png,0,0,40,40\na_1,a.png,40,0,40,40\nb_0,b.png,0,0,40,40\n"
TILES = {
    "images": [
        {"id": i, "file_name": f"a_{i}.png", "width": 40, "height": 40, "x": 40 * i, "y": 0,
         "source": "a.png"}
        for i in range(2)
    ],
    "annotations": [],
    "categories": [{"id": 1, "name": "car"}],
}  # fmt: skip
TRUTH = {
    "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 100}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 900,
         "iscrowd": 0, "segmentation": [[1, 2, 31, 2, 31, 42]],
         "keypoints": [1, 2, 2, 3, 4, 1]},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [5, 5, 9, 9], "iscrowd": 1,
         "segmentation": {"size": [100, 100], "counts": [100, 50, 9850]}},
    ],
    "categories": [{"id": 1, "name": "car", "keypoints": ["a", "b"]}],
}  # fmt: skip
SQUARE = [[[0, 0], [9, 0], [9, 9], [0, 0]]]
ROI = {
    "type": "FeatureCollection",
    "crs": {"type": "name", "properties": {"name": "EPSG:32633"}},
    "features": [
        {"type": "Feature", "properties": {"image": "a.png"},
         "geometry": {"type": "Polygon", "coordinates": SQUARE}},
        {"type": "Feature", "properties": None,
         "geometry": {"type": "MultiPolygon", "coordinates": [SQUARE]}},
    ],
}  # fmt: skip
MAPPING = "2: car\n7: 'bus'\n9: \"1\"\n"
MANIFEST = (
    {"tiler": "1", "schema": 1, "task": "detect", "names": ["car"], "options": {}},
    {"source": "images/a.png", "split": "val", "width": 80, "height": 40, "fingerprint": "0",
     "tiles": [{"name": "a_0", "x": 0, "y": 0, "w": 40, "h": 40, "scale": 1.0,
                "rows": [[0, 1.0]]}]},
)  # fmt: skip
MERGED = (
    {"tiler": "1", "schema": provenance.SCHEMA, "task": "detect", "names": ["car"], "options": {},
     "predictions": "p", "index": "t"},
    {"source": "images/a.png", "width": 80, "height": 40, "digest": "",
     "tiles": [["a_0", 0, 0, 40, 40, 1.0, 4]], "detections": [[[0, 0]], [[0, 1]]], "orphans": [1],
     "dropped": [[0, 2, "suppressed", 0]], "refused": [[0, 3, "D05"]]},
)  # fmt: skip
NAMES = "a_0_0_40_40.png\na_40_0_40_40_jpg.rf.0ab12\nb_0_0_40_40-2.png\nb_40_0_40_40.png\n"


def lines(rows: tuple[dict[str, object], ...]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


# --- readers


@dataclass(frozen=True)
class Kind:
    """A file that is read, and how.

    Attributes:
        name: of the file.
        seed: what is in it.
        read: takes its path.
    """

    name: str
    seed: bytes
    read: Callable[[Path], object]


def predictions(whole_folder: bool = False, **reading: object) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        target = path.parent if whole_folder else path
        return read_predictions(target, **reading)

    return read


def tables(path: Path) -> object:
    return tile_tables.read(path, images(path), PredictionOptions())


def images(path: Path) -> Path:
    """A folder of the images that tables and names are of."""
    folder = path.parent.parent / "images"
    if not folder.exists():
        folder.mkdir()
        for name in ("a", "b", "c"):
            Image.new("L", (80, 40)).save(folder / f"{name}.png")
    return folder


def names(path: Path) -> object:
    """Each line is the name of a tile."""
    found = path.read_bytes().decode("utf-8", "replace").splitlines()[:200]
    return index.of_names(found, images(path), PredictionOptions(naming="auto"))


def pattern(path: Path) -> object:
    """The file is a pattern of names."""
    text = path.read_bytes().decode("utf-8", "replace")
    options = PredictionOptions(naming=text)
    return index.of_names(NAMES.splitlines(), images(path), options)


def mapped(path: Path) -> object:
    pairs = class_map.resolved(str(path))
    return class_map.ClassMap.of("", pairs, ("car", "truck"), ("car", "bus"))


def pairs(path: Path) -> object:
    """The file is what --map-classes says."""
    text = path.read_bytes().decode("utf-8", "replace")
    PredictionOptions(map_classes=text)
    return class_map.ClassMap.of("", class_map.resolved(text), ("car", "truck"), ("car", "bus"))


def regions(path: Path) -> object:
    return roi.read(str(path))


def truth(path: Path) -> object:
    return [coco_ground_truth.read(path, task) for task in ("auto", "segment", "pose")]


def sources(path: Path) -> object:
    return manifest.read_head(path), [*manifest.read_sources(path)]


def merged(path: Path) -> object:
    return provenance.read_head(path), [*provenance.read_sources(path)]


def kinds() -> dict[str, Kind]:
    """All of them, by name."""
    found = {}
    for name, (seed, file, reading) in test_fuzz.SEEDS.items():
        is_folder = file.endswith(".txt")
        reader = predictions(is_folder, **reading)
        found[f"predictions {name}"] = Kind(file, seed.encode(), reader)
    known = {"names": writers.NAMES, "preds_base": "0"}
    for writer in test_fuzz.DETECTORS:
        with tempfile.TemporaryDirectory() as folder:
            written = writer(Path(folder), ROWS)
            (path,) = Path(folder).iterdir()
            reading = predictions(**known, whole_folder=written.is_dir())
            found[f"detector {writer.__name__}"] = Kind(path.name, path.read_bytes(), reading)
    for name, (file, text, task, _) in test_detector_files.SHAPED.items():
        given = {"kpt_shape": (2, 3)} if task == "pose" else {}
        reading = predictions(**known, task=task, **given)
        found[f"outlines {name}"] = Kind(file, text.encode(), reading)
    return found | {
        "tiles csv": Kind("tiles.csv", TABLE.encode(), tables),
        "tiles coco": Kind("tiles.json", json.dumps(TILES).encode(), tables),
        "names of tiles": Kind("names", NAMES.encode(), names),
        "pattern of names": Kind("pattern", b"{stem}_{x}_{y}_{w}_{h}{*}", pattern),
        "map-classes yaml": Kind("map.yaml", MAPPING.encode(), mapped),
        "map-classes pairs": Kind("pairs", b"2=car,9=bus,7=bus", pairs),
        "roi": Kind("roi.geojson", json.dumps(ROI).encode(), regions),
        "ground truth": Kind("gt.json", json.dumps(TRUTH).encode(), truth),
        "manifest": Kind(manifest.NAME, lines(MANIFEST), sources),
        "provenance": Kind(provenance.NAME, lines(MERGED), merged),
    }


# --- mutations

NUMBERS = (
    b"0 1 -1 -0 0.5 1e-300 1e300 1.7e308 -1.7e308 1e999 NaN nan Infinity -Infinity inf 2147483648 "
    b"4294967296 9223372036854775807 9223372036854775808 18446744073709551616 1e18 1e19 "
    b"0x10 1_000 007 null true"
).split()
HUGE = b"9" * 5000
VALUES = (
    b'null true false "" "x" [] {} [[]] [null] {"a":1} "NaN" "1e5" -1 0.0 "\\ud800" "\\u0000" '
    b'"a,b" "../../a"'
).split(b" ")
DEEP = 100_000
MOST = 2_000_000  # bytes
LONG = 300_000
PIECES = (b"a", b"1", b"_", b" ", b"9.", b"a:", b"-", b"{", b"\\", b"\xc3\xa9", b"0 ")


def bytes_changed(data: bytes, rng: random.Random) -> bytes:
    return test_fuzz.mutated(data, rng)


def bits_flipped(data: bytes, rng: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if result:
            result[rng.randrange(len(result))] ^= 1 << rng.randrange(8)
    return bytes(result)


def cut_off(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def other_numbers(data: bytes, rng: random.Random) -> bytes:
    return _replaced(rb"-?\d+(?:\.\d+)?", data, rng, lambda: rng.choice(NUMBERS))


def other_values(data: bytes, rng: random.Random) -> bytes:
    pattern = rb'-?\d+(?:\.\d+)?|"[^"]*"|\[[^\[\]]*\]|[A-Za-z]+'
    return _replaced(pattern, data, rng, lambda: rng.choice(VALUES))


def huge_number(data: bytes, rng: random.Random) -> bytes:
    return _replaced(rb"-?\d+(?:\.\d+)?", data, rng, lambda: HUGE, most=1)


def nested(data: bytes, rng: random.Random) -> bytes:
    depth = rng.choice([50, 900, 5000, DEEP])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b"<object>", b"</object>")])
    value = opening * depth + b"1" + closing * (depth if rng.random() < 0.7 else 0)
    return _replaced(rb'-?\d+(?:\.\d+)?|"[^"]*"|\[[^\[\]]*\]', data, rng, lambda: value, most=1)


def long_text(data: bytes, rng: random.Random) -> bytes:
    piece = rng.choice(
        [b"a", b"1", b"_", b" ", b"9.", b"a:", b"-", b"{", b"\\", b"\xc3\xa9", b"0 "]
    )
    value = piece * (LONG // len(piece))
    return _replaced(rb"-?\d+(?:\.\d+)?|[A-Za-z]+", data, rng, lambda: value, most=1)


def repeated(data: bytes, rng: random.Random) -> bytes:
    """The whole, or a part of it, several times."""
    start = rng.randrange(len(data) + 1)
    end = rng.randrange(start, len(data) + 1)
    part = data if rng.random() < 0.4 else data[start:end]
    times = min(rng.choice([2, 3, 50, 2000]), MOST // max(1, len(part)))
    return data[:start] + part * times + data[start:]


def encoded(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    if rng.random() < 0.5:
        text = text.replace("a", "\xe4", 2)
    kind = rng.choice(
        ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "latin-1", "utf-32", "cp037"]
    )
    return text.encode(kind, "replace")


def _replaced(
    pattern: bytes, data: bytes, rng: random.Random, value: Callable[[], bytes], most: int = 4
) -> bytes:
    """Some matches of a pattern replaced."""
    places = [*re.finditer(pattern, data)]
    chosen = rng.sample(places, min(len(places), rng.randint(1, most)))
    for match in sorted(chosen, key=lambda match: -match.start()):
        data = data[: match.start()] + value() + data[match.end() :]
    return data


WAYS = (
    (bytes_changed, 30), (bits_flipped, 8), (cut_off, 6), (other_numbers, 20), (other_values, 16),
    (huge_number, 3), (nested, 5), (long_text, 3), (repeated, 5), (encoded, 4),
)  # fmt: skip


def mutant(seed: bytes, rng: random.Random) -> bytes:
    """A seed after one or several mutations."""
    ways, weights = zip(*WAYS, strict=True)
    data = seed
    for way in rng.choices(ways, weights, k=rng.choice([1, 1, 2, 3])):
        data = way(data, rng)[:MOST]
    return data


# --- runs


def attempt(kind: Kind, data: bytes, folder: Path) -> tuple[str, str]:
    """What came of reading: read, error, or broken, and why."""
    path = folder / "given" / kind.name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    start = time.process_time()
    try:
        kind.read(path)
        outcome, why = "read", ""
    except TilerError as error:
        text = str(error)
        outcome, why = "error", ""
        if not text.isprintable() or len(text) > 5000:
            outcome, why = "broken", f"a message of {len(text)} characters: {text[:200]!r}"
    except Exception:
        outcome, why = "broken", traceback.format_exc()[-2500:]
    spent = time.process_time() - start
    if spent > SECONDS:
        outcome, why = "broken", f"{spent:.1f} s of CPU"
    return outcome, why


def run(name: str, count: int, folder: Path) -> int:
    """Read mutants of one kind; returns how many broke something. In a process of its own."""
    kind = kinds()[name]
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome, why = attempt(kind, kind.seed, folder)
    if outcome == "broken":
        print(f"{name}: the seed itself: {why}")
        return 1
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + MEMORY, resource.RLIM_INFINITY))
    rng = random.Random(name)
    counts = dict.fromkeys(("read", "error", "broken"), 0)
    reasons: dict[str, str] = {}
    slowest = 0.0
    for number in range(count):
        data = mutant(kind.seed, rng)
        start = time.process_time()
        outcome, why = attempt(kind, data, folder)
        slowest = max(slowest, time.process_time() - start)
        counts[outcome] += 1
        if why and reasons.setdefault(why[-300:], why) == why:
            kept = folder / f"broken-{number}-{kind.name}"
            kept.write_bytes(data)
            print(f"{name}, mutant {number} ({kept}):\n{why}", flush=True)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) // 1024
    shown = ", ".join(f"{value} {key}" for key, value in counts.items())
    print(f"{name:34} {shown}; slowest {slowest:.2f} s, {grown} MiB more", flush=True)
    return counts["broken"]


def address_space() -> int:
    """Bytes that this process has mapped."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--only", default="")
    parser.add_argument("--child", nargs=3, metavar=("KIND", "FILES", "FOLDER"))
    given = parser.parse_args()
    if given.child:
        name, count, folder = given.child
        return min(1, run(name, int(count), Path(folder)))
    chosen = [name for name in kinds() if given.only in name]
    each = -(-given.files // len(chosen))
    bad = []
    for name in chosen:
        folder = tempfile.mkdtemp(prefix="tiler-mutants-")
        command = [sys.executable, "-m", "tests.mutants", "--child", name, str(each), folder]
        code = subprocess.run(command, check=False).returncode
        if code < 0:
            print(f"{name}: killed by signal {-code} by a file in {folder}/given")
        if code:
            bad.append(name)
        else:
            with contextlib.suppress(OSError):
                subprocess.run(["rm", "-r", folder], check=False)
    print(f"{each * len(chosen)} files of {len(chosen)} kinds; broken: {', '.join(bad) or 'none'}")
    return min(1, len(bad))


if __name__ == "__main__":
    sys.exit(main())
