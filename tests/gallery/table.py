"""Solver by matrix, dtype and scale: how each solve ends, and how good it is.

An outcome is a letter: `s` for solved (called successful), else the failure that was
reported; `.` where the scale takes the system out of the dtype's range. What a solver
calls solved is judged by NumPy, in `false`.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import scipy.linalg
from lx_solvers import RESULTS
from lx_solvers.testing import backward_error

from tests.gallery.matrices import GALLERY, Entry, complexified, vector

DTYPES = ("float32", "float64", "complex64", "complex128")

# multiples of A and of b
SCALES = tuple((s, t) for s in (1.0, 1e-30, 1e20) for t in (1.0, 1e-30, 1e20))

LETTERS = {
    "s": "successful",
    "n": "singular",
    "d": "not_definite",
    "u": "unstable",
    "m": "max_steps_reached",
    "b": "breakdown",
    "g": "stagnation",
    "c": "conlim",
    "i": "nonfinite_input",
}


class Column(NamedTuple):
    """A solver, and what it is asked to solve."""

    name: str
    solver: Callable[[float], lxs.AbstractLinearSolver]
    """With the tolerance, for those that have one."""
    takes: Callable[[Entry], bool]
    tags: Any = ()
    direct: bool = True
    dtypes: tuple[str, ...] = DTYPES
    sparse: bool = False
    """Whether it is given the nonzero elements, as a sparse operator."""


def _square(entry: Entry) -> bool:
    return _any(entry) and not _oblong(entry)


def _oblong(entry: Entry) -> bool:
    return entry.kind in ("tall", "wide", "deficient")


def _any(entry: Entry) -> bool:
    return "large" not in entry.true


def _or_large(takes: Callable[[Entry], bool]) -> Callable[[Entry], bool]:
    return lambda entry: takes(entry) or "large" in entry.true


def _known(*facts: str) -> Callable[[Entry], bool]:
    return lambda entry: bool(entry.true & set(facts))


_psd, _hermitian = lxo.positive_semidefinite_tag, lxo.hermitian_tag


def _sparse(name: str, solver: Any, takes: Callable[[Entry], bool], tags: Any = ()):
    """In two dtypes, as each pattern is a program to compile."""
    return Column(name, lambda _: solver, takes, tags, dtypes=DTYPES[1:3], sparse=True)


HAS_RSLAB = importlib.util.find_spec("rslab") is not None


COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("LU", lambda _: lxs.LU(), _or_large(_square)),
        Column("Refined(LU)", lambda _: lxs.Refined(lxs.LU()), _or_large(_square)),
        Column("QR", lambda _: lxs.QR(), _or_large(_any)),
        Column("PivotedQR", lambda _: lxs.PivotedQR(), _any),
        Column("SVD", lambda _: lxs.SVD(), _any),
        Column("Cholesky", lambda _: lxs.Cholesky(),
               _known("definite", "semidefinite"), _psd),
        Column("Eigh", lambda _: lxs.Eigh(), _known("hermitian"), _hermitian),
        Column("Triangular", lambda _: lxs.Triangular(), _known("upper"),
               lxo.upper_triangular_tag),
        Column("Tridiagonal", lambda _: lxs.Tridiagonal(), _known("tridiagonal"),
               lxo.tridiagonal_tag),
        _sparse("SparseLU", lxs.SparseLU("superlu"), _or_large(_square)),
        _sparse("SparseLU(rslab)", lxs.SparseLU("rslab"), _or_large(_square)),
        _sparse("SparseCholesky", lxs.SparseCholesky("superlu"),
                _known("definite", "semidefinite"), _psd),
        _sparse("SparseCholesky(rslab)", lxs.SparseCholesky("rslab"),
                _known("definite", "semidefinite"), _psd),
        _sparse("SparseLDL(rslab)", lxs.SparseLDL("rslab"), _known("hermitian"),
                _hermitian),
        _sparse("SparseLeastSquares", lxs.SparseLeastSquares(backend="superlu"),
                _oblong),
        Column("CG", lambda tol: lxs.CG(tol, 0.0), _known("definite", "semidefinite"),
               _psd, False),
        Column("MINRES", lambda tol: lxs.MINRES(tol, 0.0), _known("hermitian"),
               _hermitian, False),
        Column("BiCGStab", lambda tol: lxs.BiCGStab(tol, 0.0), _square, (), False),
        Column("GMRES", lambda tol: lxs.GMRES(tol, 0.0), _square, (), False),
        Column("FGMRES", lambda tol: lxs.FGMRES(tol, 0.0), _square, (), False),
        Column("SYMMLQ", lambda tol: lxs.SYMMLQ(tol, 0.0), _known("hermitian"),
               _hermitian, False),
        Column("MINRESQLP", lambda tol: lxs.MINRESQLP(tol, 0.0), _known("hermitian"),
               _hermitian, False),
        # of complex matrices here none is symmetric
        Column("COCG", lambda tol: lxs.COCG(tol, 0.0), _known("hermitian"),
               lxo.symmetric_tag, False, DTYPES[:2]),
        Column("BiCGStab(ell=2)", lambda tol: lxs.BiCGStab(tol, 0.0, ell=2), _square,
               (), False),
        Column("IDR", lambda tol: lxs.IDR(tol, 0.0), _square, (), False),
        Column("DeflatedCG", lambda tol: lxs.DeflatedCG(tol, 0.0),
               _known("definite", "semidefinite"), _psd, False),
        Column("GCRODR(restart=12, recycle=4)",
               lambda tol: lxs.GCRODR(tol, 0.0, restart=12, recycle=4), _square, (),
               False, DTYPES[1:3]),
        Column("LSMR", lambda tol: lxs.LSMR(tol, 0.0), _any, (), False),
        Column("LSQR", lambda tol: lxs.LSQR(tol, 0.0), _any, (), False),
        Column("Normal(CG)", lambda tol: lxs.Normal(lxs.CG(tol, 0.0)), _any, (), False),
        Column("Normal(Cholesky)", lambda _: lxs.Normal(lxs.Cholesky()), _any, (),
               False),
    )
}  # fmt: skip


class Case(NamedTuple):
    """A system as it is given to the solvers."""

    entry: Entry
    scale: int
    A: np.ndarray
    b: np.ndarray


@functools.cache
def cases(dtype: str) -> tuple[Case, ...]:
    """The gallery in this dtype, at all scales that are in range."""
    out = []
    for entry in GALLERY:
        A = entry.matrix()
        if dtype.startswith("complex"):
            A = complexified(A)
        b = vector(entry, A)
        for k, (s, t) in enumerate(SCALES):
            case = Case(entry, k, (s * A).astype(dtype), (t * b).astype(dtype))
            size = t * np.max(np.abs(b)) / (s * (np.max(np.abs(A)) or 1))
            if _in_range(s * A, dtype) and _in_range(t * b, dtype, size):
                out.append(case)
    return tuple(out)


def _in_range(x: np.ndarray, dtype: str, other: float = 1.0) -> bool:
    """All elements, and another number, are far enough from the ends of the range, or
    zero."""
    info = np.finfo(dtype)
    size = np.abs(np.append(x[x != 0], other))
    least = info.tiny / info.eps  # rounding errors are to be normal numbers, too
    return bool(np.all(size >= least) and np.all(size <= info.max / 1e3))


class Outcome(NamedTuple):
    letter: str
    x: np.ndarray


@eqx.filter_jit
def _solve(solver: Any, tags: Any, pattern: Any, matrices: Any, vectors: Any) -> Any:
    def one(A, b):
        operator = lxo.MatrixLinearOperator(A, tags)
        if pattern is not None:
            operator = lxo.SparseLinearOperator.from_dense(A, tags, pattern=pattern)
        state = solver.init(operator, {})
        x, result, _ = solver.compute(state, b, {})
        which = [result == getattr(RESULTS, name) for name in LETTERS.values()]
        return x, jnp.argmax(jnp.stack([*which, jnp.asarray(True)]))

    return jax.vmap(one)(matrices, vectors)


def solve(column: Column, given: Iterable[Case], dtype: str) -> list[Outcome]:
    """One compiled program for each shape, or pattern; all its systems at once."""
    given = list(given)
    tolerance = float(np.finfo(dtype).eps) ** 0.5 / 4
    outcomes: dict[int, Outcome] = {}
    groups: dict[Any, list[int]] = {}
    for i, case in enumerate(given):
        mask = (case.A != 0).tobytes() if column.sparse else b""
        groups.setdefault((case.A.shape, mask), []).append(i)
    for which in groups.values():
        matrices = np.stack([given[i].A for i in which])
        vectors = np.stack([given[i].b for i in which])
        pattern = None
        if column.sparse:
            pattern = lxo.SparsityPattern.from_dense(matrices[0] != 0)
        how = column.solver(tolerance), column.tags, pattern
        xs, codes = _solve(*how, matrices, vectors)
        for i, x, code in zip(which, np.asarray(xs), np.asarray(codes), strict=True):
            outcomes[i] = Outcome(list(LETTERS)[code], x)
    return [outcomes[i] for i in range(len(given))]


def asked(column: Column, dtype: str) -> list[Case]:
    """What this solver is given."""
    return [case for case in cases(dtype) if column.takes(case.entry)]


# Judgement


def false(case: Case, x: np.ndarray) -> str:
    """Why a solution that is called successful is none; nothing if it is.

    Its backward error must be at most √eps. Of a system that is singular and has no
    solution, and of one that has many, the solution is A†b.
    """
    eps = float(np.finfo(case.A.dtype).eps)
    error = backward_error(case.A, x, case.b)
    if not error <= eps**0.5:
        return f"backward error {error:.1e}"
    if case.entry.kind in ("singular, inconsistent", "deficient"):
        wanted = minimum_norm(case)
        far = float(np.max(np.abs(x - wanted)) / (np.max(np.abs(wanted)) or 1))
        if not far <= 100 * eps**0.5:
            return f"{far:.1e} from the pseudoinverse solution"
    return ""


def minimum_norm(case: Case) -> np.ndarray:
    """A†b of a matrix whose rank is plain, in double precision."""
    s, t = SCALES[case.scale]
    wide = np.clongdouble
    A = (case.A.astype(wide) / s).astype(np.complex128)
    b = (case.b.astype(wide) / t).astype(np.complex128)
    return np.linalg.pinv(A, rcond=1e-5) @ b * wide(t) / wide(s)


def allowed(case: Case) -> float:
    """Ten times the backward error of LAPACK, as SciPy calls it; of a rounding for
    every four unknowns or equations, if that is more."""
    with np.errstate(all="ignore"):
        x = _lapack(case.A, case.b)
    theirs = backward_error(case.A, x, case.b)
    roundings = max(case.A.shape) / 4 * float(np.finfo(case.A.dtype).eps)
    return 10 * max(theirs, roundings)


def _lapack(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    if A.shape[0] == A.shape[1]:
        try:
            _, _, x, info = scipy.linalg.lapack.get_lapack_funcs(("gesv",), (A, b))[0](
                A, b
            )
            if info == 0 and np.isfinite(x).all():
                return x
        except ValueError:
            pass
    return scipy.linalg.lstsq(A, b, lapack_driver="gelsy")[0]
