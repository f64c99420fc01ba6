"""The `spc` command."""
