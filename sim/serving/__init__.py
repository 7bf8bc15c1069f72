"""Serving in time: replicas of one model behind a router, their policies, and what came of every request."""
