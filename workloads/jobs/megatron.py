"""A job of Megatron-LM by its arguments (`megatron/training/arguments.py`, releases of 2024 to 2026): groups, batch,
schedule, recomputation, formats, experts, optimizer. What the arguments leave out is Megatron-LM's own default."""

import re
from typing import Any

from workloads.jobs.job import Given, Job
from workloads.jobs.megatron_model import read_model
from workloads.jobs.megatron_names import NEUTRAL, PREFIXES, REFUSED

MODULES = {"core_attn": "core_attn", "mla_up_proj": "mla_up_proj", "layernorm": "norm", "moe_act": "activation",
           "mlp": "mlp", "moe": "moe"}  # fmt: skip
RECIPES = {"delayed": "fp8", "tensorwise": "fp8", "blockwise": "fp8_block", "mxfp8": "mxfp8"}
BYTE = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0}
SHARDING = {"no_shard": 0, "optim": 1, "optim_grads": 2, "optim_grads_params": 3}
ATTENTION = {"auto": "", "flash": "flash2", "fused": "flash3", "unfused": "unfused", "local": "fused_softmax"}
DISPATCHERS = {"alltoall": "alltoall", "flex": "deepep"}


def read(given: Given, num_device: int) -> Job:
    """The job. `num_device`: of the run, where the arguments of its launcher do not say."""
    given.refuse_any(REFUSED)
    nodes, each = given.whole("nnodes", 0, "nodes"), given.whole("nproc-per-node", 0, "devices a node")
    world = given.whole("world-size", nodes * each, "devices") or num_device
    plan: dict[str, Any] = {}
    for name, argument in (("tp", "tensor-model-parallel-size"), ("pp", "pipeline-model-parallel-size"),
                           ("cp", "context-parallel-size"), ("ep", "expert-model-parallel-size")):  # fmt: skip
        plan[name] = given.whole(argument, 1, name)
    plan["etp"] = given.whole("expert-tensor-parallel-size", plan["tp"] if plan["ep"] > 1 else 0, "etp")
    if plan["ep"] == 1:
        plan["etp"] = 0
    inner = plan["tp"] * plan["pp"] * plan["cp"]
    if not world:
        given.refuse("tensor-model-parallel-size", "how many devices? Give --gpus, or the launcher's arguments with it")
    if world % inner:
        given.refuse("tensor-model-parallel-size", f"tp x pp x cp = {inner} do not divide {world} devices")
    plan["dp"] = world // inner
    plan["micro_batch"] = given.whole("micro-batch-size", 1, "micro_batch")
    plan["batch"] = given.whole("global-batch-size", plan["micro_batch"] * plan["dp"], "batch")
    plan["seq"] = given.whole("seq-length", 0, "seq") or given.whole("encoder-seq-length", 0, "seq")
    if not plan["seq"]:
        given.refuse("seq-length", "is missing")
    plan["sequence_parallel"] = given.flag("sequence-parallel", "sequence_parallel") and plan["tp"] > 1
    model = read_model(given, plan["tp"])
    _schedule(given, plan, model.num_layer)
    _recompute(given, plan)
    precision = _formats(given, plan)
    if plan.get("act_offload"):  # layers of a rank that are sent away
        plan["act_offload"] = min(1.0, plan["act_offload"] * plan["pp"] / model.num_layer)
    _attention(given, plan)
    factor = _replicas(given, plan)
    _experts(given, plan)
    plan["fused_loss"] = given.flag("cross-entropy-loss-fusion", "fused_loss")
    given.take("cross-entropy-fusion-impl", meaning="fused_loss")
    given.take("transformer-impl", meaning="fused norms")
    plan["fused_norm"] = True
    plan["tp_overlap"] = None if given.flag("tp-comm-overlap", "tp_overlap: the stack's") else 0.0
    plan["fused_accumulation"] = not given.flag("no-gradient-accumulation-fusion", "gradients added apart")
    neutral = given.finish(NEUTRAL, PREFIXES)
    return Job("Megatron-LM", {name: value for name, value in plan.items() if value is not None}, model, "", precision,
               world, factor, tuple(given.understood), neutral, given.set_aside)  # fmt: skip


