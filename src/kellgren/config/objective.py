"""The words for what a network is trained toward, as study files spell them."""

from typing import Literal

Arrangement = Literal["parallel", "stacked"]
OaLoss = Literal["bce", "softmax"]
KlLoss = Literal["ce"]
Consistency = Literal["none"]
Balance = Literal["fixed"]
