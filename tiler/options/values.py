"""What the value of an option may be: each check takes text or a value, and returns the value.

A check raises ValueError with what is expected.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

from tiler.errors import TilerError, did_you_mean

BINS = ("coco", "aitod", "tinyperson", "soda")
# of coordinates; and letterbox:SIDE
FRAMES = ("auto", "normalised", "percent", "pixels", "image", "image-normalised")
LARGEST_LETTERBOX = 65_536  # px
CLUSTERS = ("dask", "ray")
EXACT = 1e15  # below it every whole number is exact as a float
YES = ("true", "yes", "on", "1")
NO = ("false", "no", "off", "0")

Check: TypeAlias = Callable[[Any], Any]


def described(check: Check, expected: str) -> Check:
    """A check whose errors all say what is expected; True and False do not count as numbers."""

    def checked(value: Any) -> Any:
        try:
            if isinstance(value, bool):
                raise ValueError
            return check(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(expected) from None

    return checked


def optional(check: Check) -> Check:
    """None (not set), or what another check takes."""

    def checked(value: Any) -> Any:
        if value is None:
            return None
        return check(value)

    return checked


def choice(*allowed: str, reasons: Mapping[str, str] | None = None) -> Callable[[Any], str]:
    """One of a few words, in any case.

    Args:
        reasons: for words that are not allowed, why not.

    >>> choice("iou", "ios")("IoS")
    'ios'
    """

    def check(value: Any) -> str:
        word = value.lower() if isinstance(value, str) else str(value)
        if isinstance(value, str) and word in allowed:
            return word
        hint = (reasons or {}).get(word) or did_you_mean(word, allowed).removeprefix("; ")
        expected = f"one of {', '.join(allowed)}"
        raise ValueError(f"{expected} ({hint})" if hint else expected)

    return check


def choices(
    *allowed: str, least: int = 0, reasons: Mapping[str, str] | None = None
) -> Callable[[Any], str]:
    """Some of a few words, "csv,dota" or a list; each once, in the order of `allowed`."""
    one = choice(*allowed, reasons=reasons)

    def check(value: Any) -> str:
        given = _items(value) if isinstance(value, str) else list(value or ())
        names = [one(name) for name in given if name]
        if len(names) < least:
            raise ValueError(f"one or more of {', '.join(allowed)}")
        return ",".join(name for name in allowed if name in names)

    return check


def backend(*allowed: str) -> Callable[[Any], str]:
    """One of those allowed; joblib's clusters are rejected with the reason."""
    one = choice(*allowed)

    def check(value: Any) -> str:
        if value not in CLUSTERS:
            return one(value)
        why = "its joblib backend cannot return results one by one, as they are done"
        raise ValueError(f"one of {', '.join(allowed)}; {value} does not run yet: {why}")

    return check


def epsg_code(value: Any) -> str:
    """The code of a reference system, EPSG:4326 or 4326; "": none.

    >>> epsg_code(4326), epsg_code("epsg:32633")
    ('EPSG:4326', 'EPSG:32633')
    """
    text = str(value).strip().upper().removeprefix("EPSG:")
    if text in ("", "OGC:CRS84"):
        return text
    if not (text.isascii() and text.isdecimal() and len(text) <= 6) or isinstance(value, bool):
        raise ValueError
    return f"EPSG:{text}"


def category_base(*allowed: str) -> Callable[[Any], str]:
    """What category ids count from; a script may give the number."""
    one = choice(*allowed)
    return lambda value: one(str(value))


def box_frame(value: Any) -> str:
    """What coordinates count in: a word, or a letterbox with its side in px.

    >>> box_frame("Normalized"), box_frame("letterbox:640")
    ('normalised', 'letterbox:640')
    """
    word, _, side = str(value).strip().lower().replace("z", "s").partition(":")
    if word == "letterbox" and 1 <= int(side) <= LARGEST_LETTERBOX:
        return f"letterbox:{int(side)}"
    if side or word not in FRAMES:
        raise ValueError
    return word


