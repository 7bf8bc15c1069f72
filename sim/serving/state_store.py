"""The block store of a model whose recurrent states others find: blocks as long as a state is large.

As in vLLM's hybrid cache a page holds a block of tokens of one group of attention layers, or the states of as many
recurrent layers; groups are of equally many layers, the last one padded. So a block is the smallest number of tokens
whose keys and values in a layer are no fewer bytes than a layer's state, in whole blocks of the kernels.
"""

import math
from collections.abc import Iterable

from kernels.errors import InputError
from sim.serving.rules import Group, Rules
from sim.serving.stores import Store
from workloads.memory import Budget
from workloads.models.layers.base import Mixer
from workloads.models.layers.delta import Delta
from workloads.models.spec import ModelSpec
from workloads.rows import ceil_div

EXPORT_TOKEN = {"mamba2": 1, "gateddelta": 64}  # tokens at whose multiples a kernel can leave a state on its way
LATENT_TOKEN = 128  # of a block of the kernels of latent attention; vLLM 0.33, `vllm/platforms/interface.py`


def kind_of(mixer: Mixer) -> str:
    """A recurrent layer kind as profiles name it.

    >>> from workloads import models
    >>> [kind_of(models.load(name).block[0].mixer) for name in ("qwen3-next-80b-a3b", "nemotron-h-8b")]
    ['gateddelta', 'mamba2']
    """
    plain = isinstance(mixer, Delta) and not mixer.channel_decay
    return "gateddelta" if plain else type(mixer).__name__.lower()


def state_store(budget: Budget, model: ModelSpec, attn_dp: int, block_token: int, rules: Rules) -> Store | None:
    """The store, for blocks of `block_token` tokens or more; None where no engine is known to find states: of models
    with other layers than those that keep every token and those that keep a state, or states of several sizes."""
    grown = [group for group in budget.group if group.rule == "linear"]
    states = [group for group in budget.group if group.rule == "state"]
    layers = {group.num_layer for group in states}
    if not rules.finds_state or len(grown) != 1 or len(layers) != 1 or len(grown) + len(states) < len(budget.group):
        return None
    kinds = {kind_of(block.mixer) for block in model.block if block.mixer is not None}
    exports = kinds <= set(rules.export_state)
    latent = any(block.attention.latent for block in model.block if block.attention.num_head)
    step = max(block_token, LATENT_TOKEN if latent else 1)
    if exports:
        step = math.lcm(step, *(EXPORT_TOKEN.get(kind, 1) for kind in kinds))
    [attention], [num_state] = grown, layers
    state_byte = sum(group.unit_byte for group in states)
    token = step * math.ceil(state_byte / (step * attention.unit_byte))
    size = _group_size((attention.num_layer, num_state))
    page = size * math.ceil(attention.unit_byte * token)
    num_block = budget.kv * attn_dp // page
    if num_block < 1:
        raise InputError("no room for a block of what one sequence keeps", field="memory_share", value=budget.line())
    groups = (
        Group("linear", 0, ceil_div(attention.num_layer, size)),
        Group("align", int(exports), ceil_div(num_state, size)),
    )
    return Store(num_block, float(page), groups, token)


def _group_size(layers: Iterable[int]) -> int:
    """Layers of a group: as many as there are of the rarer kind, or, where both are about as many, of the other.

    >>> _group_size([12, 36]), _group_size([4, 5])
    (12, 5)
    """
    low, high = min(layers), max(layers)
    return high if high < 1.5 * low else low
