"""Indicators: what a person may know of a device without seeing a reading.

`registry` has them all; `compute` makes them of telemetry, `table_file` writes them with their
lineage, `lineage` walks back. A contract names them (`clients.contract`), so nothing that reads
rows is imported here.
"""
