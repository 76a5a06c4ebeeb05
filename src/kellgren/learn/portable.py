"""A trained network in forms that run without this package: a torch.export program, and ONNX."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from kellgren.faults import InputError
from kellgren.files import completed
from kellgren.learn.backbones.nnmamba import Mamba
from kellgren.learn.heads import Task, weighted_tasks
from kellgren.learn.model import HierarchicalNet, load_model, settings_of, tasks_of, training_of
from kellgren.learn.train import deterministic
from kellgren.runs import Run

CHECKED = 3  # volumes on which a form is held against the network
TOLERANCE = 1e-4  # largest difference relative to the largest value of an output
OPSET = 20

Outputs = Sequence[Float[np.ndarray, "1 _"]]
Form = Callable[[Float[Tensor, "1 1 d h w"]], Outputs]


class Portable(nn.Module):
    """The network with plain outputs: features, and the stored logits of each head, in order.

    The logits are those of `predictions.csv`: one log-odds of OA, five KL logits, whatever the loss
    that the heads were trained with.
    """

    def __init__(self, model: HierarchicalNet, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.model = model
        self.tasks = tuple(tasks)

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in their order."""
        return ["features", *(f"logit_{task.name}" for task in self.tasks)]

    def forward(self, image: Float[Tensor, "1 1 d h w"]) -> tuple[Tensor, ...]:
        """Features and stored logits of one prepared scan."""
        output = self.model(image)
        return output.features, *(task.stored(output.logits[task.name]) for task in self.tasks)


@dataclass(frozen=True)
class Parity:
    """How far a form lies from the network.

    Attributes:
        form: "torch.export" or "onnx".
        library: What ran it, with its version.
        volumes: On how many volumes of standard normal noise, seed 0.
        largest: Largest absolute difference of each output.
        scale: Largest absolute value of each output.
    """

    form: str
    library: str
    volumes: int
    largest: dict[str, float]
    scale: dict[str, float]


def portable(run: Run) -> Portable:
    """The network of a finished run on the CPU, with a scan that can be traced.

    Raises:
        InputError: If the run is not trained.
    """
    model = load_model(run, device=torch.device("cpu"))
    for module in model.modules():
        if isinstance(module, Mamba):
            module.kernel = "slabs"  # compiled kernels cannot be traced
    model.requires_grad_(False)
    return Portable(model, list(weighted_tasks(tasks_of(run), training_of(run)))).eval()


def write_program(run: Run, path: Path) -> Parity:
    """Write `torch.export`'s program of the network for one scan at a time, and check it.

    Raises:
        InputError: If the program does not give what the network gives.
    """
    with deterministic(training_of(run).threads):
        network = portable(run)
        program = torch.export.export(network, (volumes_for(run)[0],), strict=False)
        program.example_inputs = None  # they would be pickled into the file
        archive = BytesIO()  # a file's own name would stand in it
        torch.export.save(program, archive)
        with completed(path) as temporary:
            temporary.write_bytes(archive.getvalue())
            parity = _checked(
                network,
                _read_program(temporary),
                run,
                form="torch.export",
                by=f"torch {torch.__version__}",
            )
    return parity


def write_onnx(run: Run, path: Path) -> Parity:
    """Write the network as ONNX for one scan at a time, and check it in ONNX Runtime.

    Raises:
        InputError: If onnx, onnxscript or onnxruntime is not installed, or ONNX Runtime does not
            give what the network gives.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401, torch's exporter asks for it
    except ModuleNotFoundError as error:
        raise InputError(
            "export --onnx",
            f"no {error.name}",
            "onnx, onnxscript and onnxruntime",
            'pip install "kellgren[onnx]"',
        ) from error
    with deterministic(training_of(run).threads):
        network = portable(run)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            program = torch.onnx.export(
                network,
                (volumes_for(run)[0],),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=network.outputs,
                verbose=False,
            )
        assert program is not None  # there is one unless the exporter was asked to write a file
        with completed(path) as temporary:
            program.save(str(temporary))
            session = onnxruntime.InferenceSession(
                str(temporary), providers=["CPUExecutionProvider"]
            )
            version = f"onnxruntime {onnxruntime.__version__}"
            parity = _checked(
                network,
                lambda image: session.run(None, {"image": image.numpy()}),
                run,
                form="onnx",
                by=version,
            )
    return parity


def volumes_for(run: Run) -> Float[Tensor, "m 1 1 d h w"]:
    """Standard normal noise on the network's grid, seed 0: what a z-scored scan is in scale."""
    grid = settings_of(run)["backbone"]["grid"]
    generator = torch.Generator().manual_seed(0)
    return torch.randn(CHECKED, 1, 1, *grid, generator=generator)


def _read_program(path: Path) -> Form:
    module = torch.export.load(path).module()
    return lambda image: [output.numpy() for output in module(image)]


def _checked(network: Portable, found: Form, run: Run, *, form: str, by: str) -> Parity:
    largest, scale = dict.fromkeys(network.outputs, 0.0), dict.fromkeys(network.outputs, 0.0)
    with torch.no_grad():
        for image in volumes_for(run):
            answers = zip(network.outputs, network(image), found(image), strict=True)
            for name, expected, given in answers:
                apart = np.abs(expected.numpy() - np.asarray(given)).max()
                largest[name] = max(largest[name], float(apart))
                scale[name] = max(scale[name], float(expected.abs().max()))
    worst = max(largest, key=lambda name: largest[name] / max(scale[name], 1e-6))
    if not largest[worst] <= TOLERANCE * max(scale[worst], 1e-6):
        raise InputError(
            f"{run.name} as {form}",
            f"{worst} differs by {largest[worst]:.2g} of {scale[worst]:.2g}",
            f"a difference of at most {TOLERANCE:g} of it",
            "share weights.safetensors and run.json, which are exact",
        )
    return Parity(form, by, CHECKED, largest, scale)
