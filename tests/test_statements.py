"""The budgets of SQL statements: each hot operation sends at most so many.

Counted are the statements without those that delimit transactions. A later feature may raise a budget by at
most 2, with the statement that it needs named beside the number.
"""

import pytest

from tests.support.rest import Caller, assistant, ok, user
from tests.support.statements import recorded_statements


@pytest.fixture
def session(alice_key: str, transactional_db: None) -> str:
    """The address of a session of one of Alice's users, with a turn."""
    caller = Caller(alice_key)
    address = caller.make(user="ann")
    caller.append(address, user("Where is the harbour?"), assistant("In the south."))
    return address


def test_reading_a_session_takes_two_statements(session: str, alice_key: str) -> None:
    caller = Caller(alice_key)
    with recorded_statements() as statements:
        assert ok(caller.get(session))["message_count"] == 2
    # The key with its owner, and the session.
    assert len(statements) == 2, statements
