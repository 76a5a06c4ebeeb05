"""What every table of a study file has in common: bounds of values, and no unknown key."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

Grid = tuple[
    Annotated[int, Field(ge=8, le=512)],
    Annotated[int, Field(ge=8, le=1024)],
    Annotated[int, Field(ge=8, le=1024)],
]
RunPart = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Percentile = Annotated[float, Field(ge=0, le=100)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(gt=0, le=1)]
Label = Annotated[int, Field(ge=1, le=255)]
RegionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Settings(BaseModel):
    """A table of a study file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, info: Any) -> object:  # noqa: ANN401
        # The type of `info` is a protocol of pydantic's that cannot be checked at run time.
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError("true and false stand for no number or text here")
        return value
