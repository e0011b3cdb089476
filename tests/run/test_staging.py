import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiler.errors import TilerError, Unfinished
from tiler.run.folders import Folder
from tiler.run.staging import Staging

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def partial(out):
    return out.parent / f".{out.name}.partial"


def journal(out):
    return partial(out) / "journal.jsonl"


def leave(out, *records, fingerprint="f", files=("a", "b")):
    """Work that stopped before its end."""
    with Staging(out) as one:
        one.begin(fingerprint)
        for name in files:
            (one.tree.path / name).write_text(name)
        for key, record in records:
            one.note(key, record)


def resume(out, fingerprint="f"):
    with Staging(out) as one:
        return one.begin(fingerprint)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestCompleteOrAbsent:
    def test_nothing_is_there_until_it_is_complete(self, out):
        with Staging(out) as one:
            one.begin("f")
            (one.tree.path / "a").write_text("a")
            assert not out.exists()
            one.commit()
            assert names(out) == ["a"]
        assert names(out.parent) == ["out"]

    def test_an_error_leaves_the_work_and_no_output(self, out):
        with pytest.raises(KeyError), Staging(out) as one:
            one.begin("f")
            (one.tree.path / "a").write_text("a")
            one.note("a", b"1")
            raise KeyError
        assert not out.exists()
        assert resume(out) == {"a": b"1"}

    def test_the_folders_above_are_made(self, tmp_path):
        out = tmp_path / "x" / "y" / "out"
        with Staging(out) as one:
            one.begin("f")
            one.commit()
        assert out.is_dir()

    def test_an_empty_folder_makes_room(self, out):
        out.mkdir()
        with Staging(out) as one:
            one.begin("f")
            (one.tree.path / "a").write_text("new")
            one.commit()
        assert (out / "a").read_text() == "new"
        assert not partial(out).exists()

    def test_a_folder_with_files_does_not(self, out):
        out.mkdir()
        (out / "mine").write_text("precious")
        with Staging(out) as one:
            one.begin("f")
            (one.tree.path / "a").write_text("new")
            with pytest.raises(Unfinished):
                one.commit()
        assert names(out) == ["mine"]
        assert (partial(out) / "tree" / "a").read_text() == "new"

    def test_an_output_that_is_replaced(self, out):
        out.mkdir()
        (out / "old").write_text("old")
        with Staging(out) as one:
            one.begin("f")
            (one.tree.path / "new").write_text("new")
            assert names(out) == ["old"]
            one.commit(replace=True)
        assert names(out) == ["new"]
        assert names(out.parent) == ["out"]

    def test_replacing_that_stops_half_way_goes_on(self, out, monkeypatch):
        out.mkdir()
        (out / "old").write_text("old")
        leave(out, ("a", b"1"), files=["new"])
        moves = []

        def rename(source, target, real=os.rename, **handles):
            moves.append(source)
            if len(moves) == 2:
                raise FULL
            real(source, target, **handles)

        with monkeypatch.context() as patch, Staging(out) as one:
            one.begin("f")
            patch.setattr(os, "rename", rename)
            with pytest.raises(Unfinished):
                one.commit(replace=True)
        with Staging(out) as one:
            assert one.begin("f") == {"a": b"1"}
            one.commit(replace=True)
        assert names(out) == ["new"]
        assert names(out.parent) == ["out"]

    def test_discard_never_touches_the_output(self, out):
        out.mkdir()
        (out / "mine").write_text("precious")
        with Staging(out) as one:
            one.begin("f")
            one.discard()
        assert names(out.parent) == ["out"]
        assert names(out) == ["mine"]


