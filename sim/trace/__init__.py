"""Execution traces of others: Chakra, Kineto."""
