"""Messages of the registry's wire; `generate.py` makes what is called `_pb2`, nobody by hand."""
