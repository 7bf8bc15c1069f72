"""Layers of a model as an offloading run moves and computes them: bytes to hold, and seconds on the device.

Seconds come from the same operator rows as a serving step's: all layers together cost what `lower_step` costs.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from hw_models.device import cost
from kernels import optable as op
from kernels.errors import InputError
from kernels.machine import Machine
from sim.offload.policy import PACKED_BYTE, BlockPolicy
from workloads import kv, lowering
from workloads.formats import Formats
from workloads.layers import add_block
from workloads.memory import activation_byte
from workloads.models.spec import Block, ModelSpec
from workloads.models.tensors import block_tensors
from workloads.placement import Placement
from workloads.rows import Rows

Ints = npt.NDArray[np.int64]
PLACED = Placement()
# Element-wise passes over device memory, bytes a value, as separate kernels of a framework have them (FlexGen's
# released code). Unpacking shifts and masks (0.5 in, 0.5 out), spreads each result over every other value (0.5 in,
# whole sectors of 2 out; of weights, which are grouped along their rows, over every other row: 1 out), divides and adds
# (2 in, 2 out each). Packing finds the least and the largest (2 in each), subtracts, scales, clamps, rounds (4 each),
# narrows (3) and joins (2).
UNPACK_BYTE, UNPACK_WEIGHT_BYTE, PACK_BYTE = 15.0, 13.0, 25.0


@dataclasses.dataclass(frozen=True)
class Layer:
    """Equal layers: what one holds and takes."""

    name: str
    count: int
    weight_byte: float  # as kept
    weight_value: float  # numbers of matrices, those that are packed
    cache_byte: float  # of a token, as kept
    cache_value: float  # of a token
    hidden_byte: float  # of a token that it hands on through a tier
    prefill_ps: int  # a batch's prompts, without their attention
    prompt_attend_ps: int  # their attention
    prompt_flop: float  # its products, of masked pairs too
    decode_ps: tuple[int, ...]  # a batch's token, each step but the first, without attention over the cache
    attend_ps: tuple[int, ...]  # attention over all of it
    unpack_ps: tuple[int, ...]  # and unpacking it


def layers(
    model: ModelSpec, formats: Formats, machine: Machine, policy: BlockPolicy, prompt: int, output: int, keep: int = 0
) -> tuple[Layer, ...]:
    """Embedding, blocks (a row a kind) and head, for prompts of `prompt` and answers of `output` tokens, of which a
    budget of `keep` leaves so many (0: all).

    Raises `InputError` for models of which a layer keeps something else than every token's keys and values.
    """
    groups = kv.groups(model, formats, PLACED)
    if any(group.rule != "linear" or group.name != "kv" for group in groups):
        raise InputError("offloading is of layers that keep every token's keys and values", field="model",
                         value=model.name, allowed="no windows, states or compressed attention")  # fmt: skip
    if prompt < 1 or output < 1 or (prompt + output > model.max_context and model.position == "learned"):
        raise InputError("not lengths of this model", field="prompt, output", value=(prompt, output),
                         allowed=f"1 or more, {model.max_context} together")  # fmt: skip
    price = _Price(model, formats, machine, policy, prompt, output, keep)
    return (price.ends(first=True), *(price.block(b, n) for b, n in model.num_block().items()), price.ends(first=False))


class _Price:
    """Rows of each layer, priced; an answer's first token comes from its prompt's step."""

    def __init__(
        self, model: ModelSpec, formats: Formats, machine: Machine, policy: BlockPolicy, prompt: int, output: int,
        keep: int,
    ) -> None:  # fmt: skip
        self.model, self.formats, self.machine, self.policy = model, formats, machine, policy
        self.prompt, self.batch = prompt, policy.batch
        self.kept_prompt = keep or prompt
        self.length = [keep or prompt + i for i in range(1, output)]  # keys that each further token sees

    def block(self, block: Block, count: int) -> Layer:
        """Blocks of one kind."""
        p = self.policy
        matrix = {t.part: 0.0 for t in block_tensors(self.model, block)}
        small = 0.0
        for t in block_tensors(self.model, block):
            wide = t.row > 1 or t.shard in ("tp", "kv", "expert")
            matrix[t.part] += t.value if wide else 0.0
            small += 0.0 if wide else t.value
        value = sum(matrix.values())
        kept = sum(
            number * self.formats.weight_byte(name if name in ("attention", "mixer", "ffn", "expert") else "activation")
            for name, number in matrix.items()
        )
        byte = self.formats.act_byte("activation")
        cache_value = float(kv.token_value(block.attention, 1))
        hidden = self.model.hidden * byte
        unpack = self._pass("unpack", value, UNPACK_WEIGHT_BYTE) if p.pack_weight else 0
        query = block.attention.num_head * block.attention.head_dim
        pack = self._pass("pack", cache_value * self.batch * self.kept_prompt, PACK_BYTE) if p.pack_cache else 0
        pack_token = self._pass("pack", cache_value * self.batch, PACK_BYTE) if p.pack_cache else 0
        dense = self._dense(block, self.batch)
        packed = self.length if p.pack_cache else []
        return Layer(
            name="block",
            count=count,
            weight_byte=(value * PACKED_BYTE if p.pack_weight else kept) + small * byte,
            weight_value=value,
            cache_byte=cache_value * (PACKED_BYTE if p.pack_cache else self.formats.kv_byte),
            cache_value=cache_value,
            hidden_byte=hidden,
            prefill_ps=self._dense(block, self.batch * self.prompt) + unpack + pack,
            prompt_attend_ps=self._prompt(block),
            prompt_flop=4.0 * query * self.batch * self.prompt**2,
            decode_ps=tuple(dense + unpack + pack_token for _ in self.length),
            attend_ps=tuple(self._attend(block)),
            unpack_ps=tuple(self._pass("unpack", cache_value * self.batch * m, UNPACK_BYTE) for m in packed)
            or (0,) * len(self.length),
        )

    def ends(self, first: bool) -> Layer:
        """The embedding, or the final norm, the head and sampling. FlexGen keeps a copy of the embedding for each."""
        model, formats = self.model, self.formats

        def ps(token: int) -> int:
            rows = Rows(formats, PLACED, token, 0)
            if first:
                lowering.enter_stage(rows, model)
                return self._cost(rows.table())
            lowering.leave_stage(rows, model)
            return self._cost(rows.table()) + self._cost(lowering.lower_head(model, formats, PLACED, 0, self.batch))

        row = model.vocab + (model.position_row if first else 0)
        byte = formats.weight_byte("embedding" if first or model.tied else "head")
        return Layer(
            "embedding" if first else "head", 1, row * model.hidden * byte, 0.0, 0.0, 0.0,
            model.hidden * formats.act_byte("activation") if first else 0.0,
            ps(self.batch * self.prompt), 0, 0.0, (ps(self.batch),) * len(self.length), *((0,) * len(self.length),) * 2,
        )  # fmt: skip

    def _dense(self, block: Block, token: int) -> int:
        rows = Rows(self.formats, PLACED, token, 0)
        add_block(rows, self.model, block, 0.0)
        return self._cost(rows.table())

    def _prompt(self, block: Block) -> int:
        length = np.full(self.batch, self.prompt)
        return self._attention(block, lowering.work_rows(length, length), "prefill")

    def _attend(self, block: Block) -> list[int]:
        one = np.ones(self.batch, np.int64)
        return [self._attention(block, lowering.work_rows(one, one * m), "decode") for m in self.length]

    def _attention(self, block: Block, work: op.WorkTable, phase: str) -> int:
        if not block.attention.num_head:
            return 0
        rows = Rows(self.formats, PLACED, 1, 0)
        lowering.attention_row(rows, block.attention, work, phase)
        return self._cost(rows.table(), work)

    def _pass(self, name: str, value: float, byte: float) -> int:
        """Element-wise passes over `value` numbers that move `byte` bytes a number."""
        rows = Rows(self.formats, PLACED, 1, 0)
        rows.add(name, op.CONVERT, m=1, n=1, flop=4.0 * value, act_byte=value * byte / 2, write_byte=value * byte / 2)
        return self._cost(rows.table())

    def _cost(self, ops: op.OpTable, work: op.WorkTable | None = None) -> int:
        held = op.empty(0, 0)[1] if work is None else work
        return int(cost(ops, held, self.machine)["time_ps"].sum())


def working_byte(model: ModelSpec, formats: Formats, policy: BlockPolicy, prompt: int) -> float:
    """Device memory for what a batch computes: its widest activations in a prompt's step."""
    return activation_byte(model, formats, PLACED, 0, policy.batch * prompt, policy.batch)
