import io
import math
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.strategies import numbers, quick
from tiler.formats.affine import Affine, world_file
from tiler.formats.manifest import Geo
from tiler.geometry.window import Window
from tiler.images import geo
from tiler.images.geo import Located, for_pillow, for_tifffile, located
from tiler.images.header import Header, probe

UTM = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)
UTM_POINTS = (*UTM[:11], 2, *UTM[12:])
DEGREES = (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326)
OWN = (1, 1, 0, 4, 1024, 0, 1, 1, 1025, 0, 1, 1, 1026, 34737, 5, 0, 3072, 0, 1, 32767)
NORTH_UP = (0.5, 0.0, 1000.0, 0.0, -0.25, 2000.0)
NORTH_UP_TAGS = {33550: (12, (0.5, 0.25, 0.0)), 33922: (12, (0.0, 0.0, 0.0, 1000.0, 2000.0, 0.0))}
TURNED = (0.3, -0.4, 1000.0, 0.4, 0.3, 2000.0)
MATRIX = (0.3, -0.4, 0.0, 1000.0, 0.4, 0.3, 0.0, 2000.0, *[0.0] * 7, 1.0)
SIZE = (60, 40)


def made(tags, order="<", big=False):
    """A TIFF of 60 x 40 black pixels with more tags, `{tag: (type, values)}`, put together by
    hand.
    """
    width, height = SIZE
    entries = {
        256: (3, (width,)),
        257: (3, (height,)),
        258: (3, (8,)),
        259: (3, (1,)),
        262: (3, (1,)),
        277: (3, (1,)),
    }
    entries |= {278: (3, (height,)), 279: (4, (width * height,)), 273: (4, (0,))} | tags
    count, entry, field = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    start = 16 if big else 8
    size = (
        struct.calcsize("<" + count) + len(entries) * (struct.calcsize("<" + entry) + field) + field
    )
    beyond, body = start + size, b""
    directory = struct.pack(order + count, len(entries))
    length = sum(len(values) * 8 for _, values in entries.values())
    entries[273] = (4, (beyond + length,))
    for tag, (kind, values) in sorted(entries.items()):
        form = {2: "s", 3: "H", 4: "I", 5: "II", 11: "f", 12: "d"}[kind]
        data = (
            values
            if isinstance(values, bytes)
            else struct.pack(order + form * len(values), *values)
        )
        if len(data) > field:
            at = beyond + len(body)
            body += data
            data = struct.pack(order + ("Q" if big else "I"), at)
        directory += struct.pack(order + entry, tag, kind, len(values)) + data.ljust(field, b"\0")
    directory += bytes(field)
    head = struct.pack(order + "2sHHHQ", b"II" if order == "<" else b"MM", 43, 8, 0, start)
    if not big:
        head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, start)
    return head + directory + body.ljust(length, b"\0") + bytes(width * height)


def found(data, path):
    file = io.BytesIO(data)
    return located(file, probe(file), path)


def keyed(directory):
    return {34735: (3, directory)} if directory else {}


@pytest.fixture
def lone(tmp_path):
    """Where an image without neighbours might be."""
    return tmp_path / "a.tif"


