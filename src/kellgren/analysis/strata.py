"""Performance by age, sex, side or site: where a model is worse, and how little n allows to say."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped

from kellgren.analysis.performance import METRICS, tasks_of
from kellgren.analysis.resampling import resample, sampled
from kellgren.labels import oa_from_kl
from kellgren.tables import Predictions

AGE_EDGES = (55.0, 65.0)
COVARIATES = ("age", "sex", "side", "site")


@dataclass(frozen=True)
class Stratum:
    """Some of the cases.

    Attributes:
        covariate: "age", "sex", "side" or "site".
        level: What they share; ages are grouped, and "unknown" are those without the covariate.
        rows: Their places.
    """

    covariate: str
    level: str
    rows: Int[np.ndarray, " m"]


def strata(predictions: Predictions, covariates: pd.DataFrame) -> Iterator[Stratum]:
    """The strata of the cases by each covariate that the table has.

    A covariate that is the same for all cases makes no strata.

    Args:
        predictions: The cases.
        covariates: `case_id` and any of `COVARIATES`; further columns are ignored.
    """
    table = covariates.set_index(covariates["case_id"].astype(str))
    table = table.reindex([str(case_id) for case_id in predictions.case_id])
    for covariate in COVARIATES:
        if covariate not in table.columns:
            continue
        level = _levels(covariate, table[covariate])
        if len(set(level)) > 1:
            for name in sorted(set(level)):
                yield Stratum(covariate, name, np.flatnonzero(level == name))


def stratum_scores(
    predictions: Predictions, *, resamples: int, rng: np.random.Generator
) -> list[dict[str, object]]:
    """Each metric of Table 1 on some cases, with its interval where the classes allow one.

    Args:
        predictions: The cases of one stratum.
        resamples: Number of resamples of these cases.
        rng: Source of randomness.

    Returns:
        Rows of task, metric, value (NaN where a class is absent), n, positives, ci_low, ci_high.
    """
    drawn = resample(len(predictions), resamples=resamples, rng=rng)
    counts = {"n": len(predictions), "positives": int(oa_from_kl(predictions.kl).sum())}
    rows: list[dict[str, object]] = []
    for task in tasks_of(predictions):
        for name, metric in METRICS[task].items():
            row = {"task": task, "metric": name, "value": metric(predictions), **counts}
            samples = sampled(metric, predictions, drawn)
            if drawn.suffice(samples):
                low, high = np.percentile(drawn.defined(samples)[0], [2.5, 97.5])
                row |= {"ci_low": float(low), "ci_high": float(high)}
            rows.append(row)
    return rows


def _levels(covariate: str, values: "pd.Series[Any]") -> Shaped[np.ndarray, " n"]:
    if covariate != "age":
        return values.map(lambda v: "unknown" if pd.isna(v) or v == "" else str(v)).to_numpy()
    years = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
    low, high = (f"{edge:g}" for edge in AGE_EDGES)
    names = np.array([f"below {low}", f"{low} to below {high}", f"{high} and above", "unknown"])
    place = np.where(np.isnan(years), 3, np.searchsorted(AGE_EDGES, years, side="right"))
    return names[place]
