"""Values that do not depend on x, computed only where a rule asks for one.

Indices, masks and weights are often constants of a function: where an element is taken
from is then known, and a product with zero is no dependence. NumPy computes what
programs do to indices, without a compilation for each operation; JAX the rest.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Known:
    """Output `number` of an equation whose inputs are known, or a constant."""

    __slots__ = ("_equation", "_number", "_value")

    def __init__(self, value: Any = None, equation: Any = None, number: int = 0):
        self._value = value
        self._equation = equation
        self._number = number

    @property
    def value(self) -> Any:
        """An array; computed when it is first asked for."""
        if self._equation is not None:
            _compute(self._equation)
            self._value = self._equation.outs[self._number]
            self._equation = None
        return self._value

    def numpy(self) -> np.ndarray | None:
        """The value as numbers; `None` if it has none (a random key)."""
        value = self.value
        if jnp.issubdtype(getattr(value, "dtype", np.dtype(bool)), jax.dtypes.extended):
            return None
        return np.asarray(value)


class _Equation:
    __slots__ = ("eqn", "inputs", "outs")

    def __init__(self, eqn: Any, inputs: list[Known]):
        self.eqn, self.inputs = eqn, inputs
        self.outs: list[Any] | None = None


def known_outputs(eqn: Any, inputs: list[Known | None]) -> list[Known | None]:
    """The outputs of an equation, known if all its inputs are and it has no effect."""
    if eqn.effects or any(value is None for value in inputs):
        return [None] * len(eqn.outvars)
    equation = _Equation(eqn, inputs)  # pyright: ignore[reportArgumentType]
    return [Known(None, equation, k) for k in range(len(eqn.outvars))]


def _compute(equation: _Equation) -> None:
    """The outputs of an equation, and first of those that it needs: without recursion,
    as chains may be long."""
    stack = [equation]
    while stack:
        last = stack[-1]
        missing = [
            known._equation
            for known in last.inputs
            if known._equation is not None and known._equation.outs is None
        ]
        if last.outs is not None:
            stack.pop()
        elif missing:
            stack += missing
        else:
            last.outs = _outputs(last.eqn, [known.value for known in last.inputs])
            stack.pop()


def _outputs(eqn: Any, values: list[Any]) -> list[Any]:
    compute = _NUMPY.get(eqn.primitive.name)
    numbers = all(isinstance(v, np.ndarray | np.generic) for v in values)
    if compute is not None and numbers:
        with np.errstate(all="ignore"):
            out = compute(eqn, *values)
        outs = out if isinstance(out, list) else [out]
        return [np.asarray(y, var.aval.dtype) for y, var in zip(outs, eqn.outvars)]
    bound = eqn.primitive.get_bind_params(eqn.params)
    # older versions of JAX return functions as well
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    with jax.ensure_compile_time_eval():
        outs = eqn.primitive.bind(*functions, *values, **params)
    outs = outs if eqn.primitive.multiple_results else [outs]
    return [plain(out) for out in outs]


def plain(value: Any) -> Any:
    """As NumPy's array, where it is one."""
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return value
    return np.asarray(value)


# Operations that only move elements, on arrays of anything.


def _broadcast_in_dim(eqn: Any, x: np.ndarray, *_: Any) -> np.ndarray:
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    at = [1] * len(shape)
    for axis, size in zip(dims, np.shape(x)):
        at[axis] = size
    return np.broadcast_to(np.reshape(x, at), shape)


def _slice(eqn: Any, x: np.ndarray) -> np.ndarray:
    start, limit, step = (
        eqn.params[key] for key in ("start_indices", "limit_indices", "strides")
    )
    step = step or (1,) * len(start)
    return x[tuple(map(slice, start, limit, step))]


def _pad(eqn: Any, x: np.ndarray, fill: np.ndarray) -> np.ndarray:
    config = [tuple(map(int, one)) for one in eqn.params["padding_config"]]
    out = np.empty(eqn.outvars[0].aval.shape, x.dtype)
    out[...] = fill
    to, of = [], []
    for (low, _, inner), size, wide in zip(config, x.shape, out.shape):
        at = low + np.arange(size) * (inner + 1)
        inside = (at >= 0) & (at < wide)
        to.append(at[inside])
        of.append(np.flatnonzero(inside))
    out[np.ix_(*to)] = x[np.ix_(*of)]
    return out


def _concatenate(eqn: Any, *xs: np.ndarray) -> np.ndarray:
    return np.concatenate(xs, axis=eqn.params["dimension"])


def _reshaped(eqn: Any, x: np.ndarray, *_: Any) -> np.ndarray:
    return np.reshape(x, eqn.outvars[0].aval.shape)


def _split(eqn: Any, x: np.ndarray) -> list[np.ndarray]:
    sizes, axis = eqn.params["sizes"], eqn.params["axis"]
    return np.split(x, np.cumsum(sizes)[:-1], axis=axis)


def _stack(eqn: Any, *xs: np.ndarray) -> np.ndarray:
    return np.stack(xs, axis=eqn.params["axis"])


def _unstack(eqn: Any, x: np.ndarray) -> list[np.ndarray]:
    return list(np.moveaxis(x, eqn.params["axis"], 0))


def _reshape(eqn: Any, x: np.ndarray, *_: Any) -> np.ndarray:
    order = eqn.params["dimensions"]  # of the axes, beforehand
    return _reshaped(eqn, x if order is None else np.transpose(x, order))


MOVES = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "expand_dims": _reshaped,
    "pad": _pad,
    "reshape": _reshape,
    "rev": lambda eqn, x: np.flip(x, eqn.params["dimensions"]),
    "slice": _slice,
    "split": _split,
    "stack": _stack,
    "unstack": _unstack,
    "tile": lambda eqn, x: np.tile(x, eqn.params["reps"]),
    "squeeze": _reshaped,
    "transpose": lambda eqn, x: np.transpose(x, eqn.params["permutation"]),
}


def _iota(eqn: Any) -> np.ndarray:
    shape, axis = eqn.outvars[0].aval.shape, eqn.params["dimension"]
    at = [-1 if k == axis else 1 for k in range(len(shape))]
    return np.broadcast_to(np.arange(shape[axis]).reshape(at), shape)


def _select(eqn: Any, which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    which = np.asarray(which).astype(np.int64)
    if which.ndim == 0:
        return cases[int(which)]
    return np.choose(which, cases) if len(cases) < 32 else _chosen(which, cases)


def _chosen(which: np.ndarray, cases: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.take_along_axis(np.stack(cases), which[None], axis=0)[0]


def _converted(eqn: Any, x: np.ndarray) -> np.ndarray:
    dtype = np.dtype(eqn.params["new_dtype"])
    return (x if dtype.kind == "c" else np.real(x)).astype(dtype)


def _ufunc(of: Any) -> Any:
    return lambda eqn, *xs: of(*xs)


_NUMPY = MOVES | {
    "iota": _iota,
    "select_n": _select,
    "convert_element_type": _converted,
    "add": _ufunc(np.add),
    "sub": _ufunc(np.subtract),
    "mul": _ufunc(np.multiply),
    "neg": _ufunc(np.negative),
    "max": _ufunc(np.maximum),
    "min": _ufunc(np.minimum),
    "lt": _ufunc(np.less),
    "le": _ufunc(np.less_equal),
    "gt": _ufunc(np.greater),
    "ge": _ufunc(np.greater_equal),
    "eq": _ufunc(np.equal),
    "ne": _ufunc(np.not_equal),
}
