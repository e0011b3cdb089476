"""Features of a GIS file in pixels of images: against pyproj, shapely and rasterio."""

import random

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.gis import feature, geojson, write
from tests.strategies import quick
from tiler.errors import TilerError
from tiler.formats import annotated, map_labels, vectors
from tiler.formats.affine import Affine
from tiler.formats.manifest import Geo
from tiler.formats.map_labels import MapImage
from tiler.formats.vectors import VectorLayer

if vectors.missing():
    pytest.skip("the extra `gis` is not installed", allow_module_level=True)

UTM = "EPSG:32633"
SIZE = (400, 300)
NORTH_UP = (0.1, 0.0, 400000.0, 0.0, -0.1, 5000000.0)
TURNED = (0.08, 0.05, 400000.0, 0.045, -0.07, 5000000.0)  # and sheared
IN_DEGREES = (1e-6, 0.0, 13.5, 0.0, -1e-6, 52.5)
OUTLINES = [
    np.array([[10.25, 20.5], [50, 20.5], [50, 61.125], [10.25, 61.125]]),
    np.array([[100, 100], [160, 130], [150, 150], [90, 120.0]]),
    np.array([[390, 290], [420, 280], [410, 330.5]]),  # reaches out
    np.array([[200, 10], [300, 15], [250, 90], [240, 40], [210, 80.0]]),
]


def image(transform=NORTH_UP, crs=UTM, name="a.tif", size=SIZE):
    return MapImage(name, size, Geo(transform, crs))


def on_the_map(outline, transform, crs, to):
    """An outline in pixels, as pyproj has it in another system."""
    from pyproj import Transformer

    a, b, c, d, e, f = transform
    x = a * outline[:, 0] + b * outline[:, 1] + c
    y = d * outline[:, 0] + e * outline[:, 1] + f
    return np.stack(Transformer.from_crs(crs, to, always_xy=True).transform(x, y), axis=1)


def polygon(outline=OUTLINES[0], transform=NORTH_UP, crs=UTM, to=UTM):
    return shapely.Polygon(on_the_map(outline, transform, crs, to))


def points_of(annotation):
    return np.array(annotation.segmentation[0]).reshape(-1, 2)


