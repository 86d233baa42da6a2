"""Flower reports nothing to anybody, and writes nothing to a user's terminal."""

import logging
import os

from flwr.supercore import telemetry


def quiet_flower() -> None:
    """Switch off its telemetry, its question for updates, and its log."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
    vars(telemetry)["FLWR_TELEMETRY_ENABLED"] = "0"  # it was read when Flower was imported
    # what it logs of nodes is not for a user; what fails is logged by whoever called it
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
