"""Rows of measured training runs in the common form: columns by name and alias, in any order, others beside them.

A row becomes a model, a system, a plan and what was measured of it. What a blank cell leaves open is what the row's
stack does by default (`sim.training.stack`); a row that cannot be run is a reason, and no row stops a file.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels.errors import InputError
from sim.training.stack import default_stack, load_stack, names
from sim.validate._published_names import known_model, known_system
from workloads import models
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec
from workloads.training import TrainPlan, check, check_sizes

ALIASES: dict[str, str] = {  # as files have it: as the schema has it
    "gpu": "system", "device": "system", "gpus": "num_gpu", "num_gpus": "num_gpu", "world_size": "num_gpu",
    "gbs": "global_batch", "mbs": "micro_batch", "ga": "grad_accumulation", "interleave": "vp", "seq": "seq_len",
    "sequence_length": "seq_len", "tok_per_s": "tok_per_s_per_gpu", "tokens_per_s_per_gpu": "tok_per_s_per_gpu",
    "model_tflops_per_gpu": "tflops_per_gpu", "num_layers": "num_layer", "heads": "num_head", "software": "stack",
    "framework": "stack", "power_limit_W": "power_limit_w", "dtype": "precision", "num_expert": "num_expert",
}  # fmt: skip
NEEDED = ("system", "num_gpu", "seq_len")
MEASURED = ("step_s", "tok_per_s_per_gpu", "tflops_per_gpu", "mfu_pct", "memory_GiB", "fits")
SHARDING = {"FULL_SHARD": 3, "SHARD_GRAD_OP": 2, "NO_SHARD": 0, "HYBRID_SHARD": 3, "DDP": 0}
PRECISIONS = {  # as files write them; of the scaling that a name adds (CS, DS: one factor a tensor, MX: a block of 32)
    "amp_bf16": "bf16", "amp_fp8": "fp8", "amp_fp16": "fp16", "bfloat16": "bf16", "float16": "fp16", "fp8_cs": "fp8",
    "fp8_ds": "fp8", "fp8_sc": "fp8_block", "fp8_mx": "mxfp8", "fp8_hybrid": "fp8", "fp4": "nvfp4",
}  # fmt: skip
LORA_RANK = 32  # of a row that says LoRA and no rank: the default of the trainers whose tables say so (NeMo)
MOST = 2**53  # of a count
TRUE, FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")
# Widths, layers and heads of MPT models (MosaicML's llm-foundry, scripts/train/yamls/pretrain); GPT blocks with biases,
# tied embeddings and learned positions, a vocabulary of 50,368
MPT = {
    "mpt-125m": (768, 12, 12), "mpt-350m": (1024, 24, 16), "mpt-760m": (1536, 24, 12), "mpt-1b": (2048, 24, 16),
    "mpt-3b": (2560, 32, 20), "mpt-7b": (4096, 32, 32), "mpt-13b": (5120, 40, 40), "mpt-30b": (7168, 48, 56),
    "mpt-70b": (8192, 80, 64),
}  # fmt: skip
MPT_VOCAB = 50_368


class TrainRow(NamedTuple):
    """One measured run. NaN (None for `fits`) where nothing was measured."""

    line: int
    group: str
    model: ModelSpec
    system: str
    plan: TrainPlan
    precision: str
    stack: str
    power_limit_w: float
    step_s: float
    mfu: float  # a fraction of the precision's peak
    mfu_causal: bool  # the published MFU counts half of the scores
    memory_byte: float
    fits: bool | None
    otherwise: tuple[Mapping[str, Any], ...] = ()  # changes of the plan, where a run that ran cannot have fitted


class ReadRows(NamedTuple):
    rows: list[TrainRow]
    reasons: list[str]  # of rows that cannot be run
    num_row: int


def is_common(frame: pd.DataFrame) -> bool:
    """Whether the columns are those of the common form."""
    named = {ALIASES.get(name, name) for name in frame.columns}
    return set(NEEDED) <= named and bool(named & set(MEASURED))


def read_rows(frame: pd.DataFrame, path: Any) -> ReadRows:
    """The rows of a table in the common form."""
    frame = frame.rename(columns={name: ALIASES[name] for name in frame.columns if name in ALIASES})
    frame = frame.loc[:, ~frame.columns.duplicated()]
    rows, reasons = [], []
    for line, record in enumerate(frame.to_dict("records"), 2):
        cells = {str(key): value for key, value in record.items() if not _blank(value)}
        try:
            rows.append(read_row(cells, line))
        except InputError as error:
            reasons.append(f"{path}:{line}: {error}")
    return ReadRows(rows, reasons, len(frame))


def read_row(cells: Mapping[str, Any], line: int) -> TrainRow:
    """One row. `InputError` for what is missing, cannot be or is unknown."""
    for name in NEEDED:
        if name not in cells:
            raise InputError("is needed", field=name, value="", allowed="a value in every row")
    system = known_system(str(cells["system"]))
    num_gpu, seq = _whole(cells, "num_gpu"), _whole(cells, "seq_len")
    model = row_model(cells, seq)
    sizes = {name: _whole(cells, name, 1) for name in ("tp", "pp", "cp", "ep", "vp")}
    sharded = "sharding" in cells or _flag(cells, "fsdp") or _whole(cells, "zero", 0, least=0) >= 2
    device = catalog.system(system, num_gpu).device.name
    stack = str(cells.get("stack", ""))
    if stack not in names():
        stack = default_stack(device, sharded=sharded, family=model.family)
    usual = load_stack(stack).usual()
    rest, over = divmod(num_gpu, sizes["tp"] * sizes["pp"] * sizes["cp"])
    dp = _whole(cells, "dp", rest)
    if over or dp != rest:
        raise InputError("is not tp x pp x cp x dp", field="num_gpu", value=num_gpu,
                         allowed=str(sizes["tp"] * sizes["pp"] * sizes["cp"] * dp))  # fmt: skip
    micro, batch = _batch(cells, dp)
    given: dict[str, Any] = {
        "tp": sizes["tp"], "pp": sizes["pp"], "dp": dp, "cp": sizes["cp"], "ep": sizes["ep"],
        "interleave": sizes["vp"], "micro_batch": micro, "batch": batch, "seq": seq,
        "zero": _zero(cells, usual["zero"] if dp * sizes["cp"] > 1 else 0), "recompute": _recompute(cells, usual),
        "sequence_parallel": _flag(cells, "sequence_parallel", sizes["tp"] > 1),
    }  # fmt: skip
    for name in ("attention", "schedule"):
        if name in cells:
            given[name] = str(cells[name])
    adapters = "lora" in str(cells.get("phase", "")).lower()
    given["lora_rank"] = _whole(cells, "lora_rank", LORA_RANK if adapters else 0, least=0)
    if "offload" in cells and str(cells["offload"]).lower() not in ("none", *FALSE):
        given["optimizer_offload"] = 1.0
    if _flag(cells, "activation_cpu_offload"):
        given["act_offload"] = 1.0
    known = {field.name for field in fields(TrainPlan)}
    plan = TrainPlan(**{name: value for name, value in (usual | given).items() if name in known})
    check_sizes(plan)
    check(model, plan)
    precision = str(cells.get("precision", "bf16")).strip().lower().replace("-", "_")
    step_s = _number(cells, "step_s")
    if np.isnan(step_s) and "tok_per_s_per_gpu" in cells:
        step_s = plan.token / (_number(cells, "tok_per_s_per_gpu") * num_gpu)
    fits = None if "fits" not in cells else _flag(cells, "fits")
    mfu = _number(cells, "mfu_pct") / 100
    tflops = _number(cells, "tflops_per_gpu")
    measured = TrainRow(
        line, str(cells.get("model", "shape")), model, system, plan, PRECISIONS.get(precision, precision), stack,
        _number(cells, "power_limit_w", 0.0), step_s, mfu, _flag(cells, "mfu_causal"),
        _number(cells, "memory_GiB") * 2**30, fits,
    )  # fmt: skip
    if np.isnan(step_s) and np.isnan(mfu) and not np.isnan(tflops):
        measured = measured._replace(mfu=-tflops * 1e12)  # a rate: the share of peak is taken where the peak is known
    if all(np.isnan(v) for v in (step_s, measured.mfu, measured.memory_byte)) and fits is None:
        raise InputError("nothing measured", field="step_s", value="", allowed=MEASURED)
    return measured


def row_model(cells: Mapping[str, Any], seq: int) -> ModelSpec:
    """The model that a row names, or that its sizes describe. `InputError` where it does neither."""
    name = str(cells.get("model", ""))
    if name.lower() in MPT:
        hidden, num_layer, num_head = MPT[name.lower()]
        return gpt_model(name.lower(), "mpt", hidden, num_layer, num_head, MPT_VOCAB, seq)
    ready = known_model(name) if name else ""
    if ready and (ready in models.names() or ready.endswith(".json") or "/" in ready):
        try:
            return models.load(ready)
        except InputError:
            if "hidden" not in cells:
                raise
    if "hidden" not in cells or "num_layer" not in cells or "num_head" not in cells:
        raise InputError("no such model, and no sizes beside it", field="model", value=name or "none",
                         allowed="a ready model, a config.json, or num_layer, hidden, num_head, vocab")  # fmt: skip
    return shaped_model(cells, name or "shape")


def gpt_model(
    name: str, family: str, hidden: int, num_layer: int, num_head: int, vocab: int, seq: int, tied: bool = True
) -> ModelSpec:  # fmt: skip
    """GPT blocks with biases and layer norms, learned positions, tied embeddings where nobody says otherwise."""
    if hidden % num_head:
        raise InputError("does not divide the hidden size", field="num_head", value=num_head)
    dim = hidden // num_head
    block = Block(Attention(num_head, num_head, dim, dim, qkv_bias=True, out_bias=True),
                  FeedForward(4 * hidden, gated=False, bias=True))  # fmt: skip
    return ModelSpec(name, family, hidden, vocab, seq, (block,), (0,) * num_layer, norm="layer", norm_bias=True,
                     tied=tied, position="learned", position_row=seq)  # fmt: skip


def shaped_model(cells: Mapping[str, Any], name: str) -> ModelSpec:
    """A model of the row's own sizes: gated blocks (Llama) where its feed-forward part is not four times as wide as
    the stream, else GPT's."""
    hidden, num_layer, num_head = (_whole(cells, field) for field in ("hidden", "num_layer", "num_head"))
    inter, vocab = _whole(cells, "inter", 4 * hidden), _whole(cells, "vocab", 50_304)
    seq = _whole(cells, "seq_len")
    if inter == 4 * hidden:
        return gpt_model(name, "gpt", hidden, num_layer, num_head, vocab, seq, _flag(cells, "tied", True))
    dim = _whole(cells, "head_dim", hidden // num_head)
    attention = Attention(num_head, _whole(cells, "num_kv_head", num_head), dim, dim, rope_dim=dim)
    num_expert = _whole(cells, "num_expert", 0, least=0)
    part = FeedForward(inter)
    if num_expert:
        part = FeedForward(0, num_expert=num_expert, topk=_whole(cells, "topk"), expert_inter=inter)
    return ModelSpec(name, "llama", hidden, vocab, seq, (Block(attention, part),), (0,) * num_layer)


def _batch(cells: Mapping[str, Any], dp: int) -> tuple[int, int]:
    """(micro batch, sequences a step) from two of micro batch, global batch and gradient accumulation."""
    micro, batch, steps = (_whole(cells, name, 0) for name in ("micro_batch", "global_batch", "grad_accumulation"))
    if micro and steps:
        return micro, micro * steps * dp
    if batch and steps:
        return batch // (steps * dp), batch
    if batch:
        return micro or 1, batch
    raise InputError(
        "two of micro_batch, global_batch and grad_accumulation are needed", field="global_batch", value=""
    )


def _zero(cells: Mapping[str, Any], usual: int) -> int:
    if "zero" in cells:
        return _whole(cells, "zero", 0, least=0)
    if "sharding" in cells:
        name = str(cells["sharding"]).strip().upper()
        if name not in SHARDING:
            raise InputError("unknown", field="sharding", value=cells["sharding"], allowed=SHARDING)
        return SHARDING[name]
    return 3 if _flag(cells, "fsdp") else usual


def _recompute(cells: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    if "recompute" in cells:
        text = str(cells["recompute"]).strip().lower().replace(",", "+").replace(" ", "")
        return {"false": "none", "true": "full", "block": "full", "uniform": "full"}.get(text, text)
    if "activation_checkpointing" in cells:
        return "full" if _flag(cells, "activation_checkpointing") else "none"
    return str(usual["recompute"])


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value)) or str(value).strip() == ""