class TestJournal:
    def test_a_fresh_start(self, out):
        with Staging(out) as one:
            assert one.begin("f") == {}
            assert not one.resumed
            assert names(one.tree.path) == []

    def test_goes_on_where_it_stopped(self, out):
        leave(out, ("x", b"1"), ("y", b"2"))
        with Staging(out) as one:
            assert one.begin("f") == {"x": b"1", "y": b"2"}
            assert one.resumed
            assert names(one.tree.path) == ["a", "b"]
            one.note("z", b"3")
        assert resume(out) == {"x": b"1", "y": b"2", "z": b"3"}

    def test_the_last_record_of_a_key_counts(self, out):
        leave(out, ("x", b"1"), ("y", b"2"), ("x", b"3"))
        assert resume(out) == {"x": b"3", "y": b"2"}

    @pytest.mark.parametrize("other", ["g", "", "f ", "F", "ff"])
    def test_another_fingerprint_starts_anew(self, out, other):
        leave(out, ("x", b"1"))
        with Staging(out) as one:
            assert one.begin(other) == {}
            assert not one.resumed
            assert names(one.tree.path) == []
        assert resume(out, other) == {}

    def test_a_journal_without_its_tree_counts_for_nothing(self, out):
        leave(out, ("x", b"1"), files=[])
        (partial(out) / "tree").rmdir()
        assert resume(out) == {}

    def test_a_tree_without_its_journal_is_discarded(self, out):
        leave(out, ("x", b"1"))
        journal(out).unlink()
        with Staging(out) as one:
            assert one.begin("f") == {}
            assert names(one.tree.path) == []

    def test_torn_at_every_byte(self, out):
        records = [("a", b'{"n":1}'), ("b", b"{}"), ("cé", b'["x","y"]')]
        leave(out, *records)
        data = journal(out).read_bytes()
        ends = [data.index(record + b"\r") + len(record) + 1 for _, record in records]
        for length in range(len(data) + 1):
            journal(out).write_bytes(data[:length])
            expected = dict(
                record for record, end in zip(records, ends, strict=True) if end <= length
            )
            with Staging(out) as one:
                assert one.begin("f") == expected
                one.note("later", b"9")
            assert resume(out) == expected | {"later": b"9"}

    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])),
                st.dictionaries(st.text(), st.integers() | st.text()),
            ),
            max_size=6,
        ),
        st.integers(0, 200),
    )
    @settings(max_examples=60, deadline=None)
    def test_killed_anywhere_it_knows_a_beginning_of_what_was_done(
        self, tmp_path_factory, pieces, lost
    ):
        out = tmp_path_factory.mktemp("staging") / "out"
        records = [(key, json.dumps(value).encode()) for key, value in pieces]
        leave(out, *records)
        data = journal(out).read_bytes()
        journal(out).write_bytes(data[: max(0, len(data) - lost)])
        assert resume(out) in [dict(records[:n]) for n in range(len(records) + 1)]


HOLD = """
import sys, time
from pathlib import Path
from tiler.run.staging import Staging
with Staging(Path(sys.argv[1])) as one:
    one.begin("f")
    (one.tree.path / "a").write_text("a")
    one.note("a", b"1")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(out):
    """Another process that holds the output."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


class TestLock:
    def test_another_process_is_refused_until_the_first_dies(self, out, holder):
        with pytest.raises(Unfinished, match="another run is writing it") as caught, Staging(out):
            pass
        assert caught.value.exit_code == 3
        assert str(out) in str(caught.value)
        holder.kill()
        holder.wait()
        with Staging(out) as one:
            assert one.begin("f") == {"a": b"1"}
            one.commit()
        assert names(out.parent) == ["out"]

    def test_the_refused_run_changes_nothing(self, out, holder):
        before = journal(out).read_bytes()
        with pytest.raises(Unfinished), Staging(out):
            pass
        Staging.sweep(out)
        assert journal(out).read_bytes() == before
        assert names(partial(out) / "tree") == ["a"]

    def test_a_second_one_in_the_same_process_is_refused(self, out):
        with Staging(out):
            with pytest.raises(Unfinished), Staging(out):
                pass
            with pytest.raises(Unfinished), Staging(out):
                pass
        with Staging(out):
            pass

    def test_other_outputs_are_free(self, out, holder):
        with Staging(out.parent / "other") as one:
            one.begin("f")

    def test_only_one_of_many_threads_gets_it(self, out):
        start, stop = threading.Barrier(8), threading.Event()
        outcomes = []

        def tell(outcome):
            outcomes.append(outcome)
            if len(outcomes) == 8:
                stop.set()

        def run():
            start.wait()
            try:
                with Staging(out):
                    tell("held")
                    stop.wait(20)
            except Unfinished:
                tell("refused")

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["held"] + ["refused"] * 7

    def test_one_after_the_other_makes_and_removes_it(self, out):
        """Threads that take, finish and let go leave one complete output and no rest."""
        errors = []

        def run():
            for _ in range(30):
                try:
                    with Staging(out) as one:
                        one.begin("f")
                        one.discard()
                except Unfinished:
                    pass
                except Exception as error:
                    errors.append(error)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        Staging.sweep(out)
        assert names(out.parent) == []

    def test_a_folder_that_another_run_removes_at_this_moment_is_made_again(self, out, monkeypatch):
        """It was there for the first look, and gone at the second."""
        looks = []

        def mkdir(*args, real=os.mkdir, **kwargs):
            looks.append(args)
            if len(looks) == 1:
                raise FileExistsError(errno.EEXIST, "File exists")
            real(*args, **kwargs)

        monkeypatch.setattr(os, "mkdir", mkdir)
        with Staging(out) as one:
            assert one.begin("f") == {}


