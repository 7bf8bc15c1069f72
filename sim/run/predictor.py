"""The time of a batch, for engines that simulate themselves: their own scheduler decides what runs, and asks a plug-in
for how long it takes.

    from ridgeline import predictor

    time = predictor.BatchTime("llama-3-8b", "h100_sxm", tp=1)
    time.seconds(predictor.Batch(prefill=[2048], cached=[512], decode=[900, 1200]))

A step costs what it costs in `simulate`, to the picosecond: the same operators, kernels and engine profile. The hooks
that are known by name are methods here: SGLang's simulator asks `predict_infer_time(batch)`, the simulation mode of
TensorRT-LLM `predict(batch)`, Dynamo's mocker `predict_prefill_latency(batch_size, isl, prefix)` and
`predict_decode_latency(batch_size, isl, osl)`, in milliseconds.
"""

import functools
import operator
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from kernels.engine.batch_time import (
    CLIPPED,
    NO_CHUNK,
    NO_TOTAL,
    TOO_LONG,
    TOO_MANY_SEQ,
    TOO_MANY_TOKEN,
    batch_ps,
    growing_ps,
    mixed_ps,
    total_ps,
)
from kernels.engine.price import pack
from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.run.profile import profile_of
from sim.run.scenario import Scenario, from_mapping

Lengths = Sequence[int] | npt.NDArray[np.integer[Any]]
REFUSED = ("speculate", "draft_model", "kv_budget", "lora_rank")  # what depends on more than lengths
NO_PART = (
    "requests", "router", "kv_tiers", "kv_evict", "order", "ends", "goodput", "timeout_s", "max_queue", "max_in_flight",
    "price_USDph", "run_ahead", "seed",
)  # fmt: skip
"""Of a load, its clients, its bill and its clock: nothing of a batch."""
MAX_COUNT = 1 << 31  # of sequences, and of tokens of one: their product is a 64-bit integer
_NONE = np.zeros(0, np.int64)


class Decodes(NamedTuple):
    """Decoding sequences of a step by their totals, for who keeps sums and not lists. Attention without a window reads
    what the sum says; with one, only where it cuts all of them or none (else an `InputError` asks for the lengths)."""

    num: int  # sequences
    token: int  # tokens that they have together, before those that this step computes
    longest: int  # of the one that has most
    shortest: int = 0  # of the one that has fewest


class Rows(NamedTuple):
    """A step as engines plan it, an entry a request, prompts and decodes together: a row of one new token on tokens
    before it is a decode."""

    token: "Lengths"  # new tokens
    past: "Lengths"  # tokens before them


class Batch(NamedTuple):
    """What a step computes. Lists or arrays of numbers of tokens, an entry a request."""

    prefill: Lengths = ()  # new tokens of each prompt, or chunk of one
    cached: Lengths | None = None  # tokens before each of these (computed earlier, or found in the cache); None: none
    decode: Lengths | Decodes = ()  # tokens of each decoding sequence, before the one that this step computes
    num_partial: int = 0  # chunks after which their prompt goes on: they sample no token


