"""The records of a run: one row a request, one a step, one an operator. This file documents the results.

The engine fills integer arrays (picoseconds, nanojoules); `request_frame`, `step_frame` and `operator_frame` turn
them into DataFrames in SI units, whose columns `REQUEST_COLUMNS`, `STEP_COLUMNS` and `OPERATOR_COLUMNS` describe.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kernels.optable import BOUNDS, KINDS
from kernels.units import NJ_PER_J, PS_PER_S

Ints = npt.NDArray[np.int64]

STATUS: tuple[str, ...] = ("finished", "refused", "unfinished")

REQUEST_COLUMNS: dict[str, str] = {
    "request": "index in the load, in order of arrival",
    "status": "finished; refused (it can never run, see reason); unfinished (the run ended first; see reason)",
    "reason": "why it was refused or given up; empty otherwise",
    "replica": "replica that served it; -1 where none did",
    "priority": "0 is the most urgent",
    "arrival_s": "when it arrived; of a chained request, when it became available",
    "scheduled_s": "when its first computation began; NaN where it never did",
    "first_token_s": "when its first output token was there",
    "last_token_s": "when its last output token was there",
    "finish_s": "when it left the system (after last_token_s where a batch is held together)",
    "prompt_token": "prompt tokens",
    "output_token": "output tokens that it asked for",
    "committed_token": "output tokens that it got",
    "cached_token": "prompt tokens found in the prefix cache when it was first admitted",
    "num_preemption": "times that it lost its KV or was moved out",
    "queue_s": "scheduled_s - arrival_s",
    "ttft_s": "time to first token: first_token_s - arrival_s",
    "e2e_s": "end-to-end latency: finish_s - arrival_s",
    "tpot_s": "time per output token: (e2e_s - ttft_s) / (committed_token - 1); NaN for a single token",
}

STEP_COLUMNS: dict[str, str] = {
    "replica": "replica",
    "lane": "pipeline lane: batches in flight at once take turns",
    "start_s": "when the step began",
    "end_s": "when its tokens were there",
    "num_prefill": "sequences in prefill",
    "num_decode": "sequences in decode",
    "num_idle": "sequences computed beside the others that commit nothing (request-level batching)",
    "prefill_token": "prompt tokens computed",
    "pad_token": "padding tokens computed",
    "num_sampled": "tokens sampled",
    "moved_block": "KV blocks swapped to or from host memory",
    "used_block": "KV blocks held by sequences after planning",
    "cached_block": "KV blocks kept only for the prefix cache",
    "kv_token": "tokens whose KV running sequences hold",
    "num_running": "sequences admitted",
    "num_waiting": "requests queued at this replica",
    "energy_j": "energy of all devices of the replica",
}

OPERATOR_COLUMNS: dict[str, str] = {
    "operator": "name in the model (qkv_proj, attn_decode, ...)",
    "kind": "kernel that priced it",
    "bound": "what bound it: launch, compute, memory, link, latency, host; pim compute, pim memory inside the memory",
    "time_s": "time on one device of a replica, summed over repetitions, steps and replicas",
    "energy_j": "energy of all devices",
}

TOTALS: dict[str, str] = {
    "num_step": "engine iterations, all replicas",
    "num_replica": "replicas",
    "num_device": "devices, all replicas",
    "busy_s": "time in steps, summed over replicas (of the busiest pipeline stage)",
    "energy_j": "energy of all devices, idle time included: the sum of the parts that follow",
    "energy_idle_j": "idle power of all devices",
    "energy_xpu_j": "main engines and their caches",
    "energy_memory_j": "memory read and written through its pins",
    "energy_pim_j": "arithmetic of units in the memory",
    "energy_pim_memory_j": "memory read by those units",
    "energy_link_j": "links between devices",
    "peak_power_w": "of the operator that draws most, on all devices of a stage",
    "kv_block": "KV blocks of a replica",
    "kv_block_token": "tokens a KV block",
    "kv_mean_share": "time average of the share of KV blocks held by sequences",
    "kv_peak_share": "largest share of KV blocks held by sequences",
    "kv_token_share": "time average of sequence tokens over KV slots held; above 1 where a prefix is shared",
    "num_computed_token": "token positions computed, padding and recomputation included",
    "num_preemption": "preemptions",
    "usd_per_h": "rent of all devices; NaN where no price is known",
}


@dataclass(frozen=True, eq=False)
class Run:
    """A finished simulation: records, totals (`TOTALS`), and what was run (`provenance`)."""

    requests: pd.DataFrame  # REQUEST_COLUMNS
    totals: Mapping[str, float]
    about: Mapping[str, Any] = field(default_factory=dict)
    operators: pd.DataFrame | None = None  # OPERATOR_COLUMNS
    steps: pd.DataFrame | None = None  # STEP_COLUMNS, where recorded
    gap_edge_s: npt.NDArray[np.float64] | None = None  # [bucket + 1] edges of times between two tokens
    gap_count: Ints | None = None  # [bucket]


def seconds(picoseconds: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Integer picoseconds as seconds; what never happened (below 0) is NaN.

    >>> seconds([1_500_000_000_000, -1]).tolist()
    [1.5, nan]
    """
    values = np.asarray(picoseconds, np.int64)
    return np.where(values < 0, np.nan, values / PS_PER_S)


