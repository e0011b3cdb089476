import json
import os
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.datasets import coco_sets, dataset, image_files, yolo_sets
from tiler.datasets.opening import find
from tiler.errors import SourceRefused, TilerError
from tiler.findings import CODES

ROW = "0 .5 .5 .1 .1\n"


class Folder:
    """A dataset's folder; nothing here opens an image, so its content is no matter."""

    def __init__(self, root):
        self.root = root

    def add(self, *names, content="x"):
        for name in names:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(content)
        return self

    def find(self, splits="train: images\nval: images\n"):
        (self.root / "dataset.yaml").write_text(splits + "names: [car]\n")
        return find(self.root / "dataset.yaml", None)

    def keys(self, splits="train: images\nval: images\n", split="train"):
        return [s.key for s in self.find(splits).sources if s.split == split]

    def said(self, splits="train: images\nval: images\n"):
        return [str(f) for f in self.find(splits).findings]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    (tmp_path / "data").mkdir()
    return Folder(tmp_path / "data")


# Label paths

parts = st.lists(
    st.sampled_from(["images", "labels", "train", "a.b", "x y", "Images", "images.d", "data"]),
    max_size=6,
)


@given(
    parts,
    st.sampled_from(
        ["a.jpg", "a.b.JPG", "images.png", "a.tar.tif", "-.png", "..x.png", "日本.webp"]
    ),
    st.booleans(),
)
def test_the_label_path_is_the_trainers(folders, name, absolute):
    path = "/" * absolute + "/".join([*folders, name])
    theirs = "/labels/".join(path.rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"
    assert dataset.label_path(path) == theirs


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/d/images/train/a.jpg", "/d/labels/train/a.txt"),
        ("/d/images/images/a.jpg", "/d/images/labels/a.txt"),
        ("/images/d/a.jpg", "/labels/d/a.txt"),
        ("/d/photos/a.jpg", "/d/photos/a.txt"),
        ("images/train/a.jpg", "images/train/a.txt"),
        ("/d/Images/a.jpg", "/d/Images/a.txt"),
        ("/d/images/images.jpg", "/d/labels/images.txt"),
        ("/d/images/labels/a.jpg", "/d/labels/labels/a.txt"),
        ("/d/images/x\ny.jpg", "/d/labels/x\ny.txt"),
    ],
)
def test_label_paths(path, label):
    assert dataset.label_path(path) == label


# Stems

SPECIAL = ["a", "A", "é", "e\u0301", "straße", "STRASSE", "a__s50", "a__S50", "x-png", "n" * 251]
names = st.one_of(st.text("aAbBéßſKk_-. 0\u0301", min_size=1, max_size=5), st.sampled_from(SPECIAL))
keys = st.builds(
    lambda folders, name, suffix: "/".join([*folders, name + suffix]),
    st.lists(st.sampled_from(["a", "A", "images", "b-a", "é", "e\u0301"]), max_size=3),
    names,
    st.sampled_from([".jpg", ".JPG", ".png", ".jpeg"]),
)


def plain(stem):
    return re.sub(r"__s\d+$", "", unicodedata.normalize("NFC", stem).casefold())


@quick
@given(st.lists(keys, max_size=12, unique=True))
def test_no_two_images_have_one_stem_on_any_file_system(keys):
    stems = dataset.stems_of(keys)
    assert list(stems) == keys
    assert len({plain(stem) for stem in stems.values()}) == len(keys)
    assert all(stem and "/" not in stem for stem in stems.values())
    assert all(len(stem.encode()) <= dataset.LONGEST_STEM for stem in stems.values())


@quick
@given(st.lists(keys, max_size=12, unique=True), st.randoms())
def test_stems_do_not_depend_on_the_order(keys, random):
    shuffled = random.sample(keys, len(keys))
    assert dataset.stems_of(shuffled) == dataset.stems_of(keys)


