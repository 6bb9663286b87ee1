"""Shared by the conformance suites: running tests that are methods of a class."""

import inspect
from collections.abc import Iterable

import jax.numpy as jnp

_SINGLE = ("float16", "bfloat16", "float32", "complex64")


def available_dtypes(dtypes: Iterable[str]) -> list[str]:
    """These dtypes; the 64-bit ones only while x64 is enabled."""
    x64 = jnp.result_type(float) == jnp.float64
    return [dtype for dtype in dtypes if x64 or dtype in _SINGLE]


def run_laws(laws: object, dtypes: Iterable[str]) -> None:
    """Run all methods `test_…`; if one takes a dtype, for each of these.

    Raises:
        AssertionError: naming every law that fails.
    """
    failures = []
    for name in sorted(name for name in dir(laws) if name.startswith("test_")):
        law = getattr(laws, name)
        takes_dtype = "dtype" in inspect.signature(law).parameters
        for dtype in dtypes if takes_dtype else [None]:
            try:
                law() if dtype is None else law(dtype)
            except Exception as error:
                which = "" if dtype is None else f", {dtype}"
                failures.append(f"{name.removeprefix('test_')}{which}: {error}")
    if failures:
        raise AssertionError("\n".join(failures))
