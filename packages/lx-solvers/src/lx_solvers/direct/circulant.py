"""Circulant: division of Fourier transforms.

The eigenvectors of every circulant matrix are the discrete Fourier transform's, and its
eigenvalues λ the transform of its first column, so that the pseudoinverse solution is
x = F⁻¹Λ†F b (Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 4.8.2).
It is a normal matrix: |λ| are its singular values.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int, Real
from lx_operators import AbstractLinearOperator, CirculantLinearOperator
from lx_operators.internal import (
    PackedStructures,
    bare,
    common_dtype,
    pack_structures,
    promote_types,
)

from .._checks import check_options, check_state
from .._scaling import eps, largest
from .._slogdet import slogdet_of, slogdet_of_factors, tangent_of, trace_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import judge, reciprocals, working_dtype


class _CirculantState(eqx.Module):
    eigenvalues: Inexact[Array, "..."]
    inverse: Inexact[Array, "..."]
    rank: Int[Array, ""]
    reciprocal_condition: Real[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    real: bool = eqx.field(static=True)
    view: views.View = eqx.field(static=True, default=views.View())


class Circulant(AbstractLinearSolver[_CirculantState]):
    """Fast Fourier transforms, for circulant operators, in O(n log n) operations.

    Args:
        well_posed: if `True`, eigenvalues of at most 4·eps times the largest are
            reported as `singular`, and `stats["reciprocal_condition"]` is the ratio of
            the smallest to the largest. If `False`, it gives the pseudoinverse
            solution, and `stats["rank"]` is the number of eigenvalues that do not count
            as zero.
        rcond: with `well_posed=False`: eigenvalues of at most `rcond` times the largest
            count as zero. Default: 2·n·eps.

    Raises:
        ValueError: the operator is not a `CirculantLinearOperator`.

    ```python
    difference = lx.CirculantLinearOperator(jnp.array([-2.0, 1.0, 0.0, 0.0, 1.0]))
    b = jnp.array([1.0, -1.0, 0.0, 0.0, 0.0])
    x = lx.linear_solve(difference, b, lx.Circulant()).value  # of mean zero
    ```
    """

    well_posed: bool = eqx.field(static=True, default=False)
    rcond: Any = None

    def init(self, operator, options):
        check_options(options, (), "Circulant")
        circulant = bare(operator)
        if not isinstance(circulant, CirculantLinearOperator):
            raise ValueError(
                "`Circulant` solves with a `CirculantLinearOperator` only, but the "
                f"operator is {operator!r}; use `AutoLinearSolver`."
            )
        packed = pack_structures(operator)
        dtype = working_dtype(common_dtype(packed.in_structure.thaw()))
        column = jax.lax.stop_gradient(circulant.column).astype(dtype)
        values = _transform(column)
        inverse, rank, ratio = reciprocals(
            values, well_posed=self.well_posed, rcond=self.rcond, size=values.size
        )
        singular = self.well_posed and ~(ratio > 4 * eps(dtype))
        # transforms of what is not finite are NaN
        verdict = judge(jnp.isfinite(largest(column)), singular=singular)
        real = not jnp.issubdtype(dtype, jnp.complexfloating)
        return _CirculantState(values, inverse, rank, ratio, verdict, packed, real)

    def compute(self, state, vector, options):
        check_state(state, _CirculantState, "Circulant")
        dtype = state.inverse.dtype

        def solve_with(b, adjoint):
            inverse = state.inverse.conj() if adjoint else state.inverse
            x = _transform(b.reshape(inverse.shape)) * inverse
            x = jnp.fft.ifftn(x) if x.size else x
            return (x.real if state.real else x).ravel()

        narrow = jnp.finfo(dtype).dtype if state.real else dtype
        x, result = views.solve(state, vector, narrow, solve_with)
        if self.well_posed:
            return x, result, {"reciprocal_condition": state.reciprocal_condition}
        return x, result, {"rank": state.rank}

    def transpose(self, state, options):
        check_state(state, _CirculantState, "Circulant")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _CirculantState, "Circulant")
        return views.conj(state), {}

    def assume_full_rank(self):
        return self.well_posed


def _transform(x: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
    if not x.size:
        return x.astype(promote_types(x.dtype, jnp.complex64))
    return jnp.fft.fftn(x)


@slogdet_of.register
def _(state: _CirculantState):
    counts = state.inverse != 0
    values = jnp.where(counts, state.eigenvalues, jnp.zeros_like(state.eigenvalues))
    sign, log = slogdet_of_factors(
        values.ravel(), turned=state.view.turned, verdict=state.verdict
    )
    return (jnp.sign(sign.real) if state.real else sign), log


@trace_of.register
def _(state: _CirculantState, solver, tangent):
    if state.view != views.View():
        return None

    def values(operator: AbstractLinearOperator) -> Array:
        return _transform(bare(operator).column.astype(state.inverse.dtype))

    trace = jnp.sum(state.inverse * tangent_of(values, tangent))
    return trace.real if state.real else trace
