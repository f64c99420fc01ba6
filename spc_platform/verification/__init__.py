"""Reference cases that a user's own machine can be held against."""
