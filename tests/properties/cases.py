"""Hypothesis strategies of whole cases, one a kind of input: words of a command line and the files beside them."""

import functools
import json
import pathlib
import tomllib
from typing import Any

import tomli_w
from hypothesis import strategies as st

import hw_models
import workloads
from tests.properties import nasty
from tests.properties.driver import Case
from tests.properties.nasty import SWITCH, TEXTS, damaged, mutated, options, words
from workloads.chakra import Node, Trace, attributes, et_bytes
from workloads.chakra_json import flat_text, json_text
from workloads.schedules import catalogue

CATALOG = pathlib.Path(hw_models.__file__).parent / "catalog"
CONFIGS = pathlib.Path(workloads.__file__).parent / "models" / "configs"
LOADS = (
    "batch:n=3,prompt=8,output=4", "poisson:rate=4,n=6,prompt=20,output=5", "constant:rate=2,n=4,prompt=9,output=3",
    "gamma:rate=3,cv=2,n=5,prompt=lognormal:mean=30:max=90,output=uniform:low=1:high=9",
    "closed:users=2,n=6,prompt=12,output=3", "stages:stages=2:1+4:1,prompt=10,output=2",
    "conversation:rate=5,n=5", "batch:n=1,prompt=1,output=1",
)  # fmt: skip
SCENARIO: dict[str, tuple[str, ...]] = {
    "model": ("gpt2", "llama-3.2-1b", "phi-2", *TEXTS), "system": ("a100_sxm", "h100_sxm", "l4", "neupims", *TEXTS),
    "requests": (*LOADS, *TEXTS), "tp": ("2", "4"), "pp": ("2", "3"), "dp": ("2", "3"), "ep": ("2",),
    "attn-dp": ("2",), "sequence-parallel": (SWITCH, "true"), "weight-format": ("fp8", "w4a16", "int8", *TEXTS),
    "kv-format": ("fp8", "int4", *TEXTS), "expert-skew": (), "dispatch": ("best", "pim", "xpu", "op_b", *TEXTS),
    "policy": ("sarathi", "orca", "static", "vllm_v0", "sarathi:max_token=16", "orca:reserve=pow2", *TEXTS),
    "router": ("random", "least_token", "power_of_two", "prefix_aware", *TEXTS), "order": ("sjf", "priority", *TEXTS),
    "token-budget": ("8", "64"), "max-num-seq": ("1", "2"), "max-model-len": ("16", "64"), "block-token": ("1", "32"),
    "watermark": ("0.1",), "no-prefix-cache": (SWITCH,), "preemption": ("swap", *TEXTS), "swap-gib": ("1",),
    "memory-share": ("0.1", "1"), "engine": ("none", *TEXTS), "fidelity": ("sol", "replay", *TEXTS),
    "timeout-s": ("0.001", "1"), "goodput": ("ttft:1", "e2el:0", *TEXTS), "price-usdph": ("2",), "seed": ("1", "5"),
    "no-run-ahead": (SWITCH,), "uncertainty": ("2",), "format": ("parquet", "csv"),
}  # fmt: skip
USUAL = {"model": "gpt2", "system": "a100_sxm", "requests": LOADS[0]}


@st.composite
def loads(draw: st.DrawFn) -> str:
    """A generator's text with some of its values changed."""
    source, _, body = draw(st.sampled_from(LOADS)).partition(":")
    pairs = [part.partition("=") for part in body.split(",")]
    at = draw(st.integers(0, len(pairs) - 1))
    value = draw(st.sampled_from((*nasty.NUMBERS, *TEXTS, "uniform:low=9:high=1", "lognormal:mean=inf:max=3", "1:2+3")))
    if pairs[at][0] == "n" and value.strip().isdigit() and 1000 < int(value[:20]) < 10**8:
        value = "7"  # a long run is none of the faults looked for
    pairs[at] = (pairs[at][0], "=", value)
    if not draw(st.integers(0, 3)):
        pairs.append((draw(st.sampled_from(("x", "rate", "n", "seed", "priority", "cv"))), "=", draw(nasty.numbers)))
    return f"{source}:{','.join(''.join(pair) for pair in pairs)}"


