"""The records of a run: one row a request, one a step, one an operator. This file documents the results.

The engine fills integer arrays (picoseconds, nanojoules); `request_columns`, `step_columns` and `operator_columns` turn
them into columns in SI units, which `REQUEST`, `STEP_COLUMNS` and `OPERATOR_COLUMNS` describe; a run that only prints
makes no frame of them.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.optable import BOUNDS, KINDS
from kernels.units import NJ_PER_J, PS_PER_S
from sim.record.columns import Array, Coded, Columns

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]

STATUS: tuple[str, ...] = ("finished", "refused", "unfinished")


class Field(NamedTuple):
    """One column of the request records: what it means and where it comes from. A field is named here alone."""

    help: str
    source: str = ""  # the engine's column; a name that ends in _ps is a clock in picoseconds, -1: never
    since: str = ""  # an engine's clock that is subtracted
    dtype: type = np.int32
    names: tuple[str, ...] = ()  # of a column of codes
    finished: bool = False  # known of finished requests alone


REQUEST: dict[str, Field] = {
    "request": Field("index in the load, in order of arrival", dtype=np.int64),
    "status": Field("finished; refused (it can never run, see reason); unfinished (the run ended first; see reason)",
                    "status", names=STATUS),
    "reason": Field("why it was refused or given up; empty otherwise", "reason"),
    "replica": Field("replica that served it; -1 where none did", "replica"),
    "priority": Field("0 is the most urgent", "priority", dtype=np.int8),
    "arrival_s": Field("when it arrived; of a chained request, when it became available", "arrival_ps"),
    "scheduled_s": Field("when its first computation began; empty where it never did", "start_ps"),
    "first_token_s": Field("when its first output token was there", "first_token_ps"),
    "last_token_s": Field("when its last output token was there", "last_token_ps"),
    "finish_s": Field("when it left the system (after last_token_s where a batch is held together)", "end_ps"),
    "prompt_token": Field("prompt tokens", "prompt_token"),
    "output_token": Field("output tokens that it asked for", "output_token"),
    "committed_token": Field("output tokens that it got", "produced_token"),
    "cached_token": Field("prompt tokens found in the prefix cache when it was first admitted", "cached_token"),
    "num_verification": Field("steps that verified drafted tokens of it", "num_verify"),
    "drafted_token": Field("tokens verified in these steps beyond the next one", "drafted_token"),
    "accepted_token": Field("of these, committed", "accepted_token"),
    "num_preemption": Field("times that it lost its KV or was moved out", "num_preempted"),
    "queue_s": Field("scheduled_s - arrival_s", "start_ps", "arrival_ps"),
    "ttft_s": Field("time to first token: first_token_s - arrival_s", "first_token_ps", "arrival_ps"),
    "e2e_s": Field("end-to-end latency: finish_s - arrival_s", "end_ps", "arrival_ps", finished=True),
    "tpot_s": Field("time per output token: (e2e_s - ttft_s) / (committed_token - 1); empty for a single token"),
}  # fmt: skip
REQUEST_COLUMNS: dict[str, str] = {name: field.help for name, field in REQUEST.items()}

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
    "energy_idle_j": "all devices for being awake",
    "energy_xpu_j": "main engines and their caches",
    "energy_memory_j": "memory read and written through its pins",
    "energy_pim_j": "arithmetic of units in the memory",
    "energy_pim_memory_j": "memory read by those units",
    "energy_link_j": "links between devices",
    "span_s": "seconds over which joules are counted: from the clock's start, before the first arrival",
    "rest_j": "energy of host, switches, ports and fans: the devices' share of their box",
    "peak_power_w": "of the operator that draws most, on all devices of a stage",
    "kv_block": "KV blocks of a replica",
    "kv_block_token": "tokens a KV block",
    "kv_capacity_token": "tokens that the KV blocks of a replica hold",
    "kv_concurrency": "sequences of `max_model_len` tokens that a replica holds at once",
    "max_model_len": "longest prompt plus output of a sequence",
    "kv_mean_share": "time average of the share of KV blocks held by sequences",
    "kv_peak_share": "largest share of KV blocks held by sequences",
    "kv_token_share": "time average of sequence tokens over KV slots held; above 1 where a prefix is shared",
    "num_computed_token": "token positions computed, padding and recomputation included",
    "num_fetch": "adapters fetched from the host",
    "num_below_token": "tokens of prefixes found in tiers below the device's memory",
    "kv_wait_s": "time that steps began later for KV on its way from or to tiers, summed over replicas",
    "fetch_wait_s": "time that steps began later for adapters that had not arrived, summed over replicas",
    "num_spared_key": "keys of shared spans that rows did not read again (see `attention`)",
    "kv_kept_share": "slots held over tokens computed, time average, under a `kv_budget`",
    "num_preemption": "preemptions",
    "usd_per_h": "rent of all devices; empty where no price is known",
}


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A finished simulation: records, totals (`TOTALS`), and what was run (`provenance`). Records are columns, and
    frames where they are asked for as `requests`, `operators` and `steps`."""

    request: Columns  # REQUEST
    totals: Mapping[str, float]
    about: Mapping[str, Any] = field(default_factory=dict)
    operator: Columns | None = None  # OPERATOR_COLUMNS
    step: Columns | None = None  # STEP_COLUMNS, where recorded
    gap_edge_s: npt.NDArray[np.float64] | None = None  # [bucket + 1] edges of times between two tokens
    gap_count: Ints | None = None  # [bucket]

    def __repr__(self) -> str:
        num_step = int(self.totals.get("num_step", 0))
        return (
            f"<Run of {len(self.request):,} requests, {num_step:,} steps; config {self.about.get('config_hash', '-')}>"
        )

    @functools.cached_property
    def requests(self) -> "pd.DataFrame":
        """A row a request: `REQUEST_COLUMNS`."""
        return self.request.frame()

    @functools.cached_property
    def operators(self) -> "pd.DataFrame | None":
        """A row an operator and bound: `OPERATOR_COLUMNS`."""
        return None if self.operator is None else self.operator.frame()

    @functools.cached_property
    def steps(self) -> "pd.DataFrame | None":
        """A row a step: `STEP_COLUMNS`."""
        return None if self.step is None else self.step.frame()


