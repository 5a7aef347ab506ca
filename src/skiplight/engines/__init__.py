"""How an objective moves the two tables: by autograd (the reference) or fused into one compiled kernel."""
