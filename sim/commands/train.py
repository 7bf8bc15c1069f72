"""`ridgeline train`: one training step of a model under a plan."""

import argparse
from typing import Any

HELP = "simulate a training step: time, MFU, bubble, communication, memory, energy, cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="a model's name or its config.json")
    parser.add_argument(
        "--from", dest="job", metavar="FILE",
        help="a job as its software has it: Megatron-LM arguments (command line, script, YAML), torchtitan TOML, "
        "DeepSpeed JSON; options beside it that are not at their default override it",
    )  # fmt: skip
    parser.add_argument("--set-aside", default="", help="arguments of the file to leave out, with commas between")
    parser.add_argument("--system", required=True, help="a device, node or system of the catalogue")
    parser.add_argument("--gpus", type=int, help="devices in all (checked against the product of the groups)")
    for name, text in (("tp", "tensor"), ("pp", "pipeline"), ("dp", "data"), ("cp", "context"), ("ep", "expert")):
        parser.add_argument(f"--{name}", type=int, default=1, help=f"{text} parallel size")
    parser.add_argument("--batch", type=int, help="sequences a step")
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--seq", type=int, default=2048)
    parser.add_argument("--schedule", default="1f1b", help="any schedule of `ridgeline schedule list`, or a file")
    parser.add_argument("--interleave", type=int, default=1, help="chunks a rank")
    parser.add_argument("--sequence-parallel", action="store_true")
    parser.add_argument(
        "--recompute", help="none, selective (attention), full, or parts of a layer: core_attn+norm+activation+mlp+moe"
    )
    parser.add_argument("--zero", type=int, help="ZeRO stage, 3 is FSDP (default: the stack's)")
    parser.add_argument("--attention", help="unfused, fused_softmax, flash1, flash2 or flash3 (default: the stack's)")
    parser.add_argument("--format", default="bf16", help="of the layers' products: bf16, fp16, fp8, mxfp8, nvfp4")
    parser.add_argument("--layout", help="layers of each stage in the model's order, with commas between")
    parser.add_argument("--etp", type=int, default=0, help="tensor parallel size of the experts (0: as it fits)")
    parser.add_argument("--dispatch", help="of tokens to experts: alltoall or deepep (default: the stack's)")
    parser.add_argument("--dispatch-byte", type=float, default=0.0, help="a value on its way to the experts (0: 2)")
    parser.add_argument("--node-limit", type=int, default=0, help="nodes at most that a token is sent to (0: any)")
    parser.add_argument("--ep-overlap", type=float, help="share of expert exchanges under compute")
    parser.add_argument("--power-limit-W", type=float, default=0.0, help="of every device's board (0: its own)")
    parser.add_argument("--weight-byte", type=float, default=2.0)
    parser.add_argument("--act-byte", type=float, default=2.0, help="stored activations")
    parser.add_argument(
        "--gather-byte", type=float, default=0.0, help="gathered weights, as in FP8 (0: as activations)"
    )
    parser.add_argument("--grad-byte", type=float, help="default: the stack's")
    parser.add_argument("--optimizer-byte", type=float, help="states and master weights a value (default: the stack's)")
    parser.add_argument("--optimizer", default="adam", help="adam, adam_16bit, adam_8bit, sgd, lion, adafactor or muon")
    parser.add_argument("--refresh", type=int, default=1, help="steps between an optimizer's products on matrices")
    parser.add_argument("--skew", type=float, default=0.0, help="exponent of the load law of the experts")
    parser.add_argument(
        "--act-offload", type=float, default=0.0, help="share of kept activations that goes to the host"
    )
    for name, text in (
        ("--offload-write-byte-per-s", "rate at which offloaded activations leave, as to NVMe (0: host link)"),
        ("--offload-read-byte-per-s", "rate at which they come back (0: host link)"),
        ("--weight-offload", "share of the weights in host memory"),
        ("--optimizer-offload", "share of the optimizer states in host memory"),
        ("--sample-byte", "bytes that loading a sequence reads"),
        ("--loader-byte-per-s", "rate of one replica's loaders (0: host link)"),
    ):
        parser.add_argument(name, type=float, default=0.0, help=text)
    parser.add_argument("--host-update", action="store_true", help="offloaded states are updated by the host")
    parser.add_argument("--whole-hop", action="store_true", help="all tensor-parallel ranks send everything onwards")
    parser.add_argument(
        "--no-fused-accumulation", dest="fused_accumulation", action="store_false", help="gradients are added apart"
    )
    parser.add_argument("--blocking-hop", action="store_true", help="stages wait for their own transfers")
    parser.add_argument("--global-balance", action="store_true", help="expert loads are balanced over the whole batch")
    parser.add_argument("--compression", default="none", help="gradient hook: none, fp16, powersgd, topk, onebit")
    parser.add_argument("--compression-rank", type=int, default=4, help="of powersgd")
    parser.add_argument("--backward-chunk", type=int, default=1, help="parts of the sequence in recomputed backward")
    parser.add_argument("--logit-chunk", type=int, default=1, help="parts of the sequence in head and loss")
    parser.add_argument("--mtp", type=int, default=0, help="heads that predict further tokens")
    parser.add_argument("--lora-rank", type=int, default=0, help="train adapters of this rank alone (0: everything)")
    parser.add_argument("--ulysses", action="store_true", help="context parallelism by all-to-all, not by a ring")
    parser.add_argument("--tp-overlap", type=float, help="share of tensor-parallel traffic under compute")
    parser.add_argument(
        "--dp-traffic",
        default="fitted",
        help="fitted: in closed form, with the stack's exposed share; scheduled: replayed beside the order",
    )
    parser.add_argument(
        "--keep-gathered", action="store_true", help="gather and scatter once for a run of operations on a chunk"
    )
    parser.add_argument(
        "--gather-limit", type=int, default=2, help="layers gathered ahead and at work (1: no prefetch, 0: no limit)"
    )
    parser.add_argument("--fidelity", default="calibrated", help="calibrated, or replay: traffic on the system's links")
    parser.add_argument("--oversubscription", type=float, default=1.0, help="of the network, in a replay")
    parser.add_argument("--num-replica", type=int, default=1, help="replicas whose hops flow in a replay")
    parser.add_argument("--stack", help="training software: a name, a .toml file, or sol (default: today's)")
    parser.add_argument("--plot", metavar="FILE", help="draw the replayed schedule (.svg, .png, .pdf)")
    parser.add_argument("--trace", metavar="FILE", help="write the replayed schedule as a Chrome trace")
    parser.add_argument("--json", metavar="FILE", help="write summary, memory and stages")


