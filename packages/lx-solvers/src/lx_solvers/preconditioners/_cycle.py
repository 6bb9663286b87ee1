"""The cycle that multigrid methods share, geometric and algebraic.

On each level, with A x = b, smoothers S and S', restriction R and prolongation P,

    x = S b,    x += P C R (b - A x),    x += S' (b - A x),

where C is the same on the next level, once (V) or twice (W), or this way once and then
by V (F); on the last level it is an inverse (Briggs, Henson and McCormick 2000,
doi:10.1137/1.9780898719505). With S' = Sᴴ and R = Pᴴ, V and W are Hermitian; they are
definite if I - S A is a contraction in the norm of A.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array
from lx_operators import AbstractLinearOperator, conj, is_hermitian, linearise
from lx_operators.internal import check_matrix

from ._flat import as_matvec, matmul
from ._preconditioner import AbstractPreconditioner, Prepared, prepared
from .chebyshev import ChebyshevState, relaxed

KINDS = ("V", "W", "F")


class Level(eqx.Module):
    """A level that has a coarser one below it."""

    A: AbstractLinearOperator | None
    """None: that of the smoother."""
    R: AbstractLinearOperator
    P: AbstractLinearOperator
    before: Prepared
    after: Prepared | None
    """The smoothers; None: the same as before."""

    @property
    def operator(self) -> AbstractLinearOperator:
        """A, wherever it is."""
        return self.before.state.operator if self.A is None else self.A


class Cycle(eqx.Module):
    """The whole, as a linear map of flat vectors."""

    levels: tuple[Level, ...]
    inverse: Array
    """The inverse of the last level's matrix."""
    last: AbstractLinearOperator | None
    """The last level's operator, which W and F need."""
    kind: str = eqx.field(static=True)
    late: bool = eqx.field(static=True, default=False)
    """F's part comes after V's: of its transpose."""

    def __call__(self, b: Array) -> Array:
        return self._at(0, self.kind, b)

    def _at(self, i: int, kind: str, b: Array) -> Array:
        if i == len(self.levels):
            return matmul(self.inverse.astype(b.dtype), b)
        level = self.levels[i]
        R, P = as_matvec(level.R), as_matvec(level.P)
        if level.A is None:  # the smoother has residuals of its own
            x, r = relaxed(level.before.state, b)
            x = x + P(self._below(i + 1, kind, R(r)))
            after = level.before if level.after is None else level.after
            return relaxed(after.state, b, x)
        A = as_matvec(level.A)
        after = level.before if level.after is None else level.after
        x = as_matvec(level.before)(b)
        x = x + P(self._below(i + 1, kind, R(b - A(x))))
        return x + as_matvec(after)(b - A(x))

    def _below(self, i: int, kind: str, r: Array) -> Array:
        kinds = {"V": "V", "W": "WW", "F": "VF" if self.late else "FV"}[kind]
        if i == len(self.levels):
            kinds = kinds[:1]
        first, *rest = kinds
        x = self._at(i, first, r)
        A: Any = self.levels[i].operator if i < len(self.levels) else self.last
        for again in rest:
            x = x + self._at(i, again, r - as_matvec(A)(x))
        return x

    def transposed(self) -> "Cycle":
        def turned(level: Level) -> Level:
            A = None if level.A is None else level.A.T
            before: Any = level.before.T
            after: Any = None
            if level.after is not None:
                before, after = level.after.T, before
            return Level(A, level.P.T, level.R.T, before, after)

        levels = tuple(map(turned, self.levels))
        last = None if self.last is None else self.last.T
        return Cycle(levels, self.inverse.T, last, self.kind, not self.late)

    def conjugated(self) -> "Cycle":
        def turned(level: Level) -> Level:
            after: Any = None if level.after is None else conj(level.after)
            A = None if level.A is None else conj(level.A)
            R, P, before = map(conj, (level.R, level.P, level.before))
            return Level(A, R, P, before, after)

        levels = tuple(map(turned, self.levels))
        last = None if self.last is None else conj(self.last)
        return Cycle(levels, self.inverse.conj(), last, self.kind, self.late)


def level(
    A: AbstractLinearOperator,
    R: AbstractLinearOperator,
    P: AbstractLinearOperator,
    smoother: AbstractPreconditioner,
) -> Level:
    """A level with smoothers that are adjoints of each other."""
    before = prepared(smoother, A, {}, within=True)
    after: Any = None if is_hermitian(before) else before.H
    own = isinstance(before.state, ChebyshevState)
    return Level(None if own else linearise(A), R, P, before, after)


def inverse_of(A: AbstractLinearOperator) -> Array:
    """The pseudoinverse of the last level's matrix: it may be singular, as that of
    Neumann problems is.

    Raises:
        ValueError: it would be large, as where a matrix cannot be coarsened.
    """
    check_matrix(A, *_NO_MATRIX)
    return jnp.linalg.pinv(A.as_matrix(), hermitian=is_hermitian(A))


_NO_MATRIX = (
    "The cycle of `AMG` or `Multigrid`, which inverts the matrix of its last level,",
    "Give it more levels; an operator that cannot be coarsened wants another "
    "preconditioner, such as `Jacobi()`.",
)


def table_of(levels: Sequence[tuple[int, int | None]]) -> str:
    """A hierarchy as a table.

    Args:
        levels: unknowns and entries of each level; None where no entries are stored.

    Returns:
        Unknowns, entries, and entries per row of each level; below, the sum of the
        unknowns (grid complexity) and of the entries (operator complexity) of all
        levels, relative to the first (Briggs, Henson and McCormick 2000, chapter 8).
    """
    lines = [f"{'level':>5} {'unknowns':>10} {'entries':>11} {'a row':>6}"]
    for i, (n, size) in enumerate(levels):
        stored = "–" if size is None else str(size)
        row = "–" if size is None else f"{size / max(n, 1):.1f}"
        lines.append(f"{i:>5} {n:>10} {stored:>11} {row:>6}")
    unknowns, entries = zip(*levels)
    lines.append(f"grid complexity {sum(unknowns) / max(unknowns[0], 1):.2f}")
    if None not in entries:
        ratio = sum(entries) / max(entries[0], 1)
        lines.append(f"operator complexity {ratio:.2f}")
    return "\n".join(lines)


def check_kind(kind: str, name: str) -> None:
    if kind not in KINDS:
        raise ValueError(
            f"`cycle` of `{name}` must be one of {KINDS}, but got {kind!r}."
        )
