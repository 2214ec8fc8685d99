"""The cache holds copies of transcripts, and the only copy of the contents of ephemeral sessions."""

import redis

# These errors mean that the cache can't be reached; others are answers.
CONNECTION_ERRORS = (redis.ConnectionError, redis.TimeoutError, OSError)