# What the tags say


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("tags", "directory", "transform", "crs"),
    [
        (NORTH_UP_TAGS, UTM, NORTH_UP, "EPSG:32632"),
        (NORTH_UP_TAGS, DEGREES, NORTH_UP, "EPSG:4326"),
        (NORTH_UP_TAGS, UTM_POINTS, (0.5, 0.0, 999.75, 0.0, -0.25, 2000.125), "EPSG:32632"),
        (NORTH_UP_TAGS, OWN, NORTH_UP, None),
        (NORTH_UP_TAGS, (), NORTH_UP, None),
        ({34264: (12, MATRIX)}, UTM, TURNED, "EPSG:32632"),
        (
            {34264: (12, MATRIX)},
            UTM_POINTS,
            (*TURNED[:2], 1000.05, *TURNED[3:5], 1999.65),
            "EPSG:32632",
        ),
        (
            NORTH_UP_TAGS | {33922: (12, (8.0, 4.0, 0.0, 1004.0, 1999.0, 0.0))},
            UTM,
            NORTH_UP,
            "EPSG:32632",
        ),
        (
            NORTH_UP_TAGS
            | {33922: (12, (0.0, 0.0, 0.0, 1000.0, 2000.0, 0.0, 9.0, 9.0, 0.0, 7.0, 7.0, 0.0))},
            (),
            NORTH_UP,
            None,
        ),
        (NORTH_UP_TAGS | {33550: (12, (0.5, -0.25, 0.0))}, (), NORTH_UP, None),
        (NORTH_UP_TAGS | {33550: (12, (0.5, 0.25))}, (), NORTH_UP, None),
    ],
)
def test_a_picture_lies_where_its_tags_say(lone, tags, directory, transform, crs, order, big):
    text = {34737: (2, b"mine|\0")} if directory == OWN else {}
    place = found(made(tags | keyed(directory) | text, order, big), lone)
    np.testing.assert_allclose(place.geo.transform, transform, rtol=1e-12)
    assert place.geo.crs == crs
    keys = {34735: (3, len(directory), directory)} if directory else {}
    assert place.keys == keys | ({34737: (2, 6, b"mine|\0")} if directory == OWN else {})


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {33550: NORTH_UP_TAGS[33550]},
        {33922: NORTH_UP_TAGS[33922]},
        {33922: (12, tuple(map(float, range(24))))},  # control points only
        NORTH_UP_TAGS | {33550: (12, (0.0, 0.25, 0.0))},
        NORTH_UP_TAGS | {33550: (12, (math.nan, 0.25, 0.0))},
        NORTH_UP_TAGS | {33550: (12, (math.inf, 0.25, 0.0))},
        NORTH_UP_TAGS | {33550: (12, (1e-200, 1e-200, 0.0))},
        NORTH_UP_TAGS | {33550: (11, (0.5, 0.25, 0.0))},
        NORTH_UP_TAGS | {33922: (12, (0.0, 0.0, 0.0, 1e300, 0.0, 0.0))},
        {34264: (12, MATRIX[:12])},
        {34264: (12, (1.0, 2.0, 0.0, 5.0, 2.0, 4.0, 0.0, 5.0, *[0.0] * 8))},
        {34264: (12, (0.1, 0.2, 0.0, 5.0, 0.15, 0.3, 0.0, 5.0, *[0.0] * 8))},
        NORTH_UP_TAGS | {274: (3, (6,))},
    ],
    ids=str,
)
def test_what_is_no_map_is_left_out(lone, tags):
    assert found(made(tags | keyed(UTM)), lone) is None


@pytest.mark.parametrize(
    ("directory", "crs"),
    [
        (UTM[:15], None),  # the last one is cut off
        ((1, 1, 0, 2, *UTM[4:]), None),  # two keys only, so it says
        ((*UTM[:15], 0), None),
        ((*UTM[:15], 1023), None),
        ((*UTM[:15], 54009), None),  # of ESRI
        ((1, 1, 0, 1, 3072, 0, 1, 32632), None),  # of which model?
        ((1, 1, 0, 2, 1024, 0, 1, 1, 2048, 0, 1, 4326), None),
        ((1, 1, 0, 2, 1024, 0, 1, 3, 2048, 0, 1, 4978), None),  # geocentric
        ((1, 1, 0, 2, 1024, 0, 1, 1, 3072, 34736, 1, 2048), None),
        ((1,), None),
        ((1, 1, 0, 9, *UTM[4:]), "EPSG:32632"),
        ((*UTM, 2048, 0, 1, 4258), "EPSG:32632"),
    ],
)
def test_only_an_epsg_code_is_a_name(lone, directory, crs):
    place = found(made(NORTH_UP_TAGS | keyed(directory)), lone)
    assert place.geo == Geo(NORTH_UP, crs)
    assert place.keys[34735][2] == directory


@pytest.mark.parametrize(
    "bad", [{34735: (4, UTM)}, {34735: (12, UTM)}, {34736: (12, (1.0,))}, {34737: (2, b"mine\0")}]
)
def test_keys_of_another_type_or_without_a_directory_are_none(lone, bad):
    assert found(made(NORTH_UP_TAGS | bad), lone) == Located(Geo(NORTH_UP))


# World files


