"""What do dual row buffers and sub-batch interleaving bring an NPU with PIM? (NeuPIMs, ASPLOS 2024)

Stage cycles of its published simulator on uniform traces, and its headline averages against a GPU, an NPU alone and
an NPU with blocked PIM.
"""

import csv
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_models import catalog
from hw_models.device import best_fidelity, cost, machine
from kernels import pim
from kernels.errors import InputError
from sim.interleave import Shape, Stages, attention, in_turn, interleaved, layer, npu_attention, projection
from studies._claims import bars, frame, holds, row
from workloads import models, placement
from workloads.formats import parse
from workloads.lowering import Plan, lower_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "NeuPIMs (Heo et al. 2024): 3x over a GPU, 2.4x over an NPU, 1.6x over an NPU with blocked PIM"
Ints = npt.NDArray[np.int64]
NUM_CHANNEL = 32


class Model(NamedTuple):
    """A GPT-3 of the paper's table 3."""

    shape: Shape
    pp: int  # the batch is split over the pipeline's stages
    card: str  # in the model catalogue


MODELS: dict[str, Model] = {
    "mini": Model(Shape(1024, 8, 1), 1, ""),
    "gpt3-7b": Model(Shape(4096, 32, 4), 1, "gpt3-7b"),
    "gpt3-13b": Model(Shape(5120, 40, 4), 1, "gpt3-13b"),
    "gpt3-30b": Model(Shape(7168, 56, 4), 2, "gpt3-30b"),
    "gpt3-175b": Model(Shape(12288, 96, 8), 4, "gpt3-175b"),
}
LENGTHS = {"ShareGPT": (80, 296), "Alpaca": (12, 56)}  # mean input and output
BATCHES = (64, 128, 256, 384, 512)
ATTENTION = {  # batch: attention cycles of NeuPIMs and of the blocked design, mini, 256 tokens
    32: (11720, 49918),
    64: (23017, 98502),
}
PROJECTION = {32: (7602, 29218), 64: (7768, 25733)}  # batch: stages A and E of the same runs
SUB_BATCH = {"A": 7602, "B": 13263, "C": 41771, "D": 40888, "E": 34030, "F": 29141}  # batch 64, sub-batches on
NPU_ONLY = {32: 286888, 64: 573590}  # batch: attention on the NPU alone


def uniform(batch: int, seq_len: int) -> tuple[Ints, Ints]:
    """`batch` requests of one length, request i on channel i mod 32."""
    return np.full(batch, seq_len), np.arange(batch) % NUM_CHANNEL


