"""One file a trace format: `HELP`, `OPTIONS`, `sniff(head) -> bool`, `read(path, options, seed) -> Requests`."""