def seconds(picoseconds: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Integer picoseconds as seconds; what never happened (below 0) is NaN.

    >>> seconds([1_500_000_000_000, -1]).tolist()
    [1.5, nan]
    """
    values = np.asarray(picoseconds, np.int64)
    return np.where(values < 0, np.nan, values / PS_PER_S)


def request_columns(column: Mapping[str, npt.ArrayLike], reasons: Sequence[str]) -> Columns:
    """Request records (`REQUEST`) from the engine's columns, one entry a request: clocks in picoseconds, `status` as
    an index of `STATUS`, `reason` as one of `reasons`."""
    found: dict[str, Array | Coded] = {}
    done = np.asarray(column["status"]) == STATUS.index("finished")
    for name, one in REQUEST.items():
        values = np.asarray(column[one.source] if one.source else np.arange(len(done)), np.int64)
        if one.names or name == "reason":
            found[name] = Coded(values, one.names or tuple(reasons))
        elif one.since:
            there = (values >= 0) & (done | (not one.finished))
            found[name] = seconds(np.where(there, values - np.asarray(column[one.since], np.int64), -1))
        else:
            found[name] = seconds(values) if one.source.endswith("_ps") else values.astype(one.dtype)
    committed, first, finish = (
        np.asarray(column[REQUEST[name].source], np.int64) for name in ("committed_token", "first_token_s", "finish_s")
    )
    gap_s = (finish - first) / (np.maximum(committed - 1, 1) * PS_PER_S)
    found["tpot_s"] = np.where(done & (committed > 1), gap_s, np.nan)
    return Columns(found)


def step_columns(table: Ints, names: Sequence[str]) -> Columns:
    """Step records (`STEP_COLUMNS`) from the engine's integer table [step, column] and its column names."""
    columns: dict[str, Any] = {}
    for index, name in enumerate(names):
        if name.endswith("_ps"):
            columns[name.removesuffix("_ps") + "_s"] = table[:, index] / PS_PER_S
        elif name.endswith("_nj"):
            columns[name.removesuffix("_nj") + "_j"] = table[:, index] / NJ_PER_J
        else:
            columns[name] = table[:, index]
    return Columns({name: columns[name] for name in STEP_COLUMNS})


WORDS = ("operator", "kind", "bound")


def operator_columns(
    operator: Sequence[str], kind: npt.ArrayLike, bound: npt.ArrayLike, time_ps: npt.ArrayLike, energy_nj: npt.ArrayLike
) -> Columns:
    """Operator records (`OPERATOR_COLUMNS`), rows of one operator and bound added up, the longest first.

    `kind` and `bound` are codes of `kernels.optable`; a kind of -1 is the host.
    """
    total: dict[tuple[str, str, str], list[int]] = {}
    rows = (np.asarray(values).tolist() for values in (kind, bound, time_ps, energy_nj))
    for name, code, limit, row_ps, row_nj in zip(operator, *rows, strict=True):
        pair = total.setdefault((name, "host" if code < 0 else KINDS[code], BOUNDS[limit]), [0, 0])
        pair[0] += row_ps
        pair[1] += row_nj
    kept = sorted((item for item in total.items() if item[1][0] > 0), key=lambda item: (-item[1][0], item[0][0]))
    words = {name: np.array([key[index] for key, _ in kept], object) for index, name in enumerate(WORDS)}
    amount = np.array([pair for _, pair in kept], np.int64).reshape(-1, 2)
    return Columns({**words, "time_s": amount[:, 0] / PS_PER_S, "energy_j": amount[:, 1] / NJ_PER_J})
