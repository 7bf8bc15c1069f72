"""Kineto traces (torch.profiler's `export_chrome_trace`): what each kernel and collective took, for calibration.

A collective's kernel waits for the last rank to come, so one rank's duration is an upper bound; of the same collective
on all ranks (one process group and sequence number) the shortest is the time that it took.
"""

import math
import pathlib
from collections.abc import Iterable
from typing import Any

import pandas as pd

from kernels.errors import InputError, NothingServedError
from workloads import files

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
MAX_US = 9_000_000_000_000_000  # 285 years: microseconds since 1970, exact as floats
MAX_COUNT, MAX_RANK = 1 << 53, 1 << 31
COLUMNS = ("rank", "name", "cat", "device", "stream", "start_us", "duration_us", "collective", "num_gpu",
           "message_byte", "process_group", "seq")  # fmt: skip


def read_kineto(path: pathlib.Path | str) -> pd.DataFrame:
    """Device work of one rank's trace (.json or .json.gz), an event a row, in order of time.

    Columns: `COLUMNS`. `message_byte` follows `kernels.collective`: the output of an all-gather, else the input; -1
    and an empty `collective` where an event is none.
    """
    content = files.read_json(path)
    events = content.get("traceEvents") if isinstance(content, dict) else content
    if not isinstance(events, list):
        raise InputError("not a Chrome trace: no list `traceEvents`", file=path)
    head = _object(content, "distributedInfo", path, "") if isinstance(content, dict) else {}
    rank = int(_number(head, "rank", path, "distributedInfo.", (0, MAX_RANK), 0))
    rows = [
        _row(event, rank, path, f"traceEvents[{number}].")
        for number, event in enumerate(events)
        if isinstance(event, dict) and event.get("ph") == "X" and event.get("cat") in DEVICE_WORK
    ]
    if not rows:
        raise NothingServedError("no device work in this trace", file=path, field="cat", allowed=DEVICE_WORK)
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("start_us", kind="stable", ignore_index=True)


def _row(event: dict[str, Any], rank: int, path: pathlib.Path | str, where: str) -> tuple[Any, ...]:
    args = _object(event, "args", path, where)
    start_us = _number(event, "ts", path, where, (-MAX_US, MAX_US))
    duration_us = _number(event, "dur", path, where, (0, MAX_US))
    if not isinstance(event.get("name"), str):
        raise InputError("not a text", file=path, field=f"{where}name", value=event.get("name"))
    inner = f"{where}args."
    collective, byte = "", -1
    if "Collective name" in args:
        given = args["Collective name"]
        if not isinstance(given, str):
            raise InputError("not a text", file=path, field=f"{inner}Collective name", value=given)
        collective = COLLECTIVES.get(given.lower(), given)
        dtype = str(args.get("dtype", "")).lower()
        if dtype not in ELEMENT_BYTE:
            raise InputError("no such element type", file=path, field=f"{inner}dtype", value=dtype,
                             allowed=ELEMENT_BYTE)  # fmt: skip
        side = "Out msg nelems" if collective == "all_gather" or given == "recv" else "In msg nelems"
        byte = int(_number(args, side, path, inner, (0, MAX_COUNT), 0)) * ELEMENT_BYTE[dtype]
    device = int(_number(args if "device" in args else {"device": event.get("pid", 0)}, "device", path, inner,
                         (-MAX_RANK, MAX_RANK), 0))  # fmt: skip
    return (
        rank, event["name"], event["cat"], device, int(_number(args, "stream", path, inner, (-1, MAX_COUNT), 0)),
        start_us, duration_us, collective, int(_number(args, "Group size", path, inner, (1, MAX_RANK), -1)), byte,
        str(args.get("Process Group Name", "")), int(_number(args, "Seq", path, inner, (-1, MAX_COUNT), -1)),
    )  # fmt: skip


def _object(holder: dict[str, Any], key: str, path: pathlib.Path | str, where: str) -> dict[str, Any]:
    found = holder.get(key, {})
    if not isinstance(found, dict):
        raise InputError("not an object", file=path, field=where + key, value=found)
    return found


def _number(
    holder: dict[str, Any], key: str, path: pathlib.Path | str, where: str, span: tuple[int, int],
    absent: float | None = None,
) -> float:  # fmt: skip
    """A number within a range, also written as text; `absent` where the field is not there."""
    given = holder.get(key, absent)
    whole = absent is not None  # times alone are not
    try:
        value = float(given) if not isinstance(given, bool) and isinstance(given, int | float | str) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if key not in holder and absent is not None:
        return absent
    if not span[0] <= value <= span[1] or (whole and value != int(value)):
        raise InputError(f"not a {'whole ' * whole}number in range" if key in holder else "an event without this field",
                         file=path, field=where + key, value=given, allowed=f"{span[0]} to {span[1]}")  # fmt: skip
    return value


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
