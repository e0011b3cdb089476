"""Vector files of a GIS: GeoPackage, GeoJSON and Shapefile, read by GDAL (the extra `gis`).

GDAL recognises formats by content, and some name other files, servers or commands. So the content
is looked at first: nothing but a local file of these three formats comes before GDAL.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.findings import Finding, condensed, short
from tiler.formats.text_files import lenient_text, open_regular, reason, without_bom
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Ints, Objects

SUFFIXES = (".gpkg", ".geojson", ".json", ".shp")
EXPECTED = "a GeoPackage (.gpkg), GeoJSON (.geojson) or Shapefile (.shp)"
MAX_BYTES = 16_000_000_000
HEAD = 64  # bytes that tell the format
MAGIC = {".gpkg": b"SQLite format 3\0", ".shp": b"\0\0\x27\x0a"}
DRIVERS = {".gpkg": "GPKG", ".shp": "ESRI Shapefile"}
BESIDE = (".dbf", ".shx", ".prj", ".cpg", ".qix", ".sbn", ".sbx", ".idm", ".ind")  # a .shp
UNSAVED = ("-wal", "-journal")  # what SQLite has not yet written into a .gpkg
# Of the library; the last one is a slip of its own, at reference systems that are no UTF-8
FAILURES = (RuntimeError, ValueError, UnboundLocalError)
FARTHEST = 1e15  # units; no coordinate lies beyond
MAX_NAMED = 20  # names in a message
# Warnings of GDAL about what is read rightly: heights and measures are left out, rings are closed,
# and a number that two features share is replaced in one of them
RIGHTLY_READ = ("Measured (M) geometry", "Non closed ring", "Several features with id")

VIEWS = "SELECT name FROM sqlite_master WHERE type = 'view' AND name LIKE 'gpkg_%'"
TABLES = """
    SELECT layers.table_name FROM gpkg_geometry_columns AS layers JOIN sqlite_master AS master
    ON lower(master.name) = lower(layers.table_name)
    WHERE master.type = 'table' AND master.sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY layers.rowid
