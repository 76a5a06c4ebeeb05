"""A study: the runs, their declared comparisons, and the tidy tables that come out of them.

Reads run folders, calls `kellgren.analysis`, and never imports torch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kellgren import appraisal
from kellgren.analysis.chance import chance_levels
from kellgren.analysis.resampling import resample
from kellgren.comparisons import (
    BACKBONE_VS_BACKBONE,
    DUAL_VS_SINGLE,
    NETWORK_VS_RADIOMICS,
    SUPERVISION_VS_SINGLE,
    Comparison,
    comparison_table,
    in_order,
    overlap_comparison_table,
    planned_comparisons,
    seed_table,
)
from kellgren.config import AnalysisSettings
from kellgren.evidence import (
    Evidence,
    Row,
    attribution_rows,
    check_cases,
    confusion_rows,
    embedding_rows,
    geometry_rows,
    interference_rows,
    overlap_rows,
    performance_rows,
    published_form_rows,
    run_row,
    scores_of,
)
from kellgren.exemplars import Exemplar, read_exemplars
from kellgren.faults import InputError
from kellgren.labels import KL_GRADES, oa_from_kl
from kellgren.results import StudyResult, tidy
from kellgren.runs import Run
from kellgren.sanity import (
    control_rows,
    deletion_rows,
    randomisation_rows,
    repeatability_rows,
)
from kellgren.truth import Truth, method_rows, run_rows, true_scores

__all__ = [
    "BACKBONE_VS_BACKBONE",
    "DUAL_VS_SINGLE",
    "NETWORK_VS_RADIOMICS",
    "SUPERVISION_VS_SINGLE",
    "Comparison",
    "Exemplar",
    "StudyResult",
    "analyze",
    "planned_comparisons",
]

MOST_READINGS = 2000  # of a noisy reference
MOST_IN_STRATA = 2000  # resamples of a stratum


def analyze(
    runs: Sequence[Run],
    *,
    settings: AnalysisSettings,
    name: str = "study",
    cohort: pd.DataFrame | None = None,
    protocol: dict[str, Any] | None = None,  # any JSON object
    covariates: pd.DataFrame | None = None,
    truth: Truth | None = None,
) -> StudyResult:
    """Measure every run and every declared comparison.

    Each run needs `predictions.csv`; features, overlaps, pictures and `run.json` are used where
    they stand. One set of case resamples serves every metric and comparison.

    Args:
        runs: Runs that predicted the same test cases.
        settings: Number of resamples, seed, kind of p-value.
        name: Name of the study.
        cohort: Summary of the cohort, one row a split; None to count the test cases.
        protocol: What the study asked for.
        covariates: `case_id` and any of age, sex, side and site, one row a case; None for no
            results by stratum.
        truth: True severity of the knees; None where nobody knows it.

    Raises:
        InputError: If there is no run, a file cannot be used, or the test cases differ.
    """
    if not runs:
        raise InputError("the study", "no run", "at least one", "train and predict first")
    evidence = [Evidence.of(run) for run in sorted(runs, key=in_order)]
    check_cases(evidence)
    kl, seed = evidence[0].predictions.kl, settings.seed
    drawn = resample(len(kl), resamples=settings.resamples, rng=np.random.default_rng(seed))
    scores = {found.run.name: scores_of(found, drawn) for found in evidence}
    true = [] if truth is None else [true_scores(f, truth, drawn) for f in evidence]
    means = {"resamples": settings.resamples, "seed": seed}
    fewer = min(settings.resamples, MOST_IN_STRATA)
    readings = min(settings.resamples, MOST_READINGS)
    return StudyResult(
        name=name,
        protocol=protocol or {},
        cohort=tidy("cohort", [_test_cohort(kl)] if cohort is None else cohort.to_dict("records")),
        runs=tidy("runs", [run_row(f) for f in evidence]),
        performance=tidy(
            "performance",
            [row for f in evidence for row in performance_rows(f, scores[f.run.name], drawn)],
        ),
        chance=tidy(
            "chance", chance_levels(kl, rng=np.random.default_rng(seed)).to_dict("records")
        ),
        comparisons=comparison_table(evidence, scores, resamples=drawn, settings=settings),
        seeds=seed_table(evidence, scores, settings=settings),
        noise=tidy(
            "noise",
            appraisal.noise_rows(
                evidence, agreements=settings.agreements, seed=seed, draws=readings
            ),
        ),
        similarity=tidy("similarity", appraisal.similarity_rows(evidence, drawn, seed=seed)),
        **{
            name: tidy(name, [row for rows in of_runs for row in rows])
            for name, of_runs in {
                "published_form": [published_form_rows(f) for f in evidence],
                "attribution": [attribution_rows(f) for f in evidence],
                "ordinal": [appraisal.ordinal_rows(f, drawn) for f in evidence],
                "calibration": [appraisal.calibration_rows(f, seed=seed) for f in evidence],
                "reliability": [appraisal.reliability_rows(f, seed=seed) for f in evidence],
                "hierarchy": [appraisal.hierarchy_rows(f) for f in evidence],
                "decision": [appraisal.decision_rows(f, drawn) for f in evidence],
                "order": [appraisal.order_rows(f, drawn) for f in evidence],
                "representation": [
                    appraisal.representation_rows(f, drawn, seed=seed) for f in evidence
                ],
                "strata": [
                    appraisal.strata_rows(f, covariates, resamples=fewer, seed=seed)
                    for f in evidence
                ],
            }.items()
        },
        geometry=tidy("geometry", [r for f in evidence for r in geometry_rows(f, seed=seed)]),
        interference=tidy("interference", [r for f in evidence for r in interference_rows(f)]),
        overlap=tidy("overlap", [row for f in evidence for row in overlap_rows(f, **means)]),
        overlap_comparisons=overlap_comparison_table(evidence, settings=settings),
        controls=tidy("controls", [r for f in evidence for r in control_rows(f, **means)]),
        deletion=tidy("deletion", [r for f in evidence for r in deletion_rows(f, **means)]),
        randomisation=tidy("randomisation", [r for f in evidence for r in randomisation_rows(f)]),
        repeatability=tidy("repeatability", repeatability_rows(evidence)),
        truth=tidy("truth", [row for each in true for row in run_rows(each, drawn)]),
        truth_methods=tidy("truth_methods", method_rows(true, rng=np.random.default_rng(seed))),
        confusion=tidy("confusion", [row for f in evidence for row in confusion_rows(f)]),
        embedding=tidy("embedding", [r for f in evidence for r in embedding_rows(f, seed=seed)]),
        exemplars=tuple(
            exemplar
            for f in evidence
            if f.run.exemplars.exists()
            for exemplar in read_exemplars(f.run.exemplars)
        ),
    )


def _test_cohort(kl: np.ndarray) -> Row:  # " n"
    grades = {f"kl{k}": int((kl == k).sum()) for k in range(KL_GRADES)}
    positive = int(oa_from_kl(kl).sum())
    counts = {"oa_negative": len(kl) - positive, "oa_positive": positive}
    return {"split": "test", "cases": len(kl), **grades, **counts}
