"""A model on one device that may be too small for it: the best policy, or a given one, predicted and replayed."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hw_models import catalog
from hw_models.device import best_fidelity, machine
from kernels.errors import InputError
from kernels.machine import Machine
from sim.offload.cost import ENGINES, Predicted, Shape, at, memory_forms, predict
from sim.offload.policy import TENSORS, TIERS, BlockPolicy
from sim.offload.rates import TierRates, rates
from sim.offload.replay import Replayed, replay
from sim.offload.search import BATCHES, search
from sim.offload.work import Layer, layers, working_byte
from workloads import formats as number_formats
from workloads import models
from workloads.formats import Formats
from workloads.models.spec import ModelSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Offload:
    """A model, a machine and lengths: policies are tried on it.

    `fidelity`: "sol" or "calibrated", of the device's kernels; `stack`: rates of the software that moves the tensors
    (`sim.offload.rates`); `tier` stands in for the machine's own rates where given.
    """

    model: ModelSpec
    formats: Formats
    machine: Machine
    tier: TierRates
    shape: Shape

    def layers(self, policy: BlockPolicy) -> tuple[Layer, ...]:
        """What a policy's layers hold and take."""
        shape = self.shape
        return layers(self.model, self.formats, self.machine, policy, shape.prompt, shape.output, shape.keep)

    def working(self, policy: BlockPolicy) -> float:
        """Bytes that a batch computes with on the device."""
        return working_byte(self.model, self.formats, policy, self.shape.prompt)

    @property
    def limit(self) -> Any:
        """Bytes of device, host and disk."""
        return np.array([self.tier.device_byte, self.tier.host_byte, self.tier.disk_byte])

    def predict(self, policy: BlockPolicy) -> Predicted:
        """What the cost model says of a policy."""
        return predict(self.layers(policy), policy, self.tier, self.shape, self.working(policy))

    def replay(self, policy: BlockPolicy) -> Replayed:
        """The policy's schedule, unit by unit."""
        return replay(self.layers(policy), policy, self.tier, self.shape)

    def need(self, policy: BlockPolicy) -> Any:
        """Bytes of device, host and disk that a policy takes."""
        return at(memory_forms(self.layers(policy), policy, self.shape, self.working(policy)), policy)

    def check(self, policy: BlockPolicy) -> None:
        """`InputError` where a policy does not fit, with the tier that it overfills."""
        for name, need, have in zip(TIERS, self.need(policy), self.limit, strict=True):
            if need > have * (1 + 1e-9):
                raise InputError(f"does not fit the {name}", field="policy", value=f"{need / 1e9:.2f} GB",
                                 allowed=f"at most {have / 1e9:.2f} GB")  # fmt: skip

    def search(
        self, start: BlockPolicy, limit: Any = None, batches: Sequence[int] = BATCHES, num_batches: Sequence[int] = ()
    ) -> BlockPolicy:
        """The fastest policy within `limit` bytes of each tier (the machine's where not given)."""
        found = search(
            start, lambda policy: (self.layers(policy), self.working(policy)), self.tier, self.shape,
            self.limit if limit is None else limit, batches=batches, num_batches=num_batches,
        )  # fmt: skip
        return found.policy


def prepare(
    model: str, system: str, prompt: int, output: int, *, fidelity: str = "calibrated", stack: str = "sol",
    weight_format: str = "fp16", tier: TierRates | None = None, keep: int = 0,
) -> Offload:  # fmt: skip
    """Resolves the names of an offloading run; `InputError` says what is unknown or does not fit. `keep`: tokens of
    which a sequence keeps keys and values, chosen by attention (H2O); 0: all."""
    spec = models.load(model)
    box = catalog.system(system, 1)
    if fidelity == "calibrated" and best_fidelity(box.device) == "sol":
        raise InputError(f"{box.device.name} has no calibration", field="fidelity", value=fidelity, allowed="sol")
    formats = number_formats.of(spec, weight_format, "auto")
    return Offload(spec, formats, machine(box, fidelity), tier or rates(box, stack), Shape(prompt, output, keep))


@dataclasses.dataclass(frozen=True, eq=False)
class OffloadRun:
    """A policy, what the cost model says of it, and its replay."""

    policy: BlockPolicy
    predicted: Predicted
    replayed: Replayed
    need_byte: tuple[float, ...]
    limit_byte: tuple[float, ...]

    def __repr__(self) -> str:
        return f"<OffloadRun: blocks of {self.policy.block} sequences, {self.replayed.token_per_s:,.4g} tokens/s>"

    def _repr_html_(self) -> str:
        from sim.show.tables import html_frame

        return html_frame(repr(self).strip("<>"), self.summary, top=30)

    @property
    def summary(self) -> "pd.DataFrame":
        """A row a number, with its unit."""
        import pandas as pd

        p, r = self.predicted, self.replayed
        rows: list[tuple[str, float, str]] = [
            ("sequences of a block", self.policy.block, ""),
            ("predicted", p.total_s, "s"), ("replayed", r.total_s, "s"),
            ("replayed / predicted", r.total_s / p.total_s, ""),
            ("predicted throughput", p.token_per_s, "tok/s"), ("throughput", r.token_per_s, "tok/s"),
            ("prompts", r.token_end_ps[0] / 1e12, "s"),
        ]  # fmt: skip
        rows += [
            (f"{name} busy", busy / r.total_ps, "of the time") for name, busy in zip(ENGINES, r.busy_ps, strict=True)
        ]
        for name, need, have in zip(TIERS, self.need_byte, self.limit_byte, strict=True):
            rows.append((f"{name} memory", need / 1e9, f"GB of {have / 1e9:.1f}"))
        return pd.DataFrame(rows, columns=["figure", "value", "unit"])

    @property
    def placement(self) -> "pd.DataFrame":
        """Shares of each tensor on each tier."""
        import pandas as pd

        rows = [{"tensor": name, **dict(zip(TIERS, getattr(self.policy, name), strict=True))} for name in TENSORS]
        return pd.DataFrame(rows)


def offload(
    model: str, system: str, *, prompt: int = 512, output: int = 32, policy: BlockPolicy | None = None,
    find: bool = False, fidelity: str = "calibrated", stack: str = "sol", weight_format: str = "fp16",
) -> OffloadRun:  # fmt: skip
    """Runs a model whose tensors are shared out over device, host and disk.

    `policy` as it is; or, with `find`, the fastest with its schedule and packing. The policy must fit.
    """
    run = prepare(model, system, prompt, output, fidelity=fidelity, stack=stack, weight_format=weight_format)
    chosen = policy or BlockPolicy()
    if find:
        chosen = run.search(chosen)
    run.check(chosen)
    need, limit = (tuple(map(float, values)) for values in (run.need(chosen), run.limit))
    return OffloadRun(chosen, run.predict(chosen), run.replay(chosen), need, limit)
