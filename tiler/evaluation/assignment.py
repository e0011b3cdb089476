"""Which detection gets which label: the greedy matching of all evaluators, for all images at once.

Detections choose in the order of their confidence, each its best label that is still free. That is
the one stable matching when all labels prefer the more confident detection, so it may be found by
deferred acceptance (Gale and Shapley 1962): in each round every free detection asks its next
best label, and a label keeps the most confident that asked. A few rounds on arrays do what
evaluators loop over images, classes and thresholds for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tiler.types import Bools, Ints


def assigned(found: Ints, label: Ints, labels: int, shared: Bools | None = None) -> Ints:
    """Which pairs are matched.

    Args:
        found: `(P,)` detection of each pair, ascending; the smaller number chooses first. The pairs
            of one detection stand in the order that it prefers.
        label: `(P,)` label of each pair.
        labels: the number of labels.
        shared: `(P,)` pairs with a label that any number of detections may take (a crowd).

    Returns:
        `(M,)` numbers of the matched pairs, ascending; each detection is in one at most.

    >>> assigned(np.array([0, 0, 1, 1]), np.array([5, 6, 5, 6]), labels=7).tolist()
    [0, 3]
    """
    count = len(found)
    first = np.ones(count, bool)
    first[1:] = found[1:] != found[:-1]
    asking = np.flatnonzero(first)
    holder = np.full(labels, count, np.int64)  # the pair that each label keeps
    settled = []
    while len(asking):
        if shared is not None:
            free = shared[asking]
            settled.append(asking[free])
            asking = asking[~free]
        wanted = label[asking]
        before = holder[wanted]
        np.minimum.at(holder, wanted, asking)
        now = holder[wanted]
        refused = asking[now != asking]
        displaced = np.unique(before[(before < count) & (before != now)])
        after = np.concatenate([refused, displaced]) + 1
        after = after[after < count]
        asking = np.sort(after[~first[after]])
    return np.sort(np.concatenate([*settled, holder[holder < count]]))
