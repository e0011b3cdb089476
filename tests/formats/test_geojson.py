"""GeoJSON of areas: what is read, and that all else is one line of error."""

import json
import random

import numpy as np
import pytest
import shapely

from tiler.errors import TilerError
from tiler.formats.geojson import crs_name, read

SQUARE = [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]]
OTHER = [[[9, 9, 100], [12, 9, 100], [12, 12, 100]]]  # with heights, and not closed
POLYGON = {"type": "Polygon", "coordinates": SQUARE}
MULTI = {"type": "MultiPolygon", "coordinates": [SQUARE, OTHER]}


def feature(geometry, **properties):
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def collection(*features, **more):
    return {"type": "FeatureCollection", "features": list(features), **more}


def crs(name):
    return {"crs": {"type": "name", "properties": {"name": name}}}


def found(content):
    return read(json.dumps(content).encode(), "a.geojson")


@pytest.mark.parametrize(
    ("content", "areas", "images"),
    [
        (POLYGON, [16], [""]),
        (MULTI, [16, 4.5], ["", ""]),
        (feature(POLYGON), [16], [""]),
        (feature(MULTI, image="a.jpg", other={"x": [1]}), [16, 4.5], ["a.jpg", "a.jpg"]),
        (collection(feature(POLYGON, file_name="b"), feature(MULTI, image=None)), [16, 16, 4.5],
         ["b", "", ""]),
        ({"type": "Feature", "properties": None, "geometry": POLYGON}, [16], [""]),
        ({"type": "Feature", "geometry": POLYGON, "id": 7, "bbox": [0]}, [16], [""]),
        (feature(POLYGON, image="a", file_name="a"), [16], ["a"]),
    ],
)  # fmt: skip
def test_areas_and_the_images_they_are_for(content, areas, images):
    result = found(content)
    assert shapely.area(result.areas).tolist() == areas
    assert list(result.images) == images
    assert result.crs == ""


def test_holes_are_holes_and_a_byte_order_mark_is_none():
    hole = [[1, 1], [3, 1], [3, 3], [1, 3], [1, 1]]
    data = json.dumps({"type": "Polygon", "coordinates": [*SQUARE, hole]}).encode()
    result = read(b"\xef\xbb\xbf" + data, "a")
    assert shapely.area(result.areas).tolist() == [12]
    assert result.bounds.tolist() == [0, 0, 4, 4]


def test_the_reference_system_may_be_named_anywhere_but_once():
    named = "urn:ogc:def:crs:EPSG::32632"
    assert found(collection(feature(POLYGON), **crs(named))).crs == "EPSG:32632"
    assert found({**POLYGON, **crs("EPSG:32632")}).crs == "EPSG:32632"
    assert found(collection(feature({**POLYGON, **crs(named)}), **crs(named))).crs == "EPSG:32632"
    assert found(collection(feature(POLYGON), crs=None)).crs == ""
    with pytest.raises(TilerError, match="one reference system, got EPSG:1234, EPSG:32632"):
        found(collection(feature({**POLYGON, **crs("EPSG:1234")}), **crs(named)))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("epsg:4326", "EPSG:4326"),
        ("EPSG:04326", "EPSG:4326"),
        ("urn:ogc:def:crs:EPSG:9.8:25832", "EPSG:25832"),
        ("http://www.opengis.net/def/crs/EPSG/0/25832", "EPSG:25832"),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326"),
        ("pixels", "pixels"),
        ("EPSG:" + "9" * 5000, ("EPSG:" + "9" * 5000)[:100]),
    ],
)
def test_names_of_a_reference_system(name, short):
    assert crs_name(name) == short


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "Expected `object`"),
        ({}, "missing required field `type`"),
        ({"type": "Point", "coordinates": [1, 2]}, "Invalid value 'Point'"),
        (collection(), "length >= 1"),
        (collection(feature(None)), r"got `null` - at `\$.features\[0\].geometry`"),
        (collection(feature(POLYGON), feature({"type": "LineString", "coordinates": []})),
         r"'LineString' - at `\$.features\[1\].geometry.type`"),
        ({"type": "Polygon", "coordinates": []}, "length >= 1"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}, "2 points, expected"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2]]]}, "polygon 0 of 1 has no"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2]]]}, "length >= 2"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, "3"]]]}, "got `str`"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, True]]]}, "got `bool`"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 1e30]]]}, "coordinate of 1e"),
        (feature(POLYGON, image=5), r"`\$.properties.image`"),
        (feature(POLYGON, image="a", file_name="b"), "name two images"),
        ({**POLYGON, "crs": {"type": "link", "properties": {"href": "x"}}}, "field `name`"),
    ],
)  # fmt: skip
def test_what_is_no_area_is_refused_with_its_place(content, message):
    with pytest.raises(TilerError, match=message) as error:
        found(content)
    assert str(error.value).startswith("a.geojson: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"NaN", b"[" * 100_000, b'{"type":' * 50_000])
def test_what_is_no_json_is_refused(data):
    with pytest.raises(TilerError):
        read(data, "a")


def test_numbers_that_are_none_are_refused():
    for number in ("NaN", "Infinity", "1e999", "9" * 400):
        text = f'{{"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, {number}]]]}}'
        with pytest.raises(TilerError):
            read(text.encode(), "a")


SEED = json.dumps(
    collection(feature(MULTI, image="a.jpg"), feature(POLYGON), **crs("EPSG:32632"))
).encode()
PIECES = [b"null", b"[", b"]", b"{", b"}", b",", b"1e308", b"-1e308", b"0", b'"', b"Polygon"]
PIECES += [b"Feature", b"\xff", b"\\u0000", b"1e999", b":"]


def test_broken_files_give_areas_or_one_line_of_error():
    rng = random.Random(0)
    read_well = 0
    for _ in range(4000):
        data = SEED
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            data = data[:at] + rng.choice(PIECES) + data[at + rng.randint(0, 6) :]
        try:
            result = read(data, "a")
        except TilerError as error:
            assert "\n" not in str(error)
        else:
            read_well += 1
            assert len(result.areas) == len(result.images) > 0
            assert np.isfinite(result.bounds).all()
    assert read_well > 50
