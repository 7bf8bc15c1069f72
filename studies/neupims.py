"""What do dual row buffers and sub-batch interleaving bring an NPU with PIM? (NeuPIMs, ASPLOS 2024)

Stage cycles of its published simulator on uniform traces, its headline averages against a GPU, an NPU alone and an
NPU with blocked PIM, its ablation, utilisation, energy and area.
"""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.spec import Device
from kernels import pim
from kernels.errors import InputError
from studies import _neupims as setup_of
from studies._interleave import (
    NPU_ATTENTION,
    Shape,
    Stages,
    attention,
    in_turn,
    interleaved,
    layer,
    npu_attention,
    projection,
)
from studies._neupims import MODELS, NUM_CHANNEL, PAPER_MODELS, Ints, place, read_trace, sample, uniform
from studies._panels import records
from studies._pim_energy import layer_j
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "NeuPIMs (Heo et al. 2024): 3x over a GPU, 2.4x over an NPU, 1.6x over an NPU with blocked PIM"
SMALL = {"draws": 1, "batches": (64, 512)}
BATCHES = (64, 128, 256, 384, 512)
NUM_DRAW = 10  # sampled batches a point, as in the paper
PICTURE = (64, 256, 512)  # batches of the paper's figure that ours draws
THROUGHPUT = "throughput over NPU+PIM blocked"

SYSTEMS = {
    "gpu_padded": "GPU only", "npu_loaded": "NPU only", "blocked": "NPU+PIM blocked", "neupims": "NeuPIMs",
}  # fmt: skip
# of NeuPIMs and of the blocked design, mini, 256 tokens: cycles of logit and attend (the attention is their sum, a
# layer that and the stages A and E), mean busy cycles of a channel's units
PARTS = {32: ((4839, 6880), (23017, 26900)), 64: ((9215, 13801), (46677, 51824))}
PROJECTION = {32: (7602, 29218), 64: (7768, 25733)}  # stages A and E of the same runs
BUSY = {32: (11402, 12882), 64: (22451, 25555)}
SUB_BATCH = {"B": 13263, "C": 41771, "D": 40888, "E": 34030, "F": 29141}  # batch 64, sub-batches on; A is batch 32's
NPU_ONLY = {32: 286888, 64: 573590}  # batch: attention on the NPU alone


def stage_table(trace: pathlib.Path, model: str) -> pd.DataFrame:
    """Stage cycles of a trace on NeuPIMs (sub-batches off and on), the blocked design and the NPU alone."""
    if model not in MODELS:
        raise InputError("no such model", field="model", value=model, allowed=list(MODELS))
    shape, (seq_len, channel) = MODELS[model].shape, read_trace(trace)
    neupims, blocked, npu = _devices()
    rows: list[dict[str, Any]] = []
    for system, stages in (
        ("neupims, sub-batches off", in_turn(neupims, shape, seq_len, channel)),
        ("neupims, sub-batches on", interleaved(neupims, shape, seq_len, channel)),
        ("npu+pim blocked", in_turn(blocked, shape, seq_len, channel)),
    ):
        rows += [{"system": system, "stage": stage, "cycles": round(value)} for stage, value in stages.cycle.items()]
        rows.append({"system": system, "stage": "layer", "cycles": round(stages.layer)})
    for how in NPU_ATTENTION:
        label = f"npu only, {how}"
        attend = npu_attention(npu, shape, seq_len, how)
        total = attend + sum(projection(npu, shape, len(seq_len)))
        rows.append({"system": label, "stage": "attention", "cycles": round(attend)})
        rows.append({"system": label, "stage": "layer", "cycles": round(total)})
    return pd.DataFrame(rows)


def _devices() -> tuple[Device, Device, Device]:
    neupims, blocked, npu = (catalog.device(name) for name in ("neupims", "neupims_blocked", "neupims_npu"))
    return neupims, blocked, npu


def run(
    draws: int = NUM_DRAW, batches: tuple[int, ...] = BATCHES, trace: str = "", model: str = "gpt3-7b"
) -> pd.DataFrame:
    """Every claim, a row each; averages over `draws` sampled batches of each size in `batches`. With a `trace` (a CSV
    of `seq_len` and `ch_idx`) the cycles of its stages for `model` instead."""
    if trace:
        table = stage_table(pathlib.Path(trace), model)
        return frame([point(one["system"], f"stage cycles, {one['stage']}", f"{model}, {trace}", one["cycles"])
                      for one in records(table)])  # fmt: skip
    return frame([
        *_stages(), *_headline(draws, batches), *_utilisation(draws), *_ablation(), *_physical(), *_points(),
    ])  # fmt: skip