def _schedule(given: Given, plan: dict[str, Any], num_layer: int) -> None:
    """Chunks a rank and layers of each stage."""
    pp = plan["pp"]
    plan["interleave"] = given.whole("num-virtual-stages-per-pipeline-rank", 1, "interleave")
    layers = given.whole("num-layers-per-virtual-pipeline-stage", 0, "interleave")
    if layers:
        plan["interleave"] = max(1, num_layer // (pp * layers))
    text = given.take("pipeline-model-parallel-layout", None, "layout")
    first, last = (given.whole(f"decoder-{end}-pipeline-num-layers", 0, "layout") for end in ("first", "last"))
    if text:
        plan["layout"] = stage_layers(str(text))
        plan["interleave"] = len(plan["layout"]) // pp
    elif first or last:
        between = pp - (first > 0) - (last > 0)
        rest, over = divmod(num_layer - first - last, max(between, 1))
        if over or plan["interleave"] > 1:
            given.refuse("decoder-first-pipeline-num-layers" if first else "decoder-last-pipeline-num-layers",
                         "the other stages do not come out equal, or have chunks")  # fmt: skip
        plan["layout"] = (*([first] if first else []), *[rest] * between, *([last] if last else []))
    embedding, loss = (given.flag(f"account-for-{end}-in-pipeline-split", "layout") for end in ("embedding", "loss"))
    if embedding or loss:
        stages = pp * plan["interleave"]
        each, over = divmod(num_layer + embedding + loss, stages)
        if over:
            given.refuse("account-for-embedding-in-pipeline-split", "layers with the ends do not divide by the stages")
        layout = [each] * stages
        layout[0] -= embedding
        layout[-1] -= loss
        plan["layout"] = tuple(layout)
    if given.flag("no-overlap-p2p-communication", "stages wait for their transfers") and pp > 1:
        plan["blocking_hop"] = True
    given.take("overlap-p2p-communication", meaning="transfers beside compute")
    plan["schedule"] = "interleaved-1f1b" if plan["interleave"] > 1 else "1f1b"


def stage_layers(text: str) -> tuple[int, ...]:
    """Layers of every stage of a pipeline layout: t a layer, | between stages, E and L the ends, (...)*n repeated.

    >>> stage_layers("Et*2|(tt|)*2t,L")
    (2, 2, 2, 1)
    """
    plain = text.replace(",", "").replace(" ", "")
    while "*" in plain:
        changed = re.sub(r"\(([^()]*)\)\*(\d+)", lambda m: m[1] * int(m[2]), plain)
        changed = re.sub(r"([EtmL|])\*(\d+)", lambda m: m[1] * int(m[2]), changed)
        if changed == plain:
            break
        plain = changed
    return tuple(part.count("t") for part in plain.split("|"))


def _recompute(given: Given, plan: dict[str, Any]) -> None:
    kind = given.choice("recompute-granularity", "none", {"none": "none", "selective": "selective", "full": "full"},
                        "recompute")  # fmt: skip
    if given.flag("recompute-activations", "recompute"):
        kind = "selective"
    modules = str(given.take("recompute-modules", "core_attn", "recompute")).split()
    plan["recompute"] = kind
    if kind == "selective":
        for name in modules:
            if name not in MODULES:
                given.refuse("recompute-modules", f"{name} is no module that is recomputed here")
        plan["recompute"] = "+".join(MODULES[name] for name in modules)
    method = given.take("recompute-method", None, "recompute")
    layers = given.whole("recompute-num-layers", 1, "recompute")
    if kind == "full" and (method == "block" or layers != 1):
        given.refuse("recompute-method", "only every layer by itself is recomputed here (uniform, one layer)")


def _formats(given: Given, plan: dict[str, Any]) -> str:
    """The format of the products; bytes of gradients and states."""
    half = "bf16" if given.flag("bf16", "format") else "fp16" if given.flag("fp16", "format") else "fp32"
    precision = half
    if given.take("fp8-format", None, "format") or given.take("fp8", None, "format"):
        precision = given.choice("fp8-recipe", "delayed", RECIPES, "format")
    if given.take("fp4-format", None, "format"):
        precision = given.choice("fp4-recipe", "nvfp4", {"nvfp4": "nvfp4"}, "format")
    if half == "fp32":
        plan["weight_byte"] = plan["act_byte"] = 4.0
    narrow = given.flag("fp8-param-gather", "weight_byte, gather_byte")
    wide = given.flag("accumulate-allreduce-grads-in-fp32", "grad_byte") or half != "fp16"
    if narrow:
        plan["weight_byte"] = plan["gather_byte"] = 1.0
    if given.flag("grad-reduce-in-bf16", "grad_byte"):
        wide = False
    plan["grad_byte"] = BYTE[given.choice("main-grads-dtype", "fp32" if wide else "bf16", {k: k for k in BYTE},
                                          "grad_byte")]  # fmt: skip
    states = {"adam": 2, "sgd": 1, "lion": 1, "muon": 1, "dist_muon": 1}
    name = given.choice("optimizer", "adam", {key: key for key in states}, "optimizer")
    plan["optimizer"] = name.removeprefix("dist_")
    given.flag("use-precision-aware-optimizer", "optimizer_byte")
    parts = [given.choice(f"{part}-dtype", "fp32", BYTE, "optimizer_byte")
             for part in ("main-params", "exp-avg", "exp-avg-sq")]  # fmt: skip
    plan["optimizer_byte"] = sum(parts[: 1 + states[name]])
    if given.flag("optimizer-cpu-offload", "optimizer_offload"):
        plan["optimizer_offload"] = given.number("optimizer-offload-fraction", 1.0, "optimizer_offload")
    offloaded = given.whole("cpu-offloading-num-layers", 0, "act_offload")
    if offloaded:
        plan["act_offload"] = offloaded
    return str(precision)


def _attention(given: Given, plan: dict[str, Any]) -> None:
    kernel = given.choice("attention-backend", "auto", ATTENTION, "attention")
    if given.flag("use-flash-attn", "attention"):
        kernel = kernel or "flash2"
    if given.has("flash-attention-version"):
        kernel = given.choice("flash-attention-version", "2", {"2": "flash2", "3": "flash3"}, "attention")
    if given.flag("no-masked-softmax-fusion", "attention") and kernel == "fused_softmax":
        kernel = "unfused"
    plan["attention"] = kernel or None
    dropped = [given.number(f"{where}-dropout", 0.1, "dropout") for where in ("attention", "hidden")]
    plan["dropout"] = max(dropped) > 0
    plan["ulysses"] = given.choice("cp-comm-type", "p2p", {"p2p": False, "a2a": True}, "ulysses") and plan["cp"] > 1


def _replicas(given: Given, plan: dict[str, Any]) -> dict[str, float]:
    """ZeRO stage, and what of its traffic hides."""
    plan["zero"] = 1 if given.flag("use-distributed-optimizer", "zero") else 0
    if given.flag("use-megatron-fsdp", "zero") or given.flag("use-custom-fsdp", "zero"):
        plan["zero"] = given.choice("data-parallel-sharding-strategy", "no_shard", SHARDING, "zero")
        given.choice("outer-dp-sharding-strategy", "no_shard", {"no_shard": 0}, "zero")
    elif given.flag("use-torch-fsdp2", "zero"):
        plan["zero"] = 3
    if given.whole("num-distributed-optimizer-instances", 1, "zero") != 1:
        given.refuse("num-distributed-optimizer-instances")
    if plan["dp"] * plan["cp"] == 1:
        plan["zero"] = 0
    if not plan["zero"]:
        plan.pop("gather_byte", None)
    hides = given.flag("overlap-grad-reduce", "exposed: the stack's")
    given.flag("overlap-param-gather", "exposed: the stack's")
    given.flag("overlap-param-gather-with-optimizer-step", "exposed: the stack's")
    return {} if hides or plan["dp"] * plan["cp"] == 1 or plan["zero"] >= 2 else {"exposed": 1.0}


def _experts(given: Given, plan: dict[str, Any]) -> None:
    """How tokens reach their experts."""
    if plan["ep"] > 1:
        kind = given.choice("moe-token-dispatcher-type", "alltoall", DISPATCHERS, "dispatch")
        given.flag("moe-enable-deepep", "dispatch")
        given.choice("moe-flex-dispatcher-backend", "deepep", {"deepep": "deepep"}, "dispatch")
        plan["dispatch"] = kind
        plan["ep_overlap"] = 1.0 if given.flag("overlap-moe-expert-parallel-comm", "ep_overlap") else 0.0
        groups = given.whole("moe-router-group-topk", 0, "node_limit")
        if groups and kind == "deepep":
            plan["node_limit"] = groups
    else:
        for name in ("moe-token-dispatcher-type", "moe-enable-deepep", "moe-flex-dispatcher-backend",
                     "overlap-moe-expert-parallel-comm", "moe-router-group-topk"):  # fmt: skip
            given.take(name, meaning="nothing: one rank has every expert")
    plan["mtp"] = given.whole("mtp-num-layers", 0, "mtp")
