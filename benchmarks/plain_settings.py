"""The settings of the plain Django REST framework project: those of Convo's server, with other addresses."""

from project.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.plain_drf"
