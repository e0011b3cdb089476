from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.matching.groups import Extents, Pairs, components, one_a_tile

N = 12


@st.composite
def graphs(draw, most=20):
    """n, and pairs (i, j) in any order and direction, some twice."""
    n = draw(st.integers(1, N))
    node = st.integers(0, n - 1)
    edges = draw(st.lists(st.tuples(node, node).filter(lambda e: e[0] != e[1]), max_size=most))
    return n, np.array(edges, np.int64).reshape(-1, 2)


@st.composite
def contests(draw):
    """What `one_a_tile` is given: pairs, tiles, extents and which of one tile may be pieces."""
    n, edges = draw(graphs())
    flags = st.lists(st.booleans(), min_size=len(edges), max_size=len(edges)).map(
        lambda v: np.array(v, bool)
    )
    pairs = Pairs(edges[:, 0], edges[:, 1], draw(flags), draw(flags))
    tile = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), np.int64)
    reach = np.array(
        draw(st.lists(st.tuples(*[st.integers(-3, 3)] * 4), min_size=n, max_size=n)), np.float64
    )
    end = (
        reach
        + np.array(draw(st.lists(st.sampled_from([0.0, 2.0, np.inf]), min_size=n, max_size=n)))[
            :, None
        ]
    )
    pieces = draw(st.sampled_from([None, lambda a, b: True, lambda a, b: (a + b) % 2 == 0]))
    return pairs, tile, Extents(reach, end), pieces


def flooded(n, edges):
    """The lowest index that each node is connected to, by breadth-first search."""
    label = [-1] * n
    for start in range(n):
        if label[start] >= 0:
            continue
        queue = deque([start])
        while queue:
            node = queue.popleft()
            if label[node] < 0:
                label[node] = start
                queue += [b for a, b in edges if a == node] + [a for a, b in edges if b == node]
    return label


def joined_one_by_one(pairs, tile, extents, apart):
    """Kruskal's loop over sets, with the rules of `one_a_tile`."""
    n = len(tile)
    edges = list(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True))
    whole = np.array(flooded(n, edges))
    sets = [{k} for k in range(n)]
    for (a, b), piece, doubtful in zip(edges, pairs.piece, pairs.doubtful, strict=True):
        one, other = (next(s for s in sets if k in s) for k in (a, b))
        if one is other:
            continue
        members = np.flatnonzero(whole == whole[a])
        if len(set(tile[members])) < len(members):  # else nothing speaks against the component
            same = [(x, y) for x in one for y in other if tile[x] == tile[y]]
            if same and not (piece and apart is not None and all(apart(*two) for two in same)):
                continue
            if doubtful:
                reach = [extents.reach[list(s)].max(axis=0) for s in (one, other)]
                end = [extents.end[list(s)].min(axis=0) for s in (one, other)]
                if (reach[0] > end[1]).any() or (reach[1] > end[0]).any():
                    continue
        sets.remove(other)
        one |= other
    return [min(next(s for s in sets if k in s)) for k in range(n)]


@quick
@given(graphs())
def test_components_are_what_can_be_reached(graph):
    n, edges = graph
    assert components(n, *edges.T).tolist() == flooded(n, edges.tolist())


def test_components_of_long_chains():
    n = 20_000
    order = np.random.default_rng(0).permutation(n)
    assert not components(n, order[:-1], order[1:]).any()
    apart = components(n, np.arange(0, n, 2), np.arange(1, n, 2))
    np.testing.assert_array_equal(apart, np.arange(n) // 2 * 2)


def test_components_of_nothing():
    none = np.empty(0, np.int64)
    assert components(0, none, none).tolist() == []
    assert components(3, none, none).tolist() == [0, 1, 2]


@quick
@given(contests())
def test_groups_are_those_of_joining_pair_by_pair(contest):
    assert one_a_tile(*contest).tolist() == joined_one_by_one(*contest)


@quick
@given(contests())
def test_no_group_has_two_of_a_tile_unless_pieces(contest):
    pairs, tile, extents, _ = contest
    label = one_a_tile(pairs, tile, extents)
    for group in np.unique(label):
        seen = tile[label == group]
        assert len(np.unique(seen)) == len(seen)
        assert group == np.flatnonzero(label == group)[0]


def contest(edges, tile, reach=None, end=None, piece=(), doubtful=()):
    n, m = len(tile), len(edges)
    i, j = np.array(edges, np.int64).reshape(-1, 2).T
    flags = [np.array([k in which for k in range(m)], bool) for which in (piece, doubtful)]
    zeros = np.zeros((n, 4))
    extents = Extents(
        zeros if reach is None else np.array(reach, float),
        zeros + np.inf if end is None else np.array(end, float),
    )
    return Pairs(i, j, *flags), np.array(tile), extents


def test_the_surest_pair_comes_first():
    assert one_a_tile(*contest([(0, 2), (1, 2)], [0, 0, 1])).tolist() == [0, 1, 0]
    assert one_a_tile(*contest([(1, 2), (0, 2)], [0, 0, 1])).tolist() == [0, 1, 1]


def test_a_crowd_is_no_chain():
    # each looks like its neighbour in the other tile: 0-1, 1-2, 2-3, ... of tiles 0 1 0 1 ...
    n = 10
    label = one_a_tile(*contest([(k, k + 1) for k in range(n - 1)], [k % 2 for k in range(n)]))
    assert label.tolist() == [k // 2 * 2 for k in range(n)]


def test_pieces_of_one_object_may_be_of_one_tile():
    given = contest([(0, 2), (1, 2)], [0, 0, 1], piece=[1])
    assert one_a_tile(*given).tolist() == [0, 1, 0]
    assert one_a_tile(*given, lambda a, b: True).tolist() == [0, 0, 0]
    assert one_a_tile(*given, lambda a, b: False).tolist() == [0, 1, 0]
    asked = []
    one_a_tile(*given, lambda a, b: asked.append({a, b}) or True)
    assert asked == [{0, 1}]


@pytest.mark.parametrize(("end", "expected"), [(2.0, [0, 0, 0, 3]), (1.0, [0, 1, 0, 3])])
def test_a_doubtful_pair_does_not_join_what_was_seen_to_end(end, expected):
    # 0 and 2 are sure; 1 reaches 1.5 px to the left, and 2 ends at `end`; 3 makes a crowd of them
    reach = [[0] * 4, [1.5, 0, 0, 0], [0] * 4, [0] * 4]
    ends = [[9] * 4, [9] * 4, [end, 9, 9, 9], [9] * 4]
    given = contest([(0, 2), (1, 2), (3, 2)], [0, 1, 2, 0], reach, ends, doubtful=[1])
    assert one_a_tile(*given).tolist() == expected


def test_what_a_group_saw_counts_for_all_its_members():
    # 0 ends at 1 and joins 1, which could go on; 2 reaches to 5 and looks like 1 only
    reach = [[0] * 4, [0] * 4, [5, 0, 0, 0], [0] * 4]
    ends = [[1, 9, 9, 9], [np.inf] * 4, [np.inf] * 4, [9] * 4]
    edges, tiles = [(0, 1), (1, 2), (3, 1)], [0, 1, 2, 0]
    assert one_a_tile(*contest(edges, tiles, reach, ends, doubtful=[1])).tolist() == [0, 0, 2, 3]
    assert one_a_tile(*contest(edges, tiles, reach, ends)).tolist() == [0, 0, 0, 3]
