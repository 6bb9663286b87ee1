"""Bratu's problem, Δu + λ eᵘ = 0 on a square, zero on its border, by the Newton method
of optimistix; and the derivative of the largest u with respect to λ, by its implicit
adjoint. Both solve with sparse Jacobians.

Needs optimistix: `pip install optimistix`.
"""

import sys

import jax
import jax.numpy as jnp
import lineax as lx

jax.config.update("jax_enable_x64", True)


def residual(u, rate):
    n = round(u.size**0.5)
    square = jnp.pad(u.reshape(n, n), 1)
    around = square[:-2, 1:-1] + square[2:, 1:-1] + square[1:-1, :-2]
    around = around + square[1:-1, 2:] - 4 * square[1:-1, 1:-1]
    return ((n + 1) ** 2 * around + rate * jnp.exp(square[1:-1, 1:-1])).ravel()


def problem(n: int):
    """From λ to the value of u in the middle."""
    import optimistix as optx  # pyright: ignore[reportMissingImports]

    u0 = jnp.zeros(n * n)
    pattern = lx.ColouredPattern(lx.jacobian_sparsity(residual, u0, 1.0))
    linear_solver = lx.SparseLU(sparsity=pattern)
    newton = optx.Newton(1e-10, 1e-10, linear_solver=linear_solver)
    adjoint = optx.ImplicitAdjoint(linear_solver=linear_solver)

    @jax.jit
    def middle(rate):
        u = optx.root_find(residual, newton, u0, rate, adjoint=adjoint).value
        return u[u.size // 2]

    return middle


def main(n: int = 63) -> None:
    middle = problem(n)
    value, slope = jax.value_and_grad(middle)(5.0)
    step = 1e-4
    difference = (middle(5.0 + step) - middle(5.0 - step)) / (2 * step)
    error = abs(slope / difference - 1)
    assert error < 1e-6, (slope, difference)
    print(
        f"{n**2} unknowns: u is {value:.6f} in the middle, its slope in λ {slope:.6f}; "
        f"it differs from a difference by {error:.0e}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
