"""Small random changes of a knee that training may see; prediction and saliency never do.

The paper names none, so all of it is off unless a study file asks (`AugmentationSettings`). Right
and left are never exchanged: preparation has put medial on one side, and OA is not alike on both.

What is done to a knee is a pure function of (seed, epoch, case). So neither a kill, nor the thread
that reads ahead, nor the other knees of a batch change it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import BSpline
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional as F

from kellgren.config import AugmentationSettings
from kellgren.files import digest_of

Lattice = Float[np.ndarray, "c p p p"]
POINTS = 17
"""Points of a lattice along each axis; the outer ones are the outer voxels of the volume."""

_INTERVALS = 3
SPLINES: Float[np.ndarray, "p _"] = BSpline.design_matrix(
    np.linspace(0, _INTERVALS, POINTS), np.arange(-3.0, _INTERVALS + 4), 3
).toarray()
"""Value at each point of each cubic B-spline whose knots are a third of the volume apart."""


@dataclass(frozen=True)
class Change:
    """What is done to one knee.

    Lengths along d, h and w. What was at p mm from the centre comes to x, where
    x = R p + translation_mm + displacement_mm(x).

    Attributes:
        rotation_deg: Axis of the rotation R as the direction, angle as the length.
        translation_mm: Translation.
        displacement_mm: A smooth field on the lattice.
        log_gain: Natural logarithm of a smooth factor of the intensity, on the lattice.
        log_gamma: Natural logarithm of the exponent of the intensity.
        noise_sd: Standard deviation of the noise, in those of the volume.
        noise_seed: Where the noise starts.
    """

    rotation_deg: Float[np.ndarray, "3"]
    translation_mm: Float[np.ndarray, "3"]
    displacement_mm: Float[np.ndarray, "3 p p p"]
    log_gain: Float[np.ndarray, "1 p p p"]
    log_gamma: float
    noise_sd: float
    noise_seed: int


Changes = Callable[[str], Change]
"""What is done to the case of an id."""


def changes_of(settings: AugmentationSettings, *, seed: int, epoch: int) -> Changes | None:
    """What is done to each case in an epoch of a run; None where all is off."""
    if settings.off:
        return None
    return partial(change_of, settings=settings, seed=seed, epoch=epoch)


def change_of(case_id: str, *, settings: AugmentationSettings, seed: int, epoch: int) -> Change:
    """The change of a case in an epoch; each part is drawn alike whether others are on or off."""
    rng = np.random.default_rng([seed, epoch, int(digest_of(case_id), 16)])
    return Change(
        rotation_deg=_arrow(rng, settings.rotation_deg),
        translation_mm=_arrow(rng, settings.translation_mm),
        displacement_mm=_smooth(rng, 3, settings.elastic_mm),
        log_gain=_smooth(rng, 1, settings.bias),
        log_gamma=rng.uniform(-settings.gamma, settings.gamma),
        noise_sd=rng.uniform(0, settings.noise_sd),
        noise_seed=int(rng.integers(2**63)),
    )


@torch.no_grad()
def changed(
    image: Float[Tensor, "d h w"], change: Change, *, spacing_mm: tuple[float, float, float]
) -> Float[Tensor, "d h w"]:
    """A changed copy of a prepared volume, with the mean and deviation that it had.

    The parts follow one another as in a scanner: the knee moves, the coil shades it, the intensity
    is scaled, noise comes last. Gain and exponent act on the height v above the volume's lowest
    value, which is about that of air: v becomes (gain v)^gamma, so air stays lowest and no
    intensity changes sign. A factor of v is lost in the last step, so the exponent needs no
    highest value.

    The last step brings mean and standard deviation back to those of `image`, as preparation
    would for a scan that looked like this. So what is learned fits volumes that are not changed,
    whatever their normalisation.
    """
    seen = _moved(image, change, spacing_mm) if _moves(change) else image.clone()
    if change.log_gain.any() or change.log_gamma:
        seen -= seen.min()
        if change.log_gain.any():
            seen *= _upsampled(np.exp(change.log_gain), image)[0]
        if change.log_gamma:
            seen.pow_(float(np.exp(change.log_gamma)))
    if change.noise_sd:
        random = torch.Generator(image.device).manual_seed(change.noise_seed)
        noise = torch.randn(image.shape, generator=random, device=image.device)
        seen += noise.mul_(change.noise_sd * _moments(seen)[1])
    (mean, sd), (wanted_mean, wanted_sd) = _moments(seen), _moments(image)
    return seen.sub_(mean).mul_(wanted_sd / sd).add_(wanted_mean)


def _moves(change: Change) -> bool:
    parts = (change.rotation_deg, change.translation_mm, change.displacement_mm)
    return any(part.any() for part in parts)


def _moved(
    image: Float[Tensor, "d h w"], change: Change, spacing_mm: tuple[float, float, float]
) -> Float[Tensor, "d h w"]:
    """Rotation, translation and displacement in one trilinear resampling.

    The position that each voxel is read from is linear but for the displacement, and so is the
    interpolation between the points of the lattice: there alone it is computed. Beyond the border
    the outer voxels go on, as shaft and air do; zero would be tissue, and the lowest value a cut.
    """
    half = (np.array(image.shape) - 1) / 2 * np.array(spacing_mm)
    ends = [np.linspace(-length, length, POINTS) for length in half]
    x = np.stack(np.meshgrid(*ends, indexing="ij"))
    shifted = x - change.translation_mm[:, None, None, None] - change.displacement_mm
    back = Rotation.from_rotvec(change.rotation_deg, degrees=True).inv()
    source = np.einsum("ij,jdhw->idhw", back.as_matrix(), shifted) / half[:, None, None, None]
    # grid_sample counts the axes from the last.
    grid = _upsampled(source[::-1], image).permute(1, 2, 3, 0)
    moved = F.grid_sample(image[None, None], grid[None], padding_mode="border", align_corners=True)
    return moved[0, 0]


def _upsampled(lattice: Lattice, image: Float[Tensor, "d h w"]) -> Float[Tensor, "c d h w"]:
    """Values of a lattice at each voxel, linear in between.

    Axis after axis, as products of matrices: on a CPU a small part of what F.interpolate takes.
    """
    d, h, w = (_hats(n).to(image.device) for n in image.shape)
    values = torch.from_numpy(np.ascontiguousarray(lattice)).float().to(image.device)
    rows = h.T @ (values @ w)
    return (d.T @ rows.flatten(2)).view(-1, *image.shape)


def _hats(n: int) -> Float[Tensor, "p n"]:
    """Weight of each point of a lattice at each of n voxels, the outer ones on the outer ones."""
    return F.interpolate(torch.eye(POINTS)[None], n, mode="linear", align_corners=True)[0]


def _moments(values: Float[Tensor, "d h w"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean and standard deviation; torch.std takes several times as long on a CPU."""
    mean = values.mean()
    return mean, (values.square().mean() - mean.square()).sqrt()


def _arrow(rng: np.random.Generator, longest: float) -> Float[np.ndarray, "3"]:
    """Any direction alike, and any length up to the longest."""
    direction = rng.standard_normal(3)
    return direction * (rng.uniform(0, longest) / np.linalg.norm(direction))


def _smooth(rng: np.random.Generator, channels: int, largest: float) -> Lattice:
    """A random field of cubic B-splines; its greatest length is drawn alike up to the largest."""
    field = rng.standard_normal((channels, *(SPLINES.shape[1],) * 3))
    for _ in range(3):  # each turn spreads the first axis of the volume and puts it last
        field = np.tensordot(field, SPLINES, axes=(1, 1))
    return field * (rng.uniform(0, largest) / np.linalg.norm(field, axis=0).max())
