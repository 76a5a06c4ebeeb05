"""What the paper printed: Tables 1 to 5 and Fig. 2 of arXiv 2605.00718.

Facts, typed from the paper's tables; they belong to the 98 graded test knees of OAIZIB-CM and to
one seed. Five rows of Tables 4 and 5 are Chen et al., arXiv 2603.02367, as the paper prints them.
"""

from dataclasses import dataclass

Rows = dict[tuple[str, str], tuple[float | None, ...]]

TABLE1_COLUMNS = (
    "oa_auc",
    "oa_accuracy",
    "oa_f1",
    "kl_macro_auc",
    "kl_accuracy",
    "kl_macro_f1",
)
TABLE1: Rows = {
    ("resnet3d", "single_oa"): (0.8807, 0.7959, 0.8507, None, None, None),
    ("resnet3d", "single_kl"): (0.6709, 0.6224, 0.6942, 0.6725, 0.3673, 0.2881),
    ("resnet3d", "dual"): (0.8657, 0.8163, 0.8732, 0.7944, 0.5816, 0.4960),
    ("m3t", "single_oa"): (0.7921, 0.7245, 0.8058, None, None, None),
    ("m3t", "single_kl"): (0.8179, 0.7653, 0.8321, 0.7226, 0.3878, 0.3580),
    ("m3t", "dual"): (0.9175, 0.7959, 0.8485, 0.7756, 0.4592, 0.4668),
    ("nnmamba", "single_oa"): (0.8503, 0.7551, 0.8033, None, None, None),
    ("nnmamba", "single_kl"): (0.8685, 0.7653, 0.8435, 0.7491, 0.3878, 0.2456),
    ("nnmamba", "dual"): (0.8191, 0.7041, 0.8000, 0.7126, 0.3265, 0.2306),
}

TABLE2_COLUMNS = ("evr_pc1", "rho_kl", "rho_oa", "auroc_oa", "rho_adjacent")
TABLE2: Rows = {
    ("resnet3d", "single_oa"): (0.939, -0.802, -0.629, 0.938, -0.800),
    ("resnet3d", "single_kl"): (0.280, 0.692, 0.572, 1.000, 0.600),
    ("resnet3d", "dual"): (0.411, 0.748, 0.610, 1.000, 0.600),
    ("m3t", "single_oa"): (0.991, 0.647, 0.513, 0.847, -0.400),
    ("m3t", "single_kl"): (0.588, 0.685, 0.544, 0.872, -0.200),
    ("m3t", "dual"): (0.578, 0.737, 0.680, 0.938, -0.400),
    ("nnmamba", "single_oa"): (0.888, 0.628, 0.574, 0.852, -0.200),
    ("nnmamba", "single_kl"): (0.952, 0.781, 0.606, 0.869, 0.600),
    ("nnmamba", "dual"): (0.986, -0.687, -0.522, 0.820, 0.400),
}

TABLE3_COLUMNS = ("mass_roi", "top1_roi", "dice_5", "dice_10")
TABLE3: Rows = {
    ("resnet3d", "single_oa"): (0.0793, 0.1769, 0.1608, 0.1123),
    ("resnet3d", "single_kl"): (0.0475, 0.1209, 0.1293, 0.0998),
    ("resnet3d", "dual_kl"): (0.0861, 0.2243, 0.1679, 0.1150),
    ("resnet3d", "dual_oa"): (0.0941, 0.2320, 0.1775, 0.1199),
    ("m3t", "single_oa"): (0.0691, 0.0817, 0.0833, 0.0693),
    ("m3t", "single_kl"): (0.0696, 0.0877, 0.0885, 0.0695),
    ("m3t", "dual_kl"): (0.0720, 0.1043, 0.0938, 0.0715),
    ("m3t", "dual_oa"): (0.0722, 0.1036, 0.0930, 0.0713),
    ("nnmamba", "single_oa"): (0.0754, 0.1904, 0.1666, 0.1155),
    ("nnmamba", "single_kl"): (0.0713, 0.1811, 0.1635, 0.1161),
    ("nnmamba", "dual_kl"): (0.0564, 0.1015, 0.1195, 0.0972),
    ("nnmamba", "dual_oa"): (0.0568, 0.1026, 0.1199, 0.0973),
}

