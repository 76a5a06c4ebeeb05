"""The methods paragraph of the page and the works that it cites."""

from typing import Any

import pandas as pd

from kellgren.report import facts
from kellgren.report.networks import systems_of
from kellgren.study import StudyResult

REFERENCES: dict[str, str] = {
    "paper": (
        "Zhang. Learning coarse-to-fine osteoarthritis representations under noisy hierarchical"
        " labels. arXiv:2605.00718, 2026."
    ),
    "kl": (
        "Kellgren JH, Lawrence JS. Radiological assessment of osteo-arthrosis. Annals of the"
        " Rheumatic Diseases 16, 1957."
    ),
    "oaizib": (
        "Yao Y, et al. CartiMorph: a framework for automated knee articular cartilage"
        " morphometrics. Medical Image Analysis, 2024. doi:10.1016/j.media.2023.103035."
    ),
    "med3d": "Chen S, Ma K, Zheng Y. Med3D: transfer learning for 3D medical image analysis."
    " arXiv:1904.00625, 2019.",
    "m3t": "Jang J, Hwang D. M3T: three-dimensional medical image classifier using multi-plane"
    " and multi-slice transformer. CVPR, 2022.",
    "nnmamba": "Gong H, et al. nnMamba: 3D biomedical image segmentation, classification and"
    " landmark detection with state space model. arXiv:2402.03526, 2024.",
    "adamw": "Loshchilov I, Hutter F. Decoupled weight decay regularization. ICLR, 2019.",
    "saliency": "Simonyan K, Vedaldi A, Zisserman A. Deep inside convolutional networks."
    " arXiv:1312.6034, 2013.",
    "bootstrap": "Efron B, Tibshirani RJ. An introduction to the bootstrap. Chapman & Hall, 1993.",
    "mcnemar": "McNemar Q. Note on the sampling error of the difference between correlated"
    " proportions or percentages. Psychometrika 12, 1947.",
    "midp": "Fagerland MW, Lydersen S, Laake P. The McNemar test for binary matched-pairs data:"
    " mid-p and asymptotic are better than exact conditional. BMC Medical Research Methodology"
    " 13, 2013.",
    "delong": "DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more"
    " correlated receiver operating characteristic curves. Biometrics 44, 1988.",
    "holm": "Holm S. A simple sequentially rejective multiple test procedure. Scandinavian"
    " Journal of Statistics 6, 1979.",
    "bh": "Benjamini Y, Hochberg Y. Controlling the false discovery rate. Journal of the Royal"
    " Statistical Society B 57, 1995.",
    "maxt": "Westfall PH, Young SS. Resampling-based multiple testing. Wiley, 1993.",
    "pigeonhole": "Owen AB. The pigeonhole bootstrap. Annals of Applied Statistics 1, 2007.",
    "kappa": "Cohen J. Weighted kappa. Psychological Bulletin 70, 1968.",
    "temperature": "Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural"
    " networks. ICML, 2017.",
    "decision": "Vickers AJ, Elkin EB. Decision curve analysis: a novel method for evaluating"
    " prediction models. Medical Decision Making 26, 2006.",
    "rsa": "Kriegeskorte N, Mur M, Bandettini P. Representational similarity analysis. Frontiers"
    " in Systems Neuroscience 2, 2008.",
    "cka": "Kornblith S, Norouzi M, Lee H, Hinton G. Similarity of neural network representations"
    " revisited. ICML, 2019.",
    "sanity": "Adebayo J, et al. Sanity checks for saliency maps. NeurIPS, 2018.",
    "tsne": "van der Maaten L, Hinton G. Visualizing data using t-SNE. Journal of Machine"
    " Learning Research 9, 2008.",
    "chen": "Chen Y, et al. Retrieving patient-specific radiomic feature sets for transparent"
    " knee MRI assessment. arXiv:2603.02367, 2026.",
}


