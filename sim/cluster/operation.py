"""How a pool is operated: how many engines it has when, how they come up, and how they are lost. As a TOML table:

[operation]
scaler = "outstanding:target=16"
min_engine = 1
load_GBps = 2.0        # storage to one engine; its machine's disk where nothing is said
mtbf_h = 200.0         # of an engine
event = [{ at_s = 600.0, engine = 2, kind = "spot" }]
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kernels.errors import InputError

KINDS = ("fail", "spot", "drain", "start")


@dataclasses.dataclass(frozen=True)
class Event:
    """What happens to an engine: it fails, its machine is called back (`spot`, after a notice), it is drained and
    switched off, it is started."""

    at_s: float
    engine: int
    kind: str


@dataclasses.dataclass(frozen=True)
class Operation:
    """The rules. A scenario's `dp` is the largest number of engines. Raises `InputError` for what cannot be."""

    scaler: str = ""  # a rule of `sim.cluster.scalers` with options, or a path; empty: nothing is scaled
    min_engine: int = 1
    start_engine: int = 0  # that are up when the first request comes; 0: all without a scaler, else `min_engine`
    interval_s: float = 15.0  # between two looks of the scaler (Kubernetes' sync period)
    load_GBps: float = 0.0  # noqa: N815 - bytes of weights a second into one engine; 0: its machine's disk
    storage_GBps: float = 0.0  # noqa: N815 - of the store that all load from, one after another; 0: not shared
    warm_s: float = 0.0  # from the weights to the first request: process, graphs, warm-up
    mtbf_h: float = 0.0  # mean hours between failures of an engine; 0: none fails
    repair_s: float = 0.0  # until a machine is there again; then it loads
    spot_mtbf_h: float = 0.0  # mean hours until a machine is called back; 0: never
    spot_notice_s: float = 120.0  # it takes no new ones if others do (two minutes: AWS, spot interruption)
    spot_replace_s: float = 0.0  # until another machine is there
    spot_move_s: float = 0.0  # of the notice, at its end: then requests go to other engines with their KV; 0: none does
    event: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        for name, low, high in (
            ("min_engine", 1, 1_000_000), ("start_engine", 0, 1_000_000), ("interval_s", 1e-3, 1e6),
            ("load_GBps", 0, 1e6), ("storage_GBps", 0, 1e6), ("warm_s", 0, 1e6), ("mtbf_h", 0, 1e9),
            ("repair_s", 0, 1e7), ("spot_mtbf_h", 0, 1e9), ("spot_notice_s", 0, 1e6), ("spot_replace_s", 0, 1e7),
            ("spot_move_s", 0, self.spot_notice_s),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError("out of range", field=name, value=value, allowed=f"{low:g} to {high:g}")
        if not self.scaler and self.min_engine > 1:
            raise InputError("has no effect without a scaler", field="min_engine", value=self.min_engine, allowed="1")
        for name, needs in (("repair_s", "fail"), ("spot_replace_s", "spot"), ("spot_notice_s", "spot"),
                            ("spot_move_s", "spot")):  # fmt: skip
            rate = {"fail": self.mtbf_h, "spot": self.spot_mtbf_h}[needs]
            if not rate and needs not in self.kinds:
                self._check_usual(name, f"nothing is lost by {needs}")
        if not self.starts:
            for name in ("load_GBps", "storage_GBps", "warm_s"):
                self._check_usual(name, "no engine is ever started")
        if not self.scaler and "drain" not in self.kinds:
            self._check_usual("interval_s", "nothing is scaled or drained")
        for event in self.event:
            if event.kind not in KINDS:
                raise InputError("no such event", field="kind", value=event.kind, allowed=KINDS)
            if not 0 <= event.at_s < 4e6 or event.engine < 0:
                raise InputError("not a time and an engine", field="event", value=event, allowed="0 to 4e6 seconds")

    @property
    def kinds(self) -> frozenset[str]:
        """Of the events of its table."""
        return frozenset(event.kind for event in self.event)

    @property
    def starts(self) -> bool:
        """Whether an engine may ever be started: by a scaler, an event, or in place of one that is lost."""
        return bool(self.scaler or self.mtbf_h or self.spot_mtbf_h or self.kinds - {"drain"})

    def _check_usual(self, name: str, why: str) -> None:
        usual = next(field.default for field in dataclasses.fields(self) if field.name == name)
        if (value := getattr(self, name)) != usual:
            raise InputError(f"has no effect: {why}", field=name, value=value, allowed=f"{usual:g}")


@dataclasses.dataclass(frozen=True)
class PoolsOperation:
    """The rules of a pool that prefills and of one that decodes. As a TOML table:

    [operation]
    machines = 12                  # that both share
    [operation.prefill]
    scaler = "outstanding:target=4"
    [operation.decode]
    event = [{ at_s = 600.0, engine = 2, kind = "fail" }]
    """

    prefill: Operation = Operation()
    decode: Operation = Operation()
    machines: int = 0  # that both share, one an engine; 0: each pool has its own

    def __post_init__(self) -> None:
        if not 0 <= self.machines <= 1_000_000:
            raise InputError("out of range", field="machines", value=self.machines, allowed="0 to 1000000")
        for role, one in (("prefill", self.prefill), ("decode", self.decode)):
            if one.spot_move_s:
                raise InputError(f"the {role} pool does not move KV within itself during a notice", field="spot_move_s",
                                 value=one.spot_move_s, allowed="0")  # fmt: skip
        if self.machines and not any(one.scaler or "start" in one.kinds for one in (self.prefill, self.decode)):
            raise InputError("has no effect: no engine is ever started", field="machines", value=self.machines,
                             allowed="0")  # fmt: skip

    def of(self, role: str) -> Operation:
        """The rules of one pool."""
        return self.prefill if role == "prefill" else self.decode


def pools_from_table(values: Mapping[str, Any], file: object = None) -> PoolsOperation:
    """The rules of two pools from a TOML table; an `InputError` names what is wrong."""
    own: dict[str, Any] = {}
    for name, value in values.items():
        if name in ("prefill", "decode") and isinstance(value, dict):
            own[name] = from_table(value, file)
        elif name == "machines" and isinstance(value, int) and not isinstance(value, bool):
            own[name] = value
        else:
            known = name in ("prefill", "decode", "machines")
            raise InputError("of another type" if known else "unknown field of pools", file=file, field=name,
                             value=value, allowed=["prefill", "decode", "machines"])  # fmt: skip
    return PoolsOperation(**own)


def from_table(values: Mapping[str, Any], file: object = None) -> Operation:
    """The rules of a TOML table; an `InputError` names what is wrong."""
    usual = {field.name: field.default for field in dataclasses.fields(Operation)}
    given = dict(values)
    for name, value in given.items():
        if name not in usual:
            raise InputError("unknown field", file=file, field=name, value=value, allowed=list(usual))
        kind = type(usual[name])
        right = isinstance(value, list) if kind is tuple else isinstance(value, str) if kind is str else (
            isinstance(value, int | float if kind is float else int) and not isinstance(value, bool)
        )  # fmt: skip
        if not right:
            raise InputError("of another type", file=file, field=name, value=value)
    given["event"] = tuple(_event(one, file) for one in given.get("event", ()))
    return Operation(**given)


def _event(one: Any, file: object) -> Event:
    if not isinstance(one, dict) or sorted(one) != ["at_s", "engine", "kind"]:
        raise InputError("not an event", file=file, field="event", value=one, allowed="at_s, engine, kind")
    if (
        isinstance(one["engine"], bool)
        or not isinstance(one["engine"], int)
        or not isinstance(one["at_s"], int | float)
    ):
        raise InputError("not a time and an engine", file=file, field="event", value=one)
    return Event(float(one["at_s"]), one["engine"], str(one["kind"]))
