"""ZeRO-3 with the optimizer on the host: gradients flushed to host memory, Adam on the CPU, weights fetched back.

After the Deep Optimizer States study (Maurya et al. 2024): most of an iteration is the blocking flush of gradients at
the end of the backward pass and the update on the CPU. Two remedies: an asynchronous flush under the backward pass, and
interleaved updates, where every `gap`-th group of parameters is updated by the GPU while the CPU updates the others.
"""

import functools
from typing import NamedTuple

import numpy as np

from kernels.train_plan import Floats
from kernels.train_step import FORWARD_S
from sim.training.estimate import known_site, rank_times
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec
from workloads.training import TrainPlan

STACK, HEAD_DIM, VOCAB = "megatron-2022", 128, 51200  # of GPTs whose logs name their widths alone


class Host(NamedTuple):
    """Constants of a machine. Seconds a parameter are of fp32 states; rates of a device and of its whole host."""

    name: str
    system: str  # in the catalogue
    layer_s: float  # of the host, a layer and a microbatch, whatever its size
    flush_s: float  # blocking flush, a parameter of a device's own shard
    flush_host_s: float  # the same, a parameter of all that a host flushes at once
    add_s: float  # accumulating a microbatch's gradients, a parameter of the shard
    settle_s: float  # end of an asynchronous flush, a parameter of the shard
    update_s: float  # Adam on the CPU, a parameter of the shard
    update_host_s: float  # the same, a parameter of all on the host
    interleave: float  # share of the update that is left as `gap` goes to 1 (everything on the GPU)
    interleave_cpu: float  # and its growth with the share left on the CPU
    fetch_s: float  # weights that interleaved updates fetch under the next forward pass, a parameter of the shard
    contend: float  # slowdown of passes that gather weights across nodes, by the host traffic of interleaved updates
    out_byte_per_s: float  # gathering weights across nodes, a device
    device_per_node: int


class OffloadRun(NamedTuple):
    """What is run; every field may be an array of the same length."""

    parameter: Floats
    num_layer: Floats
    hidden: Floats
    seq: Floats
    tp: Floats
    dp: Floats
    micro_batch: Floats
    num_microbatch: Floats
    cpu_share: Floats  # of the optimizer on the host
    gap: Floats  # every gap-th group on the GPU; 0: no interleaving
    asynchronous: Floats  # 1: gradients are flushed under the backward pass


@functools.cache
def forward_s(system: str, num_layer: int, hidden: int, seq: int, tp: int, micro_batch: int) -> float:
    """Seconds of the operators of a forward pass of a GPT's layers, as every training step is priced."""
    heads = max(hidden // HEAD_DIM, 1)
    block = Block(Attention(heads, heads, hidden // heads, hidden // heads), FeedForward(4 * hidden, gated=False))
    model = ModelSpec("gpt", "gpt", hidden, VOCAB, seq, (block,), (0,) * num_layer, norm="layer", tied=True)
    plan = TrainPlan(tp=tp, micro_batch=micro_batch, batch=micro_batch, seq=seq, fused_norm=True, fused_loss=False)
    return float(rank_times(model, plan, known_site(system, tp, STACK, plan.attention))[FORWARD_S])


def flush_s(host: Host, shard: Floats, shared: Floats) -> Floats:
    """Blocking flush of the gradients of `shard` parameters a device, of which a host has `shared`."""
    return np.maximum(host.flush_s * shard, host.flush_host_s * shared)


def cpu_update_s(host: Host, shard: Floats, shared: Floats) -> Floats:
    """Their update on the CPU."""
    return np.maximum(host.update_s * shard, host.update_host_s * shared)


def offload_iteration(run: OffloadRun, host: Host) -> tuple[Floats, Floats, Floats]:
    """Seconds of the forward passes, the backward passes (flush included) and the update of one iteration.

    A backward pass with recomputed activations is three forwards. Interleaved updates leave
    `interleave + interleave_cpu (1 - 1/gap)` of the CPU's update time.
    """
    shapes = zip(run.num_layer, run.hidden, run.seq, run.tp, run.micro_batch, strict=True)
    operators = [forward_s(host.system, *(int(value) for value in shape)) for shape in shapes]
    compute = np.array(operators) + run.num_layer * host.layer_s
    node = np.maximum(1, run.tp * run.dp / host.device_per_node)  # hosts at work
    shard = run.parameter / (run.tp * run.dp)
    shared = run.parameter / node
    gather = np.where(node > 1, 2 * run.parameter / run.tp * (1 - 1 / run.dp) / host.out_byte_per_s, 0.0)
    forward = run.num_microbatch * np.maximum(compute, gather)
    # weights are gathered twice in a backward pass: for recomputation and for the gradients
    backward = run.num_microbatch * (np.maximum(3 * compute, 2 * gather) + host.add_s * shard)
    backward = backward + np.where(run.asynchronous > 0, host.settle_s * shard, flush_s(host, shard, shared))
    update = run.cpu_share * cpu_update_s(host, shard, shared)
    left = host.interleave + host.interleave_cpu * (1 - 1 / np.maximum(run.gap, 1))
    interleaved = run.gap > 0
    slow = np.where(interleaved & (node > 1), 1 + host.contend, 1.0)  # both go through the host's memory and links
    forward = forward * slow + np.where(interleaved, host.fetch_s * shard, 0.0)
    backward = backward * slow
    return forward, backward, update * np.where(interleaved, left, 1.0)
