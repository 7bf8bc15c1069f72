"""The machines that the Duplex study compares, laid out for its models: decode steps and closed loops of each."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.spec import System
from kernels.errors import InputError
from studies._co_process import POLICIES, Step, step
from studies._serve import Loop, Server, closed, server
from workloads import models
from workloads.lowering import Plan

LENGTHS, BATCHES = (256, 1024, 2048, 4096), (32, 64, 128)
OWN_LENGTHS = {"glam-143b": (512, 1024, 2048)}  # the paper's figure has GLaM at these alone
TWINS: dict[str, tuple[str, str]] = {
    "GPU": ("h100_sxm", "gpu"),
    "Bank-PIM": ("bank_pim", "pim"),
    "Duplex": ("duplex", "pim"),
    "Duplex+PE": ("duplex", "pim+pe"),
    "Duplex+PE+ET": ("duplex", "pim+pe+et"),
}
"""Device and policy of each machine of a decode step."""


class Setup(NamedTuple):
    """Model and placement of the paper's Table I: tensor parallel in a node, data parallel over nodes."""

    model: str
    tp: int
    dp: int = 1


MOE = (Setup("mixtral-8x7b", 4), Setup("glam-143b", 8), Setup("grok-1", 8, 2))
DENSE = (Setup("llama-3-70b", 4), Setup("opt-66b", 4))
NUM_EXPERT = {"mixtral-8x7b": 8, "glam-143b": 64, "grok-1": 8}

RULES: dict[str, tuple[str, str, bool]] = {
    "GPU": ("h100_sxm", "xpu:routing=uniform", False),
    "2xGPU": ("h100_sxm", "xpu:routing=uniform", False),
    "Bank-PIM": ("bank_pim", "best:routing=uniform", True),
    "Duplex": ("duplex", "best:routing=uniform", False),
    "Duplex+PE": ("duplex", "co_process", False),
    "Duplex+PE+ET": ("duplex", "co_process", True),
}
"""Device, dispatch, and whether experts are sharded by width, of each machine that serves."""
FULL = "Duplex+PE+ET"
Grid = dict[tuple[str, str, int, int], Loop]


def system(device: str) -> System:
    """A box of eight such devices on the paper's links."""
    return System(device, catalog.node("duplex_x8", with_device=catalog.device(device)))


def plan(num_decode: int, kv_len: int) -> Plan:
    """Decodes at `kv_len` tokens in one iteration."""
    one = np.ones(num_decode, np.int64)
    return Plan(one, one * kv_len, one == 1, one == 1)


def decode_step(name: str, setup: Setup, batch: int, kv_len: int) -> Step:
    """A decode step of a batch on one of `TWINS` at peak rates; data-parallel groups share the batch."""
    device, policy = TWINS[name]
    part = plan(max(1, batch // setup.dp), kv_len)
    return step(models.load(setup.model), system(device), POLICIES[policy], part, tp=setup.tp, dp=setup.dp)


def step_table(model: str, batch: int, kv_len: int, num_device: int) -> pd.DataFrame:
    """Milliseconds and joules of one decode step on each machine: any model, `batch` sequences of `kv_len` tokens on
    `num_device` devices, eight in a node."""
    for field, value in (("batch", batch), ("input", kv_len), ("devices", num_device)):
        if not 1 <= value <= 1_000_000:
            raise InputError("out of range", field=field, value=value, allowed="1 to 1000000")
    if num_device > 8 and num_device % 8:
        raise InputError("nodes are of eight", field="devices", value=num_device, allowed="1 to 8, or a multiple of 8")
    if batch % max(1, num_device // 8):
        raise InputError("nodes share the batch evenly", field="batch", value=batch, allowed="a multiple of the nodes")
    setup = Setup(model, min(num_device, 8), max(1, num_device // 8))
    rows = []
    for name in TWINS:
        one = decode_step(name, setup, batch, kv_len)
        parts = {"experts": one.expert_s, "attention": one.attention_s, "links": one.link_s}
        rows.append({"system": name, "step_ms": one.time_s * 1e3}
                    | {f"{part}_ms": seconds * 1e3 for part, seconds in parts.items()}
                    | {"energy_J": one.energy_j})  # fmt: skip
    return pd.DataFrame(rows)


def machine(name: str, setup: Setup, batch: int = 128, max_token: int = 8_192) -> Server:
    """One of `RULES` laid out for a model; twice the GPUs fill the node first and then more nodes."""
    device, rule, by_width = RULES[name]
    tp, dp = setup.tp, setup.dp
    if name == "2xGPU":
        tp, dp = (tp * 2, dp) if tp < 8 else (tp, dp * 2)
    num_expert = NUM_EXPERT.get(setup.model, 0)
    ep = 1 if not num_expert else (dp if by_width else min(tp * dp, num_expert))
    rule += (":" if ":" not in rule else ",") + "bandwidth=timed"
    return server(setup.model, device, rule, tp=tp, ep=ep, attn_dp=dp, max_token=max_token, max_seq=batch)


def grid(
    setups: tuple[Setup, ...] = MOE, names: tuple[str, ...] = tuple(RULES), lengths: tuple[int, ...] = LENGTHS,
    batches: tuple[int, ...] = BATCHES,
) -> Grid:  # fmt: skip
    """Closed loops of every model, machine, length (in and out; a model's own where the paper has others) and batch."""
    found: Grid = {}
    for setup in setups:
        for name in names:
            one = machine(name, setup)
            for batch in batches:
                if one.lowered.placement.attn_dp > 1:  # where a prompt lies depends on the batch beside it
                    one = machine(name, setup, batch)
                for length in OWN_LENGTHS.get(setup.model, LENGTHS) if lengths == LENGTHS else lengths:
                    found[setup.model, name, length, batch] = closed(one, length, length, batch)
    return found


def ratio(loops: Grid, name: str, base: str, *, models_: tuple[str, ...] = (), batches: tuple[int, ...] = BATCHES
          ) -> list[float]:  # fmt: skip
    """Throughput over that of `base` at every point of the grid that has both."""
    wanted = models_ or tuple({key[0] for key in loops})
    chosen = [key for key in loops if key[1] == name and key[3] in batches and key[0] in wanted]
    return [loops[key].token_per_s / loops[key[0], base, *key[2:]].token_per_s for key in chosen]
