"""What the further measures say of one run, as rows: beyond Tables 1 to 3 of the paper."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from kellgren.analysis.calibration import BINS as RELIABILITY_GROUPS
from kellgren.analysis.calibration import (
    Calibration,
    calibration,
    cooled_kl,
    cooled_oa,
    equal_mass,
    folds,
    grade_logits,
    kl_temperature,
    oa_logit,
    oa_temperature,
    reliability,
)
from kellgren.analysis.geometry import oriented, principal_axis
from kellgren.analysis.hierarchy import (
    THRESHOLDS,
    consistency,
    ensemble,
    has_two_heads,
    net_benefits,
)
from kellgren.analysis.jackknife import jackknife_interval, left_out
from kellgren.analysis.noise import noise_ceiling, read_again, scores_under
from kellgren.analysis.ordering import order, refitted_scores, sampled_order, supervised_axis
from kellgren.analysis.ordinal import ORDINAL, ordinal_performance
from kellgren.analysis.performance import OA_METRICS
from kellgren.analysis.representation import (
    effective_rank,
    grade_similarity,
    participation_ratio,
    sampled_dimensions,
    sampled_similarity,
    sampled_straightness,
    sampled_triplet_order,
    straightness,
    triplet_order,
)
from kellgren.analysis.resampling import Resamples, sampled_means
from kellgren.analysis.similarity import (
    FEWEST_CASES,
    debiased_cka,
    linear_cka,
    sampled_cka,
    sampled_debiased_cka,
)
from kellgren.analysis.strata import strata, stratum_scores
from kellgren.evidence import Evidence, Row
from kellgren.labels import KL_GRADES, oa_from_kl
from kellgren.results import bounds_of
from kellgren.tables import Predictions

FOLDS = 5
FEATURE_RESAMPLES = 2000  # of the resamples of a study, the first so many for its features
RANGES = {
    "straightness": (0.0, 1.0),
    "participation_ratio": (1.0, np.inf),
    "effective_rank": (1.0, np.inf),
    "cka": (0.0, 1.0),
}


def ordinal_rows(found: Evidence, resamples: Resamples) -> list[Row]:
    """Each measure that knows the order of the grades, with its percentile interval."""
    if found.predictions.prob_kl is None:
        return []
    rows: list[Row] = []
    for metric, value in ordinal_performance(found.predictions).items():
        row = {**found.keys, "metric": metric, "value": value, "n": len(found.predictions)}
        samples = ORDINAL[metric](found.predictions, resamples.counts)
        row["ci_low"], row["ci_high"] = resamples.interval(samples)
        rows.append(row)
    return rows


def noise_rows(
    evidence: Sequence[Evidence], *, agreements: Sequence[float], seed: int, draws: int
) -> list[Row]:
    """Each score beside its ceiling, and as it would be had the reference been read again."""
    kl, rows = evidence[0].predictions.kl, []
    for agreement in agreements:
        rng = np.random.default_rng(seed)
        ceilings = noise_ceiling(kl, agreement=agreement, rng=rng, draws=draws)
        of_key = {(row["task"], row["metric"]): row for row in ceilings.to_dict("records")}
        labels = read_again(kl, agreement=agreement, draws=draws, rng=rng)
        for found in evidence:
            given = scores_under(found.predictions, kl[:, None])
            for key, again in scores_under(found.predictions, labels).items():
                value, ceiling = float(given[key][0]), of_key[key]["ceiling"]
                row = {**found.keys, "task": key[0], "metric": key[1], "agreement": agreement}
                # Of one knee or two the ceiling can be 0.
                share = value / ceiling if ceiling else np.nan
                row |= {"value": value, "ceiling": ceiling, "share": share}
                row |= {"ceiling_sd": of_key[key]["sd"], "n": len(kl)}
                defined = again[~np.isnan(again)]
                if len(defined):
                    row |= {"rescored": float(defined.mean()), "rescored_sd": float(defined.std())}
                rows.append(row)
    return rows


def calibration_rows(found: Evidence, *, seed: int) -> list[Row]:
    """Calibration as it is, and at a temperature that only training predictions chose."""
    rows: list[Row] = []
    for head, scaling, prob, happened, further in _calibrated(found, seed=seed):
        measured: Calibration = calibration(prob, happened, rng=np.random.default_rng(seed))
        rows.append({**found.keys, "head": head, "scaling": scaling, **asdict(measured), **further})
    return rows


def reliability_rows(found: Evidence, *, seed: int) -> list[Row]:
    """Reliability diagram of each head, as it is and scaled."""
    rows: list[Row] = []
    for head, scaling, prob, happened, _ in _calibrated(found, seed=seed):
        diagram = reliability(prob, happened, equal_mass(prob, bins=RELIABILITY_GROUPS))
        rows += [
            {**found.keys, "head": head, "scaling": scaling}
            | {"confidence": float(c), "frequency": float(f), "count": int(n)}
            for c, f, n in zip(*asdict(diagram).values(), strict=True)
        ]
    return rows


def hierarchy_rows(found: Evidence) -> list[Row]:
    """Agreement of the two heads, over all cases and by grade; none for a model with one head."""
    predictions = found.predictions
    if not has_two_heads(predictions):
        return []
    both = ensemble(predictions)
    row = {**found.keys, "stratum": "all", **asdict(consistency(predictions))}
    row |= {f"ensemble_{name}": metric(both) for name, metric in OA_METRICS.items()}
    rows: list[Row] = [row]
    for k in range(KL_GRADES):
        of_grade = predictions.take(np.flatnonzero(predictions.kl == k))
        if len(of_grade):
            rows.append({**found.keys, "stratum": f"KL {k}", **asdict(consistency(of_grade))})
    return rows


def decision_rows(found: Evidence, resamples: Resamples) -> list[Row]:
    """Decision curve of the OA prediction beside treating everybody; treating nobody is 0."""
    predictions = found.predictions
    oa, prob = oa_from_kl(predictions.kl), predictions.prob_oa
    benefit = net_benefits(prob, oa)
    everybody = net_benefits(np.ones_like(prob), oa).mean(axis=0)
    bounds = np.percentile(sampled_means(benefit, resamples), [2.5, 97.5], axis=1)
    return [
        {**found.keys, "threshold": float(threshold), "n": len(oa)}
        | {"net_benefit": float(benefit[:, i].mean()), "treat_all": float(everybody[i])}
        | {"ci_low": float(bounds[0, i]), "ci_high": float(bounds[1, i])}
        for i, threshold in enumerate(THRESHOLDS)
    ]


def order_rows(found: Evidence, resamples: Resamples) -> list[Row]:
    """How PC1 and a supervised axis order the test cases, with percentile intervals.

    The axis "test" is fitted on the cases that it is measured on, and anew on each resample;
    "train" and "supervised", from the centroid of grade 0 to that of grade 4, are fitted on the
    training split and stay as they are.
    """
    if found.features is None:
        return []
    test, train = found.features.of_split("test"), found.features.of_split("train")
    drawn, trained = resamples.first(FEATURE_RESAMPLES), train if len(train.kl) else None
    fitted = {"test": oriented(principal_axis(test.z), trained or test).score(test.z)}
    sampled = {"test": refitted_scores(test, drawn.counts, oriented_on=trained)}
    if trained is not None:
        fitted["train"] = oriented(principal_axis(train.z), train).score(test.z)
        fitted["supervised"] = test.z @ supervised_axis(train)
    rows: list[Row] = []
    for axis, score in fitted.items():
        samples = sampled_order(sampled.get(axis, score[:, None]), test.kl, drawn.counts)
        row = {**found.keys, "axis": axis, "n": len(test.kl), **asdict(order(score, test.kl))}
        rows.append(row | _ends({name: drawn.interval(s) for name, s in samples.items()}))
    return rows


def representation_rows(found: Evidence, resamples: Resamples, *, seed: int) -> list[Row]:
    """What all features of the test cases say about the grades, whatever the axis.

    Order and similarity, in which no knee meets itself, have percentile intervals; a path and a
    dimension, which repeated knees distort, those of the jackknife.
    """
    if found.features is None:
        return []
    test = found.features.of_split("test")
    z, kl, drawn = test.z, test.kl, resamples.first(FEATURE_RESAMPLES)
    similarity = grade_similarity(z, kl, rng=np.random.default_rng(seed))
    row = {
        "triplet_order": triplet_order(z, kl, rng=np.random.default_rng(seed)),
        "straightness": straightness(z, kl),
        "participation_ratio": participation_ratio(z),
        "effective_rank": effective_rank(z),
        "similarity_rho": similarity.rho,
    }
    sampled = {
        "triplet_order": sampled_triplet_order(
            z, kl, drawn.counts, rng=np.random.default_rng(seed)
        ),
        "similarity_rho": sampled_similarity(z, kl, drawn.counts, rng=np.random.default_rng(seed)),
    }
    without = left_out(len(kl), rng=np.random.default_rng(seed))
    kept = {"straightness": sampled_straightness(z, kl, without), **sampled_dimensions(z, without)}
    ends = {name: drawn.interval(samples) for name, samples in sampled.items()}
    for name, samples in kept.items():
        ends[name] = jackknife_interval(row[name], samples, within=RANGES[name])
    keys = {**found.keys, "n": len(kl), "features": z.shape[1], "similarity_p": similarity.p}
    return [keys | row | _ends(ends)]


def similarity_rows(evidence: Sequence[Evidence], resamples: Resamples, *, seed: int) -> list[Row]:
    """CKA of each two runs that differ in one thing only: seed, supervision or backbone.

    The debiased one, in which no knee meets itself, has a percentile interval; the plain one that
    of the jackknife, because repeated knees are alike in every network.
    """
    rows: list[Row] = []
    drawn = resamples.first(FEATURE_RESAMPLES)
    without = left_out(len(drawn.counts), rng=np.random.default_rng(seed))
    described = [found for found in evidence if found.features is not None]
    for one, other in combinations(described, 2):
        differ = [key for key in one.keys if one.keys[key] != other.keys[key]]
        if len(differ) != 1 or one.features is None or other.features is None:
            continue
        z, w = (f.of_split("test").z for f in (one.features, other.features))
        row: Row = {"model": one.run.name, "reference": other.run.name, "differ_in": differ[0]}
        row |= {"n": len(z), "cka": linear_cka(z, w)}
        kept = sampled_cka(z, w, without)
        ends = {"cka": jackknife_interval(row["cka"], kept, within=RANGES["cka"])}
        if len(z) >= FEWEST_CASES:
            row["cka_debiased"] = debiased_cka(z, w)
            ends["cka_debiased"] = drawn.interval(sampled_debiased_cka(z, w, drawn.counts))
        rows.append(row | _ends(ends))
    return rows


def _ends(intervals: Mapping[str, tuple[float, float]]) -> Row:
    """Cells of the ends of each interval."""
    return {
        column: end
        for name, interval in intervals.items()
        for column, end in zip(bounds_of(name), interval, strict=True)
    }


def strata_rows(
    found: Evidence, covariates: pd.DataFrame | None, *, resamples: int, seed: int
) -> list[Row]:
    """Each metric by age, sex, side and site, where the covariates have them."""
    if covariates is None:
        return []
    return [
        {**found.keys, "covariate": stratum.covariate, "level": stratum.level, **row}
        for stratum in strata(found.predictions, covariates)
        for row in stratum_scores(
            found.predictions.take(stratum.rows),
            resamples=resamples,
            rng=np.random.default_rng(seed),
        )
    ]


Calibrated = tuple[str, str, Float[np.ndarray, " n"], Bool[np.ndarray, " n"], Row]


def _calibrated(found: Evidence, *, seed: int) -> list[Calibrated]:
    """Head, scaling, probability and outcome of each event whose probability is stated."""
    test, train = found.predictions, found.trained
    oa = oa_from_kl(test.kl)
    stated: list[Calibrated] = [("oa", "none", test.prob_oa, oa, {})]
    if train is not None:
        further = _chosen(_oa_temperatures(train, seed=seed))
        prob = cooled_oa(oa_logit(test), further["temperature"])
        stated.append(("oa", "temperature", prob, oa, further))
    logits = grade_logits(test)
    if logits is None or test.prob_kl is None:
        return stated
    stated.append(("kl", "none", *_confidence(test.prob_kl, test), {}))
    if train is not None:
        further = _chosen(_kl_temperatures(train, seed=seed))
        prob_kl = cooled_kl(logits, further["temperature"])
        stated.append(("kl", "temperature", *_confidence(prob_kl, test), further))
    return stated


def _confidence(
    prob_kl: Float[np.ndarray, "n 5"], predictions: Predictions
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    return prob_kl.max(axis=1), prob_kl.argmax(axis=1) == predictions.kl


def _oa_temperatures(train: Predictions, *, seed: int) -> list[float]:
    logits, oa = oa_logit(train), oa_from_kl(train.kl)
    fold = folds(len(train), k=FOLDS, rng=np.random.default_rng(seed))
    return [oa_temperature(logits[fold != i], oa[fold != i]) for i in range(FOLDS)]


def _kl_temperatures(train: Predictions, *, seed: int) -> list[float]:
    logits = grade_logits(train)
    if logits is None:
        return []
    fold = folds(len(train), k=FOLDS, rng=np.random.default_rng(seed))
    return [kl_temperature(logits[fold != i], train.kl[fold != i]) for i in range(FOLDS)]


def _chosen(temperatures: Sequence[float]) -> Row:
    """The geometric mean over the folds, and the range that the folds span."""
    middle = float(np.exp(np.mean(np.log(temperatures)))) if temperatures else 1.0
    if not temperatures:
        return {"temperature": middle}
    low, high = min(temperatures), max(temperatures)
    return {"temperature": middle, "temperature_low": low, "temperature_high": high}
