"""A made study for the tests of the report: nine models on forty knees, nothing of it real."""

from dataclasses import asdict, replace
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from kellgren.analysis.geometry import severity_axis
from kellgren.analysis.ordering import order
from kellgren.config import AnalysisSettings, Study
from kellgren.exemplars import Exemplar
from kellgren.results import COLUMNS, bounds_of, tidy
from kellgren.runs import Run
from kellgren.study import StudyResult, analyze
from kellgren.tables import Features
from kellgren.truth import Truth

BACKBONES = ("resnet3d", "m3t", "nnmamba")
SUPERVISIONS = ("single_oa", "single_kl", "dual")
CASES = 40
BRANCHES = (("single_oa", "oa"), ("single_kl", "kl"), ("dual", "oa"), ("dual", "kl"))
CONTROLS = ("uniform", "centre", "mean_cartilage", "image_gradient", "other_patient", "untrained")
STAGES = ("heads", "encoder.layer2", "encoder.layer1", "whole network")
SKILL = {"single_oa": 0.9, "single_kl": 0.8, "dual": 1.6}


def made_run(folder: Path, backbone: str, supervision: str, *, seed: int, cases: int) -> Run:
    """A run folder with predictions, features and overlaps drawn around the true grade."""
    run = Run.at(folder / f"{backbone}-{supervision}-s{seed}")
    rng = np.random.default_rng([BACKBONES.index(backbone), SUPERVISIONS.index(supervision), seed])
    kl = np.arange(cases) % 5
    severity = SKILL[supervision] * kl + rng.normal(0, 1.4, cases)
    table = pd.DataFrame({"case_id": [f"knee_{i:03d}" for i in range(cases)], "kl": kl})
    if supervision != "single_kl":
        table["logit_oa"] = severity - 1.5 * SKILL[supervision]
    if supervision != "single_oa":
        for k in range(5):
            table[f"logit_kl_{k}"] = -((severity / SKILL[supervision] - k) ** 2)
    run.folder.mkdir(parents=True)
    table.to_csv(run.predictions, index=False)
    ids = table["case_id"].to_numpy(dtype=object)
    heads = {"single_oa": ["oa"], "single_kl": ["kl"], "dual": ["oa", "kl"]}[supervision]
    shares = rng.uniform(0.02, 0.09, (len(heads) * cases, 4))
    overlap = pd.DataFrame(shares, columns=["mass_roi", "top1_roi", "dice_5", "dice_10"])
    overlap.insert(0, "head", np.repeat(heads, cases))
    overlap.insert(0, "case_id", np.tile(ids, len(heads)))
    overlap["dice_ceiling_5"], overlap["dice_ceiling_10"] = 0.276, 0.148
    overlap["cartilage_share"] = 0.008
    overlap["enrichment_1"], overlap["ap"] = overlap["top1_roi"] / 0.008, 0.05
    overlap.to_csv(run.overlap, index=False)
    if supervision == "dual":
        made_log(rng).to_csv(run.log, index=False)
    return run


def made_log(rng: np.random.Generator, epochs: int = 8) -> pd.DataFrame:
    """A log of a training whose two heads were watched in three parts of the encoder."""
    log = pd.DataFrame({"epoch": np.arange(1, epochs + 1)})
    for i, stage in enumerate(("encoder", "conv1", "layer1", "layer2")):
        log[f"cosine_{stage}"] = np.clip(0.7 - 0.2 * i + rng.normal(0, 0.1, epochs), -1, 1)
        log[f"conflict_{stage}"] = (log[f"cosine_{stage}"] < 0) * 1.0
        log[f"likeness_{stage}"] = 0.8
    return log


