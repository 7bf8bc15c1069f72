"""States that others go on from: which recurrent layers leave behind at ends of blocks, and who finds them.

A recurrent layer keeps one state, that of the last token; a prefix can be gone on from where a state lies at its end.
So a sequence's states are counted by *place*: place k is that of the state after `(k + 1) * block_token` tokens, or
before, while its step has not come so far. A step goes from the place where its sequence is to the one where it ends;
what lies between is never there. Where sequence and step have passed a place, its blocks are given back, unless the
state there has a name: then it joins the order of eviction, as a prefix unit does, and is found with the unit of the
same place. A name get the states that somebody may go on from: the last whole block of a prompt (less one token), and
a *junction*, up to which a prompt's keys were found while no state was. Steps end at such places for it, and never
inside a block unless their prompt ends there.

In `unit_id[PLACE]`, beside a sequence's names: 0, no state; -1, its own; else the entry of a named one that it holds.
"""

from kernels.engine.cache import hold, let_go
from kernels.engine.records import Engine
from kernels.engine.unit import FIRST_STATE, NONE, find, insert
from kernels.jit import njit

PLACE = 3
OWN = -1


@njit
def place_of_state(e: Engine, num_token: int) -> int:
    """The place of the state of a sequence of `num_token` tokens; -1: it has none."""
    return (num_token + e.me.block_token - 1) // e.me.block_token - 1


@njit
def _name(e: Engine, i: int, place: int) -> int:
    return FIRST_STATE + e.unit_id[0, e.seq[i].unit_start + place]


@njit
def found_state(e: Engine, i: int, most: int) -> int:
    """Of the leading `most` units of sequence i, how many a state lies behind that can be found."""
    while most > 0 and find(e, _name(e, i, most - 1)) == NONE:
        most -= 1
    return most


@njit
def is_fresh_state(e: Engine, i: int, found: int) -> bool:
    """Whether the state behind its `found` leading units is one that this plan computes."""
    return e.unit[find(e, _name(e, i, found - 1))].made == e.me.num_plan


@njit
def idle_state(e: Engine, i: int, found: int) -> int:
    """Blocks of the state behind its `found` leading units that could be evicted while it does not hold it."""
    if found == 0:
        return 0
    return e.me.state_block if e.unit[find(e, _name(e, i, found - 1))].ref == 0 else 0


@njit
def hold_state(e: Engine, i: int, found: int) -> None:
    """Sequence i comes in and holds the state behind its `found` leading units."""
    s = e.seq[i]
    s.low = max(0, found - 1)
    if found > 0:
        entry = find(e, _name(e, i, found - 1))
        hold(e, entry)
        e.unit_id[PLACE, s.unit_start + found - 1] = entry


@njit
def _prompt_end(e: Engine, i: int) -> int:
    """Tokens up to which its steps are those of a prompt: of what it lost, all but the last."""
    s = e.seq[i]
    return max(int(s.prompt), int(s.target) - 1)


@njit
def _whole(e: Engine, num_token: int) -> int:
    """Tokens of the last whole block with a token to come behind it."""
    return (num_token - 1) // e.me.block_token * e.me.block_token


@njit
def _exported(e: Engine, i: int, start: int, stop: int) -> int:
    """Where a step of sequence i from `start` to `stop` tokens leaves a state on its way; 0: it leaves none."""
    if e.me.state_export == 0 or stop < _prompt_end(e, i) or start % e.me.block_token > 0:
        return 0
    at = _whole(e, stop)
    return at if at >= start + e.me.block_token else 0


@njit
def _is_free(e: Engine, i: int, num_token: int) -> bool:
    """Whether sequence i holds no state at the place of `num_token` tokens."""
    return e.unit_id[PLACE, e.seq[i].unit_start + place_of_state(e, num_token)] == 0


@njit
def missing_state(e: Engine, i: int, start: int, stop: int) -> int:
    """States that a step of sequence i from `start` to `stop` tokens needs beyond those it holds."""
    at = _exported(e, i, start, stop)
    count = 1 if stop > 0 and _is_free(e, i, stop) else 0
    return count + (1 if at > 0 and _is_free(e, i, at) else 0)


