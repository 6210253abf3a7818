"""Measurements of the rooms: each module prints a table that answers one question."""
