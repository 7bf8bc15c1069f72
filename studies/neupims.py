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
from studies._claims import frame, holds, row
from studies._interleave import Shape, Stages, attention, in_turn, interleaved, layer, npu_attention, projection
from studies._neupims import MODELS, NUM_CHANNEL, PAPER_MODELS, Ints, place, read_trace, sample, uniform
from studies._pim_energy import layer_j

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "NeuPIMs (Heo et al. 2024): 3x over a GPU, 2.4x over an NPU, 1.6x over an NPU with blocked PIM"
BATCHES = (64, 128, 256, 384, 512)
NUM_DRAW = 10  # sampled batches a point, as in the paper

ATTENTION = {  # batch: attention cycles of NeuPIMs and of the blocked design, mini, 256 tokens
    32: (11720, 49918),
    64: (23017, 98502),
}
PROJECTION = {32: (7602, 29218), 64: (7768, 25733)}  # batch: stages A and E of the same runs
SUB_BATCH = {"A": 7602, "B": 13263, "C": 41771, "D": 40888, "E": 34030, "F": 29141}  # batch 64, sub-batches on
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
    for label, published in (("npu only, as published", True), ("npu only, at bandwidth", False)):
        attend = npu_attention(npu, shape, seq_len, as_published=published)
        total = attend + sum(projection(npu, shape, len(seq_len)))
        rows.append({"system": label, "stage": "attention", "cycles": round(attend)})
        rows.append({"system": label, "stage": "layer", "cycles": round(total)})
    return pd.DataFrame(rows)


def _devices() -> tuple[Device, Device, Device]:
    neupims, blocked, npu = (catalog.device(name) for name in ("neupims", "neupims_blocked", "neupims_npu"))
    return neupims, blocked, npu


def run(draws: int = NUM_DRAW, batches: Sequence[int] = BATCHES) -> pd.DataFrame:
    """Every claim, a row each; averages over `draws` sampled batches of each size in `batches`."""
    return frame([*_stages(), *_headline(draws, batches), *_utilisation(draws), *_ablation(), *_physical()])


def _stages() -> list[dict[str, Any]]:
    rows, shape = [], MODELS["mini"].shape
    neupims, blocked, npu = _devices()
    fitted = "row-tile handling fitted on the published simulator at 32, 256 and 1,024 tokens"
    queue = "one queue sends a command a cycle to all channels, which fine-grained commands fill; tiles as NeuPIMs"
    for batch, published in ATTENTION.items():
        setup, (seq_len, channel) = f"mini, batch {batch}, 256 tokens", uniform(batch, 256)
        for system, device, value, note in zip(
            ("NeuPIMs", "NPU+PIM blocked"), (neupims, blocked), published, (fitted, queue), strict=True
        ):
            logit, attend, _ = attention(device, shape, seq_len, channel)
            rows.append(row(system, "stage cycles, attention", setup, value, logit + attend, 0.08, note))
        stages = in_turn(neupims, shape, seq_len, channel)
        for stage, value in zip("AE", PROJECTION[batch], strict=True):
            rows.append(row("NeuPIMs", f"stage cycles, {stage}", setup, value, stages.cycle[stage], 0.10,
                                  "GEMM groups and bandwidth shares fitted on these runs"))  # fmt: skip
        attend = npu_attention(npu, shape, seq_len, as_published=True)
        rows.append(row("NPU only", "stage cycles, attention", setup, NPU_ONLY[batch], attend, 0.10,
                              "head by head, block after block of the arrays; nothing fitted"))  # fmt: skip
    seq_len, channel = uniform(64, 256)
    on, off = interleaved(neupims, shape, seq_len, channel), in_turn(neupims, shape, seq_len, channel)
    for stage, value in SUB_BATCH.items():
        rows.append(row("NeuPIMs", f"stage cycles, sub-batch {stage}", "mini, batch 64, 256 tokens", value,
                              on.cycle[stage], 0.12, "mutual slow-down fitted on stages B to E"))  # fmt: skip
    rows.append(holds("NeuPIMs", "sign: interleaving hurts", "mini, batch 64", on.layer > off.layer))
    seq_len, channel = uniform(256, 256)
    full = MODELS["gpt3-7b"].shape
    wins = interleaved(neupims, full, seq_len, channel).layer < in_turn(neupims, full, seq_len, channel).layer
    rows.append(holds("NeuPIMs", "sign: interleaving wins", "gpt3-7b, batch 256", wins))
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
        "npu_bandwidth": (dense + npu_attention(npu, model.shape, seq_len, as_published=False)) * 1e-9,
        "npu_published": (dense + npu_attention(npu, model.shape, seq_len, as_published=True)) * 1e-9,
        "stages": {"neupims": ours, "neupims_blocked": base},
        "seq_len": seq_len,
    }
    if gpu:
        found["gpu_engine"] = setup_of.gpu_layer_s(model, seq_len)
        found["gpu_padded"] = setup_of.padded_gpu_layer_s(model, seq_len, append=False)
        found["gpu_append"] = setup_of.padded_gpu_layer_s(model, seq_len, append=True)
    return found


