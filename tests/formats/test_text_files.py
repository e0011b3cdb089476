import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.errors import TilerError
from tiler.formats import text_files as texts
from tiler.formats.text_files import read_bytes, read_text, reason


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("text") / "file.txt"


def write(file, data):
    file.unlink(missing_ok=True)  # writing over a file makes some file systems flush each time
    file.write_bytes(data)
    return file


@quick
@given(st.text(max_size=200))
def test_text_is_read_as_it_was_written(file, text):
    assert read_text(write(file, text.encode()), 10_000) == text.removeprefix("\ufeff")


@quick
@given(st.text(max_size=50).filter(lambda text: not text.startswith("\ufeff")))
def test_a_byte_order_mark_is_no_text(file, text):
    assert read_text(write(file, b"\xef\xbb\xbf" + text.encode()), 10_000) == text


@quick
@given(st.integers(0, 20), st.sampled_from([0x80, 0xC3, 0xE9, 0xFF]))
def test_what_is_not_utf8_is_named_with_its_line(file, lines, byte):
    write(file, b"text\n" * lines + bytes([byte]) + b"\n")
    with pytest.raises(TilerError) as error:
        read_text(file, 10_000)
    assert str(error.value) == f"{file}:{lines + 1}: not UTF-8 text (byte {byte:#04x})"


def test_a_file_of_the_limit_is_read_and_one_byte_more_is_refused(file):
    assert read_bytes(write(file, b"12345"), 5) == b"12345"
    with pytest.raises(TilerError, match="more than 4 bytes"):
        read_bytes(file, 4)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TilerError) as error:
        read_text(tmp_path / "no.txt", 10)
    assert str(error.value) == f"{tmp_path / 'no.txt'}: no such file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs fifos")
def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        read_bytes(tmp_path / "fifo", 10)
    with pytest.raises(TilerError, match="cannot be read: not a regular file"):
        read_text(tmp_path / "fifo", 10)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
def test_a_device_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="not a regular file"):
        read_bytes(tmp_path / "link", 10)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(TilerError, match="cannot be read"):
        read_text(tmp_path, 10)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_a_refused_file_is_not_left_open(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "no"):
        with pytest.raises(OSError):
            read_bytes(path, 10)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(TilerError, match="cannot be read"):
        read_text(tmp_path / "a", 10)


def test_a_reason_does_not_repeat_the_file_name():
    assert reason(OSError(2, "No such file or directory", "/a/b")) == "No such file or directory"
    assert reason(OSError("not a regular file")) == "not a regular file"


def special(folder):
    """Files that are none: opening them would wait, or do something."""
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "socket"))
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("fifo")
    return [
        folder / "fifo",
        folder / "socket",
        folder / "folder",
        folder / "link",
        Path("/dev/zero"),
        Path("/dev/tty"),
    ]


def test_only_regular_files_are_opened_and_nothing_waits(tmp_path):
    for path in special(tmp_path):
        with pytest.raises(OSError):
            texts.open_regular(path)
    for name in ("a\0b", "a" * 300, "a/" * 3000):
        with pytest.raises(OSError):
            texts.open_regular(tmp_path / name)


@given(st.text(st.sampled_from("./ab"), min_size=1, max_size=14))
def test_a_name_never_leads_out_of_its_folder(name):
    inner = texts.within(name)
    meant = os.path.normpath(os.path.join("/x/folder", name))
    if inner is None:
        assert name.startswith("/") or not meant.startswith("/x/folder")
    else:
        assert os.path.normpath(os.path.join("/x/folder", inner)) == meant
        assert (meant + "/").startswith("/x/folder/")
