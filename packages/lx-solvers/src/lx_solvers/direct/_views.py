"""A, Aᵀ, Ā and Aᴴ from the factors of one of them.

A dense solver keeps the factors of one matrix F and says how it solves with F and with
Fᴴ. A is F, Fᴴ or the conjugate of one of these, so transposing or conjugating a state
turns two static switches: nothing is factorised or copied again.

The code that every solve runs through is written in JAX's primitives: tracing and
compiling the checks and casts of `jax.numpy` would take longer than the call itself.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Inexact, PyTree
from lx_operators.internal import (
    PackedStructures,
    cast,
    common_dtype,
    is_real,
    promote_types,
    ravel,
    ravel_vector,
    transpose_packed_structures,
    unravel,
    unravel_solution,
)

from .._results import code, judged
from .._sequence import after
from .._solution import RESULTS
from ._factors import working_dtype


class View(NamedTuple):
    """Which of F, Fᴴ, F̄, Fᵀ the operator is: first the adjoint, then the conjugate."""

    adjoint: bool = False
    conjugate: bool = False

    @property
    def turned(self) -> bool:
        """Whether the determinant is the conjugate of F's."""
        return self.adjoint != self.conjugate


class DenseState(Protocol):
    """The parts of a dense solver's state other than its factors."""

    @property
    def verdict(self) -> RESULTS:
        """`successful`, or why the factors cannot be used."""
        ...

    @property
    def packed(self) -> PackedStructures: ...

    @property
    def view(self) -> View: ...


_State = TypeVar("_State", bound=DenseState)


def transpose(state: _State) -> _State:
    """The state for Aᵀ: the conjugate of the adjoint."""
    state = conj(state)
    view = state.view._replace(adjoint=not state.view.adjoint)
    packed = transpose_packed_structures(state.packed)
    return _replace(state, packed=packed, view=view)


def conj(state: _State) -> _State:
    """The state for Ā. A real operator keeps its state and so its compiled programs."""
    if is_real(state.packed.in_structure.thaw(), state.packed.out_structure.thaw()):
        return state
    view = state.view._replace(conjugate=not state.view.conjugate)
    return _replace(state, view=view)


def _replace(state: Any, **fields: Any) -> Any:
    return dataclasses.replace(state, **fields)


def solve(
    state: DenseState,
    vector: PyTree[Array],
    dtype: Any,
    solve_with: Callable[[Inexact[Array, " m"], bool], Inexact[Array, " n"]],
    *,
    waits: bool = True,
) -> tuple[PyTree[Array], RESULTS]:
    """One solve from pytree to pytree.

    Args:
        state: of a dense solver.
        vector: b, of the operator's output structure.
        dtype: of the factors.
        solve_with: from b and `adjoint`, the flat solution with F, or with Fᴴ.
        waits: whether the verdict has calls of LAPACK, for which those of the solve
            wait. Without any, a verdict that nobody asks for is not computed.

    Returns:
        The solution and its status: the verdict on the factors, unless the vector or
        the solution is not finite.
    """
    b = ravel_vector(vector, state.packed)
    dtype = working_dtype(dtype)
    if promote_types(b.dtype, dtype) != dtype:
        raise ValueError(
            f"the vector has dtype {b.dtype}, which the operator's {dtype} cannot "
            "hold; cast the vector, or use `linear_solve`, which promotes the operator."
        )
    b = cast(b, dtype)
    if waits:
        b = after(b, code(state.verdict))
    x = _conj_if(state.view.conjugate, b)
    x = _conj_if(state.view.conjugate, solve_with(x, state.view.adjoint))
    result = judged(state.verdict, b, x)
    narrow = common_dtype(state.packed.in_structure.thaw())
    if narrow != x.dtype and working_dtype(narrow) == x.dtype:  # half precision
        x = cast(x, narrow)
    return unravel_solution(x, state.packed), result


def within(
    state: DenseState,
    vector: PyTree[Array],
    dtype: Any,
    project: Callable[[Inexact[Array, " n"], bool], Inexact[Array, " n"]],
) -> PyTree[Array]:
    """A linear map of the operator's input structure into itself.

    Args:
        state, dtype: as in `solve`.
        vector: of the operator's input structure.
        project: from a flat vector and `adjoint`, the map that belongs to F, or to Fᴴ.
    """
    structure = state.packed.in_structure.thaw()
    v = _conj_if(state.view.conjugate, ravel(vector, working_dtype(dtype)))
    v = _conj_if(state.view.conjugate, project(v, state.view.adjoint))
    return unravel(cast(v, common_dtype(structure)), structure)


def _conj_if(condition: bool, x: Array) -> Array:
    return jnp.conj(x) if condition and jnp.iscomplexobj(x) else x
