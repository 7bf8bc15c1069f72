"""Measured blocks of several operators against the sum of their prices: the attention part of a layer on one rank
(projections, norms, positions, cache write, attention, indexer; neither input norm nor all-reduce), and the maps of
hyper-connections.

The layer is a ready model's of the named architecture, with as many heads as the rank has; `gemm_dtype` is the format
of its projections, `kv_dtype` of its cache. A file of `*_module` rows tells itself by `gemm_dtype`, one of
hyper-connections by `hc_mult`.
"""

import dataclasses
import functools
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_models.calibration.measured_rows import DTYPES
from hw_models.device import cost
from kernels import optable as op
from kernels.errors import InputError
from kernels.machine import Machine
from sim.validate._published_names import known_model
from workloads import models
from workloads.formats import Formats, parse
from workloads.lowering import lower_attention, lower_dense
from workloads.models.layers.compressed import Compressed
from workloads.models.spec import NO_FFN, Attention, Block, ModelSpec
from workloads.placement import Placement

Floats = npt.NDArray[np.float64]
AROUND = (b"embed", b"attn_norm", b"attn_add", b"final_norm", b"hc_map", b"hc_pre", b"hc_post", b"hc_head")
SIZES = ("num_head", "batch", "kv_len", "query_len", "prefix_len", "compress_ratio")
PARTS = {"pre": (b"hc_map", b"hc_pre"), "post": (b"hc_post",)}
DENSE = "dense_mha"  # a kernel's name that says that short prompts read all keys


class Priced(NamedTuple):
    """Rows of one file: what each is called, its format and kernel, measured seconds and our price (NaN: none)."""

    label: npt.NDArray[np.str_]
    fmt: npt.NDArray[np.str_]
    kernel: npt.NDArray[np.str_]
    seconds: Floats
    predicted: Floats


def is_block(frame: pd.DataFrame) -> bool:
    """Whether a measured table is one of blocks."""
    names = set(frame.columns)
    if not {"latency_ms", "kernel"} <= names:
        return False
    attention = {"gemm_dtype", "kv_dtype", "model", "num_head", "batch"} <= names and {"kv_len", "query_len"} & names
    return bool(attention) or {"hc_mult", "hidden", "num_token", "op"} <= names


def priced(frame: pd.DataFrame, arrays: Machine, reasons: Counter[str]) -> Priced:
    """Every row with its price, and why others have none."""
    seconds = pd.to_numeric(frame["latency_ms"], errors="coerce").to_numpy(float) * 1e-3
    bad = ~(np.isfinite(seconds) & (seconds > 0))
    sizes = {name: _size(frame, name) for name in SIZES}
    amiss = np.logical_or.reduce([~np.isfinite(values) for values in sizes.values()]) | bad
    if amiss.any():
        reasons["a cell is no measurement"] += int(amiss.sum())
    price = _connections if "hc_mult" in frame.columns else _attention
    label, fmt, predicted = price(frame.assign(**sizes), ~amiss, arrays, reasons)
    return Priced(label, fmt, frame["kernel"].astype(str).to_numpy(str), np.where(bad, 1.0, seconds), predicted)


def _size(frame: pd.DataFrame, name: str) -> Floats:
    """A column of counts: 0 where the file has none, NaN where a cell is no count."""
    if name not in frame.columns:
        return np.zeros(len(frame))
    values = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
    least = 0 if name in ("prefix_len", "compress_ratio") else 1
    return np.where((values >= least) & (values < 2**31) & (values == np.floor(values)), values, np.nan)


def _attention(
    frame: pd.DataFrame, good: npt.NDArray[np.bool_], arrays: Machine, reasons: Counter[str]
) -> tuple[Any, Any, Floats]:
    decode = bool((frame["query_len"] == 0).all())
    phase = "decode" if decode else "prefill"
    label = np.full(len(frame), f"attention_{phase}_block", object)
    fmt = frame["gemm_dtype"].astype(str).map(lambda text: DTYPES.get(text, text)).to_numpy(str)
    predicted = np.full(len(frame), np.nan)
    skips = frame["indexer"].astype(str) == "skip" if "indexer" in frame.columns else pd.Series(False, frame.index)
    dense = frame["kernel"].astype(str).str.contains(DENSE)
    keys = [frame["model"].astype(str), fmt, frame["kv_dtype"].astype(str), frame["num_head"], skips, dense,
            frame["compress_ratio"]]  # fmt: skip
    for key, some in frame[good].groupby([pd.Series(each, frame.index)[good] for each in keys], sort=True):
        model, gemm, cache, head, skip, whole, ratio = np.asarray(key, object).tolist()
        index = some.index.to_numpy()
        try:
            name, layer = one_layer(str(model), int(head), int(ratio), skip=bool(skip), dense=bool(whole))
            chosen = parse(f"{gemm}:kv={DTYPES.get(str(cache), str(cache))}")
        except InputError as error:
            reasons[str(error)] += len(index)
            continue
        label[index] = f"{name}_{phase}_block"
        predicted[index] = _layer_s(layer, chosen, some, decode, arrays)
    known = set(label.tolist()) - {f"attention_{phase}_block"}
    if len(known) == 1:  # what could not be priced is of the kind of the others
        label[:] = known.pop()
    return label.astype(str), fmt, predicted


