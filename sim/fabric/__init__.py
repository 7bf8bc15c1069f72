"""Flows on links: max-min fair sharing in simulated time, and collectives as flows."""
