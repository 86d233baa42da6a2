"""Invented members and their data: what a demonstration runs on where no real data are."""
