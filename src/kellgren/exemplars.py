"""Pictures of where a model looks (Fig. 3), as they lie in `exemplars.npz` of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from kellgren.faults import InputError
from kellgren.files import arrays_of, completed


@dataclass(frozen=True)
class Exemplar:
    """Two views of one test knee, and where one model looks in them (Fig. 3).

    Slices are the ones with the most cartilage, on the network's input grid.

    Attributes:
        case_id: Identifier of the knee.
        kl: Reference KL grade.
        backbone: Backbone of the model.
        supervision: Supervision of the model.
        seed: Seed of the run.
        head: "oa" or "kl": whose logit is explained.
        spacing_mm: Size of a voxel of that grid along d, h and w.
        sagittal_scan: Slice of the z-scored scan.
        sagittal_cartilage: The same slice of the cartilage mask.
        sagittal_saliency: The same slice of the map, divided by the maximum of the volume.
        coronal_scan: Slice of the z-scored scan.
        coronal_cartilage: The same slice of the cartilage mask.
        coronal_saliency: The same slice of the map.
        top1_threshold: Saliency above which a voxel is among the volume's 1 % most salient.
    """

    case_id: str
    kl: int
    backbone: str
    supervision: str
    seed: int
    head: str
    spacing_mm: tuple[float, float, float]
    sagittal_scan: Float[np.ndarray, "h w"]
    sagittal_cartilage: Bool[np.ndarray, "h w"]
    sagittal_saliency: Float[np.ndarray, "h w"]
    coronal_scan: Float[np.ndarray, "h d"]
    coronal_cartilage: Bool[np.ndarray, "h d"]
    coronal_saliency: Float[np.ndarray, "h d"]
    top1_threshold: float


NAMES = tuple(field.name for field in fields(Exemplar))


def write_exemplars(path: Path, exemplars: Sequence[Exemplar]) -> None:
    """Write pictures as arrays `<i>/case_id`, `<i>/kl` and so on, i counting from 0."""
    arrays = {
        f"{i}/{name}": np.asarray(getattr(exemplar, name))
        for i, exemplar in enumerate(exemplars)
        for name in NAMES
    }
    with completed(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_exemplars(path: Path) -> tuple[Exemplar, ...]:
    """Read what `write_exemplars` wrote, in the same order.

    Raises:
        InputError: If the file is damaged, or a picture lacks one of its arrays.
    """
    todo = "explain the run again"
    with arrays_of(path, todo=todo) as file:
        count = len({name.split("/")[0] for name in file.files})
        missing = [f"{i}/{n}" for i in range(count) for n in NAMES if f"{i}/{n}" not in file.files]
        if missing:
            raise InputError(
                str(path),
                f"no array {missing[0]}",
                f"{', '.join(NAMES)} of each picture",
                todo,
            )
        return tuple(_exemplar({n: file[f"{i}/{n}"] for n in NAMES}) for i in range(count))


def _exemplar(arrays: dict[str, np.ndarray]) -> Exemplar:  # shapes are the record's own
    d, h, w = arrays["spacing_mm"].tolist()
    return Exemplar(
        case_id=str(arrays["case_id"]),
        kl=int(arrays["kl"]),
        backbone=str(arrays["backbone"]),
        supervision=str(arrays["supervision"]),
        seed=int(arrays["seed"]),
        head=str(arrays["head"]),
        spacing_mm=(d, h, w),
        sagittal_scan=arrays["sagittal_scan"],
        sagittal_cartilage=arrays["sagittal_cartilage"],
        sagittal_saliency=arrays["sagittal_saliency"],
        coronal_scan=arrays["coronal_scan"],
        coronal_cartilage=arrays["coronal_cartilage"],
        coronal_saliency=arrays["coronal_saliency"],
        top1_threshold=float(arrays["top1_threshold"]),
    )
