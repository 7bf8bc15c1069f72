"""Live programs: requests that start, wait for, share with and stop others, and call what is outside.

A program is a generator that SimPy's clock runs beside a pool of engines. It asks (`Program.ask`), waits (`yield`),
branches off what it has (`Stream.fork`, `suffix`), stops (`Program.stop`) and calls servers outside (`Program.call`).
The engines run ahead to the next event of the clock or to the next end of a request, whichever is earlier; every end
is an event that a program may wait for. A run whose programs ask for one request each is the plain system to the tick.
"""

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np
import simpy

from kernels.engine import records as at
from kernels.engine.party import next_message, send, stop
from kernels.engine.price import HOST_REQUEST
from kernels.errors import InputError, PlanError
from kernels.units import FOREVER_PS, PS_PER_S
from sim.cluster.names import Names
from sim.cluster.pool import Pool, PoolPart
from sim.serving.limits import Options
from sim.serving.result import Ints, ServeResult

MOST_PS = FOREVER_PS // 2  # of the clock
MAX_RANK = (1 << 25) - 1  # of the waiting queue
ORDERS = ("request", "program", "remaining")
Body = Callable[["Program"], Generator[simpy.Event, Any, None]]


class Stream:
    """Tokens that requests of programs share: a prompt, then what is generated after it. Whole units of `unit_token`
    tokens have names, by which an engine's prefix cache finds them."""

    def __init__(self, names: Names, token: int, shared: Sequence[int] = ()) -> None:
        self._names = names
        self.token = token
        self.unit: list[int] = list(shared)

    def through(self, token: int) -> list[int]:
        """Names of the whole units within the first `token` tokens."""
        num = token // self._names.unit_token
        while len(self.unit) < num:
            self.unit.append(self._names.fresh())
        return self.unit[:num]

    def fork(self) -> "Stream":
        """A stream that goes on from here by itself."""
        return Stream(self._names, self.token, self.through(self.token))


@dataclasses.dataclass(eq=False)
class Request:
    """A request that a program has asked for. `done` is the event of its end, whatever the end; `served` says which."""

    index: int
    program: "Program"
    prompt: int
    output: int
    done: simpy.Event
    served: bool = False
    produced: int = 0

    def __repr__(self) -> str:
        return f"request {self.index} of {self.program!r}"


class Program:
    """What a program's generator is given: its clock, its draws, and the pool."""

    def __init__(self, live: "Live", index: int, body: Body, arrival_ps: int, name: str) -> None:
        self.live, self.index, self.name, self.arrival_ps = live, index, name, arrival_ps
        self.random = np.random.default_rng(np.random.SeedSequence((live.options.seed, index)))
        self.request: list[Request] = []
        self.remaining = 0  # tokens that it expects to want still: what the order "remaining" goes by
        self.end_ps = -1
        self.body = body
        self.note: dict[str, float] = {}  # what the program says of itself, a column each
        self.done = live.env.event()

    def __repr__(self) -> str:
        return f"program {self.index} ({self.name})"

    @property
    def now_s(self) -> float:
        """Seconds since the run began."""
        return float(self.live.env.now) / PS_PER_S

    def stream(self, token: int) -> Stream:
        """A prompt of `token` tokens that requests can share."""
        return Stream(self.live.names, token)

    def ask(self, output: int, *, prompt: int = 0, stream: Stream | None = None, suffix: int = 0) -> Request:
        """Asks for `output` tokens after a prompt of its own of `prompt` tokens; or after a `stream`, which they
        continue; or after a stream and `suffix` tokens of its own, a branch that leaves the stream as it is."""
        return self.live._ask(self, output, prompt, stream, suffix)

    def stop(self, request: Request) -> None:
        """Wants no more of a request: its engine gives it up at its next plan. Its end is an event as any other."""
        self.live._stop(request)

    def sleep(self, seconds: float) -> simpy.Event:
        """An event after so many seconds."""
        return self.live._sleep(seconds)

    def call(self, server: str, seconds: float) -> simpy.Event:
        """A call of a server outside that takes so long once one of its places is free (tools, reward models)."""
        return self.live._call(server, seconds)

    def all_of(self, events: Sequence[simpy.Event]) -> simpy.Event:
        """When all of these have come."""
        return self.live.env.all_of(events)

    def any_of(self, events: Sequence[simpy.Event]) -> simpy.Event:
        """When one of these has come."""
        return self.live.env.any_of(events)


