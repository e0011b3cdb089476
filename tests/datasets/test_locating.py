import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import picture
from tests.strategies import quick
from tiler.datasets.locating import Locator, NotLocated, parts_of

KEYS = ["images/train/a.png", "images/val/b.png", "images/val/deep/c d.png", "top.png"]
folder_names = st.sampled_from(["data", "me", "set 1", "x.y", "Documents and Settings"])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("located")
    for number, key in enumerate(KEYS):
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        picture(40 + number, 30).save(root / key)
    return root


@quick
@given(
    st.sampled_from(KEYS),
    st.lists(folder_names, max_size=3),
    st.sampled_from(["", "/", "C:/", "D:\\", "..\\", "../../", "./", "https://host/"]),
    st.booleans(),
    st.integers(0, 3),
    st.booleans(),
)
def test_an_image_is_found_by_any_end_of_its_path(root, key, before, start, windows, cut, upper):
    parts = key.split("/")
    parts = parts[min(cut, len(parts) - 1) :]
    name = start + "/".join([*before, *parts])
    if windows:
        name = name.replace("/", "\\")
    if upper:
        name = name.upper()
    assert Locator(root).locate(name).key == key


@quick
@given(st.sampled_from(KEYS), st.sampled_from(["", "images", "images/val"]))
def test_a_path_as_it_is_needs_no_word(root, key, near):
    located = Locator(root).locate(key, near=[near])
    assert (located.key, located.as_named) == (key, True)
    inside = key.removeprefix(f"{near}/")
    assert Locator(root).locate(inside, near=[near]).key == key


def test_a_full_path_under_the_root(root):
    located = Locator(root).locate(str(root / "images/val/b.png"))
    assert (located.key, located.as_named) == ("images/val/b.png", True)


def test_a_root_that_is_a_link(root, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(root)
    for path in (root / "top.png", link / "top.png"):
        assert Locator(link).locate(str(path)).key == "top.png"


def test_the_size_must_agree_unless_the_path_is_as_named(root):
    locator = Locator(root)
    assert locator.locate("top.png", (1, 1)).key == "top.png"
    assert locator.locate("/far/top.png", (43, 30)).key == "top.png"
    assert locator.locate("/far/top.png", (30, 43)).key == "top.png"  # turned by EXIF, perhaps
    with pytest.raises(NotLocated, match=r"top.png has 43 x 30 px, not 1 x 1"):
        locator.locate("/far/top.png", (1, 1))


@pytest.mark.parametrize("name", ["", ".", "/", "..", "a\0b.png", "none.png", "../none.png"])
def test_no_such_image(root, name):
    with pytest.raises(NotLocated):
        Locator(root).locate(name)


def test_nothing_outside_the_root_is_ever_named(root, tmp_path):
    picture(40, 30).save(tmp_path / "secret.png")
    up = os.path.relpath(tmp_path / "secret.png", root)
    for name in (str(tmp_path / "secret.png"), up, f"images/../{up}"):
        with pytest.raises(NotLocated):
            Locator(root).locate(name)


def test_several_images_have_the_same_right(tmp_path):
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
        picture(40, 30).save(tmp_path / name / "x.png")
    with pytest.raises(NotLocated, match=r"a/x.png, b/x.png, c/x.png and 1 more"):
        Locator(tmp_path).locate("/far/x.png")
    assert Locator(tmp_path).locate("/far/C/x.png").key == "c/x.png"
    with pytest.raises(NotLocated, match="several images could be x"):
        Locator(tmp_path).by_stem("x")
    assert Locator(tmp_path).by_stem("x", ["none", "b", "c"]).key == "b/x.png"
    with pytest.raises(NotLocated, match=r"no image y\.\*"):
        Locator(tmp_path).by_stem("y")


@given(st.text("ab./\\:C", max_size=12))
def test_parts_are_plain_names(name):
    parts = parts_of(name)
    assert not any(part in ("", ".") or "/" in part or "\\" in part for part in parts)
    assert ".." not in parts or parts[0] == ".."