def number(low: float, high: float = math.inf) -> Callable[[Any], float]:
    """A finite number from `low` to `high`."""

    def check(value: Any) -> float:
        result = float(value)
        if not (math.isfinite(result) and low <= result <= high):
            raise ValueError
        return result

    return described(check, f"a number {_range(low, high)}")


def overlap(value: Any) -> float | tuple[float, float]:
    """A fraction of the tile below 1, or whole pixels: one for both axes, or one for x and one
    for y.

    >>> overlap("0.2"), overlap(128), overlap("0.2x64"), overlap((0.1, 0.1))
    (0.2, 128.0, (0.2, 64.0), 0.1)
    """
    given = _items(value.lower() if isinstance(value, str) else value, "x")
    shares = [_share(item) for item in given]
    if len(shares) == 1 and not isinstance(value, list | tuple):
        return shares[0]
    across, down = shares
    if across == down:
        return across
    return (across, down)


def _share(value: Any) -> float:
    """A fraction below 1, or whole pixels."""
    result = number(0)(value)
    if result > 1 and result != int(result):
        raise ValueError
    return result


OVERLAP = described(
    overlap,
    "a fraction of the tile below 1, or whole pixels; for x and y, two of them, such as 0.2x64",
)


def whole(low: int, high: float = math.inf) -> Callable[[Any], int]:
    """A whole number from `low` to `high`."""

    def check(value: Any) -> int:
        result = int(value)
        rounded = not isinstance(value, str) and result != value
        if rounded or not low <= result <= high:
            raise ValueError
        return result

    return described(check, f"a whole number {_range(low, high)}")


SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
SIZES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def byte_size(value: Any) -> int:
    """A number of bytes, or one with a unit: "1GB" (10^9), "512 MiB" (2^20 each).

    Raises:
        ValueError: with what is expected.

    >>> byte_size("1.5GB"), byte_size("1 KiB"), byte_size(4096)
    (1500000000, 1024, 4096)
    """
    expected = "bytes, such as 500MB, 1GB or 2GiB"
    number, unit = value, ""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", value)
        if found is None:
            raise ValueError(expected)
        number, unit = found[1], found[2].lower()
    try:
        size = int(float(number) * SIZES[unit])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(expected) from None
    if size < 0:
        raise ValueError(expected)
    return size


def share(value: Any) -> float:
    """A part of the whole: from 0 to below 1.

    >>> share("0.2")
    0.2
    """
    result = number(0, 1)(value)
    if result == 1:
        raise ValueError
    return result


SHARE = described(share, "a fraction of at least 0, and below 1")


def _range(low: float, high: float) -> str:
    if high == math.inf:
        return f"of at least {low:g}"
    return f"from {low:g} to {high:g}"


def auto_or(low: int) -> Callable[[Any], str | int]:
    """auto, or a whole number of at least `low`."""
    check = whole(low)

    def checked(value: Any) -> str | int:
        return "auto" if value == "auto" else check(value)

    return described(checked, f"auto or a whole number of at least {low}")


def flag(value: Any) -> bool:
    """On or off, also as a word."""
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in YES:
        return True
    if word in NO:
        return False
    raise ValueError("true or false")


def tile_size(value: Any) -> int | tuple[int, int]:
    """640, "640", "1024x768" or (1024, 768).

    >>> tile_size("1024x768"), tile_size("640x640")
    ((1024, 768), 640)
    """
    return _by_axis(value, whole(10, 65500))


def _by_axis(value: Any, check: Callable[[Any], int]) -> int | tuple[int, int]:
    """One whole number for both axes, or one for x and one for y."""
    if isinstance(value, str):
        value = value.lower()
    sides = [check(side) for side in _items(value, "x")]
    if len(sides) not in (1, 2):
        raise ValueError
    if len(set(sides)) == 1:
        return sides[0]
    return (sides[0], sides[1])