class BatchTime:
    """Times of batches of a model on a system under an engine profile; `fields` are those of a `Scenario`.

    Raises `InputError` for what the scenario names that is not there or does not fit, and for what depends on more than
    lengths (speculation, adapters, budgets of KV, spans that are read once; images, which a load names), or on none.
    """

    def __init__(self, model: str, system: str, **fields: Any) -> None:
        from sim.run.simulate import limits_of, policy_of, prepared
        from sim.run.step_prices import priced

        self.scenario: Scenario = from_mapping({"model": model, "system": system, **fields})
        for name in (*REFUSED, "attention", *NO_PART):
            neutral: Any = Scenario.__dataclass_fields__[name].default
            if (value := getattr(self.scenario, name)) != neutral:
                why = "has no effect on the time of a batch" if name in NO_PART else "depends on more than lengths"
                raise InputError(why, field=name, value=value, allowed=str(neutral) or "empty")
        if self.scenario.fidelity == "replay":
            raise InputError("steps of others are not replayed", field="fidelity", value="replay",
                             allowed=["sol", "calibrated"])  # fmt: skip
        policy = policy_of(self.scenario)
        profile = profile_of(self.scenario)
        self.setup = prepared(self.scenario, policy)
        price, self.lowered = priced(self.setup, profile, policy, limits_of(self.setup, profile))
        self._table, self._real = pack(price)
        self._rows = getattr(batch_ps, "dispatcher", batch_ps)
        self._mixed = getattr(mixed_ps, "dispatcher", mixed_ps)
        self._total = getattr(total_ps, "dispatcher", total_ps)
        self._growing = getattr(growing_ps, "dispatcher", growing_ps)
        self.max_token = price.dense_ps.shape[1] - 1
        self.max_seq = len(price.head_ps) - 1
        self.max_context = self.setup.max_model_len

    def __repr__(self) -> str:
        return (
            f"<BatchTime of {self.setup.title}, up to {self.max_token:,} tokens of {self.max_seq:,} sequences a step>"
        )

    def seconds(self, batch: Any) -> float:
        """Seconds of a step. `batch` is a `Batch`, `Rows`, or what one of the hooks passes: an object with `reqs` of
        `extend_length` and `past_kv_length`, or with `requests` of `input_length` and `past_kv_length`. 0 for an empty
        one; an `InputError` for one beyond what a step may have."""
        return self.picoseconds(batch) / PS_PER_S

    def picoseconds(self, batch: Any) -> int:
        """As `seconds`, exactly."""
        if isinstance(batch, Batch):
            prefill, cached, decode, num_partial = batch
            new, before = _ints(prefill, "prefill"), _NONE
            if cached is not None:
                before = _ints(cached, "cached")
                if len(before) != len(new):
                    raise InputError("not as long as prefill", field="cached", value=len(before), allowed=str(len(new)))
            partial = _whole(num_partial, "num_partial")
            prices = self._table, self._real, self.max_context
            if isinstance(decode, Decodes):
                num, total = _whole(decode.num, "num"), _whole(decode.token, "token", 1 << 62)
                ends = _whole(decode.longest, "longest"), _whole(decode.shortest, "shortest")
                found = self._total(*prices, new, before, num, total, *ends, partial)
            else:
                found = self._rows(*prices, new, before, _ints(decode, "decode"), partial)
        elif isinstance(batch, Rows):
            found = self._of_rows(batch.token, batch.past)
        else:  # which chunks end their prompt no hook says
            reqs = getattr(batch, "reqs", None)
            if reqs is not None:  # SGLang's simulator
                token, past = [one.extend_length for one in reqs], [one.past_kv_length for one in reqs]
            else:  # TensorRT-LLM's
                token = [one.input_length for one in batch.requests]
                past = [one.past_kv_length for one in batch.requests]
            if token.count(1) == len(token) and 0 not in past:  # decodes only: the second half need not be copied
                found = self._rows(self._table, self._real, self.max_context, _NONE, _NONE, _ints(past, "past"), 0)
            else:
                found = self._of_rows(token, past)
        return found if found >= 0 else self._refuse(found, batch)

    def _of_rows(self, token: Lengths, past: Lengths) -> int:
        new, before = _ints(token, "token"), _ints(past, "past")
        if len(new) != len(before):
            raise InputError("not as long as token", field="past", value=len(before), allowed=str(len(new)))
        return int(self._mixed(self._table, self._real, self.max_context, new, before))

    def _refuse(self, code: int, batch: Any) -> NoReturn:
        message, allowed = {
            TOO_MANY_TOKEN: ("more tokens than a step may have", f"{self.max_token}; or a larger token_budget"),
            TOO_MANY_SEQ: ("more sequences than a step may have", f"{self.max_seq}; or a larger max_num_seq"),
            CLIPPED: (
                "a window cuts some of the decodes and not others, so that their sum does not say what is read",
                "the length of each: decode=[...]",
            ),
            NO_TOTAL: (
                "no sequences have these totals",
                "token from (num - 1) x shortest + longest to (num - 1) x longest + shortest, all 0 and more",
            ),
            TOO_LONG: (
                "a row longer than the context, with the tokens before it",
                f"{self.max_context} with its new tokens; or a larger max_model_len",
            ),
            NO_CHUNK: ("more chunks whose prompt goes on than prompts", "num_partial from 0 to those of prefill"),
        }.get(code, ("rows have a new token at least, and nothing less than none before it", "1 and more; 0 and more"))
        raise InputError(message, field="batch", value=batch, allowed=allowed)

    def predict_infer_time(self, batch: Any) -> float:
        """The hook of SGLang's simulator: seconds of its `ScheduleBatch`."""
        return self.seconds(batch)

    def predict(self, batch: Any) -> float:
        """The hook of TensorRT-LLM's simulation mode: seconds of its `SimBatch`."""
        return self.seconds(batch)

    def predict_prefill_latency(self, batch_size: int, isl: int, prefix: int = 0) -> float:
        """The hook of Dynamo's mocker: *milliseconds* of prompts of `isl` tokens, of which `prefix` are cached."""
        size, held = _int(batch_size), _int(prefix)
        if size > self.max_seq:  # before as many are written down
            self._refuse(TOO_MANY_SEQ, size)
        return 1e3 * self.seconds(Batch(np.full(size, _int(isl) - held), np.full(size, held)))

    def predict_decode_latency(self, batch_size: int, isl: int, osl: int = 2) -> float:
        """The hook of Dynamo's mocker: *milliseconds* of a token for sequences of `isl` tokens; of more than two output
        tokens (`osl`), the mean over the steps after the first token."""
        num, held, steps = _int(batch_size), _int(isl), max(1, _int(osl) - 1)
        found = int(self._growing(self._table, self._real, self.max_context, num, held, steps))
        if found < 0:
            self._refuse(found, Batch(decode=Decodes(num, num * held, held, held)))
        return 1e3 * found / PS_PER_S / steps


