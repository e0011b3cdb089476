"""A folder below which nothing is reached through a link."""

import os
import pickle
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiler.run import folders
from tiler.run.folders import DEEPEST, Folder, Planted

needs_links = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes and links")
pytestmark = needs_links


@pytest.fixture(params=[True, False], ids=["handles", "no-handles"])
def folder(tmp_path, request, monkeypatch):
    monkeypatch.setattr(folders, "HANDLES", request.param and folders.HANDLES)
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/precious").write_text("precious")
    with Folder(tmp_path / "ours") as opened:
        yield opened


def plant(path, kind):
    theirs = (
        path.parent.parent / "theirs" if path.parent.name == "ours" else path.parents[2] / "theirs"
    )
    if kind == "link":
        path.symlink_to(theirs / "precious")
    elif kind == "second name":
        os.link(theirs / "precious", path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder link":
        path.symlink_to(theirs)
    else:
        path.mkdir()
        (path / "below").write_text("")


KINDS = ["link", "second name", "pipe", "folder link", "folder"]


class TestPlanted:
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_neither_read_nor_appended_to(self, folder, kind):
        plant(folder.path / "a", kind)
        for action in (folder.open, folder.append, folder.read):
            with pytest.raises(Planted, match="ours/a: .*not made by tiler"):
                action("a")
        assert (folder.path.parent / "theirs/precious").read_text() == "precious"

    @pytest.mark.parametrize("kind", KINDS)
    def test_makes_room_for_a_new_file(self, folder, kind):
        plant(folder.path / "a", kind)
        assert folder.write("a", b"new") == 3
        assert folder.read("a") == b"new"
        assert (folder.path.parent / "theirs/precious").read_text() == "precious"

    def test_link_on_the_way_is_not_followed(self, folder):
        folder.make("x")
        plant(folder.path / "x/y", "folder link")
        for action in (
            folder.open,
            folder.append,
            folder.create,
            folder.stat,
            folder.folder,
            folder.make,
            folder.remove,
        ):
            with pytest.raises(Planted, match="x/y"):
                action("x/y/precious")
        assert not folder.has("x/y/precious")
        assert (folder.path.parent / "theirs/precious").read_text() == "precious"

    @pytest.mark.parametrize("kind", ["link", "folder link", "pipe"])
    def test_is_no_lock(self, folder, kind):
        plant(folder.path / "lock", kind)
        if kind == "pipe":
            os.close(folder.ensure("lock"))  # whoever asks what it is sees that
        else:
            with pytest.raises(Planted):
                folder.ensure("lock")

    def test_folder_link_is_removed_and_what_it_leads_to_stays(self, folder):
        folder.make("x")
        plant(folder.path / "x/y", "folder link")
        folder.remove("x")
        assert folder.names() == []
        assert (folder.path.parent / "theirs/precious").exists()

    def test_a_link_is_no_folder_to_begin_with(self, folder):
        plant(folder.path / "a", "folder link")
        with pytest.raises(Planted):
            Folder(folder.path / "a")

    def test_folders_without_end_are_told(self, folder):
        os.makedirs(folder.path / "/".join("d" * (DEEPEST + 5)))
        with pytest.raises(Planted, match=f"over {DEEPEST} folders deep"):
            list(folder.walk())


class TestOrdinary:
    @settings(max_examples=30, deadline=None)
    @given(
        st.dictionaries(
            st.lists(st.sampled_from("ab"), min_size=1, max_size=4)
            .map("/".join)
            .map(lambda name: f"{name}/file"),
            st.binary(max_size=20),
            max_size=6,
        )
    )
    def test_what_is_written_is_found(self, tmp_path_factory, files):
        with Folder(tmp_path_factory.mktemp("folder")) as folder:
            for name, content in files.items():
                folder.make(os.path.dirname(name))
                assert folder.write(name, content) == len(content)
            walked = list(folder.walk())
            found = {name: folder.read(name) for name, what in walked if stat.S_ISREG(what.st_mode)}
            assert found == files
            seen = set()
            for name, _ in walked:  # folders come before what is in them
                assert "/" not in name or os.path.dirname(name) in seen
                seen.add(name)

    def test_appending_goes_on_behind(self, folder):
        folder.write("a", b"one")
        with folder.append("a") as file:
            file.write(b", two")
        assert folder.read("a") == b"one, two"

    def test_a_new_file_has_the_permissions_of_any(self, folder):
        folder.write("a", b"")
        (folder.path / "b").write_bytes(b"")
        assert folder.stat("a").st_mode == folder.stat("b").st_mode

    def test_another_file_of_the_same_size_has_another_stamp(self, folder):
        folder.write("a", b"one")
        before = folder.stamp("a")
        folder.write("a", b"two")
        os.utime(folder.path / "a", ns=(0, 0))
        assert folder.stamp("a")[0] == before[0]
        assert folder.stamp("a") != before


class TestSentToAnotherProcess:
    def test_it_is_opened_anew(self, folder):
        folder.write("a", b"one")
        assert pickle.loads(pickle.dumps(folder)).read("a") == b"one"

    def test_unless_another_one_stands_there(self, folder):
        text = pickle.dumps(folder)
        folder.path.rename(folder.path.with_name("away"))
        folder.path.mkdir()
        with pytest.raises(Planted):
            pickle.loads(text)