def _points() -> list[dict[str, Any]]:
    """One batch of every model, data set and size, as the paper's throughput figure shows them."""
    rows = []
    for dataset in setup_of.LENGTHS:
        for name in PAPER_MODELS:
            for batch in PICTURE:
                one = compare(dataset, name, batch)
                setup = f"{dataset}; {name}; {batch}"
                rows += [point(label, THROUGHPUT, setup, one["blocked"] / one[key]) for key, label in SYSTEMS.items()]
    return rows


def _stages() -> list[dict[str, Any]]:
    rows, shape = [], MODELS["mini"].shape
    neupims, blocked, npu = _devices()
    fitted = "row-tile handling fitted on the published simulator at 32, 256 and 1,024 tokens"
    queue = "one queue sends a command a cycle to all channels, which fine-grained commands fill; tiles as NeuPIMs"
    for batch, parts in PARTS.items():
        setup, (seq_len, channel) = f"mini, batch {batch}, 256 tokens", uniform(batch, 256)
        for at, (system, device, kind, note) in enumerate(
            (("NeuPIMs", neupims, "fitted", fitted), ("NPU+PIM blocked", blocked, "number", queue))
        ):
            logit, attend, busy = attention(device, shape, seq_len, channel)
            for part, known, found in zip(("logit", "attend"), parts[at], (logit, attend), strict=True):
                rows.append(row(system, f"stage cycles, {part}", setup, known, found, note, bound=0.08, kind=kind))
            rows.append(row(system, "busy cycles of the units", setup, BUSY[batch][at], busy, note, kind=kind))
        stages = in_turn(neupims, shape, seq_len, channel)
        for stage, value in zip("AE", PROJECTION[batch], strict=True):
            rows.append(row("NeuPIMs", f"stage cycles, {stage}", setup, value, stages.cycle[stage],
                            "GEMM groups and bandwidth shares fitted on these runs", kind="fitted"))  # fmt: skip
        attend = npu_attention(npu, shape, seq_len, "serial")
        rows.append(row("NPU only, as its simulator runs it", "stage cycles, attention", setup, NPU_ONLY[batch], attend,
                        "head by head, block after block of the arrays; nothing fitted"))  # fmt: skip
    seq_len, channel = uniform(64, 256)
    on, off = interleaved(neupims, shape, seq_len, channel), in_turn(neupims, shape, seq_len, channel)
    for stage, value in SUB_BATCH.items():
        rows.append(row("NeuPIMs", f"stage cycles, sub-batch {stage}", "mini, batch 64, 256 tokens", value,
                        on.cycle[stage], "mutual slow-down fitted on stages B to E", kind="fitted"))  # fmt: skip
    rows.append(order("NeuPIMs", "sign: interleaving hurts", "mini, batch 64", on.layer > off.layer))
    seq_len, channel = uniform(256, 256)
    full = MODELS["gpt3-7b"].shape
    wins = interleaved(neupims, full, seq_len, channel).layer < in_turn(neupims, full, seq_len, channel).layer
    rows.append(order("NeuPIMs", "sign: interleaving wins", "gpt3-7b, batch 256", wins))
    return rows


def compare(dataset: str, name: str, batch: int, seed: int = 0, *, gpu: bool = True) -> dict[str, Any]:
    """Seconds of a layer on every machine, and the stages of the two with units. Every pipeline stage runs the whole
    batch, as the published simulator feeds it."""
    model = MODELS[name]
    seq_len = sample(dataset, batch, seed)
    neupims, blocked, npu = _devices()
    dense = sum(projection(npu, model.shape, len(seq_len)))
    channel = place("neupims", model.shape, seq_len)
    ours = layer(neupims, model.shape, seq_len, channel, model.num_layer)
    base = in_turn(blocked, model.shape, seq_len, place("neupims_blocked", model.shape, seq_len))
    found: dict[str, Any] = {
        "neupims": ours.layer * 1e-9,
        "blocked": base.layer * 1e-9,
        **{f"npu_{how}": (dense + npu_attention(npu, model.shape, seq_len, how)) * 1e-9 for how in NPU_ATTENTION},
        "stages": {"neupims": ours, "neupims_blocked": base},
        "seq_len": seq_len,
    }
    if gpu:
        found["gpu_engine"] = setup_of.gpu_layer_s(model, seq_len)
        found["gpu_padded"] = setup_of.padded_gpu_layer_s(model, seq_len, append=False)
        found["gpu_append"] = setup_of.padded_gpu_layer_s(model, seq_len, append=True)
    return found


