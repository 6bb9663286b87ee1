"""What the driver expects of a method, and does for it."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lo
import lx_solvers as lx
import numpy as np
import pytest
from lx_operators.internal import max_norm
from lx_solvers.internal import krylov


class _State(NamedTuple):
    α: jax.Array


class SteepestDescent:
    """Of ‖b - A x‖. The direction is divided by the length of the last step: after one
    that is infinite, it is NaN."""

    sees_checks = False

    def __init__(self, real: bool = False):
        self.real = real

    def start(self, X, b):
        return _State(X.zero() + 1 if self.real else jnp.ones((), X.dtype))

    def step(self, s, r, now):
        p = krylov.times(1 / s.α, r)
        Ap = now.A(p)
        α = krylov.dot(Ap, r) / krylov.dot(Ap, Ap)
        broken = ~jnp.isfinite(α)
        state = _State(jnp.where(broken, jnp.full_like(α, jnp.nan), jnp.ones_like(α)))
        return krylov.Step(α, p, Ap, state, broken=broken)


class Descent(lx.AbstractLinearSolver):
    rtol: float = 1e-8
    atol: float = 0.0
    max_steps: int | None = None
    real: bool = False
    norm: krylov.Norm = eqx.field(static=True, default=max_norm)
    criterion: str = eqx.field(static=True, default="elementwise")
    history: int | bool = eqx.field(static=True, default=False)
    progress: bool = eqx.field(static=True, default=False)
    preconditioner: Any = eqx.field(
        default=None, kw_only=True, converter=krylov.as_preconditioner
    )

    def init(self, operator, options):
        return krylov.prepare(operator, options, "Descent", self.preconditioner)

    def compute(self, state, vector, options):
        method = SteepestDescent(self.real)
        return krylov.solve(method, self, "Descent", state, vector, options)

    def transpose(self, state, options):
        return krylov.transposed_state(state, options)

    def conj(self, state, options):
        return krylov.conjugated_state(state, options)

    def assume_full_rank(self):
        return True


def solve(matrix, b, solver):
    state = solver.init(lo.MatrixLinearOperator(jnp.asarray(matrix)), {})
    return solver.compute(state, jnp.asarray(b), {})


def test_broken_step_moves_nothing():
    """Whatever it and the check after it have for a direction."""
    singular = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    x, result, _ = solve(singular, np.array([2.0, 1.0, 0.0]), Descent())
    assert result == lx.RESULTS.breakdown
    np.testing.assert_allclose(x, [1.0, 0.5, 0.0])


WRONG = {
    "must be a `krylov.Step`": lambda p, Ap, s: (1.0, p, Ap, s),
    "must be of the type that `start`": lambda p, Ap, s: krylov.Step(1, p, Ap, (s,)),
    "`α` in the state .* is of shape": lambda p, Ap, s: krylov.Step(
        1, p, Ap, _State(p)
    ),
    "call `now.A` once": None,
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_step(text, monkeypatch):
    """Each mistake in a method is an error that names it."""

    def step(self, s, r, now):
        made = WRONG[text]
        return krylov.Step(1, r, r, s) if made is None else made(r, now.A(r), s)

    monkeypatch.setattr(SteepestDescent, "step", step)
    with pytest.raises(TypeError, match=text):
        solve(np.eye(2), np.ones(2), Descent())


def test_complex_scalar_that_starts_real():
    """Its imaginary part would be dropped from one step to the next."""
    matrix, b = np.eye(2) * (2 + 1j), np.ones(2, complex)
    x, result, _ = solve(matrix, b, Descent())
    assert result == lx.RESULTS.successful
    np.testing.assert_allclose(x, b / (2 + 1j))
    with pytest.raises(TypeError, match=r"`α` in the state of `Descent` is complex"):
        solve(matrix, b, Descent(real=True))
