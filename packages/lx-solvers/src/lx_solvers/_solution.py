"""The results of a solve."""

from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, PyTree

from ._enumeration import Enumeration


class RESULTS(Enumeration):
    """How a solve ended.

    `result == RESULTS.successful` is a boolean array; `RESULTS[result]` says what
    happened and what to try, and `result.name` is a string. A result is not a
    condition: `if result:` raises an error.
    """

    successful = ""
    # Diffrax extends this enumeration, and Equinox warns of an item whose text differs
    # from the one extended: this sentence is Diffrax's.
    max_steps_reached = (
        "The maximum number of solver steps was reached. Try increasing `max_steps`."
    )
    singular = (
        "The operator is singular to working precision, or the solution is not finite. "
        "For the pseudoinverse solution use a rank-revealing solver, such as "
        "`AutoLinearSolver(well_posed=False)`. If the operator is tagged semidefinite, "
        "check the tag (`verify`)."
    )
    breakdown = (
        "The iterative solver broke down: a quantity it divides by vanished. Check the "
        "operator's tags (`verify`), or try another solver, such as `GMRES`."
    )
    stagnation = (
        "The iterative solver made no more progress before it converged. Loosen `rtol` "
        "and `atol` to what the dtype can reach, or pass a preconditioner in "
        "`options`. With `GMRES`, raise `restart`."
    )
    conlim = (
        "The estimated condition number of the operator exceeds `conlim`. Regularise "
        "the problem (`damp`), scale its columns, or raise `conlim`."
    )
    nonfinite_input = (
        "The operator or the vector holds a NaN or an infinity, a product with the "
        "operator or the preconditioner overflowed, or a function that was given as an "
        "operator is not linear (see `verify`). Check how they were computed "
        "(`jax.config.update('jax_debug_nans', True)`)."
    )
    unstable = (
        "Rounding errors grew so much that the solution would be worthless, although "
        "the operator need not be singular. Use `QR`, whose factorisation is stable, "
        "or `Refined(LU())`. If `QR` says so, elements differ too much in size: try "
        "`LU(two_sided=True)`."
    )
    preconditioner_failed = (
        "The preconditioner could not be computed: it divides by zero, or its "
        "factorisation failed. Shift or scale the operator, or use another, such as "
        "`Jacobi()`."
    )
    not_definite = (
        "The operator is tagged semidefinite, but a pivot of its sparse factorisation "
        "is not positive. Check the tag (`verify`), or use `SparseLU` or `SparseLDL`."
    )
    out_of_memory = (
        "The host has not enough memory for the sparse factors. Use an iterative "
        "solver, such as `CG` or `GMRES`, with a preconditioner."
    )
    host_failure = (
        "A library on the host failed unexpectedly; its error is in the log of "
        '`logging.getLogger("lx_solvers")`. Try `backend="superlu"`.'
    )
    not_real = (
        "The solution has an imaginary part in a leaf that is real in the operator's "
        "input structure. Make that leaf complex, or check the vector."
    )
    stopped = (
        "The rule in `options['stop']` ended the solve, and the residual is not within "
        "the tolerance."
    )


class Solution(eqx.Module):
    """The outcome of a linear solve."""

    value: PyTree[Array]
    """The solution x, of the operator's input structure."""
    result: RESULTS
    """`RESULTS.successful`, or how the solve failed."""
    stats: dict[str, PyTree[ArrayLike]]
    """What the solver reports: step counts, ranks, norms."""
    state: PyTree[Any]
    """What `solver.init` returned: pass it to further solves with the operator."""

    @property
    def successful(self) -> Bool[Array, "..."]:
        """Whether the solve succeeded: a boolean array, one for each solve of a batch.
        It may be used inside `jit`."""
        return self.result == RESULTS.successful

    @property
    def status(self) -> Any:
        """How the solve ended, as a string such as `"successful"` or `"singular"`; an
        array of strings for a batch.

        Raises:
            ValueError: inside `jit` or another transformation, where it is not known.
        """
        return self.result.name

    def __repr__(self) -> str:
        facts = [
            f"value={short(self.value)}",
            f"status={self.result.text()}",  # pyright: ignore
            *(f"{name}={short(x)}" for name, x in self.stats.items()),
        ]
        return f"Solution({', '.join(facts)})"


_FEW = 8  # numbers that are printed


def short(tree: PyTree[Any]) -> str:
    """Few numbers as they are, of others dtype and shape."""

    def leaf(x: Any) -> Any:
        known = not isinstance(x, jax.core.Tracer)
        if not known or not isinstance(x, jax.Array | np.ndarray) or x.size > _FEW:
            return x
        return _Text(np.array2string(np.asarray(x), precision=5, separator=", "))

    return " ".join(eqx.tree_pformat(jtu.tree_map(leaf, tree), width=1000).split())


class _Text(str):
    """A string that prints without quotation marks."""

    def __repr__(self) -> str:
        return str(self)
