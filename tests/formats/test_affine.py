import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import numbers, quick
from tiler.errors import TilerError
from tiler.formats.affine import Affine, beside, candidates, world_file, world_text
from tiler.options.values import transform

NORTH_UP = Affine(0.5, 0, 1000, 0, -0.5, 2000)
LINES = ["0.5", "0", "0", "-0.5", "1000.25", "1999.75"]  # NORTH_UP as a world file

points = st.lists(st.tuples(numbers(-100, 100_000), numbers(-100, 100_000)), max_size=5).map(
    lambda p: np.array(p).reshape(-1, 2)
)


@st.composite
def affines(draw):
    """Turned, scaled, maybe mirrored: maps that images have."""
    x, y = draw(numbers(0.01, 50)), draw(numbers(0.01, 50)) * draw(st.sampled_from([1, -1]))
    angle = draw(st.one_of(st.just(0.0), numbers(0, 6.28)))
    c, s = math.cos(angle), math.sin(angle)
    return Affine(x * c, -y * s, draw(numbers(-1e6, 1e6)), x * s, y * c, draw(numbers(-1e6, 1e6)))


def by_matrix(affine, points):
    """An oracle: homogeneous coordinates."""
    matrix = np.array([[affine.a, affine.b, affine.c], [affine.d, affine.e, affine.f], [0, 0, 1]])
    return (matrix @ np.column_stack([points, np.ones(len(points))]).T).T[:, :2]


@quick
@given(affines(), points)
def test_points_go_where_the_matrix_takes_them(affine, places):
    found = affine.apply(places)
    assert found.shape == places.shape
    np.testing.assert_allclose(found, by_matrix(affine, places), rtol=1e-12, atol=1e-6)


@quick
@given(affines(), points)
def test_the_inverse_leads_back(affine, places):
    a, b, d, e, det = affine.a, affine.b, affine.d, affine.e, affine.determinant
    x, y = (affine.apply(places) - [affine.c, affine.f]).T
    np.testing.assert_allclose(
        np.column_stack([e * x - b * y, a * y - d * x]) / det, places, rtol=1e-9, atol=1e-5
    )


@quick
@given(affines())
def test_its_text_reads_back(affine):
    assert Affine.of(str(affine)) == affine
    assert Affine.of([affine.a, affine.b, affine.c, affine.d, affine.e, affine.f]) == affine


def test_any_number_of_axes_is_mapped():
    assert NORTH_UP.apply(np.zeros((2, 3, 2))).shape == (2, 3, 2)
    assert NORTH_UP.apply(np.empty((0, 2))).shape == (0, 2)


@quick
@given(
    affines(),
    points,
    st.tuples(numbers(-100, 100_000), numbers(-100, 100_000)),
    st.tuples(numbers(0.01, 16), numbers(0.01, 16)),
)
def test_a_point_of_a_tile_lies_where_it_lies_in_the_image(affine, places, origin, zoom):
    in_tile = (places - origin) * zoom
    np.testing.assert_allclose(
        affine.of_tile(*origin, zoom).apply(in_tile), affine.apply(places), rtol=1e-9, atol=1e-6
    )


def test_determinant_is_the_area_of_a_pixel():
    assert NORTH_UP.determinant == -0.25


@pytest.mark.parametrize(
    "given",
    [
        "",
        "1,2,3",
        "1,0,0,0,1,0,0",
        "1,0,0,0,x,0",
        "1,0,0,0,1,",
        "1;0;0;0;1;0",
        [1, 2],
        None,
        [None] * 6,
        5,
        [10**400] * 6,
    ],
)
def test_anything_but_six_numbers_is_an_error(given):
    with pytest.raises(TilerError, match="six numbers a,b,c,d,e,f, got"):
        Affine.of(given)


@pytest.mark.parametrize("given", ["nan,0,0,0,1,0", "1,0,inf,0,1,0", [1, 0, 0, 0, 1, -math.inf]])
def test_numbers_that_are_not_finite_are_an_error(given):
    with pytest.raises(TilerError, match="finite"):
        Affine.of(given)


@pytest.mark.parametrize(
    "given", ["0,0,0,0,0,0", "1,2,0,2,4,0", "0.1,0.2,5,0.15,0.3,5", "1,0,0,0,0,0"]
)
def test_a_map_that_is_not_invertible_is_an_error(given):
    with pytest.raises(TilerError, match="area"):
        Affine.of(given)


def test_a_very_small_pixel_is_a_pixel():
    assert Affine.of("1e-9,0,13.4,0,-1e-9,52.5").apply(np.array([[1e3, 0]])).tolist() == [
        [13.400001, 52.5]
    ]


# World files


@quick
@given(affines())
def test_a_world_file_says_where_the_centre_of_the_first_pixel_lies(tmp_path_factory, affine):
    file = tmp_path_factory.getbasetemp() / "any.tfw"
    (x, y), *_ = affine.apply(np.array([[0.5, 0.5]])).tolist()
    file.write_text(
        "".join(f"{float(v)!r}\n" for v in (affine.a, affine.d, affine.b, affine.e, x, y))
    )
    found = world_file(file)
    assert (found.a, found.b, found.d, found.e) == (affine.a, affine.b, affine.d, affine.e)
    np.testing.assert_allclose([found.c, found.f], [affine.c, affine.f], rtol=1e-12, atol=1e-8)


@quick
@given(affines())
def test_a_world_file_that_is_written_is_read_again(tmp_path_factory, affine):
    file = tmp_path_factory.getbasetemp() / "own.tfw"
    file.write_text(world_text(affine))
    found = world_file(file)
    assert (found.a, found.b, found.d, found.e) == (affine.a, affine.b, affine.d, affine.e)
    np.testing.assert_allclose([found.c, found.f], [affine.c, affine.f], rtol=1e-15, atol=1e-8)


