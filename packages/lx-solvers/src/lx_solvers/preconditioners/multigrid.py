"""Geometric multigrid."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
from lx_operators import (
    AbstractLinearOperator,
    SparseLinearOperator,
    TaggedLinearOperator,
    linearise,
)
from lx_operators.internal import describe, same_shapes, unwrapped

from ._adapted import as_preconditioner
from ._cycle import Cycle, check_kind, inverse_of, level, table_of
from ._flat import on_flat
from ._preconditioner import AbstractPreconditioner, definite_tags
from .chebyshev import Chebyshev


class Multigrid(AbstractPreconditioner[Cycle]):
    """A multigrid cycle over levels that you give as operators, matrix-free or not:
    prolongations, restrictions, and the operator on each coarser level.

    Briggs, Henson and McCormick 2000, doi:10.1137/1.9780898719505. The last level's
    matrix is formed and inverted, so it should be small.

    Args:
        prolongations: operators from each coarser level to the finer one above it,
            finest first.
        operators: A on each coarser level. If None, they are the products R A P of the
            levels above, which are not multiplied out.
        restrictions: operators from each level to the coarser one below it; by default
            the adjoints of the prolongations.
        smoother: the smoother of each level, a preconditioner that reduces the errors
            that coarser levels cannot represent. By default `Chebyshev(3, ratio=8.0)`.
        cycle: "V", "W" or "F". With "F", M is not symmetric, so `CG` cannot use it.

    Raises:
        ValueError: levels that do not fit together.

    ```python
    n = 15  # -u'' on the unit interval, and on every other point
    def laplacian(n):
        h = 1 / (n + 1)
        off = jnp.full(n - 1, -1 / h**2)
        chain = lx.TridiagonalLinearOperator(jnp.full(n, 2 / h**2), off, off)
        return lx.TaggedLinearOperator(chain, lx.positive_semidefinite_tag)

    def interpolate(u):
        padded = jnp.pad(u, 1)
        between = (padded[:-1] + padded[1:]) / 2
        return jnp.stack([between, padded[1:]], axis=1).reshape(-1)[:-1]

    P = lx.FunctionLinearOperator(interpolate, jnp.zeros(7))
    multigrid = lx.Multigrid([P], [laplacian(7)], [P.T / 2])
    print(multigrid.hierarchy(laplacian(n)))
    solver = lx.CG(preconditioner=multigrid)
    solution = lx.linear_solve(laplacian(n), jnp.ones(n), solver)
    ```
    """

    prolongations: tuple[AbstractLinearOperator, ...]
    operators: tuple[AbstractLinearOperator, ...] | None
    restrictions: tuple[AbstractLinearOperator, ...] | None
    smoother: AbstractPreconditioner
    cycle: str = eqx.field(static=True)
    smoothers: tuple[AbstractPreconditioner, ...] | None
    """The smoothers of the levels, once they are set up."""

    def __init__(
        self,
        prolongations: Sequence[AbstractLinearOperator],
        operators: Sequence[AbstractLinearOperator] | None = None,
        restrictions: Sequence[AbstractLinearOperator] | None = None,
        *,
        smoother: Any = None,
        cycle: str = "V",
    ):
        check_kind(cycle, "Multigrid")
        self.prolongations = tuple(prolongations)
        for name, given in (("operators", operators), ("restrictions", restrictions)):
            if given is not None and len(given) != len(self.prolongations):
                raise ValueError(
                    f"`{name}` of `Multigrid` must be as many as `prolongations`, "
                    f"{len(self.prolongations)}, but are {len(given)}."
                )
        self.operators = None if operators is None else tuple(operators)
        self.restrictions = None if restrictions is None else tuple(restrictions)
        self.smoother = as_preconditioner(smoother) or Chebyshev(3, ratio=8.0)
        self.cycle = cycle
        self.smoothers = None

    def setup(self, operator):
        if self.smoothers is not None:
            return self
        *above, _ = self._levels(operator)
        smoothers = tuple(self.smoother.setup(A) for A, _, _ in above)
        if all(smoother is self.smoother for smoother in smoothers):
            return self
        is_none = lambda x: x is None  # noqa: E731
        return eqx.tree_at(lambda m: m.smoothers, self, smoothers, is_leaf=is_none)

    def init(self, operator, options):
        *above, (last, _, _) = self._levels(operator)
        smoothers = self.smoothers or len(above) * (self.smoother,)
        levels = [
            level(A, R, P, smoother) for (A, R, P), smoother in zip(above, smoothers)
        ]
        return Cycle(tuple(levels), inverse_of(last), linearise(last), self.cycle)

    def _levels(self, operator: AbstractLinearOperator) -> list[tuple[Any, Any, Any]]:
        """A, R and P of each level; of the last one A alone."""
        tags, A, found = definite_tags(operator), operator, []
        for i, P in enumerate(self.prolongations):
            _check_meet(P.out_structure(), A.in_structure(), f"prolongation {i}")
            R = P.H if self.restrictions is None else self.restrictions[i]
            found.append((A, R, P))
            if self.operators is None:
                A = TaggedLinearOperator(R @ A @ P, tags)
            else:
                A = self.operators[i]
            _check_meet(A.in_structure(), P.in_structure(), f"level {i + 1}")
        return [*found, (A, None, None)]

    def apply(self, state, vector):
        return on_flat(state, vector)

    def transpose(self, state, options):
        return state.transposed(), options

    def conj(self, state, options):
        return state.conjugated(), options

    def tags(self, operator):
        symmetric = self.cycle != "F"
        # R need not be the adjoint of P, but for a factor: that is the caller's promise
        return definite_tags(operator) if symmetric else frozenset()

    def is_constant(self):
        return self.smoother.is_constant()

    def hierarchy(self, operator: AbstractLinearOperator) -> str:
        """The levels as a table: unknowns, and the entries of sparse operators; below,
        the unknowns of all levels relative to those of the first.

        Args:
            operator: A, on the finest level.

        Raises:
            ValueError: levels that do not fit together.
        """
        found = []
        for A, _, _ in self._levels(operator):
            plain = unwrapped(A)
            sparse = isinstance(plain, SparseLinearOperator)
            found.append((A.in_size(), plain.pattern.size if sparse else None))
        return table_of(found)


def _check_meet(got: Any, wanted: Any, what: str) -> None:
    if not same_shapes(got, wanted):
        raise ValueError(
            f"{what} of `Multigrid` does not fit: it has structure {describe(got)} "
            f"where {describe(wanted)} meets it."
        )
