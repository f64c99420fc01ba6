"""SIGKILL at every named point of collecting, landing and committing, many times over: `make torture`."""