@quick
@given(st.lists(keys, min_size=1, max_size=8, unique=True))
def test_a_stem_of_its_own_is_left_alone(keys):
    stems = dataset.stems_of(keys)
    own = {key: os.path.splitext(key.rpartition("/")[2])[0] for key in keys}
    for key in keys:
        alone = sum(plain(stem) == plain(own[key]) for stem in own.values()) == 1
        short = len(own[key].encode()) <= dataset.LONGEST_STEM
        if (
            alone
            and short
            and not any(plain(stems[k]) == plain(own[key]) for k in keys if k != key)
        ):
            assert stems[key] == own[key]


@pytest.mark.parametrize(
    ("keys", "stems"),
    [
        (["a.jpg"], ["a"]),
        (["images/site1/a.jpg", "images/site2/a.jpg"], ["site1-a", "site2-a"]),
        (["images/train/a.jpg", "images/val/a.jpg", "images/val/b.jpg"], ["train-a", "val-a", "b"]),
        (["a.jpg", "a.png"], ["a-jpg", "a-png"]),
        (["x/a.jpg", "x/a.png"], ["x-a-jpg", "x-a-png"]),
        (["/far/away/a.jpg", "a.jpg"], ["far-away-a", "a"]),
        (["A.jpg", "a.jpg"], ["A-jpg-HASH", "a-jpg-HASH"]),
        (["a.jpg", "a__s50.jpg"], ["a-jpg", "a__s50-jpg"]),
        (["caf\u00e9.jpg", "cafe\u0301.jpg"], ["caf\u00e9-jpg-HASH", "cafe\u0301-jpg-HASH"]),
    ],
)
def test_stems(keys, stems):
    found = dataset.stems_of(keys).values()
    assert [re.sub(r"-[0-9a-f]{8}$", "-HASH", stem) for stem in found] == stems


def test_a_long_stem_is_cut_with_a_hash_between_letters():
    long = "é" * 125 + "x"
    stems = dataset.stems_of([f"{long}.jpg", f"{long[:-1]}y.jpg"])
    assert all(
        re.fullmatch(r"é+-[0-9a-f]{8}", stem) and len(stem.encode()) <= 180
        for stem in stems.values()
    )
    assert len(set(stems.values())) == 2


# Folders


def test_images_are_found_in_sub_folders_by_their_suffix(folder):
    folder.add(
        "images/b.JPG",
        "images/a.png",
        "images/deep/er/c.tiff",
        "images/d.txt",
        "images/Thumbs.db",
        "images/e.npy",
    )
    assert folder.keys() == ["images/a.png", "images/b.JPG", "images/deep/er/c.tiff"]
    assert folder.said() == []


def test_a_suffix_that_tiler_cannot_read_is_still_a_source(folder):
    folder.add("images/a.jp2", "images/b.heic", "images/c.dng")
    assert folder.keys() == ["images/a.jp2", "images/b.heic", "images/c.dng"]


def test_a_gif_is_no_source(folder):
    folder.add("images/a.jpg", "images/b.gif")
    assert folder.keys() == ["images/a.jpg"]


def test_hidden_images_are_reported_and_what_macos_leaves_is_not(folder):
    folder.add(
        "images/a.jpg", "images/.b.jpg", "images/._a.jpg", "images/.cache/c.jpg", "images/.DS_Store"
    )
    assert folder.keys() == ["images/a.jpg"]
    assert (
        folder.said()
        == ["images/.b.jpg: I08 a hidden file: the trainer does not read it; rename it"] * 2
    )


def test_names_of_every_kind(folder):
    names = [
        " a.jpg",
        "-b.jpg",
        "[c]*?.jpg",
        "d\ne.jpg",
        "f%20g.jpg",
        "h'i\".jpg",
        "日本.jpg",
        "j.k.l.jpg",
        "m$(n).jpg",
        "\x1b[31m.jpg",
    ]
    folder.add(*(f"images/{name}" for name in names))
    assert folder.keys() == sorted(f"images/{name}" for name in names)
    assert all(text.isprintable() for text in folder.said())


