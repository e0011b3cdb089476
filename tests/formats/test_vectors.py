"""Vector files: layers, fields, classes; and files that GDAL must not follow."""

import json
import os
import random
import sqlite3

import pytest
import shapely

from tests.formats.gis import feature, geojson, write
from tiler.errors import TilerError
from tiler.formats import vectors

if vectors.missing():
    pytest.skip("the extra `gis` is not installed", allow_module_level=True)

SQUARE = shapely.box(400000, 5000000, 400010, 5000010)
UTM = "EPSG:32633"
RING = [[13.0, 52.0], [13.1, 52.0], [13.1, 52.1], [13.0, 52.0]]


@pytest.mark.parametrize("name", ["trees.gpkg", "trees.shp", "Trees.GeoJSON", "trees.json"])
def test_every_format_gives_shapes_classes_and_numbers(tmp_path, name):
    path = tmp_path / name
    crs = "EPSG:4326" if "json" in name.lower() else UTM
    if crs == UTM:
        write(path, [SQUARE, SQUARE], UTM, species=["Ä oak", "elm"], age=[3, 4])
    else:
        geojson(path, [feature([RING], species=s, age=3) for s in ("Ä oak", "elm")])
    layer = vectors.read(path, "species")
    assert (layer.path, layer.name, layer.crs) == (name, path.stem, crs)
    assert layer.classes == ["Ä oak", "elm"]
    assert layer.fields == ("species", "age")
    assert [shape.geom_type for shape in layer.shapes] == ["Polygon"] * 2
    assert layer.fids.tolist() == ([1, 2] if name.endswith("gpkg") else [0, 1])
    assert vectors.read(path).classes == [path.stem] * 2
    assert layer.findings == []
    assert {p.suffix for p in tmp_path.iterdir()} <= {
        path.suffix, ".shx", ".dbf", ".prj", ".cpg"
    }  # fmt: skip


def test_a_missing_field_names_those_there_are(tmp_path):
    path = write(tmp_path / "a.gpkg", [SQUARE], UTM, species=["oak"], age=[3])
    with pytest.raises(
        TilerError, match=r"--class-field specis: .* has species, age; did you mean"
    ):
        vectors.read(path, "specis")
    path = write(tmp_path / "b.gpkg", [SQUARE], UTM)
    with pytest.raises(TilerError, match="layer b has none"):
        vectors.read(path, "species")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 20], ["1", "20"]),
        ([1.0, float("nan")], ["1", None]),
        (["oak ", None], ["oak", None]),
        (["", "  "], [None, None]),
        ([2**53 + 1, 1], [str(2**53 + 1), "1"]),
    ],
)
def test_classes_are_text_or_whole_numbers(tmp_path, values, expected):
    path = write(tmp_path / "a.gpkg", [SQUARE, SQUARE], UTM, c=values)
    assert vectors.read(path, "c").classes == expected


@pytest.mark.parametrize("values", [[0.5, 1.0], [True, False]])
def test_other_classes_are_an_error_that_says_what_was_found(tmp_path, values):
    path = write(tmp_path / "a.gpkg", [SQUARE, SQUARE], UTM, c=values)
    with pytest.raises(TilerError, match="field c holds .*, expected text or whole numbers"):
        vectors.read(path, "c")


def test_of_several_layers_one_must_be_named(tmp_path):
    path = write(tmp_path / "a.gpkg", [SQUARE], UTM, c=["oak"])
    with sqlite3.connect(path) as database:  # a table without geometry is no layer
        database.execute("CREATE TABLE layer_styles (id INTEGER PRIMARY KEY, name TEXT)")
    assert vectors.read(path).name == "a"
    add_layer(path, "b", [SQUARE, SQUARE])
    with pytest.raises(TilerError, match="several layers, choose one by --layer: a, b"):
        vectors.read(path)
    assert len(vectors.read(path, layer="b")) == 2
    with pytest.raises(TilerError, match="--layer bb: .* has a, b; did you mean 'b'"):
        vectors.read(path, layer="bb")


def add_layer(path, name, shapes):
    from pyogrio import raw

    wkb = [shapely.to_wkb(shape) for shape in shapes]
    raw.write(path, wkb, [], [], layer=name, geometry_type="Polygon", crs=UTM, append=True)


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp"])
def test_a_file_without_reference_system_is_an_error(tmp_path, name):
    path = write(tmp_path / name, [SQUARE], None, c=["oak"])
    with pytest.raises(TilerError, match=r"no reference system \(CRS\)"):
        vectors.read(path)


