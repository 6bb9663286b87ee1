"""The choice of the library that factorises."""

import importlib.util
from typing import Any

import numpy as np

from ._protocol import Kind, SparseBackend


def chosen_backend(
    backend: str | SparseBackend | None, kind: Kind, dtype: Any, solver: str
) -> SparseBackend:
    """The backend to use.

    Args:
        backend: an instance, or `"superlu"` or `"rslab"`; by default rslab where it is
            installed and does it, else SuperLU.
        kind: what is known of the matrix.
        dtype: of the matrix.
        solver: for the text of errors.

    Raises:
        ValueError: no such backend, it is not installed, or does not do it.
    """
    dtype = np.dtype(dtype)
    if backend is None:
        others = [_rslab()] if has_rslab() else []
        for each in (*others, _superlu()):
            if each.supports(kind, dtype):
                return each
        wanted: Any = _superlu()
    elif backend == "superlu":
        wanted = _superlu()
    elif backend == "rslab":
        if not has_rslab():
            raise ValueError(
                f"the backend rslab is not installed; install it by `{_INSTALL}`, or "
                'use `backend="superlu"`.'
            )
        wanted = _rslab()
    elif isinstance(backend, SparseBackend):
        wanted = backend
    else:
        raise ValueError(
            '`backend` must be "superlu", "rslab", a `SparseBackend` or None, but got '
            f"{backend!r}."
        )
    if not wanted.supports(kind, dtype):
        raise ValueError(
            f"`{solver}` has no factorisation for {_KINDS[kind]} matrices of dtype "
            f"{dtype} by {wanted!r}. Use `SparseLU`, or "
            + ('`backend="rslab"`.' if has_rslab() else f"rslab: `{_INSTALL}`.")
        )
    return wanted


_INSTALL = "pip install rslab==1.7.0"
_KINDS = {
    "general": "general",
    "definite": "Hermitian definite",
    "hermitian": "Hermitian indefinite",
    "symmetric": "symmetric indefinite",
}


def has_rslab() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("rslab") is not None


def _superlu() -> SparseBackend:
    from ._superlu import SuperLU

    return SuperLU()


def _rslab() -> SparseBackend:
    from ._rslab import Rslab

    return Rslab()
