"""Shapes and dtypes of a vector that an operator is applied to.

The vector of `mv` has the operator's input structure, up to dtypes, which promote by
JAX's standard rules: a real operator takes a complex vector, a float32 operator a
float64 vector. Under `jax_numpy_dtype_promotion="strict"` differing dtypes are an
error.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from ._structures import (
    Structure,
    cast,
    common_dtype,
    complex_to_real_dtype,
    describe,
    floating,
    promote_types,
    structure_of,
    structures_of,
)


def strict_promotion() -> bool:
    return jax.config.jax_numpy_dtype_promotion == "strict"  # pyright: ignore


def conform(vector: Any, structure: Structure, where: str) -> PyTree[Array]:
    """`vector` as floating arrays with this tree and these shapes; the dtype of each
    leaf is promoted with the structure's.

    Raises:
        ValueError: if the tree or the shapes differ; under strict promotion, if the
            dtypes differ.
    """
    leaves, treedef = jtu.tree_flatten(vector)
    wanted, wanted_treedef = jtu.tree_flatten(structure)
    try:
        leaves = [floating(leaf) for leaf in leaves]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is not a pytree of arrays: {error}") from None
    got = jtu.tree_unflatten(treedef, leaves)
    shapes, wanted_shapes = [x.shape for x in leaves], [s.shape for s in wanted]
    if treedef != wanted_treedef or shapes != wanted_shapes:
        advice = (
            "the arrays fit, but not the tuples, lists or dictionaries that hold them"
            if shapes == wanted_shapes
            else "make one array of the numbers: `jnp.asarray(vector)`"
            if isinstance(vector, list | tuple) and len(shapes) > 1 and not any(shapes)
            else "reshape the vector, or check that it is applied to the right operator"
        )
        raise ValueError(
            f"{where} must have structure {describe(structure)}, but has "
            f"{describe(got)}; {advice}."
        )
    if all(x.dtype == s.dtype for x, s in zip(leaves, wanted)):
        return got
    check_dtypes(got, structure, where)
    return at_least(got, structure)


def check_dtypes(got: PyTree, wanted: PyTree, where: str) -> None:
    """Under strict promotion, differing dtypes are a `ValueError`."""
    if strict_promotion() and structure_of(got) != structure_of(wanted):
        raise ValueError(
            f"{where} must have dtypes {describe(wanted)}, but has {describe(got)}, "
            "and `jax_numpy_dtype_promotion` is 'strict'; cast with `.astype`, or "
            "allow promotion by `jax.numpy_dtype_promotion('standard')`."
        )


def promoted_structure(a: Structure, b: Structure) -> Structure:
    """The structure of a sum of two pytrees with equal shapes."""
    if a == b:
        return a
    return jtu.tree_map(
        lambda x, y: jax.ShapeDtypeStruct(x.shape, promote_types(x.dtype, y.dtype)),
        a,
        b,
    )


def at_least(tree: PyTree[Array], structure: Structure) -> PyTree[Array]:
    """Each leaf promoted to at least the structure's dtype."""
    return jtu.tree_map(
        lambda x, s: cast(x, promote_types(x.dtype, s.dtype)), tree, structure
    )


def widened(out: Structure, given: Structure, wanted: Structure) -> Structure:
    """The output structure of an operator `wanted` → `out` for a vector of structure
    `given`: in the wider precision of the two, and complex if `given` makes it
    complex."""
    if given == wanted:
        return out
    given = promoted_structure(given, wanted)
    width = complex_to_real_dtype(common_dtype(given))
    wider = width != complex_to_real_dtype(common_dtype(wanted))
    complexer = any(
        x.dtype.kind == "c" and s.dtype.kind != "c"
        for x, s in zip(jtu.tree_leaves(given), jtu.tree_leaves(wanted))
    )

    def widen(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        dtype = promote_types(leaf.dtype, width) if wider else leaf.dtype
        dtype = promote_types(dtype, jnp.complex64) if complexer else dtype
        return jax.ShapeDtypeStruct(leaf.shape, dtype)

    return jtu.tree_map(widen, out)


def promoted_mv(operator: Any, vector: PyTree[Array]) -> PyTree[Array]:
    """`operator.mv(vector)` for any vector that promotes: an operator with a real input
    structure is only ever given real vectors."""
    in_structure, _ = structures_of(operator)
    vector = conform(vector, in_structure, "the vector")
    return in_parts(operator.mv, vector, in_structure)


def in_parts(
    fn: Callable[[PyTree], PyTree], vector: PyTree[Array], structure: Structure
) -> PyTree[Array]:
    """A linear `fn`, applied to a vector whose leaves are complex only where the
    structure's are: A(x + iy) = Ax + iAy, by one batched product."""
    leaves, wanted = jtu.tree_leaves(vector), jtu.tree_leaves(structure)
    if all(x.dtype.kind != "c" or s.dtype.kind == "c" for x, s in zip(leaves, wanted)):
        return fn(vector)

    def split(x: Array, s: jax.ShapeDtypeStruct) -> Array:
        pair = (x, jnp.zeros_like(x)) if s.dtype.kind == "c" else (x.real, x.imag)
        return jnp.stack(pair)

    return jtu.tree_map(_joined, jax.vmap(fn)(jtu.tree_map(split, vector, structure)))


def _joined(parts: Array) -> Array:
    if not jnp.iscomplexobj(parts):
        # the narrowest complex dtype has float32 parts
        parts = parts.astype(promote_types(parts.dtype, jnp.float32))
        return jax.lax.complex(parts[0], parts[1])
    return parts[0] + 1j * parts[1]


def apply_linear(
    fn: Callable[[PyTree], PyTree], vector: PyTree[Array], structure: Structure
) -> PyTree[Array]:
    """A linear `fn` with fixed input dtypes, applied to a conformed vector of any
    dtype.

    If the vector is wider, `fn` runs in its own precision, and the result takes the
    wider dtype.
    """
    given = structure_of(vector)
    if given == structure:
        return fn(vector)

    def narrowed(v: PyTree[Array]) -> PyTree[Array]:
        return fn(jtu.tree_map(lambda x, s: cast(x, s.dtype), v, structure))

    out = in_parts(narrowed, vector, structure)
    return at_least(out, widened(structure_of(out), given, structure))
