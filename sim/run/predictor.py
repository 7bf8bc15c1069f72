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

import array
import itertools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.engine.batch_time import batch_ps
from kernels.engine.price import HEAD_PS, NUM_STAGE, STRIDE, pack
from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.run.scenario import Scenario, from_mapping

Lengths = Sequence[int] | npt.NDArray[np.integer[Any]]
REFUSED = ("speculate", "draft_model", "kv_budget", "lora_rank")  # what depends on more than lengths
_EXTEND = operator.attrgetter("extend_length", "past_kv_length")  # SGLang's simulator
_INPUT = operator.attrgetter("input_length", "past_kv_length")  # TensorRT-LLM's


class Batch(NamedTuple):
    """What a step computes. Lists of numbers of tokens, an entry a request."""

    prefill: Lengths = ()  # new tokens of each prompt, or chunk of one
    cached: Lengths | None = None  # tokens before each of these (computed earlier, or found in the cache); None: none
    decode: Lengths = ()  # tokens that each decoding sequence has, before the one that this step computes
    num_partial: int = 0  # chunks after which their prompt goes on: they sample no token


class BatchTime:
    """Times of batches of a model on a system under an engine profile; `fields` are those of a `Scenario`.

    Raises `InputError` for what the scenario names that is not there or does not fit, and for what depends on more than
    lengths (speculation, adapters, budgets of KV, spans that are read once).
    """

    def __init__(self, model: str, system: str, **fields: Any) -> None:
        from sim.run.simulate import limits_of, policy_of, prepared
        from sim.run.step_prices import priced
        from sim.serving import engine_profile

        self.scenario: Scenario = from_mapping({"model": model, "system": system, **fields})
        default = Scenario.__dataclass_fields__
        for name in (*REFUSED, "attention"):
            if (value := getattr(self.scenario, name)) != default[name].default:
                raise InputError("depends on more than lengths", field=name, value=value, allowed=default[name].default)
        if self.scenario.fidelity == "replay":
            raise InputError("steps of others are not replayed", field="fidelity", value="replay",
                             allowed=["sol", "calibrated"])  # fmt: skip
        policy = policy_of(self.scenario)
        profile = engine_profile.load("none" if self.scenario.fidelity == "sol" else self.scenario.engine)
        self.setup = prepared(self.scenario, policy)
        price, self.lowered = priced(self.setup, profile, policy, limits_of(self.setup, profile))
        self._price = pack(price)
        self._ps = getattr(batch_ps, "dispatcher", batch_ps)
        table = self._price.table
        self.max_token = int(table[STRIDE]) - 1
        self.max_seq = len(price.head_ps) - 1
        assert table[NUM_STAGE] == self.setup.placement.pp
        assert table[HEAD_PS] > 0

    def __repr__(self) -> str:
        return (
            f"<BatchTime of {self.setup.title}, up to {self.max_token:,} tokens of {self.max_seq:,} sequences a step>"
        )

    def seconds(self, batch: Any) -> float:
        """Seconds of a step. `batch` is a `Batch`, or what one of the hooks passes: an object with `reqs` of
        `extend_length` and `past_kv_length`, or with `requests` of `input_length` and `past_kv_length`. 0 for an empty
        one; an `InputError` for one beyond what a step may have."""
        return self.picoseconds(batch) / PS_PER_S

    def picoseconds(self, batch: Any) -> int:
        """As `seconds`, exactly."""
        if not isinstance(batch, Batch):
            return self._of_hook(batch)
        prefill, cached, decode, num_partial = batch
        num_prompt, num = len(prefill), len(prefill) + len(decode)
        rows = np.empty(2 * num, np.int64)
        rows[:num_prompt] = _ints(prefill)
        rows[num_prompt:num] = 1
        rows[num : num + num_prompt] = rows[:num_prompt]
        if cached is not None:
            if len(cached) != num_prompt:
                raise InputError("not as long as prefill", field="cached", value=len(cached), allowed=str(num_prompt))
            rows[num : num + num_prompt] += _ints(cached)
        rows[num + num_prompt :] = _ints(decode)
        rows[num + num_prompt :] += 1
        return self._time(rows, num_prompt, num, num - num_partial)

    def _of_hook(self, batch: Any) -> int:
        """A row of one token on tokens before it is a decode; all others are prompts. Each samples a token: hooks do
        not say which chunks are the last of their prompt."""
        reqs = getattr(batch, "reqs", None)
        pairs = map(_EXTEND, reqs) if reqs is not None else map(_INPUT, batch.requests)
        flat = np.frombuffer(array.array("q", itertools.chain.from_iterable(pairs)), np.int64)
        new, before = flat[::2], flat[1::2]
        num = len(new)
        is_prompt = (new > 1) | (before == 0)
        num_prompt = int(np.count_nonzero(is_prompt))
        rows = np.empty(2 * num, np.int64)
        if num_prompt in (0, num):
            rows[:num] = new
            rows[num:] = new + before
        else:
            order = np.argsort(~is_prompt, kind="stable")
            rows[:num] = new[order]
            rows[num:] = (new + before)[order]
        return self._time(rows, num_prompt, num, num)

    def _time(self, rows: npt.NDArray[np.int64], num_prompt: int, num: int, sampled: int) -> int:
        if num == 0:
            return 0
        token = int(rows[:num].sum())
        if token > self.max_token:
            raise InputError("more tokens than a step may have", field="batch", value=token,
                             allowed=f"{self.max_token}; or a larger token_budget")  # fmt: skip
        if not 0 <= sampled <= min(num, self.max_seq):
            raise InputError("more sequences than a step may have", field="batch", value=num,
                             allowed=f"{self.max_seq}; or a larger max_num_seq")  # fmt: skip
        if rows[:num].min() < 1 or (rows[num:] < rows[:num]).any():
            raise InputError("rows have a new token at least, and nothing less than none before it", field="batch",
                             value=int(rows.min()), allowed="1 and more; 0 and more")  # fmt: skip
        return int(self._ps(self._price, rows, num_prompt, num, sampled))

    def predict_infer_time(self, batch: Any) -> float:
        """The hook of SGLang's simulator: seconds of its `ScheduleBatch`."""
        return self.seconds(batch)

    def predict(self, batch: Any) -> float:
        """The hook of TensorRT-LLM's simulation mode: seconds of its `SimBatch`."""
        return self.seconds(batch)

    def predict_prefill_latency(self, batch_size: int, isl: int, prefix: int = 0) -> float:
        """The hook of Dynamo's mocker: *milliseconds* of prompts of `isl` tokens, of which `prefix` are cached."""
        size = int(batch_size)
        return 1e3 * self.seconds(Batch([int(isl) - int(prefix)] * size, [int(prefix)] * size))

    def predict_decode_latency(self, batch_size: int, isl: int, osl: int = 2) -> float:
        """The hook of Dynamo's mocker: *milliseconds* of a token for sequences of `isl` tokens; of more than two output
        tokens (`osl`), the mean over the steps after the first token."""
        steps = max(1, int(osl) - 1)
        total = sum(self.seconds(Batch(decode=[int(isl) + k] * int(batch_size))) for k in range(steps))
        return 1e3 * total / steps


def _ints(values: Any) -> Any:
    return values if isinstance(values, np.ndarray) else np.frombuffer(array.array("q", values), np.int64)