def stride(value: Any) -> int | tuple[int, int]:
    """512, "512" or "512x384": pixels from one tile to the next.

    >>> stride("512x384")
    (512, 384)
    """
    return _by_axis(value, whole(1, 65500))


STRIDE = described(stride, "1 px or more, or two of them for x and y, such as 512x384")
TILE_SIZE = described(tile_size, "a side of 10 px or more, or WIDTHxHEIGHT")


def tile_sides(value: Any) -> str | tuple[int, ...]:
    """auto, or sides of square tiles: "1280,640" or (1280, 640); each once, smallest first.

    >>> tile_sides("1280,640"), tile_sides("auto")
    ((640, 1280), 'auto')
    """
    if value == "auto":
        return "auto"
    check = whole(10, 65500)
    return tuple(sorted({check(side) for side in _items(value)}))


def overlaps(value: Any) -> str | tuple[float, ...]:
    """auto, or some overlaps: "0.2,64" or (0.2, 64); each once.

    >>> overlaps("64,0.2,0.2")
    (0.2, 64.0)
    """
    if value == "auto":
        return "auto"
    given = {OVERLAP(item) for item in _items(value)}
    if not all(isinstance(item, float) for item in given):
        raise ValueError
    return tuple(sorted(given))


def grid_counts(value: Any) -> tuple[int, int]:
    """ "3x4" or (3, 4): columns and rows.

    >>> grid_counts("3x4")
    (3, 4)
    """
    check = whole(1, 10_000)
    columns, rows = _items(value.lower() if isinstance(value, str) else value, "x")
    return check(columns), check(rows)


def scales(value: Any) -> tuple[float, ...]:
    """1, "1,0.5" or (1, 0.5): each once, largest first."""
    result = sorted({round(float(item), 2) for item in _items(value)}, reverse=True)
    if not result or not all(0.01 <= item <= 16 for item in result):
        raise ValueError
    return tuple(result)


def background(value: Any) -> str | float:
    """all, none, or a ratio: for all splits, or by split.

    >>> background("0.50"), background("val=all,train=0.50"), background({"train": 0.5})
    (0.5, 'train=0.5,val=all', 'train=0.5')
    """
    general, by_split = background_shares(value)
    if not by_split:
        return general
    parts = [] if general == "all" else [f"{general}"]
    parts += [f"{split}={by_split[split]}" for split in sorted(by_split)]
    return ",".join(parts)


def background_shares(value: Any) -> tuple[str | float, dict[str, str | float]]:
    """What `background` reads: the share of the splits that are not named, and those of splits.

    >>> background_shares("train=0.5"), background_shares("none,val=all")
    (('all', {'train': 0.5}), ('none', {'val': 'all'}))
    """
    given = _given(value)
    by_split = {split: _one_background(share) for split, share in given.items()}
    return by_split.pop("", "all"), by_split


def background_share(background: str | float, split: str) -> str | float:
    """The share of one split: all, none or a ratio.

    >>> background_share("train=0.5", "train"), background_share("train=0.5", "val")
    (0.5, 'all')
    """
    general, by_split = background_shares(background)
    return by_split.get(split, general)


def _one_background(value: Any) -> str | float:
    if value in ("all", "none"):
        return cast(str, value)
    return number(0)(value)


def nodata(value: Any) -> str:
    """auto, none, or the number that stands for no data, as text since NaN equals nothing.

    >>> nodata("auto"), nodata(-9999), nodata("0.0"), nodata("-1e3"), nodata("NaN")
    ('auto', '-9999', '0', '-1000', 'nan')
    """
    if value in ("auto", "none"):
        return cast(str, value)
    try:
        return str(int(str(value)))
    except ValueError:
        result = float(value)
    if abs(result) < EXACT and result.is_integer():
        return str(int(result))
    return repr(result)