def test_a_world_file_has_six_lines():
    assert [float(line) for line in world_text(NORTH_UP).splitlines()] == [
        float(line) for line in LINES
    ]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(LINES),
        "\r\n".join(LINES) + "\r\n",
        "\ufeff" + "\n".join(LINES),
        "  \n".join(LINES) + "\n\n\n",
    ],
)
def test_line_ends_blanks_and_a_mark_are_no_matter(tmp_path, text):
    (tmp_path / "a.tfw").write_bytes(text.encode())
    assert world_file(tmp_path / "a.tfw") == NORTH_UP


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], r"a\.tfw:1: a world file has six lines, got 0"),
        (LINES[:5], r"a\.tfw:6: a world file has six lines, got 5"),
        ([*LINES, "7"], r"a\.tfw:7: a world file has six lines, got '7' after them"),
        ([LINES[0], "zero", *LINES[2:]], r"a\.tfw:2: expected a number, got 'zero'"),
        (["0,5", *LINES[1:]], r"a\.tfw:1: expected a number, got '0,5'"),
        ([*LINES[:4], "nan", LINES[5]], r"a\.tfw:5: expected a finite number, got 'nan'"),
        (["0"] * 6, r"a\.tfw: an affine map gives pixels an area"),
    ],
)
def test_a_malformed_world_file_is_named_with_its_line(tmp_path, lines, expected):
    (tmp_path / "a.tfw").write_text("\n".join(lines))
    with pytest.raises(TilerError, match=expected):
        world_file(tmp_path / "a.tfw")


def test_a_binary_or_missing_world_file_is_named(tmp_path):
    (tmp_path / "a.tfw").write_bytes(b"0.5\n\xff\xfe\x80")
    with pytest.raises(TilerError, match=r"a\.tfw:2: not UTF-8"):
        world_file(tmp_path / "a.tfw")
    with pytest.raises(TilerError, match=r"b\.tfw: no such file"):
        world_file(tmp_path / "b.tfw")


@pytest.mark.parametrize(
    ("image", "world"),
    [
        ("a.jpg", "a.jpgw"),
        ("a.jpg", "a.jgw"),
        ("a.jpg", "a.wld"),
        ("a.jpg", "a.JGW"),
        ("a.tif", "a.tifw"),
        ("a.tif", "a.tfw"),
        ("a.tiff", "a.tfw"),
        ("a.png", "a.pngw"),
        ("a.png", "a.pgw"),
        ("a.TIF", "a.TFW"),
        ("a.TIF", "a.TFw"),
        ("a.TIF", "a.tfw"),
        ("a.TIF", "a.WLD"),
        ("a.Tif", "a.Tfw"),
        ("a.b.tif", "a.b.tfw"),
        ("ä ß.png", "ä ß.pgw"),
        ("bare", "bare.wld"),
    ],
)
def test_the_world_file_beside_an_image_is_found(tmp_path, image, world):
    (tmp_path / world).write_text("\n".join(LINES))
    assert beside(tmp_path / image) == NORTH_UP


@pytest.mark.parametrize("other", ["b.tfw", "a.tif", "a.jgw", "a.tif.aux.xml", "a.tfw.bak"])
def test_other_files_beside_it_are_not_its_world_file(tmp_path, other):
    (tmp_path / other).write_text("\n".join(LINES))
    assert beside(tmp_path / "a.tif") is None


def test_the_first_kind_that_is_there_counts(tmp_path):
    (tmp_path / "a.wld").write_text("\n".join(["9", *LINES[1:]]))
    (tmp_path / "a.tfw").write_text("\n".join(LINES))
    assert beside(tmp_path / "a.tif") == NORTH_UP


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs fifos")
def test_a_folder_or_a_pipe_of_that_name_is_no_world_file(tmp_path):
    (tmp_path / "a.tfw").mkdir()
    os.mkfifo(tmp_path / "a.wld")
    assert beside(tmp_path / "a.tif") is None


def test_an_image_with_the_longest_name_has_none(tmp_path):
    assert beside(tmp_path / ("a" * 251 + ".png")) is None


def test_a_malformed_one_is_not_passed_over(tmp_path):
    (tmp_path / "a.tifw").write_text("oops")
    (tmp_path / "a.wld").write_text("\n".join(LINES))
    with pytest.raises(TilerError, match=r"a\.tifw:1"):
        beside(tmp_path / "a.tif")


@quick
@given(st.text("abcABC", min_size=1, max_size=4), st.text("jpgtifJPGTIF", max_size=5))
def test_candidates_lie_beside_the_image_and_are_named_once(stem, suffix):
    image = Path("folder", stem + (f".{suffix}" if suffix else ""))
    found = candidates(image)
    assert len(set(found)) == len(found)
    assert image not in found
    assert {p.parent for p in found} == {image.parent}
    assert {p.stem for p in found} == {stem}


def test_the_transform_of_rasterio_is_taken_as_it_is():
    """A tuple of nine, or of six; and of affine from 3.0 on an object that is none."""
    six = (0.5, 0.0, 1000.0, 0.0, -0.5, 2000.0)
    known = Affine(*six)
    assert Affine.of((*six, 0.0, 0.0, 1.0)) == Affine.of(iter(six)) == known
    assert Affine.of(transform((*six, 0.0, 0.0, 1.0))) == known
    with pytest.raises(TilerError, match="six numbers"):
        Affine.of((*six, 0.0, 0.0, 2.0))
    theirs = pytest.importorskip("affine").Affine(*six)
    assert Affine.of(theirs) == Affine.of(transform(theirs)) == known
