"""What every part of a kind must hold to, as checks to run over parts of your own.

    from thawline.testing import check_strategy, find_stages
    check_strategy("my_parts:sandwich(2)", find_stages(model, inputs))

Each raises AssertionError with a sentence that says which rule is broken and where. A model that is handed in stays as it is:
what learns in a check is a copy. Thawline's own tests run them over every entry of every table.
"""

from thawline.models.stages import find_stages
from thawline.testing.regularizers import check_regularizer
from thawline.testing.stages import check_stages
from thawline.testing.strategies import check_strategy
from thawline.testing.tasks import check_task

__all__ = ["check_regularizer", "check_stages", "check_strategy", "check_task", "find_stages"]