def read_trace(path: pathlib.Path) -> tuple[Ints, Ints]:
    """Lengths and channels of a CSV file with the columns `seq_len,ch_idx`."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except OSError as error:
        raise InputError(f"not readable: {error.strerror}", file=path) from None
    lengths, channels = [], []
    for line, one in enumerate(rows, 2):
        try:
            lengths.append(int(one["seq_len"]))
            channels.append(int(one["ch_idx"]))
        except (KeyError, TypeError, ValueError):
            raise InputError("not a line of seq_len,ch_idx", file=path, line=line) from None
        if lengths[-1] < 1 or not 0 <= channels[-1] < NUM_CHANNEL:
            raise InputError(
                "out of range", file=path, line=line, field="seq_len,ch_idx",
                value=f"{lengths[-1]},{channels[-1]}", allowed=f"1 and more, 0 to {NUM_CHANNEL - 1}",
            )  # fmt: skip
    if not lengths:
        raise InputError("no requests", file=path)
    return np.array(lengths), np.array(channels)


def stage_table(trace: pathlib.Path, model: str) -> pd.DataFrame:
    """Stage cycles of a trace on NeuPIMs (sub-batches off and on), the blocked design and the NPU alone."""
    if model not in MODELS:
        raise InputError("no such model", field="model", value=model, allowed=list(MODELS))
    shape, (seq_len, channel) = MODELS[model].shape, read_trace(trace)
    neupims, blocked = catalog.device("neupims"), catalog.device("neupims_blocked")
    rows: list[dict[str, Any]] = []
    for system, stages in (
        ("neupims, sub-batches off", in_turn(neupims, shape, seq_len, channel)),
        ("neupims, sub-batches on", interleaved(neupims, shape, seq_len, channel)),
        ("npu+pim blocked", in_turn(blocked, shape, seq_len, channel)),
    ):
        rows += [{"system": system, "stage": stage, "cycles": round(value)} for stage, value in stages.cycle.items()]
        rows.append({"system": system, "stage": "layer", "cycles": round(stages.layer)})
    for label, published in (("npu only, as published", True), ("npu only, at bandwidth", False)):
        attend = npu_attention(catalog.device("neupims_npu"), shape, seq_len, as_published=published)
        total = attend + sum(projection(catalog.device("neupims_npu"), shape, len(seq_len)))
        rows.append({"system": label, "stage": "attention", "cycles": round(attend)})
        rows.append({"system": label, "stage": "layer", "cycles": round(total)})
    return pd.DataFrame(rows)


def sample(dataset: str, batch: int, seed: int) -> Ints:
    """Lengths of a running batch: prompts and outputs of lognormal length (sigma 1, the spread of such chats) around
    the data set's means, each request at a random place of its output (longer outputs are seen more often)."""
    rng = np.random.default_rng(seed)
    prompt_mean, output_mean = LENGTHS[dataset]
    pool = 64 * batch
    prompt, output = (np.exp(rng.normal(np.log(mean) - 0.5, 1.0, pool)) for mean in (prompt_mean, output_mean))
    chosen = rng.choice(pool, batch, p=output / output.sum())
    length = prompt[chosen] + rng.random(batch) * output[chosen]
    return np.clip(length.astype(np.int64), 1, 2048)


def place(device: str, shape: Shape, seq_len: Ints) -> Ints:
    """Channels of a batch: greedy by estimated time on NeuPIMs, round robin otherwise."""
    part = catalog.device(device).pim
    if device != "neupims" or part is None:
        return pim.round_robin(seq_len, NUM_CHANNEL)
    unit = part.kernel()
    load = [pim.request_cycle(unit, int(s), 1, shape.head, shape.head, shape.head_dim) for s in seq_len]
    return pim.least_loaded(np.array(load), NUM_CHANNEL)


def gpu_layer_s(model: Model, seq_len: Ints) -> float:
    """Seconds of a layer on A100 40 GB, calibrated kernels launched one by one, as PyTorch does."""
    card = models.load(model.card)
    system = catalog.system("a100_sxm_40gb")
    arrays = machine(system, best_fidelity(system.device), eager=True)
    plan = Plan(np.ones(len(seq_len), np.int64), seq_len, np.ones(len(seq_len), bool), np.ones(len(seq_len), bool))
    ops, work = lower_step(card, parse("fp16"), placement.make(card, tp=model.shape.tp), 0, plan)
    price = cost(ops, work, arrays)
    link = ops["link_byte"] > 0  # the other machines' links are not modelled in the paper either
    layers = (ops["count"] == card.num_layer) & ~link
    return float(price["time_ps"][layers].sum()) * 1e-12 / card.num_layer