def request_frame(
    *,
    arrival_ps: npt.ArrayLike,
    scheduled_ps: npt.ArrayLike,
    first_token_ps: npt.ArrayLike,
    last_token_ps: npt.ArrayLike,
    finish_ps: npt.ArrayLike,
    prompt_token: npt.ArrayLike,
    output_token: npt.ArrayLike,
    committed_token: npt.ArrayLike,
    cached_token: npt.ArrayLike,
    num_preemption: npt.ArrayLike,
    priority: npt.ArrayLike,
    replica: npt.ArrayLike,
    status: npt.ArrayLike,
    reason: npt.ArrayLike,
    reasons: Sequence[str],
) -> pd.DataFrame:
    """Request records (`REQUEST_COLUMNS`) from arrays of one entry a request.

    Times are picoseconds, -1 for what never happened; `status` indexes `STATUS`, `reason` indexes `reasons`.
    """
    clock = {
        "arrival_s": seconds(arrival_ps),
        "scheduled_s": seconds(scheduled_ps),
        "first_token_s": seconds(first_token_ps),
        "last_token_s": seconds(last_token_ps),
        "finish_s": seconds(finish_ps),
    }
    arrival, first, finish = (np.asarray(values, np.int64) for values in (arrival_ps, first_token_ps, finish_ps))
    committed = np.asarray(committed_token, np.int64)
    done = np.asarray(status) == STATUS.index("finished")
    ttft = seconds(np.where(first < 0, -1, first - arrival))
    e2e = seconds(np.where(done, finish - arrival, -1))
    scheduled = np.asarray(scheduled_ps, np.int64)
    many = done & (committed > 1)
    tpot = np.where(many, (finish - first) / (np.maximum(committed - 1, 1) * PS_PER_S), np.nan)
    columns = {
        "request": np.arange(len(arrival)),
        "status": _named(status, STATUS),
        "reason": _named(reason, reasons),
        "replica": np.asarray(replica, np.int32),
        "priority": np.asarray(priority, np.int8),
        **clock,
        "prompt_token": np.asarray(prompt_token, np.int32),
        "output_token": np.asarray(output_token, np.int32),
        "committed_token": committed.astype(np.int32),
        "cached_token": np.asarray(cached_token, np.int32),
        "num_preemption": np.asarray(num_preemption, np.int32),
        "queue_s": seconds(np.where(scheduled < 0, -1, scheduled - arrival)),
        "ttft_s": ttft,
        "e2e_s": e2e,
        "tpot_s": tpot,
    }
    return pd.DataFrame({name: columns[name] for name in REQUEST_COLUMNS})


def _named(codes: npt.ArrayLike, names: Sequence[str]) -> Any:
    return pd.Categorical.from_codes(np.asarray(codes, np.int64), pd.Index(list(names)))


def step_frame(table: Ints, names: Sequence[str]) -> pd.DataFrame:
    """Step records (`STEP_COLUMNS`) from the engine's integer table [step, column] and its column names."""
    columns: dict[str, Any] = {}
    for index, name in enumerate(names):
        if name.endswith("_ps"):
            columns[name.removesuffix("_ps") + "_s"] = table[:, index] / PS_PER_S
        elif name.endswith("_nj"):
            columns[name.removesuffix("_nj") + "_j"] = table[:, index] / NJ_PER_J
        else:
            columns[name] = table[:, index]
    return pd.DataFrame({name: columns[name] for name in STEP_COLUMNS})


def operator_frame(
    operator: Sequence[str], kind: npt.ArrayLike, bound: npt.ArrayLike, time_ps: npt.ArrayLike, energy_nj: npt.ArrayLike
) -> pd.DataFrame:
    """Operator records (`OPERATOR_COLUMNS`), rows of one operator and bound added up, the longest first.

    `kind` and `bound` are codes of `kernels.optable`; a kind of -1 is the host.
    """
    frame = pd.DataFrame(
        {
            "operator": list(operator),
            "kind": ["host" if code < 0 else KINDS[code] for code in np.asarray(kind)],
            "bound": [BOUNDS[code] for code in np.asarray(bound)],
            "time_s": np.asarray(time_ps) / PS_PER_S,
            "energy_j": np.asarray(energy_nj) / NJ_PER_J,
        }
    )
    total = frame.groupby(["operator", "kind", "bound"], sort=False, as_index=False).sum()
    total = total[total["time_s"] > 0]
    return total.sort_values(["time_s", "operator"], ascending=[False, True]).reset_index(drop=True)
