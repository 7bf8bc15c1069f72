"""Several pools of engines on one clock: hand-overs of KV between them, over links that contend."""
