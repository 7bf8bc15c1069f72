"""Ridgeline: what would this model, this load and this policy do on that hardware?

Everything that the command line does is one function here; it returns frames, or a result that holds frames.

    import ridgeline

    done = ridgeline.simulate(ridgeline.Scenario(model="llama-3-8b", system="h100_sxm", requests="conversation:n=1000"))
    done.metrics["p99_ttft_ms"], done.run.requests          # a number; a row a request

    ridgeline.train("llama-2-7b", "dgx_a100", ridgeline.TrainPlan(tp=2, dp=4, batch=64)).summary["step_s"]
    ridgeline.plan("gpt3-175b", "dgx_a100", 256, 1536)       # a row a plan, the fastest first
    ridgeline.study("two-bp")                                # a row a claim, paper against simulated

| to... | call | the result |
|---|---|---|
| describe a run | `Scenario(...)` | validated fields |
| read a `vllm serve` line | `scenario_from("vllm", "vllm serve ...")` | a `Scenario` |
| serve a load | `simulate(scenario)` | `.metrics`, `.run.requests`, `.run.operators` |
| find the largest rate | `capacity(scenario)` | requests/s, and a frame of the rates tried |
| put scenarios side by side | `compare([a, b])` | a frame, a column a scenario |
| know what moved since a baseline was recorded | `regress("guard.json")` | a verdict a scenario: `.moved`, `.causes` |
| run a scenario at many points | `sweep(scenario, over={"seed": range(40)}, store="rows")` | a frame, a row a point |
| choose machines for a load | `recommend(scenario, 1.0, 0.06)` | `.frame`, a row a candidate; `.frontier` |
| draw what these two found | `pareto(frame)` | a figure: tokens/s a user against a GPU's, $, joules |
| place operators under the roofs | `roofline(scenario)` | frames of operators and roofs |
| serve programs that probe and stop | `simulate_programs(scenario, "chain_of_thought")` | `.programs`, `.summary` |
| scale, drain and lose replicas | `simulate_operation(scenario, Operation(scaler="rate"))` | `.summary`, `.events` |
| likewise pools that prefill and decode | `simulate_pools_operation(scenario, {"dp": 2}, {"dp": 4})` | the same |
| several pools that each do both | `simulate_mixed_operation(scenario, [{"dp": 2}, {"dp": 4}])` | the same |
| share a model out over device, host and disk | `offload("opt-30b", "n1_t4", find=True)` | `.policy`, `.summary` |
| time a batch for an engine that simulates itself | `predictor.BatchTime(model, system).seconds(batch)` | seconds |
| price a training step | `train(model, system, TrainPlan(...))` | `.summary`, `.memory`, `.stage`, `.op` |
| price a job of Megatron-LM, torchtitan or DeepSpeed | `train_job("run.sh", system)` | as `train` |
| search training plans | `plan(model, system, gpus, batch)` | a frame, a row a plan |
| replay a pipeline schedule | `schedule("zb-v", 4, 8)` | `.op`, `.rank`, `.summary` |
| read or draw a load | `load_requests("poisson:rate=2,n=100")` | arrays of requests |
| list machines | `devices()`, `nodes()`, `links()` | frames |
| list what else there is | `models()`, `policies()`, `schedules()`, `studies()` | frames |
| compare with measurements | `validate("ops", folder, system="h100_sxm")` | a frame of errors |
| know the shipped errors | `accuracy()`, `accuracy("energy")` | a frame |
| run a published headline | `study("two-bp")`, `study("my_study.py")` | a frame, a row a claim |

Units are SI and stand in the names (`mem_byte_per_s`, `energy_j`). Bad input is an `InputError` that names the field,
the value and what is allowed. Importing this module loads nothing heavy; each name loads what it needs when it is used.
"""

import importlib
import importlib.util
import pathlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from hw_models.describe import devices, links, nodes
    from kernels.errors import InputError
    from sim.cluster.operation import Operation, PoolsOperation
    from sim.cluster.simulate_mixed_operation import simulate_mixed_operation
    from sim.cluster.simulate_operation import simulate_operation
    from sim.cluster.simulate_pools_operation import simulate_pools_operation
    from sim.cluster.simulate_programs import simulate_programs
    from sim.offload.simulate import offload
    from sim.recommend.recommend import recommend
    from sim.regress.run import regress
    from sim.run import predictor
    from sim.run.capacity import capacity
    from sim.run.compare import compare
    from sim.run.scenario import Scenario
    from sim.run.simulate import Simulation, simulate
    from sim.run.study import studies, study
    from sim.show.pareto import pareto
    from sim.show.roofline import roofline
    from sim.sweep.sweep import sweep
    from sim.training.job import train_job
    from sim.training.step import TrainResult, train
    from workloads.load import load_requests
    from workloads.training import TrainPlan