LOADED = (
    "attention of the NPU head by head, each block of stationary values as long as the next one takes to load; as its "
    "published simulator's baseline runs it, every block waiting for the last result of the one before, the mean "
    "would be {serial:.2f}, at the memory's bandwidth {bandwidth:.2f}"
)
PADDED = (
    "A100 40 GB, eager launches; PyTorch code that pads to the longest sequence and writes its cache in place, as "
    "compiled code must; a batch that does not fit goes in parts; no links. With a cache appended to by torch.cat the "
    "mean would be {append:.2f}, on a serving engine that reads each request's own KV {engine:.2f}"
)
BLOCKED = "single row buffer, fine-grained commands from one queue, round-robin channels"


def _headline(draws: int, batches: Sequence[int]) -> list[dict[str, Any]]:
    machines = ("gpu_padded", "gpu_append", "gpu_engine", "npu_loaded", "npu_serial", "npu_bandwidth", "blocked")
    ratio: dict[str, list[float]] = {key: [] for key in machines}  # over NeuPIMs
    other: dict[str, list[float]] = {"blocked": [], "gpu": []}  # the NPU alone over NPU+PIM; the GPU over the NPU alone
    for dataset in setup_of.LENGTHS:
        for name in PAPER_MODELS:
            for batch in batches:
                points = [compare(dataset, name, batch, seed, gpu=seed == 0) for seed in range(draws)]
                for key in machines:
                    ratio[key].append(float(np.mean([one[key] / one["neupims"] for one in points if key in one])))
                other["blocked"].append(float(np.mean([one["npu_loaded"] / one["blocked"] for one in points])))
                other["gpu"].append(points[0]["npu_loaded"] / points[0]["gpu_padded"])
    mean = {key: float(np.mean(values)) for key, values in (ratio | other).items()}
    mean["blocked"] = float(np.mean(ratio["blocked"]))
    loaded = LOADED.format(serial=mean["npu_serial"], bandwidth=mean["npu_bandwidth"])
    padded = PADDED.format(append=mean["gpu_append"], engine=mean["gpu_engine"])
    setup = f"4 models, 2 data sets, batch 64 to 512 a stage, {draws} batches a point"
    over = float(np.mean(other["blocked"]))
    note = f"{BLOCKED}; of the points' means; ShareGPT and large batches gain most"
    return [
        row("NeuPIMs", "headline over GPU only", setup, 3.0, mean["gpu_padded"], padded, null=1.0),
        row("NeuPIMs", "headline over NPU only", setup, 2.4, mean["npu_loaded"], loaded, null=1.0),
        row("NeuPIMs", "headline over NPU+PIM blocked", setup, 1.6, mean["blocked"], BLOCKED, null=1.0),
        row("NPU+PIM blocked", "headline over NPU only", setup, 1.5, over, f"{loaded}; {BLOCKED}", null=1.0),
        row("GPU only", "headline over NPU only", setup, 1.0, mean["gpu"], f"published: about equal; {padded}",
            tag="approx"),
        row("NeuPIMs", "headline, least over NPU+PIM blocked", setup, 1.13, min(ratio["blocked"]), note, null=1.0),
        row("NeuPIMs", "headline, most over NPU+PIM blocked", setup, 3.0, max(ratio["blocked"]), note, null=1.0),
    ]  # fmt: skip


def _utilisation(draws: int) -> list[dict[str, Any]]:
    rows = []
    known = "published numbers by way of a summary, what the paper counts as used is not"
    npu, units = f"FLOPs over the arrays' peak; {known}", f"row tiles in work, mean over channels; {known}"
    stages: dict[str, list[Stages]] = {"neupims": [], "neupims_blocked": []}
    for seed in range(draws):
        for device, found in compare("ShareGPT", "gpt3-30b", 256, seed, gpu=False)["stages"].items():
            stages[device].append(found)
    for device, system, npu_use, pim_use in (
        ("neupims", "NeuPIMs", 0.649, 0.264),
        ("neupims_blocked", "NPU+PIM blocked", 0.280, 0.17),
    ):
        where = "GPT-3 30B, ShareGPT, batch 256"
        use = float(np.mean([one.npu_peak / one.layer for one in stages[device]]))
        rows.append(row(system, "utilisation of the NPU", where, npu_use, use, npu, said=True))
        use = float(np.mean([one.pim_busy / one.layer for one in stages[device]]))
        rows.append(row(system, "utilisation of the units", where, pim_use, use, units, said=True))
    return rows