def test_else_the_world_file_beside_it_counts(tmp_path):
    (tmp_path / "a.wld").write_text("2\n0\n0\n-2\n101\n199\n")
    world = (2.0, 0.0, 100.0, 0.0, -2.0, 200.0)
    for name in ("a.png", "a.jpg", "a.tif"):
        assert found(made({}), tmp_path / name) == Located(Geo(world))
    # whatever its keys say, it tells of centres
    place = found(made(keyed(UTM_POINTS)), tmp_path / "a.tif")
    assert place.geo == Geo(world, "EPSG:32632")
    assert found(made(NORTH_UP_TAGS), tmp_path / "a.tif").geo.transform == NORTH_UP
    assert located(io.BytesIO(), Header("PNG", 9, 9), tmp_path / "a.png") == Located(Geo(world))
    assert located(io.BytesIO(), Header("JPEG", 9, 9, orientation=3), tmp_path / "a.jpg") is None
    assert located(io.BytesIO(), Header("PNG", 9, 9), tmp_path / "b.png") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "oops",
        "1\n0\n0\n0\n0\n0\n",
        "nan\n0\n0\n-2\n0\n0\n",
        "1e20\n0\n0\n-2\n0\n0\n",
        b"\xff\xfe\0",
    ],
)
def test_a_world_file_that_is_none_is_left_out(tmp_path, text):
    (tmp_path / "a.wld").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert located(io.BytesIO(), Header("PNG", 9, 9), tmp_path / "a.png") is None


def test_a_name_that_is_as_long_as_can_be_has_no_neighbours(tmp_path):
    assert located(io.BytesIO(), Header("PNG", 9, 9), tmp_path / ("a" * 251 + ".png")) is None


WKT_UTM = (
    'PROJCS["UTM 32N",GEOGCS["WGS '
    '84",AUTHORITY["EPSG","4326"]],UNIT["metre",1,AUTHORITY["EPSG","9001"]]'
)


@pytest.mark.parametrize(
    ("text", "crs"),
    [
        (WKT_UTM + ',AUTHORITY["EPSG","32632"]]', "EPSG:32632"),
        (WKT_UTM + ',\n  AUTHORITY["EPSG","32632"] ]\n', "EPSG:32632"),
        (WKT_UTM.replace("PROJCS", "PROJCRS") + ',ID["EPSG",32632]]', "EPSG:32632"),
        ('GEOGCS["WGS 84",AUTHORITY["EPSG","4326"]]', "EPSG:4326"),
        (WKT_UTM + "]", None),
        (WKT_UTM + ',AUTHORITY["ESRI","54009"]]', None),
        (WKT_UTM + ',AUTHORITY["EPSG","99999"]]', None),
        (WKT_UTM + '],VERTCS["m",AUTHORITY["EPSG","5701"]]', None),
        ('LOCAL_CS["x",AUTHORITY["EPSG","32632"]]', None),
        ("EPSG:32632", None),
        ("", None),
        (b"\xff\xfe", None),
    ],
)
def test_the_prj_beside_it_may_name_the_reference_system(tmp_path, text, crs):
    (tmp_path / "a.wld").write_text("2\n0\n0\n-2\n101\n199\n")
    (tmp_path / "a.prj").write_bytes(text if isinstance(text, bytes) else text.encode())
    place = located(io.BytesIO(), Header("PNG", 9, 9), tmp_path / "a.png")
    assert place.geo.crs == crs
    assert bool(place.keys) == (crs is not None)


def test_a_prj_alone_is_no_place(tmp_path):
    (tmp_path / "a.prj").write_text(WKT_UTM + ',AUTHORITY["EPSG","32632"]]')
    assert located(io.BytesIO(), Header("PNG", 9, 9), tmp_path / "a.png") is None


# Tiles

windows = st.builds(
    Window,
    st.integers(-200, 50_000),
    st.integers(-200, 50_000),
    st.integers(1, 5000),
    st.integers(1, 5000),
)
zooms = st.tuples(numbers(0.01, 16), numbers(0.01, 16))
directories = st.sampled_from([(), UTM, UTM_POINTS, DEGREES])


@st.composite
def places(draw):
    """North-up and others: maps that images have, with or without a reference system."""
    x, y = draw(numbers(0.001, 50)), draw(numbers(0.001, 50)) * draw(st.sampled_from([-1, -1, 1]))
    angle = draw(st.just(0.0) | numbers(0, 6.28))
    c, s = math.cos(angle), math.sin(angle)
    transform = (x * c, -y * s, draw(numbers(-1e6, 1e6)), x * s, y * c, draw(numbers(-1e7, 1e7)))
    directory = draw(directories)
    keys = {34735: (3, len(directory), directory)} if directory else {}
    return Located(Geo(transform, geo._crs(keys)), keys)


