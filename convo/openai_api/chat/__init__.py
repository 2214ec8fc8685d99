"""Chat completions: the caller's own prompt or, with a session, Convo's memory behind it."""