def ablation(name: str, batch: int, seed: int = 0) -> dict[str, float]:
    """Cycles of a layer of a ShareGPT batch as features are added: blocked, a dual row buffer with its composite
    commands, balanced channels, sub-batches."""
    model = MODELS[name]
    neupims, blocked, _ = _devices()
    seq_len = sample("ShareGPT", batch, seed)
    turn, even = pim.round_robin(seq_len, NUM_CHANNEL), place("neupims", model.shape, seq_len)
    return {
        "blocked": in_turn(blocked, model.shape, seq_len, turn).layer,
        "dual": in_turn(neupims, model.shape, seq_len, turn).layer,
        "balanced": in_turn(neupims, model.shape, seq_len, even).layer,
        "sub-batches": interleaved(neupims, model.shape, seq_len, even, model.num_layer).layer,
    }


def _ablation() -> list[dict[str, Any]]:
    found = {batch: ablation("gpt3-7b", batch) for batch in BATCHES}
    gain = float(np.mean([one["blocked"] / one["dual"] - 1 for one in found.values()]))
    setup = "GPT-3 7B, ShareGPT, batch 64 to 512"
    rows = [
        row("NeuPIMs", "ablation, gain of dual row buffers", setup, 0.697, gain,
            "with composite commands, as in the paper; layer time, round-robin channels", null=0.0),
        order("NeuPIMs", "sign: balanced channels always help", setup,
              all(one["balanced"] < one["dual"] for one in found.values())),
        order("NeuPIMs", "sign: sub-batches hurt at small batch", "GPT-3 7B, ShareGPT, batch 64",
              found[64]["sub-batches"] > found[64]["balanced"]),
        order("NeuPIMs", "sign: sub-batches win", "GPT-3 7B, ShareGPT, batch 256 and more",
              all(one["sub-batches"] < one["balanced"] for batch, one in found.items() if batch >= 256)),
    ]  # fmt: skip
    split = [_split_cycle(tp, 4 // tp) for tp in (4, 2, 1)]
    rows.append(order("NeuPIMs", "order: tensor before pipeline parallel", "GPT-3 7B, 256 requests, 4 devices",
                      split[0] < split[1] < split[2], "time of a layer of the whole batch"))  # fmt: skip
    return rows


def _split_cycle(tp: int, pp: int) -> float:
    """Cycles of a layer of 256 requests on `tp * pp` devices: microbatches of 256 / pp follow each other."""
    whole = MODELS["gpt3-7b"].shape
    shape = Shape(whole.hidden, whole.num_head, tp)
    seq_len: Ints = sample("ShareGPT", 256, 0)
    first = seq_len[: 256 // pp]
    return layer(catalog.device("neupims"), shape, first, setup_of.balanced(shape, first), 32).layer


def _physical() -> list[dict[str, Any]]:
    """Energy of the memory against the NPU alone."""
    neupims, _, npu = _devices()
    saved = []
    for dataset in setup_of.LENGTHS:
        for name in PAPER_MODELS:
            one = compare(dataset, name, 256, 0, gpu=False)
            shape, seq_len = MODELS[name].shape, one["seq_len"]
            ours = layer_j(neupims, shape, seq_len, one["neupims"], on_units=True)
            saved.append(1 - ours / layer_j(npu, shape, seq_len, one["npu_loaded"], on_units=False))
    note = (
        "memory alone: commands at their IDD energy, COMP and GACT 4 times RD and ACT, a second row buffer stands by; "
        "the published 1.8 times the power is this and 2.4 times the speed"
    )
    return [row("NeuPIMs", "energy of the memory saved over NPU only", "4 models, 2 data sets, batch 256", 0.25,
                float(np.mean(saved)), note, null=0.0)]  # fmt: skip


def plot(rows: pd.DataFrame) -> "Figure":
    """Throughput by model, data set and batch, and stage cycles, headline and utilisation beside the published."""
    from studies._neupims_plot import figure

    return figure(rows)
