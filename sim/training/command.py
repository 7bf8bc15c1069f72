"""What `ridgeline train` prints, as a function of a result."""

from sim.training.step import TrainResult

_GROUPS = (
    ("step", ("step_s", "token_per_s_per_device", "mfu", "mfu_causal", "pipeline_s", "bubble_s", "bubble_rate",
              "recompute_s", "optimizer_s", "host_s", "wait_s")),
    ("exposed communication", ("exposed_tp_s", "exposed_ep_s", "exposed_cp_s", "exposed_pp_s", "exposed_dp_s",
                               "exposed_data_s", "contention_s", "hop_s")),
    ("energy of a step (devices; the rest of their boxes), mean watts", (
        "energy_j", "rest_j", "energy_j_per_token", "wall_j_per_token", "device_w", "node_w")),
    ("cost", ("step_usd", "usd_per_billion_token")),
)  # fmt: skip


def show(result: TrainResult) -> str:
    """The summary as text: what was run, step time and its parts, memory of the fullest rank, cost."""
    s = result.summary
    lines = [
        f"{s['model']} ({s['parameter'] / 1e9:.1f} B parameters) on {s['num_device']} x {s['system']}, "
        f"{s['schedule']}, {s['num_microbatch']} microbatches, {s['fidelity']}",
        f"stack {s['stack']}, attention {s['attention']}; {s['inherited']}",
    ]
    for title, keys in _GROUPS:
        lines.append(f"{title}:")
        lines += [f"  {key:24} {s[key]:.6g}" for key in keys]
    lines.append("memory of the fullest rank (GiB):")
    lines += [
        f"  {key[4:-5]:24} {s[key] / 2**30:.2f}" for key in s if key.startswith("mem_") and key != "mem_limit_byte"
    ]
    verdict = "fits" if s["fits"] else "does NOT fit"
    lines.append(f"  {verdict} in {s['mem_limit_byte'] / 2**30:.2f}")
    return "\n".join(lines)
