"""What `tacit node check` looks at, file by file; `federation.node_check` puts it in order."""
