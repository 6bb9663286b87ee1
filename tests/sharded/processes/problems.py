"""Problems that the programs of this folder share."""

from typing import Any

import numpy as np
import scipy.sparse as sp


def poisson(k: int, jump: float = 1.0) -> Any:
    """-∇·c∇u on k³ points, with c = `jump` in the middle, and u zero outside."""
    n = np.arange(k**3).reshape(k, k, k)
    inside = (np.indices((k, k, k)) // (k // 4 or 1)) % 4
    c = np.where(np.all((inside == 1) | (inside == 2), axis=0), jump, 1.0).reshape(-1)
    rows, columns, values = [], [], []
    for axis in range(3):
        i = np.delete(n, -1, axis).reshape(-1)
        j = np.delete(n, 0, axis).reshape(-1)
        w = 2 * c[i] * c[j] / (c[i] + c[j])
        rows += [i, j, i, j]
        columns += [j, i, i, j]
        values += [-w, -w, w, w]
        for end in (0, -1):
            i = np.take(n, end, axis).reshape(-1)
            rows, columns, values = [*rows, i], [*columns, i], [*values, c[i]]
    arrays = map(np.concatenate, (values, rows, columns))
    values, rows, columns = arrays
    return sp.csr_array(sp.coo_array((values, (rows, columns)), shape=(k**3, k**3)))