@pytest.mark.parametrize("number", [0, -1])
def test_a_geopackage_may_say_that_it_has_none(tmp_path, number):
    path = write(tmp_path / "a.gpkg", [SQUARE], None)
    with sqlite3.connect(path) as database:
        for table in ("gpkg_contents", "gpkg_geometry_columns"):
            database.execute(f"UPDATE {table} SET srs_id = {number}")
    with pytest.raises(TilerError, match=r"no reference system \(CRS\)"):
        vectors.read(path)


def test_names_in_utf8_are_read_without_a_cpg(tmp_path):
    path = write(tmp_path / "a.shp", [SQUARE, SQUARE], UTM, c=["Bäume", "oak"])
    path.with_suffix(".cpg").unlink()
    assert vectors.read(path, "c").classes == ["Bäume", "oak"]
    data = path.with_suffix(".dbf").read_bytes()
    path.with_suffix(".dbf").write_bytes(data.replace("ä".encode() + b"ume", b"\xe4ume "))
    assert vectors.read(path, "c").classes == ["Bäume", "oak"]


def test_heights_are_left_out_and_rings_closed(tmp_path):
    features = [feature([[[*point, 50.0] for point in RING]]), feature([RING[:3]])]
    layer = vectors.read(geojson(tmp_path / "a.geojson", features))
    assert [shape.wkt for shape in layer.shapes] == [
        "POLYGON ((13 52, 13.1 52, 13.1 52.1, 13 52))"
    ] * 2
    assert layer.findings == []


def test_what_gdal_warns_of_is_a_finding(tmp_path):
    path = write(tmp_path / "a.shp", [SQUARE], UTM, c=["Bäume"])
    path.with_suffix(".cpg").write_text("UTF-8")
    data = path.with_suffix(".dbf").read_bytes()
    path.with_suffix(".dbf").write_bytes(data.replace("ä".encode(), b"\xe4\xe4"))
    try:
        findings = vectors.read(path, "c").findings
    except TilerError:
        return
    assert [finding.code for finding in findings] == ["G03"]


def test_empty_files_and_others_are_errors(tmp_path):
    for name, content, message in [
        ("a.geojson", "", "content is not that of a .geojson file"),
        ("a.geojson", "[]", "content is not that of a .geojson file"),
        ("a.geojson", "{}", "cannot be read"),
        ("a.geojson", '{"type": "FeatureCollection", "features": []}', "no features"),
        ("a.gpkg", "{}", "content is not that of a .gpkg file"),
        ("a.shp", "", "content is not that of a .shp file"),
        ("a.kml", "<kml/>", "expected a GeoPackage"),
        ("a!b.geojson", "{}", "rename it"),
    ]:
        path = tmp_path / name
        path.write_text(content)
        with pytest.raises(TilerError, match=message):
            vectors.read(path)
    for path in (tmp_path / "absent.gpkg", tmp_path / ("a" * 300 + ".gpkg")):
        with pytest.raises(TilerError, match="no such file|cannot be read"):
            vectors.read(path)
    for address in ("http://localhost/a.geojson", "/vsicurl/http://localhost/a.geojson"):
        with pytest.raises(TilerError, match="no such file"):
            vectors.read(type(tmp_path)(address))
    (tmp_path / "folder.gpkg").mkdir()
    with pytest.raises(TilerError, match="not a regular file"):
        vectors.read(tmp_path / "folder.gpkg")


def test_formats_that_name_other_files_do_not_come_before_gdal(tmp_path):
    secret = write(tmp_path / "secret.gpkg", [SQUARE], UTM)
    place = f"<SrcDataSource>{secret}</SrcDataSource>"
    virtual = f"<OGRVRTDataSource><OGRVRTLayer name='a'>{place}</OGRVRTLayer></OGRVRTDataSource>"
    command = {"type": "gdal_streamed_alg", "command_line": f"gdal vector pipeline ! read {secret}"}
    topology = {"type": "Topology", "objects": {}, "arcs": []}
    for name in ("a.geojson", "a.gpkg", "a.shp", "a.gdalg.json", "a.json"):
        for text in (virtual, json.dumps(command), json.dumps(topology), " \n" + virtual):
            (tmp_path / name).write_text(text)
            with pytest.raises(TilerError):
                vectors.read(tmp_path / name)


