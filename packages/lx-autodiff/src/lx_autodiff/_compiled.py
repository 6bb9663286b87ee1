"""How the programs of eager calls are compiled."""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.core
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

try:
    from jax.extend.core import get_opaque_trace_state
except ImportError:  # as in JAX 0.7
    from jax.core import get_opaque_trace_state  # pyright: ignore

# Of XLA's two generators of code for fused operations the older, and all of a program
# given to LLVM at once.
QUICKLY = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


class Compiled:
    """`jax.jit(fn, static_argnums=0)`, and the same with other options of XLA's.

    On a CPU, XLA takes most of the time of a first eager call, and with the options
    `QUICKLY` half of that. The program is as fast, but for products with a stencil,
    which take up to a quarter longer: so they are for vectors of few elements. They are
    for eager calls, because JAX takes options of a whole program only.
    """

    def __init__(self, fn: Callable, options: dict[str, Any] = QUICKLY):
        self._default = jax.jit(fn, static_argnums=0)
        self._quick = jax.jit(fn, static_argnums=0, compiler_options=options)

    def __call__(self, static: Hashable, *arrays: Array, quickly: bool) -> Any:
        if not quickly:
            return self._default(static, *arrays)
        try:
            return self._quick(static, *arrays)
        except RuntimeError as error:
            if "No such compile option" not in str(error):
                raise
            self._quick = self._default  # another XLA
            return self._default(static, *arrays)


def is_quick(vector: PyTree[Any]) -> bool:
    """Whether work with a vector of this structure is to be compiled quickly."""
    if not is_eager():
        return False  # and sizes may be symbolic
    return sum(map(np.size, jtu.tree_leaves(vector))) <= _FEW and _on_cpu()


_FEW = 4096


def is_eager() -> bool:
    """Whether no transformation of JAX's is at work."""
    return get_opaque_trace_state() == _EAGER


with jax.core.eval_context():  # this file may be imported in a trace
    _EAGER = get_opaque_trace_state()


@functools.cache
def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"
