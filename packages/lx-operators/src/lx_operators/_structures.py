"""Structures: pytrees of `jax.ShapeDtypeStruct`, and flat vectors to and from them.

They hold shapes and dtypes only: shardings and weak types are dropped, so that two
structures are equal whenever their elements can be added.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Inexact, PyTree

Structure = PyTree[jax.ShapeDtypeStruct]


class Frozen(NamedTuple):
    """A structure in hashable form, for static fields."""

    leaves: tuple[jax.ShapeDtypeStruct, ...]
    treedef: Any

    # A copy breaks a tree definition that has Equinox modules in it.
    def __deepcopy__(self, memo: dict) -> "Frozen":
        return self

    def __reduce__(self) -> tuple:
        return freeze, (self.thaw(),)

    def thaw(self) -> Structure:
        return jtu.tree_unflatten(self.treedef, self.leaves)


def _strip(leaf: Any) -> jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        shape, dtype = leaf.shape, leaf.dtype
    elif _is_array(leaf):
        shape, dtype = jnp.shape(leaf), jnp.result_type(leaf)
    else:
        raise ValueError(_no_array(leaf))
    return jax.ShapeDtypeStruct(shape, dtype)


_ARRAYS = (np.ndarray, np.generic, bool, int, float, complex)


def _is_array(x: Any) -> bool:
    """Whether JAX takes `x` as an array of numbers."""
    if isinstance(x, jax.Array | np.ndarray | np.generic):
        number = jnp.issubdtype(x.dtype, np.number) or x.dtype == bool
        return number and not isinstance(x, np.ma.MaskedArray)
    return isinstance(x, _ARRAYS) or hasattr(x, "__jax_array__")


def sparse_hint(x: Any) -> str:
    """A hint how to make an operator of a sparse matrix from SciPy or
    `jax.experimental.sparse`."""
    by = {"BCOO": "from_bcoo", "BCSR": "from_bcsr"}.get(type(x).__name__, "from_scipy")
    return f"wrap it as `SparseLinearOperator.{by}(matrix)`"


def _no_array(x: Any) -> str:
    if hasattr(x, "todense"):
        return (
            "expected an array of numbers, but got a sparse matrix of type "
            f"`{type(x).__name__}`; {sparse_hint(x)}."
        )
    of = f", of dtype {x.dtype}" if hasattr(x, "dtype") else ""
    return (
        "expected an array of numbers (or, in a structure, a `jax.ShapeDtypeStruct`), "
        f"but got a value of type `{type(x).__name__}`{of}."
    )


def _strip_inexact(leaf: Any) -> jax.ShapeDtypeStruct:
    leaf = _strip(leaf)
    if not (jnp.issubdtype(leaf.dtype, np.number) or leaf.dtype == bool):
        raise ValueError(_no_array(leaf))
    return jax.ShapeDtypeStruct(leaf.shape, inexact(leaf.dtype))


def freeze(tree: PyTree) -> Frozen:
    """The structure of a pytree of arrays (or of a structure), hashable; integers
    become floating."""
    leaves, treedef = jtu.tree_flatten(tree)
    return Frozen(tuple(_strip_inexact(leaf) for leaf in leaves), treedef)


def freeze_structure(structure: PyTree, argument: str) -> Frozen:
    """`freeze` for a structure that a user gave.

    Raises:
        ValueError: if it is a Python number, which was more likely meant as a size, or
            a tuple of integers, which was meant as a shape.
    """
    is_shape = isinstance(structure, tuple) and structure
    if is_shape and all(type(size) is int for size in structure):
        raise ValueError(
            f"`{argument}` must be a `jax.ShapeDtypeStruct`, an array, or a pytree of "
            f"these, but got the tuple {structure!r}; for arrays of that shape pass "
            f"`jax.ShapeDtypeStruct({structure!r}, dtype)`."
        )
    if isinstance(structure, bool | int | float | complex) and not isinstance(
        structure, np.generic
    ):
        raise ValueError(
            f"`{argument}` must be a `jax.ShapeDtypeStruct`, an array, or a pytree of "
            f"these, but got the Python number {structure!r}; for vectors of n "
            "elements pass `jax.ShapeDtypeStruct((n,), dtype)`."
        )
    return freeze(structure)


def structures_of(operator: Any) -> tuple[Structure, Structure]:
    """An operator's input and output structure.

    Equinox builds a pytree for every bound method, which takes 15 µs. Questions about
    deep composites need structures many times, so this calls the unbound methods.
    """
    kind = type(operator)
    return kind.in_structure(operator), kind.out_structure(operator)


def structure_of(tree: PyTree) -> Structure:
    """The structure of a pytree of arrays; for a structure, without shardings and weak
    types."""
    return jtu.tree_map(_strip, tree)


def size_of(structure: Structure) -> int:
    """Number of scalars."""
    return sum(math.prod(leaf.shape) for leaf in jtu.tree_leaves(structure))


def shape_of(operator: Any) -> tuple[int, int]:
    """Rows and columns of the matrix: `(out_size(), in_size())`."""
    return operator.out_size(), operator.in_size()


def dtype_of(operator: Any) -> Any:
    """The dtype of the matrix, to which the dtypes of all leaves promote."""
    return common_dtype(operator.in_structure(), operator.out_structure())


def is_real(*structures: Structure) -> bool:
    """Whether no leaf is complex."""
    return not any(leaf.dtype.kind == "c" for leaf in jtu.tree_leaves(structures))


def is_complex(structure: Structure) -> bool:
    """Whether there are leaves, and all are complex."""
    leaves = jtu.tree_leaves(structure)
    return bool(leaves) and all(leaf.dtype.kind == "c" for leaf in leaves)


def same_shapes(a: Structure, b: Structure) -> bool:
    """Equal trees and equal leaf shapes; dtypes may differ."""
    (a, a_def), (b, b_def) = jtu.tree_flatten(a), jtu.tree_flatten(b)
    return a_def == b_def and all(x.shape == y.shape for x, y in zip(a, b))


def common_dtype(*structures: PyTree) -> np.dtype:
    """The dtype to which JAX's standard promotion promotes all the leaves."""
    dtypes = frozenset(leaf.dtype for leaf in jtu.tree_leaves(structures))
    if not dtypes:
        return default_floating_dtype()
    return _result_type(dtypes, _x64())