_HOME = {
    "InputError": "kernels.errors", "Scenario": "sim.run.scenario", "Simulation": "sim.run.simulate",
    "TrainPlan": "workloads.training", "TrainResult": "sim.training.step", "capacity": "sim.run.capacity",
    "compare": "sim.run.compare", "devices": "hw_models.describe", "links": "hw_models.describe",
    "load_requests": "workloads.load", "nodes": "hw_models.describe", "offload": "sim.offload.simulate",
    "pareto": "sim.show.pareto",
    "recommend": "sim.recommend.recommend", "regress": "sim.regress.run",
    "roofline": "sim.show.roofline", "simulate": "sim.run.simulate",
    "Operation": "sim.cluster.operation", "simulate_operation": "sim.cluster.simulate_operation",
    "PoolsOperation": "sim.cluster.operation", "simulate_pools_operation": "sim.cluster.simulate_pools_operation",
    "simulate_mixed_operation": "sim.cluster.simulate_mixed_operation",
    "simulate_programs": "sim.cluster.simulate_programs",
    "studies": "sim.run.study", "study": "sim.run.study", "sweep": "sim.sweep.sweep",
    "train": "sim.training.step", "train_job": "sim.training.job",
}  # fmt: skip
"""Where each name that is imported on first use lives."""

_MODULES = {"predictor": "sim.run.predictor"}
"""Modules of this package by their short names."""

__all__ = [
    "InputError", "Operation", "PoolsOperation", "Scenario", "Simulation", "TrainPlan", "TrainResult", "accuracy",
    "capacity", "compare", "devices", "links", "load_requests", "main", "models", "nodes", "offload", "pareto", "plan",
    "policies", "predictor", "recommend", "regress", "roofline", "scenario_from", "schedule", "schedules", "simulate",
    "simulate_mixed_operation", "simulate_operation", "simulate_pools_operation", "simulate_programs", "studies",
    "study", "sweep", "train", "train_job", "validate",
]  # fmt: skip

PACKAGES = ("kernels", "hw_models", "workloads", "sim", "studies")


def __getattr__(name: str) -> Any:
    if name not in _HOME and name not in _MODULES:
        raise AttributeError(f"module 'ridgeline' has no attribute {name!r}")
    value = importlib.import_module(_MODULES.get(name) or _HOME[name])
    value = value if name in _MODULES else getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES})


