"""Is everything as it must be? Reads sessions whole and tells every broken invariant; changes nothing."""

from convo.verify.check import Checked, check, check_all
from convo.verify.rows import Finding

__all__ = ["Checked", "Finding", "check", "check_all"]
