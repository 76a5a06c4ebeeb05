"""Scores against the truth by agreement of the reader: one line a supervision."""

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from kellgren.report.figures.style import BLUE, FULL_WIDTH, GREEN, INK, ORANGE, PURPLE, SKY, STYLE

PANELS = {
    ("oa", "auc"): "OA AUC",
    ("kl", "macro_auc"): "KL macro-AUC",
    ("severity", "rho_pc1"): "rho of PC1 and severity",
}
LOOKS = {
    "single_oa": (SKY, "o"),
    "single_kl": (PURPLE, "s"),
    "dual": (INK, "D"),
    "dual_released": (GREEN, "^"),
    "kl_clm": (ORANGE, "v"),
    "dual_forward": (BLUE, "P"),
}
STEP = 0.008  # of agreement, between neighbouring lines


def noise(table: pd.DataFrame) -> Figure:
    """Mean over seeds with its 95 % interval over seeds and knees, against the truth.

    Args:
        table: `truth_methods` of a sweep over `agreement`, which is a column.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(FULL_WIDTH, 2.5))
        figure.subplots_adjust(left=0.06, right=0.985, top=0.9, bottom=0.3, wspace=0.25)
        for axis, (key, title) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
            rows = table[(table["against"] == "truth") & (table["task"] == key[0])]
            rows = rows[rows["metric"] == key[1]]
            for place, (name, (colour, marker)) in enumerate(LOOKS.items()):
                of = rows[rows["model"].str.endswith(f"-{name}")]
                spread = [of["mean"] - of["ci_low"], of["ci_high"] - of["mean"]]
                x = of["agreement"] + STEP * (place - len(LOOKS) / 2)
                look = {"color": colour, "marker": marker, "markersize": 3, "linewidth": 0.8}
                axis.errorbar(x, of["mean"], yerr=spread, label=name, elinewidth=0.5, **look)
            axis.set_title(title, loc="left", fontweight="bold")
            axis.set_xlabel("agreement of the reader with the truth")
            axis.invert_xaxis()
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(LOOKS))
    return figure
