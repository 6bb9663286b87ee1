"""What a Krylov method and the driver say to each other.

The driver calls `Recurrence.step` with the state, the residual and a `Pass`; the method
asks the pass for its one product, and answers with a `Step`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, ArrayLike

from ._guess import held
from ._scalars import packed, times, unpacked, where
from ._spaces import Space


class Pass:
    """What a method sees in one pass of the loop."""

    def __init__(
        self,
        A: Callable,
        M: Callable | None,
        b: Array,
        loop: Any,
        goal: Any,
        norm_b: Array,
        norm_A: Array,
        guessed: bool,
    ):
        at = loop.phases
        self._A, self._M, self._x = A, M, loop.x
        if M is not None:
            self._x = where(at.probe, loop.r, loop.x)
        self.ν = loop.ν
        """‖r‖."""
        self.x = loop.x
        """The solution so far."""
        self._goal = goal
        self.norm_b = norm_b
        """‖b‖."""
        self.norm_A = norm_A
        """A lower bound of ‖A‖ from the steps so far."""
        self.b = b
        """The right-hand side."""
        self._guessed, self._first = guessed, at.first
        self.check = at.check
        """Whether this pass is a check, whose step is not made."""
        self.claimed = at.claimed
        """Whether it is one that is to confirm that the solve has converged."""
        self.plain = M is None
        """Whether there is no preconditioner."""
        self.vector: Any = None
        self.product: Any = None
        self.renewed: Any = None

    @property
    def rtol(self) -> Array:
        """The relative tolerance, for methods that have ends of their own."""
        return self._goal.rtol

    @property
    def atol(self) -> Array:
        """The absolute tolerance, likewise."""
        return self._goal.atol

    def A(self, p: Array) -> Array:
        """The one product of a pass, A p. In a check it is A x, from which the driver
        computes the true residual."""
        if self.product is not None:
            raise ValueError("a step has one product: call `now.A` once.")
        self.vector = where(self.check, self._x, p)
        self.product = self._A(self.vector)
        if self._guessed:
            self.product = where(self._first, held(self.product), self.product)
        return self.product

    def M(self, r: Array) -> Array:
        """The preconditioner's product; r if there is none. Each call is a further
        product in every step."""
        return r if self._M is None else self._M(r)

    def onward(self, a: ArrayLike, z: Array, β: Array, p: Array) -> tuple[Array, Array]:
        """a z + β p, a new direction, and β; in a check p, and 1."""
        a = jnp.asarray(a).astype(β.dtype)
        a, β = unpacked(packed(where(self.check, 0, a), where(self.check, 1, β)))
        return times(a, z) + times(β, p), β

    def kept(self, new: Any, old: Any, afresh: Any = None) -> Array:
        """A scalar of the new state; in a check the old one, or that to start afresh
        with if the check is to confirm a claim, and hence finds it wrong."""
        old = old if afresh is None else where(self.claimed, afresh, old)
        return where(self.check, old, new)

    def anew(self, w: Array) -> Array:
        """w; in a check the true residual b - A x. To be called after `A`."""
        self.renewed = where(self.check, self.b - self.product, w)
        return self.renewed


class Step(NamedTuple):
    """A step of a method: x ← x + α p and r ← r - α A p."""

    α: Array | Callable[[], Array]
    """The length of the step, or a function that gives it: an element of an array costs
    a kernel less if it is taken where it is used."""
    p: Array
    """Its direction."""
    Ap: Array | None
    """A p; None if `r` is given."""
    state: Any
    """The method's state after it."""
    r: Array | None = None
    """The residual after it, where that is recurred in another way."""
    broken: Any = False
    """The step cannot be made: it is not, and the solve ends."""
    finite: Any = True
    """Whether all numbers that were met are finite."""
    due: Any = False
    """The residual is to be computed anew after this step."""
    idle: Any = False
    """The step moves neither x nor r, so the test of the last one stands."""
    solved: Any = False
    """The solve ends with this step, and successfully: the residual that it began with
    was computed anew, and is as small as it can be."""
    stretch: Any = None
    """A lower bound of ‖A‖ without a preconditioner, which is cheaper to have than
    ‖A p‖ / ‖p‖ of the product, which the driver takes otherwise."""
    ν: Any = None
    """‖r‖ after it, in a check that of the true residual: for methods that compute it
    together with other inner products. Their `stretch` also holds in a check, and with
    a preconditioner."""


def check_step(step: Any, now: Pass, initial: Any, name: str) -> None:
    """A method has made one product and returned a step, with a state like that of
    `start`. No real scalar becomes complex: `unpack` would take its real part.

    Raises:
        TypeError: it has not.
    """
    if not isinstance(step, Step):
        raise TypeError(
            f"a step of `{name}` must be a `krylov.Step`, but is a "
            f"`{type(step).__name__}`."
        )
    if now.product is None:
        raise TypeError(f"a step of `{name}` has one product: call `now.A` once.")
    if jtu.tree_structure(step.state) != jtu.tree_structure(initial):
        raise TypeError(
            f"the state of `{name}` after a step must be of the type that `start` "
            f"returns, with the same fields: {type(initial).__name__}, not "
            f"{type(step.state).__name__}."
        )
    begun, made = jtu.tree_leaves_with_path(initial), jtu.tree_leaves(step.state)
    for (path, first), new in zip(begun, made, strict=True):
        if jnp.shape(new) != jnp.shape(first):
            what = f"of shape {jnp.shape(new)} after a step, but {jnp.shape(first)}"
        elif jnp.iscomplexobj(new) and not jnp.iscomplexobj(first):
            what = "complex after a step, but real"
        else:
            continue
        raise TypeError(
            f"`{jtu.keystr(path, simple=True)}` in the state of `{name}` is {what} in "
            "`start`, which returns vectors `X.zeros()`, real scalars `X.zero()` and "
            "others `jnp.zeros((), X.dtype)`."
        )


class Recurrence(Protocol):
    """A Krylov method with one product a step.

    Its state is a `NamedTuple` of named scalars and vectors. In a check no step is
    made, and the driver keeps the state as it was; if a claim turned out wrong, the
    method starts afresh, with the scalars of `start`.
    """

    @property
    def sees_checks(self) -> bool:
        """Whether the state that `step` returns in a check counts. For a method that
        starts afresh from the true residual, or that saves the driver a `where`."""
        ...

    def start(self, X: Space, b: Array) -> Any:
        """The state before the first step.

        Args:
            X: the space of the vectors.
            b: the right-hand side.
        """
        ...

    def step(self, s: Any, r: Array, now: Pass) -> Step:
        """One step.

        Args:
            s: the state.
            r: the residual.
            now: products and flags of this pass.
        """
        ...
