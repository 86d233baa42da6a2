"""Wiring: command line, run configs, the engine's adapter, homes and reports."""
