"""A stiff reaction and diffusion, u_t = ε Δu + u (1 - u²) on a periodic square, by
diffrax; and the derivative of the end with respect to ε, through the adjoint.

The Jacobians of the implicit steps are functions of a state of n² unknowns. With their
sparsity pattern, found once, the root finder's linear solver compresses each to a
sparse matrix by a few products, and factorises that.

Needs diffrax: `pip install diffrax`.
"""

import sys

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

jax.config.update("jax_enable_x64", True)


def field(t, u, epsilon):
    n = round(u.size**0.5)
    square = u.reshape(n, n)
    around = sum(jnp.roll(square, shift, axis) for axis in (0, 1) for shift in (1, -1))
    return (epsilon * n**2 * (around - 4 * square) + square - square**3).ravel()


def problem(n: int, end: float = 1.0):
    """From ε to the mean of u⁴ at the end."""
    import diffrax  # pyright: ignore[reportMissingImports]

    x = np.arange(n) / n
    u0 = np.cos(2 * np.pi * x)[:, None] + 0.3 * np.sin(2 * np.pi * x)
    u0 = jnp.asarray(u0.ravel())
    # Implicit stages solve z = f(t, u + dt γ z): entries where f has some, and the
    # diagonal, which f has as well.
    pattern = lx.jacobian_sparsity(lambda u, epsilon: field(0.0, u, epsilon), u0, 0.1)
    linear_solver = lx.SparseLU(sparsity=lx.ColouredPattern(pattern))
    root_finder = diffrax.VeryChord(1e-8, 1e-10, linear_solver=linear_solver)

    @jax.jit
    def mean(epsilon):
        end_state = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Kvaerno3(root_finder=root_finder),
            t0=0.0,
            t1=end,
            dt0=0.05,
            y0=u0,
            args=epsilon,
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-8),
            max_steps=500,
        ).ys[0]
        return jnp.mean(end_state**4)

    return mean


def main(n: int = 32) -> None:
    mean = problem(n)
    value, slope = jax.value_and_grad(mean)(0.01)
    step = 1e-4
    difference = (mean(0.01 + step) - mean(0.01 - step)) / (2 * step)
    error = abs(slope / difference - 1)
    assert error < 1e-3, (slope, difference)
    print(
        f"{n**2} unknowns: the mean of u⁴ is {value:.6f}, its slope in ε {slope:.4f}; "
        f"it differs from a difference by {error:.0e}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