def run(arguments: argparse.Namespace) -> int:
    from dataclasses import fields

    from hw_models import catalog
    from kernels.errors import InputError
    from sim.record.export import check_picture
    from sim.training.stack import default_stack, load_stack
    from workloads import models
    from workloads.optimizers import optimizer
    from workloads.training import TrainPlan, check_effect, check_sizes

    a = arguments
    if a.plot:
        check_picture(a.plot)
    for field, usual_value in (("oversubscription", 1.0), ("num_replica", 1)):
        if getattr(a, field) != usual_value and a.fidelity == "calibrated":
            raise InputError("has no effect: needs fidelity = replay", field=field, value=getattr(a, field))
    if a.job:
        _run_job(a)
        return 0
    for field in ("model", "batch"):
        if getattr(a, field) is None:
            raise InputError("is missing", field=field, value=None)
    if a.set_aside:
        raise InputError("goes with --from", field="set_aside", value=a.set_aside)
    check_sizes(TrainPlan(tp=a.tp, pp=a.pp, dp=a.dp, cp=a.cp, ep=a.ep))
    num_device = a.tp * a.pp * a.dp * a.cp
    if a.gpus is not None and a.gpus != num_device:
        raise InputError("is not tp x pp x dp x cp", field="gpus", value=a.gpus, allowed=str(num_device))
    system, model = catalog.system(a.system, num_device), models.load(a.model)
    chosen = a.stack or default_stack(system.device.name, sharded=(a.zero or 0) >= 2, family=model.family)
    stack = load_stack(chosen)
    given = {field.name: getattr(a, field.name) for field in fields(TrainPlan) if hasattr(a, field.name)}
    given["layout"] = _layout(a.layout)
    if a.optimizer != "adam" and a.optimizer_byte is None:
        given["optimizer_byte"] = optimizer(a.optimizer).state_byte
    usual = stack.usual()
    if a.dp * a.cp == 1:
        usual["zero"] = 0
    if a.tp == 1:
        usual["tp_overlap"] = 0.0
    if a.ep == 1:
        usual["dispatch"] = TrainPlan.dispatch
    plan = TrainPlan(**usual | {name: value for name, value in given.items() if value is not None})
    check_sizes(plan)
    check_effect(plan)
    _report(a, model, system, plan, stack, a.format)
    return 0


