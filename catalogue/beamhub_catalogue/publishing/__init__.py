"""What the catalogue tells the world: harvesting, citing, and reading by programs."""
