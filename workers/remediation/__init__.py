"""Repairs: one table of actions, one way to plan them, one way to carry them out."""