def _int(value: Any) -> int:
    """A count as an integer of Python's: means of a mocker are cut to whole tokens, as it hands them over."""
    try:
        found = int(value)
    except (TypeError, ValueError, OverflowError):
        found = -1
    return _whole(found) if found >= 0 else _no_count(value, "batch", MAX_COUNT)


def _whole(value: Any, field: str = "batch", limit: int = MAX_COUNT) -> int:
    """A count that is a whole number already, as an integer of Python's."""
    try:
        found = operator.index(value)
    except TypeError:
        found = -1
    return found if 0 <= found < limit else _no_count(value, field, limit)


def _no_count(value: Any, field: str, limit: int) -> NoReturn:
    raise InputError("not a count", field=field, value=value, allowed=f"whole numbers from 0 to {limit - 1}")


def _ints(values: Any, field: str) -> Any:
    """Numbers as an array of 64-bit integers; a list is copied once, by C (`struct` packs one in a quarter of the time
    that `array` and numpy take). Raises `InputError`, for lists as for arrays, for what is no row of whole numbers of
    64 bits with their sign."""
    if isinstance(values, np.ndarray):
        if values.ndim != 1 or (values.dtype.kind not in "iu" and values.size):
            said = f"an array of {values.dtype} of shape {values.shape}"
        elif values.dtype == np.uint64 and (values >> 63).any():
            said = "a number of 2^63 and more"
        else:
            return np.ascontiguousarray(values, np.int64)
    else:
        try:
            num = len(values)
            return np.frombuffer(_packer(num)(*values), np.int64) if num else _NONE
        except (struct.error, TypeError) as error:
            said = str(error)
    raise InputError(f"lengths are a row of whole numbers of tokens ({said})", field=field, value=values)


@functools.lru_cache(4096)
def _packer(num: int) -> Callable[..., bytes]:
    """What makes the bytes of `num` integers."""
    return struct.Struct(f"{num}q").pack