@quick
@given(places(), windows, zooms, st.tuples(numbers(0, 1), numbers(0, 1)))
def test_a_point_lies_where_it_lies_by_the_tiles_own_world_file(
    tmp_path_factory, place, window, zoom, share
):
    """In the source, by the tile's world file, and by its tags as they are read again."""
    file = tmp_path_factory.getbasetemp() / "any.wld"
    file.write_text(place.world(window, zoom))
    in_tile = np.array([share]) * (window.width, window.height) * zoom
    in_source = np.array([share]) * (window.width, window.height) + (window.x, window.y)
    want = Affine(*place.geo.transform).apply(in_source)
    np.testing.assert_allclose(world_file(file).apply(in_tile), want, rtol=1e-12, atol=1e-7)
    tags = {tag: (kind, value) for tag, kind, _, value in place.tags(window, zoom)}
    again = found(made(tags), file.with_name("none.tif"))
    np.testing.assert_allclose(
        Affine(*again.geo.transform).apply(in_tile), want, rtol=1e-12, atol=1e-7
    )
    assert (again.geo.crs, again.keys) == (place.geo.crs, place.keys)


@quick
@given(places())
def test_the_whole_picture_as_a_tile_keeps_its_place(tmp_path_factory, place):
    tags = {tag: (kind, value) for tag, kind, _, value in place.tags(Window(0, 0, *SIZE))}
    again = found(made(tags), tmp_path_factory.getbasetemp() / "none.tif")
    np.testing.assert_allclose(again.geo.transform, place.geo.transform, rtol=1e-15, atol=1e-8)


def test_a_map_to_the_north_has_a_scale_and_another_one_a_matrix():
    window = Window(0, 0, 10, 10)
    assert [tag[0] for tag in Located(Geo(NORTH_UP)).tags(window)] == [33550, 33922]
    assert [tag[0] for tag in Located(Geo(TURNED)).tags(window)] == [34264]
    assert [tag[0] for tag in Located(Geo((0.5, 0, 0, 0, 0.5, 0))).tags(window)] == [34264]
    assert [tag[0] for tag in Located(Geo((-0.5, 0, 0, 0, -0.5, 0))).tags(window)] == [34264]


ALL_KEYS = {
    34735: (3, len(OWN), OWN),
    34736: (12, 1, (6378137.0,)),
    34737: (2, 6, b"mine|\0"),
}


@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate", "tiff_lzw", "packbits"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
@pytest.mark.parametrize("transform", [NORTH_UP, TURNED])
def test_pillow_writes_the_tags_as_they_are(lone, transform, mode, compression):
    place = Located(Geo(transform), ALL_KEYS)
    window = Window(7, 5, 16, 12)
    Image.new(mode, (32, 24)).save(
        lone, compression=compression, tiffinfo=for_pillow(place.tags(window, (2, 2)))
    )
    again = found(lone.read_bytes(), lone)
    assert again.keys == ALL_KEYS
    np.testing.assert_allclose(again.geo.transform, flat(place, window, (2, 2)))


def flat(place, window, zoom):
    affine = place.affine(window, zoom)
    return [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("transform", [NORTH_UP, TURNED])
def test_tifffile_writes_the_tags_as_they_are(lone, transform, order):
    tifffile = pytest.importorskip("tifffile", reason="needs tifffile")
    place, window = Located(Geo(transform), ALL_KEYS), Window(7, 5, 16, 12)
    for compression in (None, "zlib"):
        pixels = np.zeros((24, 32, 5), np.uint16)
        extra = for_tifffile(place.tags(window, (2, 2)))
        tifffile.imwrite(
            lone,
            pixels,
            byteorder=order,
            photometric="minisblack",
            planarconfig="contig",
            compression=compression,
            extratags=extra,
        )
        again = found(lone.read_bytes(), lone)
        assert again.keys == ALL_KEYS
        np.testing.assert_allclose(again.geo.transform, flat(place, window, (2, 2)))


# Whatever the bytes are

SEEDS = [
    made(NORTH_UP_TAGS | keyed(UTM)),
    made(
        {34264: (12, MATRIX)} | keyed(OWN) | {34736: (12, (1.0, 2.0)), 34737: (2, b"mine|\0")}, ">"
    ),
    made(NORTH_UP_TAGS | keyed(UTM_POINTS), big=True),
]


@settings(quick, max_examples=400)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=8),
    st.none() | st.integers(0, 800),
    windows,
    zooms,
)
def test_bent_bytes_never_raise(tmp_path_factory, seed, changes, end, window, zoom):
    data = bytearray(seed)
    for at, value in changes:
        data[at] = value
    path = tmp_path_factory.getbasetemp() / "none.tif"
    place = located(io.BytesIO(bytes(data[:end])), Header("TIFF", *SIZE), path)
    if place is None:
        return
    Affine(*place.geo.transform)
    place.world(window, zoom)
    tags = place.tags(window, zoom)
    for compression in (None, "tiff_adobe_deflate"):
        written = io.BytesIO()
        Image.new("L", (8, 8)).save(
            written, "TIFF", compression=compression, tiffinfo=for_pillow(tags)
        )
        again = located(written, Header("TIFF", 8, 8), path)
        np.testing.assert_allclose(again.geo.transform, flat(place, window, zoom), rtol=1e-9)
        assert {tag: entry for tag, entry in again.keys.items() if tag != 34737} == {
            tag: entry for tag, entry in place.keys.items() if tag != 34737
        }