@functools.cache
def _result_type(dtypes: frozenset[Any], x64: bool) -> np.dtype:
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)


def default_floating_dtype() -> np.dtype:
    """float64 if x64 is enabled, else float32."""
    return jnp.result_type(float)


def complex_to_real_dtype(dtype: Any) -> np.dtype:
    """The dtype of the real part: float64 for complex128; a real dtype is returned as
    it is."""
    return jnp.finfo(dtype).dtype


def floating(x: Any) -> Array:
    """An array of floating or complex dtype, not weakly typed; integers are converted
    to the default floating dtype.

    Raises:
        ValueError: not an array of numbers.
    """
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.inexact):
        if not x.weak_type:
            return x
    if isinstance(x, list | tuple):
        try:
            x = np.asarray(x)
        except ValueError as error:
            raise ValueError(f"a list does not make an array: {error}") from None
    if not _is_array(x):
        raise ValueError(_no_array(x))
    dtype = inexact(jnp.result_type(x))
    return jax.lax.convert_element_type(jnp.asarray(x), dtype)


def inexact(dtype: Any) -> np.dtype:
    """A floating or complex dtype as it is; for integers, the default floating
    dtype."""
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else default_floating_dtype()


def ravel(tree: PyTree[Array], dtype: Any = None) -> Array:
    """All scalars in leaf order, each leaf raveled: shape `[size]`.

    Args:
        tree: a pytree of arrays.
        dtype: of the result; by default the common dtype of the leaves.
    """
    leaves = jtu.tree_leaves(tree)
    dtype = common_dtype(leaves) if dtype is None else dtype
    flat = [cast(leaf.reshape(-1), dtype) for leaf in leaves]
    match flat:
        case []:
            return jnp.zeros(0, dtype)
        case [only]:
            return only
        case _:
            return jnp.concatenate(flat)


def unravel(vector: Array, structure: Structure) -> PyTree[Array]:
    """The inverse of `ravel`.

    Leaves take the structure's dtypes, so that a vector in the common dtype of a mixed
    structure gives that structure back. Nothing is dropped: if the vector is complex
    and the structure real, all leaves become complex, and if the vector is wider than
    the structure's widest leaf, all leaves become as wide.
    """
    leaves, treedef = jtu.tree_flatten(structure)
    extra = _beyond(vector.dtype, structure)
    out, start = [], 0
    for leaf in leaves:
        stop = start + math.prod(leaf.shape)
        part = jax.lax.slice_in_dim(vector, start, stop).reshape(leaf.shape)
        dtype = leaf.dtype if extra is None else promote_types(leaf.dtype, extra)
        out.append(cast(part, dtype))
        start = stop
    return jtu.tree_unflatten(treedef, out)


