"""Convolutional networks as lists of layers that a pipeline can cut: FLOPs and bytes of one sample, 32-bit values.

ResNet-50 and -101 (He et al. 2016), AmoebaNet-D (18, 256) (Real et al. 2019, as GPipe trains it) and the simplified
U-Net (5, 64) of torchgpipe's benchmarks, each in the layers that its published cuts count.
"""

from typing import NamedTuple

from hw_models.spec import Device

BYTE = 4.0
WINOGRAD = 2.25  # products that F(2 x 2, 3 x 3) saves (Lavin and Gray 2016), as the library runs such convolutions
TRANSFORMED = 16 / 9  # values of a weight in its tiles of 4 x 4, which lie in the library's workspace


class Kernel(NamedTuple):
    """One kernel and what its backward pass runs: `backward` times the same FLOPs and bytes."""

    flop: float
    byte: float
    backward: float
    kept_value: float = 0.0  # of a sample, until then
    weight: float = 0.0
    saved: float = 1.0  # times fewer products than `flop` has, where Winograd's algorithm runs


class Layer(NamedTuple):
    kernel: tuple[Kernel, ...]
    out_value: float  # values that leave for the next layer, everything that goes along included


def layer_times(layers: list[Layer], device: Device, share: float, winograd: bool = True) -> list[tuple[float, float]]:
    """Seconds of one sample through each layer, forward and backward: every kernel at this share of its roofline.
    `winograd`: 3 x 3 convolutions of stride 1 run as such (in 32 bits, on frames rather than clips)."""
    times = []
    for layer in layers:
        forward = [
            max(
                kernel.flop / (kernel.saved if winograd else 1.0) / device.peak("fp32"),
                kernel.byte / device.mem_byte_per_s,
            )
            / share
            for kernel in layer.kernel
        ]
        backward = sum(s * kernel.backward for s, kernel in zip(forward, layer.kernel, strict=True))
        times.append((sum(forward), backward))
    return times


def conv(c_in: int, c_out: int, window: int, side: int, stride: int = 1) -> Kernel:
    """A convolution into a square of `side`; the gradients of its input and of its weights cost as much each."""
    area, weight = side * side, float(window * c_in * c_out)
    byte = BYTE * area * (c_in * stride**2 + c_out)
    saved = WINOGRAD if window == 9 and stride == 1 else 1.0
    return Kernel(2.0 * weight * area, byte, 2.0, c_in * area * stride**2, weight, saved)


def passes(forward: float, backward: float, channels: float, side: int, kept: float = 0.0) -> Kernel:
    """Work bound by memory: so many passes over `channels` planes of a square, of which it keeps `kept`."""
    plane = float(channels * side * side)
    return Kernel(0.0, BYTE * forward * plane, backward / forward, kept * plane)


def norm(channels: int, side: int) -> Kernel:
    """Statistics, then values: three passes; backward reads input and gradient twice and writes once."""
    return passes(3, 5, channels, side, 1)


def relu(channels: int, side: int) -> Kernel:
    return passes(2, 3, channels, side, 1)


def resnet101() -> list[Layer]:
    """370 layers: a bottleneck is 11."""
    return _resnet((3, 4, 23, 3))


def resnet50() -> list[Layer]:
    """The same with 16 bottlenecks instead of 33."""
    return _resnet((3, 4, 6, 3))


def _resnet(blocks: tuple[int, int, int, int]) -> list[Layer]:
    layers = [Layer((conv(3, 64, 49, 112, 2),), 64 * 112**2), Layer((norm(64, 112),), 64 * 112**2)]
    layers += [Layer((relu(64, 112),), 64 * 112**2), Layer((passes(1.25, 1.25, 64, 112),), 64 * 56**2)]
    c_in, side = 64, 56
    for group, (count, plane) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True)):
        for block in range(count):
            stride = 2 if group and not block else 1
            out, wide = side // stride, 4 * plane
            layers.append(Layer((), 2 * c_in * side**2))  # the shortcut goes along until it is added
            kept = c_in * side**2
            for kernels, value in (
                (conv(c_in, plane, 1, side), plane * side**2), (norm(plane, side), plane * side**2),
                (relu(plane, side), plane * side**2), (conv(plane, plane, 9, out, stride), plane * out**2),
                (norm(plane, out), plane * out**2), (relu(plane, out), plane * out**2),
                (conv(plane, wide, 1, out), wide * out**2), (norm(wide, out), wide * out**2),
            ):  # fmt: skip
                layers.append(Layer((kernels,), value + kept))
            shortcut = (conv(c_in, wide, 1, out, stride), norm(wide, out)) if not block else ()
            layers.append(Layer((*shortcut, passes(3, 2, wide, out)), wide * out**2))
            layers.append(Layer((relu(wide, out),), wide * out**2))
            c_in, side = wide, out
    return [*layers, Layer((passes(1, 1, 2048, 7),), 2048), Layer((), 2048), Layer((conv(2048, 1000, 1, 1),), 1000)]


