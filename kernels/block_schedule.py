"""Replay of a block schedule: a layer for every batch of a block, then the next layer, token after token.

A *unit* is a (token, layer, batch). Beside its computation run, on engines of their own, what later units need (weights
of the next layer, cache and hidden state of the next batch: from the disk, then up the link) and what earlier ones
leave (new keys and values, hidden states: down the link, then to the disk). Engines take their work in order, and are
`stream`ed (bound by data and two buffers alone), joined at the end of every unit (`STEP`), or run one at a time
(`SERIAL`). Integer picoseconds.
"""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit

Ints = npt.NDArray[np.int64]

FIELDS: tuple[str, ...] = (
    "weight_read", "weight_up",  # of a layer, once for the block
    "cache_read", "cache_up", "hidden_read", "hidden_up",  # before a unit
    "compute",
    "hidden_down", "hidden_write", "cache_down", "cache_write",  # after it
)  # fmt: skip
(
    WEIGHT_READ, WEIGHT_UP, CACHE_READ, CACHE_UP, HIDDEN_READ, HIDDEN_UP, COMPUTE, HIDDEN_DOWN, HIDDEN_WRITE,
    CACHE_DOWN, CACHE_WRITE,
) = range(len(FIELDS))  # fmt: skip
ENGINE_UP, ENGINE_DOWN, ENGINE_READ, ENGINE_WRITE, ENGINE_COMPUTE = range(5)
NUM_ENGINE = 5
STREAM, STEP, SERIAL = range(3)
AHEAD = 2  # units by which the disk is read ahead into the host's memory


@njit
def piece(total: int, k: int, num: int) -> int:
    """The k-th of `num` parts of `total`, which sum to it."""
    return (k + 1) * total // num - k * total // num


@njit
def after(engine: Ints, which: int, ready: int, duration: int, busy: Ints) -> int:
    """End of a task of `duration` on an engine that takes its work in order; a task of nothing waits for nobody."""
    if duration == 0:
        return ready
    start = max(engine[which], ready)
    engine[which] = start + duration
    busy[which] += duration
    return start + duration


@njit
def replay(time: Ints, num_batch: int, mode: int, end: Ints, busy: Ints) -> int:
    """Picoseconds of the whole schedule. `time[token, layer, FIELDS]`, a batch each but for weights; `end[token]`
    becomes when each token's last unit was computed and, `STEP` and `SERIAL`, its stores joined; `busy[NUM_ENGINE]`
    what each engine did."""
    busy[:] = 0
    if mode == STREAM:
        return stream(time, num_batch, end, busy)
    return joined(time, num_batch, mode, end, busy)


