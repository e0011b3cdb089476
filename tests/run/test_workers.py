import gc
import os
import signal
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

import joblib.parallel
import pytest

from tiler.errors import SourceRefused, Unfinished
from tiler.run import workers

WAYS = [
    ("sequential", 1),
    ("sequential", 4),
    ("threading", 1),
    ("threading", 2),
    ("threading", 5),
    ("loky", 1),
    ("loky", 2),
]


def name(item):
    return f"images/{item}.jpg"


def stream(work, items, count, backend):
    return workers.stream(work, items, count, backend, name)


def squared(item):
    return item * item


def late_first(item):
    """The first items take longest."""
    time.sleep(0.02 if item < 2 else 0)
    return item


def refusing_three(item):
    if item == 3:
        raise SourceRefused("I03", "truncated", "labels/3.txt")
    return item


def failing_three(item):
    if item == 3:
        raise ZeroDivisionError("three")
    return item


def process(item):
    return os.getpid()


def killed_once(folder, victims, item):
    """The first worker that gets a victim dies."""
    if item in victims:
        try:
            os.close(os.open(os.path.join(folder, str(item)), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return item * 10
        os.kill(os.getpid(), signal.SIGKILL)
    return item * 10


def killed_by(deadly, parent, item, sign=None):
    if item == deadly:
        assert os.getpid() != parent, "the parent must not do it"
        if sign is not None:
            sign.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


needs_kill = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")


class TestResults:
    @pytest.mark.parametrize(("backend", "count"), WAYS)
    def test_each_item_once_and_in_order(self, backend, count):
        assert list(stream(squared, range(40), count, backend)) == [i * i for i in range(40)]

    @pytest.mark.parametrize(("backend", "count"), WAYS)
    def test_order_does_not_depend_on_who_is_ready_first(self, backend, count):
        assert list(stream(late_first, list(range(8)), count, backend)) == list(range(8))

    @pytest.mark.parametrize(("backend", "count"), WAYS)
    @pytest.mark.parametrize("items", [[], [7]])
    def test_none_and_one(self, items, backend, count):
        assert list(stream(squared, items, count, backend)) == [i * i for i in items]

    @pytest.mark.parametrize(("backend", "count"), WAYS)
    def test_none_as_a_result(self, backend, count):
        assert list(stream(dict, [(), (), ()], count, backend)) == [{}, {}, {}]

    def test_loky_works_in_other_processes(self):
        assert os.getpid() not in set(stream(process, range(4), 2, "loky"))
        assert os.getpid() not in set(stream(process, range(2), 1, "loky"))

    @pytest.mark.parametrize("count", [1, 3])
    def test_threading_stays_in_this_one(self, count):
        assert set(stream(process, range(4), count, "threading")) == {os.getpid()}

    def test_as_many_threads_at_once_as_asked(self):
        together = threading.Barrier(3)

        def meet(item):
            together.wait(20)
            return item

        assert list(stream(meet, range(6), 3, "threading")) == list(range(6))

    @pytest.mark.parametrize(
        ("backend", "count"), [("sequential", 1), ("threading", 1), ("threading", 2)]
    )
    def test_results_come_while_work_goes_on(self, backend, count):
        first_was_taken = threading.Event()

        def work(item):
            assert item < 10 or first_was_taken.wait(20)
            return item

        results = stream(work, range(30), count, backend)
        assert next(results) == 0
        first_was_taken.set()
        assert list(results) == list(range(1, 30))

    # joblib's own thread may stumble over the tasks that are given up
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    @pytest.mark.filterwarnings("ignore:.*tasks:UserWarning")
    @pytest.mark.parametrize(("backend", "count"), WAYS)
    def test_whoever_takes_the_results_may_stop(self, backend, count):
        results = stream(squared, range(1000), count, backend)
        assert [next(results) for _ in range(3)] == [0, 1, 4]
        results.close()
        gc.collect()
        assert list(stream(squared, range(5), count, backend)) == [0, 1, 4, 9, 16]


class TestErrors:
    @pytest.mark.parametrize(("backend", "count"), WAYS)
    def test_of_the_work_come_through(self, backend, count):
        with pytest.raises(ZeroDivisionError, match="three"):
            list(stream(failing_three, range(8), count, backend))

    @pytest.mark.parametrize(("backend", "count"), WAYS)
    def test_ours_keep_what_they_carry(self, backend, count):
        with pytest.raises(SourceRefused) as caught:
            list(stream(refusing_three, range(8), count, backend))
        assert (caught.value.code, caught.value.message, caught.value.path) == (
            "I03",
            "truncated",
            "labels/3.txt",
        )


@needs_kill
class TestLostWorkers:
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_one_that_is_killed_once_is_made_good(self, tmp_path, count):
        work = partial(killed_once, str(tmp_path), (4,))
        assert list(stream(work, range(10), count, "loky")) == [i * 10 for i in range(10)]
        assert os.listdir(tmp_path) == ["4"]

    def test_as_are_the_first_and_the_last(self, tmp_path):
        work = partial(killed_once, str(tmp_path), (0, 5))
        assert list(stream(work, range(6), 2, "loky")) == [i * 10 for i in range(6)]

    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_an_item_that_always_kills_is_named(self, count):
        work = partial(killed_by, 5, os.getpid())
        taken = []
        with pytest.raises(Unfinished) as caught:
            taken.extend(stream(work, range(9), count, "loky"))
        assert caught.value.exit_code == 3
        assert str(caught.value).startswith("images/5.jpg: ")
        assert "run again" in str(caught.value)

    def test_what_comes_before_it_is_delivered(self):
        taken = []
        with pytest.raises(Unfinished):
            for result in stream(partial(killed_by, 3, os.getpid()), range(6), 2, "loky"):
                taken.append(result)
        assert taken == [0, 1, 2]

    def test_the_only_item(self):
        with pytest.raises(Unfinished, match=r"^images/0\.jpg: "):
            list(stream(partial(killed_by, 0, os.getpid()), [0], 1, "loky"))

    @pytest.mark.parametrize("count", [1, 2])
    def test_the_one_before_it_is_not_blamed_when_this_process_is_slow(
        self, monkeypatch, tmp_path, count
    ):
        """Its result may be there, and not taken yet, when the next item kills its worker.

        joblib looks for results every 10 ms; here it is held until a worker dies.
        """
        sign = tmp_path / "dying"

        def sleep(_, sleep=time.sleep):
            end = time.monotonic() + 0.6
            while not sign.exists() and time.monotonic() < end:
                sleep(0.01)
            sign.unlink(missing_ok=True)
            sleep(0.2)

        monkeypatch.setattr(
            joblib.parallel, "time", SimpleNamespace(**vars(time) | {"sleep": sleep})
        )
        taken = []
        with pytest.raises(Unfinished) as caught:
            for result in stream(
                partial(killed_by, 2, os.getpid(), sign=sign), range(4), count, "loky"
            ):
                taken.append(result)
        assert str(caught.value).startswith("images/2.jpg: ")
        assert taken == [0, 1]


class TestCount:
    def test_as_asked(self):
        assert [workers.count(n) for n in (1, 2, 64)] == [1, 2, 64]

    def test_zero_is_the_cores_this_process_may_use(self, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
        assert workers.count(0) == 3

    @pytest.mark.parametrize(("cores", "expected"), [(6, 6), (None, 1)])
    def test_zero_where_the_system_does_not_tell(self, monkeypatch, cores, expected):
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
        assert workers.count(0) == expected
