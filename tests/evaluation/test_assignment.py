import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.evaluation.assignment import assigned, firsts, uncontested


def by_loop(found, label, shared):
    """Each detection in turn takes the first of its labels that is free."""
    taken, matched = set(), []
    for d in np.unique(found):
        for pair in np.flatnonzero(found == d):
            if shared[pair] or label[pair] not in taken:
                matched.append(int(pair))
                if not shared[pair]:
                    taken.add(label[pair])
                break
    return matched


@st.composite
def wishes(draw, most=8):
    """Pairs of detections and labels: each detection's labels in an order of its own, some of them
    shared.
    """
    labels = draw(st.integers(1, most))
    ranked = draw(
        st.lists(st.lists(st.integers(0, labels - 1), unique=True, max_size=labels), max_size=most)
    )
    numbers = np.array(
        draw(st.lists(st.integers(0, 3), min_size=len(ranked), max_size=len(ranked))), np.int64
    )
    # with gaps
    found = np.repeat(np.cumsum(numbers + 1), [len(wanted) for wanted in ranked]).astype(np.int64)
    crowd = np.array(draw(st.lists(st.booleans(), min_size=labels, max_size=labels)))
    label = np.array([g for wanted in ranked for g in wanted], np.int64)
    return found, label, labels, crowd[label] & draw(st.booleans())


@quick
@given(wishes())
def test_it_is_what_a_loop_assigns(given):
    found, label, labels, shared = given
    assert assigned(found, label, labels, shared).tolist() == by_loop(found, label, shared)
    if not shared.any():
        assert assigned(found, label, labels).tolist() == by_loop(found, label, shared)


@quick
@given(wishes(), st.lists(st.sampled_from([0.5, 0.7, 0.9]), min_size=64, max_size=64))
def test_without_a_contest_the_first_gets_the_label_and_the_others_are_matched_alone(given, ious):
    found, label, labels, shared = given
    iou = np.array(ious)[: len(found)]
    thresholds = np.array([0.5, 0.6, 0.8, 0.95])
    plain = uncontested(found, label) & ~shared
    places = np.flatnonzero(plain)
    others = np.flatnonzero(~plain)
    won = firsts(label[plain], iou[plain], thresholds, labels)
    for threshold, first in zip(thresholds, won, strict=True):
        enough = np.flatnonzero(iou >= threshold)
        expected = enough[by_loop(found[enough], label[enough], shared[enough])]
        rest = others[iou[others] >= threshold]
        taken = rest[assigned(found[rest], label[rest], labels, shared[rest])]
        assert sorted([*places[first], *taken]) == expected.tolist()


@quick
@given(wishes())
def test_it_is_stable(given):
    """Nobody would rather have a label that is free, or held by one who chooses later."""
    found, label, labels, shared = given
    chosen = assigned(found, label, labels, shared)
    assert (np.diff(found[chosen]) > 0).all()
    holder = {int(label[p]): int(found[p]) for p in chosen if not shared[p]}
    assert len(holder) == (~shared[chosen]).sum()
    mine = {int(found[p]): int(p) for p in chosen}
    for p, (d, g) in enumerate(zip(found.tolist(), label.tolist(), strict=True)):
        if p < mine.get(d, len(found)):
            assert not shared[p]
            assert holder.get(g, d + 1) < d


def test_many_against_the_loop():
    rng = np.random.default_rng(0)
    for labels in (5, 60, 400):
        found = np.repeat(np.arange(300), rng.integers(0, 9, 300))
        label = rng.integers(0, labels, len(found))
        for shared in (np.zeros(labels, bool), rng.random(labels) < 0.1):
            assert assigned(found, label, labels, shared[label]).tolist() == by_loop(
                found, label, shared[label]
            )


def test_all_want_the_same_labels_in_the_same_order():
    n = 50
    found, label = np.repeat(np.arange(n), n), np.tile(np.arange(n), n)
    assert label[assigned(found, label, n)].tolist() == list(range(n))


def test_one_who_is_displaced_asks_on():
    # 0 takes the label that 1 held first; 1 takes that of 2; 2 has no other
    found, label = np.array([0, 0, 1, 1, 2]), np.array([3, 0, 0, 1, 1])
    assert assigned(found, label, 4).tolist() == [0, 2, 4]
    found, label = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1])
    assert assigned(found, label, 4).tolist() == [0, 3]


def test_no_pairs():
    none = np.empty(0, np.int64)
    assert assigned(none, none, 0).shape == assigned(none, none, 5, np.empty(0, bool)).shape == (0,)
