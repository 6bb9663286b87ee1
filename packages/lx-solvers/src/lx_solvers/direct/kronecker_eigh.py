"""KroneckerEigh: diagonalisation by the eigenvectors of small factors.

If A = VΛVᴴ and B = WMWᴴ, then V ⊗ W diagonalises A ⊗ B, A ⊕ B and the identity, and so
all scalings and sums of one of them with multiples of the identity: the eigenvalues are
the λᵢμⱼ, the λᵢ + μⱼ and ones, scaled and added (Horn and Johnson, "Topics in Matrix
Analysis", 1991, theorems 4.2.12 and 4.4.5, doi:10.1017/CBO9780511840371). For A ⊕ B
this is the method of Lynch, Rice and Thomas 1964, doi:10.1007/BF01386067.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int, Real
from lx_operators import (
    AbstractLinearOperator,
    AddLinearOperator,
    DivLinearOperator,
    IdentityLinearOperator,
    KroneckerLinearOperator,
    KroneckerSumLinearOperator,
    MulLinearOperator,
    NegLinearOperator,
    is_hermitian,
)
from lx_operators.internal import (
    PackedStructures,
    bare,
    common_dtype,
    pack_structures,
    scaled,
)

from .._checks import check_options, check_state
from .._scaling import eps, largest
from .._sequence import in_sequence
from .._slogdet import slogdet_of, slogdet_of_factors, tangent_of, trace_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import (
    HIGHEST,
    along,
    dense_matrix,
    judge,
    reciprocals,
    working_dtype,
)


class _EighState(eqx.Module):
    W: tuple[Inexact[Array, "n n"], ...]  # of each factor
    eigenvalues: Inexact[Array, "..."]  # one axis a factor
    inverse: Inexact[Array, "..."]
    rank: Int[Array, ""]
    reciprocal_condition: Real[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class KroneckerEigh(AbstractLinearSolver[_EighState]):
    """Eigendecomposition of the factors, for Kronecker products and Kronecker sums of
    Hermitian factors, plus multiples of the identity.

    Examples are a covariance K₁ ⊗ K₂ + σ²I, or a shifted Laplacian of a grid. For n₁ n₂
    unknowns, the factors cost n₁³ + n₂³ operations and each vector n₁ n₂ (n₁ + n₂).

    Args:
        well_posed: if `True`, eigenvalues of at most 4·eps times the largest are
            reported as `singular`, and `stats["reciprocal_condition"]` is the ratio of
            the smallest to the largest. If `False`, it gives the pseudoinverse
            solution, and `stats["rank"]` is the number of eigenvalues that do not count
            as zero.
        rcond: with `well_posed=False`: eigenvalues of at most `rcond` times the largest
            count as zero. Default: 2·(n₁ + n₂ + …)·eps.

    Raises:
        ValueError: the operator is none of these, or a factor is not known to be
            Hermitian.

    ```python
    k = lx.MatrixLinearOperator(
        jnp.array([[2.0, 1.0], [1.0, 2.0]]), lx.positive_semidefinite_tag
    )
    kernel = lx.KroneckerLinearOperator(k, k)
    noise = 0.1 * lx.IdentityLinearOperator(kernel.in_structure())
    solution = lx.linear_solve(kernel + noise, jnp.ones((2, 2)), lx.KroneckerEigh())
    ```
    """

    well_posed: bool = eqx.field(static=True, default=False)
    rcond: Any = None

    def init(self, operator, options):
        check_options(options, (), "KroneckerEigh")
        parts = hermitian_factors(operator)
        if parts is None:
            raise ValueError(
                "`KroneckerEigh` solves with Kronecker products or sums of factors "
                "known to be Hermitian, plus multiples of the identity, but the "
                f"operator is {operator!r}. Tag the factors with `hermitian_tag`, or "
                "use `AutoLinearSolver`."
            )
        packed = pack_structures(operator)
        dtype = working_dtype(common_dtype(packed.in_structure.thaw()))
        matrices = [dense_matrix(part) for part in parts]
        eigh = functools.partial(jax.lax.linalg.eigh, symmetrize_input=False)
        pairs = in_sequence(eigh, matrices)
        each = [w.astype(dtype) for _, w in pairs]
        values = _spectrum(jax.lax.stop_gradient(operator), lambda _: each)
        values = jnp.broadcast_to(values, tuple(w.size for w in each))
        inverse, rank, ratio = reciprocals(
            values,
            well_posed=self.well_posed,
            rcond=self.rcond,
            size=sum(w.size for w in each),
        )
        singular = self.well_posed and ~(ratio > 4 * eps(dtype))
        finite = jnp.isfinite(largest(values))
        for A in matrices:
            finite &= jnp.isfinite(largest(A))
        return _EighState(
            tuple(W.astype(dtype) for W, _ in pairs),
            values,
            inverse,
            rank,
            ratio,
            judge(finite, singular=singular),
            packed,
        )

    def compute(self, state, vector, options):
        check_state(state, _EighState, "KroneckerEigh")

        def solve_with(b, adjoint):
            x = b.reshape(state.eigenvalues.shape)
            inverse = state.inverse.conj() if adjoint else state.inverse
            for axis, W in enumerate(state.W):
                x = along(W.T.conj(), x, axis)
            x = inverse * x
            for axis, W in enumerate(state.W):
                x = along(W, x, axis)
            return x.ravel()

        x, result = views.solve(state, vector, state.inverse.dtype, solve_with)
        if self.well_posed:
            return x, result, {"reciprocal_condition": state.reciprocal_condition}
        return x, result, {"rank": state.rank}

    def transpose(self, state, options):
        check_state(state, _EighState, "KroneckerEigh")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _EighState, "KroneckerEigh")
        return views.conj(state), {}

    def assume_full_rank(self):
        return self.well_posed


def hermitian_factors(operator: Any) -> tuple[AbstractLinearOperator, ...] | None:
    """The factors whose eigenvectors diagonalise an operator; None if it is none that
    this solver takes."""
    parts = _factors(operator)
    if not parts or not all(map(is_hermitian, parts)):
        return None
    return parts


def _factors(operator: Any) -> tuple[AbstractLinearOperator, ...] | None:
    """Those of the one Kronecker product or sum in an operator, () for a multiple of
    the identity, None for anything else."""
    match bare(operator):
        case KroneckerLinearOperator(operators=parts):
            square = all(part.out_size() == part.in_size() for part in parts)
            return parts if square else None
        case KroneckerSumLinearOperator(operators=parts):
            return parts
        case IdentityLinearOperator() as identity:
            same = identity.input_structure == identity.output_structure
            return () if same else None
        case MulLinearOperator() | DivLinearOperator() | NegLinearOperator() as scaled:
            return _factors(scaled.operator)
        case AddLinearOperator(operator1=a, operator2=b):
            a, b = _factors(a), _factors(b)
            if a is None or b is None or (a and b):
                return None
            return a or b
    return None


def _spectrum(
    operator: Any, of_parts: Callable[[tuple[Any, ...]], list[Array]]
) -> Array:
    """The eigenvalues, by those of the factors: one axis a factor."""
    again = functools.partial(_spectrum, of_parts=of_parts)
    match bare(operator):
        case KroneckerLinearOperator(operators=parts):
            return functools.reduce(jnp.multiply, _open(of_parts(parts)))
        case KroneckerSumLinearOperator(operators=parts):
            return functools.reduce(jnp.add, _open(of_parts(parts)))
        case IdentityLinearOperator() as identity:
            return jnp.ones((), common_dtype(identity.in_structure()))
        case MulLinearOperator() | DivLinearOperator() | NegLinearOperator() as scaling:
            return scaled(scaling, again(scaling.operator))
        case AddLinearOperator(operator1=a, operator2=b):
            a, b = again(a), again(b)
            dtype = common_dtype([a, b])
            a, b = a.astype(dtype), b.astype(dtype)
            a, b = (x.reshape((1,) * (max(a.ndim, b.ndim) - x.ndim) + x.shape)
                    for x in (a, b))  # fmt: skip
            return a + b
    raise TypeError(type(operator))


def _open(vectors: list[Array]) -> list[Array]:
    """Each along its own axis."""
    k = len(vectors)
    return [v.reshape((1,) * i + v.shape + (1,) * (k - 1 - i))
            for i, v in enumerate(vectors)]  # fmt: skip


@slogdet_of.register
def _(state: _EighState):
    counts = state.inverse != 0
    values = jnp.where(counts, state.eigenvalues, jnp.zeros_like(state.eigenvalues))
    return slogdet_of_factors(
        values.ravel(), turned=state.view.turned, verdict=state.verdict
    )


@trace_of.register
def _(state: _EighState, solver, tangent):
    if state.view != views.View():
        return None

    def values(operator: AbstractLinearOperator) -> Array:
        """To first order, eigenvalues move by the diagonal of Wᴴ dA W."""

        def of_parts(parts: tuple[Any, ...]) -> list[Array]:
            out = []
            for W, part in zip(state.W, parts):
                A = part.as_matrix().astype(W.dtype)
                AW = jnp.matmul(A, W, precision=HIGHEST)
                out.append(jnp.sum(W.conj() * AW, axis=0))
            return out

        shape = state.inverse.shape
        return jnp.broadcast_to(_spectrum(operator, of_parts), shape)

    return jnp.sum(state.inverse * tangent_of(values, tangent))