def same_ring(found, expected):
    """The largest difference of two rings in px, whatever their start and direction."""
    if len(found) != len(expected):
        return np.inf
    apart = []
    for ring in (expected, expected[::-1]):
        apart += [np.abs(np.roll(ring, k, axis=0) - found).max() for k in range(len(ring))]
    return min(apart)


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.geojson"])
@pytest.mark.parametrize("to", [UTM, "EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize(
    ("transform", "crs"), [(NORTH_UP, UTM), (TURNED, UTM), (IN_DEGREES, "EPSG:4326")]
)
def test_outlines_come_back_to_a_millionth_of_a_pixel(tmp_path, name, to, transform, crs):
    if name.endswith("json") and to != "EPSG:4326":
        return
    shapes = [polygon(outline, transform, crs, to) for outline in OUTLINES]
    path = tmp_path / name
    if name.endswith("json"):
        rings = [shapely.get_coordinates(shape).tolist() for shape in shapes]
        geojson(path, [feature([ring], c="oak") for ring in rings])
    else:
        write(path, shapes, to, c=["oak"] * 4)
    labels = map_labels.read(path, [image(transform, crs)], "c")
    assert (labels.findings, labels.images[0].findings) == ([], [])
    annotations = labels.images[0].annotations
    assert [(a.index, a.category_id, a.bbox) for a in annotations] == [
        (k, "oak", None) for k in range(4)
    ]
    for annotation, outline in zip(annotations, OUTLINES, strict=True):
        assert same_ring(points_of(annotation), outline) < 1e-6


@quick
@given(
    st.floats(-3, 3),
    st.floats(1e-3, 100),
    st.floats(-0.9, 0.9),
    st.lists(st.tuples(st.floats(5, 390), st.floats(5, 290), st.floats(0.5, 5)), min_size=1),
)
def test_any_map_is_inverted_and_images_do_not_depend_on_each_other(turn, pixel, shear, places):
    cos, sin = pixel * np.cos(turn), pixel * np.sin(turn)
    transform = (cos, shear * cos - sin, 4e5, sin, shear * sin + cos, 5e6)
    boxes = [shapely.box(x, y, x + side, y + side) for x, y, side in places]
    shapes = shapely.transform(np.array(boxes), Affine(*transform).apply)
    fids = np.arange(len(shapes))
    layer = VectorLayer("a.gpkg", "a", UTM, shapes, fids, ["a"] * len(shapes))
    images = [image(transform), image((pixel, 0, 4e5, 0, -pixel, 5e6), name="b.tif")]
    labels = map_labels.placed(layer, images)
    assert map_labels.placed(layer, images[::-1]).images == labels.images[::-1]
    annotations = labels.images[0].annotations
    assert [a.index for a in annotations] == fids.tolist()
    for annotation, box in zip(annotations, boxes, strict=True):
        expected = shapely.get_coordinates(box)[:-1]
        assert same_ring(points_of(annotation), expected) < 2e-9 / pixel + 1e-6


def test_a_geotiff_is_where_rasterio_says(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="the extra `big` is not installed")
    from rasterio.transform import Affine as Map

    from tiler.images import geo
    from tiler.images.header import probe

    path = tmp_path / "a.tif"
    options = {"width": 400, "height": 300, "count": 1, "dtype": "uint8", "driver": "GTiff"}
    with rasterio.open(path, "w", crs=UTM, transform=Map(*TURNED), **options) as data:
        data.write(np.zeros((1, 300, 400), np.uint8))
        corners = [data.xy(r, c, offset="ul") for c, r in ((20, 30), (60, 30), (60, 80), (20, 80))]
    with path.open("rb") as file:
        located = geo.located(file, probe(file), path)
    labels_path = write(tmp_path / "a.gpkg", [shapely.Polygon(corners)], UTM)
    labels = map_labels.read(labels_path, [MapImage("a.tif", SIZE, located.geo)])
    expected = np.array([[20, 30], [60, 30], [60, 80], [20, 80.0]])
    assert same_ring(points_of(labels.images[0].annotations[0]), expected) < 1e-6


def test_each_image_gets_what_shows_in_it(tmp_path):
    """In two systems, against shapely's intersection of every outline with every image."""
    random_ = np.random.default_rng(0)
    images = []
    for k in range(12):
        column, row = k % 4, k // 4
        transform = (0.1, 0, 400000.0 + 38 * column, 0, -0.1, 5000000.0 - 28 * row)
        images.append(image(transform, name=f"{k}.tif"))
    images.append(image(IN_DEGREES, "EPSG:4326", "far.tif"))
    centres = random_.uniform([399990, 4999900], [400170, 5000010], (500, 2))
    shapes = [shapely.Point(centre).buffer(random_.uniform(0.3, 4)) for centre in centres]
    shapes.append(polygon(OUTLINES[1], IN_DEGREES, "EPSG:4326"))
    shapes.append(shapely.box(400000, 4999960, 400040, 4999970))  # touches the first at its side
    path = write(tmp_path / "a.gpkg", shapes, UTM)
    labels = map_labels.read(path, images)
    met = set()
    for one, found in zip(images[:-1], labels.images, strict=False):
        area = shapely.Polygon(Affine(*one.geo.transform).apply(frame()))
        shown = [k for k, shape in enumerate(shapes) if shape.intersection(area).area > 1e-5]
        assert [a.index for a in found.annotations] == shown
        assert [a.id for a in found.annotations] == [k + 1 for k in shown]
        met |= set(shown)
    assert [a.index for a in labels.images[-1].annotations] == [500]
    outside = len(shapes) - 1 - len(met)
    (finding,) = labels.findings
    assert finding.code == "G01"
    assert finding.message.startswith(f"{outside} of {len(shapes)} features lie in no image")


def frame():
    width, height = SIZE
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], float)


