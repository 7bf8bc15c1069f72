"""A pool at run time: equal engines with a policy, a price, limits and a router, advanced to a horizon."""

import dataclasses
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from kernels import blame
from kernels.engine import records as at
from kernels.engine.advance import BROKEN, BUDGET, FULL, HORIZON, MESSAGE, STUCK
from kernels.engine.arrays import replaced
from kernels.engine.handle import address_of
from kernels.engine.handover import Side
from kernels.engine.party import run
from kernels.engine.price import StepPrice, pack
from kernels.engine.types import PLAN_SIGNATURE, ROUTE_SIGNATURE, fleet_of
from kernels.errors import InputError
from sim.cluster.rows import Rows
from sim.serving import place, state
from sim.serving.engine import BROKEN_PLAN, compiled_loop, flush, who_waits
from sim.serving.limits import Limits, Options
from sim.serving.plugin import Plugin, compile_function
from sim.serving.result import Ints, ServeResult, collect

Role = Literal["mixed", "prefill", "decode"]


@dataclasses.dataclass(frozen=True, eq=False)
class PoolPart:
    """What a pool is: `limits.num_replica` engines that share a price, a policy and a router.

    A `prefill` pool computes prompts and hands each over with its first token; a `decode` pool takes them from there.
    """

    name: str
    role: Role
    price: StepPrice
    policy: Plugin
    router: Plugin
    limits: Limits
    kv_token_byte: float = 0.0  # KV of a token on all devices of an engine
    state_byte: float = 0.0  # what a sequence keeps whatever its length, likewise
    link_byte_per_s: float = 0.0  # of an engine to the network, a direction
    num_layer: int = 1

    def __post_init__(self) -> None:
        if self.role not in ("mixed", "prefill", "decode"):
            raise InputError("no such role", field="role", value=self.role, allowed=["mixed", "prefill", "decode"])
        if self.role != "mixed" and not self.link_byte_per_s > 0:
            raise InputError("hands KV over", field="link_byte_per_s", value=self.link_byte_per_s, allowed="above 0")
        if self.role != "mixed" and "reserve" in self.policy.value:
            raise InputError(
                f"the {self.role} pool {self.name} keeps KV in pages", field="policy", value=self.policy.name,
                allowed="a policy without reservations",
            )  # fmt: skip


class Pool:
    """The engines of a `PoolPart` with the requests of a load, none of which has arrived.

    Where it `places` them, requests arrive at a mixed pool or one that prefills by themselves; else somebody sends
    them. The rows of a pool that decodes are then blank until a request is handed over (`kernels.engine.handover`),
    unless they name prefix units.
    """

    def __init__(self, part: PoolPart, requests: state.Requests, options: Options, places: bool = False) -> None:
        self.part, self.options = part, options
        receives = part.role == "decode"
        blank = receives and places and len(requests.unit_id) == 0
        known = no_requests(requests) if blank else requests
        limits = part.limits.without_found_state() if receives else part.limits  # it computes no prompt anew
        world = state.build(known, part.price, part.policy, limits, options)
        arrays: dict[str, Any] = {} if places and not receives else {"order": np.zeros(0, np.int32)}
        if blank:
            arrays["seq"] = at.zeros(len(requests.arrival_ps), at.SEQUENCE)
        self.world = replaced(world, **arrays)
        self.num_engine = part.limits.num_replica
        self.fleet = fleet_of(self.world, part.router.vector(), options.seed)
        self.logs: list[Ints] = []
        self.rows = Rows(self.world.seq)
        if part.role == "prefill":
            self.world.engine["hands_over"] = 1
            self.world.control[at.LINKED] = 1
            self.world.seq["output"] = 1
        compiled = part.policy.compiled and part.router.compiled
        self._loop: Callable[..., int] = compiled_loop() if compiled else run
        self._plan: Callable[..., int] = compile_function(part.policy) if compiled else part.policy.function
        self._route: Callable[..., int] = compile_function(part.router) if compiled else part.router.function
        self._place = (
            (address_of(self._plan, PLAN_SIGNATURE), address_of(self._route, ROUTE_SIGNATURE))
            if compiled
            else (self._plan, self._route)
        )
        self._take(self.world)

    def tell(self) -> None:
        """Makes every end a message, by which others release the requests that wait for it."""
        self.world.engine["tells"] = 1
        self.world.control[at.LINKED] = 1
        self.world.book[at.IN_GATE] = 0
        for name in ("child", "sibling"):
            self.world.seq[name] = -1

    def take_order(self, order: at.SmallInts) -> None:
        """Goes on with these arrivals alone."""
        self._take(replaced(self.world, order=order))

    def side(self) -> Side:
        """What compiled meetings take of it."""
        return Side(self.world, self.fleet, self._packed, *self._place)

    def _take(self, world: at.World) -> None:
        """Goes on with these arrays."""
        self.world = world
        self.fleet = fleet_of(world, self.part.router.vector(), self.options.seed, self.fleet.memory)
        self._packed = pack(self.part.price)
        self._run = functools.partial(self._loop, self.world, self.fleet, self._packed, *self._place)

    def widen(self, seq: at.Records, unit_id: at.SmallInts) -> None:
        """Goes on with larger arrays of sequences and of the names of their units, which begin with what there was."""
        self._take(replaced(self.world, seq=seq, unit_id=unit_id))

    def advance(self, until_ps: int) -> bool:
        """Lets happen what happens before `until_ps` (steps may end at it); True where a message stopped it."""
        while True:
            try:
                code = self._run(self.options.budget, self.options.engine != "stepping", until_ps)
            except Exception as error:
                own = place.is_users(self.part.policy) or place.is_users(self.part.router)
                if isinstance(error, InputError) or not own or blame.blame(error) is not None:
                    raise
                raise place.of_function(blame.describe(error), self.part.policy, self.part.router) from error
            flush(self.world, self.logs)
            if code in (HORIZON, MESSAGE):
                return bool(code == MESSAGE)
            self.check(code)

    def check(self, code: int) -> None:
        """Raises what the code of a loop says is wrong."""
        if code == STUCK:
            raise InputError(f"pool {self.part.name}: {who_waits(self.world, self.part.policy.name)}")
        if code == BROKEN:
            raise place.of_function(BROKEN_PLAN, self.part.policy)
        if code not in (BUDGET, FULL):
            raise self._no_engine()

    def route(self, i: int) -> int:
        """The engine that the pool's router chooses for request i."""
        k = int(self._route(self.fleet, i)) if self.num_engine > 1 else 0
        if not 0 <= k < self.num_engine:
            raise self._no_engine()
        return k

    def _no_engine(self) -> InputError:
        return place.of_function(f"names no replica; allowed: 0 to {self.num_engine - 1}", self.part.router)

    def result(self, complete: bool) -> ServeResult:
        """What came of it."""
        done = collect(
            self.world, self.part.price, "run-ahead", complete, self.part.policy.name, self.part.router.name, self.logs,
            self.options.record_steps,
        )  # fmt: skip
        return dataclasses.replace(done, request=self.rows.columns()) if self.rows.num_kept else done


def no_requests(requests: state.Requests) -> Any:
    """A load without requests, for rows that are readied one by one."""
    held = {name: getattr(requests, name) for name in state.Requests.__annotations__}
    return SimpleNamespace(**{name: value[:0] if hasattr(value, "dtype") else value for name, value in held.items()})
