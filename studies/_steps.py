"""Seconds of one step of a model: prompts or decodes of given lengths on the devices of one replica."""

import functools
from collections.abc import Sequence

import numpy as np

from hw_models import catalog
from hw_models.device import best_fidelity, cost, machine
from kernels import optable
from kernels.attention_work import CAUSAL
from kernels.machine import Machine
from workloads import models, placement
from workloads.formats import parse
from workloads.lowering import Plan, lower_attention, lower_step
from workloads.models.spec import ModelSpec

PS = 1e-12


@functools.cache
def arrays(system: str, num_device: int = 1, *, ideal: bool = False, eager: bool = False) -> Machine:
    """Rates of a system by name: calibrated where it or a relative is, or at the speed of light."""
    found = catalog.system(system, num_device)
    return machine(found, "sol" if ideal else best_fidelity(found.device), eager=eager)


def step_s(
    model: str | ModelSpec, where: Machine, query: Sequence[int], kv_len: Sequence[int], *, fmt: str = "bf16",
    tp: int = 1, decode: bool = True, sampled: int = 1,
) -> float:  # fmt: skip
    """Seconds on the device of a step that computes `query` tokens of every sequence and sees `kv_len` keys, without
    the host's time; `sampled` of its last tokens go through the head."""
    spec = models.load(model) if isinstance(model, str) else model
    num = len(query)
    plan = Plan(
        np.asarray(query, np.int64), np.asarray(kv_len, np.int64), np.full(num, decode), np.full(num, sampled, np.int64)
    )
    ops, work = lower_step(spec, parse(fmt), placement.make(spec, tp=tp), 0, plan)
    return float(cost(ops, work, where)["time_ps"].sum()) * PS


def decode_s(
    model: str | ModelSpec, where: Machine, batch: int, kv_len: int, *, query: int = 1, fmt: str = "bf16", tp: int = 1
) -> float:
    """A step of `batch` equal sequences, `query` new tokens each (a verification computes and samples several)."""
    return step_s(model, where, [query] * batch, [kv_len] * batch, fmt=fmt, tp=tp, sampled=query)


def attention_s(model: str | ModelSpec, where: Machine, batch: int, kv_len: int, fmt: str = "bf16") -> float:
    """Attention alone, of all layers, of a step of `batch` equal decodes."""
    spec = models.load(model) if isinstance(model, str) else model
    _, work = optable.empty(0, 1)
    work[0]["count"], work[0]["query_len"], work[0]["kv_len"], work[0]["causal"] = batch, 1, kv_len, CAUSAL
    ops = lower_attention(spec, parse(fmt), placement.make(spec), 0, work, "decode")
    return float(cost(ops, work, where)["time_ps"].sum()) * PS
