"""Sums and products of preconditioners."""

from typing import Any

import equinox as eqx
import jax
from lx_operators import AbstractLinearOperator, conj

from .._sequence import follow, in_sequence
from ._flat import on_flat
from ._preconditioner import AbstractPreconditioner
from ._sweep import Sweep, parts_of, shared_tags, sweep
from .deflation import Coarse, checked_vectors, coarse


class Additive(AbstractPreconditioner[tuple[AbstractLinearOperator, ...]]):
    """The sum of preconditioners, M = M₁ + M₂ + …, as in additive Schwarz methods
    (Smith, Bjørstad and Gropp 1996, "Domain Decomposition").

    Args:
        parts: preconditioners, or direct solvers.

    ```python
    operator = lx.MatrixLinearOperator(
        jnp.array([[2.0, 1, 0, 0], [1, 3, 1, 0], [0, 1, 4, 2], [0, 0, 2, 5]]),
        lx.positive_semidefinite_tag,
    )
    both = lx.Additive(lx.Jacobi(), lx.BlockJacobi(size=2))
    solution = lx.linear_solve(operator, jnp.ones(4), lx.CG(preconditioner=both))
    ```
    """

    parts: tuple[AbstractPreconditioner, ...]

    def __init__(self, *parts: Any):
        self.parts = parts_of(parts, "Additive")

    def setup(self, operator):
        return _set_up(self, operator)

    def init(self, operator, options):
        return tuple(_prepared(self.parts, operator))

    def apply(self, state, vector):
        products = in_sequence(lambda r, M: M.mv(r), [vector] * len(state), state)
        return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *products)

    def transpose(self, state, options):
        return tuple(M.T for M in state), options

    def conj(self, state, options):
        return tuple(map(conj, state)), options

    def tags(self, operator):
        return shared_tags(self.parts, operator)

    def is_constant(self):
        return all(part.is_constant() for part in self.parts)


class Multiplicative(AbstractPreconditioner[Sweep]):
    """Preconditioners one after the other, each applied to the residual that the
    earlier ones left: I - M A = … (I - M₂ A) (I - M₁ A), as in multiplicative Schwarz
    methods (Smith, Bjørstad and Gropp 1996, "Domain Decomposition").

    Each part but the first costs a product with A.

    Args:
        parts: preconditioners, or direct solvers.
        symmetric: apply the adjoints afterwards, in reverse order; M is then Hermitian
            if A is. It is definite if the parts are and ‖I - M A‖ < 1 in the norm of A,
            as for convergent iterations; this is assumed, not checked.

    ```python
    operator = lx.MatrixLinearOperator(
        jnp.array([[2.0, 1, 0, 0], [1, 3, 1, 0], [0, 1, 4, 2], [0, 0, 2, 5]])
    )
    both = lx.Multiplicative(lx.BlockJacobi(size=2), lx.Jacobi())
    solution = lx.linear_solve(operator, jnp.ones(4), lx.GMRES(preconditioner=both))
    ```
    """

    parts: tuple[AbstractPreconditioner, ...]
    symmetric: bool = eqx.field(static=True)

    def __init__(self, *parts: Any, symmetric: bool = False):
        self.parts = parts_of(parts, "Multiplicative")
        self.symmetric = symmetric

    def setup(self, operator):
        return _set_up(self, operator)

    def init(self, operator, options):
        parts = _prepared(self.parts, operator)
        if self.symmetric:
            parts += [M.H for M in reversed(parts)]
        return sweep(operator, parts)

    def apply(self, state, vector):
        return state.mv(vector)

    def transpose(self, state, options):
        return state.transposed(), options

    def conj(self, state, options):
        return state.conjugated(), options

    def tags(self, operator):
        if not self.symmetric:
            return frozenset()
        return shared_tags(self.parts, operator)

    def is_constant(self):
        return all(part.is_constant() for part in self.parts)


class TwoLevel(AbstractPreconditioner[Sweep]):
    """A coarse correction between a smoother and its adjoint, which reduces the errors
    that the smoother cannot reduce.

        I - M A = (I - Sᴴ A) (I - Q A) (I - S A),    Q = W (Wᴴ A W)⁺ Wᴴ

    Nabben and Vuik 2008, doi:10.1002/nla.571; of these methods, this is the one that is
    Hermitian if A is. It is definite if S is a convergent smoother, which is assumed,
    not checked. It costs two products with A.

    Args:
        vectors: W, of shape `[n, k]`, whose columns span the smooth vectors.
        smoother: S, a preconditioner such as `Jacobi(weight=0.6)` or `Chebyshev(3)`.

    Raises:
        ValueError: W is not a matrix, or does not fit the operator.

    ```python
    n = 64
    chain = lx.TridiagonalLinearOperator(
        2 * jnp.ones(n), -jnp.ones(n - 1), -jnp.ones(n - 1)
    )
    operator = lx.TaggedLinearOperator(chain, lx.positive_semidefinite_tag)
    patches = jnp.repeat(jnp.eye(8), 8, axis=0)
    solver = lx.CG(preconditioner=lx.TwoLevel(patches, lx.Chebyshev(3)))
    solution = lx.linear_solve(operator, jnp.ones(n), solver)
    ```
    """

    vectors: jax.Array
    smoother: AbstractPreconditioner

    def __init__(self, vectors: Any, smoother: Any):
        self.vectors = checked_vectors(vectors, "TwoLevel")
        (self.smoother,) = parts_of([smoother], "TwoLevel")

    def setup(self, operator):
        ready = self.smoother.setup(operator)
        return self if ready is self.smoother else TwoLevel(self.vectors, ready)

    def init(self, operator, options):
        S = self.smoother.as_operator(operator)
        coarse = _Coarse(self.vectors).as_operator(follow(operator, S))
        return sweep(operator, [S, coarse, S.H])

    def apply(self, state, vector):
        return state.mv(vector)

    def transpose(self, state, options):
        return state.transposed(), options

    def conj(self, state, options):
        return state.conjugated(), options

    def tags(self, operator):
        return self.smoother.tags(operator)

    def is_constant(self):
        return self.smoother.is_constant()


class _Coarse(AbstractPreconditioner[Coarse]):
    """Q alone."""

    vectors: jax.Array

    def init(self, operator, options):
        return coarse(operator, self.vectors, "TwoLevel")

    def apply(self, state, vector):
        return on_flat(state.Q, vector)

    def transpose(self, state, options):
        return state.transposed(), options

    def conj(self, state, options):
        return state.conjugated(), options


def _set_up(self: Any, operator: AbstractLinearOperator) -> Any:
    parts = tuple(part.setup(operator) for part in self.parts)
    if all(new is old for new, old in zip(parts, self.parts)):
        return self
    return eqx.tree_at(lambda x: x.parts, self, parts)


def _prepared(parts: Any, operator: AbstractLinearOperator) -> list[Any]:
    operators = [operator] * len(parts)
    return in_sequence(lambda A, part: part.as_operator(A), operators, parts)
