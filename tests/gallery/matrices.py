"""The gallery: test matrices, their classes and where they come from.

Sources, by the names used below:

- Higham: N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., SIAM
  2002, chapter 28, doi:10.1137/1.9780898718027; and "The Test Matrix Toolbox for MATLAB
  (version 3.0)", Numerical Analysis Report 276, Manchester 1995.
- Gregory and Karney: "A Collection of Matrices for Testing Computational Algorithms",
  Wiley 1969.
- Saad: "Iterative Methods for Sparse Linear Systems", 2nd ed., SIAM 2003,
  doi:10.1137/1.9780898718003.

All are real; `complexified` makes them complex, with the same singular values and the
same structure. Sizes are few, as each is one more program to compile.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg

N = 24


class Entry(NamedTuple):
    """A system: its matrix, its class and what else is true of it."""

    name: str
    kind: str
    source: str
    matrix: Callable[[], np.ndarray]
    true: frozenset[str] = frozenset()
    """A subset of `definite`, `semidefinite`, `hermitian`, `upper`, `tridiagonal`; and
    `large`, for elimination only."""
    consistent: bool = False
    """b is in the range of A; else it is random."""


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(28).standard_normal(shape)


def _orthogonal(m: int, k: int) -> np.ndarray:
    return np.linalg.qr(_random(m, k))[0]


def with_values(m: int, n: int, values: np.ndarray) -> np.ndarray:
    """U diag(values) Vᵀ, U and V random."""
    U, V = _orthogonal(m, len(values)), _orthogonal(n + 1, len(values))[:n]
    return (U * values) @ np.linalg.qr(V)[0].T


def symmetric(values: np.ndarray) -> np.ndarray:
    Q = _orthogonal(len(values), len(values))
    A = (Q * values) @ Q.T
    return (A + A.T) / 2


def _ones() -> np.ndarray:
    return np.ones((N, N))


def _signs(n: int) -> np.ndarray:
    return np.where(np.arange(n) % 2 == 0, 1.0, -1.0)


def _copies(A: np.ndarray) -> np.ndarray:
    """A in blocks along the diagonal."""
    return np.kron(np.eye(N // len(A)), A)


# Square


def frank(n: int = N) -> np.ndarray:
    i, j = np.indices((n, n))
    return np.where(j >= i - 1, n - np.maximum(i, j), 0).astype(float)


def growth(n: int = N) -> np.ndarray:
    """Elements grow by 2ⁿ⁻¹ under partial pivoting."""
    A = np.eye(n) - np.tril(np.ones((n, n)), -1)
    A[:, -1] = 1
    return A


def grcar(n: int = N) -> np.ndarray:
    return np.triu(np.tril(np.ones((n, n)), 3)) - np.eye(n, k=-1)


def lotkin(n: int = N) -> np.ndarray:
    A = scipy.linalg.hilbert(n)
    A[0] = 1
    return A


def parter(n: int = N) -> np.ndarray:
    i, j = np.indices((n, n))
    return 1 / (i - j + 0.5)


def redheffer(n: int = N) -> np.ndarray:
    i, j = np.indices((n, n)) + 1
    return ((j % i == 0) | (j == 1)).astype(float)


def forsythe(n: int = N) -> np.ndarray:
    A = np.eye(n, k=1)
    A[-1, 0] = 2.0**-20
    return A


def chebyshev_vandermonde(n: int = N) -> np.ndarray:
    return np.vander(np.cos(np.pi * (np.arange(n) + 0.5) / n), increasing=True)


def convection_diffusion(peclet: float, p: int = 4, q: int = 6) -> np.ndarray:
    """-Δu + c·∇u on a p by q grid, upwind differences."""
    return poisson(p, q) + peclet * (
        np.kron(np.eye(p), np.eye(q) - np.eye(q, k=-1))
        + np.kron(np.eye(p) - np.eye(p, k=-1), np.eye(q))
    )


# Hermitian


def poisson(p: int = 4, q: int = 6) -> np.ndarray:
    T, S = second_difference(p), second_difference(q)
    return np.kron(T, np.eye(q)) + np.kron(np.eye(p), S)


def lehmer(n: int = N) -> np.ndarray:
    i, j = np.indices((n, n)) + 1
    return np.minimum(i, j) / np.maximum(i, j)


def moler(n: int = N) -> np.ndarray:
    R = np.eye(n) - np.triu(np.ones((n, n)), 1)
    return R.T @ R


def minij(n: int = N) -> np.ndarray:
    i, j = np.indices((n, n)) + 1
    return np.minimum(i, j).astype(float)


def kms(rho: float, n: int = N) -> np.ndarray:
    i, j = np.indices((n, n))
    return rho ** np.abs(i - j)


def prolate(n: int = N) -> np.ndarray:
    k = np.arange(1, n)
    return scipy.linalg.toeplitz([0.5, *(np.sin(0.5 * np.pi * k) / (np.pi * k))])


def fiedler(n: int = N) -> np.ndarray:
    i, j = np.indices((n, n))
    return np.abs(i - j).astype(float)


def saddle_point(m: int = 16, k: int = 8) -> np.ndarray:
    """[[A, Bᵀ], [B, 0]]."""
    B = _random(k, m)
    return np.block([[poisson(4, 4), B.T], [B, np.zeros((k, k))]])


def clement(n: int = N) -> np.ndarray:
    off = np.sqrt(np.arange(1, n) * np.arange(n - 1, 0, -1))
    return np.diag(off, 1) + np.diag(off, -1)


def rosser() -> np.ndarray:
    return np.array(
        [
            [611, 196, -192, 407, -8, -52, -49, 29],
            [196, 899, 113, -192, -71, -43, -8, -44],
            [-192, 113, 899, 196, 61, 49, 8, 52],
            [407, -192, 196, 611, 8, 44, 59, -23],
            [-8, -71, 61, 8, 411, -599, 208, 208],
            [-52, -43, 49, 44, -599, 411, 208, 208],
            [-49, -8, 8, 59, 208, 208, 99, -911],
            [29, -44, 52, -23, 208, 208, -911, 99],
        ],
        float,
    )


# Triangular and tridiagonal


def kahan(n: int = N, angle: float = 1.2) -> np.ndarray:
    s, c = np.sin(angle), np.cos(angle)
    return (s ** np.arange(n))[:, None] * (np.eye(n) - c * np.triu(np.ones((n, n)), 1))


def bands(lower: np.ndarray, main: np.ndarray, upper: np.ndarray) -> np.ndarray:
    return np.diag(main) + np.diag(lower, -1) + np.diag(upper, 1)


def second_difference(n: int = N) -> np.ndarray:
    return bands(-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1))


def wilkinson(sign: float = 1, n: int = N) -> np.ndarray:
    """W⁺, and W⁻ with -1."""
    main = (n - 1) / 2 - np.arange(n)
    return bands(np.ones(n - 1), np.abs(main) if sign > 0 else main, np.ones(n - 1))


def dorr(theta: float = 0.01, n: int = N) -> np.ndarray:
    """A singular perturbation problem: diagonally dominant, badly conditioned."""
    h = 1 / (n + 1)
    i = np.arange(1, n + 1)
    term = theta / h**2
    left = i <= (n + 1) // 2
    slope = (0.5 - i * h) / h
    lower = np.where(left, -term, -term + slope)
    upper = np.where(left, -term - slope, -term)
    return bands(lower[1:], -(lower + upper), upper[:-1])


def lesp(n: int = N) -> np.ndarray:
    k = np.arange(2.0, n + 1)
    return bands(1 / k, -(2 * np.arange(n) + 5.0), k)


# Singular


def neumann(n: int = N) -> np.ndarray:
    A = second_difference(n)
    A[0, 0] = A[-1, -1] = 1
    return A


def repeated_constraint() -> np.ndarray:
    A = saddle_point()
    A[-1], A[:, -1] = A[16], A[:, 16]
    return A


def gram_of_rank(rank: int = 12) -> np.ndarray:
    B = of_rank(N, N, rank)
    return B @ B.T


def magic(n: int = N) -> np.ndarray:
    """The magic square of doubly even order: rank 3."""
    A = np.arange(1, n * n + 1).reshape(n, n)
    i, j = np.indices((n, n)) % 4
    return np.where((i == j) | (i + j == 3), n * n + 1 - A, A).astype(float)


def counting(n: int = N) -> np.ndarray:
    """1, 2, …, n² row by row: rank 2."""
    return np.arange(1.0, n * n + 1).reshape(n, n)


def of_rank(m: int, n: int, rank: int) -> np.ndarray:
    """A product of small whole numbers."""
    random = np.random.default_rng(rank)
    B, C = random.integers(-3, 4, (m, rank)), random.integers(-3, 4, (rank, n))
    return (B @ C).astype(float)


# Rectangular


def lauchli(m: int = 30, n: int = 12, small: float = 1e-6) -> np.ndarray:
    A = np.zeros((m, n))
    A[0] = 1
    A[1 : n + 1] = small * np.eye(n)
    return A


def polynomial(m: int = 30, n: int = 12) -> np.ndarray:
    """A fit of degree n - 1 at equidistant points."""
    return np.vander(np.linspace(0, 1, m), n, increasing=True)


def repeated_columns(m: int = 30, n: int = 12) -> np.ndarray:
    A = np.round(4 * _random(m, n))
    A[:, n // 2 :] = 2 * A[:, : n // 2]
    return A


# The gallery

_Spec = tuple[str, str, Callable[[], np.ndarray]]
_DEFINITE = frozenset({"definite", "hermitian"})
_SEMIDEFINITE = frozenset({"semidefinite", "hermitian"})
_HERMITIAN = frozenset({"hermitian"})
_UPPER, _THREE = frozenset({"upper"}), frozenset({"tridiagonal"})
_HIGHAM, _GREGORY, _SPECTRUM = "Higham", "Gregory and Karney", "Higham, 28.3"


def _entries(
    kind: str, *specs: _Spec, true: frozenset[str] = frozenset()
) -> tuple[Entry, ...]:
    return tuple(Entry(name, kind, src, matrix, true) for name, src, matrix in specs)


def _values(condition: float, n: int = N) -> np.ndarray:
    return np.geomspace(1, 1 / condition, n)


_GENERAL = _entries(
    "general",
    *(
        (f"random, condition 1e{p}", f"{_SPECTRUM}: geometric singular values",
         lambda p=p: with_values(N, N, _values(10.0**p)))
        for p in (0, 3, 6, 10, 14)
    ),
    ("one small singular value", _SPECTRUM,
     lambda: with_values(N, N, np.append(np.ones(N - 1), 1e-10))),
    ("rows of size 1 to 1e-12", "random",
     lambda: _values(1e12)[:, None] * _random(N, N)),
    ("columns of size 1 to 1e-12", "random", lambda: _values(1e12) * _random(N, N)),
    ("Frank", _GREGORY, frank),
    ("growth factor", "Higham, 9.3", growth),
    ("Grcar", _HIGHAM, grcar),
    ("Lotkin", _GREGORY, lotkin),
    ("Parter", _HIGHAM, parter),
    ("Redheffer", _HIGHAM, redheffer),
    ("Forsythe", _GREGORY, forsythe),
    ("Vandermonde, Chebyshev points", "Higham, 22", chebyshev_vandermonde),
    ("Vandermonde, equidistant", "Higham, 22", lambda: polynomial(N, N)),
    ("convection-diffusion, mild", "Saad, 2.2", lambda: convection_diffusion(1.0)),
    ("convection-diffusion, strong", "Saad, 2.2", lambda: convection_diffusion(1e3)),
    ("orthogonal", "random", lambda: _orthogonal(N, N)),
)  # fmt: skip

_LARGE = _entries(
    "general",
    ("growth factor, order 60", "Higham, 9.3", lambda: growth(60)),
    true=frozenset({"large"}),
)

_OF_DEFINITE = _entries(
    "definite",
    ("Hilbert, order 4", _GREGORY, lambda: _copies(scipy.linalg.hilbert(4))),
    ("Hilbert, order 8", _GREGORY, lambda: _copies(scipy.linalg.hilbert(8))),
    ("Hilbert, order 24", _GREGORY, lambda: scipy.linalg.hilbert(N)),
    ("Lehmer", _GREGORY, lehmer),
    ("Moler", _HIGHAM, moler),
    ("minij", _GREGORY, minij),
    ("Pascal, order 8", "Higham, 28.4", lambda: _copies(scipy.linalg.pascal(8) + 0.0)),
    ("Kac-Murdock-Szegő", _HIGHAM, lambda: kms(0.9)),
    ("prolate", _HIGHAM, prolate),
    ("Poisson, 2-D", "Saad, 2.2", poisson),
    *(
        (f"random definite, condition 1e{p}", _SPECTRUM,
         lambda p=p: symmetric(_values(10.0**p)))
        for p in (3, 6, 12)
    ),
    true=_DEFINITE,
)  # fmt: skip

_INDEFINITE = _entries(
    "indefinite",
    ("Fiedler", _HIGHAM, fiedler),
    ("saddle point", "Poisson with 8 random constraints", saddle_point),
    *(
        (f"random indefinite, condition 1e{p}", _SPECTRUM,
         lambda p=p: symmetric(_signs(N) * _values(10.0**p)))
        for p in (3, 10)
    ),
    true=_HERMITIAN,
)  # fmt: skip

_TRIANGULAR = _entries(
    "triangular",
    ("Kahan", _HIGHAM, kahan),
    (
        "ones above the diagonal",
        "Higham, 8.3",
        lambda: 2 * np.eye(N) - np.triu(_ones()),
    ),
    ("random triangular", "random", lambda: np.triu(_random(N, N))),
    ("Jordan block", _GREGORY, lambda: np.eye(N) / 2 + np.eye(N, k=1)),
    true=_UPPER,
)

_TRIDIAGONAL = (
    *_entries(
        "tridiagonal",
        ("Wilkinson W⁺", _HIGHAM, wilkinson),
        ("Wilkinson W⁻", _HIGHAM, lambda: wilkinson(-1)),
        ("Clement", _HIGHAM, clement),
        true=_THREE | _HERMITIAN,
    ),
    *_entries(
        "tridiagonal",
        ("second difference", _GREGORY, second_difference),
        true=_THREE | _DEFINITE,
    ),
    *_entries(
        "tridiagonal",
        ("Dorr", _HIGHAM, dorr),
        ("Lesp", _HIGHAM, lesp),
        true=_THREE,
    ),
)


def _singular(consistent: bool) -> tuple[Entry, ...]:
    kind = f"singular, {'' if consistent else 'in'}consistent"
    entries = (
        *_entries(kind, ("Neumann", _HIGHAM, neumann), true=_SEMIDEFINITE | _THREE),
        *_entries(
            kind,
            ("magic square", "Higham, 28.1", magic),
            ("counting", "1, 2, …, n²", counting),
            ("of rank 12", "whole numbers", lambda: of_rank(N, N, 12)),
        ),
        *_entries(
            kind,
            ("Rosser", _GREGORY, lambda: _copies(rosser())),
            ("saddle point, singular", "one constraint twice", repeated_constraint),
            true=_HERMITIAN,
        ),
        *_entries(
            kind,
            ("semidefinite of rank 12", "whole numbers", gram_of_rank),
            ("zero", "", lambda: np.zeros((N, N))),
            true=_SEMIDEFINITE,
        ),
    )
    if consistent:  # b = 0 would be no question
        entries = entries[:-1]
    where = f"b {'' if consistent else 'not '}in its range"
    return tuple(
        entry._replace(name=f"{entry.name}, {where}", consistent=consistent)
        for entry in entries
    )


_TALL = _entries(
    "tall",
    *(
        (f"random tall, condition 1e{p}", _SPECTRUM,
         lambda p=p: with_values(30, 12, _values(10.0**p, 12)))
        for p in (0, 4, 10)
    ),
    ("Läuchli", _HIGHAM, lauchli),
    ("polynomial fit", "Higham, 22", polynomial),
    ("tall, rows of size 1 to 1e-8", "random",
     lambda: _values(1e8, 30)[:, None] * _random(30, 12)),
)  # fmt: skip

_DEFICIENT = _entries(
    "deficient",
    ("repeated columns", "whole numbers", repeated_columns),
    ("tall of rank 5", "whole numbers", lambda: of_rank(30, 12, 5)),
    ("tall, zero", "", lambda: np.zeros((30, 12))),
)


def _transposed(entries: tuple[Entry, ...], kind: str) -> tuple[Entry, ...]:
    return tuple(
        entry._replace(
            name=f"{entry.name}, transposed",
            kind=kind,
            matrix=lambda entry=entry: entry.matrix().T,
        )
        for entry in entries
    )


GALLERY: tuple[Entry, ...] = (
    *_GENERAL,
    *_LARGE,
    *_OF_DEFINITE,
    *_INDEFINITE,
    *_TRIANGULAR,
    *_TRIDIAGONAL,
    *_singular(consistent=True),
    *_singular(consistent=False),
    *_TALL,
    *_transposed(_TALL, "wide"),
    *_DEFICIENT,
    *_transposed(_DEFICIENT, "deficient"),
)


def complexified(A: np.ndarray) -> np.ndarray:
    """D A D'ᴴ with powers of i on the diagonals, hence exactly; D = D' where A is
    square."""
    phases = 1j ** np.random.default_rng(5).integers(0, 4, max(A.shape))
    phases = np.round(phases.real) + 1j * np.round(phases.imag)
    return phases[: len(A), None] * A * phases[: A.shape[1]].conj()


def vector(entry: Entry, A: np.ndarray) -> np.ndarray:
    """The right-hand side, random: A y if the system is to be consistent."""
    random = np.random.default_rng(len(entry.name))
    b = random.standard_normal((A.shape[1] if entry.consistent else len(A), 2))
    b = b[:, 0] + 1j * b[:, 1] if np.iscomplexobj(A) else b[:, 0]
    return A @ b if entry.consistent else b
