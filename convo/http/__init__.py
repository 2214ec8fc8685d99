"""The shared parts of the HTTP surfaces: errors, authentication, events, idempotency, pagination, ASGI."""
