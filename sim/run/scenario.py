"""A scenario: everything that decides a serving simulation, as one flat record.

The same record is a TOML file (`ridgeline simulate scenario.toml`), the options of the command line
(`--tp 8`) and the arguments of a Python call (`Scenario(tp=8)`): each field below is all three, its help text is the
documentation, and its type and range hold in all three (`sim.run.scenario_check`). Nothing outside it, but the files
it names, changes a result.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

MAX_GROUP = 65_536  # devices of a group: above every machine that was built
MAX_TOKEN = 1 << 24  # of a step, as of a request


def _of(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Scenario:
    """What is simulated: a model on a system under a load, served by an engine. A value of the wrong type, out of its
    range or without effect beside the others is an `InputError` that names the field.

    >>> Scenario(model="llama-2-7b", system="a100_sxm")
    Scenario(model='llama-2-7b', system='a100_sxm')
    >>> Scenario(fidelity="SOL")
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: fidelity = 'SOL': no such fidelity; allowed: sol, calibrated, replay (nearest: sol)
    """

    model: str = _of(
        "llama-3-8b",
        "a ready model (`ridgeline models`), an id of the Hugging Face hub that is one or lies in its local cache, or"
        " the path of a config.json",
    )
    system: str = _of("h100_sxm", "a catalogued machine (`ridgeline devices`) or the path of its TOML")
    requests: str = _of(
        "conversation:rate=8,n=1000", "load: a generator spec or a trace file (`ridgeline traces` lists both)"
    )
    # placement
    tp: Annotated[int, Ge(1), Le(MAX_GROUP)] = _of(1, "tensor parallel devices")
    pp: Annotated[int, Ge(1), Le(MAX_GROUP)] = _of(1, "pipeline stages")
    dp: Annotated[int, Ge(1), Le(1_000_000)] = _of(1, "replicas behind the router")
    ep: Annotated[int, Ge(1), Le(MAX_GROUP)] = _of(1, "expert parallel devices (experts sharded over them)")
    attn_dp: Annotated[int, Ge(1), Le(MAX_GROUP)] = _of(1, "attention data-parallel ranks inside a replica")
    sequence_parallel: bool = _of(
        False, "shard norms along the sequence: reduce-scatter and all-gather, not all-reduce"
    )
    # layers on two machines
    ffn_system: str = _of(
        "",
        "machine that computes the feed-forward parts and experts of all layers, `system` the rest (attention and"
        " feed-forward disaggregation); activations cross the network twice a layer; empty: one machine does both",
    )
    ffn_tp: Annotated[int, Ge(1), Le(MAX_GROUP)] = _of(
        1, "tensor parallel devices of each expert group of `ffn_system`, for every replica"
    )
    ffn_ep: Annotated[int, Ge(1), Le(MAX_GROUP)] = _of(
        1, "expert groups of `ffn_system` for every replica, of `ffn_tp` devices each (experts sharded over them)"
    )
    num_microbatch: Annotated[int, Ge(1), Le(64)] = _of(
        1, "microbatches of a step that take turns on `system` and `ffn_system`; 1: the machines work in turn"
    )
    # number formats
    weight_format: str = _of(
        "auto",
        "weights and GEMMs: bf16, fp16, fp8, fp8_block, int8, int4, nvfp4, w4a16, ...; auto: the checkpoint's own"
        " (`quantization_config`), else bf16",
    )
    kv_format: str = _of(
        "auto", "stored KV: bf16, fp16, fp8, int8, int4, int2, int1; auto: the checkpoint's own, else 16 bits"
    )
    expert_skew: Annotated[float, Ge(-1), Le(4)] = _of(
        -1.0, "exponent of the power law of expert load; 0 is balanced; -1: the engine profile's"
    )
    eplb: bool = _of(False, "experts are placed, and doubled, by their load: every expert-parallel rank has the same")
    kernels: str = _of(
        "", "kernels other than an engine's choice, `gemm.w4a16=awq,moe.fp8=NAME` (every result names those that ran)"
    )
    dispatch: str = _of(
        "",
        "what units in the memory do: xpu, pim, best, op_b, co_process, each with options (`best:beside=attention`,"
        " `xpu:routing=uniform`); empty: the device's own rule",
    )
    power_limit_W: Annotated[float, Ge(0), Le(1e5)] = _of(  # noqa: N815
        0.0, "board power that each device is limited to, which lowers the clock of its products; 0: its own limit"
    )
    lora_rank: str = _of(
        "", "ranks of the adapters that a load names, in turn: 8, or 64+32+16+8; their weights come from the host"
    )
    # engine
    policy: str = _of(
        "auto",
        "scheduling policy with its options, `NAME:option=value,...`, or a path of its file; auto: the engine's own",
    )
    router: str = _of("round_robin", "router over replicas, likewise (`ridgeline policies` lists both)")
    order: Literal["fcfs", "sjf", "priority"] = _of(
        "fcfs", "order of the waiting queue: by arrival, predicted output, or priority"
    )
    max_queue: Annotated[int, Ge(0), Le(MAX_TOKEN)] = _of(
        0, "admission control: requests that may wait at a replica, who comes to so many is refused; 0: any number"
    )
    max_in_flight: Annotated[int, Ge(0), Le(MAX_TOKEN)] = _of(
        0,
        "likewise, of those that wait and those that run (vLLM's --max-num-queued-reqs); 0: any number",
    )
    token_budget: Annotated[int, Ge(0), Le(MAX_TOKEN)] = _of(
        0, "tokens a step at most, which cuts prompts; 0: the engine profile's for this machine, else the policy's"
    )
    max_num_seq: Annotated[int, Ge(0), Le(MAX_TOKEN)] = _of(
        0, "sequences a step at most; 0: the engine profile's for this machine, else the policy's"
    )
    max_model_len: Annotated[int, Ge(0), Le(2 * MAX_TOKEN)] = _of(
        0, "longest prompt plus output, beyond the model's context where its positions can; 0: the context"
    )
    block_token: Annotated[int, Ge(1), Le(1024)] = _of(16, "tokens a KV block")
    watermark: Annotated[float, Ge(-1), Le(0.5)] = _of(
        -1.0, "share of KV blocks kept free at admission; -1: the policy's"
    )
    prefix_cache: bool = _of(True, "keep blocks of finished requests for prompts that share a prefix")
    kv_budget: Annotated[int, Ge(0), Le(2 * MAX_TOKEN)] = _of(
        0, "tokens whose KV a sequence keeps (H2O: heavy hitters and recent ones), the others are evicted; 0: all"
    )
    attention: str = _of(
        "paged",
        "whose keys a decode reads: paged (each its own), relay (what all share once), hydragen (every shared span"
        " once), or a path of a rule's TOML",
    )
    preemption: Literal["recompute", "swap"] = _of("recompute", "what happens to a sequence that loses its KV")
    kv_tiers: str = _of(
        "",
        "stores below a replica's KV, to which prefixes go that it evicts: `host:GiB=512+disk:GiB=4000,via=host`; host"
        " and disk take from the machine's file what is not said, any other name says read_GBps and write_GBps",
    )
    kv_evict: Literal["lru", "lfu", "belady"] = _of(
        "lru", "which prefix the KV store evicts: least recent, least frequent, or (it knows the load) needed last"
    )
    swap_GiB: Annotated[float, Ge(0), Le(1e6)] = _of(0.0, "host memory for swapped KV, a replica")  # noqa: N815
    memory_share: Annotated[float, Ge(0), Le(1)] = _of(
        0.0, "share of device memory that the engine may use; 0: the engine profile's own (0.9, or 0.92 in vLLM 0.33)"
    )
    front: Literal["server", "offline"] = _of(
        "server", "what stands before the engine: where nothing is said, an offline batch takes more tokens a step"
    )
    ends: Literal["length", "token"] = _of(
        "length", "what ends outputs: a length that the engine knows, or a stop token that it meets"
    )
    speculate: str = _of(
        "",
        "speculative decoding: a progress model with its options (`chain:k=4,accept=0.7`), or a path of its file;"
        " empty: a token a step",
    )
    draft_model: str = _of(
        "", "model that drafts, by name or by config.json; empty: drafts cost nothing (n-gram tables, prompt look-up)"
    )
    draft_tp: Annotated[int, Ge(1), Le(MAX_GROUP)] = _of(1, "tensor parallel devices of the draft model")
    engine: str = _of("vllm_0.15", "engine profile: host time a step, sequence and request, padded batches; or `none`")
    eager: bool = _of(False, "without CUDA graphs: the host launches every kernel of every layer (--enforce-eager)")
    # run
    fidelity: Literal["sol", "calibrated", "replay"] = _of(
        "calibrated",
        "sol: peak rates; calibrated: fitted constants and host time; replay: every operator on SimPy engines",
    )
    timeout_s: Annotated[float, Ge(0), Le(9e6)] = _of(0.0, "clients give up so many seconds after they asked; 0: never")
    goodput: str = _of("ttft:1.0 tpot:0.05", "service level objective in seconds, `ttft:X tpot:Y e2el:Z`")
    price_USDph: Annotated[float, Ge(0), Le(1e4)] = _of(0.0, "rental price of a device an hour; 0: the catalogue's")  # noqa: N815
    run_ahead: bool = _of(True, "advance unchanged decode steps together (same integers as one by one)")
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = _of(0, "seed of everything drawn")

    def __post_init__(self) -> None:
        from sim.run.scenario_check import checked

        for name, value in checked(vars(self)).items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """The call that makes it: fields at their defaults are left out."""
        changed = {f.name: value for f in dataclasses.fields(self) if (value := getattr(self, f.name)) != f.default}
        return f"Scenario({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def digest(self) -> str:
        """Hexadecimal digits that name this configuration; written into every result as `config_hash`."""
        from sim.record.provenance import config_hash

        return config_hash(dataclasses.asdict(self))


FIELD_NAMES = tuple(field.name for field in dataclasses.fields(Scenario))


def check_scenarios(*given: object) -> None:
    """Raises `InputError` where one of them is no `Scenario`: a name, a path, a dictionary."""
    from kernels.errors import InputError

    for one in given:
        if not isinstance(one, Scenario):
            raise InputError("not a scenario", field="scenario", value=one,
                             allowed="Scenario(model=..., system=..., ...); or scenario_from(...)")  # fmt: skip


def from_mapping(
    values: Mapping[str, Any], file: object = None, file_of: Callable[[str], object] | None = None
) -> Scenario:
    """The scenario of these values; an `InputError` names what is wrong, and `file` where the values are a file's
    (`file_of(field)` where they come from several places)."""
    from sim.run.scenario_check import checked

    return Scenario(**checked(values, file_of or (lambda field: file)))


def from_file(path: str | pathlib.Path, **override: Any) -> Scenario:
    """Read a scenario TOML; `override` wins over the file."""
    return from_mapping({**read_toml(path), **override}, file_of=lambda field: None if field in override else path)


def read_toml(path: str | pathlib.Path) -> dict[str, Any]:
    """A TOML file as a dictionary; unreadable or malformed files are an `InputError` with the line."""
    from hw_models import files

    return files.read_toml(path)