@dataclasses.dataclass(frozen=True, eq=False)
class LiveResult:
    """What came of every request and program. Times are picoseconds, -1 where there is none."""

    pool: ServeResult  # with a row a request, in the order in which they were asked for
    program: dict[str, Ints]  # arrival_ps, end_ps, num_request, prompt_token, produced_token, stopped
    of: Ints  # [request] its program
    note: list[dict[str, float]]
    num_meeting: int
    complete: bool = True  # False: it was interrupted; programs that have not ended have no end


class Live:
    """The run: programs are added, then it is run once."""

    def __init__(
        self, part: PoolPart, options: Options | None = None, *, order: str = "request",
        outside: Mapping[str, int] | None = None, unit_token: int = 0,
    ) -> None:  # fmt: skip
        """`order` of the waiting queue: by request (first come), by program (a program's requests go together, first
        come), or by what a program says remains of it. `outside`: servers outside and their places. `unit_token`:
        tokens of a named unit (the block size where 0)."""
        if part.role != "mixed":
            raise InputError("live programs run on one pool", field="role", value=part.role, allowed="mixed")
        if order not in ORDERS:
            raise InputError("no such order", field="order", value=order, allowed=ORDERS)
        self.options = dataclasses.replace(options or Options(), order="fcfs" if order == "request" else "priority")
        self.order, self.env = order, simpy.Environment(initial_time=0)
        size = unit_token or part.limits.block_token
        self.names = Names(size, part.limits.num_replica * (part.limits.num_block + 1))
        self.pool = Pool(part, self.names.columns(), self.options)
        self.pool.world.engine["tells"] = 1
        self.pool.world.control[at.LINKED] = 1
        self.host_ps = int(part.price.host_ps[HOST_REQUEST])
        self.program: list[Program] = []
        self.request: list[Request] = []
        self.num_meeting = 0
        self._waits: dict[int, simpy.Event] = {}  # what each program waits for
        self._early: set[int] = set()  # requests that were stopped before they reached an engine
        for name, places in (outside or {}).items():
            if places < 1:
                raise InputError("a server has a place", field=name, value=places, allowed="1 or more")
        self.called: set[str] = set()  # servers outside that a program has called
        self._outside = {name: simpy.Resource(self.env, places) for name, places in (outside or {}).items()}

    def add(self, body: Body, arrival_s: float = 0.0, name: str = "", arrival_ps: int = -1) -> Program:
        """A program that begins at `arrival_s` (or `arrival_ps`)."""
        when = arrival_ps if arrival_ps >= 0 else round(arrival_s * PS_PER_S)
        found = Program(self, len(self.program), body, when, name or getattr(body, "__name__", "program"))
        self.program.append(found)
        return found

    def run(self) -> LiveResult:
        """Runs until nothing is left to do, or what is done until an interrupt. `InputError` where programs wait for
        what can no longer happen: it says who waits for what."""
        try:
            self._run()
        except KeyboardInterrupt:
            return self._result(False)
        self._check_ended()
        return self._result(True)

    def _run(self) -> None:
        for program in sorted(self.program, key=lambda one: one.arrival_ps):
            self.env.process(self._life(program))
        while True:
            horizon = self.env.peek()
            until_ps = FOREVER_PS if horizon == float("inf") else int(horizon)
            if self.pool.advance(until_ps):
                self._hear()
            elif until_ps == FOREVER_PS:
                break
            else:
                self.env.step()
                self.num_meeting += 1

    def _life(self, program: Program) -> Generator[simpy.Event, Any, None]:
        if program.arrival_ps > 0:
            yield self.env.timeout(program.arrival_ps - int(self.env.now))
        yield from self._told(program)
        program.end_ps = int(self.env.now)
        program.done.succeed(program)

    def _told(self, program: Program) -> Generator[simpy.Event, Any, None]:
        """The body, with what it waits for kept for `_check_ended`."""
        body: Any = program.body(program)
        value: Any = None
        while True:
            try:
                event = body.send(value)
            except StopIteration:
                return
            if not isinstance(event, simpy.Event):
                code, line = body.gi_code, body.gi_frame.f_lineno
                raise InputError("waits for what is no event", file=code.co_filename, line=line, field="yield",
                                 value=event, allowed="what ask, sleep, call, all_of and any_of return")  # fmt: skip
            self._waits[program.index] = event
            value = yield event

    def _ask(self, program: Program, output: int, prompt: int, stream: Stream | None, suffix: int) -> Request:
        if (prompt > 0) == (stream is not None) or (suffix > 0 and stream is None) or min(prompt, suffix) < 0:
            raise InputError("a prompt of its own, or a stream and perhaps a suffix", field="prompt", value=prompt)
        length = prompt if stream is None else stream.token + suffix
        if not (1 <= output < 1 << 24 and 1 <= length < 1 << 24):
            raise InputError("not lengths", field="prompt, output", value=(length, output), allowed="1 to 16777215")
        unit: list[int] = []
        if stream is not None:
            unit = stream.through(stream.token if suffix else length + output)
            if not suffix:
                stream.token += output
        i = len(self.request)
        request = Request(i, program, length, output, self.env.event())
        self.request.append(request)
        self.names.place(self.pool, i, unit)
        s = self.pool.world.seq[i]
        s["arrival_ps"], s["prompt"], s["output"] = int(self.env.now), length, output
        s["program"], s["part"] = program.index, len(program.request)
        rank = {"request": -1, "program": program.index, "remaining": program.remaining}[self.order]
        s["key"] = min(rank, MAX_RANK)
        program.request.append(request)
        event = self.env.timeout(self.host_ps)
        event.callbacks.append(lambda _: self._deliver(i))
        return request

    def _deliver(self, i: int) -> None:
        send(self.pool.world, i, self.pool.route(i), int(self.env.now))
        if i in self._early:
            stop(self.pool.world, i, int(self.env.now))

    def _stop(self, request: Request) -> None:
        i = request.index
        if self.pool.world.seq["status"][i] == at.FUTURE:
            self._early.add(i)
        else:
            stop(self.pool.world, i, int(self.env.now))

    def _sleep(self, seconds: float) -> simpy.Event:
        if not (seconds >= 0 and int(self.env.now) + seconds * PS_PER_S < MOST_PS):
            raise PlanError(f"waits {seconds} seconds; allowed: 0 or more, and the clock holds {MOST_PS / PS_PER_S:g}")
        return self.env.timeout(round(seconds * PS_PER_S))

    def _call(self, server: str, seconds: float) -> simpy.Event:
        if server not in self._outside:
            raise InputError("no such server", field="call", value=server, allowed=list(self._outside))
        self.called.add(server)
        self._sleep(seconds)  # refuses what is no time

        def served() -> Generator[simpy.Event, Any, None]:
            with self._outside[server].request() as place:
                yield place
                yield self._sleep(seconds)

        return self.env.process(served())

    def _hear(self) -> None:
        """The next end becomes an event of the clock."""
        i = int(next_message(self.pool.world))
        s = self.pool.world.seq[i]
        request = self.request[i]
        request.served = bool(s["status"] in (at.FINISHED, at.LEAVING, at.DONE))
        request.produced = int(s["produced"])
        event = self.env.timeout(int(s["end_ps"]) - int(self.env.now))
        event.callbacks.append(lambda _: request.done.succeed(request))

    def _check_ended(self) -> None:
        """Programs that have not ended are a deadlock: says who waits for what."""
        left = [program for program in self.program if program.end_ps < 0]
        if not left:
            return
        names = {id(program.done): repr(program) for program in self.program}
        names |= {id(request.done): repr(request) for request in self.request}

        def said(event: simpy.Event) -> str:
            if isinstance(event, simpy.events.Condition):
                parts = [said(one) for one in event._events if not one.triggered]
                return " and ".join(parts) or "nothing"
            return names.get(id(event), "an event that nothing brings")

        lines = [f"{program!r} waits for {said(self._waits[program.index])}" for program in left[:5]]
        more = f"; and {len(left) - 5} more" if len(left) > 5 else ""
        raise InputError(f"deadlock of {len(left)} programs: {'; '.join(lines)}{more}")

    def _result(self, complete: bool) -> LiveResult:
        num = len(self.request)
        done = self.pool.result(complete)
        request = {name: values[:num] for name, values in done.request.items()}
        of = self.pool.world.seq["program"][:num].astype(np.int64)
        known = len(self.program)
        total = {
            "num_request": np.bincount(of, minlength=known),
            "prompt_token": np.bincount(of, request["prompt_token"], known).astype(np.int64),
            "produced_token": np.bincount(of, request["produced_token"], known).astype(np.int64),
            "stopped": np.bincount(of, request["reason"] == at.REASON_STOPPED, known).astype(np.int64),
        }
        times = {
            "arrival_ps": np.array([one.arrival_ps for one in self.program], np.int64),
            "end_ps": np.array([one.end_ps for one in self.program], np.int64),
        }
        notes = [program.note for program in self.program]
        done = dataclasses.replace(done, request=request)
        return LiveResult(done, times | total, of, notes, self.num_meeting, complete)