@st.composite
def simulate(draw: st.DrawFn) -> Case:
    chosen = draw(options(USUAL, SCENARIO))
    if draw(st.booleans()):
        chosen["requests"] = draw(loads())
    if not draw(st.integers(0, 9)):  # as a file, with the types that TOML has
        table = {name.replace("-", "_"): draw(st.one_of(st.just(value), nasty.values))
                 for name, value in chosen.items() if value is not SWITCH}  # fmt: skip
        return Case(("simulate", "s.toml", "--json", "o.json"), {"s.toml": toml(table)}, ("o.json",))
    if chosen.get("uncertainty", "").strip().isdigit() and 100 < int(chosen["uncertainty"][:9]) <= 10**5:
        chosen["uncertainty"] = "3"  # as many runs as are asked for are none of the faults looked for
    verb = draw(st.sampled_from(("simulate", "simulate", "simulate", "simulate", "compare", "roofline")))
    if verb != "simulate":
        for name in ("uncertainty", "format"):
            chosen.pop(name, None)
    return Case((verb, *words(chosen), "--json", "o.json"), {}, ("o.json",))


def toml(table: Any) -> bytes:
    """A table as TOML; what TOML has no place for is left out."""
    return tomli_w.dumps(_writable(table) if isinstance(table, dict) else {"a": 1}).encode(errors="surrogatepass")


def _writable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _writable(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_writable(item) for item in value if item is not None]
    if isinstance(value, int) and value > 10**300:
        return 10**300
    return value


# request traces

ROWS = ((0.0, 20, 3), (0.25, 5, 1), (1.5, 64, 9))
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{4 + t:010.7f},{p},{o}\n" for t, p, o in ROWS
)
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + "".join(
    f"{t},ChatGPT,{p},{o},{p + o},Conversation log\n" for t, p, o in ROWS
)
MOONCAKE = "".join(
    json.dumps({"timestamp": int(t * 1000), "input_length": 600 + p, "output_length": o, "hash_ids": [0, n]}) + "\n"
    for n, (t, p, o) in enumerate(ROWS, 1)
)
PLAIN = "arrival_s,prompt_token,output_token,priority\n" + "".join(f"{t},{p},{o},1\n" for t, p, o in ROWS)
SHAREGPT = "".join(f"{p},{o}\n" for _, p, o in ROWS)
BENCH = {
    "input_lens": [20, 5],
    "output_lens": [3, 1],
    "start_times": [0.5, 2.5],
    "request_rate": 2.0,
    "burstiness": 1.0,
}
TRACES = {"azure": AZURE, "burstgpt": BURST, "mooncake": MOONCAKE, "plain": PLAIN, "sharegpt": SHAREGPT}


@st.composite
def request_trace(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from((*TRACES, "vllm_bench")))
    if kind == "vllm_bench":
        data = json.dumps(draw(mutated(BENCH))).encode()
    elif kind == "mooncake" and draw(st.booleans()):
        rows = [json.loads(line) for line in MOONCAKE.splitlines()]
        changed = draw(mutated(rows))
        data = "".join(json.dumps(row) + "\n" for row in (changed if isinstance(changed, list) else [changed])).encode()
    else:
        text = TRACES[kind]
        if kind != "mooncake" and draw(st.integers(0, 3)):
            lines = [line.split(",") for line in text.splitlines()]
            line = draw(st.sampled_from(lines))
            line[draw(st.integers(0, len(line) - 1))] = draw(st.one_of(nasty.numbers, st.sampled_from(TEXTS)))
            text = "\n".join(map(",".join, lines))
        data = text.encode(errors="surrogatepass")
    if not draw(st.integers(0, 2)):
        data = draw(damaged(data))
    named = draw(st.sampled_from(("t", f"{kind}:t", "t,n=2", "t,scale=2", f"{kind}:t,n=1")))
    if not draw(st.integers(0, 4)):
        named += draw(st.sampled_from((",rate=", ",n=", ",scale=", ",block_token=", ",x="))) + draw(nasty.numbers)
    if draw(st.integers(0, 5)):
        return Case(("traces", named, "--json", "o.json"), {"t": data}, ("o.json",))
    say = ("simulate", "--model", "gpt2", "--system", "a100_sxm", "--requests", named, "--json", "o.json")
    return Case(say, {"t": data}, ("o.json",))


