"""Statistical process control: constants, subgroups, sigma, limits, rules, points, capability. Pure functions."""
