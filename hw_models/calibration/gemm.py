"""What is sought of a GEMM kernel: start values, bounds, and the variants that libraries come in.

Bounds are physical: a launch takes 1 to 10 us; a k loop runs at 40 % to 110 % of the dense peak (a boost clock
above the one that the peak is quoted at); memory gives half to all of its datasheet rate.
"""

from collections.abc import Mapping

from hw_models.calibration.fit import Parameter
from kernels.gemm import GEMM_FIT

WEIGHT_COPY = 6.0  # weight tensors that the operator benchmark rotates through, so that L2 holds few of them
EAGER_S = 20e-6  # no launch inside a CUDA graph is as long: a data set whose shortest row is longer ran eagerly

SOUGHT: dict[str, Parameter] = {
    p.name: p
    for p in (
        Parameter("launch_s", 2.5e-6, 1e-6, 1e-5),
        Parameter("compute_eff", 1.0, 0.4, 1.1),
        Parameter("mem_eff", 0.85, 0.5, 1.0),
        Parameter("p", 4.0, 4.0, 4.0),  # 4 needs two square roots; free exponents gained 0.1 % or less
        Parameter("step_s", 8e-10, 1e-11, 1e-8),
        Parameter("core_byte_per_s", 2e11, 1e10, 1e12),
        Parameter("write_byte_per_s", 3e10, 5e9, 5e11),
        Parameter("split_s", 2.7e-6, 1e-7, 1e-5),
        Parameter("tail", 0.6, 0.0, 1.0, linear=True),
        Parameter("throttle", 0.1, 0.001, 1.0),
        Parameter("l2_share", 0.45, 0.1, 1.0),
        Parameter("l2_byte_per_s", 5e12, 1e12, 3e13),
        Parameter("tile_rule", 1.0, 1.0, 1.0),
        Parameter("row_s", 0.0, 0.0, 0.0),
        Parameter("row_byte_per_s", 1e12, 1e12, 1e12),
        Parameter("weight_copy", WEIGHT_COPY, WEIGHT_COPY, WEIGHT_COPY),
        Parameter("host_s", 0.0, 0.0, 0.0),
    )
}
assert tuple(SOUGHT) == GEMM_FIT

QUANTISED = {  # activations are quantised by a kernel of their own before the multiply
    "launch_s": Parameter("launch_s", 4.8e-6, 1e-6, 1e-5),
    "row_s": Parameter("row_s", 5e-9, 1e-11, 2e-8),
    "row_byte_per_s": Parameter("row_byte_per_s", 2e12, 5e11, 2e13),
}
BY_M = {"tile_rule": Parameter("tile_rule", 2.0, 2.0, 2.0), "split_s": Parameter("split_s", 0.0, 0.0, 0.0)}


def held(name: str, value: float) -> Parameter:
    """A parameter that is not sought."""
    return Parameter(name, value, value, value)


def variants(narrow: bool, shortest_s: float, relative: Mapping[str, float] | None = None) -> list[list[Parameter]]:
    """Parameter lists to try. `narrow`: activations are stored in 8 bits or fewer. `relative`: constants of the
    nearest calibrated kernel, which then are the start and a prior."""
    changes: list[dict[str, Parameter]] = [{}]
    if narrow:
        changes = [QUANTISED, {**QUANTISED, **BY_M}]
    if shortest_s > EAGER_S:  # kernels hide behind the host: what hides is not sought
        launch = {"launch_s": held("launch_s", QUANTISED["launch_s"].start)}
        host = {"host_s": Parameter("host_s", shortest_s * 1.1, shortest_s * 0.7, shortest_s * 2.0)}
        changes = [{**change, **launch, **host} for change in changes]
    lists = [[change.get(name, p) for name, p in SOUGHT.items()] for change in changes]
    if relative is not None:
        lists = [[with_prior(p, relative) for p in parameters] for parameters in lists]
    return lists


PRIOR = 0.4  # constants of two generations differ by half


def with_prior(p: Parameter, relative: Mapping[str, float]) -> Parameter:
    """A sought parameter that starts from a relative's value and is drawn to it."""
    if p.low == p.high or not p.low <= relative.get(p.name, p.low - 1.0) <= p.high:
        return p
    return Parameter(p.name, relative[p.name], p.low, p.high, p.linear, PRIOR)