# As rasterio has it

UTM_AREA = "+proj=tmerc +lat_0=0 +lon_0=10 +k=0.9999 +x_0=500000 +y_0=0 +ellps=GRS80 +units=m"
WORLDS = {
    "north-up": ((0.5, 0.0, 366000.25, 0.0, -0.5, 5200000.75), "EPSG:32632"),
    "oblong": ((0.1, 0.0, 366000.25, 0.0, -0.3, 5200000.75), "EPSG:25832"),
    "rotated": ((0.3, 0.4, 366000.25, 0.4, -0.3, 5200000.75), "EPSG:32632"),
    "south-up": ((0.5, 0.0, 366000.25, 0.0, 0.5, 5200000.75), "EPSG:32632"),
    "mirrored": ((-0.5, 0.0, 366000.25, 0.0, -0.5, 5200000.75), "EPSG:32632"),
    "degrees": ((1e-5, 0.0, 8.123456789, 0.0, -1e-5, 47.987654321), "EPSG:4326"),
    "own": ((0.5, 0.0, 366000.25, 0.0, -0.5, 5200000.75), UTM_AREA),
    "none": ((0.5, 0.0, 366000.25, 0.0, -0.5, 5200000.75), None),
}


def gis():
    return pytest.importorskip("rasterio", reason="needs rasterio")


def moved(transform, window, zoom=(1, 1)):
    """A window's transform, by matrices: those of rasterio are no longer to be multiplied as its
    own windows do.
    """
    by = np.array([[1 / zoom[0], 0, window.x], [0, 1 / zoom[1], window.y], [0, 0, 1]])
    return (np.array([*tuple(transform)[:6], 0, 0, 1]).reshape(3, 3) @ by).ravel()[:6]


def by_rasterio(path, world, point, width=600, height=400, **options):
    rasterio = gis()
    transform, crs = WORLDS[world]
    profile = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": 1,
        "dtype": "uint8",
        "crs": crs,
    }
    with rasterio.open(
        path, "w", transform=rasterio.Affine(*transform), **profile, **options
    ) as file:
        if point:
            file.update_tags(AREA_OR_POINT="Point")
        file.write(np.zeros((1, height, width), np.uint8))
    return located_at(path)


def located_at(path):
    with open(path, "rb") as file:
        return located(file, probe(file), path)


@pytest.mark.parametrize("big", ["NO", "YES"])
@pytest.mark.parametrize("point", [False, True])
@pytest.mark.parametrize("world", WORLDS)
def test_it_lies_where_rasterio_says(lone, world, point, big):
    place = by_rasterio(lone, world, point, BIGTIFF=big)
    with gis().open(lone) as file:
        np.testing.assert_allclose(
            place.geo.transform, tuple(file.transform)[:6], rtol=1e-9, atol=1e-12
        )
        np.testing.assert_allclose(place.geo.transform, WORLDS[world][0], rtol=1e-9, atol=1e-12)
        code = file.crs.to_epsg() if file.crs and world != "own" else None
    assert place.geo.crs == (f"EPSG:{code}" if code else None)


