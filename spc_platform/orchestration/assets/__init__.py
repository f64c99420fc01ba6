"""Assets by layer. A body loads, calls the core and returns a MaterializeResult."""
