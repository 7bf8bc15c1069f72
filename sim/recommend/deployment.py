"""A deployment: one load on one or several pools of machines, as a file that runs.

A scenario says what is served and how; each pool says in what it differs from that (machine, parallelism, engines, the
engine's options). Either one pool prefills and one decodes, or every pool does both and takes its `share` of the
requests: whole chains of requests, in turn by smooth weighted round robin, so that pools are independent of each other.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError
from sim.run.scenario import FIELD_NAMES, Scenario, from_mapping
from workloads.requests import NO_PARENT, Requests

ROLES = ("mixed", "prefill", "decode")
SHARED = ("requests", "model", "seed", "order", "goodput", "fidelity")  # of the whole, not of a pool
OWN = ("role", "share")
ADMISSION = ("max_queue", "max_in_flight")  # refuses who comes, before the first token
MAX_POOL = 16


@dataclasses.dataclass(frozen=True)
class PoolOf:
    """Equal engines: the fields in which they differ from the scenario (`dp` is their number)."""

    change: tuple[tuple[str, Any], ...]
    role: str = "mixed"
    share: float = 1.0  # of the requests, against the other pools' shares

    def scenario(self, base: Scenario) -> Scenario:
        """The pool as a scenario of its own."""
        return dataclasses.replace(base, **dict(self.change))

    def words(self, base: Scenario) -> str:
        """Its machines in a few words: `2 x (4 h100_sxm)`."""
        own = self.scenario(base)
        devices = own.tp * own.pp * own.attn_dp
        each = f"{devices} {own.system}" if devices > 1 else own.system
        text = f"{own.dp} x ({each})" if devices > 1 else f"{own.dp} x {each}"
        return text if self.role == "mixed" else f"{self.role} {text}"


@dataclasses.dataclass(frozen=True)
class Deployment:
    """A scenario and its pools."""

    base: Scenario
    pools: tuple[PoolOf, ...]

    def __post_init__(self) -> None:
        roles = sorted(pool.role for pool in self.pools)
        if roles != ["decode", "prefill"] and (not roles or set(roles) != {"mixed"}):
            raise InputError("not a way through pools", field="pool", value=", ".join(roles),
                             allowed="mixed ones; or one that prefills and one that decodes")  # fmt: skip

    @property
    def split(self) -> bool:
        """Whether one pool prefills and one decodes."""
        return self.pools[0].role != "mixed"

    @property
    def words(self) -> str:
        return " + ".join(pool.words(self.base) for pool in self.pools)

    def table(self) -> dict[str, Any]:
        """As a TOML table: a scenario that `ridgeline simulate` runs where it has one pool, else one with `[[pool]]`
        tables for `ridgeline pools`."""
        usual = {field.name: field.default for field in dataclasses.fields(Scenario)}
        if len(self.pools) == 1:
            own = dataclasses.asdict(self.pools[0].scenario(self.base))
            return {name: value for name, value in own.items() if value != usual[name] or name in NAMED}
        shared = {n: v for n, v in dataclasses.asdict(self.base).items() if v != usual[n] or n in NAMED}
        pools = []
        for pool in self.pools:
            own = {"role": pool.role} | ({} if self.split else {"share": pool.share})
            pools.append(own | dict(pool.change))
        return shared | {"pool": pools}


NAMED = ("model", "system", "requests", "engine", "policy", "goodput", "seed")  # said also where they are as usual


def from_table(values: Mapping[str, Any], file: object = None) -> Deployment:
    """The deployment of a TOML table; an `InputError` names what is wrong. Without `pool` it is the scenario itself."""
    given = dict(values)
    pools = given.pop("pool", [{}])
    base = from_mapping(given, file)
    if not isinstance(pools, list) or not 1 <= len(pools) <= MAX_POOL:
        raise InputError("not a list of tables", file=file, field="pool", value=pools, allowed=f"1 to {MAX_POOL}")
    return Deployment(base, tuple(_pool(base, table, file) for table in pools))


def _pool(base: Scenario, table: Any, file: object) -> PoolOf:
    if not isinstance(table, dict):
        raise InputError("not a table", file=file, field="pool", value=table, allowed="[[pool]]")
    change = {name: value for name, value in table.items() if name not in OWN}
    differ = [name for name in FIELD_NAMES if name not in SHARED]
    for name, value in change.items():
        if name not in differ:
            raise InputError("no field in which pools differ", file=file, field="pool", value=name,
                             allowed=[*OWN, *differ])  # fmt: skip
        from_mapping({name: value}, file)
    role, share = table.get("role", "mixed"), table.get("share", 1.0)
    if role not in ROLES:
        raise InputError("no such role", file=file, field="role", value=role, allowed=ROLES)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1e6:
        raise InputError("not a share", file=file, field="share", value=share, allowed="above 0, at most 1e6")
    if role != "mixed" and "share" in table:
        raise InputError(f"has no effect: the {role} pool takes every request", file=file, field="share", value=share)
    for name in ADMISSION if role == "decode" else ():
        if change.get(name):
            raise InputError("a pool that decodes turns nobody away", file=file, field=name, value=change[name],
                             allowed="0")  # fmt: skip
    pool = PoolOf(tuple(change.items()), role, float(share))
    pool.scenario(base)
    return pool


def split_load(requests: Requests, share: Sequence[float]) -> list[npt.NDArray[np.int64]]:
    """Which requests each of several pools takes: a chain goes where its first request went.

    >>> from workloads.load import load_requests
    >>> [len(part) for part in split_load(load_requests("batch:n=9,prompt=4,output=1"), [2.0, 1.0])]
    [6, 3]
    """
    total = float(sum(share))
    owed = np.zeros(len(share))
    where = np.zeros(len(requests), np.int64)
    parents = requests.parent.tolist()
    for i, parent in enumerate(parents):
        if parent != NO_PARENT:
            where[i] = where[parent]
            continue
        owed += share
        k = int(np.argmax(owed))
        owed[k] -= total
        where[i] = k
    return [np.flatnonzero(where == k) for k in range(len(share))]


def some(requests: Requests, index: npt.NDArray[np.int64]) -> Requests:
    """These requests, whole chains of them, in order."""
    column: dict[str, Any] = {
        name: value[index].copy()
        for name, value in vars(requests).items()
        if isinstance(value, np.ndarray) and name != "unit_id"
    }
    place = np.full(len(requests), NO_PARENT, np.int64)
    place[index] = np.arange(len(index))
    parent = column["parent"]
    column["parent"] = np.where(parent != NO_PARENT, place[parent], NO_PARENT).astype(np.int32)
    return dataclasses.replace(requests, **column)
