"""The matrices of the benchmarks of sparse products and sparse direct solvers. Those
that pyamg ships need it installed, and are left out without it."""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp


def laplacian(n: int, axes: int) -> Any:
    """The Laplacian of an interval, a square or a cube of n points a side."""
    offsets: Any = [-1, 0, 1]
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=offsets, shape=(n, n))
    matrix = line
    for _ in range(axes - 1):
        matrix = sp.kronsum(line, matrix)
    return sp.csr_array(matrix)


def power_law(n: int, edges: int) -> Any:
    """Unsymmetric; a few rows have most of the entries."""
    rng = np.random.default_rng(0)
    weight = (np.arange(n) + 1.0) ** -0.8
    rows = rng.permutation(n)[rng.choice(n, edges, p=weight / weight.sum())]
    entries = (rng.normal(size=edges), (rows, rng.integers(0, n, edges)))
    return sp.csr_array(sp.coo_array(entries, (n, n)))


def graph(n: int) -> Any:
    """A graph's Laplacian plus the identity; a few vertices have most of the edges."""
    random = np.random.default_rng(0)
    i = random.integers(0, n, 3 * n)
    j = (n * random.random(3 * n) ** 3).astype(int)
    W = sp.coo_array((np.ones(3 * n), (i, j)), (n, n)).tocsr()
    W = W + W.T
    return sp.csr_array(sp.diags_array(W.sum(axis=1) + 1) - W)


def circuit(n: int) -> Any:
    """Unsymmetric, three entries a row, most of them near the diagonal."""
    random = np.random.default_rng(0)
    i = random.integers(0, n, 2 * n)
    j = (i + random.integers(-20, 20, 2 * n)) % n
    j[::50] = random.integers(0, n, j[::50].size)
    A = sp.coo_array((random.standard_normal(2 * n), (i, j)), (n, n))
    return sp.csr_array(A.tocsr() + 4 * sp.eye_array(n))


def helmholtz(n: int) -> Any:
    """Complex, on a square of n points a side."""
    return sp.csr_array(laplacian(n, 2) - (0.4 - 0.1j) * sp.eye_array(n * n))


def shipped(name: str) -> Any:
    """A matrix that comes with pyamg."""
    from pyamg.gallery import load_example

    return sp.csr_array(load_example(name)["A"])


Matrices = dict[str, Callable[[], Any]]
_SHIPPED: Matrices = {
    "Helmholtz, complex (pyamg)": lambda: shipped("helmholtz_2D"),
    "unit square (pyamg)": lambda: shipped("unit_square"),
    "airfoil (pyamg)": lambda: shipped("airfoil"),
    "bar (pyamg)": lambda: shipped("bar"),
}
SHIPPED: Matrices = _SHIPPED if importlib.util.find_spec("pyamg") else {}

PRODUCTS: Matrices = {
    "2-D Poisson 1e4": lambda: laplacian(100, 2),
    "2-D Poisson 1e5": lambda: laplacian(316, 2),
    "2-D Poisson 1e6": lambda: laplacian(1000, 2),
    "3-D Poisson 1e5": lambda: laplacian(46, 3),
    "power-law graph 1e5": lambda: power_law(100_000, 700_000),
    **SHIPPED,
}

SYSTEMS: Matrices = {
    "2-D Poisson 1e4": lambda: laplacian(100, 2),
    "3-D Poisson 8e3": lambda: laplacian(20, 3),
    "power law 3e3": lambda: graph(3000),
    "circuit 1e4": lambda: circuit(10_000),
    "Helmholtz 4e3, complex": lambda: helmholtz(64),
    **{name: make for name, make in SHIPPED.items() if name[:4] != "unit"},  # singular
}
LARGE: Matrices = {"2-D Poisson 1e5": lambda: laplacian(316, 2)}
