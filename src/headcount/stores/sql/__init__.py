"""Stores on SQL databases. The statements are in `scripts/`, one folder a dialect."""