def test_both_unicode_forms_of_a_name_are_kept_apart(folder):
    folder.add("images/caf\u00e9.jpg", "images/cafe\u0301.jpg")
    found = folder.find().sources
    assert len({s.stem for s in found}) == 2


@pytest.mark.skipif(os.name == "nt", reason="needs names of bytes")
def test_a_name_that_is_not_utf8_is_reported(folder):
    folder.add("images/a.jpg")
    try:
        Path(os.fsdecode(bytes(folder.root) + b"/images/caf\xe9.jpg")).touch()
    except OSError:
        pytest.skip("this file system holds only UTF-8 names")
    assert folder.keys() == ["images/a.jpg"]
    assert folder.said()[0] == (
        "images/caf\\udce9.jpg: I08 its name is not UTF-8: the trainer does not read it; rename it"
    )


def test_an_image_is_listed_with_its_size_and_a_folder_named_like_one_too(folder):
    folder.add("images/a.jpg", content="12345").add("images/dir.jpg/b.jpg", content="1")
    found = {s.key: s.bytes for s in folder.find().sources}
    assert found["images/a.jpg"] == 5
    assert set(found) == {"images/a.jpg", "images/dir.jpg", "images/dir.jpg/b.jpg"}
    with pytest.raises(SourceRefused, match=r"not a regular file|cannot be opened"):
        image_files.opened(str(folder.root / "images/dir.jpg"))


def test_a_link_is_followed_and_a_dangling_one_is_a_source_that_cannot_be_opened(folder):
    folder.add("far/a.jpg", "images/b.jpg")
    (folder.root / "images/link.jpg").symlink_to(folder.root / "far/a.jpg")
    (folder.root / "images/far").symlink_to(folder.root / "far")
    (folder.root / "images/none.jpg").symlink_to(folder.root / "nowhere.jpg")
    assert folder.keys() == [
        "images/b.jpg",
        "images/far/a.jpg",
        "images/link.jpg",
        "images/none.jpg",
    ]
    with pytest.raises(SourceRefused, match="cannot be opened: No such file"):
        image_files.opened(str(folder.root / "images/none.jpg"))


def test_loops_of_links_end(folder):
    folder.add("images/a.jpg", "images/deep/b.jpg")
    (folder.root / "images/deep/up").symlink_to(folder.root / "images")
    (folder.root / "images/self").symlink_to("self")
    (folder.root / "images/x").symlink_to("y")
    (folder.root / "images/y").symlink_to("x")
    (folder.root / "images/z.jpg").symlink_to("z.jpg")
    assert folder.keys() == ["images/a.jpg", "images/deep/b.jpg", "images/z.jpg"]


@pytest.mark.parametrize(
    ("real", "link"),
    [("a", "b"), ("b", "a"), ("aa", "zz"), ("zz", "aa"), ("real", "link"), ("link", "real")],
)
def test_a_folder_counts_under_its_own_name_and_not_under_a_link(folder, real, link):
    """Its labels lie beside its own name; under the link's it would pass for background."""
    folder.add(f"images/{real}/p.jpg")
    (folder.root / "images" / link).symlink_to(folder.root / "images" / real)
    assert folder.keys() == [f"images/{real}/p.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs fifos")
def test_a_fifo_is_refused_without_waiting(folder):
    folder.add("images/a.jpg")
    os.mkfifo(folder.root / "images/b.jpg")
    assert folder.keys() == ["images/a.jpg", "images/b.jpg"]
    with pytest.raises(SourceRefused, match="not a regular file"):
        image_files.opened(str(folder.root / "images/b.jpg"))


def test_sources_come_by_key_and_then_by_split(folder):
    folder.add(
        "images/v/b.jpg", "images/t/z.jpg", "images/t/a.jpg", "images/x/c.jpg", "images/m/d.jpg"
    )
    found = folder.find(
        "val: [images/v, images/t]\nminival: images/m\ntest: images/x\ntrain: images/t\n"
    )
    assert [(s.key, s.split) for s in found.sources] == [
        ("images/m/d.jpg", "minival"),
        ("images/t/a.jpg", "train"),
        ("images/t/a.jpg", "val"),
        ("images/t/z.jpg", "train"),
        ("images/t/z.jpg", "val"),
        ("images/v/b.jpg", "val"),
        ("images/x/c.jpg", "test"),
    ]
    assert found.splits == ("train", "val", "test", "minival")


