"""Check that stored sessions are consistent. Every broken invariant is reported, and nothing is changed."""

from convo.verify.check import CheckedSession, check, check_all
from convo.verify.rows import Finding

__all__ = ["CheckedSession", "Finding", "check", "check_all"]