DEFINITION = {
    "gpu_append": (
        "over GPU only, padded, appended", 3.0,
        "A100 40 GB, eager launches; PyTorch model code that pads to the longest sequence and appends to the cache by "
        "torch.cat; a batch that does not fit goes in parts; no links. The paper measured PyTorch and does not say "
        "which code",
    ),
    "gpu_padded": (
        "over GPU only, padded", 3.0, "the same with a cache written in place",
    ),
    "gpu_engine": (
        "over GPU only, serving engine", 3.0,
        "attention that reads each request's KV once: an A100 has 1.5 times the NPU's bandwidth for the weights, which "
        "bound the step",
    ),
    "npu_bandwidth": (
        "over NPU only at bandwidth", 2.4,
        "attention of the NPU streams KV at its bandwidth: then projections, equal on both, bound the gain",
    ),
    "npu_published": (
        "over NPU only as published", 2.4,
        "attention of the NPU head by head, each block of the arrays after the one before, as in the published "
        "simulator, whose own tables give such ratios; the paper's 2.4 lies between the two definitions",
    ),
    "blocked": (
        "over NPU+PIM blocked", 1.6,
        "single row buffer, fine-grained commands from one queue, round-robin channels",
    ),
}  # fmt: skip


def _headline(draws: int, batches: Sequence[int]) -> list[dict[str, Any]]:
    rows = []
    ratio: dict[str, list[float]] = {key: [] for key in DEFINITION}
    spread = []
    for dataset in setup_of.LENGTHS:
        for name in PAPER_MODELS:
            for batch in batches:
                points = [compare(dataset, name, batch, seed, gpu=seed == 0) for seed in range(draws)]
                for key in DEFINITION:
                    ratio[key].append(
                        float(np.mean([point[key] / point["neupims"] for point in points if key in point]))
                    )
                spread.append(ratio["blocked"][-1])
    setup = f"4 models, 2 data sets, batch 64 to 512 a stage, {draws} batches a point"
    for key, (claim, published, note) in DEFINITION.items():
        rows.append(row("NeuPIMs", f"headline {claim}", setup, published, float(np.mean(ratio[key])), 0.15, note))
    note = "of the points' means; ShareGPT and large batches gain most"
    rows.append(row("NeuPIMs", "headline, least over NPU+PIM blocked", setup, 1.13, min(spread), 0.15, note))
    rows.append(row("NeuPIMs", "headline, most over NPU+PIM blocked", setup, 3.0, max(spread), 0.15, note))
    return rows


