"""Ways to ask a network which voxels matter (section 3.5.3), each a saliency map per head.

All of them explain a logit: the OA logit, or the KL logit of the predicted grade. They run in
evaluation mode, in float32, and look at the tensor that enters the network.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from kellgren.config import ExplanationSettings
from kellgren.learn.heads import Task
from kellgren.learn.model import HierarchicalNet

Image = Float[Tensor, "n 1 d h w"]
Maps = dict[str, Float[Tensor, "n d h w"]]
Attribution = Callable[[HierarchicalNet, Image, Sequence[Task], ExplanationSettings], Maps]


def gradients(model: HierarchicalNet, image: Image, tasks: Sequence[Task]) -> Maps:
    """Gradient of each task's explained logit with respect to each voxel: one forward pass.

    Volumes of a batch do not mix in evaluation mode, so the gradient of the sum over the batch
    holds each volume's own gradient.
    """
    image = image.detach().requires_grad_()
    logits = model(image).logits
    explained = [task.explained(logits[task.name]).sum() for task in tasks]
    return {
        task.name: torch.autograd.grad(value, image, retain_graph=value is not explained[-1])[0][
            :, 0
        ]
        for task, value in zip(tasks, explained, strict=True)
    }


def absolute_gradient(
    model: HierarchicalNet, image: Image, tasks: Sequence[Task], settings: ExplanationSettings
) -> Maps:
    """The paper's saliency: the absolute gradient (Simonyan et al. 2014)."""
    return {name: g.abs() for name, g in gradients(model, image, tasks).items()}


def noisy_gradient_input(
    model: HierarchicalNet, image: Image, tasks: Sequence[Task], settings: ExplanationSettings
) -> Maps:
    """The release's saliency: positive part of gradient times input, mean over noisy copies."""
    maps = {task.name: torch.zeros_like(image[:, 0]) for task in tasks}
    for noisy in _noisy_copies(image, settings):
        for name, gradient in gradients(model, noisy, tasks).items():
            maps[name] += gradient * noisy[:, 0] / settings.copies
    return {name: m.clamp(min=0) for name, m in maps.items()}


def smoothgrad(
    model: HierarchicalNet, image: Image, tasks: Sequence[Task], settings: ExplanationSettings
) -> Maps:
    """Mean absolute gradient over noisy copies (Smilkov et al. 2017)."""
    maps = {task.name: torch.zeros_like(image[:, 0]) for task in tasks}
    for noisy in _noisy_copies(image, settings):
        for name, gradient in gradients(model, noisy, tasks).items():
            maps[name] += gradient.abs() / settings.copies
    return maps


def integrated_gradients(
    model: HierarchicalNet, image: Image, tasks: Sequence[Task], settings: ExplanationSettings
) -> Maps:
    """Absolute integrated gradients from the mean voxel, which is 0 (Sundararajan et al. 2017).

    The grade that is explained is the one predicted for the whole volume, all along the path.
    """
    from captum.attr import IntegratedGradients

    maps = {}
    for task, logit in _explained_logits(model, image, tasks):
        steps = IntegratedGradients(logit)
        attributed = steps.attribute(image, n_steps=settings.steps, internal_batch_size=len(image))
        maps[task.name] = attributed[:, 0].abs().to(image.dtype)
    return maps


def occlusion(
    model: HierarchicalNet, image: Image, tasks: Sequence[Task], settings: ExplanationSettings
) -> Maps:
    """Absolute change of the logit when a window is set to the mean (Zeiler and Fergus 2014)."""
    from captum.attr import Occlusion

    window = tuple(min(w, n) for w, n in zip(settings.window, image.shape[2:], strict=True))
    maps = {}
    for task, logit in _explained_logits(model, image, tasks):
        with torch.no_grad():
            attributed = Occlusion(logit).attribute(
                image, sliding_window_shapes=(1, *window), strides=(1, *window)
            )
        maps[task.name] = attributed[:, 0].abs()
    return maps


METHODS: dict[str, Attribution] = {
    "gradient": absolute_gradient,
    "noisy_gradient_input": noisy_gradient_input,
    "smoothgrad": smoothgrad,
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
}


def _noisy_copies(image: Image, settings: ExplanationSettings) -> list[Image]:
    generator = torch.Generator(device=image.device).manual_seed(0)
    noise = (
        torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
        for _ in range(settings.copies)
    )
    return [image + settings.noise_sd * one for one in noise]


def _explained_logits(
    model: HierarchicalNet, image: Image, tasks: Sequence[Task]
) -> list[tuple[Task, Callable[[Image], Float[Tensor, " m"]]]]:
    """For each task the logit that the whole volume's prediction picks, as a function."""
    with torch.no_grad():
        logits = model(image).logits
    chosen = {task.name: task.chosen(logits[task.name]) for task in tasks}
    return [(task, partial(_score, model, task, chosen[task.name])) for task in tasks]


def _score(model: HierarchicalNet, task: Task, chosen: Tensor, image: Image) -> Float[Tensor, " m"]:
    scores = task.scores(model(image).logits[task.name])
    columns = chosen.repeat(len(scores) // len(chosen))
    return scores.gather(1, columns[:, None])[:, 0]
