"""The embedded plant: a MES server from a seed and a virtual clock, with known truth and injectable faults."""
