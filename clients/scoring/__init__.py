"""Scores where there is no node: a model in plain numbers, read from one signed file.

What runs at the edge needs numpy and cryptography alone; `compile` makes the plain form of a run's
model, and is the one file here that needs what a node has. `network` and `attribution` are a
network and its reasons with numpy alone.
"""