def _run_job(a: argparse.Namespace) -> None:
    """A job's own file, with what is given beside it."""
    from dataclasses import fields

    from hw_models import catalog
    from sim.training.job import job_model, job_plan, show_job
    from workloads import jobs
    from workloads.training import TrainPlan, check_sizes

    plain = argparse.ArgumentParser()
    add_arguments(plain)
    known = {field.name for field in fields(TrainPlan)} | {"format"}
    beside = {
        name: getattr(a, name) for name in known if hasattr(a, name) and getattr(a, name) != plain.get_default(name)
    }
    if a.layout:
        beside["layout"] = _layout(a.layout)
    job = jobs.read(a.job, num_device=a.gpus or 0, set_aside=[name for name in a.set_aside.split(",") if name])
    model = job_model(job, a.model)
    precision = beside.pop("format", job.precision)
    num_device = job.num_device
    plan, stack = job_plan(job, catalog.system(a.system, num_device), a.stack, beside, model.family)
    check_sizes(plan)
    print(show_job(job, plan, beside))
    _report(a, model, catalog.system(a.system, plan.num_device), plan, stack, precision)


def _report(a: argparse.Namespace, model: Any, system: Any, plan: Any, stack: Any, precision: str) -> None:
    """Simulates, writes what was asked for and prints the summary."""
    from sim.record.export import write_json
    from sim.training.command import show
    from sim.training.step import train

    result = train(model, system, plan, stack=stack, number_format=precision, fidelity=a.fidelity,
                   oversubscription=a.oversubscription, num_replica=a.num_replica,
                   power_limit_w=a.power_limit_W)  # fmt: skip
    if a.json:
        write_json({"summary": result.summary, "memory": result.memory, "stage": result.stage}, a.json)
    if a.trace:
        from sim.pipeline.schedule_trace import write_trace
        from sim.training.step import build_order, resolve
        from workloads.pipeline import compile_order

        write_trace(result.op, compile_order(build_order(resolve(plan))), a.trace, us_per_tick=1e-6)
    if a.plot:
        from sim.pipeline.schedule_plot import save_plot

        s = result.summary
        save_plot(
            result.op, f"{s['model']}, {s['schedule']}: {s['step_s']:.3f} s, bubble {s['bubble_rate']:.1%}", a.plot
        )
    print(show(result))


def _layout(text: str | None) -> tuple[int, ...]:
    from kernels.digits import whole
    from kernels.errors import InputError

    if text is None:
        return ()
    found = [whole(part) for part in text.split(",")]
    layout = tuple(number for number in found if number is not None)
    if len(layout) < len(found):
        raise InputError("not whole numbers with commas between", field="layout", value=text[:80])
    return layout
