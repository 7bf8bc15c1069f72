"""Kineto traces (torch.profiler's `export_chrome_trace`): what each kernel and collective took, for calibration.

A collective's kernel waits for the last rank to come, so one rank's duration is an upper bound; of the same collective
on all ranks (one process group and sequence number) the shortest is the time that it took.
"""

import gzip
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import pandas as pd

from kernels.errors import InputError

DEVICE_WORK = ("kernel", "gpu_memcpy", "gpu_memset")
COLLECTIVES = {
    "allreduce": "all_reduce", "all_reduce": "all_reduce", "allreduce_coalesced": "all_reduce",
    "allgather": "all_gather", "all_gather": "all_gather", "_allgather_base": "all_gather",
    "allgather_into_tensor_coalesced": "all_gather",
    "reduce_scatter": "reduce_scatter", "_reduce_scatter_base": "reduce_scatter",
    "reduce_scatter_tensor_coalesced": "reduce_scatter",
    "all_to_all": "all_to_all", "all_to_allv": "all_to_all", "alltoall": "all_to_all", "alltoall_base": "all_to_all",
    "send": "p2p", "recv": "p2p",
}  # fmt: skip
"""torch's names of collectives, as the operator table has them; others (broadcast, barrier, ...) keep theirs."""
ELEMENT_BYTE = {
    "float": 4, "bfloat16": 2, "half": 2, "double": 8, "byte": 1, "char": 1, "int": 4, "long": 8, "short": 2, "bool": 1,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1,
}  # fmt: skip
COLUMNS = ("rank", "name", "cat", "device", "stream", "start_us", "duration_us", "collective", "num_gpu",
           "message_byte", "process_group", "seq")  # fmt: skip


def read_kineto(path: pathlib.Path | str) -> pd.DataFrame:
    """Device work of one rank's trace (.json or .json.gz), an event a row, in order of time.

    Columns: `COLUMNS`. `message_byte` follows `kernels.collective`: the output of an all-gather, else the input; -1
    and an empty `collective` where an event is none.
    """
    try:
        raw = pathlib.Path(path).read_bytes()
        content = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot be read as JSON: {error}", file=path) from None
    events = content.get("traceEvents") if isinstance(content, dict) else content
    if not isinstance(events, list):
        raise InputError("not a Chrome trace: no `traceEvents`", file=path)
    head = content.get("distributedInfo", {}) if isinstance(content, dict) else {}
    rank = int(head.get("rank", 0))
    rows = [
        _row(event, rank, path)
        for event in events
        if isinstance(event, dict) and event.get("ph") == "X" and event.get("cat") in DEVICE_WORK
    ]
    if not rows:
        raise InputError("no device work in this trace", file=path, field="cat", allowed=DEVICE_WORK)
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("start_us", kind="stable", ignore_index=True)


def _row(event: dict[str, Any], rank: int, path: pathlib.Path | str) -> tuple[Any, ...]:
    args = event.get("args", {})
    for key in ("ts", "dur", "name"):
        if key not in event:
            raise InputError("an event without this field", file=path, field=key, value=None)
    collective, byte = "", -1
    if "Collective name" in args:
        collective = COLLECTIVES.get(str(args["Collective name"]).lower(), str(args["Collective name"]))
        dtype = str(args.get("dtype", "")).lower()
        if dtype not in ELEMENT_BYTE:
            raise InputError("no such element type", file=path, field="dtype", value=dtype, allowed=ELEMENT_BYTE)
        side = "Out msg nelems" if collective == "all_gather" or args["Collective name"] == "recv" else "In msg nelems"
        byte = int(args.get(side, 0)) * ELEMENT_BYTE[dtype]
    return (
        rank, event["name"], event["cat"], int(args.get("device", event.get("pid", 0))), int(args.get("stream", 0)),
        float(event["ts"]), float(event["dur"]), collective, int(args.get("Group size", -1)), byte,
        str(args.get("Process Group Name", "")), int(args.get("Seq", -1)),
    )  # fmt: skip


def kernel_frame(events: pd.DataFrame) -> pd.DataFrame:
    """Kernels by name: count, total, mean, median and least duration in microseconds; the longest in total first."""
    found = events[events["collective"] == ""].groupby(["cat", "name"])["duration_us"]
    frame = found.agg(count="count", total_us="sum", mean_us="mean", median_us="median", min_us="min").reset_index()
    return frame.sort_values("total_us", ascending=False, kind="stable", ignore_index=True)


def collective_frame(ranks: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Collectives of one or more ranks as rows to fit on: op, num_gpu, message_byte, count, latency_ms.

    The latency of one collective is the least over the ranks that recorded it (matched by process group and sequence
    number, where traces have them); of equal collectives it is the median.
    """
    events = pd.concat(list(ranks), ignore_index=True)
    events = events[(events["collective"] != "") & (events["message_byte"] > 0)]
    shape = ["collective", "num_gpu", "message_byte"]
    own = events.index.to_series().where(events["seq"] < 0, -1)  # without a number nothing is matched
    keys = [events[name] for name in [*shape, "process_group", "seq"]] + [own.rename("own")]
    once = events.groupby(keys)["duration_us"].min().reset_index()
    frame = once.groupby(shape)["duration_us"].agg(count="count", latency_ms="median").reset_index()
    frame["latency_ms"] /= 1000
    return frame.rename(columns={"collective": "op"})
