"""The cost model: seconds of a layer on each engine and bytes on each tier, linear in the nine shares.

A *form* is ten numbers: a constant, then a coefficient a share (weights, cache, hidden states, each on device, host and
disk). One layer, computed for the whole block, keeps five engines busy: the link up and down, the disk's reads and
writes, and compute (the device's kernels and the host's attention, one after the other). It takes

* "stream": the largest of the five (FlexGen, section 4.3);
* "step", prompts: the largest of up + read, down + write, compute; answers: up and the largest of the other four
  (the cost model in the authors' repository);
* "serial": their sum.

The whole is `layers x (prompt + (answer tokens - 1) x answer)`, an answer's step at its mean length.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.offload.policy import BlockPolicy
from sim.offload.rates import TierRates
from sim.offload.work import Layer

Floats = npt.NDArray[np.float64]
ENGINES = ("up", "down", "read", "write", "compute")
UP, DOWN, READ, WRITE, COMPUTE = range(len(ENGINES))
NUM_FORM = 10
WEIGHT, CACHE, HIDDEN = 1, 4, 7  # first share of each tensor in a form
WIDE_BYTE = 2.0  # of a key's or value's number where attention reads it
BUFFER = 2  # of each kind, filled and used in turn


@dataclasses.dataclass(frozen=True)
class Shape:
    """Lengths of every sequence of a run: tokens of the prompt and of the answer; `keep`, where given, of the keys and
    values that a budget leaves, at most those of the prompt."""

    prompt: int
    output: int
    keep: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.keep <= self.prompt:
            raise InputError("not a budget of the prompt", field="keep", value=self.keep, allowed=f"0 to {self.prompt}")

    @property
    def kept_prompt(self) -> int:
        """Tokens of a prompt that stay."""
        return self.keep or self.prompt

    @property
    def mean_key(self) -> float:
        """Keys that a further token sees, on average."""
        return self.keep or self.prompt + self.output / 2

    @property
    def end(self) -> int:
        """Tokens held at the most."""
        return self.keep or self.prompt + self.output

    def key(self, step: int) -> int:
        """Keys that the token of a step sees."""
        return self.keep or self.prompt + step


def form(constant: float = 0.0, **part: float) -> Floats:
    """A form of a constant and of what lies off the device (`weight`, `cache`, `hidden`), on the disk (`weight_disk`,
    ...) or on the device (`cache_device`)."""
    found = np.zeros(NUM_FORM)
    found[0] = constant
    for name, value in part.items():
        tensor, _, tier = name.partition("_")
        first = {"weight": WEIGHT, "cache": CACHE, "hidden": HIDDEN}[tensor]
        for at in {"": (1, 2), "device": (0,), "host": (1,), "disk": (2,)}[tier]:
            found[first + at] += value
    return found


PROMPT, MEAN = 0, -1  # a step: the prompt's, the mean over all others; 1 and up: the others one by one


def engine_forms(layer: Layer, policy: BlockPolicy, tier: TierRates, shape: Shape, step: int) -> Floats:
    """`[engine, form]` seconds of one layer and the block in a step (`PROMPT`, `MEAN`, or a token's number)."""
    seq, num = policy.block, policy.num_batch
    token, kept = (shape.prompt, shape.kept_prompt) if step == PROMPT else (1, 1)
    cache, hidden, weight = layer.cache_byte * seq * kept, layer.hidden_byte * seq * token, layer.weight_byte
    up = form(weight=weight, hidden=hidden)
    down_s = form(hidden=hidden / tier.down_byte_per_s)
    read = form(weight_disk=weight, hidden_disk=hidden)
    write = form(cache_disk=cache, hidden_disk=hidden)
    if step == PROMPT:
        down_s += form(cache=cache / tier.down_cache_byte_per_s)
        attend = max(layer.prompt_attend_ps / PS_PER_S, layer.prompt_flop / tier.prompt_attention_flop_per_s)
        compute = form(num * (layer.prefill_ps / PS_PER_S + attend))
    else:
        key = shape.mean_key if step == MEAN else shape.key(step)
        dense, attend, unpack = (
            num * _of(values, step) / PS_PER_S for values in (layer.decode_ps, layer.attend_ps, layer.unpack_ps)
        )
        wide = WIDE_BYTE * layer.cache_value * seq * key  # as the kernels read it
        attend = max(attend, wide / tier.device_attention_byte_per_s) + unpack
        held = layer.cache_byte * seq * key
        read += form(cache_disk=held)
        if policy.host_attention:  # queries, keys and values go down, the result comes up
            moved = cache + layer.hidden_byte * seq if layer.cache_byte else 0.0
            down_s += form(cache=moved / tier.down_byte_per_s)
            up += form(cache=layer.hidden_byte * seq if layer.cache_byte else 0.0)
            compute = form(dense, cache_device=attend, cache=held / tier.attention_byte_per_s)
        else:
            up += form(cache=held)
            down_s += form(cache=cache / tier.down_byte_per_s)
            compute = form(dense + attend)
    return np.stack([up / tier.up_byte_per_s, down_s, _over(read, tier.read_byte_per_s),
                     _over(write, tier.write_byte_per_s), compute])  # fmt: skip


def _of(ps: tuple[int, ...], step: int) -> float:
    if step == MEAN:
        return sum(ps) / len(ps) if ps else 0.0
    return float(ps[step - 1])


def _over(byte: Floats, byte_per_s: float) -> Floats:
    return byte / byte_per_s if byte_per_s else np.where(byte > 0, np.inf, 0.0)


def bounds(engines: Floats, schedule: str, answer: bool) -> Floats:
    """`[row, form]`: a layer takes the largest of these."""
    up, down, read, write, compute = engines
    if schedule == "serial":
        return engines.sum(axis=0)[None]
    if schedule == "stream":
        return engines
    if answer:
        return up + np.stack([down, read, write, compute])
    return np.stack([up + read, down + write, compute])


def memory_forms(held: tuple[Layer, ...], policy: BlockPolicy, shape: Shape, working: float) -> Floats:
    """`[tier, form]` bytes that must fit: homes of all tensors, buffers of what passes through, and what a batch
    computes with (`working`)."""
    seq, batch, end = policy.block, policy.batch, shape.end
    weight = sum(layer.count * layer.weight_byte for layer in held)
    cache = sum(layer.count * layer.cache_byte for layer in held) * seq * end
    hidden = max(layer.hidden_byte for layer in held) * seq * shape.prompt
    widest = BUFFER * max(layer.weight_byte for layer in held)
    one = BUFFER * max(layer.cache_byte for layer in held) * batch * end
    state = BUFFER * max(layer.hidden_byte for layer in held) * batch * shape.prompt
    device = form(working, weight_device=weight, weight=widest, cache_device=cache, hidden_device=hidden, hidden=state)
    if not policy.host_attention:
        device += form(cache=one)
    host = form(weight_host=weight, weight_disk=widest, cache_host=cache, cache_disk=one, hidden_host=hidden,
                hidden_disk=state)  # fmt: skip
    disk = form(weight_disk=weight, cache_disk=cache, hidden_disk=hidden)
    return np.stack([device, host, disk])


def at(forms: Floats, policy: BlockPolicy) -> Floats:
    """Forms at a policy's shares."""
    share = np.array([1.0, *policy.shares])
    with np.errstate(invalid="ignore"):
        return np.where(share > 0, forms, 0.0) @ share


@dataclasses.dataclass(frozen=True)
class Predicted:
    """What the cost model says of a policy."""

    prefill_s: float
    decode_s: float
    token_per_s: float
    device_byte: float
    host_byte: float
    disk_byte: float
    busy_s: tuple[float, ...]  # of ENGINES, over the whole run

    @property
    def total_s(self) -> float:
        return self.prefill_s + self.decode_s

    @property
    def binds(self) -> str:
        """The engine with the most to do."""
        return ENGINES[int(np.argmax(self.busy_s))]


def predict(held: tuple[Layer, ...], policy: BlockPolicy, tier: TierRates, shape: Shape, working: float) -> Predicted:
    """The cost model at a policy's shares."""
    phase_s, busy = [0.0, 0.0], np.zeros(len(ENGINES))
    for layer in held:
        for answer, times in ((False, 1), (True, shape.output - 1)):
            engines = engine_forms(layer, policy, tier, shape, MEAN if answer else PROMPT)
            phase_s[answer] += layer.count * times * float(at(bounds(engines, policy.schedule, answer), policy).max())
            busy += layer.count * times * at(engines, policy)
    device, host, disk = (float(value) for value in at(memory_forms(held, policy, shape, working), policy))
    total = sum(phase_s)
    return Predicted(
        prefill_s=phase_s[0],
        decode_s=phase_s[1],
        token_per_s=policy.block * shape.output / total,
        device_byte=device,
        host_byte=host,
        disk_byte=disk,
        busy_s=tuple(map(float, busy)),
    )
