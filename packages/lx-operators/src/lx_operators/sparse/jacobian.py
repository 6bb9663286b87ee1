"""The Jacobian of a function, without a matrix."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Inexact, PyTree

from .._checks import check_callable, check_claims, check_transposable
from .._closure import close
from .._functions import adjoint_product, conj, diagonal, linearise, materialise
from .._materialise import materialised, probed_matrix
from .._operator import AbstractLinearOperator
from .._promotion import apply_linear, conform
from .._properties import declared, is_own_adjoint, is_own_transpose
from .._structures import (
    Frozen,
    dtype_of,
    floating,
    is_real,
    shape_of,
    structure_of,
    structures_of,
)
from .._tags import Tags, as_tags, transpose_tags
from .._varying import examples, manual_axes, vary, varying_axes
from ..leaves.function import FunctionLinearOperator, output_structure
from . import _lazily as sparse

if TYPE_CHECKING:
    from .compression import ColouredPattern


class JacobianLinearOperator(AbstractLinearOperator):
    """The Jacobian ∂f/∂x of `fn(x, args)` at `x`.

    Its products are Jacobian-vector products; no matrix is formed unless asked for.
    Each product runs `fn` again; `lx.linearise` runs it only once.

    Args:
        fn: a function `(x, args) ↦ y`, of pytrees of floating or complex arrays.
        x: the point, a pytree of arrays.
        args: passed to `fn`; any pytree, not differentiated by the products.
        tags: a tag or an iterable of tags.
        jac: how products are computed. `"fwd"`: by forward mode. `"bwd"`: by reverse
            mode alone, for functions that have only a custom vjp. `None`: forward mode
            for products, and for `as_matrix` whichever needs fewer.
        closure_convert: whether arrays that `fn` closes over become part of the
            operator, as in `FunctionLinearOperator`.
        sparsity: where the matrix may be nonzero: a `SparsityPattern` (or one with
            colours, a `ColouredPattern`), a SciPy sparse matrix, asdex's pattern, or
            "detect", which finds it by `jacobian_sparsity`. `materialise` then returns
            a sparse operator, at one product for each colour of the pattern; products
            with vectors do not change. For a loop, find the pattern once, before the
            loop.
        check_sparsity: whether each compression makes one more product, with a random
            vector, and raises an error at run time if the pattern lacks entries.

    Raises:
        ValueError: `jac` is none of these, `fn` does not return floating or complex
            arrays, a tag needs equal input and output structure, or `sparsity` has
            another shape than the matrix.

    ```python
    operator = lx.JacobianLinearOperator(lambda x, args: jnp.sin(x), jnp.ones(3))

    def fn(x, args):
        return x[1:] * x[:-1]

    operator = lx.JacobianLinearOperator(fn, jnp.ones(1000), sparsity="detect")
    lx.materialise(operator)  # 1998 entries, by 2 products
    ```
    """

    fn: Callable[[PyTree[Inexact[Array, "..."]], PyTree[Any]], PyTree]
    x: PyTree[Inexact[Array, "..."]]
    args: PyTree[Any]
    tags: Tags = eqx.field(static=True)
    jac: Literal["fwd", "bwd"] | None = eqx.field(static=True)
    output_structure: Frozen = eqx.field(static=True)
    sparsity: "ColouredPattern | None"

    def __init__(
        self,
        fn: Callable[[PyTree, PyTree], PyTree],
        x: PyTree,
        args: PyTree[Any] = None,
        tags: object = (),
        jac: Literal["fwd", "bwd"] | None = None,
        closure_convert: bool = True,
        sparsity: Any = None,
        check_sparsity: bool = False,
    ):
        check_callable(fn, "x", "args")
        if jac not in (None, "fwd", "bwd"):
            raise ValueError(f"`jac` must be None, 'fwd' or 'bwd', but got {jac!r}.")
        self.x = vary(jtu.tree_map(floating, x), manual_axes())
        self.args = args
        if closure_convert:
            fn = close(fn, self.x, args)
        self.fn = fn
        self.jac = jac
        self.output_structure = output_structure(fn, self.x, args)
        self.tags = as_tags(tags)
        check_claims(self)
        self.sparsity = None
        if isinstance(sparsity, str):
            if sparsity != "detect":
                raise ValueError(
                    "`sparsity` must be a pattern, 'detect' or None, but got "
                    f"{sparsity!r}."
                )
            sparsity = sparse.jacobian_sparsity(fn, self.x, args)
        if sparsity is not None:
            self.sparsity = sparse.coloured(sparsity, self, check_sparsity)

    def at(self, x: PyTree[Array]) -> PyTree[Array]:
        """`fn(x, args)`."""
        return self.fn(x, self.args)

    def mv(self, vector):
        vector = conform(vector, self.in_structure(), "the vector")
        return apply_linear(self._product(), vector, self.in_structure())

    def _product(self) -> Callable[[PyTree[Array]], PyTree[Array]]:
        if self.jac == "bwd":
            return _twice_back(self)
        axes = varying_axes(self.x)
        return lambda v: jax.jvp(self.at, (self.x,), (vary(v, axes),))[1]

    def as_matrix(self):
        if self.sparsity is not None:
            return sparse.compress(self).as_matrix()
        return probed_matrix(self, by=_FEWEST[self.jac])

    def transpose(self):
        if is_own_transpose(self):
            return self
        if self.jac == "fwd" or is_own_adjoint(self):
            return linearise(self).transpose()
        check_transposable(self)
        transposed = FunctionLinearOperator(
            _back(self), self.out_structure(), transpose_tags(self.tags)
        )
        if self.sparsity is None:
            return transposed
        return sparse.PatternedLinearOperator(transposed, self.sparsity.T)

    def in_structure(self):
        return structure_of(self.x)

    def out_structure(self):
        return self.output_structure.thaw()

    shape = property(shape_of)
    dtype = property(dtype_of)


_FEWEST = {None: "fewest", "fwd": "columns", "bwd": "rows"}


def _back(operator: JacobianLinearOperator) -> Callable[[PyTree[Array]], PyTree[Array]]:
    """The product of the transpose."""
    _, vjp = jax.vjp(operator.at, operator.x)
    return lambda cotangent: vjp(cotangent)[0]


def _twice_back(
    operator: JacobianLinearOperator,
) -> Callable[[PyTree[Array]], PyTree[Array]]:
    """The product by reverse mode alone: the transpose of the product of the transpose,
    or that itself where the tags say that it is the same."""
    back = _back(operator)
    if is_own_transpose(operator):
        return back
    check_transposable(operator)
    axes = varying_axes(operator.x)
    transpose = jax.linear_transpose(back, examples(operator.out_structure(), axes))
    return lambda v: transpose(v)[0]


@declared.register
def _(operator: JacobianLinearOperator):
    return operator.tags


@linearise.register
def _(operator: JacobianLinearOperator):
    if operator.jac == "bwd":
        fn = _twice_back(operator)
    else:
        _, fn = jax.linearize(operator.at, operator.x)
    linear = FunctionLinearOperator(fn, operator.in_structure(), operator.tags)
    if operator.sparsity is None:
        return linear
    return sparse.PatternedLinearOperator(linear, operator.sparsity)


@materialise.register
def _(operator: JacobianLinearOperator):
    if operator.sparsity is not None:
        return sparse.compress(operator)
    return materialised(operator)


@diagonal.register
def _(operator: JacobianLinearOperator):
    if operator.sparsity is not None:
        return diagonal(sparse.compress(operator))
    return diagonal.dispatch(AbstractLinearOperator)(operator)


@conj.register
def _(operator: JacobianLinearOperator):
    if is_real(*structures_of(operator)):
        return operator
    return conj(linearise(operator))


@adjoint_product.register
def _(operator: JacobianLinearOperator):
    if operator.jac == "fwd" or is_own_transpose(operator) or is_own_adjoint(operator):
        return operator.H.mv
    check_transposable(operator)
    back, outs = _back(operator), operator.out_structure()

    def product(vector: PyTree[Array]) -> PyTree[Array]:
        vector = conform(vector, outs, "the vector")
        conjugate = jtu.tree_map(jnp.conj, vector)
        return jtu.tree_map(jnp.conj, apply_linear(back, conjugate, outs))

    return product
