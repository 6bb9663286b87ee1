"""Checks of indices and pointers, with errors that name the entry."""

from typing import Any

import jax
import numpy as np


def on_device(x: np.ndarray) -> jax.Array:
    """The same array, as JAX's. `jnp.asarray` compiles a program for each shape, which
    takes 10 ms (JAX 0.10). To be called under `jax.ensure_compile_time_eval`."""
    return jax.device_put(x)


def checked_shape(shape: Any) -> tuple[int, int]:
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    integers = all(hasattr(n, "__index__") and n >= 0 for n in sizes)
    if len(sizes) != 2 or not integers:
        raise ValueError(
            "`shape` must be the number of rows and of columns, two integers of at "
            f"least 0, but got {shape!r}."
        )
    return int(sizes[0]), int(sizes[1])


def checked_indices(
    rows: Any, columns: Any, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for name, indices, bound in zip(("rows", "columns"), (rows, columns), shape):
        x = np.asarray(indices)
        if x.size == 0 and not isinstance(indices, jax.Array | np.ndarray):
            x = x.astype(np.int64)
        if x.ndim != 1 or x.dtype.kind not in "iu":
            raise ValueError(
                f"`{name}` must be a one-dimensional array of integers, but got "
                f"{x.dtype} of shape {x.shape}."
            )
        check_range(x, bound, name[:-1], shape)
        found.append(x)
    rows, columns = found
    if rows.size != columns.size:
        raise ValueError(
            "`rows` and `columns` must be of one length, a row and a column for each "
            f"entry, but got {rows.size} and {columns.size}."
        )
    return rows, columns


def check_range(x: np.ndarray, bound: int, name: str, shape: tuple[int, int]) -> None:
    """Indices from 0 to below `bound`."""
    if x.size and (x.min() < 0 or x.max() >= bound):
        k = int(np.argmax((x < 0) | (x >= bound)))
        raise ValueError(
            f"entry {k} is in {name} {x[k]}, but the matrix has shape {shape}: {name}s "
            f"are counted from 0 to {bound - 1}."
        )


def check_pointers(starts: Any, n: int, size: int, name: str) -> None:
    """The pointers of compressed storage."""
    starts = np.asarray(starts)
    if starts.shape != (n + 1,):
        raise ValueError(
            f"the {name} pointers must be {n + 1} numbers, one more than there are "
            f"{name}s, but have shape {starts.shape}."
        )
    if starts[0] != 0 or starts[-1] > size:
        raise ValueError(
            f"the {name} pointers must run from 0 to the number of entries, {size}, "
            f"but run from {starts[0]} to {starts[-1]}."
        )
    if np.any(starts[1:] < starts[:-1]):
        k = int(np.argmax(starts[1:] < starts[:-1]))
        raise ValueError(
            f"the {name} pointers must not decrease, but that of {name} {k} is "
            f"{starts[k]} and the next {starts[k + 1]}."
        )


def chosen(
    name: str, given: Any, bound: int, shape: tuple[int, int]
) -> tuple[np.ndarray, int]:
    """Where each row or column goes, -1 if nowhere, and how many there are."""
    chosen = np.asarray(given)
    if chosen.dtype == bool and chosen.shape == (bound,):
        chosen = np.flatnonzero(chosen)
    if chosen.size == 0:
        chosen = chosen.astype(int)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` must be a one-dimensional array of integers, or a mask "
            f"[{bound}], but got {chosen.dtype} of shape {chosen.shape}."
        )
    check_range(chosen, bound, name[:-1], shape)
    if np.unique(chosen).size != chosen.size:
        raise ValueError(f"`{name}` must not contain duplicates, but some occur twice.")
    out = np.full(bound, -1)
    out[chosen] = np.arange(chosen.size)
    return out, chosen.size


def index_dtype(*numbers: int) -> np.dtype:
    """The integer dtype for indices up to these numbers.

    Raises:
        ValueError: it is int64, and JAX has no such integers.
    """
    if max(numbers) < 2**31:
        return np.dtype(np.int32)
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            f"indices up to {max(numbers)} do not fit into 32 bits; switch 64-bit "
            'numbers on by `jax.config.update("jax_enable_x64", True)`.'
        )
    return np.dtype(np.int64)
