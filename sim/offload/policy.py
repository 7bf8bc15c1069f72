"""What an offloading run decides: sizes of batch and block, and which share of each tensor lies on which tier."""

import dataclasses
from typing import Any

from kernels.errors import InputError

TENSORS = ("weight", "cache", "hidden")
TIERS = ("device", "host", "disk")
SCHEDULES = ("stream", "step", "serial")
GROUP = 64  # values that share a scale and a least value, 16 bits each, where a tensor is kept in 4 bits (FlexGen)
PACKED_BYTE = 0.5 + 4 / GROUP  # of a value in 4 bits

Shares = tuple[float, float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockPolicy:
    """`num_batch` batches of `batch` sequences make a block: a layer is computed for all of them before the next one.

    Shares are of the device, the host and the disk, and sum to 1. `schedule`: "stream" lets every engine run ahead as
    far as data and two buffers let it; "step" ends each (layer, batch) for all engines together, with disk and link one
    after the other; "serial" overlaps nothing. `host_attention`: attention over what the device does not hold is
    computed by the host's processor.

    >>> BlockPolicy(batch=48, num_batch=3, weight=(0.2, 0.8, 0.0), cache=(0.0, 1.0, 0.0)).block
    144
    """

    batch: int = 1
    num_batch: int = 1
    weight: Shares = (1.0, 0.0, 0.0)
    cache: Shares = (1.0, 0.0, 0.0)
    hidden: Shares = (1.0, 0.0, 0.0)
    host_attention: bool = False
    pack_weight: bool = False
    pack_cache: bool = False
    schedule: str = "stream"

    def __post_init__(self) -> None:
        for name in ("batch", "num_batch"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
                raise InputError("not a count", field=name, value=value, allowed="1 to 1000000")
        for name in TENSORS:
            shares = tuple(getattr(self, name))
            if len(shares) != len(TIERS) or not min(shares) >= 0 or not abs(sum(shares) - 1) <= 1e-6:  # NaN is none
                raise InputError(
                    "not shares of device, host and disk", field=name, value=shares,
                    allowed="three numbers of at least 0 that sum to 1",
                )  # fmt: skip
            object.__setattr__(self, name, shares)
        if self.schedule not in SCHEDULES:
            raise InputError("no such schedule", field="schedule", value=self.schedule, allowed=SCHEDULES)
        if self.host_attention and self.pack_cache:
            raise InputError(
                "the host attends over 16 bits: packed keys and values are unpacked by the device alone",
                field="pack_cache", value=True, allowed="false, or host_attention false",
            )  # fmt: skip
        if self.host_attention and self.cache[0] == 1:
            raise InputError("nothing for the host to attend over", field="host_attention", value=True,
                             allowed="false, or a cache share off the device")  # fmt: skip

    @property
    def block(self) -> int:
        """Sequences of a block."""
        return self.batch * self.num_batch

    @property
    def shares(self) -> tuple[float, ...]:
        """All nine, a tensor after the other."""
        return (*self.weight, *self.cache, *self.hidden)

    def with_shares(self, shares: Any) -> "BlockPolicy":
        """The policy with these nine, cleaned of a solver's rounding; the host attends over nothing where all of the
        cache is on the device."""
        clean = [max(0.0, float(value)) for value in shares]
        parts = [clean[i : i + 3] for i in (0, 3, 6)]
        weight, cache, hidden = ((a / (a + b + c), b / (a + b + c), c / (a + b + c)) for a, b, c in parts)
        host = self.host_attention and cache[0] < 1
        return dataclasses.replace(self, weight=weight, cache=cache, hidden=hidden, host_attention=host)
