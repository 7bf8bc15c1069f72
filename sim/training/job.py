"""A training software's own configuration as a plan on a machine: what was understood, and what it became."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from hw_models import catalog
from hw_models.spec import System
from kernels.errors import InputError
from sim.training.stack import TrainStack, default_stack, load_stack
from sim.training.step import TrainResult, train
from workloads import models
from workloads.jobs import Job, read
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan

SOFTWARE = {"Megatron-LM": "megatron-core", "torchtitan": "pytorch-fsdp"}  # whose stack it is; DeepSpeed: the usual one


def job_model(job: Job, name: str | None) -> ModelSpec:
    """The model that the user names, else the job's. `InputError` where neither says one."""
    if name:
        return models.load(name)
    if job.model is not None:
        return job.model
    if not job.model_name:
        raise InputError(f"a {job.software} file does not say which model", field="model", value=None)
    return models.load(job.model_name)


def job_plan(
    job: Job, system: System, stack: str | None, beside: Mapping[str, Any], family: str = ""
) -> tuple[TrainPlan, TrainStack]:  # fmt: skip
    """The plan, and the stack with the factors that the file decides. `beside`: fields given by the user, which
    override the file's; what neither says is the stack's."""
    sharded = job.plan.get("zero", 0) >= 2
    usual_name = SOFTWARE.get(job.software) or default_stack(system.device.name, sharded=sharded, family=family)
    chosen = load_stack(stack or usual_name)
    chosen = chosen._replace(factor=chosen.factor | job.factor)
    usual = chosen.usual()
    fields = usual | job.plan | dict(beside)
    if fields["tp"] == 1:
        fields["tp_overlap"] = 0.0
    if fields.get("ep", 1) == 1:
        fields["ep_overlap"] = 0.0
    return TrainPlan(**fields), chosen


def train_job(
    path: str | pathlib.Path, system: str, *, gpus: int = 0, model: str | None = None, stack: str | None = None,
    set_aside: Collection[str] = (), **beside: Any,
) -> TrainResult:  # fmt: skip
    """One step of a job as its software wrote it (`workloads.jobs`): Megatron-LM arguments, torchtitan TOML, DeepSpeed
    JSON. `gpus` where the file does not say; `beside`: fields of a `TrainPlan` that override the file's. `InputError`
    names what has an effect and is not modelled, unless it is `set_aside`."""
    job = read(path, num_device=gpus, set_aside=set_aside)
    spec = job_model(job, model)
    plan, chosen = job_plan(job, catalog.system(system, job.num_device), stack, beside, spec.family)
    return train(spec, system, plan, stack=chosen, number_format=job.precision)


def show_job(job: Job, plan: TrainPlan, beside: Mapping[str, Any]) -> str:
    """The plan in fields that are not its defaults, and what of the file became what."""
    plain = TrainPlan()
    named = [
        f"{name}={value}" for name, value in vars(plan).items()
        if value != getattr(plain, name) or name in ("tp", "pp", "dp", "batch", "seq")
    ]  # fmt: skip
    lines = [f"{job.software}, {job.precision}: " + ", ".join(named)]
    lines += [f"  {name} {value}".rstrip() + f" -> {meaning}" for name, value, meaning in job.understood]
    if job.factor:
        lines.append("  factors: " + ", ".join(f"{name} {value:g}" for name, value in job.factor.items()))
    if beside:
        lines.append("  given beside the file: " + ", ".join(f"{name}={value}" for name, value in beside.items()))
    if job.set_aside:
        lines.append(f"  set aside: {', '.join(job.set_aside)}")
    if job.neutral:
        lines.append(f"  without effect on time and memory: {', '.join(job.neutral)}")
    return "\n".join(lines)
