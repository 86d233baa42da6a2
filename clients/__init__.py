"""A node: its data contract, its rows, local training, and what it lets out."""
