"""Offline batches: so many prompts of one length with so many answer tokens forced, all there from the start.

A batch that does not fit in memory is served in waves. Its time is what the engine takes to begin, its prompts in one
step, and a step a token, at the middle of the answers. llama.cpp runs one sequence, its layers spread over devices that
wait for each other: its prompt goes in chunks of `n_batch` tokens, and more devices cost a hand-over each (`device_s`).

The prompts of TensorRT-LLM's and of DeepSpeed-MII's benchmark are one text (`ALIKE`): all tokens of a step ask for the
experts of one. 16 sequences of Mixtral take 11 ms on four A100 of 40 GB, which cannot read all experts in under 14.
"""

import dataclasses
import functools
import math
import pathlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hw_models import catalog
from kernels.errors import InputError
from sim.serving.engine_profile import EngineProfile
from sim.serving.step_price import Lowered
from sim.serving.step_time import Batch, Deployment, lowered_for, step_of
from sim.validate._light import TOO_SLOW
from sim.validate._published_names import known_model, known_system
from workloads.models.spec import Block

ALIASES: dict[str, tuple[str, ...]] = {
    "system": ("accelerator", "system", "gpu", "hardware", "device"),
    "num_device": ("num_accelerator", "num_gpu", "num_device"),
    "framework": ("framework", "engine", "backend"),
    "parallelism": ("parallelism",),
    "model": ("model", "model_id", "model_path"),
    "batch": ("batch", "batch_size"),
    "input_len": ("input_len", "isl", "input_length"),
    "output_len": ("output_len", "osl", "output_length"),
    "chunk": ("n_batch", "chunk"),
    "latency_s": ("latency_s", "e2e_s"),
}
MOST = 2.0**31  # of a count, a length or a time
NEEDED = tuple(name for name in ALIASES if name not in ("parallelism", "chunk"))
ALIKE = ("trtllm_2024", "deepspeed_mii_2024")
LAYERS_APART = "llamacpp_2024"
STACK = {  # of a framework, in any spelling without dashes and dots
    "vllm": "vllm_2024", "tensorrtllm": "trtllm_2024", "trtllm": "trtllm_2024", "deepspeed": "deepspeed_2024",
    "deepspeedmii": "deepspeed_mii_2024", "llamacpp": "llamacpp_2024", "sambaflow": "sambaflow_2024",
}  # fmt: skip


@dataclass(frozen=True)
class Offline:
    """One batch and where it ran."""

    where: Deployment
    stack: str
    batch: int
    input_len: int
    output_len: int
    chunk: int = 0  # tokens of a prompt in one step (0: all)


def frame_of(raw: pd.DataFrame) -> pd.DataFrame | None:
    """The columns by our names, or None where this is no file of offline batches."""
    lower = {str(name).lower(): name for name in raw.columns}
    found = {name: next((lower[a] for a in aliases if a in lower), None) for name, aliases in ALIASES.items()}
    if any(found[name] is None for name in NEEDED):
        return None
    return pd.DataFrame({name: raw[source] for name, source in found.items() if source is not None})


def offline_of(row: dict[str, Any]) -> Offline:
    """A row of `frame_of`; `InputError` where it is none that we can run."""
    numbers = {}
    for name in ("num_device", "batch", "input_len", "output_len", "latency_s"):
        value = pd.to_numeric(row[name], errors="coerce")
        if not 0 < value < MOST:
            raise InputError("not a measurement", field=name, value=str(row[name]))
        numbers[name] = float(value)
    word = "".join(letter for letter in str(row["framework"]).lower() if letter.isalnum())
    if word not in STACK:
        raise InputError("no such framework", field="framework", value=str(row["framework"]), allowed=list(STACK))
    num = int(numbers["num_device"])
    how = str(row.get("parallelism", "default")).lower()
    sizes = {"default": (num, 1, 1), "nan": (num, 1, 1), "": (num, 1, 1), "pp": (1, num, 1), "ep": (num, 1, num),
             "tp2_pp2": (2, 2, 1), "tp2_ep2": (2, 1, 2)}  # fmt: skip
    if how not in sizes:
        raise InputError("unknown", field="parallelism", value=how, allowed=list(sizes))
    batch, (tp, pp, ep) = int(numbers["batch"]), sizes[how]
    chunk = 0
    if STACK[word] == LAYERS_APART:
        batch, (tp, pp, ep) = 1, (1, num, 1)
        told = pd.to_numeric(row.get("chunk", math.nan), errors="coerce")
        chunk = int(told) if 0 < told < MOST else 0
    where = Deployment(known_model(str(row["model"])), known_system(str(row["system"])), tp, pp, ep)
    return Offline(where, STACK[word], batch, int(numbers["input_len"]), int(numbers["output_len"]), chunk)