# Dual minus the single model of the same task; the rows are (backbone, task), and the paper
# quotes a number only for the six differences that it calls significant.
FIG2_COLUMNS = ("auc", "accuracy", "f1", "macro_auc", "macro_f1")
FIG2: Rows = {
    ("resnet3d", "kl"): (None, 0.2149, None, 0.1195, 0.2071),
    ("m3t", "oa"): (0.1255, None, None, None, None),
    ("m3t", "kl"): (None, None, None, 0.0544, 0.1075),
}

# p-values of the same differences, as printed.
FIG2_P: dict[tuple[str, str, str], str] = {
    ("resnet3d", "kl", "macro_auc"): "0.004",
    ("resnet3d", "kl", "accuracy"): "<0.001",
    ("resnet3d", "kl", "macro_f1"): "<0.001",
    ("m3t", "oa", "auc"): "0.002",
    ("m3t", "kl", "macro_auc"): "0.048",
    ("m3t", "kl", "macro_f1"): "0.032",
}

PUBLISHED: dict[str, tuple[tuple[str, ...], Rows]] = {
    "table1": (TABLE1_COLUMNS, TABLE1),
    "table2": (TABLE2_COLUMNS, TABLE2),
    "table3": (TABLE3_COLUMNS, TABLE3),
    "fig2": (FIG2_COLUMNS, FIG2),
}


def published(table: str, backbone: str, supervision: str, column: str) -> float | None:
    """The value that the paper printed, or None where it printed none.

    Args:
        table: "table1", "table2", "table3" or "fig2".
        backbone: For example "resnet3d".
        supervision: "single_oa", "single_kl" or "dual"; in Table 3 the branch, "dual_oa" or
            "dual_kl"; in Fig. 2 the task, "oa" or "kl".
        column: A column of that table, for example "oa_auc".

    >>> published("table1", "m3t", "dual", "oa_auc")
    0.9175
    >>> published("table1", "m3t", "single_oa", "kl_accuracy") is None
    True
    """
    columns, rows = PUBLISHED[table]
    row = rows.get((backbone, supervision))
    if row is None or column not in columns:
        return None
    return row[columns.index(column)]


@dataclass(frozen=True)
class ContextRow:
    """One row of Chen et al. (arXiv 2603.02367) in Tables 4 and 5; mean and standard deviation.

    The F1 of the binary task is the macro-F1 of two classes there, not the F1 of the OA class.
    """

    method: str
    images: str
    accuracy: tuple[float, float]
    macro_f1: tuple[float, float]
    auc: tuple[float, float]


_E2E = ("E2E image baseline", "MRI image")
_MASK = ("Image+mask baseline", "MRI image + mask")
_ALL = ("All radiomics", "Full radiomic feature pool")
_TOP = ("Top-k selection (k = 30)", "Adaptive radiomics")
_SET = ("Feature-set retrieval (k = 25)", "Patient-specific radiomics")

CONTEXT: dict[str, tuple[ContextRow, ...]] = {
    "oa": (
        ContextRow(*_E2E, (0.76, 0.08), (0.71, 0.10), (0.83, 0.04)),
        ContextRow(*_MASK, (0.70, 0.11), (0.69, 0.10), (0.81, 0.07)),
        ContextRow(*_ALL, (0.69, 0.08), (0.67, 0.08), (0.81, 0.06)),
        ContextRow(*_TOP, (0.70, 0.10), (0.75, 0.08), (0.77, 0.11)),
        ContextRow(*_SET, (0.75, 0.12), (0.71, 0.14), (0.74, 0.06)),
    ),
    "kl": (
        ContextRow(*_E2E, (0.41, 0.08), (0.36, 0.07), (0.74, 0.07)),
        ContextRow(*_MASK, (0.44, 0.12), (0.41, 0.13), (0.77, 0.07)),
        ContextRow(*_ALL, (0.43, 0.11), (0.40, 0.11), (0.73, 0.08)),
        ContextRow(*_TOP, (0.41, 0.13), (0.38, 0.15), (0.75, 0.10)),
        ContextRow(*_SET, (0.44, 0.06), (0.39, 0.04), (0.70, 0.05)),
    ),
}
