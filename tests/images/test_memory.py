import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tiler.errors import SourceRefused
from tiler.images import memory


def in_a_child(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def of_the_system(monkeypatch, tmp_path, **files):
    """Let the system say this; a file that is not given does not exist."""
    places = {
        "meminfo": "/proc/meminfo",
        **{name: f"/sys/fs/cgroup/memory.{name}" for name in ("max", "current", "stat")},
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    shown = {place: tmp_path / name for name, place in places.items()}
    monkeypatch.setattr(
        memory, "Path", lambda *parts: shown.get("/".join(parts), tmp_path / "none")
    )
    monkeypatch.setattr(memory, "_allowed", list)


def test_something_is_left_here():
    assert memory.available() > 1 << 20
    assert memory.enough(1)


LIMITED = """
import json, resource
from tiler.images import memory
limit = {limit}
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
before = memory.available()
taken = bytearray(200 << 20)
print(json.dumps([before, memory.available(), memory.enough(limit), memory.enough(1 << 20)]))
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux says how much address space is used"
)
def test_the_limit_of_the_address_space():
    limit = 3 << 29
    before, after, all_of_it, a_little = in_a_child(LIMITED.format(limit=limit))
    assert 0 < after < before < limit
    assert before - after == pytest.approx(200 << 20, rel=0.1)
    assert (all_of_it, a_little) == (False, True)


def test_none_left_is_not_less_than_none(monkeypatch):
    resource = pytest.importorskip("resource", reason="no limits of this kind here")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 20, 1 << 20))
    assert memory.available() == 0
    assert not memory.enough(1)


class TestWhatTheSystemSays:
    MACHINE = "MemTotal:  9 kB\nMemAvailable:   2000 kB\n"

    def test_of_the_machine(self, monkeypatch, tmp_path):
        of_the_system(monkeypatch, tmp_path, meminfo=self.MACHINE)
        assert memory.available() == 2000 * 1024

    def test_of_the_container_with_what_its_files_hold(self, monkeypatch, tmp_path):
        stat = "anon 7\ninactive_file 300\nactive_file 9\n"
        of_the_system(
            monkeypatch,
            tmp_path,
            meminfo=self.MACHINE,
            max="100000\n",
            current="60000\n",
            stat=stat,
        )
        assert memory.available() == 100_000 - 60_000 + 300

    def test_of_a_container_without_a_limit(self, monkeypatch, tmp_path):
        of_the_system(
            monkeypatch, tmp_path, meminfo=self.MACHINE, max="max\n", current="60000\n", stat=""
        )
        assert memory.available() == 2000 * 1024

    @pytest.mark.parametrize(
        "files",
        [{}, {"meminfo": ""}, {"meminfo": "MemAvailable:\n"}, {"meminfo": "MemAvailable: many kB"}],
    )
    def test_nothing_known_is_no_limit(self, monkeypatch, tmp_path, files):
        of_the_system(monkeypatch, tmp_path, **files)
        assert memory.available() is None
        assert memory.enough(1 << 60)
        memory.require(1 << 60, "an image")


def test_what_is_refused_for_want_of_memory(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2_500_000_000)
    memory.require(2_500_000_000, "an image")
    with pytest.raises(SourceRefused) as caught:
        memory.require(12_345_678_901, "a progressive JPEG of 9 px")
    assert caught.value.code == "I04"
    assert (
        str(caught.value)
        == "a progressive JPEG of 9 px: it needs about 12.3 GB of memory, 2.5 GB are left"
    )


class TestBlocks:
    def test_of_tiles_are_kept_only_where_blocks_are(self, monkeypatch):
        asked = []
        monkeypatch.setattr(memory, "_keeps", False)
        monkeypatch.setattr(memory, "_threshold", lambda size: asked.append(size) or True)
        memory.keep_tiles()
        assert asked == []
        memory.keep_blocks()
        memory.keep_tiles()
        assert asked == [memory.MOST, memory.TILES]

    @pytest.mark.parametrize("platform", ["darwin", "win32"])
    def test_nothing_is_done_elsewhere(self, monkeypatch, platform):
        monkeypatch.setattr(sys, "platform", platform)
        assert not memory._threshold(memory.MOST)


def test_large_images_wait_for_one_another(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 3 * memory.COUNTED)
    most, now, lock = [0], [0], threading.Lock()

    def work(_):
        with memory.taken(memory.COUNTED, "an image"):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.01)
            with lock:
                now[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert 1 <= most[0] <= 3


def test_what_never_fits_is_refused_and_what_does_not_fit_a_share_is_tried_alone(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 3 * memory.COUNTED)
    with pytest.raises(SourceRefused) as caught, memory.taken(4 * memory.COUNTED, "an image"):
        pass
    assert caught.value.code == "I04"
    monkeypatch.setattr(memory._Budget, "processes", 2)
    with pytest.raises(MemoryError), memory.taken(2 * memory.COUNTED, "an image"):
        pass
    with memory.taken(memory.COUNTED, "an image"):
        pass