def test_holes_and_parts_are_kept(tmp_path):
    outer = shapely.box(400001, 4999980, 400011, 4999990)
    shape = outer.difference(shapely.box(400003, 4999982, 400005, 4999985))
    many = shapely.MultiPolygon([shape, shapely.box(400020, 4999980, 400021, 4999981)])
    path = write(tmp_path / "a.gpkg", [shape, many], UTM)
    found = map_labels.read(path, [image()]).images[0]
    for annotation, area in zip(found.annotations, (100 - 6, 100 - 6 + 1), strict=True):
        rings = annotated.outline(annotation.segmentation)
        assert shapely.area(rings.geometry()) == pytest.approx([area * 100])


def test_points_are_rejected_or_become_boxes(tmp_path):
    points = [shapely.Point(400010, 4999990), shapely.MultiPoint([(399999.9, 4999990)])]
    path = write(tmp_path / "a.geojson", points, UTM)
    with pytest.raises(TilerError, match="all 2 features are points.*--point-size PX"):
        map_labels.read(path, [image()])
    found = map_labels.read(path, [image()], point_size=8).images[0]
    boxes = np.array([annotation.bbox for annotation in found.annotations])
    assert np.abs(boxes - [[96, 96, 8, 8], [-5, 96, 8, 8]]).max() < 0.1  # GDAL rounds GeoJSON
    with pytest.raises(TilerError, match="no feature lies in any image"):
        write(tmp_path / "b.gpkg", [shapely.Point(399999.5, 4999990)], UTM)
        map_labels.read(tmp_path / "b.gpkg", [image()], point_size=8)


def test_what_cannot_be_an_object_is_named(tmp_path):
    place = shapely.box(400001, 4999980, 400011, 4999990)
    bow_tie = shapely.Polygon(
        [(400001, 4999981), (400002, 4999982), (400002, 4999981), (400001, 4999982)]
    )
    shapes = [
        place,
        shapely.Point(400010, 4999990),
        shapely.LineString([(400001, 4999990), (400009, 4999980)]),
        shapely.GeometryCollection([place, shapely.Point(400010, 4999990)]),
        place,
        bow_tie,
        None,
        shapely.Polygon(),
        shapely.MultiPoint([(400001, 4999990), (400002, 4999990)]),
    ]  # fmt: skip
    path = write(tmp_path / "a.gpkg", shapes, UTM, c=["oak"] * 4 + [None] + ["elm"] * 4)
    labels = map_labels.read(path, [image()], "c", point_size=4)
    (found,) = labels.images
    assert [a.index for a in found.annotations] == [0, 1, 5]
    assert [str(finding) for finding in found.findings] == [
        "a.gpkg: L03 feature 3: geometry is a LineString, expected a polygon",
        "a.gpkg: L03 feature 4: geometry is a GeometryCollection, expected a polygon",
        "a.gpkg: L04 feature 5: no class: its field is empty",
        "a.gpkg: L09 feature 6: its outline crosses or touches itself; read by the even-odd rule",
        "a.gpkg: L03 feature 9: a MultiPoint of 2 points, expected one",
    ]
    assert [str(finding) for finding in labels.findings] == [
        "a.gpkg: L06 2 of 9 features have no geometry that can be read: feature 7, 8"
    ]
    nothing = write(tmp_path / "b.gpkg", [None, shapely.Polygon()], UTM)
    with pytest.raises(TilerError, match="no feature has a geometry that can be read"):
        map_labels.read(nothing, [image()])
    rejected = map_labels.read(path, [image()], "c").images[0].findings[0]
    assert str(rejected) == "a.gpkg: L03 feature 2: a point; --point-size PX makes a box of it"