@pytest.mark.parametrize("zoom", [(1.0, 1.0), (0.5, 0.5), (2.0, 1.5)])
@pytest.mark.parametrize("writer", ["pillow", "pillow deflate", "tifffile", "tifffile deflate"])
@pytest.mark.parametrize("point", [False, True])
@pytest.mark.parametrize("world", WORLDS)
def test_rasterio_finds_a_tile_where_its_window_is(tmp_path, world, point, writer, zoom):
    rasterio = gis()
    place = by_rasterio(tmp_path / "a.tif", world, point)
    window = Window(123, 77, 64, 48)
    size = round(window.width * zoom[0]), round(window.height * zoom[1])
    tags, tile = place.tags(window, zoom), tmp_path / "tile.tif"
    if writer.startswith("pillow"):
        compression = "tiff_adobe_deflate" if "deflate" in writer else None
        Image.new("RGB", size).save(tile, compression=compression, tiffinfo=for_pillow(tags))
    else:
        tifffile = pytest.importorskip("tifffile", reason="needs tifffile")
        compression = "zlib" if "deflate" in writer else None
        pixels = np.zeros((*size[::-1], 5), np.uint16)
        options = {
            "photometric": "minisblack",
            "planarconfig": "contig",
            "metadata": None,
            "compression": compression,
        }
        tifffile.imwrite(tile, pixels, extratags=for_tifffile(tags), **options)
    with rasterio.open(tmp_path / "a.tif") as source, rasterio.open(tile) as file:
        want = moved(source.transform, window, zoom)
        np.testing.assert_allclose(tuple(file.transform)[:6], want, rtol=1e-9, atol=1e-12)
        assert file.crs == source.crs
        assert file.tags().get("AREA_OR_POINT") == source.tags().get("AREA_OR_POINT")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])  # beside WebP it looks for none
@pytest.mark.parametrize("world", ["north-up", "rotated", "degrees"])
def test_rasterio_reads_a_tiles_world_file(tmp_path, world, suffix):
    rasterio = gis()
    place = by_rasterio(tmp_path / "a.tif", world, False)
    window, zoom = Window(123, 77, 64, 48), (0.5, 0.25)
    Image.new("RGB", (32, 12)).save(tmp_path / f"tile{suffix}")
    (tmp_path / "tile.wld").write_text(place.world(window, zoom))
    with (
        rasterio.open(tmp_path / "a.tif") as source,
        rasterio.open(tmp_path / f"tile{suffix}") as file,
    ):
        want = moved(source.transform, window, zoom)
        np.testing.assert_allclose(tuple(file.transform)[:6], want, rtol=1e-9, atol=1e-12)
    assert located_at(tmp_path / f"tile{suffix}").geo.crs is None


@pytest.mark.parametrize("world", ["north-up", "degrees", "own", "none"])
def test_a_world_file_and_a_prj_of_rasterios_become_tags(tmp_path, world):
    rasterio = gis()
    transform, crs = WORLDS[world]
    Image.new("L", (60, 40)).save(tmp_path / "a.png")
    (tmp_path / "a.wld").write_text(Located(Geo(transform)).world(Window(0, 0, 60, 40)))
    if crs:
        (tmp_path / "a.prj").write_text(rasterio.CRS.from_user_input(crs).to_wkt())
    place = located_at(tmp_path / "a.png")
    Image.new("L", (20, 20)).save(
        tmp_path / "tile.tif", tiffinfo=for_pillow(place.tags(Window(10, 10, 20, 20)))
    )
    with rasterio.open(tmp_path / "tile.tif") as file:
        want = moved(transform, Window(10, 10, 20, 20))
        np.testing.assert_allclose(tuple(file.transform)[:6], want, rtol=1e-9, atol=1e-12)
        assert (
            (f"EPSG:{file.crs.to_epsg()}" if file.crs else None)
            == place.geo.crs
            == (crs if re.match("EPSG", crs or "") else None)
        )


@pytest.mark.parametrize(
    "tags", [{34264: (12, MATRIX)}, NORTH_UP_TAGS, NORTH_UP_TAGS | {33550: (12, (0.5, -0.25, 0.0))}]
)
@pytest.mark.parametrize("directory", [UTM, UTM_POINTS, DEGREES])
@pytest.mark.parametrize("at", [(0.0, 0.0), (8.0, 4.0), (0.5, 0.5)])
@pytest.mark.filterwarnings("ignore")
def test_tags_by_hand_mean_to_rasterio_what_they_mean_here(lone, tags, directory, at):
    rasterio = gis()
    if 33922 in tags:
        tags = tags | {33922: (12, (*at, 0.0, 1000.0, 2000.0, 0.0))}
    lone.write_bytes(made(tags | keyed(directory)))
    with rasterio.open(lone) as file:
        np.testing.assert_allclose(
            located_at(lone).geo.transform, tuple(file.transform)[:6], rtol=1e-12
        )
        assert located_at(lone).geo.crs == f"EPSG:{file.crs.to_epsg()}"