def test_an_image_in_two_splits_stands_in_both_with_one_stem(folder):
    folder.add("images/a.jpg")
    assert [(s.split, s.key, s.stem) for s in folder.find().sources] == [
        ("train", "images/a.jpg", "a"),
        ("val", "images/a.jpg", "a"),
    ]


def test_an_image_of_two_folders_of_a_split_is_cut_once(folder):
    folder.add("images/deep/a.jpg")
    splits = "train: [images, images/deep]\nval: images\n"
    assert folder.keys(splits) == ["images/deep/a.jpg"]
    assert folder.said(splits) == ["images/deep/a.jpg: P05 listed twice in train; it is cut once"]


def test_an_image_outside_the_root_has_its_absolute_path(folder, tmp_path):
    Folder(tmp_path).add("data2/images/a.jpg", "far/b.jpg")
    folder.add("images/c.jpg")
    near = f"train: [images, {tmp_path}/data2/images, {tmp_path}/far]\nval: images\n"
    assert folder.keys(near) == [
        f"{tmp_path}/data2/images/a.jpg",
        f"{tmp_path}/far/b.jpg",
        "images/c.jpg",
    ]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_images_is_an_error(folder, split):
    folder.add("images/a.jpg", "empty/readme.md")
    other = {"train": "val", "val": "train"}[split]
    with pytest.raises(TilerError) as error:
        folder.find(f"{other}: images\n{split}: empty\n")
    assert (
        str(error.value) == f"{folder.root}/dataset.yaml: {split}: no images in {folder.root}/empty"
    )


def test_a_test_split_without_images_is_a_finding(folder):
    folder.add("images/a.jpg", "empty/readme.md")
    assert folder.said("train: images\nval: images\ntest: empty\n") == [
        f"dataset.yaml: Y05 split test: no images in {folder.root}/empty"
    ]


# Lists


def listed(folder, text, name="lists/train.txt"):
    (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
    (folder.root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    found = folder.find(f"train: {name}\nval: images\n")
    return [s.key for s in found.sources if s.split == "train"], [str(f) for f in found.findings]


@pytest.mark.parametrize(
    "line",
    [
        "./../images/a.jpg",
        "../images/a.jpg",
        "images/a.jpg",
        "{root}/images/a.jpg",
        "  images/a.jpg  ",
        "../cwd/../data/images/a.jpg",
    ],
)
def test_a_list_names_images_beside_it_under_the_root_or_absolutely(folder, line):
    folder.add("images/a.jpg")
    assert listed(folder, line.format(root=folder.root) + "\n") == (["images/a.jpg"], [])


def test_a_list_names_images_from_the_working_directory(folder, tmp_path):
    folder.add("images/b.jpg")
    Folder(tmp_path).add("cwd/here/a.jpg")
    assert listed(folder, "here/a.jpg\n") == ([f"{tmp_path}/cwd/here/a.jpg"], [])
    with pytest.raises(TilerError, match="no images"):
        listed(folder, "./here/a.jpg\n")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff./../images/a.jpg\n",
        "./../images/a.jpg\r\n\r\n",
        "\r./../images/a.jpg",
        "# x\n\n./../images/a.jpg\n",
    ],
)
def test_byte_order_mark_line_ends_and_other_lines_are_no_matter(folder, text):
    folder.add("images/a.jpg")
    assert listed(folder, text) == (["images/a.jpg"], [])


def test_a_listed_image_that_is_not_there_is_named_by_its_line(folder):
    folder.add("images/a.jpg")
    keys, said = listed(
        folder, "images/a.jpg\n\nimages/b.jpg\n" + "x" * 300 + ".jpg\n../../../../../../etc/c.jpg\n"
    )
    assert keys == ["images/a.jpg"]
    assert said == [
        "lists/train.txt:3: Y04 no such image: images/b.jpg",
        f"lists/train.txt:4: Y04 no such image: {'x' * 300}.jpg",
        "lists/train.txt:5: Y04 no such image: ../../../../../../etc/c.jpg",
    ]


