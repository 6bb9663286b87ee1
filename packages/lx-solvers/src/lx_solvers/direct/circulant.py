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
from jaxtyping import Array, Inexact, Int
from lx_operators import AbstractLinearOperator, CirculantLinearOperator
from lx_operators.internal import PackedStructures, bare, common_dtype, pack_structures

from .._checks import check_options, check_state
from .._slogdet import slogdet_of, tangent_of, trace_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _dense as dense


class _CirculantState(eqx.Module):
    eigenvalues: Inexact[Array, "..."]
    inverse: Inexact[Array, "..."]
    rank: Int[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    real: bool = eqx.field(static=True)
    view: dense.View = eqx.field(static=True, default=dense.View())


class Circulant(AbstractLinearSolver[_CirculantState]):
    """Fast Fourier transforms, for circulant operators: O(n log n).

    Args:
        well_posed: if `True`, eigenvalues of at most 4·eps times the largest are
            reported as `singular`. If `False`, the pseudoinverse solution, and
            `stats["rank"]`, the number of eigenvalues that count.
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
        dtype = dense.working_dtype(common_dtype(packed.in_structure.thaw()))
        column = jax.lax.stop_gradient(circulant.column).astype(dtype)
        values = _transform(column)
        size = jnp.abs(values)
        largest = dense.largest(values)
        if self.well_posed:
            counts = size > 0
            singular = jnp.any(~(size > 4 * dense.eps(dtype) * largest))
        else:
            rcond = dense.rcond_or_default(self.rcond, values.size, dtype)
            counts = (size > rcond * largest) & (size > 0)
            singular = jnp.zeros((), bool)
        inverse = 1 / jnp.where(counts, values, jnp.ones_like(values))
        inverse = jnp.where(counts, inverse, jnp.zeros_like(values))
        # transforms of what is not finite are NaN
        verdict = dense.judge(jnp.isfinite(dense.largest(column)), singular)
        rank = jnp.sum(counts, dtype=jnp.int32)
        real = not jnp.issubdtype(dtype, jnp.complexfloating)
        return _CirculantState(values, inverse, rank, verdict, packed, real)

    def compute(self, state, vector, options):
        check_state(state, _CirculantState, "Circulant")
        dtype = state.inverse.dtype

        def solve_with(b, adjoint):
            inverse = state.inverse.conj() if adjoint else state.inverse
            x = _transform(b.reshape(inverse.shape)) * inverse
            x = jnp.fft.ifftn(x) if x.size else x
            return (x.real if state.real else x).ravel()

        narrow = jnp.finfo(dtype).dtype if state.real else dtype
        x, result = dense.solve(state, vector, narrow, solve_with)
        return x, result, {} if self.well_posed else {"rank": state.rank}

    def transpose(self, state, options):
        check_state(state, _CirculantState, "Circulant")
        return dense.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _CirculantState, "Circulant")
        return dense.conj(state), {}

    def assume_full_rank(self):
        return self.well_posed


def _transform(x: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
    if not x.size:
        return x.astype(jnp.result_type(x.dtype, jnp.complex64))
    return jnp.fft.fftn(x)


@slogdet_of.register
def _(state: _CirculantState):
    counts = state.inverse != 0
    values = jnp.where(counts, state.eigenvalues, jnp.zeros_like(state.eigenvalues))
    sign, log = dense.slogdet(values.ravel(), state.view)
    return (jnp.sign(sign.real) if state.real else sign), log


@trace_of.register
def _(state: _CirculantState, solver, tangent):
    if state.view != dense.View():
        return None

    def values(operator: AbstractLinearOperator) -> Array:
        return _transform(bare(operator).column.astype(state.inverse.dtype))

    trace = jnp.sum(state.inverse * tangent_of(values, tangent))
    return trace.real if state.real else trace
