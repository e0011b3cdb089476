"""Which images are shown: by a written rule, whatever their order."""

from hypothesis import given
from hypothesis import strategies as st

from tiler.inspecting.showing.choosing import Candidate, chosen


def candidate(i, **about):
    about = {"objects": 1, "side": 50.0, "split": "train", "origin": f"p{i}", **about}
    return Candidate(i, f"p{i}", about.pop("split"), about.pop("origin"), **about)


def keys(candidates, n):
    return [one.key for one in chosen(candidates, n)]


@st.composite
def candidates(draw):
    made = []
    for i in range(draw(st.integers(0, 12))):
        made.append(
            candidate(
                i,
                objects=draw(st.integers(0, 3)),
                side=float(draw(st.integers(1, 4))),
                split=draw(st.sampled_from(["train", "val"])),
                origin=draw(st.sampled_from(["x", "y"])),
                classes=draw(st.frozensets(st.integers(0, 3))),
                cut=draw(st.integers(0, 2)),
            )
        )
    return made


@given(candidates(), st.randoms(use_true_random=False), st.integers(1, 15))
def test_the_order_does_not_matter_and_more_begin_with_the_same(made, random, n):
    shuffled = list(made)
    random.shuffle(shuffled)
    assert keys(made, n) == keys(shuffled, n)
    assert keys(made, n + 1)[:n] == keys(made, n)
    assert len(keys(made, n)) == min(n, len(made))
    first_empty = [one.objects == 0 for one in chosen(made, n)]
    assert first_empty == sorted(first_empty)


def test_the_criteria_take_turns():
    crowded = candidate(0, objects=100)
    small = candidate(1, objects=5, side=3.0)
    rare = candidate(2, objects=2, classes=frozenset({7}))
    cut = candidate(3, objects=2, cut=2)
    others = [candidate(i, objects=10, side=20.0) for i in range(4, 9)]
    assert keys([*others, cut, rare, small, crowded], 4) == ["p0", "p1", "p2", "p3"]


def test_splits_take_turns_and_then_the_images_that_tiles_were_cut_from():
    train = [candidate(i, objects=9, origin="big") for i in range(3)]
    other = candidate(3, origin="other")
    val = candidate(4, split="val")
    assert keys([*train, other, val], 3) == ["p0", "p4", "p3"]
