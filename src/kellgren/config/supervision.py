"""Ways to supervise the hierarchy of OA label and KL grade, by name: one line each."""

from typing import Annotated, Literal

from pydantic import Field

from kellgren.config.networks import TrainingSettings
from kellgren.config.objective import Arrangement, Balance, Consistency, KlLoss, OaLoss
from kellgren.config.settings import NotNegative, Settings, Share

TaskName = Literal["oa", "kl"]


class Supervision(Settings):
    """Which heads a network has, one a task, and in what its training departs from `[training]`.

    Everything but `tasks` means what it means there; what is left out is as there.
    """

    tasks: Annotated[tuple[TaskName, ...], Field(min_length=1)]
    heads: Arrangement | None = None
    oa_loss: OaLoss | None = None
    kl_loss: KlLoss | None = None
    lambda_oa: NotNegative | None = None
    lambda_kl: NotNegative | None = None
    consistency: Consistency | None = None
    lambda_consistency: NotNegative | None = None
    agreement: Share | None = None
    class_weights: bool | None = None
    balance: Balance | None = None

    def applied(self, training: TrainingSettings) -> TrainingSettings:
        """The settings that a network of this supervision is trained with.

        >>> SUPERVISIONS["dual_released"].applied(TrainingSettings()).heads
        'stacked'
        """
        changed = self.model_dump(exclude={"tasks"}, exclude_none=True)
        return TrainingSettings.model_validate({**training.model_dump(), **changed})


OA_ONLY: tuple[TaskName, ...] = ("oa",)
KL_ONLY: tuple[TaskName, ...] = ("kl",)
BOTH: tuple[TaskName, ...] = ("oa", "kl")

SUPERVISIONS: dict[str, Supervision] = {
    "single_oa": Supervision(tasks=OA_ONLY),
    "single_kl": Supervision(tasks=KL_ONLY),
    "dual": Supervision(tasks=BOTH),
    "dual_released": Supervision(tasks=BOTH, heads="stacked", oa_loss="softmax"),
}
"""The paper's three settings, the variant of its released scripts, and those beyond it."""
