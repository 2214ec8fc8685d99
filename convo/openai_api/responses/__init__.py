"""Responses: turns in the form of OpenAI's stateful API."""