def _utilisation(draws: int) -> list[dict[str, Any]]:
    rows = []
    use = (
        "NPU: cycles with a block in the arrays, 0.65 of a product's in the published simulator; units: cycles with a "
        "row tile in work, mean over channels"
    )
    stages: dict[str, list[Stages]] = {"neupims": [], "neupims_blocked": []}
    for seed in range(draws):
        for device, found in compare("ShareGPT", "gpt3-30b", 256, seed, gpu=False)["stages"].items():
            stages[device].append(found)
    for device, system, npu_use, pim_use in (
        ("neupims", "NeuPIMs", 0.649, 0.264),
        ("neupims_blocked", "NPU+PIM blocked", 0.280, 0.17),
    ):
        for claim, published, value in (
            ("utilisation of the NPU", npu_use, np.mean([one.npu_busy / one.layer for one in stages[device]])),
            ("utilisation of the units", pim_use, np.mean([one.pim_busy / one.layer for one in stages[device]])),
        ):
            rows.append(row(system, claim, "GPT-3 30B, ShareGPT, batch 256", published, float(value), 0.05,
                                  use, points=True))  # fmt: skip
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
        row("NeuPIMs", "ablation, gain of dual row buffers", setup, 0.697, gain, 0.15,
            "with composite commands, as in the paper; layer time, round-robin channels"),
        holds("NeuPIMs", "sign: balanced channels always help", setup,
              all(one["balanced"] < one["dual"] for one in found.values())),
        holds("NeuPIMs", "sign: sub-batches hurt at small batch", "GPT-3 7B, ShareGPT, batch 64",
              found[64]["sub-batches"] > found[64]["balanced"]),
        holds("NeuPIMs", "sign: sub-batches win", "GPT-3 7B, ShareGPT, batch 256 and more",
              all(one["sub-batches"] < one["balanced"] for batch, one in found.items() if batch >= 256)),
    ]  # fmt: skip
    split = [_split_cycle(tp, 4 // tp) for tp in (4, 2, 1)]
    rows.append(holds("NeuPIMs", "order: tensor before pipeline parallel", "GPT-3 7B, 256 requests, 4 devices",
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
    """Energy of the memory against the NPU alone, and area."""
    neupims, _, npu = _devices()
    assert neupims.pim is not None
    saved: dict[str, list[float]] = {"published": [], "bandwidth": []}
    power: dict[str, list[float]] = {"published": [], "bandwidth": []}
    for dataset in setup_of.LENGTHS:
        for name in PAPER_MODELS:
            point = compare(dataset, name, 256, 0, gpu=False)
            shape, seq_len = MODELS[name].shape, point["seq_len"]
            ours = layer_j(neupims, shape, seq_len, point["neupims"], on_units=True)
            for variant, shares in saved.items():
                alone_s = point[f"npu_{variant}"]
                alone = layer_j(npu, shape, seq_len, alone_s, on_units=False)
                shares.append(1 - ours / alone)
                power[variant].append((ours / point["neupims"]) / (alone / alone_s))
    setup = "4 models, 2 data sets, batch 256"
    note = "memory alone: commands at their IDD energy, COMP and GACT 4 times RD and ACT, a second row buffer stands by"
    rows = []
    for variant, label in (("published", "as published"), ("bandwidth", "at bandwidth")):
        mean, ratio = float(np.mean(saved[variant])), float(np.mean(power[variant]))
        why = f"{note}; standby grows with the time of the baseline, for which the two definitions bracket the paper"
        claim = f"energy of the memory saved over NPU only {label}"
        rows.append(row("NeuPIMs", claim, setup, 0.25, mean, 0.04, why, points=True))
        rows.append(row("NeuPIMs", f"power of the memory over NPU only {label}", setup, 1.8, ratio, 0.15, why))
    area = neupims.pim.area_share * 100
    source = "data of the catalogue, CACTI 7 at 22 nm"
    rows.append(row("NeuPIMs", "area overhead, %", "dual row buffer", 3.11, area, 0.001, source))
    return rows


def plot(rows: pd.DataFrame) -> "Figure":
    """Throughput by model, data set and batch, and stage cycles, headline and utilisation beside the published."""
    from studies._neupims_plot import figure

    return figure(rows)
