"""A store that all engines read their weights from, one after another."""

from bisect import insort


class Storage:
    """It gives one engine its weights in `read_ps`; 0: it is nobody's bottleneck. Times are picoseconds."""

    def __init__(self, read_ps: int) -> None:
        self.read_ps = read_ps
        self.reads: list[tuple[int, int]] = []  # begin and end, in order of time
        self.of: dict[int, tuple[int, int]] = {}  # of each engine: the last one

    def read_by(self, k: int, there_ps: int) -> int:
        """When it has given engine k its weights, whose machine is there from then on: in the first time that nobody
        has asked for."""
        if self.read_ps == 0:
            return there_ps
        begin_ps = there_ps
        for start_ps, stop_ps in self.reads:
            if begin_ps + self.read_ps <= start_ps:
                break
            begin_ps = max(begin_ps, stop_ps)
        self.of[k] = (begin_ps, begin_ps + self.read_ps)
        insort(self.reads, self.of[k])
        return begin_ps + self.read_ps

    def stop(self, k: int, now_ps: int) -> None:
        """Engine k reads no more: what is left of its time is for who asks next."""
        begin_ps, stop_ps = self.of.pop(k, (0, 0))
        if stop_ps > now_ps:
            self.reads.remove((begin_ps, stop_ps))
            if begin_ps < now_ps:
                insort(self.reads, (begin_ps, now_ps))