def compare(dataset: str, name: str, batch: int, seed: int = 0) -> dict[str, Any]:
    """Seconds of a layer on every machine, and the stages of the two with units."""
    model = MODELS[name]
    seq_len = sample(dataset, max(1, batch // model.pp), seed)
    stages: dict[str, Stages] = {}
    for device in ("neupims", "neupims_blocked"):
        stages[device] = layer(catalog.device(device), model.shape, seq_len, place(device, model.shape, seq_len))
    npu = catalog.device("neupims_npu")
    dense = sum(projection(npu, model.shape, len(seq_len)))
    return {
        "neupims": stages["neupims"].layer * 1e-9,
        "blocked": stages["neupims_blocked"].layer * 1e-9,
        "npu_bandwidth": (dense + npu_attention(npu, model.shape, seq_len, as_published=False)) * 1e-9,
        "npu_published": (dense + npu_attention(npu, model.shape, seq_len, as_published=True)) * 1e-9,
        "gpu": gpu_layer_s(model, seq_len),
        "stages": stages,
    }


def run() -> pd.DataFrame:
    """Every claim, a row each."""
    return frame([*_stages(), *_headline()])


def _stages() -> list[dict[str, Any]]:
    rows, shape = [], MODELS["mini"].shape
    neupims, blocked, npu = (catalog.device(name) for name in ("neupims", "neupims_blocked", "neupims_npu"))
    fitted = "row-tile handling and command time fitted on these runs"
    for batch, published in ATTENTION.items():
        setup, (seq_len, channel) = f"mini, batch {batch}, 256 tokens", uniform(batch, 256)
        for system, device, value in zip(("NeuPIMs", "NPU+PIM blocked"), (neupims, blocked), published, strict=True):
            logit, attend, _ = attention(device, shape, seq_len, channel)
            rows.append(row(system, "stage cycles, attention", setup, value, logit + attend, 0.08, fitted))
        stages = in_turn(neupims, shape, seq_len, channel)
        for stage, value in zip("AE", PROJECTION[batch], strict=True):
            rows.append(row("NeuPIMs", f"stage cycles, {stage}", setup, value, stages.cycle[stage], 0.10,
                                  "GEMM groups and bandwidth shares fitted on these runs"))  # fmt: skip
        attend = npu_attention(npu, shape, seq_len, as_published=True)
        rows.append(row("NPU only", "stage cycles, attention", setup, NPU_ONLY[batch], attend, 0.10,
                              "request by request, block loads and fills exposed; not fitted"))  # fmt: skip
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


def _headline() -> list[dict[str, Any]]:
    rows = []
    points = [
        compare(dataset, name, batch)
        for dataset in LENGTHS for name in list(MODELS)[1:] for batch in BATCHES
    ]  # fmt: skip
    setup = "4 models, 2 data sets, batch 64 to 512"
    definition = {
        "gpu": ("over GPU only", 3.0, "a layer on A100 40 GB, calibrated kernels, eager launches, no links"),
        "npu_bandwidth": ("over NPU only at bandwidth", 2.4, "attention of the NPU streams KV at its bandwidth"),
        "npu_published": ("over NPU only as published", 2.4, "attention of the NPU as the published simulator runs it"),
        "blocked": ("over NPU+PIM blocked", 1.6, "single row buffer, fine-grained commands, round-robin channels"),
    }
    for key, (claim, published, note) in definition.items():
        mean = float(np.mean([point[key] / point["neupims"] for point in points]))
        rows.append(row("NeuPIMs", f"headline {claim}", setup, published, mean, 0.15, note))
    one = compare("ShareGPT", "gpt3-30b", 256)
    use = "NPU: FLOPs over peak, as the paper may not mean it; units: cycles with a row tile in work"
    for device, system, npu_use, pim_use in (
        ("neupims", "NeuPIMs", 0.649, 0.264),
        ("neupims_blocked", "NPU+PIM blocked", 0.280, 0.17),
    ):
        stages = one["stages"][device]
        for claim, published, value in (
            ("utilisation of the NPU", npu_use, stages.npu_busy / stages.layer),
            ("utilisation of the units", pim_use, stages.pim_busy / stages.layer),
        ):
            rows.append(row(system, claim, "GPT-3 30B, ShareGPT, batch 256", published, value, 0.05,
                                  use, points=True))  # fmt: skip
    return rows


def plot(rows: pd.DataFrame) -> "Figure":
    """Stage cycles, headline ratios and utilisation, published beside simulated."""
    panels = [("stage cycles", "cycles (log)"), ("headline", "speed-up"), ("utilisation", "share of time")]
    return bars(rows, panels, "NeuPIMs: published and simulated")
