"""Ways to supervise the hierarchy of OA label and KL grade, by name: one line each."""

from typing import Annotated, Literal, get_args

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
        asked = TrainingSettings.model_validate({**training.model_dump(), **changed})
        if asked.consistency in self._possible():
            return asked
        return asked.model_copy(update={"consistency": "none"})

    def _possible(self) -> tuple[str, ...]:
        """Terms that the heads can have: two must be there to agree, and one graded."""
        if set(self.tasks) == set(BOTH):
            return get_args(Consistency)
        return ("none", "marginal") if "kl" in self.tasks else ("none",)


OA_ONLY: tuple[TaskName, ...] = ("oa",)
KL_ONLY: tuple[TaskName, ...] = ("kl",)
BOTH: tuple[TaskName, ...] = ("oa", "kl")

SUPERVISIONS: dict[str, Supervision] = {
    "single_oa": Supervision(tasks=OA_ONLY),
    "single_kl": Supervision(tasks=KL_ONLY),
    "dual": Supervision(tasks=BOTH),
    "dual_released": Supervision(tasks=BOTH, heads="stacked", oa_loss="softmax"),
    "kl_or_bce": Supervision(tasks=KL_ONLY, kl_loss="or_bce"),
    "kl_coral": Supervision(tasks=KL_ONLY, kl_loss="coral"),
    "kl_corn": Supervision(tasks=KL_ONLY, kl_loss="corn"),
    "kl_clm": Supervision(tasks=KL_ONLY, kl_loss="clm"),
    "kl_emd": Supervision(tasks=KL_ONLY, kl_loss="emd"),
    "kl_sord": Supervision(tasks=KL_ONLY, kl_loss="sord"),
    "kl_binomial": Supervision(tasks=KL_ONLY, kl_loss="binomial"),
    "kl_beta": Supervision(tasks=KL_ONLY, kl_loss="beta"),
    "kl_cdw": Supervision(tasks=KL_ONLY, kl_loss="cdw"),
    "kl_chen": Supervision(tasks=KL_ONLY, kl_loss="chen"),
    "kl_gce": Supervision(tasks=KL_ONLY, kl_loss="gce"),
    "kl_forward": Supervision(tasks=KL_ONLY, kl_loss="forward", agreement=0.7),
    "kl_weighted": Supervision(tasks=KL_ONLY, class_weights=True),
    "kl_marginal": Supervision(tasks=KL_ONLY, consistency="marginal"),
    "dual_clm": Supervision(tasks=BOTH, kl_loss="clm"),
    "dual_corn": Supervision(tasks=BOTH, kl_loss="corn"),
    "dual_forward": Supervision(tasks=BOTH, kl_loss="forward", agreement=0.7),
    "dual_tied": Supervision(tasks=BOTH, heads="tied"),
    "dual_experts": Supervision(tasks=BOTH, heads="experts"),
    "dual_squared": Supervision(tasks=BOTH, consistency="squared"),
    "dual_jensen_shannon": Supervision(tasks=BOTH, consistency="jensen_shannon"),
    "dual_logit": Supervision(tasks=BOTH, consistency="logit", lambda_consistency=0.1),
    "dual_logit_to_kl": Supervision(tasks=BOTH, consistency="logit_to_kl", lambda_consistency=0.1),
    "dual_logit_to_oa": Supervision(tasks=BOTH, consistency="logit_to_oa", lambda_consistency=0.1),
    "dual_tree_path": Supervision(tasks=BOTH, consistency="tree_path"),
    "dual_uncertainty": Supervision(tasks=BOTH, balance="uncertainty"),
    "dual_dwa": Supervision(tasks=BOTH, balance="dwa"),
    "dual_famo": Supervision(tasks=BOTH, balance="famo"),
    "dual_pcgrad": Supervision(tasks=BOTH, balance="pcgrad"),
    "dual_upgrad": Supervision(tasks=BOTH, balance="upgrad"),
}
"""The paper's three settings, the variant of its released scripts, and those beyond it."""