def made_exemplars(side: int = 48) -> tuple[Exemplar, ...]:
    """One knee-like picture a model and head: two bones, cartilage between, a warm spot."""
    row, column = np.mgrid[0:side, 0:side] / side
    gap = 0.5 + 0.06 * np.cos(6 * column)
    bone = (np.abs(row - gap) > 0.035) & (np.abs(column - 0.5) < 0.34)
    cartilage = (np.abs(row - gap) <= 0.035) & (np.abs(column - 0.5) < 0.3)
    scan = 0.8 * bone + 2.2 * cartilage + 0.3 * np.sin(9 * row * column)
    heads = [("single_oa", "oa"), ("single_kl", "kl"), ("dual", "oa"), ("dual", "kl")]
    made = []
    for b, backbone in enumerate(BACKBONES):
        for h, (supervision, head) in enumerate(heads):
            rng = np.random.default_rng([b, h])
            spot = np.exp(-((row - 0.5) ** 2 + (column - 0.25 - 0.15 * h) ** 2) / 0.02)
            heat = spot * rng.gamma(1.0, 1.0, (side, side)) * (0.3 + cartilage)
            heat = (heat / heat.max()).astype(np.float32)
            made.append(
                Exemplar(
                    case_id="knee_003",
                    kl=3,
                    backbone=backbone,
                    supervision=supervision,
                    seed=0,
                    head=head,
                    spacing_mm=(140 / side,) * 3,
                    sagittal_scan=scan,
                    sagittal_cartilage=cartilage,
                    sagittal_saliency=heat,
                    coronal_scan=scan,
                    coronal_cartilage=cartilage,
                    coronal_saliency=heat[:, ::-1].copy(),
                    top1_threshold=float(np.percentile(heat, 98)),
                )
            )
    return tuple(made)


def made_geometry(seed: int, *, cases: int) -> pd.DataFrame:
    """Severity axes of made features, fitted on test and on train."""
    kl, rows = np.arange(cases) % 5, []
    for backbone, supervision in product(BACKBONES, SUPERVISIONS):
        rng = np.random.default_rng([BACKBONES.index(backbone), SUPERVISIONS.index(supervision)])
        ids = np.array([f"knee_{i:03d}" for i in range(2 * cases)], dtype=object)
        z = SKILL[supervision] * kl[:, None] * rng.normal(0, 1, 6) + rng.normal(0, 1, (cases, 6))
        test = Features(ids[:cases], np.full(cases, "test", dtype=object), kl, z)
        train = Features(ids[cases:], np.full(cases, "train", dtype=object), kl, z + 0.2)
        keys = {"backbone": backbone, "supervision": supervision, "seed": seed}
        for fit, fitted in (("test", test), ("train", train)):
            rows.append({**keys, "fit": fit, **asdict(severity_axis(test, fitted_on=fitted))})
    return tidy("geometry", rows)


def made_embedding(seed: int, *, cases: int) -> pd.DataFrame:
    """Places in a plane that rise with the grade."""
    rng, kl = np.random.default_rng(1), np.arange(cases) % 5
    quality = {"kl_divergence": 0.2, "trustworthiness": 0.95}
    rows = [
        {
            "backbone": b,
            "supervision": s,
            "seed": seed,
            "case_id": f"knee_{i:03d}",
            "kl": int(kl[i]),
            "x": kl[i] + rng.normal(),
            "y": rng.normal(),
            **quality,
        }
        for b, s, i in product(BACKBONES, SUPERVISIONS, range(cases))
    ]
    return tidy("embedding", rows)


def made_order(seed: int, *, cases: int) -> pd.DataFrame:
    """How two axes order the made grades, one better than the other."""
    kl, rows = np.arange(cases) % 5, []
    for backbone, supervision in product(BACKBONES, SUPERVISIONS):
        rng = np.random.default_rng([BACKBONES.index(backbone), SUPERVISIONS.index(supervision)])
        keys = {"backbone": backbone, "supervision": supervision, "seed": seed, "n": cases}
        for axis, noise in (("test", 1.5), ("train", 1.6), ("supervised", 1.0)):
            values = asdict(order(kl + rng.normal(0, noise, cases), kl))
            rows.append({**keys, "axis": axis, **values, **made_ends(values)})
    return tidy("order", rows)


def made_ends(values: dict[str, float]) -> dict[str, float]:
    """An interval about each value."""
    lows = {bounds_of(name)[0]: value - 0.1 for name, value in values.items()}
    return lows | {bounds_of(name)[1]: value + 0.05 for name, value in values.items()}


def made_representation(seed: int, *, cases: int) -> pd.DataFrame:
    """Shapes of feature spaces."""
    found = {"triplet_order": 0.6, "straightness": 0.9, "participation_ratio": 1.3}
    found |= {"effective_rank": 1.6, "similarity_rho": 0.5}
    found |= {**made_ends(found), "similarity_p": 0.001}
    rows = [
        {"backbone": b, "supervision": s, "seed": seed, "n": cases, "features": 6, **found}
        for b, s in product(BACKBONES, SUPERVISIONS)
    ]
    return tidy("representation", rows)


