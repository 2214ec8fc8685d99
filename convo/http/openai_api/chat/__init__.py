"""Chat completions: the caller's own prompt, or with a session our memory behind it."""