class _Room(types.ModuleType):
    """What `from ridgeline.NAME import ...` finds: a module of `_MODULES`, loaded when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        return getattr(importlib.import_module(_MODULES[self.__name__.rpartition(".")[2]]), name)


sys.modules.update({f"ridgeline.{name}": _Room(f"ridgeline.{name}") for name in _MODULES})


def models() -> "pd.DataFrame":
    """The ready models, a row each: parameters, layers, heads, bytes of weights and of KV a token, context."""
    import pandas as pd

    from sim.commands.models import describe
    from workloads.models import names

    return pd.DataFrame([describe(name) for name in names()])


def policies() -> "pd.DataFrame":
    """Scheduling policies and routers: `kind, name, help, compiled, options`."""
    import pandas as pd

    from sim.serving.listing import plugin_rows

    return pd.DataFrame(plugin_rows())


def plan(
    model: str, system: str, gpus: int, batch: int, *, space: str = "schedules", seq: int = 2048, max_tp: int = 64,
    number_format: str = "bf16", stack: str | None = None, top: int = 10,
) -> "pd.DataFrame":  # fmt: skip
    """The `top` fastest training plans that fit `gpus` devices with `batch` sequences a step, replayed exactly: a row a
    plan, its axes, `step_s`, `peak_byte`, `mfu`, `step_usd`. `space` is "schedules" or "execution" (Calculon's axes).

    Raises `InputError` where no plan fits.
    """
    from hw_models import catalog
    from sim.training.search import exhaustive, replay_best
    from sim.training.space import named_space
    from sim.training.stack import default_stack, load_stack

    one = named_space(space, gpus, batch, seq=seq, max_tp=max_tp, cps=(1,))
    constants = load_stack(stack or default_stack(catalog.system(system, gpus).device.name))
    best, _, _ = exhaustive(model, system, one, stack=constants, top=top, number_format=number_format)
    return replay_best(best, model, system, one, constants, number_format)


def scenario_from(engine: str, command: str, **fields: Any) -> "Scenario":
    """The scenario of a serving engine's own command line (`engine`: vllm, sglang, trtllm); `fields` say what it does
    not (`system`, `requests`, ...). A flag that is not simulated is an `InputError` that names it.

    >>> scenario_from("vllm", "vllm serve Qwen/Qwen3-32B -tp 2 --max-num-seqs 64", system="h100_sxm").tp
    2
    """
    from sim.run.front import read_command
    from sim.run.scenario import from_mapping

    front = read_command(engine, command, fields)
    with front.named():
        return from_mapping(front.fields_with(fields))


def schedule(name: str, stages: int | None = None, microbatches: int | None = None, **option: Any) -> Any:
    """Replay a pipeline schedule by name, Python file or torch CSV: `.op` (an operation a row), `.rank`, `.summary`
    (makespan, bubbles, peak memory). Options: `times` (forward, input gradient, weight gradient; integers), `hop`,
    `memory`, `recompute`, `overlap_time`, and the schedule's own (`num_chunk`, `limit`).

    >>> schedule("1f1b", 4, 8).summary["makespan"]  # (m + p - 1)(F + B)
    33
    """
    from sim.pipeline.schedule_run import simulate_schedule

    return simulate_schedule(name, stages, microbatches, **option)[1]


def schedules() -> "pd.DataFrame":
    """The pipeline schedules that ship: `name, help`."""
    import pandas as pd

    from workloads.schedules import catalogue

    return pd.DataFrame([{"name": name, "help": one.help} for name, one in catalogue().items()])


def validate(what: str, path: str, **option: Any) -> "pd.DataFrame":
    """Compare with measurements: `what` is a verb of `ridgeline validate` (ops, layers, serving, steps, offline,
    points, power, schedules, training), `path` its file or folder, options those of its function (`system`, `engine`).
    A row a kind and group: `n`, `coverage`, `mape`, `median`, `p90`, `bias`, errors as fractions."""
    import pandas as pd

    from kernels.errors import InputError
    from sim import validate as room

    known = sorted(file.stem for file in pathlib.Path(room.__path__[0]).glob("[a-z]*.py"))
    if what not in known:
        raise InputError("no such comparison", field="what", value=what, allowed=known)
    found = getattr(importlib.import_module(f"sim.validate.{what}"), f"validate_{what}")(path, **option)
    return pd.DataFrame(found[0] if isinstance(found, tuple) else found)


def accuracy(what: str = "kernels") -> "pd.DataFrame":
    """Errors of what ships on what its fits have not seen: of `kernels`, a row an operator and device; of `engines`, a
    row a profile; of `energy`, a row a source of watts; of `inherited`, a row a machine that a relative's calibration
    prices, and kind; of `training`, a row a stack."""
    from hw_models.accuracy import held_out
    from kernels.errors import InputError
    from sim.reference import engine_accuracy, inherited_accuracy, power_accuracy
    from sim.training import accuracy as training_accuracy

    found = {
        "kernels": held_out, "engines": engine_accuracy.left_out, "energy": power_accuracy.stated,
        "inherited": inherited_accuracy.stated, "training": training_accuracy.stated,
    }  # fmt: skip
    if what not in found:
        raise InputError("no such table", field="what", value=what, allowed=list(found))
    return found[what]()


def main() -> int:
    """The `ridgeline` command; it does not start where what it needs has been replaced."""
    if _said and not _said.startswith(_WORKS):
        return 2
    from sim.cli import main as command

    return command()


def _misplaced() -> str:
    """Whether the packages that Python would import are Ridgeline's: their names are generic (`kernels` is a package of
    the field too), and two distributions of one name overwrite each other's files. What is wrong, or nothing."""
    home = pathlib.Path(__file__).resolve().parent
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
        if origin is None or pathlib.Path(origin).resolve() != home / name / "__init__.py":
            return f"`import {name}` finds {origin or 'nothing'}, which is not Ridgeline's"
    own: dict[str, str] = {}
    others: dict[str, dict[str, str]] = {}
    for folder in home.glob("*.dist-info"):
        record = folder / "RECORD"
        if not record.is_file():
            continue
        lines = [line.split(",") for line in record.read_text("utf-8", "replace").splitlines()]
        found = {one[0]: one[1] for one in lines if len(one) == 3 and one[0] in _INITS}
        if folder.name.startswith("ridgeline-"):
            own = found
        elif found:
            others[folder.name.split("-")[0]] = found
    for file, digest in own.items():
        if digest and digest != _digest(home / file):
            other = next((name for name, found in others.items() if file in found), "another package")
            return f"{other} has replaced Ridgeline's {file}"
    for other, found in others.items():
        if own:
            return f"{_WORKS} {other}'s {next(iter(found))}: {other} is broken here"
    return ""


_WORKS = "Ridgeline has replaced"  # and is whole itself
_INITS = frozenset(f"{name}/__init__.py" for name in PACKAGES)


def _digest(file: pathlib.Path) -> str:
    """As a wheel's record writes it."""
    import base64
    import hashlib

    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()


_said = _misplaced()
if _said:
    _remedy = "install Ridgeline in an environment of its own (python -m venv) and there again"
    print(f"ridgeline: {_said}; {_remedy}", file=sys.stderr)

if __name__ == "__main__":  # `python -m ridgeline`
    sys.exit(main())
