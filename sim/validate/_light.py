"""What no serving engine can beat: a model on a machine at the speed of light, for measured rows to be checked with."""

import math

from hw_models.calibration.odd_rows import OddRows
from kernels.errors import InputError

TOO_FAST = 10.0  # times the speed of light: another unit, not a measurement
TOO_SLOW = 100.0  # times our simulation of a time a token: likewise


def light_s(
    model: str, system: str, num_device: int, prompt_token: int, weight_format: str = "bf16"
) -> tuple[float, float]:
    """Least seconds to the first token of a prompt, and of one decoding step, on `num_device` devices at once.

    The prompt's multiplies at the best peak rate; a token's weights, the embedding and the head left out, once through
    device memory. Attention, collectives and the host take nothing. Zero where the weights may stay in the second-level
    cache; an `InputError` for an unknown model, machine or format.

    13 TFLOP at 989 TFLOP/s, and 13 GB at 3.35 TB/s:

    >>> first, step = light_s("llama-2-7b", "h100_sxm", 1, 1000)
    >>> round(first * 1e3, 1), round(step * 1e3, 1)
    (13.1, 3.9)
    """
    from hw_models import catalog
    from sim.validate._published_names import known_model, known_system
    from workloads import formats, models

    spec = models.load(known_model(model))
    device = catalog.system(known_system(system)).device
    kept = formats.of(spec, weight_format)
    byte = min(kept.weight_byte(part) for part in ("attention", "ffn", "expert"))
    weight = max(models.num_active_param(spec) - 2 * spec.vocab * spec.hidden, 0)
    if weight * byte < num_device * device.l2_byte:
        return 0.0, 0.0
    pipes = ("bf16", "fp8", "fp4") if byte < 2.0 else ("bf16", "fp16")
    peak = max(device.peak(pipe) for pipe in pipes)
    step_s = weight * byte / (num_device * device.mem_byte_per_s)
    return max(step_s, 2.0 * weight * prompt_token / (num_device * peak)), step_s


def note_light(odd: OddRows, row: int, field: str, seconds: float, least_s: float) -> bool:
    """Whether `seconds` beat `least_s` tenfold, noted as an odd row; NaN passes."""
    if not seconds * TOO_FAST < least_s:
        return False
    error = InputError(
        f"beats the speed of light of the machine {least_s / seconds:.0f} times", file=odd.file, line=row + 2,
        field=field, value=float(f"{seconds:.6g}"),
        allowed=f"at least {least_s / TOO_FAST:.3g} s (is the unit right?)",
    )  # fmt: skip
    odd.add(row, f"{field}: beats the speed of light of the machine (is the unit right?)", error)
    return True


def note_slow(odd: OddRows, row: int, field: str, seconds: float, ours_s: float) -> bool:
    """Whether `seconds` are a hundred times what a simulation takes, noted as an odd row; NaN passes."""
    if not (math.isfinite(seconds) and seconds > TOO_SLOW * ours_s):
        return False
    error = InputError(
        f"{TOO_SLOW:.0f} times slower than the machine is", file=odd.file, line=row + 2, field=field,
        value=float(f"{seconds:.6g}"), allowed=f"about {ours_s:.3g} s (is the unit right?)",
    )  # fmt: skip
    odd.add(row, f"{field}: {TOO_SLOW:.0f} times slower than the machine is (is the unit right?)", error)
    return True