def test_views_are_not_read(tmp_path):
    path = write(tmp_path / "a.gpkg", [SQUARE], UTM)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, geom"
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE VIEW v AS {endless} FROM n, a")
        columns = "SELECT 'v', 'features', 'v', srs_id FROM gpkg_contents"
        database.execute(
            f"INSERT INTO gpkg_contents (table_name, data_type, identifier, srs_id) {columns}"
        )
        database.execute(
            "INSERT INTO gpkg_geometry_columns SELECT 'v', column_name, geometry_type_name, "
            "srs_id, z, m FROM gpkg_geometry_columns"
        )
    assert vectors.read(path).name == "a"
    with pytest.raises(TilerError, match="--layer v: .* has a"):
        vectors.read(path, layer="v")
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE gpkg_contents RENAME TO others")
        database.execute("CREATE VIEW gpkg_contents AS SELECT * FROM others")
    with pytest.raises(TilerError, match="gpkg_contents is a view"):
        vectors.read(path)


def test_a_geopackage_is_only_read(tmp_path):
    path = write(tmp_path / "a.gpkg", [SQUARE], UTM)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
    database.close()
    before = path.read_bytes(), path.stat().st_mtime_ns
    tmp_path.chmod(0o755)
    assert len(vectors.read(path)) == 1
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert os.listdir(tmp_path) == ["a.gpkg"]
    path.with_name("a.gpkg-wal").write_bytes(b"unsaved")
    with pytest.raises(TilerError, match="a.gpkg-wal holds changes"):
        vectors.read(path)


def test_a_part_of_a_shapefile_that_is_no_file_is_not_waited_for(tmp_path):
    path = write(tmp_path / "a.shp", [SQUARE], UTM)
    path.with_suffix(".cpg").unlink()
    os.mkfifo(path.with_suffix(".cpg"))
    with pytest.raises(TilerError, match=r"a\.cpg: cannot be read: not a regular file"):
        vectors.read(path)


def test_mutated_files_raise_our_errors_only(tmp_path):
    chance = random.Random(0)
    features = [feature([RING], species="oak", n=1), feature([RING, RING], "MultiPolygon")]
    features += [feature(RING[0], "Point"), feature(RING, "LineString", species=None)]
    text = geojson(tmp_path / "a.geojson", features, name="trees").read_bytes()
    pieces = [b"null", b"1e999", b"[", b"]", b"{", b"}", b'"', b"-", b"NaN", b"\0", b"\xff", b""]
    pieces += [b"9" * 400, b'"type"', b'"Polygon"', b'"GeometryCollection"', b"," * 9, b"[" * 2000]
    outcomes = set()
    for i in range(1000):
        data = bytearray(text)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(data))
            data[at : at + chance.choice([0, 1, 1, 4, 20])] = chance.choice(pieces)
        path = tmp_path / f"{i}.geojson"
        path.write_bytes(data)
        try:
            layer = vectors.read(path, chance.choice(["", "species", "n"]))
            assert len(layer) == len(layer.classes) == len(layer.shapes)
            outcomes.add("read")
        except TilerError as error:
            assert str(path) in str(error)
            outcomes.add("rejected")
        path.unlink()
    assert outcomes == {"read", "rejected"}


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp"])
def test_damaged_binary_files_raise_our_errors_only(tmp_path, name):
    chance = random.Random(0)
    path = write(tmp_path / name, [SQUARE, None, SQUARE], UTM, c=["oak", "elm", "ash"])
    parts = [p for p in tmp_path.iterdir() if p.suffix in (".gpkg", ".shp", ".shx", ".dbf")]
    whole = {part: part.read_bytes() for part in parts}
    for _ in range(200):
        for part, content in whole.items():
            data = bytearray(content)
            for _ in range(chance.randrange(8)):
                data[chance.randrange(len(data))] = chance.choice([0, 1, 127, 255])
            if chance.random() < 0.1:
                del data[chance.randrange(len(data)) :]
            part.write_bytes(data)
        try:
            vectors.read(path, "c")
        except TilerError as error:
            assert path.name in str(error)
