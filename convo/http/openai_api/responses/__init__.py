"""Responses: turns, as OpenAI's stateful API tells of them."""
