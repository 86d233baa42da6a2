"""Imported once by the process that all workers are forked from, so that none imports twice."""

import clients.app
import clients.learner
import clients.members  # noqa: F401 - the import is the point
