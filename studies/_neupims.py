"""What the NeuPIMs study compares: its models, its batches, traces of requests, and its GPU baseline."""

import csv
import gzip
import math
import pathlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hw_models import catalog
from hw_models.device import best_fidelity, cost, machine, usable_byte
from kernels import pim
from kernels.errors import InputError
from studies._interleave import Shape
from workloads import models, placement
from workloads.formats import parse
from workloads.lowering import Plan, lower_step

Ints = npt.NDArray[np.int64]
NUM_CHANNEL = 32
COLUMNS = ("seq_len", "ch_idx")


class Model(NamedTuple):
    """A GPT-3 of the paper's table 3."""

    shape: Shape
    pp: int  # the batch is split over the pipeline's stages
    num_layer: int
    card: str  # in the model catalogue


MODELS: dict[str, Model] = {
    "mini": Model(Shape(1024, 8, 1), 1, 2, ""),
    "gpt3-7b": Model(Shape(4096, 32, 4), 1, 32, "gpt3-7b"),
    "gpt3-13b": Model(Shape(5120, 40, 4), 1, 40, "gpt3-13b"),
    "gpt3-30b": Model(Shape(7168, 56, 4), 2, 48, "gpt3-30b"),
    "gpt3-175b": Model(Shape(12288, 96, 8), 4, 96, "gpt3-175b"),
}
PAPER_MODELS = tuple(MODELS)[1:]
LENGTHS = {"ShareGPT": (80, 296), "Alpaca": (12, 56)}  # mean input and output
PROMPT_SIGMA, OUTPUT_SIGMA = 1.9, 0.66
"""Spread of the logarithm of prompts and outputs, fitted on the twenty request traces that come with the published
simulator (ShareGPT, batch 512, mean 305 tokens): mean within 2 %, octiles within 6 %."""
MAX_LEN = 2048  # of those traces


def uniform(batch: int, seq_len: int) -> tuple[Ints, Ints]:
    """`batch` requests of one length, request i on channel i mod 32."""
    return np.full(batch, seq_len), np.arange(batch) % NUM_CHANNEL


def read_trace(path: pathlib.Path) -> tuple[Ints, Ints]:
    """Lengths and channels of a CSV file (plain or gzip) with the columns `seq_len` and `ch_idx` in any order."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"not readable: {error.strerror or error}", file=path) from None
    except (EOFError, UnicodeDecodeError):
        raise InputError("not a CSV file, plain or gzip", file=path) from None
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    names = [name.strip() for name in rows.fieldnames or []]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise InputError("no such column", file=path, line=1, field=missing[0], value=names, allowed=list(COLUMNS))
    rows.fieldnames = names
    found: list[tuple[int, int]] = []
    for one in rows:
        pair = [_whole(one[name], path, rows.line_num, name) for name in COLUMNS]
        for name, value, low, high in zip(COLUMNS, pair, (1, 0), (1 << 20, NUM_CHANNEL - 1), strict=True):
            if not low <= value <= high:
                raise InputError(
                    "out of range", file=path, line=rows.line_num, field=name, value=value, allowed=f"{low} to {high}"
                )
        found.append((pair[0], pair[1]))
    if not found:
        raise InputError("no requests", file=path)
    table = np.array(found, np.int64)
    return table[:, 0].copy(), table[:, 1].copy()


def _whole(text: str | None, path: pathlib.Path, line: int, name: str) -> int:
    try:
        value = float(text or "")
        if value == math.floor(value):
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise InputError("not a whole number", file=path, line=line, field=name, value=text or "")


def sample(dataset: str, batch: int, seed: int) -> Ints:
    """Lengths of a running batch: prompts and outputs of lognormal length around the data set's means, each request
    at a random place of its output (longer outputs are seen more often)."""
    rng = np.random.default_rng(seed)
    pool = 64 * max(batch, 64)
    prompt, output = (
        np.exp(rng.normal(math.log(mean) - sigma**2 / 2, sigma, pool))
        for mean, sigma in zip(LENGTHS[dataset], (PROMPT_SIGMA, OUTPUT_SIGMA), strict=True)
    )
    chosen = rng.choice(pool, batch, p=output / output.sum())
    length = prompt[chosen] + rng.random(batch) * output[chosen]
    return np.clip(length.astype(np.int64), 1, MAX_LEN)


def place(device: str, shape: Shape, seq_len: Ints) -> Ints:
    """Channels of a batch: greedy by estimated time on NeuPIMs, round robin otherwise."""
    part = catalog.device(device).pim
    if device != "neupims" or part is None:
        return pim.round_robin(seq_len, NUM_CHANNEL)
    return balanced(shape, seq_len)


def balanced(shape: Shape, seq_len: Ints) -> Ints:
    """Channels by greedy bin packing of the estimated times on NeuPIMs."""
    part = catalog.device("neupims").pim
    assert part is not None
    return pim.least_loaded(pim.request_load(part.kernel(), seq_len, shape.head, shape.head_dim), NUM_CHANNEL)


def gpu_layer_s(model: Model, seq_len: Ints) -> float:
    """Seconds of a layer on A100 40 GB as a serving engine of today runs it: calibrated kernels, attention that reads
    each request's own KV once."""
    card = models.load(model.card)
    system = catalog.system("a100_sxm_40gb")
    arrays = machine(system, best_fidelity(system.device), eager=True)
    batch = len(seq_len)
    plan = Plan(np.ones(batch, np.int64), seq_len, np.ones(batch, bool), np.ones(batch, bool))
    ops, work = lower_step(card, parse("fp16"), placement.make(card, tp=model.shape.tp), 0, plan)
    price = cost(ops, work, arrays)
    link = ops["link_byte"] > 0  # the other machines' links are not modelled in the paper either
    layers = (ops["count"] == card.num_layer) & ~link
    return float(price["time_ps"][layers].sum()) * 1e-12 / card.num_layer


def padded_gpu_layer_s(model: Model, seq_len: Ints, *, append: bool) -> float:
    """The same layer as PyTorch's model code runs it (Hugging Face transformers): sequences padded to the longest of
    the batch, and a batch whose padded cache exceeds the memory in as many parts as it takes. `append`: each step's
    keys and values go to the end of the cache by `torch.cat`, which reads and writes all of it once more."""
    card, device = models.load(model.card), catalog.device("a100_sxm_40gb")
    longest, batch = int(seq_len.max()), len(seq_len)
    kv_byte = 2.0 * longest * model.shape.hidden / model.shape.tp * 2  # of a request and layer, a device
    layers = card.num_layer / model.pp
    weight_byte = 12.0 * model.shape.hidden**2 / model.shape.tp * 2 * layers
    room = usable_byte(device) - weight_byte
    parts = max(1, math.ceil(batch * kv_byte * layers / room))
    total = 0.0
    for part in np.array_split(np.full(batch, longest, np.int64), min(parts, batch)):
        copied = 2 * len(part) * kv_byte if append else 0.0
        total += gpu_layer_s(model, part) + copied / device.mem_byte_per_s
    return total
