"""Memory behind an unmodified OpenAI client: what its API speaks of, told in sessions, messages and turns."""
