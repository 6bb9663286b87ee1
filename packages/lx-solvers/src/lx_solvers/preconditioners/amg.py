"""Algebraic multigrid."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, ArrayLike
from lx_operators import (
    AbstractLinearOperator,
    SparseLinearOperator,
    SparsityPattern,
    is_hermitian,
    linearise,
)

from ._adapted import as_preconditioner
from ._cycle import Cycle, check_kind, inverse_of, level, table_of
from ._flat import on_flat
from ._galerkin import Galerkin, galerkin
from ._preconditioner import AbstractPreconditioner, definite_tags
from ._sparse import check_pattern, is_concrete, sparse
from .chebyshev import Chebyshev

_INSTEAD = "For levels given as functions use `Multigrid`."
METHODS = ("smoothed_aggregation", "ruge_stuben")


class _Transfer(eqx.Module):
    """The step from a level to the next: R and P, fixed and laid out for products, and
    how R A P is formed."""

    R: AbstractLinearOperator
    P: AbstractLinearOperator
    RAP: Galerkin

    def coarse(self, A: SparseLinearOperator) -> SparseLinearOperator:
        """R A P, for any values of A."""
        return SparseLinearOperator(self.RAP(A.values), self.RAP.pattern, A.tags)

    def on_host(self, A: SparseLinearOperator) -> SparseLinearOperator:
        """The same without JAX, which would have to compile it."""
        values = jax.device_put(self.RAP.on_host(np.asarray(A.values)))
        return SparseLinearOperator(values, self.RAP.pattern, A.tags)


class AMG(AbstractPreconditioner[Cycle]):
    """Algebraic multigrid, for large sparse operators from elliptic problems: smoothed
    aggregation (Vaněk, Mandel and Brezina 1996, doi:10.1007/BF02238511) or Ruge and
    Stüben's classical method (1987, doi:10.1137/1.9781611971057.ch4).

    pyamg makes the hierarchy on the host, from concrete values. `linear_solve` does
    this before its `jit`; call `setup` to do it once and keep it. If only the pattern
    is concrete, as for an operator built inside `jit`, the hierarchy is made from the
    graph Laplacian of the pattern. The cycles run in JAX. **For new values of the same
    pattern**, patterns and interpolation stay, and the coarser operators R A P, the
    smoothers and the coarsest inverse are computed for the new values, inside `jit`.
    That costs about as much as fifty products, and works well while the new operator is
    similar to the first; otherwise set up again.

    Args:
        method: "smoothed_aggregation" or "ruge_stuben".
        near_null_space: vectors `[n, k]` that A nearly annihilates, such as rigid body
            modes in elasticity; by default the constant vector. For smoothed
            aggregation.
        block_size: the number of consecutive unknowns that belong to a node, and are
            aggregated together.
        theta: entries smaller than this, relative to the diagonal, count as weak.
        smoother: the smoother of each level, a preconditioner; by default `Chebyshev(3,
            ratio=4.0, scaled=True)`.
        cycle: "V", "W" or "F". With "F", M is not symmetric, so `CG` cannot use it.
        max_levels: the largest number of levels.
        max_coarse: the size at which coarsening ends; the matrix is inverted there.

    Raises:
        ValueError: the operator is not sparse, or complex and the method is Ruge and
            Stüben's; its pattern is traced when the hierarchy
            is made; or its pattern differs from that of the hierarchy.
        ImportError: pyamg is not installed: `pip install pyamg`.

    ```python
    n = 400
    rows = jnp.arange(n)
    matrix = lx.SparseLinearOperator.from_coo(
        jnp.concatenate([2.0 * jnp.ones(n), -jnp.ones(n - 1), -jnp.ones(n - 1)]),
        jnp.concatenate([rows, rows[1:], rows[:-1]]),
        jnp.concatenate([rows, rows[:-1], rows[1:]]),
        (n, n),
        lx.positive_semidefinite_tag,
    )
    amg = lx.AMG().setup(matrix)  # once
    print(amg.hierarchy())
    solution = lx.linear_solve(matrix, jnp.ones(n), lx.CG(preconditioner=amg))
    ```
    """

    method: str = eqx.field(static=True, default="smoothed_aggregation")
    near_null_space: ArrayLike | None = eqx.field(default=None, kw_only=True)
    block_size: int = eqx.field(static=True, default=1, kw_only=True)
    theta: float = eqx.field(static=True, default=0.0, kw_only=True)
    smoother: AbstractPreconditioner = eqx.field(
        default=None,  # pyright: ignore
        kw_only=True,
        converter=lambda given: (
            as_preconditioner(given) or Chebyshev(3, ratio=4.0, scaled=True)
        ),
    )
    cycle: str = eqx.field(static=True, default="V", kw_only=True)
    max_levels: int = eqx.field(static=True, default=12, kw_only=True)
    max_coarse: int = eqx.field(static=True, default=200, kw_only=True)
    transfers: tuple[_Transfer, ...] | None = eqx.field(
        default=None, kw_only=True, repr=False
    )
    """The hierarchy, once it is made."""
    smoothers: tuple[AbstractPreconditioner, ...] | None = eqx.field(
        default=None, kw_only=True, repr=False
    )
    """The smoothers of the levels, set up."""
    pattern: SparsityPattern | None = eqx.field(default=None, kw_only=True, repr=False)
    """The pattern of the operators that it serves."""

    def __check_init__(self):
        check_kind(self.cycle, "AMG")
        if self.method not in METHODS:
            raise ValueError(
                f"`method` of `AMG` must be one of {METHODS}, but got {self.method!r}."
            )

    def setup(self, operator):
        if self.transfers is not None:
            return self
        A = sparse(operator, "AMG", _INSTEAD)
        if not is_concrete(A.pattern):
            raise ValueError(
                "`AMG` makes its hierarchy from a concrete pattern, outside of `jit`: "
                "make it there, `preconditioner = AMG(...).setup(operator)`, and pass "
                "that. It then serves traced values of the same pattern."
            )
        pattern = A.pattern.without_assembly()
        # what is not finite is for the solver to tell
        known = is_concrete(A) and bool(np.isfinite(np.asarray(A.values)).all())
        smoothers = []
        with jax.ensure_compile_time_eval():
            tags, transfers = definite_tags(operator), None
            if known:
                A = SparseLinearOperator(A.values, pattern, tags)
                transfers = _transfers(self, A)
            if transfers is None:
                known, values = False, _graph_laplacian(pattern, A.values.dtype)
                A = SparseLinearOperator(values, pattern, tags)
                transfers = _transfers(self, A) or ()
            for transfer in transfers:
                smoothers.append(_calibrated(self.smoother.setup(A), A, known))
                A = transfer.on_host(A)
        return dataclasses.replace(
            self, transfers=transfers, smoothers=tuple(smoothers), pattern=pattern
        )

    def init(self, operator, options):
        A = sparse(operator, "AMG", _INSTEAD)
        ready: Any = self.setup(operator)
        check_pattern(ready.pattern, A.pattern, "AMG")
        tags = definite_tags(operator)
        A = SparseLinearOperator(A.values, A.pattern, tags)
        levels = []
        for transfer, smoother in zip(ready.transfers, ready.smoothers):
            levels.append(level(A, transfer.R, transfer.P, smoother))
            A = transfer.coarse(A)
        return Cycle(tuple(levels), inverse_of(A), linearise(A), self.cycle)

    def apply(self, state, vector):
        return on_flat(state, vector)

    def transpose(self, state, options):
        return state.transposed(), options

    def conj(self, state, options):
        return state.conjugated(), options

    def tags(self, operator):
        return definite_tags(operator) if self.cycle != "F" else frozenset()

    def is_constant(self):
        return self.smoother.is_constant()

    def watched(self, state):
        return state.inverse, [level.before for level in state.levels]

    def hierarchy(self) -> str:
        """The levels as a table: unknowns, entries, and entries per row; below, the
        unknowns and the entries of all levels relative to those of the first.

        Raises:
            ValueError: it has not been set up.
        """
        if self.transfers is None or self.pattern is None:
            raise ValueError(
                "this `AMG` has no hierarchy yet; `preconditioner.setup(operator)` "
                "returns one that has."
            )
        patterns = [self.pattern, *(t.RAP.pattern for t in self.transfers)]
        return table_of([(pattern.shape[0], pattern.size) for pattern in patterns])


def _transfers(amg: AMG, A: SparseLinearOperator) -> tuple[_Transfer, ...] | None:
    """R, P and the Galerkin product of each level; None if pyamg makes none that are
    finite, as of a matrix with zeros on its diagonal."""
    try:
        import pyamg
    except ImportError as error:
        raise ImportError(
            "`AMG` needs pyamg, which is not installed: `pip install pyamg`."
        ) from error
    import scipy.sparse

    matrix = scipy.sparse.csr_matrix(A.to_scipy())
    if amg.block_size > 1:
        matrix = matrix.tobsr((amg.block_size, amg.block_size))
    limits: dict[str, Any] = dict(
        max_levels=amg.max_levels,
        max_coarse=amg.max_coarse,
        presmoother=None,
        postsmoother=None,
    )
    if amg.method == "ruge_stuben":
        if np.iscomplexobj(matrix):
            raise ValueError(
                '`AMG("ruge_stuben")` is for real operators, but got one of '
                f"{matrix.dtype}; `AMG()`, smoothed aggregation, takes complex ones."
            )
        strength = ("classical", {"theta": amg.theta or 0.25})
        made = pyamg.ruge_stuben_solver(matrix.tocsr(), strength=strength, **limits)
    else:
        B = None if amg.near_null_space is None else np.asarray(amg.near_null_space)
        made = pyamg.smoothed_aggregation_solver(
            matrix,
            B=B,
            symmetry="hermitian" if is_hermitian(A) else "nonsymmetric",
            strength=("symmetric", {"theta": amg.theta}),  # pyright: ignore
            **limits,
        )
    transfers, pattern, hermitian = [], A.pattern, is_hermitian(A)
    for each in made.levels[:-1]:
        R, P = (_sorted(matrix, A.values.dtype) for matrix in (each.R, each.P))
        if not (np.isfinite(R.data).all() and np.isfinite(P.data).all()):
            return None
        RAP = galerkin(pattern, R, P, hermitian=hermitian and _are_adjoint(R, P))
        R, P = (_laid_out(SparseLinearOperator.from_scipy(each)) for each in (R, P))
        transfers.append(_Transfer(R, P, RAP))
        pattern = RAP.pattern
    return tuple(transfers)


def _graph_laplacian(pattern: SparsityPattern, dtype: Any) -> Array:
    """The values of the pattern's graph Laplacian, to use in place of unknown ones."""
    rows, columns = np.asarray(pattern.rows), np.asarray(pattern.columns)
    apart = rows != columns
    degrees = np.bincount(rows[apart], minlength=pattern.shape[0])
    values = np.where(apart, -1, np.maximum(degrees[rows], 1))
    return jax.device_put(values.astype(dtype))


