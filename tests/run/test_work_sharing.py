import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tiler.run.work_sharing import SharedThreads, done


class AtWork:
    """Counts how many are within it at once."""

    def __init__(self):
        self.lock, self.now, self.most, self.threads = threading.Lock(), 0, 0, set()

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.add(threading.get_ident())

    def __exit__(self, *_):
        with self.lock:
            self.now -= 1


def in_threads(number, function):
    """`function(i)` in so many threads, which have to end."""
    with ThreadPoolExecutor(number) as pool:
        return [future.result(20) for future in [pool.submit(function, i) for i in range(number)]]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_never_more_at_work_than_there_are_threads(count):
    threads, at_work = SharedThreads(count), AtWork()

    def piece(i):
        with at_work:
            time.sleep(0.001)
        return i

    def picture(number):
        with threads.busy():
            futures = [threads.later(lambda i=i: piece(100 * number + i)) for i in range(12)]
            return [future.result(20) for future in futures]

    assert in_threads(6, picture) == [[100 * number + i for i in range(12)] for number in range(6)]
    assert at_work.most <= count


def test_one_image_has_all_threads():
    threads, meeting = SharedThreads(4), threading.Barrier(4)
    with threads.busy():
        futures = [threads.later(lambda: meeting.wait(20)) for _ in range(3)]
        meeting.wait(20)  # which nobody passes before all four are here
        assert sorted(future.result(20) for future in futures) != []


def test_done_at_once_when_no_hand_is_free():
    threads = SharedThreads(1)
    with threads.busy():
        for _ in range(3):
            future = threads.later(threading.get_ident)
            assert future.done()
            assert future.result() == threading.get_ident()


def test_in_another_thread_when_one_is_free():
    threads = SharedThreads(2)
    with threads.busy():
        assert threads.later(threading.get_ident).result(20) != threading.get_ident()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_hand_is_free_again_after_its_work(count):
    threads = SharedThreads(count)
    for failing in (False, True):
        for _ in range(5 * count):
            future = threads.later(lambda failing=failing: 1 // (not failing))
            assert isinstance(future.exception(20), ZeroDivisionError if failing else type(None))
    meeting = threading.Barrier(count)
    futures = [threads.later(lambda: meeting.wait(20)) for _ in range(count)]
    assert len({future.result(20) for future in futures}) == count


def test_a_hand_is_free_again_when_a_picture_fails():
    threads = SharedThreads(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), threads.busy():
            raise ZeroDivisionError
    with threads.busy():
        assert threads.later(lambda: 7).result(20) == 7


@pytest.mark.parametrize("taken", [False, True])
def test_what_the_work_raises_comes_with_its_result(taken):
    threads = SharedThreads(1)

    def fails():
        raise MemoryError("of this piece")

    if taken:
        with threads.busy():
            future = threads.later(fails)
    else:
        future = threads.later(fails)
    with pytest.raises(MemoryError, match="of this piece"):
        future.result(20)


def test_an_interrupt_is_not_kept_for_later():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        done(interrupted)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_work_may_give_work_away_and_wait_for_it(count):
    threads, at_work = SharedThreads(count), AtWork()

    def tree(depth):
        if depth == 0:
            with at_work:
                time.sleep(0.0005)
            return 1
        futures = [threads.later(lambda: tree(depth - 1)) for _ in range(3)]
        return sum(future.result(20) for future in futures)

    def picture(_):
        with threads.busy():
            return tree(4)

    assert in_threads(3, picture) == [81] * 3
    assert at_work.most <= count
    assert len(at_work.threads) <= count + 3


def test_one_hand_for_many_pictures():
    threads, at_work = SharedThreads(1), AtWork()

    def picture(i):
        with threads.busy(), at_work:
            return threads.later(lambda: i * i).result(20)

    assert in_threads(8, picture) == [i * i for i in range(8)]
    assert at_work.most == 1