def alike(lowered: Lowered) -> Lowered:
    """The same, where all tokens of a step are one: they ask for the same experts."""

    def one(block: Block) -> Block:
        ffn = block.ffn
        same = dataclasses.replace(ffn, num_expert=ffn.topk, num_group=1, topk_group=1) if ffn.num_expert else ffn
        return dataclasses.replace(block, ffn=same)

    model = lowered.model
    return dataclasses.replace(lowered, model=dataclasses.replace(model, block=tuple(map(one, model.block))))


def steps_of(one: Offline, profile: EngineProfile, fidelity: str) -> tuple[int, int, float, float]:
    """Waves, sequences of a wave, seconds of its prompts and of a token."""
    lowered, room = lowered_for(one.where, profile, fidelity)
    if one.stack in ALIKE and one.where.ep == 1:
        lowered = alike(lowered)
    held = one.input_len + one.output_len
    if held > room:
        raise InputError("does not fit in memory", field="input_len", value=one.input_len)
    waves = math.ceil(one.batch * held / room)
    size = math.ceil(one.batch / waves)
    token_s = step_of(lowered, Batch(0, 0, size, one.input_len + one.output_len // 2))[0]
    return waves, size, _prompt_s(lowered, one, size), token_s


def _prompt_s(lowered: Lowered, one: Offline, size: int) -> float:
    """Seconds of the prompts of a wave: one step, or one a chunk, at the middle of the prompt."""
    if not 0 < one.chunk < one.input_len:
        return step_of(lowered, Batch(size, one.input_len))[0]
    count, middle = math.ceil(one.input_len / one.chunk), one.input_len // 2
    if one.chunk == 1:
        return count * step_of(lowered, Batch(0, 0, size, middle))[0]
    return count * step_of(lowered, Batch(size, one.chunk, prefix_len=max(0, middle - one.chunk // 2)))[0]


def fidelity_of(system: str) -> str:
    """As the machine has it: calibrated where it or a relative is."""
    from hw_models.device import best_fidelity

    return best_fidelity(catalog.system(system).device)


def latency_s(one: Offline, profile: EngineProfile) -> float:
    """Seconds of a batch from start to end."""
    waves, _, prompt_s, token_s = steps_of(one, profile, fidelity_of(one.where.system))
    return profile.request_s + waves * (prompt_s + (one.output_len - 1) * token_s)


def _check_plausible(seconds: float, ours_s: float) -> None:
    """`InputError` for a time that is a hundred times what a simulation takes, or a hundredth of it."""
    far = "over {} times" if seconds > TOO_SLOW * ours_s else "under 1/{} of" if seconds * TOO_SLOW < ours_s else ""
    if far:
        why = f"{far.format(int(TOO_SLOW))} what is simulated (is the unit right?)"
        raise InputError(why, field="latency_s", value="")


def batch_rows(frame: pd.DataFrame) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows of error of the seconds of batches (`e2e`): all, by system, by framework (`kernel`), by model
    (`size_class`); and why batches were not run. Fits nothing."""
    from sim.serving.engine_profile import load, of_stack
    from sim.validate._rows import error_row

    profile = functools.cache(lambda stack, device: load(of_stack(stack, device)))
    reasons: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    for record in frame.to_dict("records"):
        row = {str(key): value for key, value in record.items()}
        ours = math.nan
        try:
            one = offline_of(row)
            device = catalog.system(one.where.system).device.name
            ours = latency_s(one, profile(one.stack, device))
            _check_plausible(float(row["latency_s"]), ours)
        except InputError as error:
            ours = math.nan
            reasons[str(error)] += 1
        measured = float(pd.to_numeric(row["latency_s"], errors="coerce"))
        measured = measured if math.isfinite(measured) else math.nan
        tags = {"system": known_system(str(row["system"])), "kernel": str(row["framework"])}
        found.append(tags | {"size_class": known_model(str(row["model"])), "ours": ours, "theirs": measured})
    pairs = pd.DataFrame(found)
    groups: list[tuple[dict[str, str], pd.DataFrame]] = [({}, pairs)]
    for by in (["system"], ["system", "kernel"], ["system", "kernel", "size_class"]):
        groups += [
            (dict(zip(by, map(str, key if isinstance(key, tuple) else (key,)), strict=True)), some)
            for key, some in pairs.groupby(by, sort=True)
        ]
    rows = []
    for tags, some in groups:
        ran = some.dropna(subset=["ours", "theirs"])
        kernel, system, size = (tags.get(name, "all") for name in ("kernel", "system", "size_class"))
        pair = ran["ours"].tolist(), ran["theirs"].tolist()
        rows.append(error_row("e2e", kernel, system, *pair, len(some), number_format="all", size_class=size))
    return rows, reasons


def file_rows(path: pathlib.Path) -> pd.DataFrame | None:
    """A file's batches, or None where it holds none."""
    from hw_models.calibration.measured import read_frame

    return frame_of(read_frame(path, ("latency_s", "e2e_s")))
