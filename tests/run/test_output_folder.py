"""Where an output may be, and what stands there already."""

import os
from pathlib import Path

import pytest

from tiler.errors import TilerError
from tiler.run.output_folder import occupied, require_same, resolved
from tiler.version import __version__

MARK = "mark.jsonl"


def all_ours(_):
    return lambda path: True


def no_foreign(_):
    return lambda path: "foreign" not in path


@pytest.fixture
def made(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / MARK).write_text("")
    return tmp_path / "out"


class TestResolved:
    def test_a_place_that_is_not_there_yet(self, tmp_path):
        assert resolved(tmp_path / "x/y") == tmp_path / "x/y"

    def test_a_relative_place_is_made_absolute(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert resolved(Path("out")) == tmp_path / "out"
        assert resolved(Path("a/../out")) == tmp_path / "out"

    def test_links_are_followed(self, tmp_path):
        (tmp_path / "big").mkdir()
        (tmp_path / "link").symlink_to("big")
        (tmp_path / "dangling").symlink_to("nothing")
        assert resolved(tmp_path / "link") == tmp_path / "big"
        assert resolved(tmp_path / "dangling") == tmp_path / "nothing"

    def test_a_file_is_refused(self, tmp_path):
        (tmp_path / "file").write_text("")
        (tmp_path / "link").symlink_to("file")
        for name in ("file", "link"):
            with pytest.raises(TilerError, match="file: there is a file of this name"):
                resolved(tmp_path / name)

    @pytest.mark.parametrize("name", ["file/out", "x" * 300, "loop"])
    def test_no_place_at_all_is_refused_in_one_line(self, tmp_path, name):
        (tmp_path / "file").write_text("")
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(TilerError, match="^--out ") as caught:
            resolved(tmp_path / name)
        assert "\n" not in str(caught.value)

    def test_a_mount_point_is_refused(self):
        with pytest.raises(TilerError, match="/: a mount point cannot be replaced"):
            resolved(Path("/"))

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs mkfifo")
    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(TilerError, match="there is a file of this name"):
            resolved(tmp_path / "pipe")


class TestOccupied:
    def test_nothing_or_an_empty_folder_is_room(self, tmp_path):
        assert not occupied(tmp_path / "none", MARK, False, all_ours)
        (tmp_path / "empty").mkdir()
        assert not occupied(tmp_path / "empty", MARK, False, all_ours)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_what_is_not_ours_is_never_replaced(self, tmp_path, overwrite):
        (tmp_path / "b").write_text("")
        (tmp_path / "a\n").write_text("")
        with pytest.raises(
            TilerError,
            match=r"holds files that are not made by tiler \(a\\n\); choose another folder",
        ):
            occupied(tmp_path, MARK, overwrite, all_ours)

    def test_a_folder_that_is_called_like_the_mark_is_no_mark(self, tmp_path):
        (tmp_path / "out" / MARK).mkdir(parents=True)
        with pytest.raises(TilerError, match="not made by tiler"):
            occupied(tmp_path / "out", MARK, False, all_ours)

    def test_an_output_of_ours_is_looked_at(self, made):
        assert occupied(made, MARK, False, all_ours)
        (made / "foreign").write_text("")
        assert occupied(made, MARK, False, no_foreign)

    def test_overwriting_makes_room_unless_a_stranger_lives_there(self, made):
        assert not occupied(made, MARK, True, no_foreign)
        (made / "labels").mkdir()
        (made / "labels/foreign.txt").write_text("precious")
        with pytest.raises(
            TilerError,
            match="labels/foreign.txt is not made by tiler, so --overwrite does not delete it",
        ):
            occupied(made, MARK, True, no_foreign)
        assert (made / "labels/foreign.txt").read_text() == "precious"


class TestRequireSame:
    def test_the_same_options_pass_whatever_else_the_output_has(self, tmp_path):
        require_same(tmp_path, __version__, {"a": 1, "b": [1.0], "gone": 3}, {"a": 1, "b": [1.0]})

    def test_every_difference_is_said(self, tmp_path):
        with pytest.raises(TilerError) as caught:
            require_same(
                tmp_path / "out", __version__, {"a": 1, "b": 2}, {"a": 1, "b": 3, "c": None, "d": 4}
            )
        assert "other options (b 2 -> 3; d None -> 4); use --overwrite, or another --out" in str(
            caught.value
        )

    def test_another_version_is_a_difference(self, tmp_path):
        with pytest.raises(TilerError, match=f"tiler 0.0.1 -> {__version__}"):
            require_same(tmp_path, "0.0.1", {}, {})
