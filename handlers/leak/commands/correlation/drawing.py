"""Turns figures into SVG and PNG, the same bytes for the same recording; matplotlib is imported for this alone."""

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from supervisor.command import FlyballError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The colour of text and axes. In SVG it becomes the page's own, so that the plot reads on light and dark.
INK: Final = "#010203"
_DOTS_PER_INCH: Final = 130
_SETTINGS: Final[dict[str, Any]] = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9.5,
    # a name with a dollar in it is a name
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8a8a8a",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "grid.color": "#8a8a8a",
    "grid.alpha": 0.25,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "path.simplify": True,
}


class NoMatplotlib(FlyballError):
    """Plots were asked for, and what draws them is missing."""

    exit_code = 2


def svg(draw: Callable[[], "Figure"], name: str) -> str:
    """A figure as an element for HTML; `name` keeps its inner names apart from those of other figures."""
    with _matplotlib(name):
        written = io.StringIO()
        draw().savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # groups are numbered alike in every figure, and nothing refers to them
    return re.sub(r'<g id="[^"]*"', "<g", text)


def png(draw: Callable[[], "Figure"]) -> bytes:
    """A figure as a picture on white."""
    with _matplotlib("picture"):
        written = io.BytesIO()
        draw().savefig(written, format="png", dpi=_DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    return written.getvalue()


def need_matplotlib() -> None:
    """Make sure that there is something to draw with.

    :raises NoMatplotlib: it is not installed, or broken.
    """
    # that it looks for fonts the first time, and where it keeps what it found, is nobody's trouble
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        import matplotlib.figure  # noqa: F401 (its compiled parts may be missing)
    except ImportError as error:
        raise NoMatplotlib(
            "--html and --png need matplotlib", why=str(error), hint="Install it: pip install 'matplotlib>=3.10'"
        ) from error


@contextmanager
def _matplotlib(name: str) -> Iterator[None]:
    """Our settings, whatever those of the user are."""
    import matplotlib

    settings: Any = _SETTINGS | {"svg.hashsalt": f"flyball-{name}"}
    with matplotlib.rc_context(), warnings.catch_warnings():
        # letters that the font lacks are boxes in a picture; a page takes them from the reader's fonts
        warnings.filterwarnings("ignore", message=r"Glyph \d+ ")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield
