"""What the model sees: chosen within the budget, and explained."""

from convo.context.choose import Prompt, check_fits, choose

__all__ = ["Prompt", "check_fits", "choose"]