def test_an_image_listed_twice_is_cut_once(folder):
    folder.add("images/a.jpg")
    keys, said = listed(folder, "images/a.jpg\n./../images/a.jpg\nimages/../images/a.jpg\n")
    assert keys == ["images/a.jpg"]
    assert said == ["images/a.jpg: P05 listed twice in train; it is cut once"] * 2


def test_a_list_that_is_no_text_is_an_error(folder):
    folder.add("images/a.jpg")
    with pytest.raises(TilerError, match=r"train.txt:2: not UTF-8 text"):
        listed(folder, b"images/a.jpg\ncaf\xe9.jpg\n")
    with pytest.raises(TilerError, match=r"not UTF-8 text"):
        folder.add("a.jpg").root.joinpath("a.jpg").write_bytes(b"\xff\xd8\xff")
        folder.find("train: a.jpg\nval: images\n")


# Orphans


def test_a_label_file_without_an_image_is_reported(folder):
    folder.add("images/train/a.jpg", "images/val/b.jpg")
    folder.add(
        "labels/train/a.txt",
        "labels/train/c.txt",
        "labels/train/deep/d.txt",
        "labels/val/e.txt",
        content=ROW,
    )
    assert folder.said("train: images/train\nval: images/val\n") == [
        "labels/train/c.txt: P02 a label file without an image",
        "labels/train/deep/d.txt: P02 a label file without an image",
        "labels/val/e.txt: P02 a label file without an image",
    ]


def test_a_label_file_in_a_folder_of_two_entries_is_reported_once(folder):
    folder.add("images/a.jpg", "images/deep/b.jpg").add("labels/deep/c.txt", content=ROW)
    said = folder.said("train: images\nval: images/deep\n")
    assert said == ["labels/deep/c.txt: P02 a label file without an image"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n\n",
        "car\ntruck\n",
        "made by hand on 5 May 2020\n",
        "1 2 3 4\n",
        "path/to/a.jpg\n",
        "\0\1\2",
    ],
)
def test_other_text_among_the_labels_is_not_an_orphan(folder, content):
    folder.add("images/a.jpg").add("labels/classes.txt", "labels/notes.txt", content=content).add(
        "labels/x.cache", content=ROW
    )
    assert folder.said() == []


def test_an_orphan_whose_image_is_of_another_format_says_so(folder):
    folder.add("images/a.jpg", "images/b.gif").add("labels/b.txt", content=ROW)
    assert folder.said() == [
        "labels/b.txt: P02 a label file without an image (b.gif is not of a format that the "
        "trainer reads)"
    ]


def test_labels_beside_their_images(folder):
    folder.add("set/a.jpg").add("set/a.txt", "set/b.txt", content=ROW)
    assert folder.said("train: set\nval: set\n") == ["set/b.txt: P02 a label file without an image"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs fifos")
def test_fifos_and_folders_among_the_labels_are_not_waited_for(folder):
    folder.add("images/a.jpg", "labels/dir.txt/x.md")
    os.mkfifo(folder.root / "labels/b.txt")
    (folder.root / "labels/c.txt").symlink_to("c.txt")
    assert folder.said() == []


# COCO


def coco(folder, *file_names, name="instances.json", root="images"):
    images = [{"id": i, "file_name": f, "width": 9, "height": 9} for i, f in enumerate(file_names)]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "car"}]}
    (folder.root / name).write_text(json.dumps(content))
    return find(folder.root / name, folder.root / root)


