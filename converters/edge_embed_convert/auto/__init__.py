"""`--recipe auto`: finds the recipe by measuring. `convert` runs it, `report` shows what was tried."""
