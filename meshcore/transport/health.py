"""When an endpoint is asked whether it is well, and what is made of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    # Configurations are read without Trio, which it would bring.
    from meshcore.abc import HealthCheck  # noqa: TC004

__all__ = ["Health"]


@attrs.frozen
class Health:
    """Checks of one endpoint, again and again.

    Attributes:
        check: how it is asked.
        interval: seconds between two checks, give or take a tenth.
        timeout: seconds that one may take.
        healthy: answers in a row that make an endpoint well again.
        unhealthy: failures in a row that take it out.
    """

    check: HealthCheck
    interval: float = attrs.field(default=5.0, validator=attrs.validators.gt(0))
    timeout: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    healthy: int = attrs.field(default=2, validator=attrs.validators.ge(1))
    unhealthy: int = attrs.field(default=3, validator=attrs.validators.ge(1))