# machines and models


@functools.cache
def machine_tables() -> tuple[tuple[str, dict[str, Any]], ...]:
    return tuple((path.stem, tomllib.loads(path.read_text())) for path in sorted(CATALOG.glob("*.toml")))


@functools.cache
def model_configs() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(path.read_text()) for path in sorted(CONFIGS.glob("*.json")))


@st.composite
def machine(draw: st.DrawFn) -> Case:
    name, table = draw(st.sampled_from(machine_tables()))
    if not draw(st.integers(0, 2)):
        table = {"base": name, "title": "mine"} | dict(
            draw(st.lists(st.sampled_from(sorted(table.items(), key=str)), max_size=3))
        )
    data = toml(draw(mutated(table)))
    if not draw(st.integers(0, 4)):
        data = draw(damaged(data))
    verb = draw(st.sampled_from(("check", "check", "check", "devices", "simulate", "train")))
    if verb in ("check", "devices"):
        return Case((verb, "m.toml", "--json", "o.json"), {"m.toml": data}, ("o.json",))
    if verb == "train":
        return Case(
            (verb, "--model", "gpt2", "--system", "m.toml", "--batch", "2", "--json", "o.json"),
            {"m.toml": data},
            ("o.json",),
        )
    say = ("simulate", "--model", "gpt2", "--system", "m.toml", "--requests", LOADS[0], "--json", "o.json")
    return Case((*say, *draw(st.sampled_from(((), ("--fidelity", "sol"))))), {"m.toml": data}, ("o.json",))


@st.composite
def model(draw: st.DrawFn) -> Case:
    config = draw(mutated(draw(st.sampled_from(model_configs()))))
    data = json.dumps(config).encode()
    if not draw(st.integers(0, 4)):
        data = draw(damaged(data))
    verb = draw(st.sampled_from(("models", "models", "models", "simulate", "train", "roofline")))
    if verb == "models":
        return Case((verb, "--config", "c.json", "--json", "o.json"), {"c.json": data}, ("o.json",))
    more = {
        "simulate": ("--requests", LOADS[0]),
        "train": ("--batch", "2", "--seq", "64"),
        "roofline": ("--batch", "2"),
    }
    say = (verb, "--model", "c.json", "--system", "h100_sxm", *more[verb], "--json", "o.json")
    return Case(say, {"c.json": data}, ("o.json",))


# execution traces


@functools.cache
def chakra() -> Trace:
    return Trace(
        node=[
            Node(1, "a", duration_micros=5, attr=attributes(is_cpu_op=False, num_ops=100, tensor_size=64)),
            Node(2, "all", "COMM_COLL_NODE", data_deps=[1], duration_micros=7,
                 attr=attributes(comm_type=0, comm_size=4096, is_cpu_op=False)),
            Node(3, "b", ctrl_deps=[2], start_time_micros=3, duration_micros=2, attr=attributes(is_cpu_op=True)),
        ]
    )  # fmt: skip


KINETO: dict[str, Any] = {
    "distributedInfo": {"rank": 0, "world_size": 2},
    "traceEvents": [
        {"ph": "X", "cat": "kernel", "name": "gemm", "ts": 1.5, "dur": 10.25, "args": {"device": 0, "stream": 7}},
        {"ph": "X", "cat": "kernel", "name": "ncclDevKernel", "ts": 20, "dur": 30.5, "pid": 0,
         "args": {"Collective name": "allreduce", "In msg nelems": 1024, "dtype": "BFloat16", "Group size": 2, "Seq": 3,
                  "Process Group Name": "0", "stream": 9, "device": 0}},
        {"ph": "M", "name": "process_name", "args": {"name": "python"}},
    ],
}  # fmt: skip