class TestSweep:
    def test_removes_what_a_finished_run_left(self, out):
        leave(out, ("x", b"1"))
        out.mkdir()
        (out / "a").write_text("complete")
        Staging.sweep(out)
        assert names(out.parent) == ["out"]
        assert names(out) == ["a"]

    def test_nothing_to_sweep(self, out):
        Staging.sweep(out)
        assert names(out.parent) == []

    def test_leaves_what_another_run_holds(self, out):
        with Staging(out) as one:
            one.begin("f")
            one.note("x", b"1")
            Staging.sweep(out)
        assert resume(out) == {"x": b"1"}


class TestFullDisk:
    def is_told(self, caught):
        assert caught.value.exit_code == 3
        assert "No space left on device" in str(caught.value)
        assert "run again" in str(caught.value)

    def test_at_the_start(self, out, monkeypatch):
        def mkdir(*args, **kwargs):
            raise FULL

        with monkeypatch.context() as patch:
            patch.setattr(Path, "mkdir", mkdir)
            with pytest.raises(Unfinished) as caught, Staging(out):
                pass
        self.is_told(caught)
        with Staging(out):
            pass

    @pytest.mark.parametrize("name", ["write", "make"])
    def test_when_beginning(self, out, monkeypatch, name):
        def fails(*args, **kwargs):
            raise FULL

        with Staging(out) as one, monkeypatch.context() as patch:
            patch.setattr(Folder, name, fails)
            with pytest.raises(Unfinished) as caught:
                one.begin("f")
        self.is_told(caught)
        assert resume(out) == {}

    def test_when_noting(self, out, monkeypatch):
        def no_room(*args, **kwargs):
            raise FULL

        leave(out, ("x", b"1"))
        with Staging(out) as one:
            one.begin("f")
            with monkeypatch.context() as patch, pytest.raises(Unfinished) as caught:
                patch.setattr(Folder, "append", no_room)
                one.note("y", b"2")
        self.is_told(caught)
        assert resume(out) == {"x": b"1"}

    def test_when_committing(self, out, monkeypatch):
        def no_room(*args, **kwargs):
            raise FULL

        with Staging(out) as one:
            one.begin("f")
            (one.tree.path / "a").write_text("a")
            one.note("a", b"1")
            with monkeypatch.context() as patch, pytest.raises(Unfinished) as caught:
                patch.setattr(os, "rename", no_room)
                one.commit()
        self.is_told(caught)
        assert not out.exists()
        with Staging(out) as one:
            assert one.begin("f") == {"a": b"1"}
            one.commit()
        assert names(out) == ["a"]

    def test_a_note_that_only_half_fits_is_forgotten(self, out):
        """With a true limit, in a process of its own."""
        pytest.importorskip("resource", reason="no limit on file sizes here")
        done = subprocess.run(
            [sys.executable, "-c", HALF_A_NOTE, str(out)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert re.search(r"^Unfinished cannot write: File too large.*run again", done.stdout)
        assert resume(out) == {"x": b"1"}


HALF_A_NOTE = """
import resource, signal, sys
from pathlib import Path
from tiler.errors import Unfinished
from tiler.run.staging import Staging
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Staging(Path(sys.argv[1])) as one:
    one.begin("f")
    one.note("x", b"1")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    try:
        one.note("y", b"2" * 500)
    except Unfinished as error:
        print("Unfinished", error)
"""


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners and links")
class TestWhatOthersPutThere:
    def test_nobody_else_gets_in_and_the_output_is_as_any_folder(self, out):
        (out.parent / "any").mkdir()
        partial(out).mkdir(mode=0o777)
        with Staging(out) as one:
            one.begin("f")
            assert stat.S_IMODE(partial(out).stat().st_mode) == 0o700
            one.commit()
        assert out.stat().st_mode == (out.parent / "any").stat().st_mode

    def test_a_staging_folder_that_was_copied_is_not_resumed(self, out):
        """As one that comes out of an archive: with all times that an archive can set."""
        leave(out, ("x", b"1"))
        shutil.copytree(partial(out), partial(out).with_name("copy"), symlinks=True)
        shutil.rmtree(partial(out))
        partial(out).with_name("copy").rename(partial(out))
        with Staging(out) as one:
            assert one.begin("f") == {}
            assert names(one.tree.path) == []

    @pytest.mark.parametrize("name", ["planted", "below/planted"])
    def test_a_tree_with_a_link_in_it_is_not_resumed(self, out, name):
        leave(out, ("x", b"1"))
        path = partial(out) / "tree" / name
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(out.parent)
        assert resume(out) == {}
        assert names(partial(out) / "tree") == []

    @pytest.mark.parametrize("name", ["lock", "journal.jsonl", "tree", "replaced"])
    @pytest.mark.parametrize("kind", ["link", "folder link", "pipe", "second name"])
    def test_a_piece_that_is_no_plain_file_or_folder_is_refused(self, out, name, kind):
        leave(out, ("x", b"1"))
        path, mine = partial(out) / name, out.parent / "mine"
        mine.mkdir()
        (mine / "file").write_text("precious")
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "second name":
            os.link(mine / "file", path)
        else:
            path.symlink_to(mine / "file" if kind == "link" else mine)
        with pytest.raises(TilerError, match="not made by tiler") as caught, Staging(out):
            pass
        assert caught.value.exit_code == 2
        assert (mine / "file").read_text() == "precious"
        assert names(mine) == ["file"]

    @pytest.mark.skipif(
        not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files away"
    )
    @pytest.mark.parametrize("name", ["", "tree", "journal.jsonl"])
    def test_what_belongs_to_someone_else_is_refused(self, out, name):
        leave(out, ("x", b"1"))
        os.chown(partial(out) / name, 12345, 12345)
        with pytest.raises(TilerError, match="another user"), Staging(out):
            pass


class TestKeepOnly:
    def test_strays_and_empty_folders_go(self, out):
        leave(out, ("x", b"1"), files=["a", "stray"])
        for name in ("kept", "empty/inner", "full"):
            (partial(out) / "tree" / name).mkdir(parents=True)
        (partial(out) / "tree/full/a").write_text("")
        with Staging(out) as one:
            one.begin("f")
            one.keep_only(lambda name: name.endswith("a"), ["kept"])
            one.commit()
        assert names(out) == ["a", "full", "kept"]


class TestPlacesThatCannotBeWritten:
    def test_a_file_above(self, tmp_path):
        (tmp_path / "file").write_text("")
        with (
            pytest.raises(TilerError, match="cannot be written") as caught,
            Staging(tmp_path / "file" / "out"),
        ):
            pass
        assert caught.value.exit_code == 2

    def test_a_name_that_is_too_long(self, tmp_path):
        with (
            pytest.raises(TilerError, match="cannot be written") as caught,
            Staging(tmp_path / ("n" * 250)),
        ):
            pass
        assert caught.value.exit_code == 2

    def test_the_message_is_one_line(self, tmp_path):
        (tmp_path / "a\nb").write_text("")
        with pytest.raises(TilerError) as caught, Staging(tmp_path / "a\nb" / "out"):
            pass
        assert str(caught.value).isprintable()

    def test_a_file_in_the_way_of_the_staging_folder(self, out):
        partial(out).write_text("mine")
        with pytest.raises(TilerError) as caught, Staging(out):
            pass
        assert caught.value.exit_code == 2
        assert partial(out).read_text() == "mine"
