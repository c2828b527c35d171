from tests.folders import *  # noqa: F403
