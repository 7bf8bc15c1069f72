"""A run of five requests that a test can follow by hand."""

import numpy as np

from sim.record.provenance import provenance
from sim.record.records import Run, operator_columns, request_columns, step_columns

S = 10**12
REASONS = ("", "longer than the context")
STEP_NAMES = (
    "replica", "lane", "start_ps", "end_ps", "num_prefill", "num_decode", "num_idle", "prefill_token", "pad_token",
    "num_sampled", "moved_block", "used_block", "cached_block", "kv_token", "num_running", "num_waiting", "energy_nj",
)  # fmt: skip


def tiny_run(seed: int = 0) -> Run:
    """Request 0: 5 tokens from 2 s to 4 s; 1: one token; 2: 3 tokens; 3: refused; 4: unfinished."""
    requests = request_columns(
        {
            "arrival_ps": [1 * S, 2 * S, 3 * S, 4 * S, 5 * S],
            "start_ps": [1 * S, 2 * S, 4 * S, -1, 6 * S],
            "first_token_ps": [2 * S, 5 * S, 5 * S, -1, 8 * S],
            "last_token_ps": [4 * S, 5 * S, 9 * S, -1, 8 * S],
            "end_ps": [4 * S, 5 * S, 9 * S, -1, -1],
            "prompt_token": [10, 20, 30, 9000, 50],
            "output_token": [5, 1, 3, 7, 9],
            "produced_token": [5, 1, 3, 0, 1],
            "cached_token": [0, 0, 16, 0, 0],
            "num_verify": [0, 0, 0, 0, 0],
            "drafted_token": [0, 0, 0, 0, 0],
            "accepted_token": [0, 0, 0, 0, 0],
            "num_preempted": [0, 0, 1, 0, 0],
            "priority": [0, 0, 0, 0, 0],
            "replica": [0, 1, 0, -1, 0],
            "status": [0, 0, 0, 1, 2],
            "reason": [0, 0, 0, 1, 0],
        },
        REASONS,
    )
    steps = step_columns(
        np.array(
            [
                [0, 0, 1 * S, 2 * S, 1, 0, 0, 10, 0, 1, 0, 1, 0, 10, 1, 0, 10**9],
                [1, 0, 2 * S, 5 * S, 1, 0, 0, 20, 0, 1, 0, 2, 0, 20, 1, 0, 10**9],
                [0, 0, 2 * S, 4 * S, 0, 1, 0, 0, 0, 1, 0, 1, 0, 14, 1, 1, 10**9],
                [0, 1, 4 * S, 5 * S, 1, 1, 0, 14, 0, 1, 0, 2, 1, 31, 1, 1, 10**9],
            ],
            np.int64,
        ),
        STEP_NAMES,
    )
    operators = operator_columns(
        ["mlp", "attn_decode", "mlp", "step"], [0, 2, 0, -1], [2, 2, 1, 5], [4 * S, 3 * S, 2 * S, S], [10**9] * 4
    )
    totals = {
        "num_step": 4, "num_replica": 2, "num_device": 4, "busy_s": 7.0, "energy_j": 1200.0, "kv_block": 4,
        "kv_block_token": 16, "kv_mean_share": 0.25, "kv_peak_share": 0.5, "kv_token_share": 0.75, "usd_per_h": 7.2,
    }  # fmt: skip
    # gaps of request 0: four of 0.5 s; of request 2: two of 2 s
    edges = np.array([0.0, 0.49, 0.51, 1.99, 2.01])
    about = provenance({"model": "tiny", "seed": seed}, seed=seed, fidelity="sol") | {"mode": "run-ahead"}
    return Run(requests, totals, about, operators, steps, edges, np.array([0, 4, 0, 2]))
