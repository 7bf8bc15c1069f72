"""Independent reading of a command log: every timing constraint between every pair of commands, row states, the
buses and the count of activates in a tFAW window. Shares nothing with the model but the log's columns."""

import itertools
from collections import Counter, deque

import numpy as np

from kernels.dram import Dram
from kernels.dram_timing import COMMANDS, PimTiming

ACTIVATES = ("act", "pact")


def banks(dram: Dram, rank: int, group: int, bank: int) -> range:
    """Banks that a log row names, -1 meaning all."""
    a_rank = dram.num_group * dram.num_bank
    if rank < 0:
        return range(dram.num_rank * a_rank)
    if group < 0:
        return range(rank * a_rank, (rank + 1) * a_rank)
    first = rank * a_rank + group * dram.num_bank
    return range(first, first + dram.num_bank) if bank < 0 else range(first + bank, first + bank + 1)


Rules = dict[tuple[str, str], dict[str, int]]
LEVELS = ("bank", "group", "rank", "channel")


def table(dram: Dram, pim: PimTiming) -> Rules:
    """Least cycles between two commands whose nearest banks are of one `bank`, `group`, `rank` or `channel`."""
    d = dram
    write_end = d.tcwl + d.burst
    rules: Rules = {
        ("act", "act"): {"bank": d.tras + d.trp, "group": d.trrd_l, "rank": d.trrd_s},
        ("act", "rd"): {"bank": d.trcdrd},
        ("act", "wr"): {"bank": d.trcdwr},
        ("act", "pre"): {"bank": d.tras},
        ("act", "ref"): {"bank": d.tras + d.trp},
        ("pre", "act"): {"bank": d.trp},
        ("pre", "ref"): {"bank": d.trp},
        ("ref", "act"): {"bank": d.trfc},
        ("ref", "pact"): {"bank": d.trfc},
        ("ref", "ref"): {"bank": d.trfc},
        ("rd", "pre"): {"bank": d.trtp},
        ("wr", "pre"): {"bank": write_end + d.twr},
        ("rd", "rd"): {
            "group": max(d.burst, d.tccd_l), "rank": max(d.burst, d.tccd_s), "channel": d.burst + d.trtrs,
        },
        ("wr", "wr"): {
            "group": max(d.burst, d.tccd_l), "rank": max(d.burst, d.tccd_s), "channel": d.burst + d.trtrs,
        },
        ("rd", "wr"): {"rank": d.trtw, "channel": d.trtw},
        ("wr", "rd"): {
            "group": write_end + d.twtr_l, "rank": write_end + d.twtr_s, "channel": write_end + d.trtrs - d.tcl,
        },
        ("pact", "comp"): {"bank": d.trcdrd},
        ("pact", "ppre"): {"bank": d.tras},
        ("ppre", "pact"): {"bank": d.trp},
        ("ppre", "ref"): {"bank": d.trp},
        ("pact", "ref"): {"bank": d.tras + d.trp},
        ("pact", "pact"): {"bank": d.tras + d.trp, "rank": pim.pact_space},
        ("act", "pact"): {"bank": d.trrd_l, "rank": d.tfaw},
        ("pact", "act"): {"bank": d.trrd_l, "rank": d.tfaw},
    }  # fmt: skip
    if not pim.dual:  # one row buffer: to the plain commands, the PIM ones are plain
        rules["rd", "comp"] = {"group": max(d.burst, d.tccd_l)}
        rules["wr", "comp"] = {"group": write_end + d.twtr_l}
        rules["rd", "ppre"], rules["wr", "ppre"] = rules["rd", "pre"], rules["wr", "pre"]
        rules["act", "ppre"], rules["pact", "pre"] = rules["act", "pre"], rules["act", "pre"]
        rules["pact", "rd"], rules["pact", "wr"] = rules["act", "rd"], rules["act", "wr"]
        rules["pre", "pact"], rules["ppre", "act"] = rules["pre", "act"], rules["pre", "act"]
        for pair in (("act", "pact"), ("pact", "act")):
            rules[pair] = {"bank": d.tras + d.trp, "group": d.trrd_l, "rank": d.tfaw}
    full = {}
    for pair, levels in rules.items():  # a rule of a rank holds for its groups and banks; `channel`: other ranks
        full[pair] = {"channel": levels.get("channel", 0)}
        for i, near in enumerate(LEVELS[:3]):
            full[pair][near] = max(levels.get(level, 0) for level in LEVELS[i:3])
    return full


