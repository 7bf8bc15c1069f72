"""Machines that pools share: what one has left, another takes."""

from typing import Protocol


class Takes(Protocol):
    """A pool that shares machines."""

    def turn(self) -> bool:
        """Starts an engine on a machine that another pool has left, if it is short of one."""


class Machines:
    """So many machines; where they are equal for all pools, weights that were read stay with one that changes pools."""

    def __init__(self, num: int, stays: bool) -> None:
        self.free, self.stays = num, stays
        self.pools: list[Takes] = []

    def take(self) -> bool:
        """Whether one is free, which is then taken."""
        if self.free == 0:
            return False
        self.free -= 1
        return True

    def give(self, by: Takes) -> None:
        """Pool `by` has left a machine: it goes to another that is short of one."""
        self.free += 1
        any(pool.turn() for pool in self.pools if pool is not by)
