"""What a solve returns."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, ArrayLike, PyTree


class RESULTS(eqx.Enumeration):
    """How a solve ended. `RESULTS[result]` is the text of an item; `result ==
    RESULTS.successful` is a boolean array."""

    successful = ""
    # Diffrax extends this enumeration, and Equinox warns of an item whose text differs
    # from the one extended: this sentence is Diffrax's.
    max_steps_reached = (
        "The maximum number of solver steps was reached. Try increasing `max_steps`."
    )
    singular = (
        "The operator is singular to working precision, or the solution is not finite. "
        "For the pseudoinverse solution use a rank-revealing solver, such as "
        "`AutoLinearSolver(well_posed=False)`."
    )
    breakdown = (
        "The iterative solver broke down: a quantity it divides by vanished. Check the "
        "operator's tags (`verify`), or try another solver, such as `GMRES`."
    )
    stagnation = (
        "The iterative solver made no more progress before it converged. Loosen `rtol` "
        "and `atol` to what the dtype can reach, raise `restart`, or pass a "
        "preconditioner in `options`."
    )
    conlim = (
        "The estimated condition number of the operator exceeds `conlim`. Regularise "
        "the problem (`damp`), scale its columns, or raise `conlim`."
    )
    nonfinite_input = (
        "The operator or the vector holds a NaN or an infinity. Check how they were "
        "computed (`jax.config.update('jax_debug_nans', True)`)."
    )
    unstable = (
        "Rounding errors grew so much in the factorisation that the solution would be "
        "worthless, although the operator need not be singular. Use `Refined(LU())`, "
        "or `QR`, whose factorisation is stable."
    )


class Solution(eqx.Module):
    """The outcome of a linear solve."""

    value: PyTree[Array]
    """The solution x, of the operator's input structure."""
    result: RESULTS
    """`RESULTS.successful`, or how the solve failed."""
    stats: dict[str, PyTree[ArrayLike]]
    """What the solver has to tell: step counts, ranks, norms."""
    state: PyTree[Any]
    """What `solver.init` returned: pass it to further solves with the operator."""
