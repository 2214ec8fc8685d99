"""Images and files in the parts of items: what they are and cost, and how they are stored."""

from convo.history.files.attachments import MAX_FILES, Upload, replace_attachment, upload_parts
from convo.history.files.content import (
    TEXT_TYPE,
    check_part,
    decode_base64,
    files_of,
    hashes,
    parts_of,
    text_for_model,
    with_hashes,
    without_data,
)
from convo.history.files.images import IMAGE_TYPES
