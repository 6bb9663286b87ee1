"""A linear function as an operator."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Inexact, PyTree

from .._checks import check_callable, check_claims, check_transposable
from .._closure import Closure, close, outcome
from .._functions import conj, materialise
from .._materialise import materialised, probed_matrix
from .._operator import AbstractLinearOperator
from .._promotion import apply_linear, conform
from .._properties import declared, is_own_adjoint, is_own_transpose
from .._structures import (
    Frozen,
    dtype_of,
    freeze_structure,
    is_real,
    shape_of,
    structures_of,
)
from .._tags import Tags, as_tags, transpose_tags
from .._varying import examples, manual_axes, vary, varying_axes


class FunctionLinearOperator(AbstractLinearOperator):
    """A linear function of a pytree, without a matrix.

    Args:
        fn: a linear function from a pytree of arrays to a pytree of arrays. `lx.verify`
            checks whether it is linear. Otherwise nonlinearity is noticed only when the
            matrix is formed column by column, and only if it is gross: the matrix is
            then NaN, and no direct solver claims success.
        input_structure: the input of `fn`, a pytree of `jax.ShapeDtypeStruct` or of
            arrays.
        tags: a tag or an iterable of tags.
        closure_convert: whether arrays that `fn` closes over become part of the
            operator, so that it can be passed through `jit`, `grad` and `vmap` and
            differentiated with respect to them. This traces `fn` once.

    Raises:
        ValueError: `fn` does not return floating or complex arrays, or a tag needs
            equal input and output structure.

    ```python
    structure = jax.ShapeDtypeStruct((100,), jnp.float32)
    operator = lx.FunctionLinearOperator(lambda x: jnp.cumsum(x), structure)
    ```
    """

    fn: Callable[[PyTree[Inexact[Array, "..."]]], PyTree[Inexact[Array, "..."]]]
    input_structure: Frozen = eqx.field(static=True)
    output_structure: Frozen = eqx.field(static=True)
    tags: Tags = eqx.field(static=True)

    def __init__(
        self,
        fn: Callable[[PyTree], PyTree],
        input_structure: PyTree,
        tags: object = (),
        closure_convert: bool = True,
    ):
        check_callable(fn, "x")
        self.input_structure = freeze_structure(input_structure, "input_structure")
        structure = self.in_structure()
        if closure_convert:
            fn = close(fn, structure)
        self.fn = fn
        self.output_structure = output_structure(self.fn, structure)
        self.tags = as_tags(tags)
        check_claims(self)

    def mv(self, vector):
        structure = self.input_structure.thaw()  # Equinox makes methods slow
        vector = conform(vector, structure, "the vector")
        return apply_linear(self.fn, vector, structure)

    def as_matrix(self):
        return probed_matrix(self, by="of a function")

    def transpose(self):
        # The tags can make transposing `fn` unnecessary, which may not be possible.
        if is_own_transpose(self):
            return self
        if is_own_adjoint(self):
            return conj(self)
        check_transposable(self)
        fn = self.fn
        if isinstance(fn, _Transposed):
            fn = fn.fn
        else:
            fn = _Transposed(fn, self.input_structure)
        return FunctionLinearOperator(
            fn, self.out_structure(), transpose_tags(self.tags), closure_convert=False
        )

    def in_structure(self):
        return self.input_structure.thaw()

    def out_structure(self):
        return self.output_structure.thaw()

    shape = property(shape_of)
    dtype = property(dtype_of)


class _Transposed(eqx.Module):
    """The transpose of a function, traced only when it is called."""

    fn: Callable
    output_structure: Frozen = eqx.field(static=True)

    def __call__(self, cotangent: PyTree[Array]) -> PyTree[Array]:
        # the outputs of a function that was traced beforehand vary over all axes
        axes = varying_axes((self.fn, cotangent)) | manual_axes()
        primal, cotangent = (
            examples(self.output_structure.thaw(), axes),
            vary(cotangent, axes),
        )
        try:
            (out,) = jax.linear_transpose(self.fn, primal)(cotangent)
        except NotImplementedError as error:
            raise ValueError(
                "the function of an operator could not be transposed. Is it linear? "
                "`verify(operator, key)` checks that, and `JacobianLinearOperator` is "
                f"the derivative of a function that is not. JAX says: {error}"
            ) from error
        return out


class _Conjugated(eqx.Module):
    """v ↦ conj(fn(conj(v)))."""

    fn: Callable
    output_structure: Frozen = eqx.field(static=True)

    def __call__(self, vector: PyTree[Array]) -> PyTree[Array]:
        out = self.fn(jtu.tree_map(jnp.conj, vector))
        return jtu.tree_map(jnp.conj, out)


def output_structure(fn: Callable, *args: Any) -> Frozen:
    """The structure of `fn(*args)`, without a trace if it is known."""
    match fn:
        case Closure():
            return fn.out
        case _Transposed() | _Conjugated():
            return fn.output_structure
    return outcome(eqx.filter_eval_shape(fn, *args))


@declared.register
def _(operator: FunctionLinearOperator):
    return operator.tags


@materialise.register
def _(operator: FunctionLinearOperator):
    return materialised(operator)


@conj.register
def _(operator: FunctionLinearOperator):
    if is_real(*structures_of(operator)):
        return operator
    fn = operator.fn
    if isinstance(fn, _Conjugated):
        fn = fn.fn
    else:
        fn = _Conjugated(fn, operator.output_structure)
    return FunctionLinearOperator(
        fn, operator.in_structure(), operator.tags, closure_convert=False
    )
