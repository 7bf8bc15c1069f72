"""Time: replay, serving, policies, routers, metrics, reports and the command line."""