def per_class(value: Any) -> float | str:
    """One number in 0..1 for all classes, and others for some: 0.5, "0.5,car=0.4" or {"": 0.5,
    "car": 0.4}.

    Without the first, "car=0.4" or {"car": 0.4}, all others have the default.

    >>> per_class("0.50, car=0.4"), per_class(1), per_class({"car": 0.4})
    ('0.5,car=0.4', 1.0, 'car=0.4')
    """
    general, by_class = thresholds(value)
    if general is not None and not by_class:
        return general
    parts = [] if general is None else [f"{general!r}"]
    parts += [f"{name}={number!r}" for name, number in by_class.items()]
    return ",".join(parts)


def thresholds(value: Any) -> tuple[float | None, dict[str, float]]:
    """What `per_class` reads: the number for all classes (None: the default), and those of single
    classes by name or id.
    """
    check = number(0, 1)
    by_class = {name: check(item) for name, item in _given(value).items()}
    general = by_class.pop("", None)
    return general, by_class


def _given(value: Any) -> dict[str, Any]:
    """One value for all, under "", and others by name: from text, a mapping, or the one value."""
    if isinstance(value, str):
        given: dict[str, Any] = _assignments(value)
    elif isinstance(value, Mapping):
        given = {str(name): item for name, item in value.items()}
    else:
        given = {"": value}
    if not given:
        raise ValueError
    return given


def _assignments(text: str) -> dict[str, str]:
    """The values of "0.5,car=0.4" by name; only the first may stand without one, under ""."""
    given: dict[str, str] = {}
    for position, item in enumerate(text.split(",")):
        name, _, assigned = item.rpartition("=")
        name = name.strip()
        if name in given or (not name and position > 0):
            raise ValueError
        given[name] = assigned.strip()
    return given


def class_groups(value: Any) -> str:
    """Classes that compete: "car,truck;bus,van", or [["car", "truck"], ["bus", "van"]]."""
    if value == "":
        return ""
    if isinstance(value, str):
        groups = [_items(group) for group in value.split(";")]
    else:
        groups = [[str(name) for name in group] for group in value]
    names = [name for group in groups for name in group]
    if not all(names) or len(set(names)) != len(names):
        raise ValueError
    if any(len(group) < 2 for group in groups):
        raise ValueError
    return ";".join(map(",".join, groups))


def class_list(value: Any) -> str:
    """Classes by name or number: "car,bus", or ["car", 3]; each once.

    >>> class_list("car, bus"), class_list(["car", 3])
    ('car,bus', 'car,3')
    """
    names = [str(name).strip() for name in _items(value)]
    if names in ([""], []):
        return ""
    if not all(names):
        raise ValueError
    return ",".join(dict.fromkeys(names))


def class_names(value: Any) -> str:
    """Names of all classes, in order: "car,bus", or ["car", "bus"].

    >>> class_names("car, bus"), class_names(("car", "bus"))
    ('car,bus', 'car,bus')
    """
    names = [str(name).strip() for name in _items(value)]
    if not all(names) or len(set(names)) != len(names):
        raise ValueError
    if any("," in name for name in names):
        raise ValueError
    return ",".join(names)


def class_mapping(value: Any) -> str:
    """Classes by class: "2=car,5=bus" or {2: "car", 5: "bus"}; or the path of a file with these.

    >>> class_mapping("2=car, 5=bus"), class_mapping({2: "car"}), class_mapping("map.yaml")
    ('2=car,5=bus', '2=car', 'map.yaml')
    """
    if isinstance(value, Mapping):
        pairs = {str(key): _one_class(name) for key, name in value.items()}
        if any(mark in word for pair in pairs.items() for word in pair for mark in "=,"):
            raise ValueError
    elif isinstance(value, str) and "=" in value:
        pairs = class_pairs(value)
    else:
        return file_path(value) if value else ""
    if not pairs or not all(word for pair in pairs.items() for word in pair):
        raise ValueError
    return ",".join(f"{key}={name}" for key, name in pairs.items())