"""

NUMBERS = ("int", "uint", "float")  # types of fields


@dataclass(frozen=True, slots=True, eq=False)
class VectorLayer:
    """The features of one layer, in the order of the file.

    Attributes:
        path: the name of the file in findings.
        name: of the layer.
        crs: the reference system of the coordinates, as an EPSG code or well-known text.
        shapes: `(N,)` shapely geometries of two dimensions; None where a feature has none, or one
            that cannot be read.
        fids: `(N,)` the numbers by which a GIS shows the features.
        classes: the class of each; None where a feature names none.
        fields: the names of all fields.
        findings: what GDAL warned of.
    """

    path: str
    name: str
    crs: str
    shapes: Objects
    fids: Ints
    classes: Sequence[str | None]
    fields: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.fids)


def missing() -> bool:
    """Whether a library of the extra `gis` is not installed."""
    return find_spec("pyogrio") is None or find_spec("pyproj") is None


def read(path: Path, class_field: str = "", layer: str = "") -> VectorLayer:
    """A layer of a vector file.

    Args:
        class_field: the field with the class of each feature; "": the layer is one class.
        layer: needed if the file has several.

    Raises:
        TilerError: not such a file, no such layer or field, no features, or no reference system.
    """
    if missing():
        raise TilerError(f"{path}: reading it needs pip install 'tilestitch[gis]'")
    opening = _Opening.of(path.absolute())
    with _gdal(path) as (library, warned):
        name = _layer_name(opening.layers(library), layer, path)
        fields = opening.fields(library, name)
        _require_field(fields, class_field, f"{path}, layer {name}")
        columns = [class_field] if class_field else []
        content = opening.content(library, name, columns)
    result = _layer(path, name, fields, content)
    if class_field:
        result = replace(result, classes=_classes(content, f"{path}: field {class_field}"))
    findings = condensed(Finding(path.name, "G03", text) for text in dict.fromkeys(warned))
    return replace(result, findings=findings)


def _layer(path: Path, name: str, fields: tuple[str, ...], content: Any) -> VectorLayer:
    """A layer of one class, of what GDAL read.

    Raises:
        TilerError: it has no features, or no reference system.
    """
    meta, fids, wkb, _ = content
    if not len(fids):
        raise TilerError(f"{path}: layer {name} has no features")
    crs = _known_crs(meta["crs"], path)
    return VectorLayer(path.name, name, crs, _shapes(wkb), fids, [name] * len(fids), fields)


@dataclass(frozen=True, slots=True)
class _Opening:
    """How GDAL opens a file that has been looked at.

    Attributes:
        target: what GDAL is given.
        tables: the layers of a GeoPackage.
        options: of GDAL's driver.
    """

    path: Path
    target: str
    tables: list[str] | None = None
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> _Opening:
        """For an absolute path.

        Raises:
            TilerError: it is no such file, or not one that may come before GDAL.
        """
        suffix = path.suffix.lower()
        _require_format(path, suffix)
        if suffix == ".gpkg":
            _require_saved(path)
            # SQLite creates no files beside it
            return cls(path, str(path), _tables(path), {"IMMUTABLE": "YES"})
        if suffix == ".shp":
            _require_regular_parts(path)
            return cls(path, str(path))
        return cls(path, f"GeoJSON:{path}")  # not one of the other formats that JSON may be

    def layers(self, library: Any) -> list[str]:
        """The names of the layers."""
        if self.tables is not None:
            return self.tables
        return [str(name) for name, _ in library.list_layers(self.target)]

    def fields(self, library: Any, layer: str) -> tuple[str, ...]:
        """The names of a layer's fields.

        Raises:
            TilerError: GDAL takes the file for another format.
        """
        about = library.read_info(self.target, layer=layer, **self.options)
        expected = DRIVERS.get(self.path.suffix.lower(), "GeoJSON")
        found = about["driver"]
        if found != expected:
            raise TilerError(f"{self.path}: GDAL reads it as {found}, expected {expected}")
        return tuple(map(str, about["fields"]))

    def content(self, library: Any, layer: str, columns: list[str]) -> Any:
        """What GDAL says of a layer; numbers, WKB and the given fields of its features."""
        return library.raw.read(
            self.target,
            layer=layer,
            columns=columns,
            force_2d=True,
            return_fids=True,
            **self.options,
        )


def _require_format(path: Path, suffix: str) -> None:
    """Check that a file is what its suffix says."""
    if suffix not in SUFFIXES:
        raise TilerError(f"{path}: expected {EXPECTED}; a GIS exports any layer as GeoPackage")
    if "!" in str(path):  # the library takes what is before it for an archive
        raise TilerError(f"{path}: a path with '!' in it cannot be given to GDAL; rename it")
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(HEAD)
    except FileNotFoundError:
        raise TilerError(f"{path}: no such file") from None
    except OSError as error:
        raise TilerError(f"{path}: cannot be read: {reason(error)}") from None
    if size > MAX_BYTES:
        raise TilerError(f"{path}: more than {MAX_BYTES} bytes")
    magic = MAGIC.get(suffix, b"{")
    if suffix not in MAGIC:
        head = without_bom(head).lstrip()
    if not head.startswith(magic):
        raise TilerError(f"{path}: its content is not that of a {suffix} file: {short(head[:16])}")


def _require_saved(path: Path) -> None:
    """Reject a GeoPackage that another program has not finished writing."""
    for ending in UNSAVED:
        beside = path.with_name(path.name + ending)
        try:
            unsaved = beside.stat().st_size > 0
        except OSError:
            continue
        if unsaved:
            message = f"{path}: {beside.name} holds changes that are not in it yet"
            raise TilerError(f"{message}; close it in the program that has it open")


def _tables(path: Path) -> list[str]:
    """The layers of a GeoPackage that are tables. Views are none: they run code when they are read.

    Raises:
        TilerError: the file is no GeoPackage, or its own lists are views.
    """
    import sqlite3  # which only a GeoPackage needs

    address = f"{path.as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            database.text_factory = lenient_text
            views = database.execute(VIEWS).fetchall()
            if views:
                raise TilerError(f"{path}: {views[0][0]} is a view, expected a table")
            return [str(name) for (name,) in database.execute(TABLES)]
    except (sqlite3.Error, UnicodeDecodeError) as error:  # its messages may hold any bytes
        raise TilerError(f"{path}: not a GeoPackage: {error}") from None


def _require_regular_parts(path: Path) -> None:
    """Reject a Shapefile of which a part is no file: GDAL would wait for a fifo."""
    for suffix in BESIDE:
        for part in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
            if not os.path.lexists(part):
                continue
            try:
                open_regular(part).close()
            except OSError as error:
                raise TilerError(f"{part}: cannot be read: {reason(error)}") from None


@contextmanager
def _gdal(path: Path) -> Iterator[tuple[Any, list[str]]]:
    """The library, and a list that its warnings are written to; its errors become ours."""
    import pyogrio

    warned: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield pyogrio, warned
            texts = [_short_line(str(each.message)) for each in caught]
            warned += [text for text in texts if not text.startswith(RIGHTLY_READ)]
    except (*FAILURES, pyogrio._err.CPLE_BaseError) as error:
        message = str(error).split("; It might help")[0]
        raise TilerError(f"{path}: cannot be read: {_short_line(message)}") from None


def _short_line(text: str) -> str:
    """The beginning of a message of another library."""
    return " ".join(text.split())[:300]


def _layer_name(names: list[str], wanted: str, path: Path) -> str:
    """The layer to read: the one asked for, or the only one."""
    if wanted in names:
        return wanted
    found = _listed(names)
    if wanted:
        raise TilerError(f"--layer {wanted}: {path} has {found}{did_you_mean(wanted, names)}")
    if not names:
        raise TilerError(f"{path}: no table has geometry")
    if len(names) > 1:
        raise TilerError(f"{path} has several layers, choose one by --layer: {found}")
    return names[0]


def _require_field(fields: tuple[str, ...], wanted: str, where: str) -> None:
    if wanted and wanted not in fields:
        hint = did_you_mean(wanted, fields)
        raise TilerError(f"--class-field {wanted}: {where} has {_listed(fields)}{hint}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_NAMED]) or "none"
    if len(names) > MAX_NAMED:
        shown += f" and {len(names) - MAX_NAMED} more"
    return shown


def _known_crs(crs: str | None, path: Path) -> str:
    """The reference system; GDAL names those of a GeoPackage that are none `Undefined ...`."""
    if crs and '["Undefined ' not in crs:
        return crs
    message = f"{path}: no reference system (CRS), so its place in the images is unknown"
    raise TilerError(f"{message}; set it in a GIS and save the file again")


def _shapes(wkb: Objects) -> Objects:
    """Geometries of well-known binary, rings closed; None where one cannot be read."""
    with np.errstate(invalid="ignore"):  # of coordinates that are NaN
        shapes = np.asarray(shapely.from_wkb(wkb, on_invalid="fix"))
    points, owner = shapely.get_coordinates(shapes, return_index=True)
    near = (np.abs(points) < FARTHEST).all(axis=1)  # also false for NaN
    shapes[owner[~near]] = None
    return shapes


def _classes(content: Any, where: str) -> list[str | None]:
    """The class of each feature: its text, or its whole number as text.

    Raises:
        TilerError: the field holds something else.
    """
    meta, _, _, (values,) = content
    kind = str(meta["dtypes"][0])  # of the field; `values` are floats also where one has no number
    if kind == "object" and all(isinstance(value, str | None) for value in values):
        names = [_text(value) for value in values]
        return _as_utf8(names) if meta["encoding"] == "ISO-8859-1" else names
    if not kind.startswith(NUMBERS):
        raise TilerError(f"{where} holds {kind}, expected text or whole numbers")
    if values.dtype.kind in "iu":
        return list(map(str, values.tolist()))
    broken = np.isfinite(values) & (values != np.floor(values))
    if broken.any():
        raise TilerError(f"{where} holds {values[broken][0]:g}, expected text or whole numbers")
    return [f"{value:.0f}" if np.isfinite(value) else None for value in values.tolist()]


def _text(value: Any) -> str | None:
    """A name without spaces around it; None if nothing is left."""
    return str(value).strip() or None if value is not None else None


def _as_utf8(names: list[str | None]) -> list[str | None]:
    """Names of a Shapefile that does not say its encoding, which GDAL takes for Latin-1.

    Most are in UTF-8 all the same; if all are, as only UTF-8 is by its form, they are read so.

    >>> _as_utf8(["Ã¤", "oak", None]), _as_utf8(["ä", "Ã¤"])
    (['ä', 'oak', None], ['ä', 'Ã¤'])
    """
    try:
        return [name and name.encode("latin-1").decode("utf-8") for name in names]
    except UnicodeError:
        return names
