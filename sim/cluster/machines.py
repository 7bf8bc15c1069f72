"""Machines that pools share: what one has left, another takes."""

from typing import Protocol


class Takes(Protocol):
    """A pool that shares machines."""

    def turn(self, has_weights: bool) -> bool:
        """Starts an engine on a machine that was left, where one waits for a machine; its weights may lie there."""


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

    def give(self, by: Takes, has_weights: bool) -> None:
        """Pool `by` has left a machine, with its weights or another in its place: it goes to another pool that is short
        of one, else to `by` where that is itself, which starts an engine on it as on any other."""
        self.free += 1
        if not any(pool.turn(has_weights and self.stays) for pool in self.pools if pool is not by):
            by.turn(False)
