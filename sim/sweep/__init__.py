"""Scenarios by the hundred: what varies (`axes`), what names a point (`content`), where rows are kept (`store`), who
computes them (`local`, `on_ray`), which come next (`samplers`). `sweep` is the door."""