@st.composite
def execution_trace(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(("et", "json", "flat", "kineto", "kineto", "json")))
    if kind == "et":
        name, data = "a.0.et", et_bytes(chakra())
        if draw(st.integers(0, 4)):
            data = draw(damaged(data))
    elif kind == "kineto":
        name, data = "k.json", json.dumps(draw(mutated(KINETO))).encode()
    else:
        text = json_text(chakra()) if kind == "json" else flat_text(chakra())
        name, data = "a.0.json", json.dumps(draw(mutated(json.loads(text)))).encode()
    if not draw(st.integers(0, 5)):
        data = draw(damaged(data))
    out = draw(st.sampled_from(("o.csv", "o.csv", "o.et", "o.json", "o.flat.json", "o.trace.json", "o", "o.txt")))
    if kind == "kineto" and draw(st.integers(0, 3)):
        out = "o.csv"
    elif kind != "kineto" and not draw(st.integers(0, 3)):
        more = draw(st.sampled_from(((), ("--roofline",))))
        files, groups = {name: data}, ()
        if not draw(st.integers(0, 2)):
            files["g.json"] = json.dumps(draw(mutated({"0": [0]}))).encode()
            groups = ("--groups", "g.json")  # type: ignore[assignment]
        return Case(("trace", "replay", name, "o.csv", "--system", "h100_sxm", *more, *groups), files, ("o.csv",))
    more = draw(st.sampled_from(((), (), ("--kernels",))))
    return Case(("trace", "convert", name, out, *more), {name: data}, (out,))


# schedules and training

SCHEDULE: dict[str, tuple[str, ...]] = {
    "stages": ("2", "4"), "microbatches": ("2", "4", "8"), "chunks": ("2",), "recompute": ("2",), "hop": ("1",),
    "times": ("1,1,1", "5,6,4", "0,0,0", "9223372036854775807,1,1", "1,1", "1,a,1", "1e3,1,1", "-1,1,1"),
    "overlap-time": ("3",), "memory": ("1,0,-1", "9,9,9", "9223372036854775807,1,1"), "limit": ("2", "4"),
    "option": ("x=1", "times=[1]", "limit=1e400", "num_chunk=[]", "num_chunk=2", "=", "memory={}", "hop=null"),
}  # fmt: skip
CELLS = ("0F0", "1F0", "1B0", "0B0", "1I0", "1W0", "0I0", "0W0", "(0F1;1B0)OVERLAP_F_B", "0SEND_F0", "", "9F9", "0X0",
         "0F99999999999999999999", "F", "=1+1", "0F", "(;)OVERLAP_F_B", "0F1", "0B1")  # fmt: skip
ORDER = [["0F0", "0F1", "0B0", "0B1"], ["1F0", "1B0", "1F1", "1B1"]]


@st.composite
def schedule(draw: st.DrawFn) -> Case:
    what = draw(st.integers(0, 3))
    outputs = draw(st.sampled_from((("o.json",), ("o.json", "t.json", "o.csv"))))
    flags = [
        word
        for name in outputs
        for word in (f"--{ {'o.json': 'json', 't.json': 'trace', 'o.csv': 'csv'}[name] }", name)
    ]
    if what == 0:  # an order of one's own
        rows = [list(row) for row in ORDER]
        for _ in range(draw(st.integers(1, 3))):
            row = draw(st.sampled_from(rows))
            at = draw(st.integers(0, len(row)))
            row[at : at + draw(st.integers(0, 1))] = [draw(st.sampled_from(CELLS))]
        data = "\n".join(map(",".join, rows)).encode()
        if not draw(st.integers(0, 4)):
            data = draw(damaged(data))
        chosen = draw(
            options({}, {name: SCHEDULE[name] for name in ("times", "hop", "recompute", "memory", "overlap-time")})
        )
        return Case(("schedule", "p.csv", *words(chosen), *flags), {"p.csv": data}, outputs)
    name = draw(st.sampled_from((*sorted(set(catalogue()) - {"zb-exact"}), *TEXTS)))
    chosen = draw(options({"stages": "2", "microbatches": "4"}, SCHEDULE))
    for field in ("stages", "microbatches", "chunks"):
        if chosen.get(field, "1").strip().isdigit() and 16 < int(chosen.get(field, "1")[:9]) < 10**6:
            chosen[field] = "3"  # a large schedule is none of the faults looked for
    if what == 1:
        rows = [["forward", "input_grad", "weight_grad"], ["1", "2", "3"], ["4", "5", "6"]]
        row = draw(st.sampled_from(rows))
        row[draw(st.integers(0, 2))] = draw(st.one_of(nasty.numbers, st.sampled_from(TEXTS)))
        chosen.pop("times", None)
        data = "\n".join(map(",".join, rows)).encode()
        return Case(("schedule", name, *words(chosen), "--stage-times", "s.csv", *flags), {"s.csv": data}, outputs)
    return Case(("schedule", name, *words(chosen), *flags), {}, outputs)


