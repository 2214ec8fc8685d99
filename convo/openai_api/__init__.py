"""OpenAI's API under /v1: conversations, responses, chat completions, embeddings and models."""