def test_images_without_a_place_are_no_background(tmp_path):
    path = write(tmp_path / "a.gpkg", [polygon()], UTM)
    images = [MapImage("b.tif", SIZE, None), image(crs=None, name="c.tif"), image()]
    images.append(image(crs="EPSG:32600", name="d.tif"))
    labels = map_labels.read(path, images)
    assert [(found.file_name, found.doubt) for found in labels.images] == [
        ("b.tif", "has no place on the map (GeoTIFF tags or a world file)"),
        ("c.tif", "is in a reference system without an EPSG code"),
        ("a.tif", ""),
        ("d.tif", "is in EPSG:32600, which PROJ cannot place"),
    ]
    assert [len(found.annotations) for found in labels.images] == [0, 0, 1, 0]
    assert labels.findings == []
    with pytest.raises(TilerError, match="no image has a known place on the map: b.tif: has no"):
        map_labels.read(path, images[:2])
    with pytest.raises(TilerError, match="no image"):
        map_labels.read(path, [])


def test_an_image_outside_the_area_of_all_features_is_no_background(tmp_path):
    far = shapely.box(400100, 4999900, 400101, 4999901)
    path = write(tmp_path / "a.gpkg", [polygon(), far], UTM)
    between = image((0.1, 0, 400050.0, 0, -0.1, 4999950.0), name="b.tif")  # empty, as it seems
    beyond = image((0.1, 0, 400102.0, 0, -0.1, 4999950.0), name="c.tif")
    found = map_labels.read(path, [image(), between, beyond]).images
    assert [(len(one.annotations), one.doubt) for one in found] == [
        (1, ""),
        (0, ""),
        (0, "lies outside the area of all features of a.gpkg"),
    ]


def test_swapped_axes_are_suspected(tmp_path):
    ring = on_the_map(OUTLINES[0], NORTH_UP, UTM, "EPSG:4326")
    path = geojson(tmp_path / "a.geojson", [feature([ring[:, ::-1].tolist()])])
    message = (
        r"no feature lies in any image: the features are in EPSG:4326 at x 45\.\S+ to 45\.\S+, "
        r"y 13\.\S+ to 13\.\S+; the images are in EPSG:32633 at x 400000 to 400040, "
        r"y 4999970 to 5000000, which is x 13\.\S+ to 13\.\S+, y 45\.\S+ to 45\.\S+ in EPSG:4326; "
        r"x and y of the features seem to be swapped"
    )
    with pytest.raises(TilerError, match=message):
        map_labels.read(path, [image()])
    path = geojson(tmp_path / "b.geojson", [feature([(ring + 1).tolist()])])
    with pytest.raises(TilerError, match="in EPSG:4326$"):
        map_labels.read(path, [image()])


def test_metres_called_degrees_are_in_no_image(tmp_path):
    outline = on_the_map(OUTLINES[0], NORTH_UP, UTM, UTM)
    path = geojson(tmp_path / "a.geojson", [feature([outline.tolist()])])
    with pytest.raises(TilerError, match=r"EPSG:4326 at x 400001"):
        map_labels.read(path, [image()])


def test_datums_without_an_exact_way_are_an_error_or_named(tmp_path):
    path = write(tmp_path / "a.gpkg", [polygon()], UTM)
    with pytest.raises(TilerError, match="no transformation from EPSG:32633 to EPSG:"):
        map_labels.read(path, [image(crs="EPSG:20248")])  # AGD66: only a guess
    britain = (0.1, 0.0, 472100.0, 0.0, -0.1, 239600.0)
    shape = polygon(OUTLINES[0], britain, "EPSG:27700", "EPSG:4326")
    path = write(tmp_path / "b.gpkg", [shape], "EPSG:4326")
    (finding,) = map_labels.read(path, [image(britain, "EPSG:27700")]).findings
    assert finding.code == "G02"
    assert "to EPSG:27700 within 2 m (20 px) only, as PROJ lacks" in finding.message
    coarse = (10.0, 0.0, 472100.0, 0.0, -10.0, 239600.0)
    assert map_labels.read(path, [image(coarse, "EPSG:27700")]).findings == []


