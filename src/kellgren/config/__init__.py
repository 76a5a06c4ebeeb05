"""A study file: what is studied, frozen and checked; defaults are the paper's (section 3.4)."""

from kellgren.config.knees import CohortSettings, PhantomSettings, PreparationSettings
from kellgren.config.networks import (
    PAPER_GRIDS,
    AugmentationSettings,
    BackboneSettings,
    ExplanationSettings,
    TrainingSettings,
)
from kellgren.config.radiomics import (
    SETTINGS_OF,
    ImageSettings,
    RadiomicsSettings,
    RetrievalSettings,
    SystemName,
    TopKSettings,
)
from kellgren.config.study import AnalysisSettings, Study, read_studies, read_study
from kellgren.config.supervision import SUPERVISIONS, Supervision

__all__ = [
    "PAPER_GRIDS",
    "SETTINGS_OF",
    "SUPERVISIONS",
    "AnalysisSettings",
    "AugmentationSettings",
    "BackboneSettings",
    "CohortSettings",
    "ExplanationSettings",
    "ImageSettings",
    "PhantomSettings",
    "PreparationSettings",
    "RadiomicsSettings",
    "RetrievalSettings",
    "Study",
    "Supervision",
    "SystemName",
    "TopKSettings",
    "TrainingSettings",
    "read_studies",
    "read_study",
]
