"""How pictures look: colours told apart with any colour vision (Okabe and Ito 2008), quiet axes, no global state."""

import functools
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

from kernels.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A500",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW)
TITLE_CHARACTER = 9.5  # of an inch of a picture, at the title's size
INK, FAINT = "#222222", "#8a8a8a"
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
STYLE: dict[Any, Any] = {
    "figure.dpi": 150, "figure.facecolor": "white", "savefig.facecolor": "white", "font.size": 9,
    "font.family": "DejaVu Sans", "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT, "axes.labelcolor": INK,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e6e6e6", "grid.linewidth": 0.8,
    "xtick.color": INK, "ytick.color": INK,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
    "legend.frameon": False, "lines.linewidth": 1.8,
}  # fmt: skip


def styled(draw: Callable[P, "Figure"]) -> Callable[P, "Figure"]:
    """The same function, drawing in this file's style; without matplotlib an `InputError`."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **keys: P.kwargs) -> "Figure":
        try:
            import matplotlib as mpl
        except ImportError:
            raise InputError(
                "plots need the extra: pip install 'ridgeline[plot]'", field="plot", value="matplotlib"
            ) from None
        with mpl.rc_context(STYLE):
            return draw(*args, **keys)

    return wrapped


def new_figure(rows: int, columns: int, size: tuple[float, float], **keys: Any) -> tuple["Figure", Any]:
    """A figure and its axes, without the global state of pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **keys)


def suptitle(figure: "Figure", title: str) -> None:
    """The picture's title, at the left, in lines that the picture has room for."""
    title = textwrap.fill(title, max(8, int(TITLE_CHARACTER * figure.get_figwidth())))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
