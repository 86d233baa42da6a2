"""What an operator sees of a process: health, figures, a log; no row and no secret."""