def unet(depth: int = 5, num_conv: int = 5, base: int = 64, side: int = 192) -> list[Layer]:
    """241 layers for (5, 5, 64): convolution, dropout, norm, activation are one each."""
    layers: list[Layer] = []

    def block(c_in: int, middle: int, c_out: int, at: int) -> None:
        for index in range(num_conv):
            one = c_in if index == 0 else middle
            two = c_out if index == num_conv - 1 else middle
            kernels = (conv(one, two, 9, at), passes(2, 2, two, at), norm(two, at), relu(two, at))
            layers.extend(Layer((kernel,), two * at**2) for kernel in kernels)

    c_in = 3
    for level in range(depth):
        wide = base * 2**level
        block(c_in, wide, wide, side)
        layers.append(Layer((), wide * side**2))
        # a pool keeps what it read and, in 64 bits, where each quarter's largest was
        layers.append(Layer((passes(1.25, 1.25, wide, side, 1.5),), wide * side**2 / 4))
        c_in, side = wide, side // 2
    block(c_in, 2 * c_in, c_in, side)
    for level in reversed(range(depth)):
        wide, out = base * 2 ** (level + 1), max(base * 2**level // 2, 1)
        half, side = wide // 2, 2 * side
        layers.append(Layer((passes(1.25, 1.25, half, side),), half * side**2))
        layers.append(Layer((passes(2, 2, wide, side),), wide * side**2))
        block(wide, out, out, side)
    return [*layers, Layer((conv(base // 2, 1, 1, side),), side**2)]


def _reduced(c_in: int, c_out: int, side: int, stride: int = 1) -> tuple[Kernel, ...]:
    """Activation, 1 x 1 convolution, norm."""
    return relu(c_in, side * stride), conv(c_in, c_out, 1, side, stride), norm(c_out, side)


def _narrow(channels: int, side: int, windows: tuple[int, ...], stride: int = 1) -> tuple[Kernel, ...]:
    """A bottleneck of a quarter of the channels: 1 x 1, `windows` (the first one strides), 1 x 1."""
    quarter, into = channels // 4, side * stride
    middle: tuple[Kernel, ...] = ()
    for window in windows:
        middle += relu(quarter, side * stride), conv(quarter, quarter, window, side, stride), norm(quarter, side)
        stride = 1
    return *_reduced(channels, quarter, into), *middle, *_reduced(quarter, channels, side)


def _cell(c_before: int, c_in: int, c: int, side: int, reduction: bool, after_reduction: bool) -> tuple[Kernel, ...]:
    """The ten operations of a cell at its output's side, the two reductions before and the joins after them."""
    into = 2 * side if reduction else side
    first = _reduced(c_in, c, into)
    second = _reduced(c_before, c, into, 2 if after_reduction else 1) if after_reduction or c_before != c else ()
    pool = passes(2, 2, c, side)
    if reduction:
        strided = passes(5, 5, c, side)
        body = (strided, strided, *_narrow(c, side, (9,), 2), *_narrow(c, side, (7, 7)), pool, strided, pool)
        body += _reduced(c, c, side)
        return *first, *second, *body, *(passes(3, 2, c, side),) * 5, passes(2, 1, 3 * c, side)
    body = (*_reduced(c, c, side) * 3, *_narrow(c, side, (7, 7)) * 2, pool, pool, pool)
    return *first, *second, *body, *(passes(3, 2, c, side),) * 5, passes(2, 1, 4 * c, side)


def amoebanet_d(num_layer: int = 18, num_filter: int = 256) -> list[Layer]:
    """24 layers: three of the stem, three groups of normal cells with reductions between them, the classifier."""
    c = num_filter // 4
    layers = [Layer((relu(3, 224), conv(3, c, 9, 112, 2), norm(c, 112)), c * 112**2)]
    c_before = c_in = c
    side, after = 112, False
    kept = c_in * side**2
    kinds = ["r", "r", *(["n"] * (num_layer // 3) + ["r"]) * 2, *["n"] * (num_layer // 3)]
    for kind in kinds:
        reduction = kind == "r"
        c *= 2 if reduction else 1
        side //= 2 if reduction else 1
        kernels = _cell(c_before, c_in, c, side, reduction, after)
        c_before, c_in, after = c_in, c * (3 if reduction else 4), reduction
        layers.append(Layer(kernels, c_in * side**2 + kept))
        kept = c_in * side**2
    return [*layers, Layer((passes(1, 1, c_in, side), conv(c_in, 1000, 1, 1)), 1000)]
