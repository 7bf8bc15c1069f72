"""Networks of latent diffusion as lists of kernels: the U-Net of Stable Diffusion and its tiny image decoder.

Shapes are those of the published configurations: U-Net of 320 channels and factors 1, 2, 4, 4, two residual blocks a
level (three on the way up), transformers of self-attention, cross-attention and a gated feed-forward part on the first
three levels and in the middle (Rombach et al. 2022); the tiny autoencoder has 64 channels throughout.
"""

from collections.abc import Iterator
from typing import NamedTuple

from hw_models.device import cost
from kernels import optable
from kernels.formats import FORMAT_CODE
from kernels.machine import Machine

BYTE, TEXT = 2.0, 77  # 16-bit values; tokens of a prompt


class Kernel(NamedTuple):
    """A product of `m` rows by `k` times `n` for one sample, or so many bytes read and written. `weighted`: its second
    factor is a weight, which a batch reads once; attention's is the sample's own."""

    m: int
    n: int
    k: int
    act_byte: float
    weighted: bool = True


def conv(c_in: int, c_out: int, side: int, window: int = 9, stride: int = 1) -> Kernel:
    """A convolution into a square of `side`, as a product over the window."""
    return Kernel(side**2, c_out, window * c_in, BYTE * side**2 * c_in * stride**2)


def passes(count: float, channels: int, side: int) -> Kernel:
    """So many reads and writes of all channels of a square."""
    return Kernel(0, 0, 0, BYTE * count * channels * side**2)


def residual(c_in: int, c: int, side: int) -> Iterator[Kernel]:
    """Two normed and activated convolutions, and the shortcut, added where the second one writes."""
    yield from (passes(2, c_in, side), conv(c_in, c, side), passes(2, c, side), conv(c, c, side), passes(1, c, side))
    if c_in != c:
        yield conv(c_in, c, side, 1)


def transformer(c: int, side: int, text_width: int) -> Iterator[Kernel]:
    """Projections in and out, attention to itself (fused) and to the text, a gated feed-forward part of 4 c."""
    token = side**2
    yield from (passes(2, c, side), conv(c, c, side, 1), conv(c, c, side, 1))
    yield from (conv(c, 3 * c, side, 1), Kernel(token, token, 2 * c, BYTE * 3 * token * c, False), conv(c, c, side, 1))
    yield from (conv(c, c, side, 1), Kernel(TEXT, 2 * c, text_width, BYTE * TEXT * text_width))
    yield from (Kernel(token, TEXT, 2 * c, BYTE * 2 * token * c, False), conv(c, c, side, 1))
    yield from (conv(c, 8 * c, side, 1), passes(3, 4 * c, side), conv(4 * c, c, side, 1), passes(9, c, side))


def unet(side: int = 64, text_width: int = 1024) -> list[Kernel]:
    """One call on a latent of `side` squared.

    >>> round(sum(2 * k.m * k.n * k.k for k in unet()) / 1e12, 2), sum(k.n * k.k for k in unet() if k.weighted) // 10**6
    (0.8, 837)
    """
    width = (320, 640, 1280, 1280)
    out = [conv(4, 320, side)]
    skips, c_in = [320], 320
    for level, c in enumerate(width):
        for _ in range(2):
            out += [*residual(c_in, c, side), *(transformer(c, side, text_width) if level < 3 else ())]
            skips.append(c)
            c_in = c
        if level < 3:
            side //= 2
            out.append(conv(c, c, side, 9, 2))
            skips.append(c)
    out += [*residual(c_in, c_in, side), *transformer(c_in, side, text_width), *residual(c_in, c_in, side)]
    for level in reversed(range(4)):
        c = width[level]
        for _ in range(3):
            out += [*residual(c_in + skips.pop(), c, side), *(transformer(c, side, text_width) if level < 3 else ())]
            c_in = c
        if level:
            side *= 2
            out.append(conv(c, c, side))
    return [*out, passes(2, 320, side), conv(320, 4, side)]


def tiny_decoder(side: int = 64) -> list[Kernel]:
    """Latent to image: three blocks of three convolutions on each of three levels, one on the last."""
    out = [conv(4, 64, side)]
    for level in range(4):
        for _ in range(3 if level < 3 else 1):
            out += [conv(64, 64, side)] * 3 + [passes(3, 64, side)]
        if level < 3:
            side *= 2
            out.append(conv(64, 64, side))
    return [*out, conv(64, 3, side)]


def tiny_encoder(side: int = 512) -> list[Kernel]:
    """Image to latent: the way back."""
    out = [conv(3, 64, side)]
    for level in range(4):
        for _ in range(1 if level == 0 else 3):
            out += [conv(64, 64, side)] * 3 + [passes(3, 64, side)]
        if level < 3:
            side //= 2
            out.append(conv(64, 64, side, 9, 2))
    return [*out, conv(64, 4, side)]


def call_s(kernels: list[Kernel], batch: int, where: Machine) -> float:
    """Seconds of a call of `batch` samples, every kernel at the machine's price; what attention writes between its two
    products stays on the chip."""
    ops, work = optable.empty(len(kernels))
    for one, kernel in zip(ops, kernels, strict=True):
        one["fmt"], one["act_byte"] = FORMAT_CODE["fp16"], batch * kernel.act_byte
        if not kernel.m:
            one["kind"] = optable.COPY
            one["act_byte"], one["write_byte"] = batch * kernel.act_byte / 2, batch * kernel.act_byte / 2
            continue
        rows = batch * kernel.m
        one["kind"], one["m"], one["n"], one["k"] = optable.GEMM, rows, kernel.n, kernel.k
        one["flop"] = 2.0 * rows * kernel.n * kernel.k
        if kernel.weighted:
            one["weight_byte"], one["write_byte"] = BYTE * kernel.n * kernel.k, BYTE * rows * kernel.n
    return float(cost(ops, work, where)["time_ps"].sum()) * 1e-12