def nearest(dram: Dram, one: range, other: range) -> str:
    if max(one.start, other.start) < min(one.stop, other.stop):
        return "bank"
    for level, size in (("group", dram.num_bank), ("rank", dram.num_group * dram.num_bank)):
        if max(one.start // size, other.start // size) <= min((one.stop - 1) // size, (other.stop - 1) // size):
            return level
    return "channel"


def check(dram: Dram, log: np.ndarray, pim: PimTiming) -> Counter[tuple[int, int, str]]:
    """Raise AssertionError at the first violation; return how often each (bank, row, rd or wr) was served."""
    horizon = max(dram.trfc, dram.tras + dram.trp, pim.gwrite) + dram.tcwl + dram.burst + dram.twr + 4 * dram.tcl
    rules = table(dram, pim)
    none = dict.fromkeys(LEVELS, 0)
    recent: deque[tuple[int, str, range, int]] = deque()
    row: dict[tuple[str, int], int] = {}
    activated: dict[int, deque[int]] = {rank: deque(maxlen=4) for rank in range(dram.num_rank)}
    command_slot: set[tuple[int, bool]] = set()
    data: list[tuple[int, int]] = []
    served: Counter[tuple[int, int, str]] = Counter()
    last_refresh = dict.fromkeys(range(dram.num_rank), 0)
    for at, code, rank, group, bank, arg in log.tolist():
        name, scope = COMMANDS[code], banks(dram, rank, group, bank)
        slot = (at, dram.row_bus == 1 and name in ("rd", "wr", "comp", "readres", "gwrite"))
        assert slot not in command_slot, f"two commands on a bus at {at}"
        command_slot.add(slot)
        while recent and recent[0][0] < at - horizon:
            recent.popleft()
        for then, before, where, value in recent:
            near = nearest(dram, where, scope)
            need = rules.get((before, name), none)[near]
            if before == "comp" and near == "bank" and name in ("comp", "readres", "ppre"):
                need = pim.mac * (max(value, pim.comp_min) if value > 1 else 1)
                need += dram.trtp - pim.mac if name == "ppre" else 0
            gangs = [len(r) for r, n in ((where, before), (scope, name)) if n == "pact"]
            if {before, name} <= {"act", "pact"} and near != "channel" and gangs and max(gangs) < 4:
                # a gang of one is an activate like any other; two row buffers of a bank are tRRD_L apart
                other_buffer = near == "bank" and pim.dual and before != name
                need = {"bank": dram.trrd_l if other_buffer else dram.tras + dram.trp, "group": dram.trrd_l}.get(
                    near, dram.trrd_s
                )
            assert at - then >= need, f"{before}@{then} to {name}@{at} in {where}, {scope}: {at - then} < {need}"
        recent.append((at, name, scope, arg))
        a_rank = dram.num_group * dram.num_bank
        if name in ACTIVATES:
            for r in range(scope.start // a_rank, (scope.stop - 1) // a_rank + 1):
                size = min(scope.stop, (r + 1) * a_rank) - max(scope.start, r * a_rank)
                for _ in range(min(size, 4)):
                    window = activated[r]
                    assert len(window) < 4 or at - window[0] >= dram.tfaw, f"five activates in tFAW at {at}"
                    window.append(at)
        side = "p" if pim.dual and name in ("pact", "comp", "ppre") else "n"
        for b in scope if name not in ("gwrite", "readres") else ():
            if name in ACTIVATES:
                assert (side, b) not in row, f"{name} on an open row at {at}"
                row[side, b] = arg
            elif name in ("pre", "ppre"):
                row.pop((side, b), None)
            elif name in ("rd", "wr"):
                assert row.get((side, b)) == arg, f"{name} misses its row at {at}"
                served[b, arg, name] += 1
            elif name == "comp":
                assert (side, b) in row, f"comp on a closed row at {at}"
            elif name == "ref":
                assert not {("n", b), ("p", b)} & row.keys(), f"refresh of an open bank at {at}"
        if name == "ref":
            assert at - last_refresh[rank] <= 2 * dram.trefi, f"refresh of rank {rank} late at {at}"
            last_refresh[rank] = at
        if name in ("rd", "wr", "readres", "gwrite"):
            start = at + (dram.tcwl if name == "wr" else dram.tcl)
            data.append((start, start + (pim.gwrite if name == "gwrite" else dram.burst)))
    data.sort()
    for (_, end), (start, _) in itertools.pairwise(data):
        assert start >= end, f"data bus taken twice at {start}"
    return served
