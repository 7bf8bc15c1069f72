"""Which machines, how many, in which pools: what a deployment is and does (`deployment`, `outcome`), what no deployment
can beat (`bounds`), which are looked at (`search`), and what is said of them (`table`). `recommend` is the door."""