def made_similarity(seeds: tuple[int, ...], *, cases: int) -> pd.DataFrame:
    """Likeness of Dual and Single-KL, and of two seeds where there are two."""
    rows = []
    for seed in seeds:
        pair = {"model": f"m3t-dual-s{seed}", "reference": f"m3t-single_kl-s{seed}"}
        values = {"cka": 0.8, "cka_debiased": 0.7}
        rows.append({**pair, "differ_in": "supervision", **values, **made_ends(values), "n": cases})
    for other in seeds[1:]:
        pair = {"model": f"m3t-dual-s{seeds[0]}", "reference": f"m3t-dual-s{other}"}
        values = {"cka": 0.9, "cka_debiased": 0.85}
        rows.append({**pair, "differ_in": "seed", **values, **made_ends(values), "n": cases})
    return tidy("similarity", rows)


def made_controls(seed: int, *, cases: int) -> pd.DataFrame:
    """Saliency of 0.06 that exceeds the first three controls and not the last three."""
    rows = []
    for backbone, (supervision, head), (place, control), metric in product(
        BACKBONES, BRANCHES, enumerate(CONTROLS), ("mass_roi", "top1_roi", "dice_5", "dice_10")
    ):
        keys = {"backbone": backbone, "supervision": supervision, "seed": seed, "head": head}
        value = 0.01 * (1 + 2 * place)
        row = {**keys, "control": control, "metric": metric, "value": value, "n": cases}
        row |= {"ci_low": value - 0.005, "ci_high": value + 0.005, "saliency": 0.06}
        row |= {"difference": 0.06 - value, "difference_low": 0.05 - value}
        rows.append({**row, "difference_high": 0.07 - value})
    return tidy("controls", rows)


def made_changes(seed: int, *, cases: int) -> dict[str, pd.DataFrame]:
    """What deleting cartilage and randomising weights do to the made networks."""
    deleted, shuffled = [], []
    for backbone, (supervision, head) in product(BACKBONES, BRANCHES):
        keys = {"backbone": backbone, "supervision": supervision, "seed": seed, "head": head}
        for region, value in (("cartilage", 1.2), ("elsewhere", 0.4)):
            ends = {"ci_low": value - 0.1, "ci_high": value + 0.1, "n": cases}
            deleted.append({**keys, "region": region, "value": value, **ends})
        for depth, stage in enumerate(STAGES, start=1):
            rho = 0.9 - 0.2 * depth
            shuffled.append({**keys, "depth": depth, "stage": stage, "rho": rho, "n": 5})
    return {"deletion": tidy("deletion", deleted), "randomisation": tidy("randomisation", shuffled)}


def made_repeatability(seeds: tuple[int, ...]) -> pd.DataFrame:
    """Likeness of the maps of one knee from two seeds; none for one seed."""
    rows = [
        {"backbone": b, "supervision": s, "head": h, "case_id": "knee_003", "rho": 0.4}
        | {"seed": seeds[0], "other_seed": other}
        for b, (s, h) in product(BACKBONES, BRANCHES)
        for other in seeds[1:]
    ]
    return tidy("repeatability", rows)


def made_planted(seed: int) -> pd.DataFrame:
    """Saliency that lies on thinned cartilage three times as much as by chance."""
    found = {"thinned_cartilage": 3.0, "osteophyte": 1.0, "marrow_spot": 1.4}
    rows = []
    for backbone, (supervision, head), sign in product(BACKBONES, BRANCHES, found):
        keys = {"backbone": backbone, "supervision": supervision, "seed": seed, "task": head}
        for against, less in (("planted", 0.0), ("untrained", 1.2), ("image_gradient", 2.9)):
            value = found[sign] - less
            ends = {"value": value, "ci_low": value - 0.2, "ci_high": value + 0.2}
            metric = {"against": against, "metric": f"enrichment_{sign}"}
            rows.append({**keys, **metric, **ends, "n": 50, "left_out": 10})
    return tidy("truth", rows)


def made_truth(cases: int) -> Truth:
    """Severities of which the reading is wrong for every seventh knee."""
    read = np.arange(cases) % 5
    kl = np.clip(read + (np.arange(cases) % 7 == 0), 0, 4)
    ids = np.array([f"knee_{i:03d}" for i in range(cases)], dtype=object)
    return Truth(ids, kl + 0.5 + 0.4 * np.sin(np.arange(cases)), kl)


