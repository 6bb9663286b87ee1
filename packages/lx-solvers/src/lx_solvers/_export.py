"""Settings of `jax.export` for our solvers."""

import jax.export

# By type, LAPACK's `ormqr` (of complex numbers `unmqr`) and `geqp3`; and `ormqr` and
# `gtsv2` of the libraries for GPUs.
_CALLS = (
    *(f"lapack_{t}_ffi" for t in ("sormqr", "dormqr", "cunmqr", "zunmqr")),
    *(f"lapack_{t}geqp3_ffi" for t in "sdcz"),
    "cusolver_ormqr_ffi",
    "hipsolver_ormqr_ffi",
    "hipsparse_gtsv2_ffi",
)


def export_checks() -> list[jax.export.DisabledSafetyCheck]:
    """The checks to disable when you export a solve by `QR` or `PivotedQR`.

    These solvers call LAPACK routines that JAX does not promise to keep, so load the
    exported function with the same version of JAX. All other solvers can be exported
    without this.

    Returns:
        What `jax.export.export` takes as `disabled_checks`.

    ```python
    def fit(matrix, vector):
        operator = lx.MatrixLinearOperator(matrix)
        return lx.linear_solve(operator, vector, lx.QR(), throw=False).value

    matrix = jax.ShapeDtypeStruct((9, 3), jnp.float32)
    vector = jax.ShapeDtypeStruct((9,), jnp.float32)
    export = jax.export.export(jax.jit(fit), disabled_checks=lx.export_checks())
    exported = export(matrix, vector)
    ```
    """
    return [jax.export.DisabledSafetyCheck.custom_call(call) for call in _CALLS]
