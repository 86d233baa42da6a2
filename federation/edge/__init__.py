"""Edge bundles: made and taken back at home, used on a device.

`main`, `intake` and `scoring` are what a device runs, with numpy and cryptography alone; `export`
and `sync` are what a home runs.
"""
