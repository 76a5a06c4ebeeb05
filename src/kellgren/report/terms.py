"""How the things of a study are named and ordered on a page: the paper's own headings."""

from collections.abc import Mapping

import pandas as pd

BACKBONES: dict[str, str] = {"resnet3d": "ResNet3D", "m3t": "M3T", "nnmamba": "nnMamba"}

# Radiomics systems: the five rows of Chen et al., each before its variants; then the ablations.
SYSTEMS: dict[str, str] = {
    "image": "Image",
    "image_mask": "Image and mask",
    "image_mask_onehot": "Image and mask, one channel a region",
    "all_radiomics": "All radiomics",
    "all_radiomics_ordinal": "All radiomics, ordinal",
    "all_radiomics_refit": "All radiomics, refitted in test",
    "top_k": "Top-k selection",
    "top_k_released": "Top-k selection, as released",
    "retrieval": "Feature-set retrieval",
    "retrieval_released": "Feature-set retrieval, as released",
    "shape": "Shape only",
    "texture": "Grey values and texture only",
    "cartilage": "Cartilage only",
    "bone": "Bone only",
    "demographics": "Demographics",
}

METHODS: dict[str, str] = {**BACKBONES, **SYSTEMS}

REGIONS: dict[str, str] = {
    "roi_1": "Femur",
    "roi_2": "Femoral cartilage",
    "roi_3": "Tibia",
    "roi_4": "Medial tibial cartilage",
    "roi_5": "Lateral tibial cartilage",
}

FAMILIES: dict[str, str] = {
    "shape": "Shape",
    "firstorder": "First order",
    "glcm": "GLCM",
    "glrlm": "GLRLM",
    "glszm": "GLSZM",
    "gldm": "GLDM",
    "ngtdm": "NGTDM",
}

SUPERVISIONS: dict[str, str] = {
    "single_oa": "Single-OA",
    "single_kl": "Single-KL",
    "dual": "Dual",
}

# Name of a branch -> (supervision, head); the columns of Fig. 3 to 5 and the rows of Table 3.
BRANCHES: dict[str, tuple[str, str]] = {
    "Single-OA": ("single_oa", "oa"),
    "Single-KL": ("single_kl", "kl"),
    "Dual-OA": ("dual", "oa"),
    "Dual-KL": ("dual", "kl"),
}

TASKS: dict[str, str] = {"oa": "OA", "kl": "KL"}

REFERENCES: dict[str, str] = {"truth": "truth", "reading": "reading"}

METRICS: dict[str, str] = {
    "auc": "AUC",
    "macro_auc": "Macro-AUC",
    "accuracy": "Accuracy",
    "f1": "F1",
    "macro_f1": "Macro-F1",
    "mass_roi": "mass@ROI",
    "top1_roi": "top1@ROI",
    "dice_5": "Dice@5",
    "dice_10": "Dice@10",
    "quadratic_kappa": "Quadratic κ",
    "mae": "MAE",
    "mae_expected": "MAE of E[k]",
    "macro_mae": "Macro-MAE",
    "off_by_one": "Within one grade",
    "rps": "RPS",
    "tau_b": "τ-b",
    "enrichment_1": "Enrichment@1",
    "enrichment_5": "Enrichment@5",
    "ap": "AP",
    "auroc": "AUROC",
    "share_top1_mass": "Saliency in top 1 %",
    "rho_oa_score": "ρ of OA score",
    "rho_expected": "ρ of E[k]",
    "rho_pc1": "ρ of PC1",
}

CONTROLS: dict[str, str] = {
    "uniform": "Uniform",
    "centre": "Centre",
    "mean_cartilage": "Mean cartilage",
    "image_gradient": "Image gradient",
    "other_patient": "Other patient",
    "untrained": "Untrained",
}

AXES: dict[str, str] = {
    "test": "PC1, test-fit",
    "train": "PC1, train-fit",
    "supervised": "0 to 4, train-fit",
}

SCALINGS: dict[str, str] = {"none": "as it is", "temperature": "temperature"}

COVARIATES: dict[str, str] = {"age": "Age", "sex": "Sex", "side": "Side", "site": "Site"}

# The six columns of Table 1, (task, metric) from left to right.
PERFORMANCE: tuple[tuple[str, str], ...] = (
    ("oa", "auc"),
    ("oa", "accuracy"),
    ("oa", "f1"),
    ("kl", "macro_auc"),
    ("kl", "accuracy"),
    ("kl", "macro_f1"),
)


def spoken(names: Mapping[str, str], key: str) -> str:
    """Printed name of a key; a key that the paper does not have is printed as it stands.

    >>> spoken(BACKBONES, "m3t"), spoken(BACKBONES, "radiomics_all")
    ('M3T', 'radiomics_all')
    """
    return names.get(key, key)


def in_order(keys: "pd.Series[str]", names: Mapping[str, str]) -> list[str]:
    """Distinct keys, those of the paper first and in its order, then the others by name.

    >>> in_order(pd.Series(["zeta", "m3t", "resnet3d", "m3t"]), BACKBONES)
    ['resnet3d', 'm3t', 'zeta']
    """
    present = set(keys.dropna().astype(str))
    return [key for key in names if key in present] + sorted(present - set(names))


def levels_in_order(levels: "pd.Series[str]") -> list[str]:
    """Distinct levels of a covariate: below an edge first, unknown last.

    >>> levels_in_order(pd.Series(["65 and above", "unknown", "55 to below 65", "below 55"]))
    ['below 55', '55 to below 65', '65 and above', 'unknown']
    """
    present = sorted(set(levels.astype(str)))
    return sorted(present, key=lambda level: (level == "unknown", not level.startswith("below")))
