"""The project's settings as mypy reads them, with no environment variables and no .env."""

import os

os.environ.update(
    CONVO_DOTENV="0",
    SECRET_KEY="only for mypy, which reads the settings and serves nothing with them",
    DEBUG="0",
    DATABASE_URL="",
)

from project.settings import *  # noqa: F403