@njit
def take_states(e: Engine, i: int, start: int, stop: int) -> None:
    """Sequence i has them; their blocks are taken elsewhere."""
    s = e.seq[i]
    for at in (_exported(e, i, start, stop), stop):
        if at > 0 and _is_free(e, i, at):
            e.unit_id[PLACE, s.unit_start + place_of_state(e, at)] = OWN
            s.state += 1


@njit
def _give(e: Engine, i: int, first: int, stop: int) -> None:
    """Sequence i gives back its states at places `first:stop`, the last one first."""
    s, me = e.seq[i], e.me
    for place in range(stop - 1, first - 1, -1):
        at = s.unit_start + place
        entry = e.unit_id[PLACE, at]
        if entry == OWN:
            s.state -= 1
            me.free_block += me.state_block
        elif entry != NONE:
            let_go(e, entry)
        e.unit_id[PLACE, at] = NONE


@njit
def pass_states(e: Engine, i: int) -> None:
    """Sequence i is planned again, and gives back the states of the places that it has passed for good: with its last
    step, or, where that is still running as the next one is planned, with the one before."""
    s, me = e.seq[i], e.me
    passed = s.kv
    if me.plan_ahead == 1 and s.planned == me.num_plan - 1:
        passed -= s.recent
    stop = min(place_of_state(e, passed), s.num_unit)
    if stop > s.low:
        _give(e, i, s.low, stop)
        s.low = stop


@njit
def release_states(e: Engine, i: int) -> None:
    """Sequence i leaves, and gives back all of its states."""
    s = e.seq[i]
    _give(e, i, s.low, s.num_unit)
    s.low = 0
    s.junction = 0


@njit
def name_states(e: Engine, i: int, start: int, stop: int) -> None:
    """A step of sequence i from `start` to `stop` tokens is planned: its states that somebody may go on from are found
    from the next plan on."""
    s, me = e.seq[i], e.me
    for at in (_exported(e, i, start, stop), stop):
        if at == 0 or at % me.block_token > 0 or (at != _whole(e, s.prompt) and at != s.junction):
            continue
        place = s.unit_start + at // me.block_token - 1
        if e.unit_id[PLACE, place] != OWN:
            continue
        name = _name(e, i, at // me.block_token - 1)
        e.unit_id[PLACE, place] = insert(e, name, me.state_block)
        e.unit[find(e, name)].made = me.num_plan
        s.state -= 1


@njit
def still_state(e: Engine, i: int, num_token: int) -> int:
    """For how many more steps sequence i, at `num_token` tokens once its step has ended, decodes within one state."""
    s = e.seq[i]
    for place in range(s.low, place_of_state(e, num_token)):
        if e.unit_id[PLACE, s.unit_start + place] != NONE:
            return 0
    return (e.me.block_token - num_token % e.me.block_token) % e.me.block_token


@njit
def aligned(e: Engine, i: int, start: int, num_token: int, longest: int) -> int:
    """Of `num_token` tokens of sequence i from `start` on, those that a step computes: to the end of a block or of the
    prompt, and no farther than to the first place of a state that must be there. 0: they reach no end of a block,
    though a step of `longest` tokens would."""
    s, me = e.seq[i], e.me
    size, last = me.block_token, _prompt_end(e, i)
    if start >= last:
        return num_token
    stop = start + num_token
    exports = me.state_export == 1 and stop >= last and start % size == 0 and _whole(e, last) >= start + size
    if stop < last:
        whole = stop // size * size
        if whole > start or size <= longest:
            stop = whole
    end = stop
    if start < s.junction < stop:
        at = start + (s.junction - start) // size * size
        end = min(end, at) if at > start else end
    if not exports:
        if start % size > 0:
            end = min(end, (start // size + 1) * size)
        at = _whole(e, s.target)
        end = min(end, at) if at > start else end
    return max(end - start, 0)