def _layer_s(layer: ModelSpec, chosen: Formats, some: pd.DataFrame, decode: bool, arrays: Machine) -> Floats:
    """Seconds of one layer's attention part for each row of a table."""
    batch = some["batch"].to_numpy(int)
    query = np.ones(len(some), int) if decode else some["query_len"].to_numpy(int)
    keys = some["kv_len"].to_numpy(int) + 1 if decode else query + some["prefix_len"].to_numpy(int)
    tokens, at = np.unique(batch * query, return_inverse=True)
    dense = lower_dense(layer, chosen, Placement(), 0, tokens)
    inside = ~np.isin(dense["name"][0], AROUND)
    table = dense[:, inside]
    dense_s = cost(table.reshape(-1), op.empty(0)[1], arrays)["time_ps"].reshape(table.shape).sum(axis=1) * 1e-12
    work = op.empty(0, len(some))[1]
    work["count"], work["query_len"], work["kv_len"], work["causal"] = batch, query, keys, 1
    rows = []
    for i in range(len(some)):
        row = lower_attention(layer, chosen, Placement(), 0, work[i : i + 1], "decode" if decode else "prefill")
        row["work_start"] += i
        row["work_stop"] += i
        rows.append(row)
    spans = np.concatenate([[0], np.cumsum([len(row) for row in rows])[:-1]])
    priced_ps = cost(np.concatenate(rows), work, arrays)["time_ps"].astype(float)
    return np.asarray(dense_s[at] + np.add.reduceat(priced_ps, spans) * 1e-12)


@functools.cache
def one_layer(name: str, num_head: int, ratio: int, *, skip: bool, dense: bool) -> tuple[str, ModelSpec]:
    """What a block is called and a model of that block alone, with `num_head` heads on the rank. Raises `InputError`
    for a model that is not ready, or that has no such layer."""
    known = known_model(name)
    model = models.load("glm-5" if known.lower().rsplit("/", 1)[-1].startswith("glm-5") else known)
    fits = [each for each in model.block if not isinstance(each.mixer, Compressed) or each.mixer.ratio == ratio]
    sparse = [each for each in fits if each.attention.indexer is not None and each.attention.indexer.reads]
    block = next(iter(sparse or fits), None)
    if block is None:
        raise InputError("no layer has this", field="compress_ratio", value=ratio, allowed=model.name)
    a = block.attention
    if isinstance(block.mixer, Compressed):
        share = num_head / block.mixer.num_head
        mixer = dataclasses.replace(block.mixer, num_head=num_head, o_group=max(1, round(block.mixer.o_group * share)))
        return ("csa" if mixer.index_head else "hca"), _alone(model, dataclasses.replace(block, mixer=mixer))
    called = ("dsa" if a.indexer else "mla") if a.latent else ("msa" if a.indexer else "attention")
    return called, _alone(model, dataclasses.replace(block, attention=_of_rank(a, num_head, skip, dense)))


def _of_rank(a: Attention, num_head: int, skip: bool, dense: bool) -> Attention:
    """The attention of a rank with so many heads."""
    group = a.num_head // a.num_kv_head
    kv_head = num_head if a.latent else max(1, num_head // group)
    indexer = a.indexer
    if indexer is not None:
        own = indexer.num_head if a.latent else max(1, indexer.num_head * num_head // a.num_head)
        indexer = None if dense else dataclasses.replace(indexer, num_head=own, reads=not skip)
    gate = a.gate * num_head // a.num_head
    return dataclasses.replace(a, num_head=num_head, num_kv_head=kv_head, gate=gate, indexer=indexer)


def _alone(model: ModelSpec, block: Block) -> ModelSpec:
    block = dataclasses.replace(block, ffn=NO_FFN, num_norm=1, streams=0, joins=0)
    return dataclasses.replace(model, block=(block,), layer=(0,), mtp=(), quantization=None)


def _connections(
    frame: pd.DataFrame, good: npt.NDArray[np.bool_], arrays: Machine, reasons: Counter[str]
) -> tuple[Any, Any, Floats]:
    """Hyper-connections of a layer's two parts, before (`pre`) or after (`post`) them."""
    predicted = np.full(len(frame), np.nan)
    counts = {name: pd.to_numeric(frame[name], errors="coerce") for name in ("num_token", "hidden", "hc_mult")}
    for index in np.flatnonzero(good).tolist():
        token, hidden, streams = (float(values.iloc[index]) for values in counts.values())
        part = PARTS.get(str(frame["op"].iloc[index]))
        if part is None or not all(1 <= value < 2**24 for value in (token, hidden, streams)):
            reasons["no hyper-connections of ours"] += 1
            continue
        ops = _layer_of_streams(int(hidden), int(streams), int(token))
        chosen = ops[np.isin(ops["name"], part)]
        predicted[index] = cost(chosen, op.empty(0)[1], arrays)["time_ps"].sum() * 1e-12
    label = np.char.add("hyper_connection_", frame["op"].astype(str).to_numpy(str))
    return label, np.full(len(frame), "bf16"), predicted


def _layer_of_streams(hidden: int, streams: int, token: int) -> op.OpTable:
    model = models.load("deepseek-v4-flash")
    block = next(each for each in model.block if each.mixer is not None)
    model = dataclasses.replace(
        model,
        hidden=hidden,
        layer=(0,),
        block=(dataclasses.replace(block, streams=streams),),
        mtp=(),
        quantization=None,
    )
    return lower_dense(model, parse("bf16"), Placement(), 0, token)