def _one_class(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError
    return str(value)


def class_pairs(text: str) -> dict[str, str]:
    """What `class_mapping` writes, by the class of the predictions.

    >>> class_pairs("2=car,5=bus")
    {'2': 'car', '5': 'bus'}
    """
    pairs: dict[str, str] = {}
    for item in text.split(","):
        key, mark, name = item.partition("=")
        key = key.strip()
        if not mark or key in pairs:
            raise ValueError
        pairs[key] = name.strip()
    return pairs


def model_weights(value: Any) -> tuple[float, ...]:
    """Numbers above 0: "2,1" or (2, 1).

    >>> model_weights("2,1")
    (2.0, 1.0)
    """
    check = number(0, 1e6)
    weights = tuple(check(item) for item in _items(value))
    if not weights or min(weights) < 1e-6:
        raise ValueError
    return weights


def size_bins(value: Any) -> str:
    """The name of a protocol's bins, or increasing sides in px: "16,32,96" or (16, 32, 96).

    >>> size_bins("aitod"), size_bins([16, 32])
    ('aitod', '16,32')
    """
    if value in BINS:
        return str(value)
    check = number(0)
    sides = [check(item) for item in _items(value)]
    if not _increasing(sides) or not 0 < sides[0] <= sides[-1] < 1e5:
        raise ValueError
    return ",".join(f"{side:g}" for side in sides)


def detection_limits(value: Any) -> str:
    """auto, or increasing numbers of detections: "1,10,100" or (1, 10, 100).

    >>> detection_limits("1,10,500")
    '1,10,500'
    """
    if value == "auto":
        return "auto"
    check = whole(1)
    limits = [check(item) for item in _items(value)]
    if not _increasing(limits):
        raise ValueError
    return ",".join(map(str, limits))


def _increasing(values: Sequence[float]) -> bool:
    """Whether there are values, each larger than the one before."""
    return bool(values) and list(values) == sorted(set(values))


def transform(value: Any) -> str:
    """The six numbers of an affine transform, as text or a list; or a word. rasterio's `transform`
    is a tuple of nine, of which the last three are those of every affine map.

    >>> transform((0.5, 0, 1000, 0, -0.5, 2000, 0, 0, 1))
    '0.5,0,1000,0,-0.5,2000'
    """
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(str, affine_numbers(value)))
    return str(value or "")


def affine_numbers(value: Iterable[Any]) -> list[Any]:
    """The numbers of an affine map without its last row, where that is there: 0, 0, 1.

    >>> affine_numbers((2, 0, 5, 0, -2, 7, 0, 0, 1))
    [2, 0, 5, 0, -2, 7]
    """
    numbers = list(value)
    if len(numbers) == 9 and numbers[6:] == [0, 0, 1]:
        return numbers[:6]
    return numbers


def stripped(value: Any) -> str:
    """Text without spaces around it."""
    return str(value).strip()


def _items(value: Any, separator: str = ",") -> list[Any]:
    """The parts of a text, or of a list; anything else is a list of one."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(separator)]
    if isinstance(value, list | tuple):
        return list(value)
    return [value]


def file_path(value: Any) -> str:
    """The path of a file, as text."""
    result = os.fspath(value)
    if not isinstance(result, str) or not result.strip() or "\0" in result:
        raise ValueError
    return result


def path(value: Any, what: str) -> Path:
    """The path on this machine that a script gave.

    Raises:
        TilerError: it is not a path, or that of an object store or a web server.

    >>> path("s3://bucket/tiles", "out")
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: out: s3://bucket/tiles is not a path on this machine; mount or copy it

    >>> path([1], "tiles")
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: tiles: expected a path, got list
    """
    try:
        result = Path(value)
    except TypeError:
        raise TilerError(f"{what}: expected a path, got {type(value).__name__}") from None
    # a Path has one slash for two, and C:/ is a drive of Windows
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(value)):
        url = re.sub(":/+", "://", str(value), count=1)
        raise TilerError(f"{what}: {url} is not a path on this machine; mount or copy it")
    return result


def optional_path(value: Any, what: str) -> Path | None:
    """The path that a script may have given."""
    return None if value is None else path(value, what)
