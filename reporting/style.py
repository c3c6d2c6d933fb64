"""How all figures look, and how they are written.

Colours are Okabe and Ito's, which readers with a colour vision deficiency can tell apart; bars also
differ in hatching, lines in dash and marker. No date or program name goes into the files, so equal
inputs give equal bytes.
"""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from results.files import replacing

PALETTE = ("#999999", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#F0E442")
HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++", "oo")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 3)))
MARKERS = "osD^vPX*"
COLUMN_INCHES = 7.0
DPI = 160

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
}
_PADDING = 0.1  # inches around what is drawn


def save(figure: Figure, base: Path) -> list[Path]:
    """Write a figure as `base`.png and `base`.pdf, without a date in either.

    The layout is made once for both files; it costs more than the drawing.

    Args:
        figure: what to write.
        base: path without suffix; its folder is made if it does not exist.
    """
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # every save would make it anew
    box = figure.get_tightbbox(canvas.get_renderer()).padded(_PADDING)
    written = []
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        path = base.with_name(base.name + suffix)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=DPI, metadata=metadata, bbox_inches=box)
        written.append(path)
    return written
