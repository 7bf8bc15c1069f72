"""What a run of a model with recurrent layers says of them: what is not shared, and whose kernels price them."""

from collections.abc import Sequence

from hw_models.device import calibration
from hw_models.spec import Device
from kernels.optable import KINDS
from sim.serving.limits import Limits, finds_state
from sim.serving.plugin import Plugin
from sim.serving.scan_price import ScanRow
from workloads.requests import Requests


def recurrent_notes(
    scans: Sequence[ScanRow], policy: Plugin, limits: Limits, load: Requests, device: Device, calibrated_on: str
) -> list[str]:
    """Sentences; none for a model of attention alone. KV in one piece is said of the policy (`sim.run.effect`).
    `calibrated_on` is empty at the speed of light."""
    said = []
    if limits.has_state and limits.prefix_cache and len(load.unit_id) and "reserve" not in policy.value:
        why = "recurrent layers keep the state of a sequence's last token alone"
        if limits.rules.finds_state and not finds_state(policy):
            why = f"policy {policy.name} ends no chunk where states of recurrent layers can be found (FINDS_STATE)"
        said.append(f"prefixes are not shared: {why}")
    if limits.found_state is not None and len(load.unit_id):
        said.append(f"prefixes are shared in blocks of {limits.block_token} tokens, up to where a state lies")
    if scans and calibrated_on:
        fitted = calibration(device)[0]
        kinds = dict.fromkeys(KINDS[kind] for row in scans for kind in row.kind if kind >= 0)
        found = {kind: fitted.find(kind, "bf16") for kind in kinds}
        parts = [
            f"{kind} as a copy (nobody measured one)" if kernel is None else f"{kind} by {kernel.name}"
            + ("" if kernel.held_out else ", inherited")
            for kind, kernel in found.items()
        ]  # fmt: skip
        layers = ", ".join(dict.fromkeys(type(row.mixer).__name__.lower() for row in scans))
        said.append(f"recurrent layers ({layers}) are priced with the constants of {'; '.join(parts)}")
    return said