TRAIN: dict[str, tuple[str, ...]] = {
    "model": ("gpt2", "gpt3-7b", "mixtral-8x7b", *TEXTS), "system": ("dgx_a100", "h100_sxm", "dgx_h100", *TEXTS),
    **dict.fromkeys(("gpus", "tp", "pp", "dp", "cp", "ep", "micro-batch", "interleave"), ("2", "4")),
    "batch": ("8", "16"), "seq": ("64", "512"), "schedule": ("gpipe", "zb-h1", "interleaved", *TEXTS),
    "sequence-parallel": (SWITCH,), "recompute": ("full", "selective", *TEXTS), "zero": ("1", "2", "3"),
    "attention": ("flash2", *TEXTS), "format": ("fp8", "fp16", *TEXTS), "weight-byte": (), "act-byte": (),
    "grad-byte": (), "optimizer-byte": (), "skew": ("0.1",), "act-offload": ("0.5",), "offload-write-byte-per-s": (),
    "offload-read-byte-per-s": (), "weight-offload": ("0.5",), "optimizer-offload": ("0.5",), "sample-byte": ("1e5",),
    "loader-byte-per-s": (), "whole-hop": (SWITCH,), "global-balance": (SWITCH,),
    "compression": ("fp16", "topk", *TEXTS),
    "compression-rank": ("4",), "backward-chunk": ("2",), "logit-chunk": ("2",), "lora-rank": ("8",),
    "ulysses": (SWITCH,), "tp-overlap": ("0.5",), "dp-traffic": ("scheduled", *TEXTS), "keep-gathered": (SWITCH,),
    "gather-limit": ("1",), "fidelity": ("replay", *TEXTS), "oversubscription": ("2",), "num-replica": ("2",),
    "stack": ("sol", "megatron-a100", *TEXTS),
}  # fmt: skip
PLAN: dict[str, tuple[str, ...]] = {
    "model": ("gpt2", *TEXTS), "system": ("dgx_a100", *TEXTS), "gpus": ("2", "4,8", "0,1"), "batch": ("8", "8,16"),
    "space": ("execution", *TEXTS), "seq": ("64",), "cp": ("1,2",), "max-tp": ("2",), "format": ("fp8",),
    "stack": ("sol", *TEXTS), "top": ("1",), "critical-batch": ("100",), "min-steps": ("10",),
}  # fmt: skip
GOODPUT: dict[str, tuple[str, ...]] = {
    "steps": ("100",), "step-s": ("10",), "gpus": ("64",), "mtbf-h": ("1000", "0.01"), "checkpoint-s": ("5",),
    "interval-step": ("10",), "detect-s": ("1",), "restart-s": ("1",), "repair-s": ("1",), "spares": ("2",),
    "recovery": ("elastic", *TEXTS), "dp": ("4",), "reshard-s": ("1",), "runs": ("2",), "seed": ("3",),
}  # fmt: skip


@st.composite
def training(draw: st.DrawFn) -> Case:
    verb = draw(st.sampled_from(("train", "train", "train", "train", "goodput", "goodput", "plan")))
    if verb == "goodput":
        usual = {"steps": "50", "step-s": "1", "gpus": "8", "mtbf-h": "100", "runs": "1"}
        return Case((verb, *words(draw(options(usual, GOODPUT))), "--json", "o.json"), {}, ("o.json",))
    if verb == "plan":
        usual = {"model": "gpt2", "system": "dgx_a100", "gpus": "2", "batch": "4", "seq": "64", "top": "1"}
        return Case((verb, *words(draw(options(usual, PLAN))), "--json", "o.json"), {}, ("o.json",))
    usual = {"model": "gpt2", "system": "dgx_a100", "batch": "4", "seq": "64"}
    drawn = draw(st.sampled_from(((), (), ("--trace", "t.json"))))
    return Case((verb, *words(draw(options(usual, TRAIN, 4))), *drawn, "--json", "o.json"), {}, ("o.json", "t.json"))
