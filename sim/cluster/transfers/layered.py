"""Each layer's KV is sent while the next layers are computed (Splitwise, ISCA 2024, section 5.2).

A layer can leave once it is computed, so the last one is always left. Where the link is slower than the layers are
computed, what it could not send since the end of the first layer is left too.
"""

HELP = "layer by layer behind the prefill"


def left_byte(kv_byte: float, num_layer: int, step_s: float, link_byte_per_s: float) -> float:
    """The last layer, or what a link of `link_byte_per_s` has not moved in the time of all layers but the first.

    >>> left_byte(8e9, 80, 1.0, 1e11), left_byte(8e9, 80, 0.04, 1e11)
    (100000000.0, 4050000000.0)
    """
    sent = link_byte_per_s * step_s * (num_layer - 1) / num_layer
    return max(kv_byte / num_layer, kv_byte - sent)
