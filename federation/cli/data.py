"""`tacit data`: describe and check."""

import typer

app = typer.Typer(no_args_is_help=True)