def _calibrated(
    smoother: AbstractPreconditioner, A: SparseLinearOperator, known: bool
) -> AbstractPreconditioner:
    """A smoother whose bounds cost little to find again."""
    if not isinstance(smoother, Chebyshev) or smoother.bounds is not None:
        return smoother
    if known:
        return smoother.calibrated(A)
    return dataclasses.replace(smoother, part=1.0)


def _laid_out(matrix: SparseLinearOperator) -> AbstractLinearOperator:
    """The same operator, laid out in chunks as by `linearise`; without JAX, which would
    have to compile it for each level."""
    pattern = matrix.pattern.without_assembly()
    chunks = pattern.by_rows
    if pattern.offsets is not None or not pattern.size:
        return linearise(matrix)
    like: Any = eqx.filter_eval_shape(linearise, matrix)
    if isinstance(like, SparseLinearOperator):
        return matrix
    starts = pattern.row_starts if chunks.starts is None else chunks.starts
    starts, steps = np.asarray(starts), np.arange(chunks.width)[:, None]
    entries = starts[:-1] + steps
    there = entries < starts[1:]
    entries = np.minimum(entries, pattern.size - 1)
    values = np.where(there, np.asarray(matrix.values)[entries], 0)
    columns = jax.device_put(np.asarray(pattern.columns)[entries])
    return eqx.tree_at(
        lambda o: (o.laid, o.columns, o.pattern),
        like,
        (jax.device_put(values.astype(matrix.values.dtype)), columns, pattern),
    )


def _sorted(matrix: Any, dtype: Any) -> Any:
    matrix = matrix.tocsr().astype(dtype)
    matrix.sum_duplicates()
    return matrix


def _are_adjoint(R: Any, P: Any) -> bool:
    apart = abs(R - P.conj().T.tocsr())
    return apart.max() <= 4 * np.finfo(P.dtype).eps * abs(P).max() if P.nnz else True