def _beyond(dtype: Any, structure: Structure) -> np.dtype | None:
    """The dtype to promote leaves with so that they can hold `dtype`; None if they
    can."""
    widest = complex_to_real_dtype(common_dtype(structure))
    width = complex_to_real_dtype(dtype)
    wider = promote_types(widest, width) != widest
    if np.dtype(dtype).kind == "c" and is_real(structure):
        return dtype if wider else jnp.dtype(jnp.complex64)
    return width if wider else None


def promote_types(a: Any, b: Any) -> np.dtype:
    """JAX's standard promotion of two dtypes, also under strict promotion."""
    return _promote_types(a, b, _x64())


def _x64() -> bool:
    return jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]


@functools.cache
def _promote_types(a: Any, b: Any, x64: bool) -> np.dtype:
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(a, b)


def cast(x: Array, dtype: Any) -> Array:
    """`x` in `dtype`; complex to real is the real part, without a warning."""
    if x.dtype == dtype:
        return x
    if jnp.iscomplexobj(x) and not jnp.issubdtype(dtype, jnp.complexfloating):
        x = jnp.real(x)
    return x.astype(dtype)


def matmul(a: Array, b: Array) -> Array:
    """The product of two matrices, or of a matrix and a vector, of one dtype, at the
    highest precision.

    On an explicit mesh with a sharded summed axis, the result is sharded like the rows
    and columns, which JAX does not choose by itself.
    """
    a_spec, b_spec = (jax.typeof(x).sharding.spec for x in (a, b))
    sharding = None
    if a_spec[-1] is not None or b_spec[0] is not None:
        rows = a_spec[:-1]
        kept = [*rows, *(s for s in b_spec[1:] if s not in rows)]
        kept += [None] * (a.ndim + b.ndim - 2 - len(kept))
        sharding = jax.sharding.PartitionSpec(*kept)
    return jax.lax.dot_general(
        a,
        b,
        (((a.ndim - 1,), (0,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
        out_sharding=sharding,
    )


@jtu.register_static
@dataclasses.dataclass(frozen=True)
class PackedStructures:
    """The output and input structure of an operator, without array leaves. A solver
    that works with flat vectors keeps them in its state."""

    out_structure: Frozen
    in_structure: Frozen


def pack_structures(operator: Any) -> PackedStructures:
    """The structures of an operator, for `ravel_vector` and `unravel_solution`."""
    in_structure, out_structure = structures_of(operator)
    return PackedStructures(freeze(out_structure), freeze(in_structure))


def ravel_vector(
    pytree: PyTree[Array], packed_structures: PackedStructures
) -> Inexact[Array, " m"]:
    """A vector of the operator's output structure, flat.

    Args:
        pytree: the vector.
        packed_structures: from `pack_structures`.

    Returns:
        An array `[m]`, in the common dtype of the vector and its structure.

    Raises:
        ValueError: another tree or other shapes.
    """
    structure = packed_structures.out_structure.thaw()
    if not same_shapes(structure_of(pytree), structure):
        raise ValueError(
            f"the vector must have structure {describe(structure)}, but has "
            f"{describe(structure_of(pytree))}."
        )
    return ravel(pytree, common_dtype(pytree, structure))


def unravel_solution(
    solution: Inexact[Array, " n"], packed_structures: PackedStructures
) -> PyTree[Array]:
    """A flat solution `[n]` in the operator's input structure."""
    return unravel(solution, packed_structures.in_structure.thaw())


def transpose_packed_structures(
    packed_structures: PackedStructures,
) -> PackedStructures:
    """The structures of the transposed operator."""
    return PackedStructures(
        packed_structures.in_structure, packed_structures.out_structure
    )


def describe(structure: PyTree) -> str:
    """A structure as readable text: `f64[3, 2]`, `{'a': f32[2], 'b': c64[]}`."""
    described = jtu.tree_map(_Word, structure)
    return repr(described)


class _Word:
    def __init__(self, leaf: Any):
        name = short_dtype(leaf.dtype)
        self.word = f"{name}[{', '.join(map(str, leaf.shape))}]"

    def __repr__(self) -> str:
        return self.word


_SHORT = {"bfloat16": "bf16", "float": "f", "complex": "c", "uint": "u", "int": "i"}


def short_dtype(dtype: Any) -> str:
    """`float64` as `f64`, `complex64` as `c64`."""
    name = np.dtype(dtype).name
    for long, short in _SHORT.items():
        if name.startswith(long):
            return short + name.removeprefix(long)
    return name
