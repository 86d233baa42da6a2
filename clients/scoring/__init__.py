"""Scoring with numpy alone: what runs where there is neither torch nor a network."""