@njit
def joined(time: Ints, num_batch: int, mode: int, end: Ints, busy: Ints) -> int:
    """`STEP` and `SERIAL`: beside each unit go a part of the next layer's weights, what the next unit needs and what
    the last one leaves. Prompts (the first token) end with the longest of reading and sending up, computing, and
    bringing down and writing; later tokens send up first, then do the rest at once."""
    num_token, num_layer, _ = time.shape
    num = num_token * num_layer * num_batch
    now = 0
    for u in range(-1, num + 1):
        k = u % num_batch
        visit = u // num_batch
        up = down = read = write = compute = 0
        if 0 <= u < num:
            compute = time[visit // num_layer, visit % num_layer, COMPUTE]
        if u < num - 1:  # for the next unit
            i, j = (u + 1) // num_batch // num_layer, (u + 1) // num_batch % num_layer
            read += time[i, j, CACHE_READ] + time[i, j, HIDDEN_READ]
            up += time[i, j, CACHE_UP] + time[i, j, HIDDEN_UP]
        if u >= 0 and visit + 1 < num_token * num_layer:  # for the next layer
            i, j = (visit + 1) // num_layer, (visit + 1) % num_layer
            read += piece(time[i, j, WEIGHT_READ], k, num_batch)
            up += piece(time[i, j, WEIGHT_UP], k, num_batch)
        if u == -1:
            read += time[0, 0, WEIGHT_READ]
            up += time[0, 0, WEIGHT_UP]
        if u >= 1:  # of the last unit
            i, j = (u - 1) // num_batch // num_layer, (u - 1) // num_batch % num_layer
            down += time[i, j, HIDDEN_DOWN] + time[i, j, CACHE_DOWN]
            write += time[i, j, HIDDEN_WRITE] + time[i, j, CACHE_WRITE]
        if mode == SERIAL:
            now += up + down + read + write + compute
        elif visit < num_layer:
            now += max(up + read, down + write, compute)
        else:
            now += up + max(down, read, write, compute)
        busy[ENGINE_UP] += up
        busy[ENGINE_DOWN] += down
        busy[ENGINE_READ] += read
        busy[ENGINE_WRITE] += write
        busy[ENGINE_COMPUTE] += compute
        if 0 <= u < num and (u + 1) % (num_layer * num_batch) == 0:
            end[visit // num_layer] = now
    return now


@njit
def stream(time: Ints, num_batch: int, end: Ints, busy: Ints) -> int:
    """`STREAM`. What unit u brings for later ones is read from the disk when unit u - AHEAD - 1 has been computed, and
    goes up when unit u - 1 has: then its buffer is free. A unit is computed when the one before has been, its weights,
    cache and hidden state are there, and what the last but one left has gone down."""
    num_token, num_layer, _ = time.shape
    cycle = num_layer * num_batch
    num = num_token * cycle
    ahead = min(AHEAD, max(0, cycle - 2))
    engine = np.zeros(NUM_ENGINE, np.int64)
    done = np.zeros(num, np.int64)  # when each unit was computed
    gone = np.zeros(num, np.int64)  # when what it leaves had gone down
    weight_read = np.zeros(num, np.int64)
    cache_read = np.zeros(num + 1, np.int64)
    hidden_read = np.zeros(num + 1, np.int64)
    cache_there = np.zeros(num + 1, np.int64)
    hidden_there = np.zeros(num + 1, np.int64)
    weight_there = np.zeros(num_token * num_layer + 1, np.int64)
    kept = np.zeros(cycle, np.int64)  # when a layer's cache of a batch was in its place
    passed = np.zeros(num_batch, np.int64)  # when a batch's hidden state was
    # before the first unit: its weights, and what it needs
    weight_there[0] = after(engine, ENGINE_UP, after(engine, ENGINE_READ, 0, time[0, 0, WEIGHT_READ], busy),
                            time[0, 0, WEIGHT_UP], busy)  # fmt: skip
    next_read = 0
    last = 0
    for u in range(num):
        visit = u // num_batch
        i, j = visit // num_layer, visit % num_layer
        before = done[u - 1] if u > 0 else 0
        while next_read <= min(u + ahead, num - 1):  # the disk, ahead of the link
            v = next_read
            ready = done[v - ahead - 1] if v - ahead - 1 >= 0 else 0
            following = v // num_batch + 1
            if following < num_token * num_layer:
                part = piece(time[following // num_layer, following % num_layer, WEIGHT_READ], v % num_batch, num_batch)
                weight_read[v] = after(engine, ENGINE_READ, ready, part, busy)
            if v + 1 < num:
                a, b = (v + 1) // num_batch // num_layer, (v + 1) // num_batch % num_layer
                there = max(ready, kept[(v + 1) % cycle])
                cache_read[v + 1] = after(engine, ENGINE_READ, there, time[a, b, CACHE_READ], busy)
            next_read += 1
        following = visit + 1
        if following < num_token * num_layer:
            part = piece(time[following // num_layer, following % num_layer, WEIGHT_UP], u % num_batch, num_batch)
            sent = after(engine, ENGINE_UP, max(before, weight_read[u]), part, busy)
            weight_there[following] = max(weight_there[following], sent)
        if u + 1 < num and num_batch > 1:  # the next batch's
            a, b = (u + 1) // num_batch // num_layer, (u + 1) // num_batch % num_layer
            hidden_read[u + 1] = after(engine, ENGINE_READ, max(before, passed[(u + 1) % num_batch]),
                                       time[a, b, HIDDEN_READ], busy)  # fmt: skip
            hidden_there[u + 1] = after(engine, ENGINE_UP, hidden_read[u + 1], time[a, b, HIDDEN_UP], busy)
        elif num_batch == 1:  # its own, which the layer before has just left
            hidden_read[u] = after(engine, ENGINE_READ, passed[0], time[i, j, HIDDEN_READ], busy)
            hidden_there[u] = after(engine, ENGINE_UP, hidden_read[u], time[i, j, HIDDEN_UP], busy)
        if u + 1 < num:
            a, b = (u + 1) // num_batch // num_layer, (u + 1) // num_batch % num_layer
            cache_there[u + 1] = after(engine, ENGINE_UP, max(before, cache_read[u + 1]), time[a, b, CACHE_UP], busy)
        start = max(before, weight_there[visit], cache_there[u], hidden_there[u])
        if u >= 2:
            start = max(start, gone[u - 2])
        done[u] = start + time[i, j, COMPUTE]
        busy[ENGINE_COMPUTE] += time[i, j, COMPUTE]
        state = after(engine, ENGINE_DOWN, done[u], time[i, j, HIDDEN_DOWN], busy)
        passed[u % num_batch] = after(engine, ENGINE_WRITE, state, time[i, j, HIDDEN_WRITE], busy)
        cache = after(engine, ENGINE_DOWN, done[u], time[i, j, CACHE_DOWN], busy)
        kept[u % cycle] = after(engine, ENGINE_WRITE, cache, time[i, j, CACHE_WRITE], busy)
        gone[u] = max(state, cache)
        last = max(last, passed[u % num_batch], kept[u % cycle], done[u])
        if (u + 1) % cycle == 0:
            end[i] = done[u]
    return last
