"""The tables. Where a rule concerns one row it is a method here; where it concerns many, a QuerySet's."""

from convo.models.asked import Asked
from convo.models.attachments import Attached, Attachment
from convo.models.feedback import Feedback
from convo.models.idempotency import Idempotency
from convo.models.memories import Evidence, UserMemory
from convo.models.messages import Message, Summary, new_item_id
from convo.models.people import ME, NOBODY, ApiKey, Person, pepper
from convo.models.search import IndexedMemory, IndexedMessage, place_of, wide_place
from convo.models.sessions import Session
from convo.models.strands import Strand, cut, cut_draft, reply_item_id
from convo.models.turns import AgentVersion, Turn
from convo.models.usage import TalliedDay, Tally
from convo.models.work import Work

__all__ = [
    "ME",
    "NOBODY",
    "AgentVersion",
    "ApiKey",
    "Asked",
    "Attached",
    "Attachment",
    "Evidence",
    "Feedback",
    "Idempotency",
    "IndexedMemory",
    "IndexedMessage",
    "Message",
    "Person",
    "Session",
    "Strand",
    "Summary",
    "TalliedDay",
    "Tally",
    "Turn",
    "UserMemory",
    "Work",
    "cut",
    "cut_draft",
    "new_item_id",
    "pepper",
    "place_of",
    "reply_item_id",
    "wide_place",
]
