"""Primitives of JAX made from functions: evaluation, types, lowering."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

PROGRAMS: dict[str, Callable] = {}
"""The function that each primitive was made from."""


def primitive(
    name: str,
    shape: Callable[..., tuple[int, ...]],
    on_cpu: Callable[..., Any] | None = None,
) -> Any:
    """Makes a primitive from a function of arrays and static keywords. Derivatives and
    batching are for the caller to register.

    Args:
        name: of the primitive.
        shape: the shape of the result, from the types of the operands and the keywords;
            its dtype is that of the first operand.
        on_cpu: a faster version of the function for CPUs, or None. Exported programs do
            not use it, because its kernels may change.
    """

    def decorate(fn: Callable) -> Primitive:
        this = Primitive(name)

        def evaluate(*operands: Any, **static: Any) -> Any:
            return _jitted(this, tuple(sorted(static.items())), *operands)

        def lowered_on_cpu(*operands: Any, **static: Any) -> Any:
            assert on_cpu is not None
            found = on_cpu(*operands, **static)
            return fn(*operands, **static) if found is None else found

        def type_of(*avals: Any, **static: Any) -> Any:
            out = ShapedArray(shape(*avals, **static), avals[0].dtype)
            if jax.sharding.get_abstract_mesh().empty:
                return out
            # on a mesh, JAX's own rules say how it is sharded, and over which axes of
            # a `shard_map` it varies
            traced = jax.make_jaxpr(functools.partial(fn, **static))(*avals)
            return traced.out_avals[0]

        PROGRAMS[name] = fn
        this.def_impl(evaluate)
        this.def_abstract_eval(type_of)
        lowering = mlir.lower_fun(fn, multiple_results=False)
        mlir.register_lowering(this, lowering)
        if on_cpu is not None:
            faster = mlir.lower_fun(lowered_on_cpu, multiple_results=False)

            def lower(ctx: Any, *operands: Any, **static: Any) -> Any:
                exported = ctx.module_context.lowering_parameters.for_export
                return (lowering if exported else faster)(ctx, *operands, **static)

            mlir.register_lowering(this, lower, platform="cpu")
        return this

    return decorate


@functools.partial(jax.jit, static_argnums=(0, 1))
def _jitted(this: Primitive, static: tuple, *operands: Any) -> Any:
    return this.bind(*operands, **dict(static))


def linear_in(
    this: Primitive,
    arguments: Sequence[int],
    transposes: Callable[..., list[Any]],
    tangents_of: Callable[..., Any] | None = None,
) -> None:
    """Registers derivatives of a primitive that is linear in each of these arguments;
    the others have no derivative.

    Args:
        this: the primitive.
        arguments: their positions.
        transposes: from the cotangent, the operands and the keywords, the cotangents of
            these arguments, as functions without arguments: only what is undefined is
            computed.
        tangents_of: the part that matters of a tangent of the first of these arguments.
    """

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **static: Any) -> Any:
        out = this.bind(*primals, **static)
        total = None
        for k in arguments:
            if type(tangents[k]) is ad.Zero:
                continue
            tangent = tangents[k]
            if k == 0 and tangents_of is not None:
                tangent = tangents_of(tangent, *primals[1:], **static)
            moved = [*primals[:k], tangent, *primals[k + 1 :]]
            term = this.bind(*moved, **static)
            total = term if total is None else total + term
        if total is None:
            return out, ad.Zero(jax.typeof(out).to_tangent_aval())
        return out, total

    def transpose(cotangent: Any, *operands: Any, **static: Any) -> list[Any]:
        out: list[Any] = [None] * len(operands)
        rules = transposes(cotangent, *operands, **static)
        for k, rule in zip(arguments, rules, strict=True):
            if ad.is_undefined_primal(operands[k]):
                zero = type(cotangent) is ad.Zero
                out[k] = ad.Zero(operands[k].aval) if zero else rule()
        return out

    ad.primitive_jvps[this] = jvp
    ad.primitive_transposes[this] = transpose