def test_long_edges_follow_their_curve(tmp_path):
    """A field of 100 km by 100 km in degrees, on pixels of 10 m; pyproj projects its edges."""
    from pyproj import Transformer

    transform = (10.0, 0.0, 400000.0, 0.0, -10.0, 5900000.0)
    field = shapely.box(14.0, 52.0, 15.4, 52.9)
    path = geojson(tmp_path / "a.geojson", [feature([shapely.get_coordinates(field).tolist()])])
    one = image(transform, size=(12000, 12000))
    found = map_labels.read(path, [one]).images[0].annotations[0]
    many = shapely.get_coordinates(field.segmentize(0.0005))
    x, y = Transformer.from_crs("EPSG:4326", UTM, always_xy=True).transform(*many.T)
    exact = shapely.Polygon(Affine(*transform).pixels(np.stack([x, y], axis=1)))
    ours = shapely.Polygon(points_of(found))
    assert ours.hausdorff_distance(exact) < 0.2
    assert len(points_of(found)) < 200
    corners = shapely.get_coordinates(field)[:4]
    x, y = Transformer.from_crs("EPSG:4326", UTM, always_xy=True).transform(*corners.T)
    straight = shapely.Polygon(Affine(*transform).pixels(np.stack([x, y], axis=1)))
    assert straight.hausdorff_distance(exact) > 20


def test_without_a_field_the_layer_is_the_class_and_it_is_said(tmp_path):
    path = write(tmp_path / "trees.gpkg", [polygon()], UTM, species=["oak"], age=[3])
    labels = map_labels.read(path, [image()])
    assert labels.images[0].annotations[0].category_id == "trees"
    assert labels.said == (
        "1 features of layer trees in trees.gpkg: one class, trees "
        "(--class-field takes one of: species, age)"
    )
    assert map_labels.read(path, [image()], "species").said.endswith(": 1 classes")


def test_merged_geojson_goes_in_again(tmp_path):
    """The `crs` member that tiler merge writes."""
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    ring = on_the_map(OUTLINES[1], NORTH_UP, UTM, UTM).tolist()
    path = geojson(tmp_path / "a.geojson", [feature([ring], name="oak")], crs=crs)
    found = map_labels.read(path, [image()], "name").images[0].annotations
    assert same_ring(points_of(found[0]), OUTLINES[1]) < 1e-6


def test_mutated_files_raise_our_errors_only(tmp_path):
    chance = random.Random(0)
    rings = [on_the_map(outline, NORTH_UP, UTM, "EPSG:4326").tolist() for outline in OUTLINES]
    features = [feature([ring], c="oak") for ring in rings]
    features += [feature([[rings[0]], [rings[1], rings[3]]], "MultiPolygon", c=None)]
    features += [feature(rings[0][0], "Point"), feature(rings[1], "LineString")]
    text = geojson(tmp_path / "a.geojson", features).read_text()
    numbers = ["1e308", "-1e308", "0", "91", "13.5", "NaN", "Infinity", "null", "[]", "1e-320"]
    outcomes = set()
    for i in range(1000):
        words = text.split(" ")
        for _ in range(chance.randrange(1, 6)):
            words[chance.randrange(len(words))] = chance.choice(numbers) + chance.choice("],,,,")
        path = tmp_path / f"{i}.geojson"
        path.write_text(" ".join(words))
        try:
            labels = map_labels.read(path, [image()], point_size=chance.choice([None, 4]))
            for annotation in labels.images[0].annotations:
                values = annotation.bbox or np.concatenate(annotation.segmentation)
                assert np.isfinite(values).all()
            outcomes.add("read")
        except TilerError as error:
            assert path.name in str(error)
            outcomes.add("rejected")
        path.unlink()
    assert outcomes == {"read", "rejected"}
