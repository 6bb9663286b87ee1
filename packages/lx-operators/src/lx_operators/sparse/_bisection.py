"""Orders of unknowns for which contiguous blocks touch few others."""

from typing import Any

import numpy as np


def bisected(
    graph: Any, parts: int, counts: tuple[int, ...], blocks: tuple[int, ...]
) -> list[np.ndarray]:
    """The order of recursive bisection of a graph by its levels.

    Each half is the first part of the reverse Cuthill-McKee order of what is to be
    halved (George and Liu 1981, "Computer Solution of Large Sparse Positive Definite
    Systems": level structures as separators). It cuts a box across its longest side.

    Args:
        graph: the symmetric pattern, a SciPy sparse array.
        parts: the number of blocks.
        counts: the number of nodes of each kind, in order: unknowns, or rows and
            columns.
        blocks: how many nodes of each kind make a block.

    Returns:
        The nodes of each kind in their order, numbered from 0.
    """
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    firsts = np.concatenate([[0], np.cumsum(counts)])
    kind = np.repeat(np.arange(len(counts)), counts)
    found: list[np.ndarray] = []

    def cut(nodes: np.ndarray, parts: int) -> None:
        if parts == 1 or nodes.size < 2:
            found.append(nodes)
            return
        part = graph[nodes][:, nodes]
        nodes = nodes[reverse_cuthill_mckee(part, symmetric_mode=True)]
        first = np.zeros(nodes.size, bool)
        for k, block in enumerate(blocks):
            first[np.flatnonzero(kind[nodes] == k)[: (parts // 2) * block]] = True
        cut(nodes[first], parts // 2)
        cut(nodes[~first], parts - parts // 2)

    cut(np.arange(graph.shape[0]), parts)
    order = np.concatenate(found)
    return [order[kind[order] == k] - firsts[k] for k in range(len(counts))]