def test_the_images_of_a_coco_file(folder):
    folder.add("images/b.jpg", "images/deep/a.png", content="123")
    folder.add("images/c.jpg", "images/deep/d.jpg", content="")
    found = coco(folder, "b.jpg", "deep/a.png", "deep/../c.jpg", "./deep//d.jpg", "no.jpg")
    assert [(s.key, s.stem, s.bytes, s.entry.id) for s in found.sources] == [
        ("b.jpg", "b", 3, 0),
        ("c.jpg", "c", 0, 2),
        ("deep/a.png", "a", 3, 1),
        ("deep/d.jpg", "d", 0, 3),
    ]
    assert [f.code for f in found.findings] == ["I01"]
    assert (found.root, found.names) == (folder.root / "images", ("car",))


@pytest.mark.parametrize(
    "name",
    ["../secret.jpg", "/etc/secret.jpg", "a/../../secret.jpg", "..//secret.jpg", "./../secret.jpg"],
)
def test_a_file_name_that_leads_out_of_the_images_is_rejected(folder, name):
    folder.add("images/a.jpg", "secret.jpg")
    found = coco(folder, name, "a.jpg")
    assert [s.key for s in found.sources] == ["a.jpg"]
    images = folder.root / "images"
    assert [str(f) for f in found.findings] == [
        f"../instances.json: I01 {name}: no such image in {images}, "
        "nor any secret.jpg in its folders"
    ]


@pytest.mark.parametrize("name", ["a.txt", "a", "dir/", ".jpg", "a.gif", ".."])
def test_a_file_name_of_no_image_is_reported(folder, name):
    folder.add("images/a.jpg")
    found = coco(folder, name, "a.jpg")
    assert [s.key for s in found.sources] == ["a.jpg"]
    assert [f.code for f in found.findings] in (["I01"], ["I02"])


@pytest.mark.parametrize("name", ["./a.jpg", "deep/../a.jpg", "a.jpg/../a.jpg"])
def test_one_image_under_two_file_names_is_cut_once(folder, name):
    folder.add("images/a.jpg")
    found = coco(folder, "a.jpg", name)
    assert [s.key for s in found.sources] == ["a.jpg"]
    assert [f.code for f in found.findings] == ["P05"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_val2017.json", "val"),
        ("Train.JSON", "train"),
        ("test-dev.json", "test"),
        ("annotations.json", "train"),
    ],
)
def test_the_split_follows_from_the_file_name(folder, name, split):
    folder.add("images/a.jpg")
    found = coco(folder, "a.jpg", name=name)
    assert (found.splits, found.sources[0].split) == ((split,), split)


def test_a_coco_file_without_usable_images_is_an_error(folder):
    folder.add("images/a.jpg")
    for names in ((), ("../b.jpg",), ("a.txt",)):
        with pytest.raises(TilerError, match="no images that could be cut"):
            coco(folder, *names)
    with pytest.raises(TilerError, match="no such folder"):
        coco(folder, "a.jpg", root="nowhere")


def test_images_and_json_go_together(folder):
    folder.add("images/a.jpg")
    coco(folder, "a.jpg")
    assert find(folder.root / "instances.json", None).root == folder.root
    folder.find()
    with pytest.raises(TilerError, match="--images goes with annotations such as COCO's"):
        find(folder.root / "dataset.yaml", folder.root / "images")


@pytest.mark.parametrize("module", [coco_sets, dataset, image_files, yolo_sets])
def test_every_code_used_is_known(module):
    text = Path(module.__file__).read_text()
    assert set(re.findall(r'"([A-Z]\d\d)"', text)) <= set(CODES)


def test_a_listed_image_in_a_folder_that_is_not_utf8_is_reported(tmp_path):
    from PIL import Image

    from tests.conftest import Dataset

    root = tmp_path / os.fsdecode(b"d\xff")
    data = Dataset(root)
    data.add("a.png", "", Image.new("RGB", (20, 20)))
    plain = tmp_path / "v"
    plain.mkdir()
    Image.new("RGB", (20, 20)).save(plain / "v.png")
    (root / "list.txt").write_text("images/train/a.png\n")
    data.yaml.write_text(f"train: {plain}\nval: {plain}\ntest: list.txt\nnames: [a]\n")
    assert "I08" in [finding.code for finding in find(data.yaml, None).findings]