def methods(result: StudyResult) -> list[tuple[str, tuple[str, ...]]]:
    """Sentences, each with the works (keys of `REFERENCES`) that it cites.

    Settings are those of the study's protocol; a sentence whose settings are not recorded says so.
    """
    sentences = [
        ("The system follows", ("paper",)),
        (
            "One shared encoder carries an OA head, a KL head or both; OA is KL grade 2 or above",
            ("kl",),
        ),
        (_training(result), ("adamw",)),
        (
            "Saliency is the absolute gradient of the OA logit, or of the logit of the predicted"
            " grade, with respect to each voxel of the network’s input",
            ("saliency",),
        )
        if _settings(result, "explanation").get("method", "gradient") == "gradient"
        else (
            "Saliency is the positive part of gradient times input, averaged over noisy copies",
            ("saliency",),
        ),
        (_testing(result), ("bootstrap",)),
        (
            "OA accuracy is tested with McNemar’s exact test, with its mid-p variant beside it",
            ("mcnemar", "midp"),
        ),
        ("OA AUCs are also compared by DeLong’s method", ("delong",)),
        (
            "p-values are adjusted by Holm’s method within each declared family, and by that of"
            " Benjamini and Hochberg for comparison",
            ("holm", "bh"),
        ),
        *_further(result),
        ("Features are drawn with t-SNE, for illustration only", ("tsne",)),
        (_radiomics(result), ("chen",)),
    ]
    if facts.phantom(result) is None:
        sentences.insert(
            1, ("Knees and masks of the paper’s cohort are those of OAIZIB-CM", ("oaizib",))
        )
    backbones = set(result.performance["backbone"]) if len(result.performance) else set()
    named = {
        "resnet3d": ("ResNet3D", "med3d"),
        "m3t": ("M3T", "m3t"),
        "nnmamba": ("nnMamba", "nnmamba"),
    }
    used = [named[key] for key in named if key in backbones]
    if used:
        sentences.insert(
            3, (f"Encoders are {_and([name for name, _ in used])}", tuple(key for _, key in used))
        )
    return sentences


def _further(result: StudyResult) -> list[tuple[str, tuple[str, ...]]]:
    """Sentences about the further measures that this study has."""
    measured: tuple[tuple[pd.DataFrame, str, tuple[str, ...]], ...] = (
        (result.comparisons, "A family-wise p from the shared resamples stands beside", ("maxt",)),
        (
            result.seeds,
            "Over seeds and knees methods are compared by the pigeonhole bootstrap, given five"
            " seeds of each",
            ("pigeonhole",),
        ),
        (result.ordinal, "Grades in order are scored by the quadratic κ among others", ("kappa",)),
        (
            result.calibration,
            "Temperatures are fitted by cross-validation on training predictions",
            ("temperature",),
        ),
        (result.decision, "Decisions are weighed by their net benefit", ("decision",)),
        (
            result.representation,
            "Distances of knees among the features are compared with those of their grades",
            ("rsa",),
        ),
        (result.similarity, "Networks are compared by centred kernel alignment", ("cka",)),
        (
            result.controls,
            "Saliency is set beside maps that need no trained network, and beside networks"
            " randomised from the heads down",
            ("sanity",),
        ),
    )
    return [(text, works) for table, text, works in measured if len(table)]


def _training(result: StudyResult) -> str:
    training = _settings(result, "training")
    if not training:
        return "How the models were trained is not recorded with them; the paper uses AdamW"
    return (
        f"Models were trained for {training['epochs']} epochs with AdamW (learning rate"
        f" {training['lr']:g}, weight decay {training['weight_decay']:g}, batch size"
        f" {training['batch_size']}; λ(OA) = {training['lambda_oa']:g}, λ(KL) ="
        f" {training['lambda_kl']:g}{_augmentation(training)}); the weights after the last epoch"
        " are used, nothing was selected on test knees"
    )


def _augmentation(training: dict[str, Any]) -> str:  # any TOML values
    parts = [(*name.partition("_"), x) for name, x in training.get("augmentation", {}).items()]
    said = [f"{noun} {largest:g} {unit}".strip() for noun, _, unit, largest in parts if largest]
    return f"; training knees changed at random, by at most {_and(said)}" if said else ""


def _testing(result: StudyResult) -> str:
    analysis = _settings(result, "analysis")
    count, added = "number of resamples not recorded", "with one added to its counts"
    if analysis.get("paper_p"):
        added = "without one added to its counts, as the paper’s"
    if analysis:
        count = f"{analysis['resamples']:,} resamples, seed {analysis['seed']}"
    return (
        "Models are compared on the same test knees by a paired bootstrap over knees"
        f" ({count}): the point difference, the mean and standard deviation over resamples, the"
        f" 95 % percentile interval and a two-sided p-value {added}"
    )


def _radiomics(result: StudyResult) -> str:
    fitted = systems_of(result)
    words = "Radiomics rows of Tables 4 and 5 are those of Chen et al."
    if not fitted:
        return words
    return (
        f"{words}; {len(fitted)} of their systems and variants were fitted again to the knees of"
        " this study"
    )


def _settings(result: StudyResult, table: str) -> dict[str, Any]:  # any TOML values
    return result.protocol.get(table) or {}


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
