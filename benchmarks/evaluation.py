"""Time the analysis beside public peers, and simulate what its tests claim under no difference.

Run from the root of the repository, in an environment with the peers that are wanted:

    python benchmarks/evaluation.py speed                   # peers: scikit-learn, SciPy
    python benchmarks/evaluation.py speed --peers           # also MLstatkit and Quantus, if there
    python benchmarks/evaluation.py null --data-sets 500

Times are seconds of CPU, the least of the repeats. A loop that is too slow to finish is run on
fewer resamples and multiplied; the table says so.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from scipy.special import expit, softmax
from scipy.stats import bootstrap
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from kellgren.analysis.comparison import delong, difference, oa_mcnemar, two_sided_p
from kellgren.analysis.geometry import axis_intervals
from kellgren.analysis.multiplicity import adjusted, max_t
from kellgren.analysis.overlap import saliency_overlap
from kellgren.analysis.performance import KL_METRICS, METRICS, OA_METRICS, Metric, auc
from kellgren.analysis.resampling import resample, sampled
from kellgren.labels import grade_log_odds
from kellgren.tables import Features, Predictions

FIVE: list[Metric] = [OA_METRICS["auc"], OA_METRICS["f1"], *KL_METRICS.values()]
GRADES = np.repeat(np.arange(5), [21, 12, 22, 28, 15])
GRID = (160, 384, 384)
RESAMPLES = 10_000
SKLEARN_RESAMPLES = 50
Timed = tuple[str, float, str]


def made_predictions(
    kl: np.ndarray, rng: np.random.Generator, *, skill: float = 1.0
) -> Predictions:
    n = len(kl)
    oa = skill * (kl - 1.5) + rng.normal(scale=2, size=n)
    logit = -skill * (kl[:, None] - np.arange(5)) ** 2 / 2 + rng.normal(size=(n, 5))
    ids = np.arange(n).astype(str).astype(object)
    return Predictions(
        ids, kl, oa, expit(oa), "head", grade_log_odds(logit), softmax(logit, axis=1)
    )


def cpu_seconds(work: Callable[[], object], *, repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def five_paired_metrics(n: int, *, seed: int = 0) -> list[Timed]:
    rng = np.random.default_rng(seed)
    kl = np.sort(rng.choice(GRADES, n)) if n != len(GRADES) else GRADES
    models = made_predictions(kl, rng, skill=1.2), made_predictions(kl, rng)

    def ours() -> None:
        drawn = resample(n, resamples=RESAMPLES, rng=np.random.default_rng(seed))
        for metric in FIVE:
            samples = sampled(metric, models[0], drawn) - sampled(metric, models[1], drawn)
            difference(metric(models[0]) - metric(models[1]), samples, resamples=drawn)

    def loop() -> None:
        draw = np.random.default_rng(seed)
        for _ in range(SKLEARN_RESAMPLES):
            rows = draw.integers(n, size=n)
            for model in models:
                sklearn_metrics(model.take(rows))

    scale = RESAMPLES / SKLEARN_RESAMPLES
    found = [
        (f"five paired metrics, n = {n}: kellgren", cpu_seconds(ours), ""),
        (
            f"five paired metrics, n = {n}: scikit-learn loop",
            cpu_seconds(loop, repeats=1) * scale,
            f"{SKLEARN_RESAMPLES} resamples, times {scale:g}",
        ),
        (f"OA AUC alone, n = {n}: scipy.stats.bootstrap of our AUC", *scipy_bootstrap(models)),
        (f"bytes moved, n = {n}: 12 AUCs x 24 bytes", moved_seconds(n), "at copy bandwidth"),
    ]
    return found


def sklearn_metrics(p: Predictions) -> list[float]:
    oa, called = p.kl >= 2, p.prob_kl.argmax(axis=1)
    return [
        roc_auc_score(oa, p.score_oa),
        f1_score(oa, p.prob_oa >= 0.5),
        float(np.mean([roc_auc_score(p.kl == k, p.score_kl[:, k]) for k in range(5)])),
        accuracy_score(p.kl, called),
        f1_score(p.kl, called, average="macro", labels=range(5), zero_division=0),
    ]


def scipy_bootstrap(models: tuple[Predictions, Predictions]) -> tuple[float, str]:
    oa = models[0].kl >= 2

    def gap(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
        return auc(y > 0, a) - auc(y > 0, b)

    data = (oa.astype(float), models[0].score_oa, models[1].score_oa)
    resamples = 500
    work = lambda: bootstrap(  # noqa: E731
        data, gap, paired=True, vectorized=False, n_resamples=resamples, method="percentile", rng=0
    )
    return cpu_seconds(work, repeats=1) * RESAMPLES / resamples, f"{resamples} resamples, scaled"


def moved_seconds(n: int) -> float:
    """Seconds that it takes to copy what 12 AUCs of all resamples must read and write."""
    source = np.ones(1 << 25, dtype=np.int32)
    target = np.empty_like(source)
    bandwidth = 2 * source.nbytes / cpu_seconds(lambda: np.copyto(target, source), repeats=5)
    return 12 * 24 * n * RESAMPLES / bandwidth


def overlap_of_one_map(*, seed: int = 0) -> list[Timed]:
    rng = np.random.default_rng(seed)
    saliency = np.abs(rng.normal(size=GRID).astype(np.float32))
    mask = rng.random(GRID, dtype=np.float32) < 0.008
    seconds = cpu_seconds(lambda: saliency_overlap(saliency, mask))
    tracemalloc.start()
    saliency_overlap(saliency, mask)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return [("overlap of a 160 x 384 x 384 map: kellgren", seconds, f"{peak:.0f} MiB more")]


def geometry(*, seed: int = 0) -> list[Timed]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(98, 512)) + 0.1 * np.outer(GRADES, rng.normal(size=512))
    ids = np.arange(98).astype(str).astype(object)
    cases = Features(ids, np.full(98, "test", dtype=object), GRADES, z)
    work = lambda: axis_intervals(  # noqa: E731
        cases, rng=np.random.default_rng(seed), resamples=2000
    )
    return [("geometry, 2,000 refits, n = 98, f = 512: kellgren", cpu_seconds(work), "")]


def delong_times(n: int, *, peers: bool) -> list[Timed]:
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3 > 0
    a, b = (y + rng.normal(size=n) for _ in range(2))
    found = [(f"DeLong, n = {n}: kellgren", cpu_seconds(lambda: delong(y, a, b)), "")]
    if peers and find_spec("MLstatkit"):
        from MLstatkit import Delong_test

        work = lambda: Delong_test(y.astype(int), a, b, verbose=0)  # noqa: E731
        found.append((f"DeLong, n = {n}: MLstatkit", cpu_seconds(work), ""))
    return found


def quantus_times() -> list[Timed]:
    if not find_spec("quantus"):
        return []
    import quantus

    rng = np.random.default_rng(0)
    s = np.abs(rng.normal(size=(1, 1, int(np.prod(GRID)))).astype(np.float32))  # it knows no 3-D
    m = rng.random(s.shape, dtype=np.float32) < 0.008
    found = []
    for name in ("RelevanceMassAccuracy", "TopKIntersection", "RelevanceRankAccuracy"):
        size = {"k": s.size // 100} if name == "TopKIntersection" else {}
        metric = getattr(quantus, name)(
            abs=False, normalise=False, disable_warnings=True, return_aggregate=False, **size
        )
        work = lambda metric=metric: metric(  # noqa: E731
            model=None, x_batch=s, y_batch=np.zeros(1, int), a_batch=s, s_batch=m, device="cpu"
        )
        found.append((f"one map, one measure: Quantus {name}", cpu_seconds(work, repeats=1), ""))
    return found


def print_times(rows: list[Timed]) -> None:
    print("| what | CPU s | note |\n|---|---:|---|")
    for what, seconds, note in rows:
        print(f"| {what} | {seconds:.3g} | {note} |")


def twins(rng: np.random.Generator) -> tuple[Predictions, Predictions]:
    """Two models of one skill that share half of what they see: no difference in truth."""
    kl = rng.choice(GRADES, len(GRADES))
    n, shared = len(kl), rng.normal(size=len(kl))
    models = []
    for _ in range(2):
        severity = kl + 1.1 * (shared + rng.normal(size=n))
        logit = -((severity[:, None] - np.arange(5)) ** 2) / 2
        oa = severity - 1.5
        ids = np.arange(n).astype(str).astype(object)
        score, prob = grade_log_odds(logit), softmax(logit, axis=1)
        models.append(Predictions(ids, kl, oa, expit(oa), "head", score, prob))
    return models[0], models[1]


def null_p_values(rng: np.random.Generator, *, resamples: int) -> dict[str, float]:
    """Every headline p-value of one data set in which nothing differs."""
    model, reference = twins(rng)
    drawn = resample(len(model), resamples=resamples, rng=rng)
    found, gaps, samples = {}, [], []
    for task, metrics in METRICS.items():
        for name, metric in metrics.items():
            values = sampled(metric, model, drawn) - sampled(metric, reference, drawn)
            if drawn.suffice(values):
                kept, _ = drawn.defined(values)
                found[f"bootstrap, {task} {name}"] = two_sided_p(kept)
                gaps.append(metric(model) - metric(reference))
                samples.append(values)
    p = np.array(list(found.values()))
    found["smallest of six by Holm"] = float(adjusted(p, method="holm").min())
    found["smallest of six by Benjamini-Hochberg"] = float(adjusted(p, method="fdr_bh").min())
    found["smallest of six by max-T"] = float(np.nanmin(max_t(np.array(gaps), np.stack(samples))))
    oa = model.kl >= 2
    found["DeLong, oa auc"] = delong(oa, model.score_oa, reference.score_oa).p
    test = oa_mcnemar(model, reference)
    return found | {"McNemar exact, oa accuracy": test.p, "McNemar mid-p, oa accuracy": test.p_mid}


def print_null(*, data_sets: int, resamples: int) -> None:
    rows = [
        null_p_values(np.random.default_rng([7, i]), resamples=resamples) for i in range(data_sets)
    ]
    print(
        f"| test at 0.05 | rejected of {data_sets} | share | Monte Carlo error |"
        "\n|---|---:|---:|---:|"
    )
    for name in dict.fromkeys(name for row in rows for name in row):
        p = np.array([row[name] for row in rows if name in row])
        share = float((p <= 0.05).mean())
        error = np.sqrt(max(share * (1 - share), 0.05 * 0.95 / 4) / len(p))
        print(f"| {name} | {(p <= 0.05).sum()} | {share:.3f} | {error:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["speed", "null"])
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--data-sets", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--cases", type=int, nargs="+", default=[98, 5000])
    asked = parser.parse_args()
    if asked.what == "null":
        print_null(data_sets=asked.data_sets, resamples=asked.resamples)
        return
    rows = [row for n in asked.cases for row in five_paired_metrics(n)]
    rows += [row for n in asked.cases for row in delong_times(n, peers=asked.peers)]
    rows += overlap_of_one_map() + (quantus_times() if asked.peers else []) + geometry()
    print_times(rows)


if __name__ == "__main__":
    main()