@cache
def made_result(seeds: tuple[int, ...] = (0,), *, cases: int = CASES) -> StudyResult:
    """The analysed study, with its protocol and pictures."""
    study = Study.model_validate(
        {
            "name": "made",
            "title": "Made study",
            "seeds": seeds,
            "cohort": {"phantom": {"train": cases, "test": cases}},
            "backbones": {name: {} for name in BACKBONES},
            "analysis": {"resamples": 400},
        }
    )
    with TemporaryDirectory() as folder:
        runs = [
            made_run(Path(folder), backbone, supervision, seed=seed, cases=cases)
            for backbone, supervision, seed in product(BACKBONES, SUPERVISIONS, seeds)
        ]
        ids = [f"knee_{i:03d}" for i in range(cases)]
        sexes = ["female", "male"] * (cases // 2)
        result = analyze(
            runs,
            settings=study.analysis,
            name="made",
            protocol=study.model_dump(mode="json"),
            covariates=pd.DataFrame({"case_id": ids, "sex": sexes}),
            truth=made_truth(cases),
        )
    changes = [made_changes(seed, cases=cases) for seed in seeds]
    return replace(
        result,
        order=pd.concat([made_order(seed, cases=cases) for seed in seeds]),
        representation=pd.concat([made_representation(seed, cases=cases) for seed in seeds]),
        similarity=made_similarity(seeds, cases=cases),
        controls=pd.concat([made_controls(seed, cases=cases) for seed in seeds]),
        deletion=pd.concat([change["deletion"] for change in changes]),
        randomisation=pd.concat([change["randomisation"] for change in changes]),
        repeatability=made_repeatability(seeds),
        geometry=pd.concat([made_geometry(seed, cases=cases) for seed in seeds]),
        embedding=pd.concat([made_embedding(seed, cases=cases) for seed in seeds]),
        truth=pd.concat([result.truth, *map(made_planted, seeds)], ignore_index=True),
        exemplars=made_exemplars(),
    )


SYSTEMS = ("all_radiomics", "all_radiomics_refit", "top_k", "retrieval", "shape", "demographics")
CLASSES = ("shape", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")


def made_system(folder: Path, system: str, task: str, *, seed: int, cases: int) -> Run:
    """A run folder of a radiomics system: predictions, and the weights of two features a class."""
    run = Run.at(folder / f"{system}-single_{task}-s{seed}")
    rng = np.random.default_rng([SYSTEMS.index(system), task == "oa", seed])
    kl = np.arange(cases) % 5
    severity = kl + rng.normal(0, 1.4, cases)
    table = pd.DataFrame({"case_id": [f"knee_{i:03d}" for i in range(cases)], "kl": kl})
    if task == "oa":
        table["logit_oa"] = severity - 1.5
    for k in range(5) if task == "kl" else ():
        table[f"logit_kl_{k}"] = -((severity - k) ** 2)
    run.folder.mkdir(parents=True)
    table.to_csv(run.predictions, index=False)
    names = [("person", "age")]
    if system != "demographics":
        classes = ("shape",) if system == "shape" else CLASSES
        regions = [f"roi_{i}" for i in range(1, 6)]
        names = [(r, f"original_{c}_{i}") for r, c, i in product(regions, classes, range(2))]
    weights = pd.DataFrame(names, columns=["region", "feature"])
    weights.assign(weight=rng.normal(size=len(names))).to_csv(run.attribution, index=False)
    return run


@cache
def made_benchmark(seeds: tuple[int, ...] = (0,), *, cases: int = CASES) -> StudyResult:
    """Dual and single networks of two backbones beside radiomics systems."""
    with TemporaryDirectory() as folder:
        runs = [
            made_run(Path(folder), backbone, supervision, seed=seed, cases=cases)
            for backbone, supervision, seed in product(BACKBONES[:2], SUPERVISIONS, seeds)
        ]
        runs += [
            made_system(Path(folder), system, task, seed=seed, cases=cases)
            for system, task, seed in product(SYSTEMS, ("oa", "kl"), seeds)
        ]
        return analyze(runs, settings=AnalysisSettings(resamples=100), name="made")


def empty_result() -> StudyResult:
    """A study in which nothing was measured: every table has its columns and no row."""
    return StudyResult("empty", {}, **{name: tidy(name, []) for name in COLUMNS})
