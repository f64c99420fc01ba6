"""Assets by layer. A body loads, calls the engine and returns a MaterializeResult."""
