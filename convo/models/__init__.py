"""The tables. A rule about one row is a method of its model, a rule about many rows one of its QuerySet.

A foreign key has `db_index=False` where it is the first column of another index, which serves its lookups.
"""

from convo.models.attachments import Attachment, AttachmentUse
from convo.models.feedback import Feedback
from convo.models.idempotency import IdempotencyRecord
from convo.models.memories import Evidence, UserMemory
from convo.models.messages import Item, Message, Summary, new_item_id
from convo.models.people import ME, NOBODY, ApiKey, Guest, Person, pepper
from convo.models.reply_items import ReplyItem, rebuild_draft_items, rebuild_items, reply_item_id
from convo.models.search import IndexedMemory, IndexedMessage, owner_key_of, scope_key_of
from convo.models.sessions import Session
from convo.models.turn_requests import TurnRequest
from convo.models.turns import (
    AgentVersion,
    ItemOutline,
    Manifest,
    ManifestOmission,
    ManifestPart,
    ManifestSource,
    Turn,
)
from convo.models.usage import DailyUsage, UsageDay
from convo.models.work import Work