def _number(cells: Mapping[str, Any], name: str, usual: float = float("nan")) -> float:
    if name not in cells:
        return usual
    try:
        value = float(cells[name])
    except (TypeError, ValueError):
        raise InputError("not a number", field=name, value=cells[name]) from None
    if not 0 < value < float("inf"):
        raise InputError("not a number above 0", field=name, value=cells[name])
    return value


def _whole(cells: Mapping[str, Any], name: str, usual: int | None = None, *, least: int = 1) -> int:
    if name not in cells:
        if usual is None:
            raise InputError("is needed", field=name, value="")
        return usual
    try:
        value = float(cells[name])
    except (TypeError, ValueError):
        raise InputError("not a number", field=name, value=cells[name]) from None
    if not least <= value <= MOST or value != int(value):
        raise InputError("not a whole number", field=name, value=cells[name], allowed=f"{least} to {MOST}")
    return int(value)


def _flag(cells: Mapping[str, Any], name: str, usual: bool = False) -> bool:
    text = str(cells.get(name, usual)).strip().lower()
    if text not in (*TRUE, *FALSE):
        number = text.replace(".", "", 1)
        if number.isascii() and number.isdigit():
            return float(text) > 0
        raise InputError("not true or false", field=name, value=cells[name])
    return text in TRUE
